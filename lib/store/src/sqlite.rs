//! SQLite, embedded.
//!
//! One connection that writes and a few that read, all on blocking threads. WAL lets readers go on while one writes;
//! another process that writes is waited for [`BUSY`]. Opened anew for each process; nothing is shared over fork.

use crate::query::{Query, Row, Trouble, Value};
use crate::schema::Inventory;
use rusqlite::types::{Value as Native, ValueRef};
use rusqlite::{Connection, ErrorCode, OpenFlags};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::Semaphore;

/// Longest wait for another process that writes.
const BUSY: Duration = Duration::from_secs(2);
/// Reading connections at most.
const READERS: usize = 4;
/// Longest wait for a connection and its answer.
const DEADLINE: Duration = Duration::from_secs(3);

/// A database file.
pub struct Sqlite {
    path: PathBuf,
    readers: Arc<Mutex<Vec<Connection>>>,
    reading: Arc<Semaphore>,
    writing: Arc<Semaphore>,
}

impl Sqlite {
    /// Names a file; it is opened when first needed.
    #[must_use]
    pub fn new(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
            readers: Arc::default(),
            reading: Arc::new(Semaphore::new(READERS)),
            writing: Arc::new(Semaphore::new(1)),
        }
    }

    /// Makes the file with WAL, so that it can be opened by those who only read.
    ///
    /// # Errors
    /// [`Trouble`] when it cannot be made.
    pub async fn create(&self) -> Result<(), Trouble> {
        let path = self.path.clone();
        self.run(&self.writing, move || {
            let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE;
            let connection = open(&path, flags)?;
            let wal = connection.pragma_update_and_check(None, "journal_mode", "WAL", |row| row.get::<_, String>(0));
            match wal {
                Ok(mode) if mode.eq_ignore_ascii_case("wal") => Ok(()),
                Ok(mode) => Err(Trouble::Broken(format!("{}: stays in mode {mode} instead of WAL", path.display()))),
                Err(error) => Err(trouble(&path, &error)),
            }
        })
        .await
    }

    /// Runs a statement that reads.
    ///
    /// # Errors
    /// [`Trouble`].
    pub async fn query(&self, query: &Query, values: Vec<Value>) -> Result<Vec<Row>, Trouble> {
        let (path, readers, sql) = (self.path.clone(), Arc::clone(&self.readers), query.sql.clone());
        self.run(&self.reading, move || {
            let held = readers.lock().unwrap_or_else(PoisonError::into_inner).pop();
            let connection = match held {
                Some(connection) => connection,
                None => {
                    let connection = open(&path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
                    connection.pragma_update(None, "query_only", true).map_err(|error| trouble(&path, &error))?;
                    connection
                }
            };
            let rows = read(&connection, &sql, values).map_err(|error| trouble(&path, &error));
            // A connection that failed is not used again: the file may have been replaced.
            if rows.is_ok() {
                readers.lock().unwrap_or_else(PoisonError::into_inner).push(connection);
            }
            rows
        })
        .await
    }

    /// Runs a statement that changes something and says how many rows it met.
    ///
    /// # Errors
    /// [`Trouble`].
    pub async fn execute(&self, query: &Query, values: Vec<Value>) -> Result<u64, Trouble> {
        let (path, sql) = (self.path.clone(), query.sql.clone());
        self.run(&self.writing, move || {
            let connection = open(&path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
            let values = values.into_iter().map(native);
            let changed = connection.execute(&sql, rusqlite::params_from_iter(values));
            changed.map(|count| count as u64).map_err(|error| trouble(&path, &error))
        })
        .await
    }

    /// Runs one of our own statements that make tables.
    ///
    /// # Errors
    /// [`Trouble`].
    pub async fn define(&self, sql: &str) -> Result<(), Trouble> {
        let (path, sql) = (self.path.clone(), sql.to_owned());
        self.run(&self.writing, move || {
            let connection = open(&path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
            connection.execute_batch(&sql).map_err(|error| trouble(&path, &error))
        })
        .await
    }

    /// The tables and columns that are there.
    ///
    /// # Errors
    /// [`Trouble`].
    pub async fn inventory(&self) -> Result<Inventory, Trouble> {
        const SQL: &str = "SELECT m.name AS t, p.name AS c FROM sqlite_master m JOIN pragma_table_info(m.name) p \
                           WHERE m.type IN ('table', 'view')";
        let query = Query { name: "inventory".into(), sql: SQL.into(), parameters: Box::default() };
        let rows = self.query(&query, Vec::new()).await?;
        let mut inventory = Inventory::new();
        for row in rows {
            if let (Some(table), Some(column)) = (row.text("t"), row.text("c")) {
                inventory.insert(table.to_lowercase());
                inventory.insert(format!("{table}.{column}").to_lowercase());
            }
        }
        // SQLite has no procedures, so none is ever missing.
        inventory.insert("procedure insert_email".into());
        Ok(inventory)
    }

    async fn run<T: Send + 'static>(
        &self,
        slots: &Arc<Semaphore>,
        work: impl FnOnce() -> Result<T, Trouble> + Send + 'static,
    ) -> Result<T, Trouble> {
        let slow = || Trouble::Away(format!("{}: no answer within {DEADLINE:?}", self.path.display()));
        let whole = async {
            let permit = Arc::clone(slots).acquire_owned().await.map_err(|_| slow())?;
            let done = tokio::task::spawn_blocking(move || {
                let _permit = permit;
                work()
            });
            done.await.map_err(|_| Trouble::Away("a query was broken off".into()))?
        };
        tokio::time::timeout(DEADLINE, whole).await.map_err(|_| slow())?
    }
}

fn open(path: &Path, flags: OpenFlags) -> Result<Connection, Trouble> {
    let opened = Connection::open_with_flags(path, flags | OpenFlags::SQLITE_OPEN_NO_MUTEX).and_then(|connection| {
        connection.busy_timeout(BUSY)?;
        connection.pragma_update(None, "foreign_keys", true)?;
        Ok(connection)
    });
    opened.map_err(|error| trouble(path, &error))
}

fn read(connection: &Connection, sql: &str, values: Vec<Value>) -> rusqlite::Result<Vec<Row>> {
    let mut statement = connection.prepare_cached(sql)?;
    let columns: Arc<[Box<str>]> = statement.column_names().map(Box::from).collect();
    let mut rows = statement.query(rusqlite::params_from_iter(values.into_iter().map(native)))?;
    let mut answer = Vec::new();
    while let Some(row) = rows.next()? {
        let values = (0..columns.len()).map(|at| row.get_ref(at).map(plain)).collect::<rusqlite::Result<_>>()?;
        answer.push(Row { columns: Arc::clone(&columns), values });
    }
    Ok(answer)
}

fn native(value: Value) -> Native {
    match value {
        Value::Null => Native::Null,
        Value::Int(number) => Native::Integer(number),
        Value::Text(text) => Native::Text(text.into()),
    }
}

fn plain(value: ValueRef<'_>) -> Value {
    match value {
        ValueRef::Null => Value::Null,
        ValueRef::Integer(number) => Value::Int(number),
        ValueRef::Real(number) => Value::Text(number.to_string().into()),
        ValueRef::Text(bytes) | ValueRef::Blob(bytes) => Value::Text(String::from_utf8_lossy(bytes).into()),
    }
}

fn trouble(path: &Path, error: &rusqlite::Error) -> Trouble {
    let text = format!("{}: {error}", path.display());
    match error.sqlite_error_code() {
        Some(ErrorCode::ConstraintViolation) if is_unique(error) => Trouble::Duplicate,
        Some(ErrorCode::ReadOnly | ErrorCode::PermissionDenied | ErrorCode::AuthorizationForStatementDenied) => {
            Trouble::Denied(text)
        }
        Some(ErrorCode::CannotOpen) if !path.exists() => {
            Trouble::Away(format!("{}: no such file; `mailsql init` makes it", path.display()))
        }
        Some(ErrorCode::Unknown) if text.contains("no such") => Trouble::Schema(text),
        _ => Trouble::Away(text),
    }
}

fn is_unique(error: &rusqlite::Error) -> bool {
    matches!(error, rusqlite::Error::SqliteFailure(failure, _)
        if [rusqlite::ffi::SQLITE_CONSTRAINT_UNIQUE, rusqlite::ffi::SQLITE_CONSTRAINT_PRIMARYKEY]
            .contains(&failure.extended_code))
}
