//! "May this user in?", asked by every login protocol.
//!
//! The order of checks is such that nothing is told to somebody who does not know the password: an unknown user costs
//! the same hash as a known one (a dummy verification), and the account's state is looked at after the password.
//!
//! A verification that came out right is remembered as an HMAC-SHA-256 of stored value and password under a key made
//! at the start of the process. It holds no password, it ends by itself when the stored value changes, and it makes a
//! repeated login cost one HMAC.

use crate::cache::Flights;
use crate::{Account, Address, Directory, Unavailable, Verdict, Verifier};
use hmac::{Hmac, KeyInit, Mac};
use mailsql_password::{NewHash, Refused};
use sha2::Sha256;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

/// Longest password that is looked at, in bytes; crypt(3) refuses longer ones too.
pub const MAX_PASSWORD: usize = 511;

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
}

/// Decides logins.
pub struct Authenticator {
    directory: Arc<dyn Directory>,
    verifier: Verifier,
    default_domain: Option<Box<str>>,
    dummy: String,
    remember: Option<Duration>,
    key: Zeroizing<[u8; 32]>,
    proofs: quick_cache::sync::Cache<Address, Proof>,
    verifying: Flights<[u8; 32], Result<Result<bool, Refused>, Unavailable>>,
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
}

impl Authenticator {
    /// An authenticator over `directory`.
    #[must_use]
    pub fn new(directory: Arc<dyn Directory>, verifier: Verifier, settings: Settings) -> Self {
        Self {
            directory,
            verifier,
            default_domain: settings.default_domain,
            dummy: mailsql_password::dummy(&settings.new_hash),
            remember: settings.remember,
            key: Zeroizing::new(settings.key),
            proofs: quick_cache::sync::Cache::new(settings.entries),
            verifying: Flights::new(),
        }
    }

    /// The directory that is asked.
    #[must_use]
    pub fn directory(&self) -> &Arc<dyn Directory> {
        &self.directory
    }

    /// Decides a login.
    ///
    /// # Errors
    /// [`Unavailable`] when the database cannot tell or too many logins wait for a processor.
    pub async fn login(&self, login: &Login<'_>) -> Result<Decision, Unavailable> {
        let password = if login.password.len() > MAX_PASSWORD { &[] } else { login.password };
        let account = match self.address(login.user) {
            Some(address) => self.directory.account(&address).await?,
            None => None,
        };
        let stored = account.as_ref().and_then(|account| account.password.as_ref());
        let (matched, cached) = match (&account, stored) {
            (Some(account), Some(stored)) => self.matches(account, &stored.0, password).await?,
            _ => {
                // Nobody can tell from the time that this name has no password to compare with.
                let _ = self.verifier.verify(password, &self.dummy).await?;
                (false, false)
            }
        };
        let scheme = stored.and_then(|stored| mailsql_password::detect(&stored.0)).map_or("-", |scheme| scheme.name());
        let verdict = match account {
            None => Verdict::Unknown,
            Some(_) if !matched => Verdict::Wrong,
            Some(account) => state_verdict(account, login.service, unix_seconds(SystemTime::now())),
        };
        Ok(Decision { verdict, cached, scheme })
    }

    /// What the account's state says, without a password: PAM's account phase.
    ///
    /// # Errors
    /// [`Unavailable`] when the database cannot tell.
    pub async fn account(&self, user: &str, service: &str) -> Result<Verdict, Unavailable> {
        let Some(address) = self.address(user) else { return Ok(Verdict::Unknown) };
        Ok(match self.directory.account(&address).await? {
            None => Verdict::Unknown,
            Some(account) => state_verdict(account, service, unix_seconds(SystemTime::now())),
        })
    }

    /// Drops what is remembered of an address's right password.
    pub fn forget(&self, address: &Address) {
        self.proofs.remove(&address.folded());
    }

    /// Drops all remembered passwords.
    pub fn forget_all(&self) {
        self.proofs.clear();
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

    /// Whether the password matches, and whether memory told so.
    async fn matches(&self, account: &Account, stored: &str, password: &[u8]) -> Result<(bool, bool), Unavailable> {
        let mac = self.proof(stored, password);
        let key = account.address.folded();
        if self.remember.is_some()
            && let Some(proof) = self.proofs.get(&key)
            && proof.until > Instant::now()
            && bool::from(proof.mac.ct_eq(&mac))
        {
            return Ok((true, true));
        }
        let verification = self.verifier.verify(password, stored);
        let matched = match self.verifying.run(&mac, verification, |_| ()).await? {
            Ok(matched) => matched,
            Err(refused) => {
                tracing::warn!(login = %account.address, reason = %refused, "stored password not usable");
                false
            }
        };
        if matched && let Some(time) = self.remember {
            self.proofs.insert(key, Proof { mac, until: Instant::now() + time });
        }
        Ok((matched, false))
    }

    fn proof(&self, stored: &str, password: &[u8]) -> [u8; 32] {
        #[expect(clippy::expect_used, reason = "HMAC takes a key of any length")]
        let mut mac = Hmac::<Sha256>::new_from_slice(&*self.key).expect("a key");
        mac.update(&(stored.len() as u64).to_be_bytes());
        mac.update(stored.as_bytes());
        mac.update(password);
        mac.finalize().into_bytes().into()
    }
}

/// The verdict on an account whose password is right (or was not asked for).
fn state_verdict(account: Arc<Account>, service: &str, now: i64) -> Verdict {
    if !account.enabled || !account.allows_service(service) {
        Verdict::Disabled(account)
    } else if account.closed(now) {
        Verdict::Expired(account)
    } else if account.password_expired(now) {
        Verdict::PasswordExpired(account)
    } else {
        Verdict::Yes(account)
    }
}

fn unix_seconds(now: SystemTime) -> i64 {
    now.duration_since(UNIX_EPOCH).map_or(0, |age| i64::try_from(age.as_secs()).unwrap_or(i64::MAX))
}
