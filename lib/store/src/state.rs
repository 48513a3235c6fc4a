//! The small database of a daemon's own, `PROGRAM.db` in `[state] dir`: what outlives a restart.
//!
//! One writer each: a lock on `PROGRAM.db.lock` is held for the life of [`State`], so that a second process of the same
//! program goes without instead of writing over the first one's rows. WAL with `synchronous = NORMAL`: a change that was
//! written survives `kill -9`; a power cut may cost the last ones. A file that is no database, or of a later version, is
//! an error for the caller, who goes on without.
//!
//! All calls block for as long as a disk takes; daemons make them on blocking threads.

use mailsql_core::Network;
use mailsql_core::throttle::{Change, Count};
use rusqlite::{Connection, OpenFlags, Transaction};
use std::collections::HashMap;
use std::fs::{File, OpenOptions, TryLockError};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// The version of the tables, in `PRAGMA user_version`.
const VERSION: i32 = 1;
/// Longest wait for somebody who looks at the file.
const BUSY: Duration = Duration::from_secs(2);

const TABLES: &str = "
    CREATE TABLE IF NOT EXISTS throttle_network(
        network TEXT PRIMARY KEY, level INTEGER NOT NULL, at INTEGER NOT NULL, until INTEGER NOT NULL) WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS throttle_login(
        login TEXT PRIMARY KEY, level INTEGER NOT NULL, at INTEGER NOT NULL) WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS throttle_known(
        login TEXT NOT NULL, network TEXT NOT NULL, seen INTEGER NOT NULL, level INTEGER NOT NULL, at INTEGER NOT NULL,
        PRIMARY KEY(login, network)) WITHOUT ROWID;";

/// Why there is no state.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// The folder or file cannot be used.
    #[error("{0}: {1}")]
    Io(PathBuf, std::io::Error),
    /// Another process of this program writes it.
    #[error("{0}: another process of this program has it")]
    Taken(PathBuf),
    /// A later version wrote it.
    #[error("{0}: written by a later version ({1}) of mailsql")]
    Later(PathBuf, i32),
    /// SQLite's word.
    #[error("{0}: {1}")]
    Sqlite(PathBuf, rusqlite::Error),
}

/// A daemon's own database.
pub struct State {
    path: PathBuf,
    connection: Mutex<Connection>,
    _lock: File,
}

impl State {
    /// Opens or makes the database of a program.
    ///
    /// # Errors
    /// [`StateError`] with the file and what is wrong with it.
    pub fn open(dir: &Path, program: &str) -> Result<Self, StateError> {
        let path = dir.join(format!("{program}.db"));
        let lock_path = dir.join(format!("{program}.db.lock"));
        let io = |error| StateError::Io(lock_path.clone(), error);
        let lock =
            OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(&lock_path).map_err(io)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(StateError::Taken(path)),
            Err(TryLockError::Error(error)) => return Err(io(error)),
        }
        // SQLite would make the file with the process's umask; who tried which login is nobody else's business.
        let made = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(&path);
        made.map_err(|error| StateError::Io(path.clone(), error))?;
        let connection = connect(&path)?;
        Ok(Self { path, connection: Mutex::new(connection), _lock: lock })
    }

    /// The file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What the throttle wrote down.
    ///
    /// # Errors
    /// [`StateError`].
    pub fn load_throttle(&self) -> Result<Vec<Change>, StateError> {
        load(&self.lock()).map_err(|error| self.trouble(error))
    }

    /// Writes down what changed in the throttle, all or nothing.
    ///
    /// # Errors
    /// [`StateError`].
    pub fn save_throttle(&self, changes: &[Change]) -> Result<(), StateError> {
        let mut connection = self.lock();
        let saved = connection.transaction().and_then(|transaction| {
            changes.iter().try_for_each(|change| save(&transaction, change))?;
            transaction.commit()
        });
        saved.map_err(|error| self.trouble(error))
    }

    fn lock(&self) -> MutexGuard<'_, Connection> {
        self.connection.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn trouble(&self, error: rusqlite::Error) -> StateError {
        StateError::Sqlite(self.path.clone(), error)
    }
}

fn connect(path: &Path) -> Result<Connection, StateError> {
    let trouble = |error| StateError::Sqlite(path.to_owned(), error);
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags).map_err(trouble)?;
    let version = || -> rusqlite::Result<i32> {
        connection.busy_timeout(BUSY)?;
        connection.pragma_update_and_check(None, "journal_mode", "WAL", |row| row.get::<_, String>(0))?;
        connection.pragma_update(None, "synchronous", "NORMAL")?;
        connection.pragma_query_value(None, "user_version", |row| row.get(0))
    };
    match version().map_err(trouble)? {
        later if later > VERSION => return Err(StateError::Later(path.to_owned(), later)),
        _ => {
            connection.execute_batch(TABLES).map_err(trouble)?;
            connection.pragma_update(None, "user_version", VERSION).map_err(trouble)?;
        }
    }
    Ok(connection)
}

fn load(connection: &Connection) -> rusqlite::Result<Vec<Change>> {
    let mut changes = Vec::new();
    let mut statement = connection.prepare("SELECT network, level, at, until FROM throttle_network")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        // A row that somebody wrote by hand and wrongly is left out.
        if let Some(network) = network(row.get_ref(0)?) {
            let count = Some(Count::restored(row.get(1)?, row.get(2)?, row.get(3)?));
            changes.push(Change::Network { network, count });
        }
    }
    type Held = (Option<Count>, Vec<(Network, i64, Count)>);
    let mut logins: HashMap<Box<str>, Held> = HashMap::new();
    let mut statement = connection.prepare("SELECT login, level, at FROM throttle_login")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        logins.entry(row.get(0)?).or_default().0 = Some(Count::restored(row.get(1)?, row.get(2)?, 0));
    }
    let mut statement = connection.prepare("SELECT login, network, seen, level, at FROM throttle_known")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        if let Some(network) = network(row.get_ref(1)?) {
            let count = Count::restored(row.get(3)?, row.get(4)?, 0);
            logins.entry(row.get(0)?).or_default().1.push((network, row.get(2)?, count));
        }
    }
    changes.extend(logins.into_iter().map(|(login, (count, known))| Change::Login { login, count, known }));
    Ok(changes)
}

fn network(value: rusqlite::types::ValueRef<'_>) -> Option<Network> {
    value.as_str().ok()?.parse().ok()
}

fn save(transaction: &Transaction<'_>, change: &Change) -> rusqlite::Result<()> {
    let run = |sql: &str, values: &[&dyn rusqlite::ToSql]| transaction.prepare_cached(sql)?.execute(values).map(drop);
    match change {
        Change::Network { network, count: None } => {
            run("DELETE FROM throttle_network WHERE network = ?1", &[&network.to_string()])
        }
        Change::Network { network, count: Some(count) } => {
            let (level, at, until) = count.parts();
            let values: [&dyn rusqlite::ToSql; 4] = [&network.to_string(), &level, &at, &until];
            run("INSERT OR REPLACE INTO throttle_network(network, level, at, until) VALUES(?1, ?2, ?3, ?4)", &values)
        }
        Change::Login { login, count, known } => {
            run("DELETE FROM throttle_known WHERE login = ?1", &[login])?;
            match count.as_ref().map(Count::parts) {
                Some((level, at, _)) if level > 0 => {
                    let sql = "INSERT OR REPLACE INTO throttle_login(login, level, at) VALUES(?1, ?2, ?3)";
                    run(sql, &[login, &level, &at])?;
                }
                _ => run("DELETE FROM throttle_login WHERE login = ?1", &[login])?,
            }
            let sql = "INSERT INTO throttle_known(login, network, seen, level, at) VALUES(?1, ?2, ?3, ?4, ?5)";
            known.iter().try_for_each(|(network, seen, count)| {
                let (level, at, _) = count.parts();
                run(sql, &[login, &network.to_string(), seen, &level, &at])
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network(text: &str) -> Network {
        text.parse().unwrap()
    }

    #[test]
    fn what_was_written_is_read_back_and_what_is_gone_is_gone() {
        let dir = tempfile::tempdir().unwrap();
        let rows = [
            Change::Network { network: network("192.0.2.1/32"), count: Some(Count::restored(1500, 7, 9)) },
            Change::Login {
                login: "info@hoge.com".into(),
                count: Some(Count::restored(3000, 8, 0)),
                known: vec![(network("2001:db8::/64"), 5, Count::restored(1000, 6, 0))],
            },
        ];
        let state = State::open(dir.path(), "mailsql").unwrap();
        state.save_throttle(&rows).unwrap();
        drop(state);
        let state = State::open(dir.path(), "mailsql").unwrap();
        assert_eq!(state.load_throttle().unwrap(), rows);
        let gone = [
            Change::Network { network: network("192.0.2.1/32"), count: None },
            Change::Login { login: "info@hoge.com".into(), count: None, known: Vec::new() },
        ];
        state.save_throttle(&gone).unwrap();
        assert_eq!(state.load_throttle().unwrap(), []);
    }

    #[test]
    fn a_state_has_one_writer_and_programs_have_one_each() {
        let dir = tempfile::tempdir().unwrap();
        let first = State::open(dir.path(), "mailsql").unwrap();
        assert!(matches!(State::open(dir.path(), "mailsql"), Err(StateError::Taken(_))));
        let other = State::open(dir.path(), "policyd").unwrap();
        assert_ne!(first.path(), other.path());
        drop(first);
        State::open(dir.path(), "mailsql").unwrap();
    }

    #[test]
    fn a_file_that_is_no_database_or_a_later_one_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("a.db"), "x".repeat(8192)).unwrap();
        assert!(matches!(State::open(dir.path(), "a"), Err(StateError::Sqlite(..))));
        drop(State::open(dir.path(), "b").unwrap());
        let connection = Connection::open(dir.path().join("b.db")).unwrap();
        connection.pragma_update(None, "user_version", 99).unwrap();
        assert!(matches!(State::open(dir.path(), "b"), Err(StateError::Later(_, 99))));
        assert!(matches!(State::open(&dir.path().join("absent"), "c"), Err(StateError::Io(..))));
    }
}
