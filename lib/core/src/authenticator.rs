//! "May this user in?", asked by every login protocol.
//!
//! The order of steps, and why:
//! 1. the throttle, before database and hash: a flood of guesses costs neither ([`crate::throttle`]);
//! 2. the account, through the cache;
//! 3. a remembered proof: a verification that came out right is remembered as an HMAC-SHA-256 of name, stored value and
//!    password under a key made at the start of the process. It holds no password, it ends by itself when the stored
//!    value changes, and it makes a repeated login cost one HMAC;
//! 4. app passwords, each one digest;
//! 5. a remembered failure, by the same HMAC;
//! 6. the hash, on a pool of its own ([`crate::verifier`]), once for all who ask the same at the same time;
//! 7. the account's state, after the password: nothing is told to somebody who does not know it.
//!
//! A name that does not exist goes the same way, with a dummy for its stored value, and so takes the same time. What still
//! differs (one of the two is in the cache, say) is covered by [`REFUSAL_GRID`]: a refusal is given at a whole number of
//! these after the question, never between.

use crate::cache::Flights;
use crate::ledger::{Ledger, Notes, Replaced};
use crate::throttle::{Admission, Outcome};
use crate::verifier::{Verified, is_quick, wipe_stack};
use crate::{Account, Address, AppPassword, Directory, Throttle, Unavailable, Upgrade, Verdict, Verifier};
use hmac::{Hmac, KeyInit, Mac};
use mailsql_password::{NewHash, Policy};
use sha2::Sha256;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

/// Longest password that is looked at, in bytes; crypt(3) refuses longer ones too.
pub const MAX_PASSWORD: usize = 511;
/// Logins that wait for the outcome of others at most; see [`Admission::Wait`].
pub const MAX_WAITING: usize = 4096;

/// App passwords of one account in a scheme that takes time that are tried at most.
pub const MAX_SLOW_APP_PASSWORDS: usize = 16;

/// An unknown name and a wrong password are answered at multiples of this only. Several times what a lookup costs, and no
/// wait for anybody who can type.
pub const REFUSAL_GRID: Duration = Duration::from_millis(10);

/// Words of stack that one digest uses at most.
const DIGEST_STACK: usize = 512;

/// One login, as a protocol carries it.
#[derive(Clone, Copy)]
pub struct Login<'a> {
    /// The name as the client gave it: an address, or a bare name where there is a default domain.
    pub user: &'a str,
    /// The clear password.
    pub password: &'a [u8],
    /// `smtp`, `imap`, …, or empty.
    pub service: &'a str,
    /// The client's address where the protocol tells it.
    pub client: Option<IpAddr>,
}

/// What the authenticator is set up with.
pub struct Settings {
    /// Hashing for new passwords; its cost is also that of the dummy verification.
    pub new_hash: NewHash,
    /// Domain of login names that have none.
    pub default_domain: Option<Box<str>>,
    /// How long a right password is remembered; `None` verifies every time.
    pub remember: Option<Duration>,
    /// Logins remembered at most.
    pub entries: usize,
    /// The key under which they are, made anew by each process.
    pub key: [u8; 32],
    /// Who may try now.
    pub throttle: Arc<Throttle>,
    /// Where good logins leave a better hash and the time of use; `None` writes nothing.
    pub ledger: Option<(Arc<dyn Ledger>, Upgrade, Replaced)>,
}

/// Decides logins.
pub struct Authenticator {
    directory: Arc<dyn Directory>,
    verifier: Arc<Verifier>,
    default_domain: Option<Box<str>>,
    proofs: Arc<Proofs>,
    throttle: Arc<Throttle>,
    notes: Option<Arc<Notes>>,
    waiting: AtomicUsize,
    verifying: Flights<[u8; 32], Result<Verified, Unavailable>>,
}

/// Right passwords, remembered.
pub(crate) struct Proofs {
    key: Zeroizing<[u8; 32]>,
    time: Option<Duration>,
    proofs: quick_cache::sync::Cache<Address, Proof>,
}

#[derive(Clone)]
struct Proof {
    mac: [u8; 32],
    until: Instant,
}

/// A verdict with what the log says beside it.
#[derive(Clone, Debug)]
pub struct Decision {
    /// The verdict.
    pub verdict: Verdict,
    /// Whether the password was verified from memory.
    pub cached: bool,
    /// The scheme of the stored value, or `-`.
    pub scheme: &'static str,
    /// Why, more exactly than the verdict says, or `-`.
    pub reason: &'static str,
}

impl Decision {
    /// A verdict with nothing beside it.
    #[must_use]
    pub fn of(verdict: Verdict) -> Self {
        Self { verdict, cached: false, scheme: "-", reason: "-" }
    }
}

/// How a password was found right or wrong.
enum Found {
    Right { cached: bool },
    App { id: i64, verdict: Option<(Verdict, &'static str)> },
    Wrong { mac: [u8; 16], cached: bool, reason: &'static str },
}

impl Authenticator {
    /// An authenticator over `directory`.
    #[must_use]
    pub fn new(directory: Arc<dyn Directory>, verifier: Arc<Verifier>, settings: Settings) -> Self {
        let proofs = Arc::new(Proofs {
            key: Zeroizing::new(settings.key),
            time: settings.remember,
            proofs: quick_cache::sync::Cache::new(settings.entries),
        });
        let notes = settings.ledger.map(|(ledger, upgrade, replaced)| {
            let (verifier, proofs) = (Arc::clone(&verifier), Arc::clone(&proofs));
            Arc::new(Notes::new(ledger, upgrade, settings.new_hash, verifier, proofs, replaced))
        });
        Self {
            directory,
            verifier,
            default_domain: settings.default_domain,
            proofs,
            throttle: settings.throttle,
            notes,
            waiting: AtomicUsize::new(0),
            verifying: Flights::new(),
        }
    }

    /// The directory that is asked.
    #[must_use]
    pub fn directory(&self) -> &Arc<dyn Directory> {
        &self.directory
    }

    /// Who may try now.
    #[must_use]
    pub fn throttle(&self) -> &Arc<Throttle> {
        &self.throttle
    }

    /// The pool that hashes.
    #[must_use]
    pub fn verifier(&self) -> &Arc<Verifier> {
        &self.verifier
    }

    /// What good logins write, where they do.
    #[must_use]
    pub fn notes(&self) -> Option<&Arc<Notes>> {
        self.notes.as_ref()
    }

    /// Decides a login.
    ///
    /// # Errors
    /// [`Unavailable`] when the database cannot tell or too many logins wait for a processor.
    pub async fn login(&self, login: &Login<'_>) -> Result<Decision, Unavailable> {
        let begun = tokio::time::Instant::now();
        let decision = self.decide(login).await?;
        if matches!(decision.verdict, Verdict::Unknown | Verdict::Wrong) {
            tokio::time::sleep_until(begun + on_grid(begun.elapsed())).await;
        }
        Ok(decision)
    }

    async fn decide(&self, login: &Login<'_>) -> Result<Decision, Unavailable> {
        let password = if login.password.len() > MAX_PASSWORD { &[] } else { login.password };
        let address = self.address(login.user);
        // All names that can be nobody's share one count.
        let name = address.as_ref().map_or("", Address::as_str);
        let place = loop {
            let mut settled = std::pin::pin!(self.throttle.settled());
            settled.as_mut().enable();
            match self.throttle.admit(name, login.client, unix_milliseconds()) {
                Admission::Pass(place) => break place,
                Admission::Refused(reason) => {
                    return Ok(Decision { reason, ..Decision::of(Verdict::Throttled) });
                }
                Admission::Wait => {
                    let _waiting = Waiting::begin(&self.waiting)?;
                    settled.await;
                }
            }
        };
        let account = match &address {
            Some(address) => self.directory.account(address).await?,
            None => None,
        };
        let stored: Option<Arc<str>> =
            account.as_ref().and_then(|account| Some(Arc::from(&*account.password.as_ref()?.0)));
        let scheme = stored.as_deref().and_then(mailsql_password::detect).map_or("-", mailsql_password::Scheme::name);
        let compared = stored.as_ref().unwrap_or_else(|| self.verifier.dummy());
        let found = self.find(login, name, account.as_deref(), compared, stored.is_some(), password).await?;
        let now = unix_milliseconds();
        let (verdict, cached, reason) = match (found, account) {
            (Found::Right { cached }, Some(account)) => {
                place.settle(Outcome::Right, now);
                if !cached && let (Some(notes), Some(address)) = (&self.notes, &address) {
                    notes.password_was_right(address, password, compared);
                }
                let (verdict, reason) = state_verdict(account, login.service, login.client, now / 1000, true);
                (verdict, cached, reason)
            }
            (Found::App { id, verdict }, Some(account)) => {
                place.settle(Outcome::Right, now);
                let (verdict, reason) = match verdict {
                    Some((verdict, reason)) => (verdict, reason),
                    None => state_verdict(account, login.service, login.client, now / 1000, false),
                };
                if let (Some(notes), Verdict::Yes(_)) = (&self.notes, &verdict) {
                    notes.app_password_was_right(id, now / 1000, login.client);
                }
                return Ok(Decision {
                    verdict,
                    cached: false,
                    scheme: "app-password",
                    reason: if reason == "-" { "app password" } else { reason },
                });
            }
            (Found::Wrong { mac, cached, reason }, account) => {
                place.settle(Outcome::Wrong(mac), now);
                match account {
                    Some(_) => (Verdict::Wrong, cached, reason),
                    None => (Verdict::Unknown, cached, "no such account"),
                }
            }
            // Nobody has the dummy's password.
            (Found::Right { .. } | Found::App { .. }, None) => (Verdict::Unknown, false, "no such account"),
        };
        Ok(Decision { verdict, cached, scheme, reason })
    }

    /// What the account's state says, without a password: PAM's account phase. A client's address that is not told is
    /// not held against it here.
    ///
    /// # Errors
    /// [`Unavailable`] when the database cannot tell.
    pub async fn account(&self, user: &str, service: &str) -> Result<Verdict, Unavailable> {
        self.account_from(user, service, None).await
    }

    /// As [`Self::account`], for a client whose address may be known.
    ///
    /// # Errors
    /// [`Unavailable`] when the database cannot tell.
    pub async fn account_from(
        &self,
        user: &str,
        service: &str,
        client: Option<IpAddr>,
    ) -> Result<Verdict, Unavailable> {
        let Some(address) = self.address(user) else { return Ok(Verdict::Unknown) };
        Ok(match self.directory.account(&address).await? {
            None => Verdict::Unknown,
            Some(account) if client.is_some_and(|client| !account.allows_client(Some(client))) => {
                Verdict::Disabled(account)
            }
            Some(account) => closed(&account, service, unix_milliseconds() / 1000)
                .map_or_else(|| Verdict::Yes(Arc::clone(&account)), |(closed, _)| closed.of(Arc::clone(&account))),
        })
    }

    /// Drops what is remembered of an address's right password.
    pub fn forget(&self, address: &Address) {
        self.proofs.proofs.remove(&address.folded());
    }

    /// Drops all remembered passwords.
    pub fn forget_all(&self) {
        self.proofs.proofs.clear();
    }

    /// The address that a login name stands for.
    #[must_use]
    pub fn address(&self, user: &str) -> Option<Address> {
        let address = match (user.contains('@'), &self.default_domain) {
            (false, Some(domain)) => Address::new(user, domain),
            _ => Address::parse(user),
        };
        Some(address.ok()?.folded())
    }

    /// Compares a password with all that an account has, or with a dummy.
    async fn find(
        &self,
        login: &Login<'_>,
        name: &str,
        account: Option<&Account>,
        stored: &Arc<str>,
        has_password: bool,
        password: &[u8],
    ) -> Result<Found, Unavailable> {
        let proof = self.proofs.mac(name, stored, password);
        if let Some(account) = account.filter(|_| has_password)
            && self.proofs.holds(&account.address.folded(), &proof)
        {
            return Ok(Found::Right { cached: true });
        }
        if let Some(account) = account.filter(|account| account.has_app_passwords)
            && let Some(found) = self.find_app(login, account, password).await?
        {
            return Ok(found);
        }
        let mut mac = [0; 16];
        mac.copy_from_slice(&proof[..16]);
        if self.throttle.knows_wrong(&mac, unix_milliseconds()) {
            return Ok(Found::Wrong { mac, cached: true, reason: "same wrong password again" });
        }
        let verification = self.verifier.verify(password, stored);
        match self.verifying.run(&proof, verification, |_| ()).await? {
            Verified::Right if has_password => {
                if let Some(account) = account {
                    self.proofs.keep(&account.address.folded(), proof);
                }
                Ok(Found::Right { cached: false })
            }
            Verified::Right => Ok(Found::Wrong { mac, cached: false, reason: "no password is set" }),
            Verified::Wrong if !has_password => Ok(Found::Wrong { mac, cached: false, reason: "no password is set" }),
            Verified::Wrong if mailsql_password::is_locked(stored) => {
                Ok(Found::Wrong { mac, cached: false, reason: "the stored password is locked" })
            }
            Verified::Wrong => Ok(Found::Wrong { mac, cached: false, reason: "wrong password" }),
            Verified::Refused(refused) => {
                tracing::warn!(login = name, reason = %refused, "stored password not usable");
                Ok(Found::Wrong { mac, cached: false, reason: "the stored password is not usable" })
            }
        }
    }

    async fn find_app(
        &self,
        login: &Login<'_>,
        account: &Account,
        password: &[u8],
    ) -> Result<Option<Found>, Unavailable> {
        let list = self.directory.app_passwords(&account.address.folded()).await?;
        let mut found = find_quick(&list, password, self.verifier.policy());
        wipe_stack::<DIGEST_STACK>();
        if found.is_none() {
            // Only other programs' tables hold ones that take time.
            for app in list.iter().filter(|app| !is_quick(&app.password.0)).take(MAX_SLOW_APP_PASSWORDS) {
                if self.verifier.verify(password, &Arc::from(&*app.password.0)).await? == Verified::Right {
                    found = Some(app);
                    break;
                }
            }
        }
        let Some(app) = found else { return Ok(None) };
        let now = unix_milliseconds() / 1000;
        let disabled = |reason| Some((Verdict::Disabled(Arc::new(account.clone())), reason));
        let verdict = if app.expired(now) {
            Some((Verdict::Wrong, "app password has expired"))
        } else if !app.allows_service(login.service) {
            disabled("app password is not for this service")
        } else if !app.allows_client(login.client) {
            disabled("app password is not for this network")
        } else {
            None
        };
        Ok(Some(Found::App { id: app.id, verdict }))
    }
}

impl Proofs {
    fn mac(&self, name: &str, stored: &str, password: &[u8]) -> [u8; 32] {
        let mac = self.compute(name, stored, password);
        wipe_stack::<DIGEST_STACK>();
        mac
    }

    #[inline(never)]
    fn compute(&self, name: &str, stored: &str, password: &[u8]) -> [u8; 32] {
        #[expect(clippy::expect_used, reason = "HMAC takes a key of any length")]
        let mut mac = Hmac::<Sha256>::new_from_slice(&*self.key).expect("a key");
        for part in [name, stored] {
            mac.update(&(part.len() as u64).to_be_bytes());
            mac.update(part.as_bytes());
        }
        mac.update(password);
        mac.finalize().into_bytes().into()
    }

    fn holds(&self, address: &Address, mac: &[u8; 32]) -> bool {
        self.time.is_some()
            && self
                .proofs
                .get(address)
                .is_some_and(|proof| proof.until > Instant::now() && bool::from(proof.mac.ct_eq(mac)))
    }

    fn keep(&self, address: &Address, mac: [u8; 32]) {
        if let Some(time) = self.time {
            self.proofs.insert(address.clone(), Proof { mac, until: Instant::now() + time });
        }
    }

    /// Remembers that this password is right for a (folded) address with this stored value.
    pub(crate) fn insert(&self, address: &Address, stored: &str, password: &[u8]) {
        self.keep(address, self.mac(address.as_str(), stored, password));
    }
}

/// The next moment on the grid of refusals.
fn on_grid(elapsed: Duration) -> Duration {
    let passed = u32::try_from(elapsed.as_micros() / REFUSAL_GRID.as_micros()).unwrap_or(u32::MAX - 1);
    REFUSAL_GRID.saturating_mul(passed + 1)
}

/// The app password that matches, among those that are told at once.
#[inline(never)]
fn find_quick<'a>(list: &'a [AppPassword], password: &[u8], policy: &Policy) -> Option<&'a AppPassword> {
    // People see ours in groups and type them so.
    let mut bare = Zeroizing::new(Vec::with_capacity(password.len()));
    bare.extend(password.iter().filter(|byte| !matches!(byte, b' ' | b'-')));
    list.iter().filter(|app| is_quick(&app.password.0)).find(|app| {
        let matches = |password| mailsql_password::verify(password, &app.password.0, policy).unwrap_or(false);
        matches(password) || (*bare != password && matches(&bare))
    })
}

/// Counts a waiting client for as long as it waits, whatever ends the wait.
struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn begin(count: &'a AtomicUsize) -> Result<Self, Unavailable> {
        let waiting = Self(count);
        if count.fetch_add(1, Ordering::Relaxed) >= MAX_WAITING {
            return Err(Unavailable::new("overloaded: too many logins wait for the outcome of others"));
        }
        Ok(waiting)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The ways in which an account is closed to somebody who knows its password.
enum Closed {
    Disabled,
    Expired,
    PasswordExpired,
}

impl Closed {
    fn of(&self, account: Arc<Account>) -> Verdict {
        match self {
            Self::Disabled => Verdict::Disabled(account),
            Self::Expired => Verdict::Expired(account),
            Self::PasswordExpired => Verdict::PasswordExpired(account),
        }
    }
}

/// Whether the account is closed to this service at `now` (seconds since 1970), and why.
fn closed(account: &Account, service: &str, now: i64) -> Option<(Closed, &'static str)> {
    if !account.enabled {
        Some((Closed::Disabled, "account is disabled"))
    } else if account.closed(now) {
        Some((Closed::Expired, "account has expired"))
    } else if !account.allows_service(service) {
        Some((Closed::Disabled, "account may not use this service"))
    } else if account.password_expired(now) {
        Some((Closed::PasswordExpired, "password has expired"))
    } else {
        None
    }
}

/// The verdict on an account whose password is right; `main` tells the account's own password from an app password,
/// which does not run out with it.
fn state_verdict(
    account: Arc<Account>,
    service: &str,
    client: Option<IpAddr>,
    now: i64,
    main: bool,
) -> (Verdict, &'static str) {
    let closed = closed(&account, service, now);
    match closed {
        Some((closed @ (Closed::Disabled | Closed::Expired), reason)) => (closed.of(account), reason),
        _ if !account.allows_client(client) => {
            (Verdict::Disabled(account), "account may not be used from this network")
        }
        Some((closed, reason)) if main => (closed.of(account), reason),
        _ => (Verdict::Yes(account), "-"),
    }
}

fn unix_milliseconds() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |age| i64::try_from(age.as_millis()).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests;
