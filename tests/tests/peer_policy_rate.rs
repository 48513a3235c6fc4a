//! Rates through a real Postfix: what is accepted, exactly, across restarts of policyd.

#![allow(clippy::unwrap_used, reason = "a fixture that fails fails the test")]

use mailsql_tests::Policed;
use std::time::Instant;

const MESSAGE: &str = "From: info@hoge.com\nTo: admin@hoge.com\nSubject: rate\n\nbody\n";

/// A bucket that regains nothing within a test.
fn slow(name: &str, key: &str, count: &str, burst: u64) -> String {
    format!(
        "[[policy.rate.rule]]\nname = \"{name}\"\nkey = \"{key}\"\ncount = \"{count}\"\nlimit = 1\nper = \"10h\"\n\
         burst = {burst}\naction = \"DEFER over {{rule}}, wait {{seconds}}\"\n"
    )
}

fn checks(rules: &[String]) -> String {
    format!("checks = [\"rate\"]\n[policy.rate]\nexcept = []\n{}", rules.concat())
}

/// How many of `count` messages are accepted; the others must be refused at RCPT for now.
fn submit(server: &Policed, count: usize) -> usize {
    let mut session = server.submission("info@hoge.com").unwrap();
    let mut accepted = 0;
    for number in 1..=count {
        // Postfix ends a session after twenty refusals.
        if number % 10 == 0 {
            session = server.submission("info@hoge.com").unwrap();
        }
        let reply = session.send("info@hoge.com", &["admin@hoge.com", "info@fuga.com"], MESSAGE).unwrap();
        match reply.code {
            250 => accepted += 1,
            450 => assert!(reply.text().contains("over hour, wait "), "{reply:?}"),
            code => assert_eq!(code, 250, "{reply:?}"),
        }
        session.command("RSET").unwrap();
    }
    accepted
}

#[test]
fn a_bucket_of_20_lets_20_messages_through_across_a_clean_restart_and_a_kill() {
    let mut server = Policed::start(&checks(&[slow("hour", "sasl_username", "messages", 20)]), "").unwrap();
    assert_eq!(submit(&server, 8), 8);
    server.restart_policyd().unwrap();
    assert_eq!(submit(&server, 7), 7);
    server.kill_policyd().unwrap();
    assert_eq!(submit(&server, 15), 5, "{}", server.policyd.log());
    let list = server.mailsql(&["limits", "list"]).unwrap();
    assert!(list.contains("rate rule=hour key=\"info@hoge.com\" level=0 burst=20 limit=1 per_seconds=36000"), "{list}");
    let explained = server.mailsql(&["limits", "explain", "INFO@hoge.com", "--json"]).unwrap();
    assert!(explained.contains("\"level\": 0") && explained.contains("\"full_seconds\": 7"), "{explained}");
    server.mailsql(&["limits", "reset", "info@hoge.com"]).unwrap();
    assert_eq!(submit(&server, 3), 3);
    server.restart_policyd().unwrap();
    assert_eq!(submit(&server, 20), 17);
}

#[test]
fn a_bucket_of_20_that_regains_one_a_second_lets_through_what_was_computed() {
    let rule = slow("hour", "sasl_username", "messages", 20).replace("\"10h\"", "\"1s\"");
    let mut server = Policed::start(&checks(&[rule]), "").unwrap();
    let begun = Instant::now();
    let mut accepted = submit(&server, 30);
    server.restart_policyd().unwrap();
    accepted += submit(&server, 30);
    let most = 20 + usize::try_from(begun.elapsed().as_secs()).unwrap() + 1;
    assert!((20..=most).contains(&accepted), "{accepted} of {most}");
}

#[test]
fn recipients_and_bytes_count_as_postfix_knows_them_and_a_stranger_has_limits_of_its_own() {
    let rules = [
        slow("recipients", "sasl_username", "recipients", 5),
        slow("bytes", "sender", "bytes", 2000),
        slow("strangers", "client_network", "messages", 2) + "clients = \"anonymous\"\n",
        slow("to", "recipient_domain", "messages", 4),
    ];
    let server = Policed::start(&checks(&rules), "").unwrap();
    let level = |rule: &str| {
        let list = server.mailsql(&["limits", "list"]).unwrap();
        let line = list.lines().find(|line| line.contains(&format!("rule={rule} "))).map(str::to_owned);
        let line = line.unwrap_or_else(|| "level=none".to_owned());
        line.split(' ').find_map(|word| word.strip_prefix("level=")).unwrap().to_owned()
    };
    let mut session = server.submission("info@hoge.com").unwrap();
    let reply = session.send("info@hoge.com", &["admin@hoge.com", "info@hoge.com"], MESSAGE).unwrap();
    assert_eq!(reply.code, 250, "{reply:?}");
    assert_eq!((level("recipients"), level("to")), ("3".into(), "3".into()));
    let sent: u64 = level("bytes").parse().unwrap();
    assert!((1000..1999).contains(&sent), "{sent}");
    // What another restriction refuses is given back once Postfix tells how many there are.
    session.command("MAIL FROM:<info@hoge.com> SIZE=100").unwrap();
    for (to, code) in [("nobody@hoge.com", 550), ("admin@hoge.com", 250)] {
        assert_eq!(session.command(&format!("RCPT TO:<{to}>")).unwrap().code, code, "{to}");
    }
    assert_eq!(level("recipients"), "1");
    assert_eq!(session.command("DATA").unwrap().code, 354);
    session.stream().send(b"Subject: x\r\n\r\nx\r\n.\r\n").unwrap();
    assert_eq!(session.reply().unwrap().code, 250);
    assert_eq!(level("recipients"), "2");
    // Too large, said in advance and found at the end.
    session.command("RSET").unwrap();
    session.command("MAIL FROM:<info@hoge.com> SIZE=3000").unwrap();
    let reply = session.command("RCPT TO:<admin@hoge.com>").unwrap();
    assert!(reply.code == 450 && reply.text().contains("over bytes"), "{reply:?}");
    session.command("RSET").unwrap();
    let reply = session
        .send("info@hoge.com", &["admin@hoge.com"], &format!("{MESSAGE}{}\n", "x".repeat(900)).repeat(3))
        .unwrap();
    assert!(reply.code == 450 && reply.text().contains("over bytes"), "{reply:?}");

    for (client, code) in [("198.51.100.1", 250), ("198.51.100.2", 250), ("198.51.100.3", 450), ("203.0.113.1", 250)] {
        let mut session = server.from(client).unwrap();
        let reply = Policed::rcpt(&mut session, "x@example.net", "info@fuga.com").unwrap();
        assert_eq!(reply.code, code, "{client} {reply:?}");
    }
    assert_eq!(level("to"), "1", "four messages to hoge.com, three of them allowed");
}

#[test]
fn users_and_domains_have_limits_of_their_own_in_the_database() {
    let rows = "INSERT INTO rate_limits(subject, rule, amount, per_seconds, burst) VALUES \
                ('@hoge.com', 'hour', 1, NULL, 3), ('admin@hoge.com', 'hour', 0, NULL, NULL), ('info@fuga.com', 'hour', -1, NULL, NULL)";
    let server = Policed::start(&checks(&[slow("hour", "sasl_username", "messages", 1)]), rows).unwrap();
    let accepted = |login: &str| {
        let mut session = server.submission(login).unwrap();
        (0..6).filter(|_| Policed::rcpt(&mut session, login, "info@hoge.com").unwrap().code == 250).count()
    };
    for (login, want) in [("info@hoge.com", 3), ("admin@hoge.com", 0), ("info@fuga.com", 6), ("a@b.c", 1)] {
        assert_eq!(accepted(login), want, "{login}");
    }
    let list = server.mailsql(&["limits", "list"]).unwrap();
    assert!(list.contains("key=\"info@hoge.com\" level=0 burst=3") && list.contains("from=database"), "{list}");
}
