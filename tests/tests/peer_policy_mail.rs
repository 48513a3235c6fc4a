//! Full and closed mailboxes, and greylisting, through a real Postfix.

#![allow(clippy::unwrap_used, reason = "a fixture that fails fails the test")]

use mailsql_tests::Policed;
use std::time::Duration;

const MESSAGE: &str = "From: x@example.net\nTo: info@hoge.com\nSubject: quota\n\nbody\n";
const PATIENCE: Duration = Duration::from_secs(20);

/// Puts messages of this size into a mailbox, as their names tell it.
fn fill(server: &Policed, address: &str, size: usize) {
    let cur = server.site.run("mail").join(address).join("cur");
    std::fs::create_dir_all(&cur).unwrap();
    for folder in ["new", "tmp"] {
        std::fs::create_dir_all(cur.with_file_name(folder)).unwrap();
    }
    std::fs::write(cur.join(format!("1.filled,S={size}:2,S")), "").unwrap();
    for path in [cur.parent().unwrap().to_owned(), cur.clone(), cur.with_file_name("new"), cur.with_file_name("tmp")] {
        std::os::unix::fs::chown(path, Some(65534), Some(65534)).unwrap();
    }
}

#[test]
fn a_full_mailbox_behind_two_aliases_is_refused_at_rcpt_and_nothing_bounces() {
    let rows = "\
        UPDATE users SET quota_bytes = 1000 * domain_id * domain_id WHERE name = 'info';
        UPDATE users SET enabled = 0 WHERE name = 'fuga';
        INSERT INTO aliases(name, domain_id, destination) VALUES
          ('one', 1, 'two@hoge.com'), ('two', 1, 'info@hoge.com'), ('list', 1, 'info@hoge.com'), ('list', 1, 'admin@hoge.com'),
          ('out', 1, 'info@hoge.com'), ('out', 1, 'someone@example.net'), ('off', 1, 'fuga@teketeke.com');";
    let server = Policed::start("checks = [\"quota\"]\n", rows).unwrap();
    fill(&server, "info@hoge.com", 1000);
    fill(&server, "info@fuga.com", 2000);
    let mut session = server.from("203.0.113.1").unwrap();
    for (recipient, code, status) in [
        ("info@hoge.com", 552, "5.2.2"),
        ("info+x@hoge.com", 552, "5.2.2"),
        ("one@hoge.com", 552, "5.2.2"),
        ("One+x@Hoge.com", 552, "5.2.2"),
        ("list@hoge.com", 250, "2.1.5"),
        ("out@hoge.com", 250, "2.1.5"),
        ("fuga@teketeke.com", 550, "5.2.1"),
        ("off@hoge.com", 550, "5.2.1"),
        ("nobody@hoge.com", 550, "5.1.1"),
        ("info@fuga.com", 250, "2.1.5"),
        ("admin@hoge.com", 250, "2.1.5"),
    ] {
        let reply = Policed::rcpt(&mut session, "x@example.net", recipient).unwrap();
        assert_eq!(reply.code, code, "{recipient}: {reply:?}\n{}", server.policyd.log());
        assert!(reply.text().starts_with(status), "{recipient}: {reply:?}");
    }
    // Announced too large, and found too large.
    session.command("RSET").unwrap();
    session.command("MAIL FROM:<x@example.net> SIZE=1600").unwrap();
    assert_eq!(session.command("RCPT TO:<info@fuga.com>").unwrap().code, 552);
    session.command("RSET").unwrap();
    let reply = session
        .send("x@example.net", &["info@fuga.com"], &format!("{MESSAGE}{}\n", "x".repeat(600).replace('x', "xx\n")))
        .unwrap();
    assert_eq!(reply.code, 552, "{reply:?}");
    session.command("RSET").unwrap();
    let reply = session.send("x@example.net", &["info@fuga.com"], MESSAGE).unwrap();
    assert_eq!(reply.code, 250, "{reply:?}");
    server.postfix.wait_empty(PATIENCE).unwrap();
    let log = server.postfix.log();
    assert!(log.contains("status=sent") && !log.contains("status=bounced"), "{log}");
}

#[test]
fn strangers_wait_once_and_a_network_that_comes_back_is_let_through() {
    let settings = "checks = [\"greylist\"]\n[policy.greylist]\ndelay = \"2s\"\nallow_after = 2\nexcept = []\n";
    let rows = "UPDATE domains SET greylist = 0 WHERE name = 'fuga.com'; UPDATE users SET greylist = 0 WHERE name = 'admin'; \
                UPDATE domains SET greylist = 1 WHERE name = 'hoge.com'";
    let mut server = Policed::start(settings, rows).unwrap();
    let code = |server: &Policed, client: &str, sender: &str, recipient: &str| {
        let reply = Policed::rcpt(&mut server.from(client).unwrap(), sender, recipient).unwrap();
        assert!(reply.code == 250 || reply.text().contains("Greylisted, try again in"), "{reply:?}");
        reply.code
    };
    assert_eq!(code(&server, "203.0.113.1", "x@example.net", "info@hoge.com"), 450);
    assert_eq!(code(&server, "203.0.113.2", "x@example.net", "info@hoge.com"), 450);
    assert_eq!(code(&server, "203.0.113.1", "y@example.net", "info@hoge.com"), 450);
    assert_eq!(code(&server, "203.0.113.1", "x@example.net", "info@fuga.com"), 250, "its domain is not protected");
    assert_eq!(code(&server, "203.0.113.1", "x@example.net", "admin@hoge.com"), 250, "this user is not protected");
    let mut own = server.submission("info@hoge.com").unwrap();
    assert_eq!(
        Policed::rcpt(&mut own, "info@hoge.com", "info@hoge.com").unwrap().code,
        250,
        "who has logged in never waits"
    );
    server.restart_policyd().unwrap();
    std::thread::sleep(Duration::from_millis(3100));
    assert_eq!(code(&server, "203.0.113.77", "x@example.net", "info@hoge.com"), 250);
    assert_eq!(code(&server, "203.0.113.1", "z@example.net", "info@hoge.com"), 450, "one that came back is not enough");
    assert_eq!(code(&server, "203.0.113.77", "y@example.net", "info@hoge.com"), 250);
    assert_eq!(code(&server, "203.0.113.1", "new@example.net", "info@hoge.com"), 250, "two are");
    assert_eq!(code(&server, "203.0.114.1", "x@example.net", "info@hoge.com"), 450, "another network");
    server.kill_policyd().unwrap();
    assert_eq!(code(&server, "203.0.113.200", "other@example.net", "info@hoge.com"), 250);
    let list = server.mailsql(&["limits", "explain", "203.0.113.9"]).unwrap();
    assert!(list.contains("greylist network=203.0.113.0/24 came_back=2 allow_after=2 waits=no"), "{list}");
    server.mailsql(&["limits", "reset", "203.0.113.9"]).unwrap();
    assert_eq!(code(&server, "203.0.113.200", "other@example.net", "info@hoge.com"), 450);
}
