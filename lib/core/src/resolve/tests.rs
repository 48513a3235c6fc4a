//! Addresses on a fixture of two domains, a second name and a relay domain.

use super::*;
use crate::Lookup;
use crate::directory::Grant;
use std::collections::HashMap;

const DOMAINS: [&str; 4] = ["a.jp", "b.jp", "twin.jp", "例え.jp"];

#[derive(Default)]
struct Fixture {
    accounts: HashMap<&'static str, Arc<Account>>,
    aliases: HashMap<&'static str, Vec<&'static str>>,
    down: bool,
}

impl Fixture {
    fn new() -> Self {
        let mut fixture = Self::default();
        for name in ["info@a.jp", "admin@a.jp", "tag+x@a.jp", "info@b.jp", "copy@b.jp"] {
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
            ("copy@b.jp", vec!["copy@b.jp", "out@elsewhere.net"]),
            ("wide@b.jp", vec!["left@b.jp", "right@b.jp"]),
            ("left@b.jp", vec!["info@b.jp"]),
            ("right@b.jp", vec!["info@b.jp"]),
            ("odd@b.jp", vec!["not an address"]),
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
        self.answer(DOMAINS.map(Box::from).to_vec())
    }
    fn domain<'a>(&'a self, name: &'a str) -> Lookup<'a, Option<Box<str>>> {
        // As the copy of all domains does: by every spelling.
        let found = DOMAINS.into_iter().find(|known| crate::address::spellings(known).iter().any(|one| **one == *name));
        self.answer(found.map(Box::from))
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
    fn alias_domain<'a>(&'a self, name: &'a str) -> Lookup<'a, Option<Box<str>>> {
        self.answer(["twin.jp", "例え.jp"].contains(&name).then(|| "b.jp".into()))
    }
    fn relay_domain<'a>(&'a self, name: &'a str) -> Lookup<'a, Option<Box<str>>> {
        self.answer((name == "relay.jp").then(|| name.into()))
    }
    fn relay_recipient<'a>(&'a self, key: &'a str) -> Lookup<'a, Option<Arc<str>>> {
        self.answer((key == "one@relay.jp").then(|| key.into()))
    }
    fn grants<'a>(&'a self, source: &'a str) -> Lookup<'a, Option<Arc<[Grant]>>> {
        let grant = |(login, allowed): &(&str, bool)| Grant { login: (*login).into(), allowed: *allowed };
        let list: &[(&str, bool)] = match source {
            "sales@a.jp" => &[("Admin@a.jp", false)],
            "boss@elsewhere.net" => &[("info@a.jp", true), ("off@a.jp", true), ("nobody@x.jp", true)],
            "@elsewhere.net" => &[("admin@a.jp", true), ("info@a.jp", false)],
            "info@b.jp" => &[("info@b.jp", false), ("info@a.jp", true)],
            _ => &[],
        };
        self.answer((!list.is_empty()).then(|| list.iter().map(grant).collect()))
    }
    fn transport<'a>(&'a self, key: &'a str) -> Lookup<'a, Option<Arc<str>>> {
        let value = match key {
            "info@a.jp" => "one:",
            "a.jp" => "two:",
            ".a.jp" => "three:",
            "例え.jp" => "four:",
            "*" => "rest:",
            _ => return self.answer(None),
        };
        self.answer(Some(value.into()))
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
        ("info@twin.jp", Some("info@b.jp")),
        ("INFO+Q3@TWIN.jp", Some("INFO+Q3@b.jp")),
        ("left@twin.jp", Some("info@b.jp")),
        ("left+Q3@twin.jp", Some("info+Q3@b.jp")),
        ("nobody@twin.jp", None),
        ("info@例え.jp", Some("info@b.jp")),
        ("info@xn--r8jz45g.jp", Some("info@b.jp")),
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
        ("info@twin.jp", Some("info@b.jp"), None),
        ("info+Lists@xn--r8jz45g.jp", Some("info@b.jp"), Some("Lists")),
        ("nobody@twin.jp", None, None),
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
        ("sales@a.jp", vec!["info@a.jp"]),
        ("SALES+x@a.jp", vec!["info@a.jp"]),
        ("boss@elsewhere.net", vec!["info@a.jp", "admin@a.jp"]),
        ("Any@Elsewhere.net", vec!["admin@a.jp"]),
        ("info@b.jp", vec!["info@a.jp"]),
        ("info+x@twin.jp", vec!["info@a.jp"]),
        ("all@a.jp", vec!["info@a.jp", "admin@a.jp"]),
        ("loop1@a.jp", vec!["info@a.jp"]),
        ("off@a.jp", vec![]),
        ("nobody@a.jp", vec!["admin@a.jp"]),
        ("who@other.net", vec![]),
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

#[tokio::test]
async fn an_expansion_tells_its_mailboxes_and_what_is_wrong() {
    let fixture = Fixture::new();
    for (asked, mailboxes, elsewhere, problems) in [
        ("all@a.jp", vec!["off@a.jp", "info@a.jp", "admin@a.jp"], vec!["out@elsewhere.net"], vec![]),
        ("copy@b.jp", vec!["copy@b.jp"], vec!["out@elsewhere.net"], vec![]),
        ("wide@b.jp", vec!["info@b.jp"], vec![], vec![]),
        ("loop1@a.jp", vec!["info@a.jp"], vec![], vec!["loop1@a.jp leads back to itself"]),
        ("odd@b.jp", vec![], vec![], vec!["\"not an address\" is no address"]),
    ] {
        let found = expand(&fixture, &address(asked), &Rules::default()).await.unwrap();
        assert_eq!(found.mailboxes.iter().map(|one| one.address.as_str()).collect::<Vec<_>>(), mailboxes, "{asked}");
        assert_eq!(found.elsewhere.iter().map(Address::as_str).collect::<Vec<_>>(), elsewhere, "{asked}");
        assert_eq!(found.problems.iter().map(ToString::to_string).collect::<Vec<_>>(), problems, "{asked}");
    }
}

#[tokio::test]
async fn an_expansion_ends_at_its_limits() {
    let mut fixture = Fixture::new();
    for at in 0..30 {
        let name = |at: usize| -> &'static str { Box::leak(format!("n{at}@b.jp").into_boxed_str()) };
        fixture.aliases.insert(name(at), vec![name(at + 1)]);
    }
    let found = expand(&fixture, &address("n0@b.jp"), &Rules::default()).await.unwrap();
    assert_eq!(found.problems, [Problem::Deep(address("n11@b.jp"))]);
    let many = (0..2 * MAX_ADDRESSES).map(|at| -> &'static str { Box::leak(format!("m{at}@x.jp").into_boxed_str()) });
    fixture.aliases.insert("many@b.jp", many.collect());
    let found = expand(&fixture, &address("many@b.jp"), &Rules::default()).await.unwrap();
    assert_eq!((found.problems, found.elsewhere.len()), (vec![Problem::Many], MAX_ADDRESSES - 1));
}

#[tokio::test]
async fn transports_are_found_in_postfix_order() {
    let fixture = Fixture::new();
    for (asked, expected) in [
        ("Info@A.jp", Some("one:")),
        ("info+x@a.jp", Some("one:")),
        ("other@a.jp", Some("two:")),
        ("A.jp", Some("two:")),
        ("x@deep.sub.a.jp", Some("three:")),
        ("sub.a.jp", Some("three:")),
        ("x@xn--r8jz45g.jp", Some("four:")),
        ("*", Some("rest:")),
        ("x@b.jp", None),
        ("<>", None),
        ("", None),
    ] {
        let found = transport(&fixture, asked, &Rules::default()).await.unwrap();
        assert_eq!(found.as_deref(), expected, "{asked}");
    }
}

#[tokio::test]
async fn relay_domains_hold_their_subdomains_and_recipients() {
    let fixture = Fixture::new();
    for (asked, expected) in [("relay.jp", true), ("a.b.RELAY.jp", true), ("xrelay.jp", false), ("", false)] {
        assert_eq!(relay_domain(&fixture, asked).await.unwrap().is_some(), expected, "{asked}");
    }
    for (asked, expected) in [("One@relay.jp", true), ("one+x@relay.jp", true), ("two@relay.jp", false)] {
        let found = relay_recipient(&fixture, &address(asked), &Rules::default()).await.unwrap();
        assert_eq!(found.is_some(), expected, "{asked}");
    }
}
