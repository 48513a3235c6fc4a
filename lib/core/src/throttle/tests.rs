use super::*;

const WINDOW: i64 = 600_000;
const START: i64 = 1_700_000_000_000;

fn rules() -> Rules {
    Rules {
        enabled: true,
        window: WINDOW,
        client_limit: 5,
        login_limit: 10,
        known_limit: 3,
        known_for: 30 * 86_400_000,
        trusted: vec!["127.0.0.0/8".parse().unwrap()],
        entries: 1000,
    }
}

fn throttle() -> Arc<Throttle> {
    Arc::new(Throttle::new(rules()))
}

fn mac(number: u32) -> [u8; 16] {
    let mut mac = [0; 16];
    mac[..4].copy_from_slice(&number.to_be_bytes());
    mac
}

fn from(address: &str) -> Option<IpAddr> {
    Some(address.parse().unwrap())
}

/// A try with an outcome; whether it reached the password.
fn tried(throttle: &Arc<Throttle>, login: &str, client: Option<IpAddr>, now: i64, outcome: Outcome) -> bool {
    match throttle.admit(login, client, now) {
        Admission::Pass(place) => {
            place.settle(outcome, now);
            true
        }
        Admission::Wait => panic!("nobody else holds a place"),
        Admission::Refused(_) => false,
    }
}

fn guesses(
    throttle: &Arc<Throttle>,
    login: &str,
    client: Option<IpAddr>,
    now: i64,
    numbers: std::ops::Range<u32>,
) -> u32 {
    numbers.map(|number| u32::from(tried(throttle, login, client, now, Outcome::Wrong(mac(number))))).sum()
}

#[test]
fn a_client_reaches_the_hash_as_often_as_it_may_and_is_then_refused_for_a_window() {
    let throttle = throttle();
    assert_eq!(guesses(&throttle, "info@hoge.com", from("192.0.2.1"), START, 0..10_000), 5);
    let later = START + WINDOW - 1;
    assert_eq!(guesses(&throttle, "other@hoge.com", from("192.0.2.1"), later, 10_000..10_010), 0);
    assert_eq!(guesses(&throttle, "other@hoge.com", from("192.0.2.1"), START + WINDOW, 20_000..20_010), 5);
    // A neighbour is somebody else.
    assert_eq!(guesses(&throttle, "other@hoge.com", from("192.0.2.2"), START, 30_000..30_001), 1);
}

#[test]
fn an_ipv6_household_is_one_client() {
    let throttle = throttle();
    let mut reached = 0;
    for host in 1..100 {
        reached += guesses(&throttle, "info@hoge.com", from(&format!("2001:db8::{host:x}")), START, host..host + 1);
    }
    assert_eq!(reached, 5);
}

#[test]
fn the_same_wrong_password_counts_once() {
    let throttle = throttle();
    for minute in 0..1000 {
        let at = START + minute * 1000;
        assert!(tried(&throttle, "info@hoge.com", from("192.0.2.1"), at, Outcome::Wrong(mac(1))), "{minute}");
    }
    assert!(throttle.knows_wrong(&mac(1), START + 1));
    assert!(!throttle.knows_wrong(&mac(2), START + 1));
    assert_eq!(throttle.explain("192.0.2.1", START)[0].wrong, 1);
}

#[test]
fn a_login_under_attack_from_everywhere_is_slowed_but_never_shut() {
    let throttle = throttle();
    let mut reached = 0;
    for host in 0..200 {
        let client = from(&format!("198.51.100.{host}"));
        reached += guesses(&throttle, "info@hoge.com", client, START, host..host + 1);
    }
    assert_eq!(reached, 10);
    // One more every window / login_limit.
    let step = WINDOW / 10;
    assert!(!tried(&throttle, "info@hoge.com", from("203.0.113.1"), START + step - 1, Outcome::Right));
    assert!(tried(&throttle, "info@hoge.com", from("203.0.113.1"), START + step, Outcome::Right));
    // Others are not concerned.
    assert!(tried(&throttle, "a@b.c", from("203.0.113.1"), START, Outcome::Right));
}

#[test]
fn where_the_address_is_not_told_the_login_alone_counts() {
    let throttle = throttle();
    assert_eq!(guesses(&throttle, "info@hoge.com", None, START, 0..1000), 10);
    assert_eq!(guesses(&throttle, "a@b.c", None, START, 1000..1005), 5);
}

#[test]
fn the_owner_gets_in_from_a_known_address_whatever_strangers_do() {
    let throttle = throttle();
    assert!(tried(&throttle, "info@hoge.com", from("203.0.113.7"), START, Outcome::Right));
    for host in 0..200 {
        guesses(&throttle, "info@hoge.com", from(&format!("198.51.100.{host}")), START + 1, host..host + 1);
    }
    // Somebody in the owner's network who tries other people's logins is refused there ...
    assert_eq!(guesses(&throttle, "a@b.c", from("203.0.113.7"), START + 1, 1000..1100), 5);
    // ... and the owner still gets in.
    assert!(tried(&throttle, "info@hoge.com", from("203.0.113.7"), START + 2, Outcome::Right));
    assert!(!tried(&throttle, "info@hoge.com", from("203.0.113.8"), START + 2, Outcome::Right));
}

#[test]
fn a_known_client_has_a_limit_of_its_own_and_is_forgotten_in_time() {
    let throttle = throttle();
    let home = from("203.0.113.7");
    assert!(tried(&throttle, "info@hoge.com", home, START, Outcome::Right));
    assert_eq!(guesses(&throttle, "info@hoge.com", home, START, 0..100), 3);
    assert!(!tried(&throttle, "info@hoge.com", home, START + WINDOW / 3 - 1, Outcome::Right));
    assert!(tried(&throttle, "info@hoge.com", home, START + WINDOW / 3, Outcome::Right));
    // Its wrong tries were not held against the login.
    assert_eq!(throttle.explain("info@hoge.com", START)[0].wrong, 0);
    let long = START + 31 * 86_400_000;
    assert_eq!(guesses(&throttle, "info@hoge.com", home, long, 200..300), 5, "a stranger again");
}

#[test]
fn a_trusted_network_is_not_refused_but_its_logins_are_slowed() {
    let throttle = throttle();
    let webmail = from("127.0.0.1");
    let mut reached = 0;
    for user in 0..50 {
        reached += guesses(&throttle, &format!("u{user}@hoge.com"), webmail, START, user..user + 1);
    }
    assert_eq!(reached, 50);
    assert_eq!(guesses(&throttle, "info@hoge.com", webmail, START, 100..200), 10);
}

#[test]
fn tries_at_the_same_time_are_no_more_than_tries_in_turn() {
    let throttle = throttle();
    let client = from("192.0.2.1");
    let mut places = Vec::new();
    for _ in 0..5 {
        let Admission::Pass(place) = throttle.admit("info@hoge.com", client, START) else { panic!("there is room") };
        places.push(place);
    }
    assert!(matches!(throttle.admit("info@hoge.com", client, START), Admission::Wait));
    // One was right, one came to nothing: their places are free again.
    places.pop().unwrap().settle(Outcome::Right, START);
    drop(places.pop());
    // The client is now a known one of this login; ask for another.
    for _ in 0..2 {
        let Admission::Pass(place) = throttle.admit("a@b.c", client, START) else { panic!("there is room") };
        places.push(place);
    }
    assert!(matches!(throttle.admit("a@b.c", client, START), Admission::Wait));
    for (number, place) in (0..).zip(places) {
        place.settle(Outcome::Wrong(mac(number)), START);
    }
    assert!(matches!(throttle.admit("a@b.c", client, START), Admission::Refused(_)));
}

#[test]
fn memory_is_bounded_whatever_is_tried() {
    let throttle = throttle();
    tried(&throttle, "info@hoge.com", from("203.0.113.7"), START, Outcome::Right);
    for number in 0..20_000_u32 {
        let client = IpAddr::from(std::net::Ipv4Addr::from_bits(0x0a00_0000 + number));
        tried(&throttle, &format!("u{number}@hoge.com"), Some(client), START, Outcome::Wrong(mac(number)));
    }
    {
        let tables = throttle.lock();
        assert!(tables.networks.len() <= 1001 && tables.logins.len() <= 1001 && tables.wrong.len() <= 1001);
    }
    assert_eq!(throttle.explain("info@hoge.com", START).len(), 2, "a known client is the last to be forgotten");
}

#[test]
fn a_restart_keeps_counts_and_known_clients() {
    let before = throttle();
    tried(&before, "info@hoge.com", from("203.0.113.7"), START, Outcome::Right);
    assert_eq!(guesses(&before, "info@hoge.com", from("192.0.2.1"), START, 0..10), 5);
    let rows = before.changes();
    assert!(before.changes().is_empty());
    let after = throttle();
    after.restore(rows, START + 1000);
    assert_eq!(guesses(&after, "info@hoge.com", from("192.0.2.1"), START + 1000, 10..20), 0);
    assert!(tried(&after, "info@hoge.com", from("203.0.113.7"), START + 1000, Outcome::Right));
    assert_eq!(after.explain("info@hoge.com", START + 1000)[0].wrong, 5);
}

#[test]
fn changes_that_could_not_be_written_come_again() {
    let throttle = throttle();
    guesses(&throttle, "info@hoge.com", from("192.0.2.1"), START, 0..1);
    let changes = throttle.changes();
    assert_eq!(changes.len(), 2);
    throttle.changed_again(changes.clone());
    assert_eq!(throttle.changes(), changes);
}

#[test]
fn reset_forgets_a_login_a_client_or_everything() {
    let throttle = throttle();
    guesses(&throttle, "info@hoge.com", from("192.0.2.1"), START, 0..10);
    assert!(throttle.reset(Some("192.0.2.1")) && !throttle.reset(Some("192.0.2.1")));
    assert_eq!(guesses(&throttle, "info@hoge.com", from("192.0.2.1"), START, 10..20), 5);
    assert!(throttle.reset(Some("info@hoge.com")));
    assert!(throttle.explain("info@hoge.com", START).is_empty());
    throttle.reset(None);
    assert!(throttle.list(START, 10).is_empty());
    let gone = throttle.changes();
    assert!(gone.contains(&Change::Login { login: "info@hoge.com".into(), count: None, known: Vec::new() }));
}

#[test]
fn a_throttle_that_is_off_counts_nothing() {
    let throttle = Arc::new(Throttle::new(Rules { enabled: false, ..rules() }));
    assert_eq!(guesses(&throttle, "info@hoge.com", from("192.0.2.1"), START, 0..100), 100);
    assert!(!throttle.knows_wrong(&mac(1), START));
    assert!(throttle.list(START, 10).is_empty() && throttle.changes().is_empty());
}

#[test]
fn a_clock_that_is_set_back_neither_locks_out_for_years_nor_frees() {
    let limit = rules().client();
    let full = Count::restored(5000, START, START + WINDOW);
    let years_ago = START - 300_000_000_000;
    assert_eq!(full.gate(limit, years_ago), Gate::Shut);
    assert!(full.refuses_for(limit, years_ago) <= WINDOW);
    assert_eq!(full.gate(limit, START + WINDOW), Gate::Open);
}
