//! An account as the database tells it, and what its state allows at a given moment.

use crate::{Address, network};
use std::net::IpAddr;

/// One mailbox account. Optional fields are absent where the schema does not know them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// The address in the database's own spelling.
    pub address: Address,
    /// The stored password value, `None` for NULL: nobody logs in with it.
    pub password: Option<StoredPassword>,
    /// Switched off by the administrator, or its domain is.
    pub enabled: bool,
    /// Whether it takes mail; without it logins go on.
    pub receives: bool,
    /// The account is closed from this moment on (seconds since 1970).
    pub expires_at: Option<i64>,
    /// The password must be changed from this moment on (seconds since 1970).
    pub password_expires_at: Option<i64>,
    /// Services that this account may use (`imap`, `smtp`, …); `None` for all. `!imap` shuts that one; a list that names
    /// nothing but shut ones leaves all others open.
    pub services: Option<Vec<Box<str>>>,
    /// Networks from which it may log in, as `address/bits`, or `local` for clients whose address the protocol does not
    /// tell; `None` for everywhere.
    pub allow_nets: Option<Vec<Box<str>>>,
    /// Whether it has app passwords, which are asked for by [`crate::Directory::app_passwords`].
    pub has_app_passwords: bool,
    /// Maildir below the mail root, or an absolute path; `None` for the configured form.
    pub maildir: Option<Box<str>>,
    /// Home directory where it differs from the Maildir.
    pub home: Option<Box<str>>,
    /// Owner of the mail files where the row names one.
    pub uid: Option<u32>,
    /// Group of the mail files where the row names one.
    pub gid: Option<u32>,
    /// Limits on what the mailbox may hold.
    pub quota: Quota,
}

/// Limits on a mailbox; `None` for no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Quota {
    /// Bytes of stored messages.
    pub bytes: Option<u64>,
    /// Number of messages.
    pub messages: Option<u64>,
}

/// A password hash (or whatever the column holds). Shown as `***` by `Debug`.
#[derive(Clone, PartialEq, Eq)]
pub struct StoredPassword(pub Box<str>);

impl std::fmt::Debug for StoredPassword {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("***")
    }
}

impl Account {
    /// An enabled account with nothing but an address and a stored password.
    #[must_use]
    pub fn new(address: Address, password: Option<Box<str>>) -> Self {
        Self {
            address,
            password: password.map(StoredPassword),
            enabled: true,
            receives: true,
            expires_at: None,
            password_expires_at: None,
            services: None,
            allow_nets: None,
            has_app_passwords: false,
            maildir: None,
            home: None,
            uid: None,
            gid: None,
            quota: Quota::default(),
        }
    }

    /// Whether mail and logins are refused at `now` (seconds since 1970): disabled, or past its end.
    #[must_use]
    pub fn closed(&self, now: i64) -> bool {
        !self.enabled || self.expires_at.is_some_and(|end| end <= now)
    }

    /// Whether the password has run out at `now` (seconds since 1970).
    #[must_use]
    pub fn password_expired(&self, now: i64) -> bool {
        self.password_expires_at.is_some_and(|end| end <= now)
    }

    /// Whether the account may use `service`. An empty service name (a test without one) is allowed.
    #[must_use]
    pub fn allows_service(&self, service: &str) -> bool {
        allows_service(self.services.as_deref(), service)
    }

    /// Whether the account may be used from where the client is.
    #[must_use]
    pub fn allows_client(&self, client: Option<IpAddr>) -> bool {
        network::allows(self.allow_nets.as_deref(), client)
    }
}

/// A further password of an account, made for one device or program. It is random and long, and so stored as one salted
/// digest, which is verified in no time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AppPassword {
    /// Its number in the database.
    pub id: i64,
    /// What it is for, in the owner's words.
    pub label: Box<str>,
    /// The stored value.
    pub password: StoredPassword,
    /// Services that it is good for; `None` for all that the account may use.
    pub services: Option<Vec<Box<str>>>,
    /// Networks from which it is good, as [`Account::allow_nets`].
    pub allow_nets: Option<Vec<Box<str>>>,
    /// It is no good from this moment on (seconds since 1970).
    pub expires_at: Option<i64>,
    /// When it was made (seconds since 1970).
    pub created_at: Option<i64>,
    /// When it was last used (seconds since 1970), some seconds late.
    pub last_used_at: Option<i64>,
    /// From where it was last used.
    pub last_used_from: Option<Box<str>>,
}

impl AppPassword {
    /// Whether it is no good any more at `now` (seconds since 1970).
    #[must_use]
    pub fn expired(&self, now: i64) -> bool {
        self.expires_at.is_some_and(|end| end <= now)
    }

    /// Whether it is good for `service`.
    #[must_use]
    pub fn allows_service(&self, service: &str) -> bool {
        allows_service(self.services.as_deref(), service)
    }

    /// Whether it is good from where the client is.
    #[must_use]
    pub fn allows_client(&self, client: Option<IpAddr>) -> bool {
        network::allows(self.allow_nets.as_deref(), client)
    }
}

fn allows_service(services: Option<&[Box<str>]>, service: &str) -> bool {
    match services {
        None => true,
        Some(_) if service.is_empty() => true,
        Some(names) => {
            let shut = |name: &str| name.strip_prefix('!').is_some_and(|shut| shut.eq_ignore_ascii_case(service));
            !names.iter().any(|name| shut(name))
                && (names.iter().all(|name| name.starts_with('!'))
                    || names.iter().any(|name| name.eq_ignore_ascii_case(service)))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_account_is_closed_when_disabled_or_past_its_end() {
        let mut account = Account::new(Address::parse("info@example.jp").unwrap(), None);
        assert!(!account.closed(100));
        account.expires_at = Some(100);
        assert!(!account.closed(99));
        assert!(account.closed(100));
        account.expires_at = None;
        account.enabled = false;
        assert!(account.closed(0));
    }

    #[test]
    fn a_stored_password_is_never_shown() {
        let account = Account::new(Address::parse("info@example.jp").unwrap(), Some("$6$secret".into()));
        assert!(!format!("{account:?}").contains("secret"));
    }

    #[test]
    fn services_limit_what_an_account_may_use() {
        let mut account = Account::new(Address::parse("info@example.jp").unwrap(), None);
        assert!(account.allows_service("imap"));
        account.services = Some(vec!["imap".into(), "pop3".into()]);
        assert!(account.allows_service("IMAP"));
        assert!(!account.allows_service("smtp"));
        account.services = Some(vec!["!pop3".into(), "!smtp".into()]);
        for (service, allowed) in [("imap", true), ("POP3", false), ("smtp", false), ("", true)] {
            assert_eq!(account.allows_service(service), allowed, "{service}");
        }
    }
}
