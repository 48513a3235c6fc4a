use super::*;
use crate::account::StoredPassword;
use crate::ledger::{NotWritten, Writing};
use crate::throttle::Rules;
use crate::{AppPassword, Lookup};
use mailsql_password::Policy;
use std::sync::Mutex;

/// `Secret.123` in a scheme that costs nothing.
const SSHA: &str = "{SSHA}YOHcW8wTgm6p2YKC/iXtqAV/rewBAgME";
const NOW: i64 = 4_000_000_000;

/// A directory and ledger in memory.
#[derive(Default)]
struct Desk {
    accounts: Mutex<Vec<Account>>,
    apps: Mutex<Vec<AppPassword>>,
    used: Mutex<Vec<(i64, Option<IpAddr>)>>,
    replaced: Mutex<Vec<String>>,
    denies: bool,
}

impl Directory for Desk {
    fn domains(&self) -> Lookup<'_, Vec<Box<str>>> {
        Box::pin(async { Ok(Vec::new()) })
    }
    fn domain<'a>(&'a self, _: &'a str) -> Lookup<'a, Option<Box<str>>> {
        Box::pin(async { Ok(None) })
    }
    fn account<'a>(&'a self, address: &'a Address) -> Lookup<'a, Option<Arc<Account>>> {
        let found = self.accounts.lock().unwrap().iter().find(|account| account.address.matches(address)).cloned();
        Box::pin(async move { Ok(found.map(Arc::new)) })
    }
    fn app_passwords<'a>(&'a self, _: &'a Address) -> Lookup<'a, Arc<[AppPassword]>> {
        let all = self.apps.lock().unwrap().clone();
        Box::pin(async move { Ok(all.into()) })
    }
    fn alias<'a>(&'a self, _: &'a Address) -> Lookup<'a, Option<Arc<[Box<str>]>>> {
        Box::pin(async { Ok(None) })
    }
    fn catch_all<'a>(&'a self, _: &'a str) -> Lookup<'a, Option<Arc<[Box<str>]>>> {
        Box::pin(async { Ok(None) })
    }
}

impl Ledger for Desk {
    fn replace_password<'a>(&'a self, address: &'a Address, old: &'a str, new: &'a str) -> Writing<'a, bool> {
        Box::pin(async move {
            if self.denies {
                return Err(NotWritten::Denied("SELECT only".into()));
            }
            let mut accounts = self.accounts.lock().unwrap();
            let account = accounts.iter_mut().find(|account| account.address.matches(address)).unwrap();
            if account.password.as_ref().map(|stored| &*stored.0) != Some(old) {
                return Ok(false);
            }
            account.password = Some(StoredPassword(new.into()));
            self.replaced.lock().unwrap().push(new.to_owned());
            Ok(true)
        })
    }
    fn note_use<'a>(&'a self, id: i64, _: i64, client: Option<IpAddr>) -> Writing<'a, ()> {
        self.used.lock().unwrap().push((id, client));
        Box::pin(async { Ok(()) })
    }
}

fn account(stored: &str) -> Account {
    Account::new(Address::parse("Info@example.jp").unwrap(), Some(stored.into()))
}

fn app(id: i64) -> AppPassword {
    AppPassword {
        id,
        label: "phone".into(),
        // appsecret42, salt 01020304.
        password: StoredPassword("{PLAIN}appsecret42".into()),
        services: None,
        allow_nets: None,
        expires_at: None,
        created_at: None,
        last_used_at: None,
        last_used_from: None,
    }
}

fn rules(enabled: bool) -> Rules {
    Rules {
        enabled,
        window: 600_000,
        client_limit: 5,
        login_limit: 10,
        known_limit: 5,
        known_for: 86_400_000,
        trusted: Vec::new(),
        entries: 1000,
    }
}

fn authenticator(desk: &Arc<Desk>, upgrade: Upgrade, throttle: bool) -> Authenticator {
    let new_hash = NewHash::Sha512Crypt { rounds: 1000 };
    let verifier = Arc::new(Verifier::new(2, Policy::default(), &new_hash));
    let settings = Settings {
        new_hash,
        default_domain: Some("example.jp".into()),
        remember: Some(Duration::from_secs(60)),
        entries: 1000,
        key: [7; 32],
        throttle: Arc::new(Throttle::new(rules(throttle))),
        ledger: Some((Arc::<Desk>::clone(desk), upgrade, Box::new(|_| {}))),
    };
    Authenticator::new(Arc::<Desk>::clone(desk), verifier, settings)
}

fn desk(accounts: Vec<Account>) -> Arc<Desk> {
    Arc::new(Desk { accounts: Mutex::new(accounts), ..Desk::default() })
}

fn login<'a>(user: &'a str, password: &'a str, service: &'a str, client: &str) -> Login<'a> {
    Login { user, password: password.as_bytes(), service, client: client.parse().ok() }
}

async fn word(authenticator: &Authenticator, login: Login<'_>) -> (&'static str, &'static str) {
    let decision = authenticator.login(&login).await.unwrap();
    (decision.verdict.word(), decision.reason)
}

async fn settled(check: impl Fn() -> bool) {
    for _ in 0..500 {
        if check() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("not within five seconds");
}

#[tokio::test]
async fn every_state_of_an_account_is_told_after_a_right_password_only() {
    type Change = fn(&mut Account);
    let table: [(Change, &str, &str, &str, &str); 12] = [
        (|_| {}, "imap", "192.0.2.1", "ok", "-"),
        (|a| a.enabled = false, "imap", "192.0.2.1", "disabled", "account is disabled"),
        (|a| a.expires_at = Some(1), "imap", "192.0.2.1", "expired", "account has expired"),
        (|a| a.expires_at = Some(NOW), "imap", "192.0.2.1", "ok", "-"),
        (|a| a.password_expires_at = Some(1), "imap", "192.0.2.1", "password_expired", "password has expired"),
        (|a| a.services = Some(vec!["smtp".into()]), "imap", "", "disabled", "account may not use this service"),
        (|a| a.services = Some(vec!["smtp".into()]), "smtp", "", "ok", "-"),
        (|a| a.services = Some(vec!["smtp".into()]), "", "", "ok", "-"),
        (|a| a.allow_nets = Some(vec!["192.0.2.0/24".into()]), "imap", "192.0.2.9", "ok", "-"),
        (
            |a| a.allow_nets = Some(vec!["192.0.2.0/24".into()]),
            "imap",
            "198.51.100.1",
            "disabled",
            "account may not be used from this network",
        ),
        (
            |a| a.allow_nets = Some(vec!["2001:db8::/32".into()]),
            "imap",
            "",
            "disabled",
            "account may not be used from this network",
        ),
        (|a| a.allow_nets = Some(vec!["local".into()]), "imap", "", "ok", "-"),
    ];
    for (change, service, client, expected, reason) in table {
        let mut account = account(SSHA);
        change(&mut account);
        let authenticator = authenticator(&desk(vec![account]), Upgrade::Off, false);
        let told = word(&authenticator, login("info@example.jp", "Secret.123", service, client)).await;
        assert_eq!(told, (expected, reason), "{service} {client}");
        let told = word(&authenticator, login("info@example.jp", "Secret.124", service, client)).await;
        assert_eq!(told, ("wrong", "wrong password"), "{service} {client}");
    }
}

#[tokio::test]
async fn login_names_are_addresses_in_any_case_or_bare_with_a_default_domain() {
    let authenticator = authenticator(&desk(vec![account(SSHA)]), Upgrade::Off, false);
    for (user, expected) in [
        ("info@example.jp", "ok"),
        ("INFO@EXAMPLE.JP", "ok"),
        ("info", "ok"),
        ("info@example.com", "unknown"),
        ("info@", "unknown"),
        ("", "unknown"),
        ("@example.jp", "unknown"),
    ] {
        assert_eq!(word(&authenticator, login(user, "Secret.123", "imap", "")).await.0, expected, "{user}");
    }
}

#[tokio::test]
async fn values_that_let_nobody_in_are_wrong_with_a_reason() {
    for (stored, reason) in [
        (Some("!"), "the stored password is locked"),
        (Some(""), "the stored password is locked"),
        (Some("$6$rounds=999999999$salt$x"), "the stored password is not usable"),
        (None, "no password is set"),
    ] {
        let account = Account::new(Address::parse("info@example.jp").unwrap(), stored.map(Into::into));
        let authenticator = authenticator(&desk(vec![account]), Upgrade::On, false);
        for password in ["", "x", stored.unwrap_or("y")] {
            assert_eq!(word(&authenticator, login("info", password, "", "")).await, ("wrong", reason), "{stored:?}");
        }
    }
}

#[tokio::test]
async fn a_repeated_login_costs_one_hash_until_the_stored_value_changes() {
    let desk = desk(vec![account(SSHA)]);
    let authenticator = authenticator(&desk, Upgrade::Off, true);
    for round in 0..1000 {
        let decision = authenticator.login(&login("info", "Secret.123", "imap", "192.0.2.1")).await.unwrap();
        assert!(matches!(decision.verdict, Verdict::Yes(_)) && decision.cached == (round > 0));
    }
    assert_eq!(authenticator.verifier().stats().hashes, 1);
    desk.accounts.lock().unwrap()[0].password = Some(StoredPassword("{PLAIN}other".into()));
    assert_eq!(word(&authenticator, login("info", "Secret.123", "imap", "192.0.2.1")).await.0, "wrong");
}

#[tokio::test]
async fn the_same_wrong_password_costs_one_hash_and_one_count() {
    let authenticator = authenticator(&desk(vec![account(SSHA)]), Upgrade::Off, true);
    for round in 0..100 {
        for (user, expected) in [("info", "wrong"), ("nobody", "unknown")] {
            let decision = authenticator.login(&login(user, "old", "imap", "192.0.2.1")).await.unwrap();
            assert_eq!((decision.verdict.word(), decision.cached), (expected, round > 0));
        }
    }
    assert_eq!(authenticator.verifier().stats().hashes, 2);
}

#[tokio::test]
async fn ten_thousand_guesses_at_once_reach_the_hash_as_often_as_allowed() {
    let authenticator = Arc::new(authenticator(&desk(vec![account(SSHA)]), Upgrade::Off, true));
    assert_eq!(word(&authenticator, login("info", "Secret.123", "imap", "203.0.113.7")).await.0, "ok");
    let guesses: Vec<_> = (0..10_000)
        .map(|number| {
            let authenticator = Arc::clone(&authenticator);
            tokio::spawn(async move {
                let (password, user) = (format!("guess{number}"), if number % 2 == 0 { "info" } else { "nobody" });
                let client = "192.0.2.1".parse().ok();
                let login = Login { user, password: password.as_bytes(), service: "imap", client };
                // Beyond the bound of those who wait: unavailable, and not looked at either.
                authenticator.login(&login).await.map_or("unavailable", |decision| decision.verdict.word())
            })
        })
        .collect();
    let mut looked_at = 0;
    for guess in guesses {
        let word = guess.await.unwrap();
        looked_at += u64::from(matches!(word, "wrong" | "unknown"));
    }
    assert_eq!(looked_at, 5);
    assert_eq!(authenticator.verifier().stats().hashes, 6);
    assert_eq!(word(&authenticator, login("info", "Secret.123", "imap", "192.0.2.1")).await.0, "throttled");
    assert_eq!(word(&authenticator, login("info", "Secret.123", "imap", "203.0.113.7")).await.0, "ok");
}

#[tokio::test]
async fn a_weak_hash_is_replaced_once_under_fifty_logins_at_once() {
    let desk = desk(vec![account(SSHA)]);
    let authenticator = Arc::new(authenticator(&desk, Upgrade::On, true));
    assert_eq!(word(&authenticator, login("info", "wrong", "", "")).await.0, "wrong");
    let logins: Vec<_> = (0..50)
        .map(|_| {
            let authenticator = Arc::clone(&authenticator);
            tokio::spawn(async move { word(&authenticator, login("info", "Secret.123", "", "")).await.0 })
        })
        .collect();
    for login in logins {
        assert_eq!(login.await.unwrap(), "ok");
    }
    settled(|| desk.replaced.lock().unwrap().len() == 1).await;
    assert!(desk.replaced.lock().unwrap()[0].starts_with("$6$"));
    // The new value is known to be right already.
    let decision = authenticator.login(&login("info", "Secret.123", "", "")).await.unwrap();
    assert_eq!((decision.verdict.word(), decision.cached, decision.scheme), ("ok", true, "sha512-crypt"));
    assert_eq!(desk.replaced.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn a_hash_stays_when_upgrades_are_off_rehearsed_or_denied() {
    for (upgrade, denies) in [(Upgrade::Off, false), (Upgrade::DryRun, false), (Upgrade::On, true)] {
        let desk = Arc::new(Desk { accounts: Mutex::new(vec![account(SSHA)]), denies, ..Desk::default() });
        let authenticator = authenticator(&desk, upgrade, true);
        for _ in 0..3 {
            authenticator.forget_all();
            assert_eq!(word(&authenticator, login("info", "Secret.123", "", "")).await.0, "ok");
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert!(desk.replaced.lock().unwrap().is_empty());
        let stats = authenticator.notes().unwrap().stats();
        assert_eq!(stats.would_upgrade.load(Ordering::Relaxed), if upgrade == Upgrade::DryRun { 3 } else { 0 });
    }
}

#[tokio::test]
async fn an_app_password_is_good_for_what_it_was_made_for() {
    type Change = fn(&mut Account, &mut AppPassword);
    let table: [(Change, &str, &str, &str); 9] = [
        (|_, _| {}, "appsecret42", "ok", "app password"),
        (|_, _| {}, "apps ecre-t42", "ok", "app password"),
        (|_, _| {}, "appsecret43", "wrong", "wrong password"),
        (|_, app| app.expires_at = Some(1), "appsecret42", "wrong", "app password has expired"),
        (
            |_, app| app.services = Some(vec!["smtp".into()]),
            "appsecret42",
            "disabled",
            "app password is not for this service",
        ),
        (
            |_, app| app.allow_nets = Some(vec!["10.0.0.0/8".into()]),
            "appsecret42",
            "disabled",
            "app password is not for this network",
        ),
        (|account, _| account.enabled = false, "appsecret42", "disabled", "account is disabled"),
        (|account, _| account.password_expires_at = Some(1), "appsecret42", "ok", "app password"),
        (
            |account, _| account.services = Some(vec!["smtp".into()]),
            "appsecret42",
            "disabled",
            "account may not use this service",
        ),
    ];
    for (change, password, expected, reason) in table {
        let (mut account, mut app) = (account(SSHA), app(9));
        account.has_app_passwords = true;
        change(&mut account, &mut app);
        let desk = desk(vec![account]);
        desk.apps.lock().unwrap().push(app);
        let authenticator = authenticator(&desk, Upgrade::On, true);
        assert_eq!(word(&authenticator, login("info", password, "imap", "192.0.2.1")).await, (expected, reason));
        authenticator.notes().unwrap().write_uses().await;
        let used = if expected == "ok" { vec![(9, "192.0.2.1".parse().ok())] } else { Vec::new() };
        assert_eq!(*desk.used.lock().unwrap(), used, "{reason}");
        assert!(desk.replaced.lock().unwrap().is_empty(), "an app password says nothing about the main one");
    }
}

#[tokio::test]
async fn the_use_of_an_app_password_is_written_once_for_many_logins() {
    let mut account = account(SSHA);
    account.has_app_passwords = true;
    let desk = desk(vec![account]);
    desk.apps.lock().unwrap().push(app(9));
    let authenticator = authenticator(&desk, Upgrade::Off, true);
    for _ in 0..100 {
        assert_eq!(word(&authenticator, login("info", "appsecret42", "imap", "192.0.2.1")).await.0, "ok");
    }
    authenticator.notes().unwrap().write_uses().await;
    authenticator.notes().unwrap().write_uses().await;
    assert_eq!(desk.used.lock().unwrap().len(), 1);
    assert_eq!(authenticator.verifier().stats().hashes, 0);
}

#[tokio::test(start_paused = true)]
async fn refusals_are_given_on_a_grid() {
    for (elapsed, expected) in [(0, 10_000), (1, 10_000), (9_999, 10_000), (10_000, 20_000), (123_456, 130_000)] {
        assert_eq!(on_grid(Duration::from_micros(elapsed)), Duration::from_micros(expected));
    }
}
