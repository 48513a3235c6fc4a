//! Who may send as whom, and what trouble looks like, through a real Postfix.

#![allow(clippy::unwrap_used, reason = "a fixture that fails fails the test")]

use mailsql_tests::Policed;
use std::time::{Duration, Instant};

const ACCOUNTS: &str = "\
INSERT INTO aliases(name, domain_id, destination) VALUES
  ('sales', 1, 'info@hoge.com'), ('all', 1, 'sales@hoge.com'), ('all', 1, 'admin@hoge.com'), ('boss', 1, 'admin@hoge.com');
INSERT INTO alias_domains(name, domain_id) VALUES ('hoge.example', 1);
INSERT INTO sender_grants(user_id, address, allowed) VALUES
  (1, 'all@hoge.com', 0), (1, 'boss@hoge.com', 1), (1, '@b.c', 1);";

#[test]
fn a_login_sends_as_what_is_its_own_and_as_nothing_else() {
    let settings = "checks = [\"sender_login\"]\n[policy.sender_login]\nnull_sender = false\nanonymous = false\n";
    let server = Policed::start(settings, ACCOUNTS).unwrap();
    let mut session = server.submission("info@hoge.com").unwrap();
    for (sender, code) in [
        ("info@hoge.com", 250),
        ("INFO@Hoge.COM", 250),
        ("info+lists@hoge.com", 250),
        ("sales@hoge.com", 250),
        ("sales+x@hoge.com", 250),
        ("info@hoge.example", 250),
        ("Sales@HOGE.example", 250),
        ("boss@hoge.com", 250),
        ("anything@b.c", 250),
        ("all@hoge.com", 553),
        ("admin@hoge.com", 553),
        ("admin@hoge.example", 553),
        ("info@fuga.com", 553),
        ("nobody@hoge.com", 553),
        ("somebody@example.net", 553),
        ("", 553),
    ] {
        let reply = Policed::rcpt(&mut session, sender, "admin@hoge.com").unwrap();
        assert_eq!(reply.code, code, "{sender}: {reply:?}\n{}", server.policyd.log());
        if code == 553 {
            let want = format!(
                "5.7.1 <admin@hoge.com>: Recipient address rejected: <{sender}> does not belong to info@hoge.com"
            );
            assert_eq!(reply.text(), want);
        }
    }
    let mut stranger = server.from("203.0.113.1").unwrap();
    for (sender, code) in [("info@hoge.com", 553), ("sales@hoge.example", 553), ("x@example.net", 250), ("", 250)] {
        let reply = Policed::rcpt(&mut stranger, sender, "admin@hoge.com").unwrap();
        assert_eq!(reply.code, code, "{sender}: {reply:?}");
    }
}

#[test]
fn lists_decide_first_and_a_pass_asks_nobody_else() {
    let settings = "checks = [\"acl\", \"sender_login\"]\n[policy.sender_login]\nanonymous = false\n\
                    [[policy.acl.rule]]\nclient = \"203.0.113.0/24\"\nsender = \"@hoge.com\"\naction = \"PASS\"\n\
                    [[policy.acl.rule]]\nclient = \"198.51.101.0/24\"\naction = \"REJECT no mail from here\"\n";
    let rows = "INSERT INTO policy_acl(position, sender, recipient, action) VALUES \
                (2, '@.spam.example', NULL, 'REJECT'), (1, 'good@spam.example', 'info@hoge.com', 'DUNNO'), (3, NULL, 'a@b.c', '550');";
    let server = Policed::start(settings, rows).unwrap();
    for (client, sender, recipient, code) in [
        ("203.0.113.1", "info@hoge.com", "admin@hoge.com", 250),
        ("198.51.100.1", "info@hoge.com", "admin@hoge.com", 553),
        ("198.51.101.7", "x@example.net", "admin@hoge.com", 554),
        ("198.51.100.1", "x@mx.spam.example", "admin@hoge.com", 554),
        ("198.51.100.1", "good@spam.example", "info@hoge.com", 250),
        ("198.51.100.1", "good@spam.example", "admin@hoge.com", 554),
        // A row with an action that Postfix would take for OK is left out.
        ("198.51.100.1", "x@example.net", "a@b.c", 250),
    ] {
        let mut session = server.from(client).unwrap();
        let reply = Policed::rcpt(&mut session, sender, recipient).unwrap();
        assert_eq!(reply.code, code, "{client} {sender} {recipient}: {reply:?}\n{}", server.policyd.log());
    }
    assert!(server.policyd.log().contains("row of policy_acl left out"), "{}", server.policyd.log());
}

/// A database that is down: no answer, the connection closed, and so whatever Postfix is told to do then.
#[test]
fn trouble_is_left_to_postfix() {
    let settings = "checks = [\"sender_login\"]\n";
    for (default_action, code) in [("", 451), (", default_action=DUNNO", 250)] {
        let asked = |policy: &str| format!("check_policy_service {{ {policy}, retry_delay=1s{default_action} }}");
        // Postfix's own maps would defer as well: without them, the policy alone decides.
        let alone = |postfix: mailsql_rig::PostfixSetup| {
            postfix
                .main("virtual_mailbox_domains", "hoge.com")
                .main("virtual_mailbox_maps", "static:all")
                .main("virtual_alias_maps", "")
                .main("virtual_transport", "discard:")
        };
        let mut server = Policed::start_with(settings, "", asked, alone).unwrap();
        let mut session = server.submission("info@hoge.com").unwrap();
        assert_eq!(Policed::rcpt(&mut session, "admin@hoge.com", "info@hoge.com").unwrap().code, 553);
        server.db.stop();
        // Answers of before are forgotten by now: they were good for a second.
        std::thread::sleep(Duration::from_millis(1200));
        let reply = Policed::rcpt(&mut session, "admin@hoge.com", "info@hoge.com").unwrap();
        assert_eq!(reply.code, code, "{reply:?}\n{}", server.policyd.log());
        if code == 451 {
            assert!(
                reply.text().contains("4.3.5") && reply.text().contains("Server configuration problem"),
                "{reply:?}"
            );
            server.db.restart().unwrap();
            let back = Instant::now();
            mailsql_rig::wait_until("the policy to know again", Duration::from_secs(10), || {
                Policed::rcpt(&mut session, "admin@hoge.com", "info@hoge.com").unwrap().code == 553
            })
            .unwrap();
            assert!(back.elapsed() < Duration::from_secs(10));
        }
    }
}
