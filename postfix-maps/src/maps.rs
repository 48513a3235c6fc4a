//! The maps, by name. Postfix sends a socketmap only the whole key, in whatever case the client wrote it; stripping the
//! detail, catch-alls, parent domains and folding are done here (`mailsql_core::resolve`).
//!
//! | map | key | value | main.cf |
//! | --- | --- | --- | --- |
//! | `domains` | domain | the domain | `virtual_mailbox_domains` |
//! | `mailboxes` | address | its Maildir below the mail root, with a final slash | `virtual_mailbox_maps` |
//! | `aliases` | address | where its mail goes, separated by commas | `virtual_alias_maps` |
//! | `senders` | address | the logins that may send as it, separated by commas | `smtpd_sender_login_maps` |
//! | `transports` | address, domain, `*` | transport:nexthop | `transport_maps` |
//! | `relay_domains` | domain, or one below it | the domain | `relay_domains` |
//! | `relay_recipients` | address | the recipient, or `@domain` | `relay_recipient_maps` |
//! | `local_recipients` | user, or user at any domain | the account's address | `local_recipient_maps` |
//! | `[maps.custom]` | what its `keys` says | its rows | any |
//!
//! A user of `local_recipients` whose domain is none of ours (`$mydestination`), or who has none, is one of the domain in
//! `[nss] short_names`, else of `[mail] default_domain`.

use crate::custom::Custom;
use anyhow::Result;
use mailsql_core::address::check_domain;
use mailsql_core::{Account, Address, Directory, Unavailable, resolve};
use mailsql_daemon::Shared;
use std::sync::Arc;
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
    /// `transport_maps`.
    Transports,
    /// `relay_domains`.
    RelayDomains,
    /// `relay_recipient_maps`.
    RelayRecipients,
    /// `local_recipient_maps`.
    LocalRecipients,
    /// One of the administrator's own, by its place in [`Maps`].
    Custom(usize),
}

/// Our own maps by the names in [`mailsql_config::MAP_NAMES`], in the same order.
const OWN: [Map; 8] = [
    Map::Domains,
    Map::Mailboxes,
    Map::Aliases,
    Map::Senders,
    Map::Transports,
    Map::RelayDomains,
    Map::RelayRecipients,
    Map::LocalRecipients,
];

/// All maps that can be asked for.
#[derive(Debug)]
pub struct Maps {
    custom: Vec<Custom>,
}

impl Maps {
    /// Reads what the administrator's own maps are.
    ///
    /// # Errors
    /// A line with the map and what is wrong with it.
    pub fn new(section: &mailsql_config::Maps) -> Result<Self> {
        let custom = section.custom.iter().map(|(name, map)| Custom::new(name, map));
        Ok(Self { custom: custom.collect::<Result<_>>()? })
    }

    /// The map of this name.
    #[must_use]
    pub fn find(&self, name: &[u8]) -> Option<Map> {
        let own = mailsql_config::MAP_NAMES.iter().position(|known| known.as_bytes() == name).map(|at| OWN[at]);
        own.or_else(|| self.custom.iter().position(|map| map.name.as_bytes() == name).map(Map::Custom))
    }

    /// The name of a map.
    #[must_use]
    pub fn name(&self, map: Map) -> &str {
        match map {
            Map::Custom(at) => self.custom.get(at).map_or("", |map| &map.name),
            own => OWN.iter().position(|known| *known == own).map_or("", |at| mailsql_config::MAP_NAMES[at]),
        }
    }

    /// All names, for a complaint.
    #[must_use]
    pub fn names(&self) -> String {
        let own = mailsql_config::MAP_NAMES.into_iter();
        own.chain(self.custom.iter().map(|map| &*map.name)).collect::<Vec<_>>().join(", ")
    }

    /// Looks a key up.
    ///
    /// # Errors
    /// [`Unavailable`] when the database cannot tell.
    pub async fn look_up(&self, map: Map, key: &str, shared: &Shared) -> Result<Option<String>, Unavailable> {
        let (directory, rules): (&dyn Directory, _) = (&*shared.directory, &shared.rules);
        match map {
            Map::Domains => {
                let Ok(domain) = check_domain(key) else { return Ok(None) };
                return Ok(directory.domain(&domain.to_lowercase()).await?.map(String::from));
            }
            Map::RelayDomains => {
                let Ok(domain) = check_domain(key) else { return Ok(None) };
                return Ok(resolve::relay_domain(directory, domain).await?.map(String::from));
            }
            Map::Transports => {
                let found = resolve::transport(directory, key, rules).await?;
                return Ok(found.map(|found| found.as_ref().to_owned()));
            }
            Map::LocalRecipients => return local_recipient(key, shared).await,
            Map::Custom(at) => {
                let Some(map) = self.custom.get(at) else { return Ok(None) };
                return map.look_up(key, directory, rules).await;
            }
            _ => {}
        }
        // Keys without a user part are asked for by Postfix in passing; nothing of ours is called so.
        let Ok(address) = Address::parse(key) else { return Ok(None) };
        match map {
            Map::Mailboxes => {
                let found = resolve::mailbox(directory, &address, rules).await?;
                Ok(found.filter(|found| is_open(&found.account)).map(|found| maildir(&found.account, shared)))
            }
            Map::Aliases => Ok(resolve::aliases(directory, &address, rules).await?.map(|list| list.join(","))),
            Map::Senders => {
                let logins = resolve::senders(directory, &address, rules, now()).await?;
                Ok((!logins.is_empty()).then(|| logins.join(",")))
            }
            _ => Ok(resolve::relay_recipient(directory, &address, rules).await?.map(|found| found.as_ref().to_owned())),
        }
    }
}

/// Whether an account takes mail now.
fn is_open(account: &Account) -> bool {
    account.receives && !account.closed(now())
}

fn maildir(account: &Arc<Account>, shared: &Shared) -> String {
    let mut path = match &account.maildir {
        Some(path) => path.to_string(),
        None => shared.config.mail.maildir_of(account.address.local(), account.address.domain()),
    };
    if !path.ends_with('/') {
        path.push('/');
    }
    path
}

async fn local_recipient(key: &str, shared: &Shared) -> Result<Option<String>, Unavailable> {
    let directory: &dyn Directory = &*shared.directory;
    let config = &shared.config;
    let home = config.nss.as_ref().and_then(|nss| nss.short_names.as_deref()).or(config.mail.default_domain.as_deref());
    let (local, domain) = match Address::parse(key) {
        Ok(address) => (address.local().to_owned(), Some(address.domain().to_lowercase())),
        Err(_) if key.contains('@') => return Ok(None),
        Err(_) => (key.to_owned(), None),
    };
    let ours = match &domain {
        Some(domain) => directory.domain(domain).await?.is_some(),
        None => false,
    };
    let Some(domain) = (if ours { domain.as_deref() } else { home }) else { return Ok(None) };
    let Ok(address) = Address::new(&local, domain) else { return Ok(None) };
    if resolve::aliases(directory, &address, &shared.rules).await?.is_some() {
        return Ok(Some(address.to_string()));
    }
    let found = resolve::mailbox(directory, &address, &shared.rules).await?;
    Ok(found.filter(|found| is_open(&found.account)).map(|found| found.account.address.to_string()))
}

fn now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |age| i64::try_from(age.as_secs()).unwrap_or(i64::MAX))
}
