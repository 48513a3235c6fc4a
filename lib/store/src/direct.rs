//! One blocking connection a call, for a PAM module without a daemon.
//!
//! The caller is a guest in somebody else's process, so this is a client of its own rather than a pool or a driver made
//! for servers: every step, connecting to a Unix socket among them, ends at a deadline; no thread, no state between calls;
//! packets of a broken server are refused, never indexed blindly; the password is wiped.
//!
//! # What it speaks
//! MySQL's protocol 4.1, prepared statements only: text of queries comes from the administrator's configuration, values
//! are bound. Statements are one at a time (no CLIENT_MULTI_STATEMENTS), and no local files. Accounts that log in by
//! mysql_native_password, caching_sha2_password (in full over a socket, with the server's RSA key over TCP) or ed25519.
//! No TLS, no compression, no mysql_old_password or cleartext: ask a daemon over its socket when you need TLS.
//!
//! # Limits
//! [`CONNECT_MAX`], [`ANSWER_MAX`], [`CALL_MAX`]; a packet is at most [`PACKET_MAX`] bytes, a row at most
//! [`COLUMNS_MAX`] columns. Names are resolved by the C library, which has limits of its own (resolv.conf): give an
//! address where that matters.
//!
//! # Oddities
//! - libmariadb takes the host `localhost` for its Unix socket whatever the port says, so we do
//!   ([`DEFAULT_SOCKET`]).
//! - MySQL sends nonces with a NUL behind that is not part of them.
//!
//! Source: MySQL's and MariaDB's protocol documentation; MariaDB 10.11 as Debian 12 has it.

use std::fmt;
use std::time::{Duration, Instant};

mod auth;
mod binary;
mod connection;
mod lookup;
#[cfg(test)]
mod server_tests;
mod stream;

pub use lookup::{Log, Lookup, Row, Rows};

/// How long connecting may take.
pub const CONNECT_MAX: Duration = Duration::from_secs(1);
/// How long the server may take for one answer.
pub const ANSWER_MAX: Duration = Duration::from_secs(2);
/// How long a session may take in all, from opening to the last answer.
pub const CALL_MAX: Duration = Duration::from_millis(2900);
/// Largest packet taken from the server, in bytes.
pub const PACKET_MAX: usize = 1024 * 1024;
/// Most columns of a result, and most parameters of a statement.
pub const COLUMNS_MAX: usize = 64;
/// Where Debian's server listens.
pub const DEFAULT_SOCKET: &str = "/run/mysqld/mysqld.sock";
/// MySQL's TCP port.
pub const DEFAULT_PORT: u16 = 3306;

/// Where the server is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Host {
    /// Path of a Unix socket.
    Socket(String),
    /// Name or address, and port.
    Tcp(String, u16),
}

impl Host {
    /// As pam_mysql reads `host`: an absolute path is a socket, else `name` or `name:port`; nothing and `localhost` are
    /// [`DEFAULT_SOCKET`]. The first colon splits, unless the name stands in brackets (IPv6). A port that is no number
    /// is the default one.
    pub fn parse(text: Option<&str>) -> Self {
        let text = text.unwrap_or_default();
        if text.starts_with('/') {
            return Self::Socket(text.to_owned());
        }
        let (name, port) = match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            Some((name, port)) => (name, port.strip_prefix(':')),
            None => text.split_once(':').map_or((text, None), |(name, port)| (name, Some(port))),
        };
        if name.is_empty() || name == "localhost" {
            return Self::Socket(DEFAULT_SOCKET.to_owned());
        }
        let port = port.and_then(|port| port.parse().ok()).filter(|&port| port != 0).unwrap_or(DEFAULT_PORT);
        Self::Tcp(name.to_owned(), port)
    }
}

/// A server, an account on it and a database. The password is the caller's to wipe.
#[derive(Clone, Copy)]
pub struct Source<'a> {
    /// Where the server is.
    pub host: &'a Host,
    /// Account on the server.
    pub user: &'a str,
    /// Its password; empty for none.
    pub password: &'a str,
    /// The database to use.
    pub database: &'a str,
}

/// Could not find out, and why. Shown without values: messages of the server are cut and escaped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unavailable {
    /// No connection.
    Connect(std::io::ErrorKind),
    /// No answer in time.
    Timeout,
    /// The connection broke.
    Lost,
    /// The server speaks something else, or more than our limits.
    Protocol(&'static str),
    /// The server refused: its error number and words.
    Server {
        /// Error number, as 1045 (access denied).
        code: u16,
        /// What it says, escaped, at most 200 bytes.
        message: String,
    },
}

impl fmt::Display for Unavailable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connect(kind) => write!(f, "cannot connect to the database server: {kind}"),
            Self::Timeout => f.write_str("the database server did not answer in time"),
            Self::Lost => f.write_str("the connection to the database server broke"),
            Self::Protocol(what) => write!(f, "the database server sent {what}"),
            Self::Server { code, message } => write!(f, "the database server says {code}: {message}"),
        }
    }
}

impl std::error::Error for Unavailable {}

/// A connection that is logged in. Dropping it says good-bye without waiting.
pub struct Session {
    connection: connection::Connection,
    database: String,
}

impl Session {
    /// Connect and log in.
    ///
    /// # Errors
    /// [`Unavailable`], at the latest after [`CALL_MAX`].
    pub fn open(source: &Source<'_>) -> Result<Self, Unavailable> {
        let connection = connection::Connection::open(source, Instant::now() + CALL_MAX)?;
        Ok(Self { connection, database: source.database.to_owned() })
    }

    /// The rows of `user`, two at most: more than one is more than an account.
    ///
    /// # Errors
    /// [`Unavailable`] for every way of not finding out, a mistake in the configured names among them.
    pub fn find(&mut self, lookup: &Lookup<'_>, user: &[u8]) -> Result<Rows, Unavailable> {
        lookup.find(&mut self.connection, &self.database, user)
    }

    /// Store a hash for `user`. Whether any row was changed is not told, as pam_mysql does not ask.
    ///
    /// # Errors
    /// [`Unavailable`].
    pub fn update(&mut self, lookup: &Lookup<'_>, user: &[u8], hash: &[u8]) -> Result<(), Unavailable> {
        lookup.update(&mut self.connection, user, hash)
    }

    /// Write a row into the log table.
    ///
    /// # Errors
    /// [`Unavailable`].
    pub fn log(&mut self, log: &Log<'_>) -> Result<(), Unavailable> {
        log.insert(&mut self.connection)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_read_as_pam_mysql_reads_them() {
        let socket = |path: &str| Host::Socket(path.into());
        let tcp = |name: &str, port| Host::Tcp(name.into(), port);
        for (text, host) in [
            (None, socket(DEFAULT_SOCKET)),
            (Some(""), socket(DEFAULT_SOCKET)),
            (Some("localhost"), socket(DEFAULT_SOCKET)),
            (Some("localhost:3307"), socket(DEFAULT_SOCKET)),
            (Some("/tmp/s"), socket("/tmp/s")),
            (Some("127.0.0.1"), tcp("127.0.0.1", 3306)),
            (Some("db:3307"), tcp("db", 3307)),
            (Some("db:"), tcp("db", 3306)),
            (Some("db:x"), tcp("db", 3306)),
            (Some("db:99999"), tcp("db", 3306)),
            (Some("[::1]:3307"), tcp("::1", 3307)),
            (Some("[::1]"), tcp("::1", 3306)),
        ] {
            assert_eq!(Host::parse(text), host, "{text:?}");
        }
    }
}
