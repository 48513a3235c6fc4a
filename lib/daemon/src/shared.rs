//! What all services of a process share: one database pool, one cache, one authenticator.

use crate::control::Limited;
use crate::throttle::throttle;
use anyhow::{Context, Result};
use mailsql_config::Config;
use mailsql_core::authenticator::Settings;
use mailsql_core::resolve::Rules;
use mailsql_core::{Authenticator, CacheTimes, CachedDirectory, Throttle, Upgrade, Verifier};
use mailsql_password::{NewHash, Policy};
use mailsql_store::Store;
use std::sync::{Arc, PoisonError, RwLock};
use zeroize::Zeroizing;

/// What only root could read, read before root was left.
pub struct Secrets {
    database: Option<Zeroizing<String>>,
}

impl Secrets {
    /// Reads the secrets that a configuration names.
    ///
    /// # Errors
    /// A line with the file when it cannot be read or everybody may.
    pub fn read(config: &Config) -> Result<Self> {
        Ok(Self { database: config.database.password()? })
    }
}

/// What all services of a process share.
pub struct Shared {
    /// The configuration.
    pub config: Arc<Config>,
    /// The database.
    pub store: Arc<Store>,
    /// The database behind its cache.
    pub directory: Arc<CachedDirectory>,
    /// Decides logins.
    pub authenticator: Arc<Authenticator>,
    /// How addresses are read here.
    pub rules: Rules,
    /// Hashing for new passwords.
    pub new_hash: NewHash,
    /// When the process began.
    pub started: std::time::Instant,
    limited: RwLock<Vec<Arc<dyn Limited>>>,
}

/// Whether logins are remembered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Remember {
    /// For `[cache] positive_ttl`.
    Logins,
    /// Never: every login costs a hash, as with saslauthd without `-c`.
    Nothing,
}

impl Shared {
    /// Puts database, cache and authenticator together. Nothing is asked of the database yet.
    ///
    /// # Errors
    /// A line that names the setting which is wrong.
    pub fn open(config: Arc<Config>, secrets: &Secrets, remember: Remember) -> Result<Self> {
        let password = secrets.database.as_deref().map(String::as_str);
        let store = Arc::new(Store::open(&config.database, password)?);
        let cache = &config.cache;
        let times = CacheTimes {
            positive: cache.positive_ttl.0,
            negative: cache.negative_ttl.0,
            stale: cache.stale_ttl.0,
            // Never so short that refreshing becomes all that is done.
            domains: CacheTimes::default().domains.min(cache.positive_ttl.0).max(mailsql_core::cache::RETRY),
            entries: cache.entries,
            bytes: cache.bytes.0,
        };
        let inner: Arc<Store> = Arc::clone(&store);
        let directory = Arc::new(CachedDirectory::new(inner, times));
        let (policy, new_hash) = policy(&config)?;
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let mut key = [0; 32];
        mailsql_password::os_random(&mut key);
        let throttle = Arc::new(throttle(&config.throttle)?);
        let upgrade = match config.passwords.upgrade {
            mailsql_config::Upgrade::Off => Upgrade::Off,
            mailsql_config::Upgrade::DryRun => Upgrade::DryRun,
            mailsql_config::Upgrade::On => Upgrade::On,
        };
        let forgetting = Arc::downgrade(&directory);
        let replaced = Box::new(move |address: &mailsql_core::Address| {
            forgetting.upgrade().iter().for_each(|directory| directory.forget(address));
        });
        let settings = Settings {
            new_hash: new_hash.clone(),
            default_domain: config.mail.default_domain.as_deref().map(Box::from),
            remember: (remember == Remember::Logins).then_some(cache.positive_ttl.0),
            entries: cache.entries,
            key,
            throttle: Arc::clone(&throttle),
            ledger: Some((Arc::<Store>::clone(&store), upgrade, replaced)),
        };
        let cached: Arc<CachedDirectory> = Arc::clone(&directory);
        let verifier = Arc::new(Verifier::new(cores, policy, &new_hash));
        let authenticator = Arc::new(Authenticator::new(cached, verifier, settings));
        let rules = Rules { delimiters: config.mail.recipient_delimiter.as_str().into() };
        Ok(Self {
            config,
            store,
            directory,
            authenticator,
            rules,
            new_hash,
            started: std::time::Instant::now(),
            limited: RwLock::new(vec![Arc::<Throttle>::clone(&throttle)]),
        })
    }

    /// Drops what is remembered of an address, in the cache and of its logins.
    pub fn forget(&self, address: &mailsql_core::Address) {
        self.store.follow_writer();
        self.directory.forget(address);
        self.authenticator.forget(address);
        self.limited().iter().for_each(|service| service.forget());
    }

    /// Drops everything that is remembered.
    pub fn forget_all(&self) {
        self.store.follow_writer();
        self.directory.forget_all();
        self.authenticator.forget_all();
        self.limited().iter().for_each(|service| service.forget());
    }

    /// As [`Self::open`] for a command that tries one login: nobody is refused for what others did, nothing is counted,
    /// and nothing is written.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn open_to_try(mut config: Config, secrets: &Secrets) -> Result<Self> {
        config.throttle.enabled = false;
        config.passwords.upgrade = mailsql_config::Upgrade::Off;
        Self::open(Arc::new(config), secrets, Remember::Nothing)
    }

    /// Lets a service answer `limits` on the control socket.
    pub fn add_limited(&self, service: Arc<dyn Limited>) {
        self.limited.write().unwrap_or_else(PoisonError::into_inner).push(service);
    }

    /// The services that count.
    pub(crate) fn limited(&self) -> Vec<Arc<dyn Limited>> {
        self.limited.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// What passwords are accepted and made, from `[passwords]`.
///
/// # Errors
/// A line that names the setting which is wrong.
pub fn policy(config: &Config) -> Result<(Policy, NewHash)> {
    let passwords = &config.passwords;
    let default_scheme = passwords.default_scheme.as_deref().map(str::parse).transpose();
    let policy = Policy {
        allow_weak: passwords.allow_weak.join(",").parse().context("[passwords] allow_weak")?,
        default_scheme: default_scheme.context("[passwords] default_scheme")?,
        ..Policy::default()
    };
    let new_hash = passwords.scheme.parse().context("[passwords] scheme")?;
    Ok((policy, new_hash))
}
