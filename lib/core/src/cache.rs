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
//! Domains are different: they are held as a complete copy, loaded at the start and refreshed in the background, and
//! once loaded they are never in doubt. (smtpd remembers a resolver's failure for its whole life.)

use crate::directory::{AliasDomain, Destinations, Grant};
use crate::{Account, Address, AppPassword, Directory, Lookup, Unavailable, address};
use std::collections::HashMap;
use std::hash::Hash;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};
use tokio::sync::OnceCell;

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
}

impl Default for CacheTimes {
    fn default() -> Self {
        Self {
            positive: Duration::from_secs(60),
            negative: Duration::from_secs(10),
            stale: Duration::from_secs(3600),
            domains: Duration::from_secs(5),
            entries: 100_000,
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

/// Loads under way, one a key.
pub(crate) struct Flights<K, T>(Mutex<HashMap<K, Arc<OnceCell<T>>>>);

impl<K: Hash + Eq + Clone, T: Clone> Flights<K, T> {
    pub(crate) fn new() -> Self {
        Self(Mutex::new(HashMap::new()))
    }

    /// Runs `load` unless one for this key is under way, and gives its outcome to all who wait. `settle` sees the
    /// outcome once, and only if the key was not forgotten meanwhile. If the caller that runs the load goes away,
    /// another that waits runs its own.
    pub(crate) async fn run<F: Future<Output = T>>(&self, key: &K, load: F, settle: impl FnOnce(&T)) -> T {
        let flight = Arc::clone(self.lock().entry(key.clone()).or_default());
        let outcome = flight
            .get_or_init(|| async {
                let outcome = load.await;
                let mut flights = self.lock();
                if flights.get(key).is_some_and(|current| Arc::ptr_eq(current, &flight)) {
                    settle(&outcome);
                    flights.remove(key);
                }
                outcome
            })
            .await;
        outcome.clone()
    }

    /// Lets whatever is under way for this key end without being stored.
    pub(crate) fn forget(&self, key: &K) {
        self.lock().remove(key);
    }

    pub(crate) fn forget_all(&self) {
        self.lock().clear();
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<K, Arc<OnceCell<T>>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Clone)]
struct Entry<T> {
    answer: Result<Option<T>, Unavailable>,
    fresh_until: Instant,
    stale_until: Instant,
}

struct Table<K, T> {
    entries: quick_cache::sync::Cache<K, Entry<T>>,
    flights: Flights<K, Entry<T>>,
}

impl<K: Hash + Eq + Clone, T: Clone> Table<K, T> {
    fn new(times: &CacheTimes) -> Self {
        Self { entries: quick_cache::sync::Cache::new(times.entries), flights: Flights::new() }
    }

    /// The answer from memory, or by `load` where that is not fresh.
    async fn find<'a>(
        &self,
        key: &K,
        now: Instant,
        times: &CacheTimes,
        stats: &CacheStats,
        load: impl FnOnce() -> Lookup<'a, Option<T>>,
    ) -> Result<Option<T>, Unavailable> {
        let held = self.entries.get(key);
        if let Some(entry) = &held
            && entry.fresh_until > now
        {
            match &entry.answer {
                Ok(Some(_)) if entry.stale_until - times.stale < entry.fresh_until => {
                    CacheStats::count(&stats.stale_hits)
                }
                Ok(Some(_)) => CacheStats::count(&stats.hits),
                Ok(None) => CacheStats::count(&stats.negative_hits),
                Err(_) => CacheStats::count(&stats.failures),
            }
            return entry.answer.clone();
        }
        let loading = async {
            CacheStats::count(&stats.loads);
            match load().await {
                Ok(answer) => {
                    let fresh_until = now + if answer.is_some() { times.positive } else { times.negative };
                    Entry { answer: Ok(answer), fresh_until, stale_until: fresh_until + times.stale }
                }
                Err(trouble) => match held {
                    Some(old) if old.answer.is_ok() && old.stale_until > now => {
                        CacheStats::count(&stats.stale_hits);
                        Entry { fresh_until: now + RETRY, ..old }
                    }
                    _ => {
                        CacheStats::count(&stats.failures);
                        Entry { answer: Err(trouble), fresh_until: now + RETRY, stale_until: now + RETRY }
                    }
                },
            }
        };
        self.flights.run(key, loading, |entry| self.entries.insert(key.clone(), entry.clone())).await.answer
    }

    fn forget(&self, key: &K) {
        self.flights.forget(key);
        self.entries.remove(key);
    }

    fn forget_all(&self) {
        self.flights.forget_all();
        self.entries.clear();
    }

    fn forget_where(&self, matches: impl Fn(&K) -> bool) {
        self.flights.forget_all();
        self.entries.retain(|key, _| !matches(key));
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
            accounts: Table::new(&times),
            app_passwords: Table::new(&times),
            aliases: Table::new(&times),
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
mod tests {
    use super::*;
    use std::sync::atomic::AtomicUsize;

    fn times() -> CacheTimes {
        CacheTimes { stale: Duration::from_secs(100), ..CacheTimes::default() }
    }

    fn answer(value: Option<u32>) -> Lookup<'static, Option<u32>> {
        Box::pin(async move { Ok(value) })
    }

    fn trouble() -> Lookup<'static, Option<u32>> {
        Box::pin(async { Err(Unavailable::new("db1: refused")) })
    }

    struct Rig {
        table: Table<u8, u32>,
        times: CacheTimes,
        stats: CacheStats,
        start: Instant,
    }

    impl Rig {
        fn new() -> Self {
            Self { table: Table::new(&times()), times: times(), stats: CacheStats::default(), start: Instant::now() }
        }

        async fn ask(&self, at: u64, load: Lookup<'static, Option<u32>>) -> Result<Option<u32>, Unavailable> {
            let now = self.start + Duration::from_secs(at);
            self.table.find(&1, now, &self.times, &self.stats, || load).await
        }
    }

    #[tokio::test]
    async fn an_answer_serves_until_its_time_and_is_then_loaded_anew() {
        let rig = Rig::new();
        assert_eq!(rig.ask(0, answer(Some(1))).await, Ok(Some(1)));
        assert_eq!(rig.ask(59, answer(Some(2))).await, Ok(Some(1)));
        assert_eq!(rig.ask(60, answer(Some(2))).await, Ok(Some(2)));
        assert_eq!(rig.ask(120, answer(None)).await, Ok(None));
        assert_eq!(rig.ask(129, answer(Some(3))).await, Ok(None));
        assert_eq!(rig.ask(130, answer(Some(3))).await, Ok(Some(3)));
    }

    #[tokio::test]
    async fn an_old_answer_serves_while_the_database_is_away() {
        let rig = Rig::new();
        assert_eq!(rig.ask(0, answer(Some(1))).await, Ok(Some(1)));
        assert_eq!(rig.ask(61, trouble()).await, Ok(Some(1)));
        assert_eq!(rig.ask(159, trouble()).await, Ok(Some(1)));
        assert!(rig.ask(161, trouble()).await.is_err());
        assert_eq!(rig.ask(163, answer(Some(2))).await, Ok(Some(2)));
    }

    #[tokio::test]
    async fn trouble_is_remembered_for_a_moment_only() {
        let rig = Rig::new();
        assert!(rig.ask(0, trouble()).await.is_err());
        assert!(rig.ask(0, answer(Some(1))).await.is_err(), "a second client does not wait for the database again");
        assert_eq!(rig.ask(1, answer(Some(1))).await, Ok(Some(1)));
    }

    #[tokio::test]
    async fn many_who_ask_at_once_cost_one_load() {
        let rig = Arc::new(Rig::new());
        let loads = Arc::new(AtomicUsize::new(0));
        let tasks: Vec<_> = (0..50)
            .map(|_| {
                let (rig, loads) = (Arc::clone(&rig), Arc::clone(&loads));
                tokio::spawn(async move {
                    let load = Box::pin(async move {
                        loads.fetch_add(1, Ordering::Relaxed);
                        tokio::time::sleep(Duration::from_millis(20)).await;
                        Ok(Some(7))
                    });
                    rig.ask(0, load).await
                })
            })
            .collect();
        for task in tasks {
            assert_eq!(task.await.unwrap(), Ok(Some(7)));
        }
        assert_eq!(loads.load(Ordering::Relaxed), 1);
    }

    #[tokio::test]
    async fn a_load_under_way_does_not_undo_an_invalidation() {
        let rig = Arc::new(Rig::new());
        let (started, go) = (Arc::new(tokio::sync::Notify::new()), Arc::new(tokio::sync::Notify::new()));
        let slow = {
            let (rig, started, go) = (Arc::clone(&rig), Arc::clone(&started), Arc::clone(&go));
            tokio::spawn(async move {
                let load = Box::pin(async move {
                    started.notify_one();
                    go.notified().await;
                    Ok(Some(1))
                });
                rig.ask(0, load).await
            })
        };
        started.notified().await;
        rig.table.forget(&1);
        assert_eq!(rig.ask(0, answer(Some(2))).await, Ok(Some(2)));
        go.notify_one();
        assert_eq!(slow.await.unwrap(), Ok(Some(1)), "who asked before gets what was so then");
        assert_eq!(rig.ask(0, answer(Some(3))).await, Ok(Some(2)));
    }

    #[tokio::test]
    async fn a_client_that_goes_away_does_not_take_the_others_answer_with_it() {
        let rig = Arc::new(Rig::new());
        let first = {
            let rig = Arc::clone(&rig);
            tokio::spawn(async move { rig.ask(0, Box::pin(std::future::pending())).await })
        };
        tokio::task::yield_now().await;
        let second = {
            let rig = Arc::clone(&rig);
            tokio::spawn(async move { rig.ask(0, answer(Some(2))).await })
        };
        tokio::task::yield_now().await;
        first.abort();
        assert_eq!(second.await.unwrap(), Ok(Some(2)));
    }
}
