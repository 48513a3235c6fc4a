//! Where an address leads: the one place that knows which address stands in for which.
//!
//! For `user+detail@domain`, the first of these that exists decides:
//! 1. an alias or mailbox with exactly this address (an alias first: a row that forwards a mailbox's own address is
//!    meant to forward it, and Postfix too asks aliases before mailboxes);
//! 2. an alias or mailbox `user@domain`; the detail is put back on what an alias leads to, as Postfix does for tables
//!    whose lookups it strips itself (`propagate_unmatched_extensions = virtual`);
//! 3. the catch-all of the domain. A catch-all thus never takes mail from a mailbox, and needs no identity aliases.
//!
//! Destinations `@other` keep the local part, as in virtual(5).

use crate::{Account, Address, Directory, Unavailable};
use std::collections::HashSet;
use std::sync::Arc;

/// Steps from an address to a mailbox that are followed at most.
pub const MAX_DEPTH: usize = 10;
/// Addresses looked at in one expansion at most.
pub const MAX_ADDRESSES: usize = 1000;

/// How addresses are read at this site.
#[derive(Clone, Debug)]
pub struct Rules {
    /// Characters that part a detail from the user, as Postfix's `recipient_delimiter`; empty for none.
    pub delimiters: Box<str>,
}

impl Default for Rules {
    fn default() -> Self {
        Self { delimiters: "+".into() }
    }
}

/// A mailbox that an address leads to by itself.
#[derive(Clone, Debug)]
pub struct Mailbox {
    /// Its account.
    pub account: Arc<Account>,
    /// The detail of the address that was asked for, as written.
    pub detail: Option<Box<str>>,
}

/// The mailbox of this address or of its form without detail, whatever its state.
///
/// # Errors
/// [`Unavailable`] when the database cannot tell.
pub async fn mailbox(
    directory: &dyn Directory,
    address: &Address,
    rules: &Rules,
) -> Result<Option<Mailbox>, Unavailable> {
    if let Some(account) = directory.account(&address.folded()).await? {
        return Ok(Some(Mailbox { account, detail: None }));
    }
    let Some((base, detail)) = address.split_detail(&rules.delimiters) else { return Ok(None) };
    let account = directory.account(&base.folded()).await?;
    Ok(account.map(|account| Mailbox { account, detail: Some(detail.into()) }))
}

/// Where mail to this address is sent on to, one step: what a virtual alias table answers. Nothing for a mailbox.
///
/// # Errors
/// [`Unavailable`] when the database cannot tell.
pub async fn aliases(
    directory: &dyn Directory,
    address: &Address,
    rules: &Rules,
) -> Result<Option<Arc<[Box<str>]>>, Unavailable> {
    let exact = address.folded();
    if let Some(found) = directory.alias(&exact).await? {
        return Ok(Some(keep_local_part(found, &exact)));
    }
    // Asked before anything costly: most addresses that come here belong to no domain of ours.
    if directory.domain(exact.domain()).await?.is_none() {
        return Ok(None);
    }
    if directory.account(&exact).await?.is_some() {
        return Ok(None);
    }
    if let Some((base, detail)) = address.split_detail(&rules.delimiters) {
        let base = base.folded();
        if let Some(found) = directory.alias(&base).await? {
            let delimiter = address.local()[base.local().len()..].chars().next().unwrap_or('+');
            let found = keep_local_part(found, &base);
            return Ok(Some(found.iter().map(|to| add_detail(to, delimiter, detail)).collect()));
        }
        if directory.account(&base).await?.is_some() {
            return Ok(None);
        }
    }
    Ok(directory.catch_all(exact.domain()).await?.map(|found| keep_local_part(found, &exact)))
}

/// The logins that may send as this address: its own mailbox, and the mailboxes that its aliases lead to. Accounts
/// that are closed have no say.
///
/// # Errors
/// [`Unavailable`] when the database cannot tell.
pub async fn senders(
    directory: &dyn Directory,
    address: &Address,
    rules: &Rules,
    now: i64,
) -> Result<Vec<Box<str>>, Unavailable> {
    let mut logins: Vec<Box<str>> = Vec::new();
    let mut seen = HashSet::new();
    let mut level = vec![address.folded()];
    for _ in 0..MAX_DEPTH {
        let mut next = Vec::new();
        for address in level {
            if seen.len() >= MAX_ADDRESSES || !seen.insert(address.clone()) {
                continue;
            }
            if let Some(found) = mailbox(directory, &address, rules).await?
                && !found.account.closed(now)
                && !logins.iter().any(|login| **login == *found.account.address.as_str())
            {
                logins.push(found.account.address.as_str().into());
            }
            if let Some(found) = aliases(directory, &address, rules).await? {
                next.extend(found.iter().filter_map(|to| Address::parse(to).ok()).map(|to| to.folded()));
            }
        }
        if next.is_empty() {
            break;
        }
        level = next;
    }
    Ok(logins)
}

/// `@other` becomes `local@other`.
fn keep_local_part(destinations: Arc<[Box<str>]>, address: &Address) -> Arc<[Box<str>]> {
    if !destinations.iter().any(|to| to.starts_with('@')) {
        return destinations;
    }
    let whole = |to: &str| match to.strip_prefix('@').map(|domain| Address::new(address.local(), domain)) {
        Some(Ok(address)) => address.to_string().into_boxed_str(),
        _ => Box::from(to),
    };
    destinations.iter().map(|to| whole(to)).collect()
}

/// Puts a detail on a destination that has none; what is no address stays as it is.
fn add_detail(destination: &str, delimiter: char, detail: &str) -> Box<str> {
    match Address::parse(destination).and_then(|address| address.with_detail(delimiter, detail)) {
        Ok(address) => address.to_string().into(),
        Err(_) => destination.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Lookup;
    use std::collections::HashMap;

    #[derive(Default)]
    struct Fixture {
        accounts: HashMap<&'static str, Arc<Account>>,
        aliases: HashMap<&'static str, Vec<&'static str>>,
        down: bool,
    }

    impl Fixture {
        fn new() -> Self {
            let mut fixture = Self::default();
            for name in ["info@a.jp", "admin@a.jp", "tag+x@a.jp", "info@b.jp"] {
                fixture.accounts.insert(name, Arc::new(Account::new(Address::parse(name).unwrap(), None)));
            }
            let mut off = Account::new(Address::parse("off@a.jp").unwrap(), None);
            off.enabled = false;
            fixture.accounts.insert("off@a.jp", Arc::new(off));
            fixture.aliases = HashMap::from([
                ("sales@a.jp", vec!["info@a.jp", "admin@a.jp"]),
                ("all@a.jp", vec!["sales@a.jp", "off@a.jp", "out@elsewhere.net"]),
                ("loop1@a.jp", vec!["loop2@a.jp"]),
                ("loop2@a.jp", vec!["loop1@a.jp", "info@a.jp"]),
                ("moved@a.jp", vec!["@b.jp"]),
                ("@a.jp", vec!["admin@a.jp"]),
            ]);
            fixture
        }

        fn answer<'a, T: Send + 'a>(&self, value: T) -> Lookup<'a, T> {
            let down = self.down;
            Box::pin(async move { if down { Err(Unavailable::new("down")) } else { Ok(value) } })
        }

        fn destinations(&self, key: &str) -> Option<Arc<[Box<str>]>> {
            Some(self.aliases.get(key)?.iter().map(|to| Box::from(*to)).collect())
        }
    }

    impl Directory for Fixture {
        fn domains(&self) -> Lookup<'_, Vec<Box<str>>> {
            self.answer(vec!["a.jp".into(), "b.jp".into()])
        }
        fn domain<'a>(&'a self, name: &'a str) -> Lookup<'a, Option<Box<str>>> {
            self.answer(["a.jp", "b.jp"].contains(&name).then(|| name.into()))
        }
        fn account<'a>(&'a self, address: &'a Address) -> Lookup<'a, Option<Arc<Account>>> {
            self.answer(self.accounts.get(address.as_str()).cloned())
        }
        fn alias<'a>(&'a self, address: &'a Address) -> Lookup<'a, Option<Arc<[Box<str>]>>> {
            self.answer(self.destinations(address.as_str()))
        }
        fn catch_all<'a>(&'a self, domain: &'a str) -> Lookup<'a, Option<Arc<[Box<str>]>>> {
            self.answer(self.destinations(&format!("@{domain}")))
        }
    }

    fn address(text: &str) -> Address {
        Address::parse(text).unwrap()
    }

    #[tokio::test]
    async fn aliases_follow_one_precedence() {
        let fixture = Fixture::new();
        for (asked, expected) in [
            ("sales@a.jp", Some("info@a.jp,admin@a.jp")),
            ("SALES@A.jp", Some("info@a.jp,admin@a.jp")),
            ("sales+Q3@a.jp", Some("info+Q3@a.jp,admin+Q3@a.jp")),
            ("info@a.jp", None),
            ("info+detail@a.jp", None),
            ("tag+x@a.jp", None),
            ("nobody@a.jp", Some("admin@a.jp")),
            ("nobody+x@a.jp", Some("admin@a.jp")),
            ("nobody@b.jp", None),
            ("moved@a.jp", Some("moved@b.jp")),
            ("who@elsewhere.net", None),
        ] {
            let found = aliases(&fixture, &address(asked), &Rules::default()).await.unwrap();
            assert_eq!(found.map(|list| list.join(",")).as_deref(), expected, "{asked}");
        }
    }

    #[tokio::test]
    async fn a_mailbox_is_found_with_and_without_detail() {
        let fixture = Fixture::new();
        for (asked, account, detail) in [
            ("INFO@a.jp", Some("info@a.jp"), None),
            ("info+Lists@a.jp", Some("info@a.jp"), Some("Lists")),
            ("tag+x@a.jp", Some("tag+x@a.jp"), None),
            ("sales@a.jp", None, None),
        ] {
            let found = mailbox(&fixture, &address(asked), &Rules::default()).await.unwrap();
            assert_eq!(found.as_ref().map(|found| found.account.address.as_str()), account, "{asked}");
            assert_eq!(found.as_ref().and_then(|found| found.detail.as_deref()), detail, "{asked}");
        }
    }

    #[tokio::test]
    async fn logins_that_may_send_are_the_mailboxes_an_address_leads_to() {
        let fixture = Fixture::new();
        for (asked, expected) in [
            ("info@a.jp", vec!["info@a.jp"]),
            ("info+x@a.jp", vec!["info@a.jp"]),
            ("sales@a.jp", vec!["info@a.jp", "admin@a.jp"]),
            ("all@a.jp", vec!["info@a.jp", "admin@a.jp"]),
            ("loop1@a.jp", vec!["info@a.jp"]),
            ("off@a.jp", vec![]),
            ("nobody@a.jp", vec!["admin@a.jp"]),
            ("who@elsewhere.net", vec![]),
        ] {
            let found = senders(&fixture, &address(asked), &Rules::default(), 0).await.unwrap();
            assert_eq!(found.iter().map(|login| &**login).collect::<Vec<_>>(), expected, "{asked}");
        }
    }

    #[tokio::test]
    async fn trouble_is_never_taken_for_absence() {
        let fixture = Fixture { down: true, ..Fixture::new() };
        let rules = Rules::default();
        assert!(mailbox(&fixture, &address("info@a.jp"), &rules).await.is_err());
        assert!(aliases(&fixture, &address("info@a.jp"), &rules).await.is_err());
        assert!(senders(&fixture, &address("info@a.jp"), &rules, 0).await.is_err());
    }
}
