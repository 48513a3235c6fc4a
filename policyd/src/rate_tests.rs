use super::*;
use crate::facts::tests::rcpt;
use crate::rate_rule::tests::rule;
use mailsql_config::policy::{Count, RateKey};
use proptest::prelude::*;

const NOW: u64 = 1_700_000_000 * SECOND;

fn rates(rules: Vec<RateRule>) -> Rates {
    Rates::new(&RateCheck { rule: rules, database: false, except: Vec::new(), entries: 100, ..RateCheck::default() })
        .unwrap()
}

fn ask(rates: &Rates, facts: &Facts<'_>) -> Outcome {
    rates.decide(facts, &[], &mut Vec::new())
}

/// Facts of one message.
fn message<'a>(instance: &'a str, recipient: &'a str) -> Facts<'a> {
    Facts { instance: instance.as_bytes(), ..rcpt(NOW, "192.0.2.1", "bob@a.jp", "bob@a.jp", recipient) }
}

fn level(rates: &Rates, rule: usize, key: &str, now: u64) -> u64 {
    let counts = lock(&rates.counts);
    let bucket = counts.buckets[rule].find(key.as_bytes()).copied().unwrap_or_default();
    bucket.level(rates.rules[rule].pace, now)
}

#[test]
fn a_message_counts_once_however_often_it_is_asked_about() {
    let rates = rates(vec![rule("m", RateKey::SaslUsername, Count::Messages, 1, 3)]);
    for instance in ["1", "2", "3"] {
        for recipient in ["a@x", "a@x", "b@x"] {
            assert_eq!(ask(&rates, &message(instance, recipient)), Outcome::Enough);
        }
        for state in [State::Data, State::EndOfMessage] {
            let facts = Facts { state, recipients: 2, ..message(instance, "") };
            assert_eq!(ask(&rates, &facts), Outcome::Enough);
        }
    }
    assert_eq!(ask(&rates, &message("4", "a@x")), Outcome::TooFast(0, SECOND));
    assert_eq!(ask(&rates, &message("4", "a@x")), Outcome::TooFast(0, SECOND), "what is refused costs nothing");
    assert_eq!(ask(&rates, &message("3", "c@x")), Outcome::Enough, "what was let through stays so");
    let later = Facts { now: NOW + SECOND, ..message("4", "a@x") };
    assert_eq!(ask(&rates, &later), Outcome::Enough);
}

#[test]
fn without_an_instance_every_request_counts() {
    let rates = rates(vec![rule("m", RateKey::SaslUsername, Count::Messages, 1, 2)]);
    let facts = message("", "a@x");
    assert_eq!(ask(&rates, &facts), Outcome::Enough);
    assert_eq!(ask(&rates, &facts), Outcome::Enough);
    assert!(matches!(ask(&rates, &facts), Outcome::TooFast(..)));
}

#[test]
fn recipients_count_at_rcpt_and_are_set_right_at_data() {
    let rates = rates(vec![rule("r", RateKey::SaslUsername, Count::Recipients, 1, 10)]);
    for (recipient, left) in [("a@x", 9), ("a@x", 9), ("b@x", 8), ("b@x", 8), ("c@x", 7), ("a@x", 6)] {
        assert_eq!(ask(&rates, &message("1", recipient)), Outcome::Enough);
        assert_eq!(level(&rates, 0, "bob@a.jp", NOW), left, "{recipient}");
    }
    // Another restriction refused one of them.
    for (state, left) in [(State::Data, 7), (State::EndOfMessage, 7)] {
        assert_eq!(ask(&rates, &Facts { state, recipients: 3, ..message("1", "") }), Outcome::Enough);
        assert_eq!(level(&rates, 0, "bob@a.jp", NOW), left);
    }
    // Asked at DATA alone, all count there.
    let data = Facts { state: State::Data, recipients: 7, ..message("2", "") };
    assert_eq!(ask(&rates, &data), Outcome::Enough);
    assert_eq!(level(&rates, 0, "bob@a.jp", NOW), 0);
    assert!(matches!(ask(&rates, &message("3", "a@x")), Outcome::TooFast(0, _)));
}

#[test]
fn bytes_count_as_announced_and_then_as_they_are() {
    let rates = rates(vec![rule("b", RateKey::ClientAddress, Count::Bytes, 1000, 1000)]);
    let at = |instance: &'static str, state, size| Facts { state, size, ..message(instance, "a@x") };
    for (facts, left) in [
        (at("1", State::Rcpt, 300), 700),
        (at("1", State::Rcpt, 300), 700),
        (at("1", State::EndOfMessage, 250), 750),
        (at("2", State::Rcpt, 0), 750),
        (at("2", State::EndOfMessage, 750), 0),
        (at("3", State::Rcpt, 0), 0),
    ] {
        assert_eq!(ask(&rates, &facts), Outcome::Enough);
        assert_eq!(level(&rates, 0, "192.0.2.1", NOW), left, "{facts:?}");
    }
    assert!(matches!(ask(&rates, &at("3", State::EndOfMessage, 1)), Outcome::TooFast(..)));
}

#[test]
fn all_rules_are_charged_or_none() {
    let rates = rates(vec![
        rule("login", RateKey::SaslUsername, Count::Messages, 1, 5),
        rule("to", RateKey::RecipientDomain, Count::Messages, 1, 2),
    ]);
    for instance in ["1", "2"] {
        assert_eq!(ask(&rates, &message(instance, "a@x")), Outcome::Enough);
    }
    assert_eq!(ask(&rates, &message("3", "a@x")), Outcome::TooFast(1, SECOND));
    assert_eq!(level(&rates, 0, "bob@a.jp", NOW), 3);
    assert_eq!(ask(&rates, &message("3", "a@y")), Outcome::Enough);
    assert_eq!((level(&rates, 0, "bob@a.jp", NOW), level(&rates, 1, "y", NOW)), (2, 1));
    // Each domain of one message counts for itself.
    assert_eq!(ask(&rates, &message("3", "b@z")), Outcome::Enough);
    assert_eq!((level(&rates, 0, "bob@a.jp", NOW), level(&rates, 1, "z", NOW)), (2, 1));
}

#[test]
fn limits_of_the_database_stand_over_those_of_the_rule() {
    let rule = Pace { limit: 60, per: 60 * SECOND, burst: 20 };
    let limit = |amount, per, burst| Some(RateLimit { amount, per, burst });
    for (limit, want) in [
        (None, Some(rule)),
        (limit(None, None, None), Some(rule)),
        (limit(Some(120), None, None), Some(Pace { limit: 120, burst: 40, ..rule })),
        (limit(Some(1), None, None), Some(Pace { limit: 1, burst: 1, ..rule })),
        (limit(Some(10), Some(3600), Some(5)), Some(Pace { limit: 10, per: 3600 * SECOND, burst: 5 })),
        (limit(Some(0), None, None), Some(Pace { limit: 0, burst: 1, ..rule })),
        (limit(Some(-1), None, None), None),
    ] {
        assert_eq!(pace(rule, limit), want, "{limit:?}");
    }
    let rates = Rates::new(&RateCheck {
        rule: vec![crate::rate_rule::tests::rule("m", RateKey::SaslUsername, Count::Messages, 1, 1)],
        ..RateCheck::default()
    })
    .unwrap();
    let (facts, mut missing) = (message("1", "a@x"), Vec::new());
    assert_eq!(rates.decide(&facts, &[], &mut missing), Outcome::Unknown);
    let [key] = &missing[..] else { panic!("{missing:?}") };
    assert_eq!(&*key.1, b"bob@a.jp");
    let fetched = [(key.clone(), limit(Some(0), None, None))];
    assert!(matches!(rates.decide(&facts, &fetched, &mut Vec::new()), Outcome::TooFast(0, _)));
}

#[test]
fn counts_and_messages_outlive_a_clean_stop() {
    let settings = || {
        vec![
            rule("m", RateKey::SaslUsername, Count::Messages, 1, 5),
            rule("r", RateKey::SaslUsername, Count::Recipients, 1, 5),
        ]
    };
    let before = rates(settings());
    for recipient in ["a@x", "b@x"] {
        assert_eq!(ask(&before, &message("1", recipient)), Outcome::Enough);
    }
    let after = rates(settings().into_iter().rev().collect());
    for change in before.changes(NOW, true) {
        for (key, value) in change.set {
            after.restore(&change.space, &key, &value, NOW);
        }
    }
    // The rules changed places: their buckets did with them.
    assert_eq!((level(&after, 1, "bob@a.jp", NOW), level(&after, 0, "bob@a.jp", NOW)), (4, 3));
    let same = rates(settings());
    for change in before.changes(NOW, true) {
        for (key, value) in change.set {
            same.restore(&change.space, &key, &value, NOW);
        }
    }
    assert_eq!(ask(&same, &message("1", "b@x")), Outcome::Enough);
    assert_eq!(lock(&same.counts).instances.len(), 1);
}

#[test]
fn instances_read_as_they_are_written() {
    let instance = Instance { seen: 1, recipient: 2, charges: vec![(3, 4, 5), (6, 7, u64::MAX)] };
    assert_eq!(Instance::decode(&instance.encode()), Some(instance.clone()));
    let bytes = instance.encode();
    for end in (0..bytes.len()).filter(|end| *end != 16 && *end != 34) {
        assert_eq!(Instance::decode(&bytes[..end]), None, "{end}");
    }
}

#[test]
fn a_person_sees_level_limit_and_time_and_can_start_anew() {
    let rates = rates(vec![rule("m", RateKey::SaslUsername, Count::Messages, 60, 20)]);
    for instance in ["1", "2", "3"] {
        ask(&rates, &message(instance, "a@x"));
    }
    let want = "rate rule=m key=\"bob@a.jp\" level=17 burst=20 limit=60 per_seconds=60 counts=messages \
                from=configuration next_seconds=0 full_seconds=3";
    assert_eq!(rates.limits(LimitsAction::List, None, NOW), [want]);
    assert_eq!(rates.limits(LimitsAction::Explain, Some("BOB@a.jp"), NOW), [want]);
    assert!(rates.limits(LimitsAction::Explain, Some("eve@a.jp"), NOW).is_empty());
    assert_eq!(rates.limits(LimitsAction::Reset, Some("bob@a.jp"), NOW), [want]);
    assert!(rates.limits(LimitsAction::List, None, NOW).is_empty());
    assert_eq!(level(&rates, 0, "bob@a.jp", NOW), 20);
}

#[test]
fn settings_that_cannot_be_meant_are_refused() {
    let two = vec![rule("m", RateKey::Sender, Count::Messages, 1, 1); 2];
    let error = |settings: RateCheck| Rates::new(&settings).err().map(|error| format!("{error:#}")).unwrap_or_default();
    assert!(error(RateCheck { rule: two, ..RateCheck::default() }).contains("two rules called m"));
    assert!(error(RateCheck { except: vec!["here".into()], ..RateCheck::default() }).contains("except"));
    assert!(Rates::new(&RateCheck::default()).is_ok());
}

proptest! {
    /// However requests about many messages are mixed, no more than the burst is let through at one moment.
    #[test]
    fn at_one_moment_the_burst_is_the_bound(
        requests in proptest::collection::vec((0..30u8, 0..5u8), 1..200),
        burst in 1..10u64,
    ) {
        let rates = rates(vec![
            rule("m", RateKey::SaslUsername, Count::Messages, 1, burst),
            rule("r", RateKey::SaslUsername, Count::Recipients, 1, burst * 2),
        ]);
        let mut let_through = std::collections::HashSet::new();
        for (instance, recipient) in requests {
            let (instance, recipient) = (instance.to_string(), format!("{recipient}@x"));
            if ask(&rates, &message(&instance, &recipient)) == Outcome::Enough {
                let_through.insert(instance);
            }
        }
        prop_assert!(let_through.len() as u64 <= burst);
        prop_assert_eq!(level(&rates, 0, "bob@a.jp", NOW), burst - let_through.len() as u64);
    }
}
