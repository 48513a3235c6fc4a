//! The maps, by name. Postfix sends a socketmap only the whole key, in whatever case the client wrote it; stripping the
//! detail, catch-alls and folding are done here (`mailsql_core::resolve`).
//!
//! | map | key | value |
//! | --- | --- | --- |
//! | `domains` | domain | the domain |
//! | `mailboxes` | address | its Maildir below the mail root, with a final slash |
//! | `aliases` | address | where its mail goes, separated by commas |
//! | `senders` | address | the logins that may send as it, separated by commas |

use mailsql_core::address::check_domain;
use mailsql_core::{Address, Directory, Unavailable, resolve};
use mailsql_daemon::Shared;
use std::time::{SystemTime, UNIX_EPOCH};

/// A map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Map {
    /// `virtual_mailbox_domains`.
    Domains,
    /// `virtual_mailbox_maps`.
    Mailboxes,
    /// `virtual_alias_maps`.
    Aliases,
    /// `smtpd_sender_login_maps`.
    Senders,
}

impl Map {
    /// All maps.
    pub const ALL: [Self; 4] = [Self::Domains, Self::Mailboxes, Self::Aliases, Self::Senders];

    /// The name by which Postfix asks for it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Domains => "domains",
            Self::Mailboxes => "mailboxes",
            Self::Aliases => "aliases",
            Self::Senders => "senders",
        }
    }

    /// The map of this name.
    #[must_use]
    pub fn find(name: &[u8]) -> Option<Self> {
        Self::ALL.into_iter().find(|map| map.name().as_bytes() == name)
    }

    /// Looks a key up.
    ///
    /// # Errors
    /// [`Unavailable`] when the database cannot tell.
    pub async fn look_up(self, key: &str, shared: &Shared) -> Result<Option<String>, Unavailable> {
        let directory: &dyn Directory = &*shared.directory;
        if self == Self::Domains {
            let Ok(domain) = check_domain(key) else { return Ok(None) };
            return Ok(directory.domain(&domain.to_lowercase()).await?.map(String::from));
        }
        // Keys without a user part are asked for by Postfix in passing; nothing of ours is called so.
        let Ok(address) = Address::parse(key) else { return Ok(None) };
        match self {
            Self::Domains => Ok(None),
            Self::Mailboxes => {
                let found = resolve::mailbox(directory, &address, &shared.rules).await?;
                let account = found.map(|found| found.account).filter(|account| !account.closed(now()));
                Ok(account.map(|account| {
                    let mut path = match &account.maildir {
                        Some(path) => path.to_string(),
                        None => shared.config.mail.maildir_of(account.address.local(), account.address.domain()),
                    };
                    if !path.ends_with('/') {
                        path.push('/');
                    }
                    path
                }))
            }
            Self::Aliases => Ok(resolve::aliases(directory, &address, &shared.rules).await?.map(|list| list.join(","))),
            Self::Senders => {
                let logins = resolve::senders(directory, &address, &shared.rules, now()).await?;
                Ok((!logins.is_empty()).then(|| logins.join(",")))
            }
        }
    }
}

fn now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |age| i64::try_from(age.as_secs()).unwrap_or(i64::MAX))
}
