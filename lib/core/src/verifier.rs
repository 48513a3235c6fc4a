//! Password hashing off the reactor: as many at once as there are cores, and a bounded queue before them.

use crate::Unavailable;
use mailsql_password::{Policy, Refused};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::sync::Semaphore;
use zeroize::Zeroizing;

/// Verifications that wait for a core at most. With sha512-crypt at its default cost this is about a second's work
/// for a core; a client beyond it would have given up before its turn.
pub const MAX_WAITING: usize = 1024;

/// The pool that verifies passwords.
pub struct Verifier {
    slots: Arc<Semaphore>,
    waiting: AtomicUsize,
    policy: Arc<Policy>,
}

/// Counts a waiting client for as long as it waits, whatever ends the wait.
struct Waiting<'a>(&'a AtomicUsize);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Verifier {
    /// A pool for `cores` verifications at a time, under the given policy.
    #[must_use]
    pub fn new(cores: usize, policy: Policy) -> Self {
        Self { slots: Arc::new(Semaphore::new(cores.max(1))), waiting: AtomicUsize::new(0), policy: Arc::new(policy) }
    }

    /// Verifies a password against a stored value. The inner result tells a row that will not be computed.
    ///
    /// # Errors
    /// [`Unavailable`] when [`MAX_WAITING`] others wait already.
    pub async fn verify(&self, password: &[u8], stored: &str) -> Result<Result<bool, Refused>, Unavailable> {
        let permit = match Arc::clone(&self.slots).try_acquire_owned() {
            Ok(permit) => permit,
            Err(_) => {
                if self.waiting.fetch_add(1, Ordering::Relaxed) >= MAX_WAITING {
                    self.waiting.fetch_sub(1, Ordering::Relaxed);
                    return Err(Unavailable::new("overloaded: too many logins wait for a processor"));
                }
                let _waiting = Waiting(&self.waiting);
                let acquired = Arc::clone(&self.slots).acquire_owned().await;
                acquired.map_err(|_| Unavailable::new("shutting down"))?
            }
        };
        let password = Zeroizing::new(password.to_vec());
        let stored = Zeroizing::new(stored.to_owned());
        let policy = Arc::clone(&self.policy);
        // The permit goes with the work, not with the client: work whose client has left still occupies its core.
        let work = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            mailsql_password::verify(&password, &stored, &policy)
        });
        work.await.map_err(|_| Unavailable::new("a password verification was broken off"))
    }
}
