//! The place for a change feed: a source that tells what others have changed in the database, so that the cache need not
//! wait for its times to run out.
//!
//! None is built yet. One over MySQL's binary log would decode row events of the tables that a schema names; one over
//! SQLite would watch `PRAGMA data_version` and can only tell [`Change::Everything`]. Until there is one, `[cache]
//! positive_ttl` and `negative_ttl` bound how long a foreign change stays unseen, and they stay the truth afterwards: a
//! feed that falls silent makes answers older, never wrong for longer.

use crate::{Address, CachedDirectory, Unavailable};
use std::future::Future;
use std::pin::Pin;

/// What somebody has changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// An account, alias or grant of this address.
    Address(Address),
    /// Something of this domain, its catch-all and its being there included.
    Domain(Box<str>),
    /// Anything: the feed cannot tell, or has missed something.
    Everything,
}

/// A source of changes.
pub trait ChangeFeed: Send {
    /// The next change, after it is committed. Dropping the future loses no change.
    ///
    /// # Errors
    /// [`Unavailable`] when the source is gone; whoever listens then forgets everything, waits, and calls again.
    fn next(&mut self) -> Pin<Box<dyn Future<Output = Result<Change, Unavailable>> + Send + '_>>;
}

impl CachedDirectory {
    /// Forgets what a change has touched. Remembered logins need nothing: they end by themselves with the row's hash.
    pub fn apply(&self, change: &Change) {
        match change {
            Change::Address(address) => self.forget(address),
            Change::Domain(domain) => {
                self.forget_catch_all(domain);
                self.forget_domain(domain);
            }
            Change::Everything => self.forget_all(),
        }
    }
}
