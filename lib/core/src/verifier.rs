//! Password hashing off the reactor: a thread a core, and a bounded queue before them.
//!
//! The threads are the pool's own and run at a lower priority ([`NICE`], Linux) than those that serve sockets: however
//! many clients wait for a hash, a lookup that needs none is answered at once. Work whose client has given up is dropped
//! when its turn comes. Passwords in the queue are wiped when they leave it.

use crate::Unavailable;
use mailsql_password::{NewHash, Policy, Refused, Scheme};
use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use tokio::sync::oneshot;
use zeroize::{Zeroize, Zeroizing};

/// Pieces of work that wait for a core at most. With sha512-crypt at its default cost this is about a second's work for
/// a core; a client beyond it would have given up before its turn.
pub const MAX_WAITING: usize = 1024;
/// How much nicer the pool's threads are than the process: a ninth of its weight to the scheduler.
pub const NICE: i32 = 10;

/// The pool that computes hashes.
pub struct Verifier {
    shared: Arc<Pool>,
}

/// What a verification came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verified {
    /// The password matches.
    Right,
    /// It does not.
    Wrong,
    /// The stored value was not computed, and why.
    Refused(Refused),
}

struct Pool {
    policy: Policy,
    dummy: Arc<str>,
    queue: Mutex<Queue>,
    work: Condvar,
    hashes: AtomicU64,
    dropped: AtomicU64,
    refused: AtomicU64,
}

#[derive(Default)]
struct Queue {
    jobs: VecDeque<Job>,
    closed: bool,
}

enum Job {
    Verify { password: Zeroizing<Vec<u8>>, stored: Arc<str>, answer: oneshot::Sender<Verified> },
    Create { password: Zeroizing<Vec<u8>>, kind: NewHash, answer: oneshot::Sender<Result<String, Refused>> },
}

/// Counts of the pool since its start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VerifierStats {
    /// Passwords hashed: verifications and new hashes.
    pub hashes: u64,
    /// Pieces of work dropped because nobody waited for them any more.
    pub dropped: u64,
    /// Pieces of work refused because too many waited.
    pub overloaded: u64,
    /// Pieces of work that wait now.
    pub waiting: u64,
}

impl Verifier {
    /// A pool of `threads` under the given policy. Whatever is quicker than `new_hash` to tell a wrong password is made
    /// to take as long.
    #[must_use]
    pub fn new(threads: usize, policy: Policy, new_hash: &NewHash) -> Self {
        let shared = Arc::new(Pool {
            policy,
            dummy: mailsql_password::dummy(new_hash).into(),
            queue: Mutex::default(),
            work: Condvar::new(),
            hashes: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
            refused: AtomicU64::new(0),
        });
        for number in 0..threads.max(1) {
            let pool = Arc::clone(&shared);
            let spawned = std::thread::Builder::new().name(format!("hash-{number}")).spawn(move || pool.run());
            if let Err(error) = spawned {
                tracing::error!(%error, "a thread for passwords could not be started");
            }
        }
        Self { shared }
    }

    /// A stored value that no password matches and that takes as long as a new hash.
    #[must_use]
    pub fn dummy(&self) -> &Arc<str> {
        &self.shared.dummy
    }

    /// Verifies a password against a stored value. A wrong one takes no less time than with a new hash, so that nobody
    /// can tell a name that does not exist from one whose password is locked, refused or quickly computed.
    ///
    /// # Errors
    /// [`Unavailable`] when [`MAX_WAITING`] others wait already.
    pub async fn verify(&self, password: &[u8], stored: &Arc<str>) -> Result<Verified, Unavailable> {
        let (answer, answered) = oneshot::channel();
        let password = Zeroizing::new(password.to_vec());
        self.shared.push(Job::Verify { password, stored: Arc::clone(stored), answer })?;
        answered.await.map_err(|_| Unavailable::new("a password verification was broken off"))
    }

    /// Hashes a new password.
    ///
    /// # Errors
    /// [`Unavailable`] as [`Self::verify`]; the inner one tells a password that cannot be hashed.
    pub async fn create(&self, password: &[u8], kind: &NewHash) -> Result<Result<String, Refused>, Unavailable> {
        let (answer, answered) = oneshot::channel();
        let password = Zeroizing::new(password.to_vec());
        self.shared.push(Job::Create { password, kind: kind.clone(), answer })?;
        answered.await.map_err(|_| Unavailable::new("hashing was broken off"))
    }

    /// What is accepted.
    #[must_use]
    pub fn policy(&self) -> &Policy {
        &self.shared.policy
    }

    /// Counts since the start.
    #[must_use]
    pub fn stats(&self) -> VerifierStats {
        let waiting = self.shared.lock().jobs.len() as u64;
        VerifierStats {
            hashes: self.shared.hashes.load(Ordering::Relaxed),
            dropped: self.shared.dropped.load(Ordering::Relaxed),
            overloaded: self.shared.refused.load(Ordering::Relaxed),
            waiting,
        }
    }
}

impl Drop for Verifier {
    fn drop(&mut self) {
        self.shared.lock().closed = true;
        self.shared.work.notify_all();
    }
}

impl Pool {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, job: Job) -> Result<(), Unavailable> {
        let mut queue = self.lock();
        if queue.jobs.len() >= MAX_WAITING {
            let before = queue.jobs.len();
            queue.jobs.retain(|job| !job.abandoned());
            self.dropped.fetch_add((before - queue.jobs.len()) as u64, Ordering::Relaxed);
        }
        if queue.jobs.len() >= MAX_WAITING {
            self.refused.fetch_add(1, Ordering::Relaxed);
            return Err(Unavailable::new("overloaded: too many logins wait for a processor"));
        }
        queue.jobs.push_back(job);
        drop(queue);
        self.work.notify_one();
        Ok(())
    }

    fn run(&self) {
        be_nice();
        loop {
            let job = {
                let mut queue = self.lock();
                loop {
                    if let Some(job) = queue.jobs.pop_front() {
                        break job;
                    }
                    if queue.closed {
                        return;
                    }
                    queue = self.work.wait(queue).unwrap_or_else(PoisonError::into_inner);
                }
            };
            if job.abandoned() {
                self.dropped.fetch_add(1, Ordering::Relaxed);
                continue;
            }
            self.hashes.fetch_add(1, Ordering::Relaxed);
            // A fault in one value's computation must not cost the pool a thread; its client sees the answer broken off.
            let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| self.compute(job)));
            wipe_stack::<HASH_STACK>();
        }
    }

    #[inline(never)]
    fn compute(&self, job: Job) {
        match job {
            Job::Verify { password, stored, answer } => {
                let verified = match mailsql_password::verify(&password, &stored, &self.policy) {
                    Ok(true) => Verified::Right,
                    Ok(false) => Verified::Wrong,
                    Err(refused) => Verified::Refused(refused),
                };
                if matches!(verified, Verified::Refused(_)) || (verified == Verified::Wrong && is_quick(&stored)) {
                    let _ = mailsql_password::verify(&password, &self.dummy, &self.policy);
                }
                drop(password);
                let _ = answer.send(verified);
            }
            Job::Create { password, kind, answer } => {
                let hash = mailsql_password::create(&password, &kind, &mut mailsql_password::os_random);
                drop(password);
                let _ = answer.send(hash);
            }
        }
    }
}

impl Job {
    fn abandoned(&self) -> bool {
        match self {
            Self::Verify { answer, .. } => answer.is_closed(),
            Self::Create { answer, .. } => answer.is_closed(),
        }
    }
}

/// Words of stack that hashing a password uses at most.
const HASH_STACK: usize = 16 * 1024;

/// Overwrites the stack below the caller's frame, `WORDS` of eight bytes deep: digests leave whole blocks of a password
/// there. To be called from where the function that used it was called.
#[inline(never)]
pub(crate) fn wipe_stack<const WORDS: usize>() {
    let mut words = [0_u64; WORDS];
    words.zeroize();
    std::hint::black_box(&words);
}

/// Whether a wrong password is told from this value in next to no time: locked ones, and those of one digest.
pub(crate) fn is_quick(stored: &str) -> bool {
    !matches!(
        mailsql_password::detect(stored),
        Some(
            Scheme::Sha256Crypt
                | Scheme::Sha512Crypt
                | Scheme::Bcrypt
                | Scheme::Scrypt
                | Scheme::Yescrypt
                | Scheme::GostYescrypt
                | Scheme::Argon2i
                | Scheme::Argon2d
                | Scheme::Argon2id
                | Scheme::Pbkdf2
                | Scheme::ScramSha1
                | Scheme::ScramSha256
                | Scheme::SunMd5
                | Scheme::Sha1Crypt
                | Scheme::Drupal7
                | Scheme::Phpass
        )
    )
}

/// Lowers the priority of the calling thread; on Linux, priorities are a thread's own.
#[cfg(target_os = "linux")]
fn be_nice() {
    let nice = rustix::process::getpriority_process(None).unwrap_or(0).saturating_add(NICE).min(19);
    let _ = rustix::process::setpriority_process(None, nice);
}

#[cfg(not(target_os = "linux"))]
fn be_nice() {}

#[cfg(test)]
mod tests {
    use super::*;

    const QUICK: &str = "{SSHA}YOHcW8wTgm6p2YKC/iXtqAV/rewBAgME";

    fn pool(threads: usize) -> Verifier {
        Verifier::new(threads, Policy::default(), &NewHash::default())
    }

    #[tokio::test]
    async fn right_wrong_and_refused_values_are_told_apart() {
        let pool = pool(1);
        assert_eq!(pool.verify(b"Secret.123", &QUICK.into()).await, Ok(Verified::Right));
        assert_eq!(pool.verify(b"secret.123", &QUICK.into()).await, Ok(Verified::Wrong));
        let absurd = "$6$rounds=999999999$saltsalt$x".into();
        assert!(matches!(pool.verify(b"x", &absurd).await, Ok(Verified::Refused(_))));
        assert_eq!(pool.verify(b"", &Arc::clone(pool.dummy())).await, Ok(Verified::Wrong));
        assert_eq!(pool.stats().hashes, 4);
    }

    #[tokio::test]
    async fn work_that_nobody_waits_for_is_dropped() {
        let pool = pool(1);
        let dummy = Arc::clone(pool.dummy());
        for _ in 0..200 {
            // Polled once, so that it is in the queue, and given up.
            tokio::select! {
                biased;
                _ = pool.verify(b"x", &dummy) => {}
                () = std::future::ready(()) => {}
            }
        }
        assert_eq!(pool.verify(b"x", &dummy).await, Ok(Verified::Wrong));
        let stats = pool.stats();
        assert_eq!(stats.dropped + stats.hashes, 201, "{stats:?}");
        assert!(stats.dropped > 100, "{stats:?}");
    }

    #[tokio::test]
    async fn beyond_the_queue_clients_are_refused_for_now() {
        let pool = Arc::new(pool(1));
        let tries: Vec<_> = (0..MAX_WAITING + 100)
            .map(|_| {
                let pool = Arc::clone(&pool);
                tokio::spawn(async move { pool.verify(b"x", &Arc::clone(pool.dummy())).await })
            })
            .collect();
        let mut refused = 0;
        for (at, task) in tries.into_iter().enumerate() {
            if at < 50 {
                assert_eq!(task.await.unwrap(), Ok(Verified::Wrong), "{at}");
            } else if at < MAX_WAITING {
                task.abort();
            } else {
                refused += usize::from(task.await.is_ok_and(|answer| answer.is_err()));
            }
        }
        assert!(refused > 0);
        assert!(pool.stats().overloaded >= refused as u64);
    }
}
