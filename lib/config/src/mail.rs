//! `[mail]`: where mail is kept and how addresses are read.

use serde::Deserialize;
use std::path::PathBuf;

/// `[mail]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Mail {
    /// The folder below which all mailboxes lie.
    pub root: PathBuf,
    /// A mailbox's folder below `root`: `{address}`, `{local}` and `{domain}` are replaced.
    pub maildir: String,
    /// Owner of the mail files.
    pub uid: u32,
    /// Group of the mail files.
    pub gid: u32,
    /// Characters that part `user` from `detail`, as Postfix's parameter of this name; empty for none.
    pub recipient_delimiter: String,
    /// Domain of login names without `@`.
    pub default_domain: Option<String>,
    /// Name of this host in `Received:` headers and Maildir file names; the system's own if absent.
    pub hostname: Option<String>,
}

impl Default for Mail {
    fn default() -> Self {
        Self {
            root: "/var/spool/vmail".into(),
            maildir: "{address}/".into(),
            uid: 5000,
            gid: 5000,
            recipient_delimiter: "+".into(),
            default_domain: None,
            hostname: None,
        }
    }
}
