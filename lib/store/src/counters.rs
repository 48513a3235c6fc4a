//! Counters that outlive a restart: a small SQLite file of a daemon's own, keys and values in named spaces.
//!
//! One process writes it; a second one is refused by a lock on `FILE.lock`. A save is one transaction. WAL without a sync at each
//! commit: nothing that was saved is lost with the process, only with the host (then the last few seconds).
//!
//! Everything here waits for the disk: call it where waiting is allowed.

use rusqlite::{Connection, OpenFlags, params};
use std::fs::File;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Longest wait for somebody who looks into the file by hand.
const BUSY: Duration = Duration::from_secs(2);
/// Mode of a new file.
const MODE: u32 = 0o600;

/// The file.
#[derive(Debug)]
pub struct Counters {
    path: PathBuf,
    connection: Connection,
    _lock: File,
}

/// Why the file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CountersError {
    /// Another process has it.
    #[error("{0}: in use by another process")]
    InUse(PathBuf),
    /// The folder or the file cannot be opened.
    #[error("{0}: {1}")]
    Open(PathBuf, std::io::Error),
    /// SQLite says no.
    #[error("{0}: {1}")]
    Sqlite(PathBuf, rusqlite::Error),
}

/// A key and its value.
pub type Entry = (Box<[u8]>, Box<[u8]>);

/// A key and its value, as the counting side holds them.
pub type Change = (std::sync::Arc<[u8]>, Box<[u8]>);

/// What has changed in a space.
#[derive(Debug, Default)]
pub struct Changes {
    /// The space.
    pub space: String,
    /// Whether everything that is there goes first.
    pub clear: bool,
    /// Keys that go.
    pub gone: Vec<std::sync::Arc<[u8]>>,
    /// Keys that come or change, after the others have gone.
    pub set: Vec<Change>,
}

impl Changes {
    /// Whether there is nothing to save.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        !self.clear && self.gone.is_empty() && self.set.is_empty()
    }
}

impl Counters {
    /// Opens the file, or makes it.
    ///
    /// # Errors
    /// [`CountersError`].
    pub fn open(path: &Path) -> Result<Self, CountersError> {
        let opening = |error| CountersError::Open(path.to_owned(), error);
        let lock = File::options()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(MODE)
            .open(path.with_extension("db.lock"))
            .map_err(opening)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(std::fs::TryLockError::WouldBlock) => return Err(CountersError::InUse(path.to_owned())),
            Err(std::fs::TryLockError::Error(error)) => return Err(opening(error)),
        }
        // SQLite would make the file with the process's umask; who writes to whom is nobody else's business.
        File::options().write(true).create(true).truncate(false).mode(MODE).open(path).map_err(opening)?;
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let opened = Connection::open_with_flags(path, flags).and_then(|connection| {
            connection.busy_timeout(BUSY)?;
            connection.pragma_update_and_check(None, "journal_mode", "WAL", |_| Ok(()))?;
            connection.pragma_update(None, "synchronous", "NORMAL")?;
            connection.execute_batch(
                "CREATE TABLE IF NOT EXISTS counters (space TEXT NOT NULL, key BLOB NOT NULL, value BLOB NOT NULL, \
                 PRIMARY KEY (space, key)) WITHOUT ROWID",
            )?;
            Ok(connection)
        });
        match opened {
            Ok(connection) => Ok(Self { path: path.to_owned(), connection, _lock: lock }),
            Err(error) => Err(CountersError::Sqlite(path.to_owned(), error)),
        }
    }

    /// Everything in a space.
    ///
    /// # Errors
    /// [`CountersError`].
    pub fn load(&self, space: &str) -> Result<Vec<Entry>, CountersError> {
        let read = || {
            let mut statement = self.connection.prepare_cached("SELECT key, value FROM counters WHERE space = ?1")?;
            let rows = statement.query_map([space], |row| {
                Ok((row.get::<_, Vec<u8>>(0)?.into_boxed_slice(), row.get::<_, Vec<u8>>(1)?.into_boxed_slice()))
            })?;
            rows.collect::<rusqlite::Result<Vec<Entry>>>()
        };
        read().map_err(|error| self.error(error))
    }

    /// Saves changes, all or none.
    ///
    /// # Errors
    /// [`CountersError`].
    pub fn save(&mut self, changes: &[Changes]) -> Result<(), CountersError> {
        if changes.iter().all(Changes::is_empty) {
            return Ok(());
        }
        let mut write = || {
            let transaction = self.connection.transaction()?;
            {
                let mut clear = transaction.prepare_cached("DELETE FROM counters WHERE space = ?1")?;
                let mut remove = transaction.prepare_cached("DELETE FROM counters WHERE space = ?1 AND key = ?2")?;
                let mut set = transaction
                    .prepare_cached("INSERT OR REPLACE INTO counters (space, key, value) VALUES (?1, ?2, ?3)")?;
                for change in changes {
                    if change.clear {
                        clear.execute([&change.space])?;
                    }
                    for key in &change.gone {
                        remove.execute(params![change.space, &key[..]])?;
                    }
                    for (key, value) in &change.set {
                        set.execute(params![change.space, &key[..], &value[..]])?;
                    }
                }
            }
            transaction.commit()
        };
        write().map_err(|error| self.error(error))
    }

    fn error(&self, error: rusqlite::Error) -> CountersError {
        CountersError::Sqlite(self.path.clone(), error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(space: &str, key: &[u8], value: &[u8]) -> Changes {
        Changes { space: space.into(), set: vec![(key.into(), value.into())], ..Changes::default() }
    }

    #[test]
    fn what_is_saved_is_there_after_it_is_opened_again() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("policy.db");
        let mut counters = Counters::open(&path).unwrap();
        counters.save(&[set("a", b"x\0", b"1"), set("a", b"y", b"2"), set("b", b"x\0", b"3")]).unwrap();
        let second = set("a", b"y", b"4");
        let gone = Changes { space: "a".into(), gone: vec![b"x\0"[..].into()], ..Changes::default() };
        counters.save(&[gone, second]).unwrap();
        assert!(matches!(Counters::open(&path), Err(CountersError::InUse(_))), "one process at a time");
        drop(counters);
        let mut counters = Counters::open(&path).unwrap();
        assert_eq!(counters.load("a").unwrap(), [(b"y"[..].into(), b"4"[..].into())]);
        assert_eq!(counters.load("b").unwrap().len(), 1);
        counters.save(&[Changes { clear: true, ..set("b", b"z", b"5") }]).unwrap();
        assert_eq!(counters.load("b").unwrap(), [(b"z"[..].into(), b"5"[..].into())]);
    }

    #[test]
    fn a_file_that_cannot_be_opened_is_named() {
        let root = tempfile::tempdir().unwrap();
        let error = Counters::open(&root.path().join("absent/policy.db")).unwrap_err();
        assert!(error.to_string().contains("absent/policy.db"), "{error}");
        let path = root.path().join("policy.db");
        std::fs::write(&path, "this is no database, and long enough for SQLite to see that it is none".repeat(20))
            .unwrap();
        assert!(matches!(Counters::open(&path), Err(CountersError::Sqlite(..))));
    }
}
