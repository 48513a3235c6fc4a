//! Why the daemon could not be asked.

use std::fmt;

use mailsql_proto::ask::Malformed;

/// "I could not find out", with the reason for a log. Shown without anything that was sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unavailable {
    /// There is no such socket: no daemon was started, or the path is wrong.
    NoSocket,
    /// A socket nobody listens on: its daemon ended.
    Dead,
    /// The host process may not use this socket (its group or mode).
    Denied,
    /// The deadline passed.
    Timeout,
    /// The connection ended before a whole reply came.
    Closed,
    /// The request does not fit the wire, or the reply is none.
    Malformed(Malformed),
    /// The socket path is empty, longer than 107 bytes or holds a NUL.
    Path,
    /// Another error of the operating system, by `errno`.
    Os(i32),
    /// The daemon says so itself; its reason may be empty.
    Daemon(Vec<u8>),
}

impl Unavailable {
    /// Whether the socket can be removed: it is there and no process listens on it.
    pub fn is_dead(&self) -> bool {
        matches!(self, Self::Dead)
    }

    pub(crate) fn connecting(errno: i32) -> Self {
        match errno {
            libc::ENOENT | libc::ENOTDIR => Self::NoSocket,
            libc::ECONNREFUSED => Self::Dead,
            libc::EACCES | libc::EPERM => Self::Denied,
            // SO_SNDTIMEO ran out while the daemon's queue of connections was full.
            libc::EAGAIN | libc::ETIMEDOUT => Self::Timeout,
            errno => Self::Os(errno),
        }
    }
}

impl fmt::Display for Unavailable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoSocket => f.write_str("no socket: is the mailsql daemon running?"),
            Self::Dead => f.write_str("connection refused: the mailsql daemon has ended"),
            Self::Denied => f.write_str("permission denied: this process is not in the socket's group"),
            Self::Timeout => f.write_str("no answer in time"),
            Self::Closed => f.write_str("connection closed without an answer"),
            Self::Malformed(why) => write!(f, "{why}"),
            Self::Path => f.write_str("not a usable socket path"),
            Self::Os(errno) => write!(f, "{}", std::io::Error::from_raw_os_error(*errno)),
            Self::Daemon(reason) if reason.is_empty() => f.write_str("the mailsql daemon is unavailable"),
            Self::Daemon(reason) => write!(f, "the mailsql daemon says: {}", reason.escape_ascii()),
        }
    }
}

impl std::error::Error for Unavailable {}

impl From<Malformed> for Unavailable {
    fn from(why: Malformed) -> Self {
        Self::Malformed(why)
    }
}
