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

impl Mail {
    /// The folder of a mailbox below `root`, from the `maildir` form.
    #[must_use]
    pub fn maildir_of(&self, local: &str, domain: &str) -> String {
        let mut path = String::with_capacity(self.maildir.len() + local.len() + domain.len());
        let mut rest = self.maildir.as_str();
        while let Some(at) = rest.find('{') {
            path.push_str(&rest[..at]);
            rest = &rest[at..];
            let (value, taken) = if rest.starts_with("{address}") {
                (format!("{local}@{domain}"), "{address}".len())
            } else if rest.starts_with("{local}") {
                (local.to_owned(), "{local}".len())
            } else if rest.starts_with("{domain}") {
                (domain.to_owned(), "{domain}".len())
            } else {
                ("{".to_owned(), 1)
            };
            path.push_str(&value);
            rest = &rest[taken..];
        }
        path.push_str(rest);
        path
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_maildir_form_is_filled_in_once() {
        for (form, expected) in [
            ("{address}/", "in{domain}fo@example.jp/"),
            ("{domain}/{local}/Maildir/", "example.jp/in{domain}fo/Maildir/"),
            ("{other}/", "{other}/"),
        ] {
            let mail = Mail { maildir: form.into(), ..Mail::default() };
            assert_eq!(mail.maildir_of("in{domain}fo", "example.jp"), expected);
        }
    }
}
