//! Blocking client of the mailsql daemon, for programs that are guests in somebody else's process: PAM, NSS, checkpassword,
//! and for the command.
//!
//! # Promises to the host process
//! - One connection a call, closed on every path; nothing outlives the call: no thread, fd, signal handler or static state.
//!   So it may be called from any thread and on either side of a fork.
//! - One deadline for the whole exchange, set before connect: a daemon that is stopped, or whose queue of connections is
//!   full, costs no more than that.
//! - The socket is close-on-exec, never takes the place of a closed stdin, stdout or stderr, and raises no SIGPIPE.
//! - The request, which may hold a password, exists once and is wiped from memory.
//!
//! # Answers
//! No daemon, a refused connection, a timeout, garbage and the daemon's own `unavailable` are all [`Unavailable`]: the
//! caller has one place for "could not find out" and cannot take it for "unknown".
//!
//! # Limits
//! [`DEADLINE`], and the line lengths of [`mailsql_proto::ask`]. A socket path is at most 107 bytes (`sockaddr_un`).

use std::path::{Path, PathBuf};
use std::time::Duration;

use mailsql_proto::ask::Request;
pub use mailsql_proto::ask::{self, Reply};

mod control;
mod exchange;
mod ffi;
#[cfg(test)]
mod tests;
mod unavailable;

pub use control::Control;
pub use unavailable::Unavailable;

/// Where the daemon answers logins and lookups: root, dovecot and the group mailsql-auth.
pub const ASK_SOCKET: &str = "/run/mailsql/ask.sock";
/// Where the daemon answers lookups of accounts and groups to everybody.
pub const NSS_SOCKET: &str = "/run/mailsql/nss.sock";
/// Where each daemon keeps its control socket, `PROGRAM.PID.sock`.
pub const CONTROL_DIR: &str = "/run/mailsql/control";
/// What an exchange may take unless the caller says otherwise.
pub const DEADLINE: Duration = Duration::from_secs(3);

/// A daemon's socket and how long to wait for it. Holds no connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Client {
    path: PathBuf,
    deadline: Duration,
}

impl Client {
    /// A client of the daemon at `path`; each [`Client::ask`] takes `deadline` at most.
    pub fn new(path: impl Into<PathBuf>, deadline: Duration) -> Self {
        Self { path: path.into(), deadline }
    }

    /// The socket asked.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Ask once.
    ///
    /// # Errors
    /// [`Unavailable`] for every way of not finding out, the daemon's own among them: `Ok` is never
    /// [`Reply::Unavailable`].
    pub fn ask(&self, request: &Request<'_>) -> Result<Reply, Unavailable> {
        match exchange::exchange(&self.path, self.deadline, request)? {
            Reply::Unavailable { reason } => Err(Unavailable::Daemon(reason)),
            reply => Ok(reply),
        }
    }
}
