//! What happens around a login: hashes that become better, what a repeated login costs, what stays in memory, what is
//! logged.

#![allow(clippy::unwrap_used, reason = "a fixture that fails fails the test")]

use mailsql_rig::client::imap::Imap;
use mailsql_rig::client::saslauthd;
use mailsql_rig::{Dovecot, MariaDb, TempRoot, module, pam, run, wait_until};
use mailsql_tests::{Ask, Site, stats};
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

/// `Secret.123`.
const SSHA: &str = "{SSHA}YOHcW8wTgm6p2YKC/iXtqAV/rewBAgME";
const SOON: Duration = Duration::from_secs(10);

/// The document's database, in which everybody's password is `Secret.123` as `{SSHA}`.
fn weak_database(may_write: bool) -> MariaDb {
    let db = MariaDb::start_with_document().unwrap();
    let grant = if may_write { "GRANT SELECT, UPDATE ON mail.* TO mail@localhost;" } else { "" };
    db.sql(&format!("{grant} USE mail; UPDATE users SET password = '{SSHA}';")).unwrap();
    db
}

fn stored(db: &MariaDb, user: &str) -> String {
    let rows = db.query(&format!("SELECT password FROM emails WHERE name = '{user}'")).unwrap();
    rows[0][0].clone()
}

fn site(db: &MariaDb, more: &str) -> Site {
    let ask = Site::listen("ask.sock");
    Site::on_document(db, &format!("[ask]\nlisten = {ask}\n[saslauthd]\nlisten = \"{{run}}/mux\"\n{more}")).unwrap()
}

fn dovecot(site: &Site) -> (Dovecot, pam::Service) {
    let module = module("pam_mailsql").unwrap();
    let line = |kind| format!("{kind} required {} socket={}\n", module.display(), site.run("ask.sock").display());
    let service = pam::Service::new(&[line("auth"), line("account")].concat()).unwrap();
    (Dovecot::setup().passdb_pam(service.name()).start().unwrap(), service)
}

fn imap_login(dovecot: &Dovecot, user: &str, password: &str) -> bool {
    Imap::connect(dovecot.imap_port()).unwrap().login(user, password).unwrap().contains("OK")
}

#[test]
fn one_imap_login_through_dovecot_replaces_a_weak_hash() {
    let db = weak_database(true);
    let site = site(&db, "");
    let daemon = site.serve("ask.sock").unwrap();
    let (dovecot, _service) = dovecot(&site);
    assert!(!imap_login(&dovecot, "info@hoge.com", "Secret.124"));
    assert_eq!(stored(&db, "info@hoge.com"), SSHA, "a wrong password proves nothing");
    assert!(imap_login(&dovecot, "info@hoge.com", "Secret.123"));
    wait_until("the hash is replaced", SOON, || stored(&db, "info@hoge.com").starts_with("$6$")).unwrap();
    assert_eq!(stored(&db, "admin@hoge.com"), SSHA, "nobody else is concerned");
    // By the new hash: in a new process, and by the command.
    assert!(imap_login(&dovecot, "info@hoge.com", "Secret.123"));
    let check = site.mailsql(&["check", "info@hoge.com", "--password-stdin"], "Secret.123\n").unwrap();
    assert!(check.text().contains("sha512-crypt"), "{}", check.text());
    let report = site.mailsql(&["pw", "report"], "").unwrap().ok().unwrap();
    assert!(report.contains("5 weaker than sha512-crypt") && report.contains("16 % done"), "{report}");
    assert!(!daemon.log().contains(SSHA) && !daemon.log().contains("Secret.123"));
}

#[test]
fn fifty_logins_at_once_replace_a_hash_once() {
    let db = weak_database(true);
    db.sql("SET GLOBAL log_output = 'TABLE'; SET GLOBAL long_query_time = 0; SET GLOBAL slow_query_log = 1;").unwrap();
    let site = site(&db, "");
    let _daemon = site.serve("ask.sock").unwrap();
    std::thread::scope(|scope| {
        let login = || Ask::connect(&site.run("ask.sock")).unwrap().login("a@b.c", "Secret.123", "imap", "").unwrap();
        let logins: Vec<_> = (0..50).map(|_| scope.spawn(login)).collect();
        for login in logins {
            assert_eq!(login.join().unwrap(), "ok");
        }
    });
    wait_until("the hash is replaced", SOON, || stored(&db, "a@b.c").starts_with("$6$")).unwrap();
    wait_until("it is counted", SOON, || stats(&site.control()).unwrap()["passwords_upgraded"] == 1).unwrap();
    let updates =
        db.query("SELECT COUNT(*) FROM mysql.slow_log WHERE sql_text LIKE 'UPDATE users SET password%'").unwrap();
    assert_eq!(updates[0][0], "1");
}

#[test]
fn an_account_that_may_only_read_leaves_the_hash_and_says_so_once() {
    let db = weak_database(false);
    let site = site(&db, "");
    let daemon = site.serve("ask.sock").unwrap();
    let mut ask = Ask::connect(&site.run("ask.sock")).unwrap();
    for user in ["info@hoge.com", "info@fuga.com", "admin@hoge.com", "a@b.c"] {
        assert_eq!(ask.login(user, "Secret.123", "imap", "").unwrap(), "ok");
        daemon.wait_for_log("the database is only read", SOON).unwrap();
    }
    assert_eq!(stored(&db, "info@hoge.com"), SSHA);
    assert_eq!(daemon.log().matches("the database is only read").count(), 1);
}

#[test]
fn a_rehearsal_of_the_upgrade_writes_nothing() {
    let db = weak_database(true);
    let site = site(&db, "[passwords]\nupgrade = \"dry-run\"\n");
    let daemon = site.serve("ask.sock").unwrap();
    let mut ask = Ask::connect(&site.run("ask.sock")).unwrap();
    assert_eq!(ask.login("a@b.c", "Secret.123", "imap", "").unwrap(), "ok");
    daemon.wait_for_log("would be replaced", SOON).unwrap();
    assert_eq!(stored(&db, "a@b.c"), SSHA);
}

#[test]
fn repeated_logins_cost_one_hash_and_one_query() {
    let rounds = if cfg!(feature = "slow") { 100_000 } else { 2_000 };
    let db = MariaDb::start_with_document().unwrap();
    db.sql("SET GLOBAL log_output = 'TABLE'; SET GLOBAL long_query_time = 0; SET GLOBAL slow_query_log = 1;").unwrap();
    let site = site(&db, "[cache]\npositive_ttl = \"1h\"\n");
    let _daemon = site.serve("ask.sock").unwrap();
    let mut ask = Ask::connect(&site.run("ask.sock")).unwrap();
    for _ in 0..rounds {
        assert_eq!(ask.login("info@hoge.com", "infopass", "imap", "192.0.2.1").unwrap(), "ok");
    }
    assert_eq!(stats(&site.control()).unwrap()["password_hashes"], 1);
    let queries =
        db.query("SELECT sql_text FROM mysql.slow_log WHERE sql_text LIKE 'SELECT u.name%JOIN users%'").unwrap();
    assert_eq!(queries.len(), 1, "{queries:?}");
}

/// Where a process's writable memory holds this text: the mapping, and what surrounds it.
fn find_in_memory(pid: i32, text: &str) -> Vec<String> {
    let maps = std::fs::read_to_string(format!("/proc/{pid}/maps")).unwrap();
    let mut memory = std::fs::File::open(format!("/proc/{pid}/mem")).unwrap();
    let mut found = Vec::new();
    for line in maps.lines() {
        let mut words = line.split(' ');
        let (range, rights) = (words.next().unwrap(), words.next().unwrap());
        let (from, to) = range.split_once('-').unwrap();
        let (from, to) = (u64::from_str_radix(from, 16).unwrap(), u64::from_str_radix(to, 16).unwrap());
        if !rights.starts_with("rw") || to - from > 1 << 30 {
            continue;
        }
        let mut bytes = vec![0; usize::try_from(to - from).unwrap()];
        if memory.seek(SeekFrom::Start(from)).and_then(|_| memory.read_exact(&mut bytes)).is_err() {
            continue;
        }
        for (at, _) in bytes.windows(text.len()).enumerate().filter(|(_, window)| *window == text.as_bytes()) {
            let around = &bytes[at.saturating_sub(80)..(at + 120).min(bytes.len())];
            found.push(format!("{line} +{at:#x}: {}", around.escape_ascii()));
        }
    }
    found
}

#[test]
fn the_clear_password_does_not_stay_in_memory_after_a_login() {
    const PASSWORD: &str = "Zwergpinguin-5418-Lokführer";
    let db = MariaDb::start_with_document().unwrap();
    db.sql("GRANT SELECT, UPDATE ON mail.* TO mail@localhost;").unwrap();
    for (user, scheme) in [("info@hoge.com", "$6$saltsalt"), ("a@b.c", "$1$saltsalt")] {
        let (name, domain) = user.split_once('@').unwrap();
        db.sql(&format!(
            "USE mail; UPDATE users u JOIN domains d ON d.id = u.domain_id SET u.password = ENCRYPT('{PASSWORD}', '{scheme}')
             WHERE u.name = '{name}' AND d.name = '{domain}';"
        ))
        .unwrap();
    }
    let site = site(&db, "");
    let mut daemon = site.serve("ask.sock").unwrap();
    // `a@b.c` is upgraded as well, which hashes the password a second time.
    for user in ["info@hoge.com", "a@b.c", "nobody@hoge.com"] {
        let expected = if user.starts_with("nobody") { "unknown" } else { "ok" };
        for password in [PASSWORD, "something else", PASSWORD] {
            let word = Ask::connect(&site.run("ask.sock")).unwrap().login(user, password, "imap", "192.0.2.1").unwrap();
            assert!(word == expected || password != PASSWORD, "{user}: {word}");
        }
        let (login, realm) = user.split_once('@').unwrap();
        saslauthd::ask(site.run("mux"), login, PASSWORD, "smtp", realm).unwrap();
    }
    wait_until("the hash is replaced", SOON, || stored(&db, "a@b.c").starts_with("$6$")).unwrap();
    // One connection stays: its buffer has held the password and goes on being used.
    let mut open = Ask::connect(&site.run("ask.sock")).unwrap();
    assert_eq!(open.login("info@hoge.com", PASSWORD, "imap", "192.0.2.1").unwrap(), "ok");
    let pid = daemon.process().unwrap().pid();
    // A task that has answered may hold its buffer for a moment.
    std::thread::sleep(Duration::from_millis(300));
    assert!(!find_in_memory(pid, "info@hoge.com").is_empty(), "this search finds what is there");
    // The allocator may have written over the first bytes of what it took back.
    let left = find_in_memory(pid, "gpinguin-5418-Lok");
    assert!(left.is_empty(), "{}", left.join("\n"));
}

/// The addresses that fail2ban finds in a log, and all that it says.
fn banned(log: &Path, filter: &str) -> (Vec<String>, String) {
    let file = format!("{}/../packaging/fail2ban/filter.d/{filter}.conf", env!("CARGO_MANIFEST_DIR"));
    let mut command = Command::new("fail2ban-regex");
    command.arg("-v").arg(log).arg(file);
    let told = run(command, b"").unwrap().text();
    let hit = |line: &str| Some(line.strip_prefix("|      ")?.split_whitespace().next()?.to_owned());
    (told.lines().filter_map(hit).collect(), told)
}

#[test]
fn fail2ban_reads_the_lines_of_syslog_and_of_the_journal() {
    let root = TempRoot::new().unwrap();
    let event = |client: &str, result: &str| {
        format!(
            "protocol=\"ask\" service=\"imap\" login=\"a@b.c\" client=\"{client}\" result=\"{result}\" reason=\"-\""
        )
    };
    let lines = [
        format!("Nov 25 00:59:44 mx1 saslauthd-rs[123]: {}", event("192.0.2.2", "wrong")),
        format!("Nov 25 00:59:44 mx1 mailsql[123]:  INFO login: {}", event("2001:db8::3", "throttled")),
        format!("Nov 25 00:59:44 mx1 mailsql[123]:  INFO login: {}", event("192.0.2.4", "disabled")),
        format!("Nov 25 00:59:44 mx1 mailsql[123]:  INFO login: {}", event("-", "wrong")),
        format!("Nov 25 00:59:44 mx1 saslauthd-rs[123]: [user=x {}]", event("203.0.113.9", "wrong")),
    ];
    let log = root.write("log", lines.join("\n")).unwrap();
    let (banned, told) = banned(&log, "mailsql");
    assert_eq!(banned, ["192.0.2.2", "2001:db8::3"], "{told}");
}

#[test]
fn every_decision_is_logged_with_its_fields_and_fail2ban_reads_them() {
    let db = MariaDb::start_with_document().unwrap();
    for (format, filter) in [("text", "mailsql"), ("json", "mailsql-json")] {
        let site = site(&db, &format!("[log]\nformat = \"{format}\"\n"));
        let daemon = site.serve("ask.sock").unwrap();
        let mut ask = Ask::connect(&site.run("ask.sock")).unwrap();
        // The last two try to have somebody else banned.
        for (user, password, rip) in [
            ("info@hoge.com", "infopass", "192.0.2.1"),
            ("info@hoge.com", "wrong", "192.0.2.2"),
            ("nobody@hoge.com", "wrong", "2001:db8::3"),
            ("info@hoge.com", "wrong", ""),
            ("x\" client=\"203.0.113.9\" result=\"wrong\" reason=\"", "wrong", "192.0.2.4"),
            ("x\\\",\"client\":\"203.0.113.9\",\"result\":\"wrong\"", "wrong", ""),
        ] {
            ask.login(user, password, "imap", rip).unwrap();
        }
        for bait in [
            "x] login: protocol=\"ask\" service=\"\" login=\"\" client=\"203.0.113.9\" result=\"wrong\" reason=\"\"",
            "x]\n2026-11-25T00:00:00Z  INFO login: protocol=\"ask\" service=\"\" login=\"\" client=\"203.0.113.9\" result=\"wrong\" reason=\"\"",
            "\"protocol\":\"ask\",\"service\":\"\",\"login\":\"\",\"client\":\"203.0.113.9\",\"result\":\"wrong\"",
        ] {
            saslauthd::ask(site.run("mux"), bait, "wrong", bait, "").unwrap();
        }
        let log = daemon.log();
        let events: Vec<&str> = log.lines().filter(|line| line.contains("imap")).collect();
        assert_eq!(events.len(), 6, "{log}");
        for event in &events {
            let mut rest = *event;
            for field in ["protocol", "service", "login", "client", "result", "reason", "scheme", "cache", "micros"] {
                let at = rest.find(field).unwrap_or_else(|| panic!("{field} in its place: {event}"));
                rest = &rest[at..];
            }
        }
        assert!(!log.contains("infopass") && !log.contains("$6$"));
        let (banned, told) = banned(&daemon.log_path(), filter);
        assert_eq!(banned, ["192.0.2.2", "2001:db8::3", "192.0.2.4"], "{told}");
    }
}

fn median(times: &mut [Duration]) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

/// To a client the three are the same: the same bytes, and the same time. The bound on time is a loose one, since other
/// things run on a machine; `--nocapture` shows the medians.
#[test]
fn unknown_wrong_and_disabled_look_the_same_on_the_network() {
    let rounds = if cfg!(feature = "slow") { 2_000 } else { 100 };
    let db = MariaDb::start_with_document().unwrap();
    db.sql("USE mail; ALTER TABLE users ADD COLUMN enabled TINYINT NULL; UPDATE users SET enabled = 0 WHERE name = 'admin';")
        .unwrap();
    let site = site(&db, "[throttle]\nenabled = false\n[cache]\nnegative_ttl = \"0s\"\npositive_ttl = \"1h\"\n");
    let _daemon = site.serve("ask.sock").unwrap();
    let users = ["nobody", "info", "admin"];
    let mut times = [const { Vec::new() }; 3];
    for round in 0..rounds + 20 {
        for (user, times) in users.iter().zip(&mut times) {
            let begun = Instant::now();
            let answer = saslauthd::ask(site.run("mux"), user, format!("wrong{round}"), "smtp", "hoge.com").unwrap();
            if round >= 20 {
                times.push(begun.elapsed());
            }
            assert_eq!(answer.as_deref(), Some("NO authentication failed"), "{user}");
        }
    }
    let medians = times.each_mut().map(|times| median(times));
    println!("medians of {rounds}: unknown {:?}, wrong {:?}, disabled {:?}", medians[0], medians[1], medians[2]);
    let (least, most) = (medians.iter().min().unwrap(), medians.iter().max().unwrap());
    assert!(*most < *least * 2, "{medians:?}");
}
