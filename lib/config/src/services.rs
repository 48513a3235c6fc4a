//! The sections of the services. A service runs when its section is present.

use crate::listen::ListenList;
use crate::value::{Bytes, Span};
use serde::Deserialize;
use std::path::PathBuf;
use std::time::Duration;

/// `[saslauthd]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Saslauthd {
    /// The mux socket.
    pub listen: ListenList,
    /// Whether a request's login and realm are joined by `@` (saslauthd's `-r`). Virtual domains need it.
    pub combine_realm: bool,
    /// Requests worked on at once (saslauthd's `-n`).
    pub concurrency: usize,
    /// Connections at most.
    pub max_connections: usize,
}

impl Default for Saslauthd {
    fn default() -> Self {
        Self {
            listen: ListenList::unix("/run/saslauthd/mux"),
            combine_realm: true,
            concurrency: 256,
            max_connections: 1024,
        }
    }
}

/// `[maps]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Maps {
    /// Where Postfix's processes connect to.
    pub listen: ListenList,
    /// Connections at most.
    pub max_connections: usize,
}

impl Default for Maps {
    fn default() -> Self {
        Self { listen: ListenList::unix("/run/mailsql/maps.sock"), max_connections: 4096 }
    }
}

/// `[lmtp]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Lmtp {
    /// Where Postfix's lmtp(8) connects to.
    pub listen: ListenList,
    /// Sessions at most.
    pub max_connections: usize,
    /// Largest message taken.
    pub max_message_size: Bytes,
    /// Recipients of one message at most.
    pub max_recipients: usize,
    /// Longest silence of a client.
    pub idle_timeout: Span,
    /// Whether a message that already carries this recipient's Delivered-To is refused as a loop.
    pub detect_loops: bool,
}

impl Default for Lmtp {
    fn default() -> Self {
        Self {
            listen: ListenList::unix("/run/mailsql/lmtp.sock"),
            max_connections: 1024,
            max_message_size: Bytes(100 << 20),
            max_recipients: 1000,
            idle_timeout: Span(Duration::from_secs(300)),
            detect_loops: true,
        }
    }
}

/// `[ask]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Ask {
    /// The socket of PAM, checkpassword and the command.
    pub listen: ListenList,
    /// Connections at most.
    pub max_connections: usize,
}

impl Default for Ask {
    fn default() -> Self {
        Self { listen: ListenList::unix("/run/mailsql/ask.sock"), max_connections: 1024 }
    }
}

/// `[nss]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Nss {
    /// The socket of the NSS module.
    pub listen: ListenList,
    /// Connections at most.
    pub max_connections: usize,
    /// Domain whose users are also known by their bare names.
    pub short_names: Option<String>,
    /// Whether all users may be listed.
    pub enumerate: bool,
}

impl Default for Nss {
    fn default() -> Self {
        Self {
            listen: ListenList::unix("/run/mailsql/nss.sock"),
            max_connections: 1024,
            short_names: None,
            enumerate: false,
        }
    }
}

/// `[control]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Control {
    /// The folder in which each daemon makes its control socket, `PROGRAM.PID.sock`.
    pub dir: PathBuf,
}

impl Default for Control {
    fn default() -> Self {
        Self { dir: "/run/mailsql/control".into() }
    }
}

/// `[state]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct State {
    /// The folder of each daemon's own small database.
    pub dir: PathBuf,
}

impl Default for State {
    fn default() -> Self {
        Self { dir: "/var/lib/mailsql/state".into() }
    }
}

/// `[serve]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Serve {
    /// Account that daemons started as root change to.
    pub user: String,
    /// Its group.
    pub group: String,
    /// Threads that serve sockets; 0 for one a core.
    pub threads: usize,
}

impl Default for Serve {
    fn default() -> Self {
        Self { user: "mailsql".into(), group: "mailsql".into(), threads: 0 }
    }
}
