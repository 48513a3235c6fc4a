//! The cache in front of a database: every answer fresh, and one there while the database is not.
//!
//! Each answer has two ages. Until the first (`positive_ttl`, `negative_ttl`) it is given out as it is. After that the
//! database is asked again; when it cannot answer, the old answer serves until the second (`stale_ttl`). With nothing
//! to fall back on, the trouble itself is remembered for [`RETRY`], so that an outage costs one failed query per key
//! and second, not one per waiting client.
//!
//! One load per key is under way at a time and all who ask meanwhile share its outcome ([`Flights`]). A load that was
//! under way while its key was invalidated does not store what it brings.
//!
//! Memory is bounded in entries of each kind and in bytes of all together ([`table`]); accounts are kept in a packed form
//! ([`keep`]).
//!
//! Domains are different: they are held as a complete copy, loaded at the start and refreshed in the background, and
//! once loaded they are never in doubt. (smtpd remembers a resolver's failure for its whole life.)

mod flights;
mod keep;
mod table;

pub(crate) use flights::Flights;
use table::Table;

use crate::directory::{AliasDomain, Destinations, Grant};
use crate::{Account, Address, AppPassword, Directory, Lookup, Unavailable, address};
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

/// How long trouble is remembered, and how long a stale answer serves before the database is tried again.
pub const RETRY: Duration = Duration::from_secs(1);

/// How long answers are good.
#[derive(Clone, Copy, Debug)]
pub struct CacheTimes {
    /// Something that exists, before the database is asked again.
    pub positive: Duration,
    /// Something that does not exist.
    pub negative: Duration,
    /// Added to the above while the database cannot be asked.
    pub stale: Duration,
    /// Between two refreshes of the copy of all domains.
    pub domains: Duration,
    /// Entries of each kind that are kept at most.
    pub entries: usize,
    /// Bytes that entries of all kinds take at most: half of them for accounts, a quarter for aliases.
    pub bytes: u64,
}

impl Default for CacheTimes {
    fn default() -> Self {
        Self {
            positive: Duration::from_secs(60),
            negative: Duration::from_secs(10),
            stale: Duration::from_secs(3600),
            domains: Duration::from_secs(5),
            entries: 100_000,
            bytes: 64 << 20,
        }
    }
}

/// Counts since the start, for metrics and `mailsql trace`.
#[derive(Debug, Default)]
pub struct CacheStats {
    /// Answers given from memory: something there.
    pub hits: AtomicU64,
    /// Answers given from memory: nothing there.
    pub negative_hits: AtomicU64,
    /// Old answers given because the database could not be asked.
    pub stale_hits: AtomicU64,
    /// Questions that went to the database.
    pub loads: AtomicU64,
    /// Questions that the database could not answer.
    pub failures: AtomicU64,
}

impl CacheStats {
    fn count(counter: &AtomicU64) {
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

/// The complete copies: what is never in doubt once it was loaded.
#[derive(Default)]
struct Copies {
    /// Which load brought it.
    turn: u64,
    /// Domains by every spelling in which they can be asked for.
    domains: HashMap<Box<str>, Known>,
    /// Relay domains likewise.
    relays: HashMap<Box<str>, Box<str>>,
}

struct Known {
    spelling: Box<str>,
    /// The domain that this one is a second name of, folded.
    target: Option<Box<str>>,
}

impl Copies {
    fn new(turn: u64, domains: Vec<Box<str>>, aliases: Vec<AliasDomain>, relays: Vec<Box<str>>) -> Self {
        let mut copies = Self { turn, ..Self::default() };
        for spelling in domains {
            for key in address::spellings(&spelling) {
                copies.domains.entry(key).or_insert(Known { spelling: spelling.clone(), target: None });
            }
        }
        for alias in aliases {
            for key in address::spellings(&alias.name) {
                let known = copies.domains.entry(key).or_insert(Known { spelling: alias.name.clone(), target: None });
                known.target = Some(alias.target.to_lowercase().into());
            }
        }
        for spelling in relays {
            copies.relays.extend(address::spellings(&spelling).into_iter().map(|key| (key, spelling.clone())));
        }
        copies
    }
}

/// A [`Directory`] with a cache in front of it.
pub struct CachedDirectory {
    inner: Arc<dyn Directory>,
    times: CacheTimes,
    stats: CacheStats,
    accounts: Table<Address, Arc<Account>>,
    app_passwords: Table<Address, Arc<[AppPassword]>>,
    aliases: Table<Address, Destinations>,
    catch_alls: Table<Box<str>, Destinations>,
    grants: Table<Box<str>, Arc<[Grant]>>,
    transports: Table<Box<str>, Arc<str>>,
    relay_recipients: Table<Box<str>, Arc<str>>,
    custom: Table<(Box<str>, Box<str>), Destinations>,
    copies: RwLock<Option<Arc<Copies>>>,
    loading_copies: Flights<(), Result<(), Unavailable>>,
    turns: AtomicU64,
}

impl CachedDirectory {
    /// Puts a cache in front of `inner`.
    #[must_use]
    pub fn new(inner: Arc<dyn Directory>, times: CacheTimes) -> Self {
        Self {
            inner,
            stats: CacheStats::default(),
            accounts: Table::with_share(&times, 2),
            app_passwords: Table::new(&times),
            aliases: Table::with_share(&times, 4),
            catch_alls: Table::new(&times),
            grants: Table::new(&times),
            transports: Table::new(&times),
            relay_recipients: Table::new(&times),
            custom: Table::new(&times),
            copies: RwLock::new(None),
            loading_copies: Flights::new(),
            turns: AtomicU64::new(0),
            times,
        }
    }

    /// Counts since the start.
    #[must_use]
    pub fn stats(&self) -> &CacheStats {
        &self.stats
    }

    /// Entries of all kinds, and what they weigh in bytes.
    #[must_use]
    pub fn size(&self) -> (u64, u64) {
        let tables = [
            self.accounts.size(),
            self.app_passwords.size(),
            self.aliases.size(),
            self.catch_alls.size(),
            self.grants.size(),
            self.transports.size(),
            self.relay_recipients.size(),
            self.custom.size(),
        ];
        tables.into_iter().fold((0, 0), |(entries, bytes), (more, heavier)| (entries + more, bytes + heavier))
    }

    /// How long answers are good here.
    #[must_use]
    pub fn times(&self) -> &CacheTimes {
        &self.times
    }

    /// Drops everything that is remembered of an address; the next question goes to the database.
    pub fn forget(&self, address: &Address) {
        let key = address.folded();
        self.accounts.forget(&key);
        self.app_passwords.forget(&key);
        self.aliases.forget(&key);
        let key = Box::from(key.as_str());
        self.grants.forget(&key);
        self.transports.forget(&key);
        self.relay_recipients.forget(&key);
        // Whatever an address is part of: nobody but the administrator knows what his own maps are made of.
        self.custom.forget_all();
    }

    /// Drops everything that is remembered of a domain's catch-all.
    pub fn forget_catch_all(&self, domain: &str) {
        self.catch_alls.forget(&domain.to_lowercase().into_boxed_str());
    }

    /// Drops everything of a domain.
    pub fn forget_domain(&self, domain: &str) {
        let domain = domain.to_lowercase();
        self.accounts.forget_where(|address| address.domain() == domain);
        self.app_passwords.forget_where(|address| address.domain() == domain);
        self.aliases.forget_where(|address| address.domain() == domain);
        let within =
            |key: &str| key.rsplit_once('@').map_or(key, |(_, domain)| domain).trim_start_matches('.') == domain;
        self.grants.forget_where(|key| within(key));
        self.transports.forget_where(|key| within(key));
        self.relay_recipients.forget_where(|key| within(key));
        self.custom.forget_all();
    }

    /// Drops everything but the copy of all domains, which is only ever replaced by a newer one.
    pub fn forget_all(&self) {
        self.accounts.forget_all();
        self.app_passwords.forget_all();
        self.aliases.forget_all();
        self.catch_alls.forget_all();
        self.grants.forget_all();
        self.transports.forget_all();
        self.relay_recipients.forget_all();
        self.custom.forget_all();
    }

    /// Loads the copy of all domains anew: what was committed before this call is in it.
    ///
    /// # Errors
    /// [`Unavailable`] when the database cannot tell; the copy stays as it is.
    pub async fn refresh_domains(&self) -> Result<(), Unavailable> {
        // A load that began earlier may have missed the change for which we are called.
        self.loading_copies.forget(&());
        self.load_copies().await
    }

    async fn load_copies(&self) -> Result<(), Unavailable> {
        let load = async {
            let turn = self.turns.fetch_add(1, Ordering::Relaxed) + 1;
            let domains = self.inner.domains().await?;
            let aliases = self.inner.alias_domains().await?;
            let relays = self.inner.relay_domains().await?;
            let copies = Arc::new(Copies::new(turn, domains, aliases, relays));
            let mut held = self.copies.write().unwrap_or_else(PoisonError::into_inner);
            // A slow load does not replace what a later one brought.
            if held.as_ref().is_none_or(|held| held.turn < turn) {
                *held = Some(copies);
            }
            Ok(())
        };
        self.loading_copies.run(&(), load, |_| ()).await
    }

    /// Refreshes the copy of all domains for ever.
    pub async fn keep_domains_fresh(self: Arc<Self>) {
        loop {
            let pause = match self.refresh_domains().await {
                Ok(()) => self.times.domains,
                Err(trouble) => {
                    tracing::debug!(reason = %trouble, "domains not refreshed");
                    RETRY
                }
            };
            tokio::time::sleep(pause).await;
        }
    }

    async fn copies(&self) -> Result<Arc<Copies>, Unavailable> {
        let held = || self.copies.read().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(copies) = held() {
            return Ok(copies);
        }
        self.load_copies().await?;
        held().ok_or_else(|| Unavailable::new("the list of domains is not loaded yet"))
    }
}

impl Directory for CachedDirectory {
    fn domains(&self) -> Lookup<'_, Vec<Box<str>>> {
        Box::pin(async {
            let copies = self.copies().await?;
            let mut names: Vec<Box<str>> = copies.domains.values().map(|known| known.spelling.clone()).collect();
            names.sort_unstable();
            names.dedup();
            Ok(names)
        })
    }

    fn domain<'a>(&'a self, name: &'a str) -> Lookup<'a, Option<Box<str>>> {
        Box::pin(async move { Ok(self.copies().await?.domains.get(name).map(|known| known.spelling.clone())) })
    }

    fn account<'a>(&'a self, address: &'a Address) -> Lookup<'a, Option<Arc<Account>>> {
        let load = || self.inner.account(address);
        Box::pin(self.accounts.find(address, Instant::now(), &self.times, &self.stats, load))
    }

    fn app_passwords<'a>(&'a self, address: &'a Address) -> Lookup<'a, Arc<[AppPassword]>> {
        Box::pin(async move {
            let load = || -> Lookup<'_, Option<Arc<[AppPassword]>>> {
                Box::pin(async { self.inner.app_passwords(address).await.map(Some) })
            };
            let found = self.app_passwords.find(address, Instant::now(), &self.times, &self.stats, load).await?;
            Ok(found.unwrap_or_else(|| Arc::from([])))
        })
    }

    fn alias<'a>(&'a self, address: &'a Address) -> Lookup<'a, Option<Destinations>> {
        let load = || self.inner.alias(address);
        Box::pin(self.aliases.find(address, Instant::now(), &self.times, &self.stats, load))
    }

    fn catch_all<'a>(&'a self, domain: &'a str) -> Lookup<'a, Option<Destinations>> {
        Box::pin(async move {
            let key = Box::from(domain);
            let load = || self.inner.catch_all(domain);
            self.catch_alls.find(&key, Instant::now(), &self.times, &self.stats, load).await
        })
    }

    fn alias_domains(&self) -> Lookup<'_, Vec<AliasDomain>> {
        Box::pin(async {
            let copies = self.copies().await?;
            let known = copies.domains.values();
            let alias = |known: &Known| {
                let (name, target) = (known.spelling.clone(), known.target.clone()?);
                Some(AliasDomain { name, target })
            };
            Ok(known.filter_map(alias).collect())
        })
    }

    fn alias_domain<'a>(&'a self, name: &'a str) -> Lookup<'a, Option<Box<str>>> {
        Box::pin(async move { Ok(self.copies().await?.domains.get(name).and_then(|known| known.target.clone())) })
    }

    fn relay_domains(&self) -> Lookup<'_, Vec<Box<str>>> {
        Box::pin(async { Ok(self.copies().await?.relays.values().cloned().collect()) })
    }

    fn relay_domain<'a>(&'a self, name: &'a str) -> Lookup<'a, Option<Box<str>>> {
        Box::pin(async move { Ok(self.copies().await?.relays.get(name).cloned()) })
    }

    fn relay_recipient<'a>(&'a self, key: &'a str) -> Lookup<'a, Option<Arc<str>>> {
        Box::pin(async move {
            let load = || self.inner.relay_recipient(key);
            self.relay_recipients.find(&Box::from(key), Instant::now(), &self.times, &self.stats, load).await
        })
    }

    fn grants<'a>(&'a self, source: &'a str) -> Lookup<'a, Option<Arc<[Grant]>>> {
        Box::pin(async move {
            let load = || self.inner.grants(source);
            self.grants.find(&Box::from(source), Instant::now(), &self.times, &self.stats, load).await
        })
    }

    fn transport<'a>(&'a self, key: &'a str) -> Lookup<'a, Option<Arc<str>>> {
        Box::pin(async move {
            let load = || self.inner.transport(key);
            self.transports.find(&Box::from(key), Instant::now(), &self.times, &self.stats, load).await
        })
    }

    fn custom<'a>(&'a self, map: &'a str, key: &'a str) -> Lookup<'a, Option<Destinations>> {
        Box::pin(async move {
            let load = || self.inner.custom(map, key);
            let key = (Box::from(map), Box::from(key));
            self.custom.find(&key, Instant::now(), &self.times, &self.stats, load).await
        })
    }
}

#[cfg(test)]
mod tests;
