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
    /// Whether a message that already carries this recipient's Delivered-To is refused as a loop. Switch it off where
    /// Postfix adds Delivered-To itself before delivery (`flags=D` in master.cf).
    pub detect_loops: bool,
    /// What `detail` of `user+detail@domain` does.
    pub detail: Detail,
    /// How mail for a full mailbox is refused.
    pub over_quota: OverQuota,
    /// Deliveries that are written to disk at once.
    pub writers: usize,
    /// Mode of new message files.
    pub file_mode: Mode,
    /// Mode of new folders.
    pub dir_mode: Mode,
    /// TCP peers whose XFORWARD is believed, as `address` or `address/bits`. Unix sockets are always believed.
    pub xforward_from: Vec<String>,
    /// How long a delivery is remembered, so that a client which missed our answer and sends the message again does not
    /// leave a second copy; "0s" for not at all, a day at most.
    pub retry_window: Span,
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
            detail: Detail::Inbox,
            over_quota: OverQuota::Reject,
            writers: 64,
            file_mode: Mode(0o600),
            dir_mode: Mode(0o700),
            xforward_from: vec!["127.0.0.0/8".into(), "::1".into()],
            retry_window: Span(Duration::from_secs(2 * 3600)),
        }
    }
}

/// What `detail` of `user+detail@domain` does to a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Detail {
    /// Nothing: all mail goes to the inbox.
    Inbox,
    /// It names the folder, if there is one of this name; else the inbox.
    Folder,
    /// It names the folder, which is made and subscribed to where it is missing.
    Create,
}

/// How mail for a full mailbox is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OverQuota {
    /// For good: the sender gets a bounce.
    Reject,
    /// For now: the message waits in the queue.
    Defer,
}

/// Permission bits, written in octal: "0600".
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Mode(pub u32);

impl TryFrom<String> for Mode {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let bits = u32::from_str_radix(&text, 8).ok().filter(|bits| *bits <= 0o7777 && bits & 0o600 == 0o600);
        let wrong =
            || format!("\"{text}\" is no mode in which the owner can read and write; write \"0600\" or \"0700\"");
        bits.map(Self).ok_or_else(wrong)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delivery_settings_are_read() {
        let lmtp: Lmtp = toml::from_str(
            "detail = \"create\"\nover_quota = \"defer\"\nfile_mode = \"0640\"\ndir_mode = \"2750\"\nwriters = 8\n\
             xforward_from = [\"10.0.0.0/8\"]\nretry_window = \"0s\"\n",
        )
        .unwrap();
        assert_eq!((lmtp.detail, lmtp.over_quota, lmtp.writers), (Detail::Create, OverQuota::Defer, 8));
        assert_eq!((lmtp.file_mode, lmtp.dir_mode), (Mode(0o640), Mode(0o2750)));
        assert_eq!(
            (&lmtp.xforward_from[..], lmtp.retry_window),
            (&["10.0.0.0/8".to_owned()][..], Span(Duration::ZERO))
        );
    }

    #[test]
    fn a_mode_that_shuts_its_owner_out_is_refused() {
        for mode in ["rw", "0400", "0888", "17777", "-600", ""] {
            let error = toml::from_str::<Lmtp>(&format!("file_mode = \"{mode}\"\n")).unwrap_err().to_string();
            assert!(error.contains("is no mode"), "{mode}: {error}");
        }
    }
}
