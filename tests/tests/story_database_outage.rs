//! The database is away: who was known goes on logging in and receiving, everybody else is told to try later, and nobody
//! is told "no". And an answer that was under way while its key was forgotten is not kept.

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "a fixture that fails fails the test")]

use mailsql_ask::Client;
use mailsql_ask::ask::{Reply, Request, Secret};
use mailsql_rig::client::lmtp::Lmtp;
use mailsql_rig::client::saslauthd;
use mailsql_rig::client::socketmap::Socketmap;
use mailsql_rig::{Daemon, MariaDb, Proxy, document, program, run, wait_until};
use mailsql_tests::Site;
use std::collections::BTreeMap;
use std::process::Command;
use std::time::{Duration, Instant};

/// How long the database stays away.
#[cfg(feature = "slow")]
const OUTAGE: Duration = Duration::from_secs(60);
/// How long the database stays away: longer than answers are fresh, so that old ones must serve.
#[cfg(not(feature = "slow"))]
const OUTAGE: Duration = Duration::from_secs(4);
/// How long after its return the last answer may be "try later".
const RECOVERY: Duration = Duration::from_secs(5);

/// An answer by any protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Said {
    Yes,
    No,
    Later,
}

struct Stand {
    site: Site,
    _daemons: Vec<Daemon>,
}

impl Stand {
    /// One login or one recipient by each protocol.
    fn ask(&self, user: &str, password: &str) -> [(&'static str, Said); 4] {
        let reply = saslauthd::ask(self.site.run("mux"), user, password, "smtp", "").unwrap();
        let sasl = match reply.as_deref() {
            Some("OK") => Said::Yes,
            Some(_) => Said::No,
            None => Said::Later,
        };
        let client = Client::new(self.site.run("ask.sock"), Duration::from_secs(10));
        let (user_bytes, password) = (user.as_bytes(), Secret(password.as_bytes()));
        let request = Request::Login { user: user_bytes, password, service: b"imap", rip: b"", lip: b"" };
        let ask = match client.ask(&request) {
            Ok(Reply::Account(_)) => Said::Yes,
            Ok(Reply::Wrong | Reply::Unknown) => Said::No,
            Ok(other) => panic!("{user}: {}", other.word()),
            Err(_) => Said::Later,
        };
        let reply = Socketmap::connect(self.site.run("maps.sock")).unwrap().find("mailboxes", user).unwrap();
        let map = match reply.split(' ').next() {
            Some("OK") => Said::Yes,
            Some("NOTFOUND") => Said::No,
            Some("TEMP") => Said::Later,
            _ => panic!("{user}: {reply}"),
        };
        let mut session = Lmtp::hello(self.site.run("lmtp.sock")).unwrap();
        session.command("MAIL FROM:<out@example.net>").unwrap();
        let lmtp = match session.command(&format!("RCPT TO:<{user}>")).unwrap().code {
            250 => Said::Yes,
            550 => Said::No,
            451 => Said::Later,
            other => panic!("{user}: {other}"),
        };
        [("saslauthd", sasl), ("ask", ask), ("socketmap", map), ("lmtp", lmtp)]
    }
}

#[test]
fn while_all_databases_are_down_the_known_are_served_and_the_others_told_to_try_later() {
    let mut first = MariaDb::start_with_document().unwrap();
    let mut second = MariaDb::start_with_document().unwrap();
    let url = format!("mysql://mail:mailpass@{},{}/mail", first.host_port(), second.host_port());
    // Answers are fresh for a second only, so that almost all of the outage is served from old ones.
    let sections = format!(
        "[cache]\npositive_ttl = \"1s\"\nnegative_ttl = \"1s\"\nstale_ttl = \"1h\"\n[mail]\nroot = \"{{run}}/mail\"\n\
         uid = 65534\ngid = 65534\n[saslauthd]\nlisten = \"{{run}}/mux\"\n[maps]\nlisten = {}\n[lmtp]\nlisten = {}\n\
         [ask]\nlisten = {}\n",
        Site::listen("maps.sock"),
        Site::listen("lmtp.sock"),
        Site::listen("ask.sock"),
    );
    let site = Site::with_database(&format!("url = \"{url}\""), &sections).unwrap();
    std::fs::create_dir(site.run("mail")).unwrap();
    std::os::unix::fs::chown(site.run("mail"), Some(65534), Some(65534)).unwrap();
    let sasl = Daemon::setup("saslauthd-rs")
        .arg("--config")
        .arg(site.config())
        .args(["-c", "--foreground"])
        .ready_socket(site.run("mux"));
    let serve = Daemon::setup("mailsql").arg("--config").arg(site.config()).args(["serve", "--only", "ask,maps,lmtp"]);
    let serve =
        ["ask.sock", "maps.sock", "lmtp.sock"].iter().fold(serve, |setup, name| setup.ready_socket(site.run(name)));
    let stand = Stand { _daemons: vec![sasl.start().unwrap(), serve.start().unwrap()], site };

    let (known, unknown) = document::LOGINS.split_at(3);
    for (user, password) in known {
        for (protocol, said) in stand.ask(user, password) {
            assert_eq!(said, Said::Yes, "{user} by {protocol}");
        }
    }
    // Remembered as not there.
    for (protocol, said) in stand.ask("nobody@hoge.com", "x") {
        assert_eq!(said, Said::No, "nobody by {protocol}");
    }

    first.kill();
    second.kill();
    let down = Instant::now();
    let mut counts: BTreeMap<(&str, &str, Said), u64> = BTreeMap::new();
    let mut slowest = Duration::ZERO;
    while down.elapsed() < OUTAGE {
        let groups = [
            ("known", known),
            ("others", unknown),
            ("new", &[("who@hoge.com", "x")]),
            ("gone", &[("nobody@hoge.com", "x")]),
        ];
        for (group, logins) in groups {
            for (user, password) in logins {
                let begun = Instant::now();
                for (protocol, said) in stand.ask(user, password) {
                    *counts.entry((group, protocol, said)).or_default() += 1;
                }
                slowest = slowest.max(begun.elapsed());
            }
        }
        // A wrong password of somebody known is still wrong.
        for (protocol, said) in &stand.ask(known[0].0, "wrong")[..2] {
            *counts.entry(("known, wrong password", protocol, *said)).or_default() += 1;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    println!(
        "{:<22} {:<10} {:>6} {:>6} {:>6}   down for {:?}, slowest four answers {slowest:?}",
        "who",
        "protocol",
        "yes",
        "no",
        "later",
        down.elapsed()
    );
    let mut wrong = Vec::new();
    for group in ["known", "known, wrong password", "others", "new", "gone"] {
        let expected = match group {
            "known" => Said::Yes,
            "known, wrong password" | "gone" => Said::No,
            _ => Said::Later,
        };
        for protocol in ["saslauthd", "ask", "socketmap", "lmtp"] {
            let count = |said| counts.get(&(group, protocol, said)).copied().unwrap_or(0);
            let (yes, no, later) = (count(Said::Yes), count(Said::No), count(Said::Later));
            println!("{group:<22} {protocol:<10} {yes:>6} {no:>6} {later:>6}");
            let all = yes + no + later;
            if count(expected) != all
                || (all == 0 && !(group.contains("wrong") && ["socketmap", "lmtp"].contains(&protocol)))
            {
                wrong.push((group, protocol));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:?}");

    second.restart().unwrap();
    let back = Instant::now();
    for (user, password, expected) in [unknown[0], unknown[1], unknown[2]]
        .map(|(user, password)| (user, password, Said::Yes))
        .into_iter()
        .chain([("who@hoge.com", "x", Said::No)])
    {
        wait_until(user, RECOVERY, || stand.ask(user, password).iter().all(|(_, said)| *said == expected)).unwrap();
    }
    println!("all right again {:?} after the second server is back", back.elapsed());
    assert!(back.elapsed() < RECOVERY, "{:?}", back.elapsed());
}

#[test]
fn an_answer_under_way_while_its_key_is_forgotten_is_not_kept() {
    let db = MariaDb::start_with_document().unwrap();
    let proxy = Proxy::start(db.port()).unwrap();
    let url = format!("mysql://mail:mailpass@127.0.0.1:{}/mail", proxy.port());
    let sections = format!("[maps]\nlisten = {}\n", Site::listen("maps.sock"));
    let site = Site::with_database(&format!("url = \"{url}\""), &sections).unwrap();
    let _maps = site.start("postfix-maps", "maps.sock").unwrap();
    let find = |key: &str| Socketmap::connect(site.run("maps.sock")).unwrap().find("mailboxes", key).unwrap();
    // The statement is prepared and the domains are known: one exchange with the server is all that is left.
    assert_eq!(find("info@hoge.com"), "OK info@hoge.com/");

    for forget in [false, true] {
        let (name, key) = if forget { ("forgotten", "forgotten@hoge.com") } else { ("kept", "kept@hoge.com") };
        db.sql(&format!("INSERT INTO mail.users (name, password, domain_id) VALUES ('{name}', 'x', 1)")).unwrap();
        proxy.hold(name);
        let under_way = std::thread::scope(|scope| {
            let under_way = scope.spawn(|| find(key));
            proxy.wait_held().unwrap();
            // The server has answered "there"; now it is gone, and the daemon is told so.
            db.sql(&format!("DELETE FROM mail.users WHERE name = '{name}'")).unwrap();
            if forget {
                let mut command = Command::new(program("mailsql").unwrap());
                command.arg("--config").arg(site.config()).args(["cache", "flush", key]);
                run(command, b"").unwrap().ok().unwrap();
            }
            proxy.release();
            under_way.join().unwrap()
        });
        assert_eq!(under_way, format!("OK {key}/"), "who asked before the change hears what was so then");
        // Without being told, the daemon goes on for its time: that the answer was kept shows that the test sees it.
        let after = if forget { "NOTFOUND ".to_owned() } else { format!("OK {key}/") };
        for _ in 0..3 {
            assert_eq!(find(key), after, "forgotten: {forget}");
        }
    }
}
