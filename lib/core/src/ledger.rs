//! What a good login may write into the account database, where that may be written: a better hash, and when an app
//! password was last used. Neither is waited for by the login.
//!
//! # Upgrade
//! After a password was verified by its hash, a hash weaker than the configured one is replaced, on any protocol, by
//! compare-and-swap on the old value: whoever changed the password meanwhile wins. One replacement a login is under way at
//! a time. An account on the database that may only read ends upgrades for [`DENIED_PAUSE`], said once in the log.
//!
//! # Last use
//! Coalesced: of each app password the latest moment and client are kept, and written every [`LAST_USE_EVERY`]. At most
//! [`LAST_USE_MAX`] wait to be written.

use crate::authenticator::Proofs;
use crate::{Address, Unavailable, Verifier};
use mailsql_password::NewHash;
use std::collections::{HashMap, HashSet};
use std::future::Future;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use zeroize::Zeroizing;

/// How long nothing is written after the database said that we may not.
pub const DENIED_PAUSE: Duration = Duration::from_secs(3600);
/// Between two writings of last use.
pub const LAST_USE_EVERY: Duration = Duration::from_secs(30);
/// App passwords whose last use waits to be written at most; more are not noted.
pub const LAST_USE_MAX: usize = 10_000;

/// Why something was not written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NotWritten {
    /// The database cannot be asked now.
    Unavailable(Unavailable),
    /// We may not, or there is no place for it.
    Denied(String),
}

/// The future of a write.
pub type Writing<'a, T> = Pin<Box<dyn Future<Output = Result<T, NotWritten>> + Send + 'a>>;

/// The account database, as far as logins write to it.
pub trait Ledger: Send + Sync {
    /// Puts `new` in place of the stored value `old`; `false` when it is not `old` any more.
    fn replace_password<'a>(&'a self, address: &'a Address, old: &'a str, new: &'a str) -> Writing<'a, bool>;

    /// Notes that the app password with this number was used, when (Unix seconds) and from where.
    fn note_use<'a>(&'a self, id: i64, at: i64, client: Option<IpAddr>) -> Writing<'a, ()>;
}

/// Whether weak hashes are replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Upgrade {
    /// They stay.
    Off,
    /// It is only said which would be replaced.
    DryRun,
    /// They are replaced.
    On,
}

/// Counts since the start.
#[derive(Debug, Default)]
pub struct LedgerStats {
    /// Hashes replaced.
    pub upgraded: AtomicU64,
    /// Hashes that a dry run would have replaced.
    pub would_upgrade: AtomicU64,
    /// Last uses written.
    pub uses: AtomicU64,
}

/// What is to be done with the database once a hash was replaced: the cache forgets the account.
pub type Replaced = Box<dyn Fn(&Address) + Send + Sync>;

/// Writes after good logins.
pub struct Notes {
    ledger: Arc<dyn Ledger>,
    upgrade: Upgrade,
    new_hash: NewHash,
    verifier: Arc<Verifier>,
    proofs: Arc<Proofs>,
    replaced: Replaced,
    stats: LedgerStats,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Logins whose hash is being replaced.
    busy: HashSet<Address>,
    /// Last uses that wait: by the app password's number, when (Unix seconds) and from where.
    uses: HashMap<i64, (i64, Option<IpAddr>)>,
    denied: Option<Instant>,
    said: bool,
}

impl Notes {
    pub(crate) fn new(
        ledger: Arc<dyn Ledger>,
        upgrade: Upgrade,
        new_hash: NewHash,
        verifier: Arc<Verifier>,
        proofs: Arc<Proofs>,
        replaced: Replaced,
    ) -> Self {
        let (stats, state) = (LedgerStats::default(), Mutex::default());
        Self { ledger, upgrade, new_hash, verifier, proofs, replaced, stats, state }
    }

    /// Counts since the start.
    #[must_use]
    pub fn stats(&self) -> &LedgerStats {
        &self.stats
    }

    /// A password was right: has its hash replaced in the background, if that is due.
    pub(crate) fn password_was_right(self: &Arc<Self>, address: &Address, password: &[u8], stored: &Arc<str>) {
        if self.upgrade == Upgrade::Off || !mailsql_password::weaker_than(stored, &self.new_hash) {
            return;
        }
        if self.upgrade == Upgrade::DryRun {
            self.stats.would_upgrade.fetch_add(1, Ordering::Relaxed);
            let (from, to) = (scheme(stored), self.new_hash.scheme().name());
            tracing::info!(target: "upgrade", login = %address, from, to, "password hash would be replaced (dry run)");
            return;
        }
        {
            let mut state = self.lock();
            if state.paused() || !state.busy.insert(address.clone()) {
                return;
            }
        }
        let (notes, address, stored) = (Arc::clone(self), address.clone(), Arc::clone(stored));
        let password = Zeroizing::new(password.to_vec());
        tokio::spawn(async move {
            notes.upgrade(&address, &password, &stored).await;
            notes.lock().busy.remove(&address);
        });
    }

    async fn upgrade(&self, address: &Address, password: &[u8], stored: &str) {
        // Trouble of any kind leaves the old hash, which is still good; the next login tries again.
        let Ok(Ok(hash)) = self.verifier.create(password, &self.new_hash).await else { return };
        match self.ledger.replace_password(address, stored, &hash).await {
            Ok(true) => {
                self.proofs.insert(address, &hash, password);
                (self.replaced)(address);
                self.stats.upgraded.fetch_add(1, Ordering::Relaxed);
                let (from, to) = (scheme(stored), self.new_hash.scheme().name());
                tracing::info!(target: "upgrade", login = %address, from, to, "password hash replaced");
            }
            Ok(false) => (self.replaced)(address),
            Err(NotWritten::Unavailable(trouble)) => {
                tracing::debug!(target: "upgrade", login = %address, reason = %trouble, "password hash not replaced");
            }
            Err(NotWritten::Denied(reason)) => self.denied(&reason),
        }
    }

    /// An app password was right.
    pub(crate) fn app_password_was_right(&self, id: i64, at: i64, client: Option<IpAddr>) {
        let mut state = self.lock();
        if !state.paused() && (state.uses.len() < LAST_USE_MAX || state.uses.contains_key(&id)) {
            state.uses.insert(id, (at, client));
        }
    }

    /// Writes the last uses that wait.
    pub async fn write_uses(&self) {
        let waiting = std::mem::take(&mut self.lock().uses);
        for (id, (at, client)) in waiting {
            match self.ledger.note_use(id, at, client).await {
                Ok(()) => drop(self.stats.uses.fetch_add(1, Ordering::Relaxed)),
                Err(NotWritten::Unavailable(_)) => drop(self.lock().uses.entry(id).or_insert((at, client))),
                Err(NotWritten::Denied(reason)) => {
                    self.denied(&reason);
                    return;
                }
            }
        }
    }

    fn denied(&self, reason: &str) {
        let mut state = self.lock();
        state.denied = Some(Instant::now());
        if !std::mem::replace(&mut state.said, true) {
            let advice = "the database is only read: weak hashes stay, and the last use of app passwords is not noted";
            tracing::warn!(target: "upgrade", reason, "{advice}");
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn paused(&self) -> bool {
        self.denied.is_some_and(|at| at.elapsed() < DENIED_PAUSE)
    }
}

fn scheme(stored: &str) -> &'static str {
    mailsql_password::detect(stored).map_or("-", mailsql_password::Scheme::name)
}
