//! Two database servers in one url: what goes wrong with one of them, and that no answer is wrong for it.
//!
//! The answers of memory are switched off as far as they go (1 ms), so that every question reaches a server.

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "a fixture that fails fails the test")]

use mailsql_rig::{Daemon, MariaDb, document, program, run, wait_until};
use mailsql_tests::{Counts, Doors, Load, Site};
use std::process::Command;
use std::time::{Duration, Instant};

/// Clients of each kind.
const MAPS: usize = 6;
const LOGINS: usize = 2;
/// How long a fault lasts under load.
const FAULT: Duration = Duration::from_secs(3);

struct Pair {
    first: MariaDb,
    second: MariaDb,
    site: Site,
    daemons: Vec<Daemon>,
}

fn sections(cache: &str) -> String {
    format!("[cache]\n{cache}\n[saslauthd]\nlisten = \"{{run}}/mux\"\n[maps]\nlisten = {}\n", Site::listen("maps.sock"))
}

const NO_MEMORY: &str = "positive_ttl = \"1ms\"\nnegative_ttl = \"1ms\"\nstale_ttl = \"1ms\"";

impl Pair {
    fn start(further: &str) -> Self {
        let first = MariaDb::start_with_document().unwrap();
        let second = MariaDb::start_with_document().unwrap();
        Self::around(first, second, further)
    }

    fn around(first: MariaDb, second: MariaDb, further: &str) -> Self {
        let database = format!(
            "url = \"mysql://{}:{}@{},{}/{}\"\n{further}",
            document::USER,
            document::PASSWORD,
            first.host_port(),
            second.host_port(),
            document::DATABASE
        );
        let site = Site::with_database(&database, &sections(NO_MEMORY)).unwrap();
        let daemons =
            vec![site.start("saslauthd-rs", "mux").unwrap(), site.start("postfix-maps", "maps.sock").unwrap()];
        Self { first, second, site, daemons }
    }

    fn load(&self) -> Load {
        Load::start(&Doors { maps: self.site.run("maps.sock"), mux: self.site.run("mux") }, MAPS, LOGINS)
    }

    fn logs(&self) -> String {
        self.daemons.iter().map(Daemon::log).collect()
    }
}

fn show(what: &str, counts: &Counts) {
    println!(
        "{what:<34} right {:>6}  temporary {:>4} over {:>5} ms  wrong {}  slowest {:>5} ms",
        counts.right,
        counts.temporary,
        counts.temporary_for.as_millis(),
        counts.wrong.len(),
        counts.slowest.as_millis()
    );
}

/// All answers right, and none temporary: there was a server to answer all the time.
fn all_right(what: &str, counts: &Counts, pair: &Pair) {
    show(what, counts);
    assert_eq!(counts.wrong, Vec::<String>::new(), "{what}\n{}", pair.logs());
    assert_eq!(counts.temporary, 0, "{what}\n{}", pair.logs());
    assert!(counts.right > 50, "{what}: {counts:?}");
}

#[test]
fn one_of_two_servers_may_be_killed_frozen_or_come_back_and_no_answer_is_wrong_or_late() {
    let mut pair = Pair::start("");
    let load = pair.load();
    std::thread::sleep(FAULT / 2);
    all_right("both well", &load.take(), &pair);
    pair.first.kill();
    std::thread::sleep(FAULT);
    all_right("kill -9 of the first", &load.take(), &pair);
    pair.first.restart().unwrap();
    std::thread::sleep(FAULT);
    all_right("it comes back", &load.take(), &pair);
    pair.first.sigstop().unwrap();
    std::thread::sleep(2 * FAULT);
    let counts = load.take();
    all_right("SIGSTOP of the first", &counts, &pair);
    assert!(counts.slowest < Duration::from_millis(3000), "{counts:?}");
    pair.first.sigcont().unwrap();
    std::thread::sleep(FAULT);
    all_right("SIGCONT", &load.take(), &pair);
    pair.second.kill();
    std::thread::sleep(FAULT);
    all_right("kill -9 of the second", &load.take(), &pair);
    drop(load);
    assert_eq!(
        pair.first.query("SELECT COUNT(*) FROM information_schema.processlist WHERE user = 'mail'").unwrap().len(),
        1
    );
}

#[test]
fn a_first_server_that_refuses_our_password_or_our_connections_leaves_it_to_the_second() {
    let first = MariaDb::start_with_document().unwrap();
    let second = MariaDb::start_with_document().unwrap();
    first.sql("SET PASSWORD FOR mail@localhost = PASSWORD('another')").unwrap();
    let pair = Pair::around(first, second, "");
    let load = pair.load();
    std::thread::sleep(FAULT);
    all_right("wrong password on the first", &load.take(), &pair);
    pair.first.sql("SET PASSWORD FOR mail@localhost = PASSWORD('mailpass')").unwrap();
    std::thread::sleep(FAULT);
    all_right("right again", &load.take(), &pair);
    drop(load);
    drop(pair);

    let first = MariaDb::start_with(&["--max-user-connections=1"]).unwrap();
    first.load_document().unwrap();
    let second = MariaDb::start_with_document().unwrap();
    let pair = Pair::around(first, second, "pool_max = 8");
    let load = pair.load();
    std::thread::sleep(FAULT);
    all_right("max_user_connections = 1 (1203)", &load.take(), &pair);
    drop(load);
    drop(pair);

    let first = MariaDb::start_with(&["--max-connections=10"]).unwrap();
    first.load_document().unwrap();
    let second = MariaDb::start_with_document().unwrap();
    let others: Vec<_> = (0..10).map(|_| hold(&first)).collect();
    let pair = Pair::around(first, second, "");
    let load = pair.load();
    std::thread::sleep(FAULT);
    all_right("max_connections reached (1040)", &load.take(), &pair);
    drop(others);
    drop(load);
}

/// A connection of somebody else's, for as long as it is held.
fn hold(db: &MariaDb) -> std::net::TcpStream {
    std::net::TcpStream::connect(("127.0.0.1", db.port())).unwrap()
}

#[test]
fn idle_connections_that_the_server_has_closed_are_not_noticed_by_anybody() {
    let first = MariaDb::start_with(&["--wait-timeout=1", "--interactive-timeout=1"]).unwrap();
    first.load_document().unwrap();
    let pair = Pair::around(first, MariaDb::start_with_document().unwrap(), "");
    // The server closes what we hold, too, by killing it: a connection that died in the pool is replaced unseen.
    for _ in 0..4 {
        let load = pair.load();
        std::thread::sleep(Duration::from_millis(400));
        all_right("after an idle time", &load.take(), &pair);
        drop(load);
        for row in pair.first.query("SELECT id FROM information_schema.processlist WHERE user = 'mail'").unwrap() {
            // It may have ended by itself.
            let _ = pair.first.sql(&format!("KILL {}", row[0]));
        }
        std::thread::sleep(Duration::from_millis(1200));
    }
}

fn mailsql(site: &Site, arguments: &[&str], input: &str) -> mailsql_rig::Ran {
    let mut command = Command::new(program("mailsql").unwrap());
    command.arg("--config").arg(site.config()).args(arguments);
    run(command, input.as_bytes()).unwrap()
}

#[test]
fn a_change_goes_to_the_server_that_takes_changes_and_is_read_there() {
    let mut pair = Pair::start("");
    for db in [&pair.first, &pair.second] {
        db.sql("GRANT ALL ON mail.* TO mail@localhost").unwrap();
    }
    pair.first.sql("SET GLOBAL read_only = ON").unwrap();
    // The two are not replicas of each other here, so a change is seen only by who reads where it was made.
    let changed = mailsql(&pair.site, &["user", "passwd", "info@hoge.com", "--password-stdin"], "changed");
    assert_eq!(changed.code, 0, "{}", changed.text());
    let stored =
        |db: &MariaDb| db.query("SELECT password FROM emails WHERE name = 'info@hoge.com'").unwrap()[0][0].clone();
    assert_ne!(stored(&pair.first), stored(&pair.second), "only the second was written to");
    let login = |password: &str| {
        mailsql_rig::client::saslauthd::ask(pair.site.run("mux"), "info@hoge.com", password, "smtp", "").unwrap()
    };
    assert_eq!(login("changed").as_deref(), Some("OK"), "a daemon that was told reads from the writer");
    assert_eq!(pair.first.query("SELECT @@read_only").unwrap()[0][0], "1");

    // Read-only on both sides is trouble that passes, not a matter of rights.
    pair.second.sql("SET GLOBAL read_only = ON").unwrap();
    let refused = mailsql(&pair.site, &["user", "passwd", "info@hoge.com", "--password-stdin"], "again");
    assert_eq!(refused.code, 75, "{}", refused.text());
    assert!(refused.stderr.contains("read_only"), "{}", refused.text());

    // The writer changes over while connections to both are open.
    pair.first.sql("SET GLOBAL read_only = OFF").unwrap();
    wait_until("the other writer", Duration::from_secs(5), || {
        mailsql(&pair.site, &["user", "passwd", "info@hoge.com", "--password-stdin"], "third").code == 0
    })
    .unwrap();
    pair.second.kill();
    let begun = Instant::now();
    let known = mailsql(&pair.site, &["check", "info@hoge.com", "--password-stdin"], "third");
    assert_eq!(known.code, 0, "{}", known.text());
    assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
}

#[test]
fn a_statement_that_nobody_waits_for_any_more_ends_in_the_server_too() {
    let db = MariaDb::start_with_document().unwrap();
    let url = format!("url = \"mysql://mail:mailpass@{}/mail\"\nconnection_max_age = \"500ms\"", db.host_port());
    let site = Site::with_database(&url, &sections(NO_MEMORY)).unwrap();
    let _maps = site.start("postfix-maps", "maps.sock").unwrap();
    let find = || {
        let mut map = mailsql_rig::client::socketmap::Socketmap::connect(site.run("maps.sock")).unwrap();
        map.find("mailboxes", "info@hoge.com").unwrap()
    };
    assert_eq!(find(), "OK info@hoge.com/");
    let connections = || -> Vec<u64> {
        let rows = db.query("SELECT id FROM information_schema.processlist WHERE user = 'mail'").unwrap();
        rows.iter().map(|row| row[0].parse().unwrap()).collect()
    };
    let old = connections();
    std::thread::scope(|scope| {
        let locked = scope.spawn(|| db.sql("LOCK TABLES mail.users WRITE; DO SLEEP(5)").unwrap());
        std::thread::sleep(Duration::from_millis(800));
        let begun = Instant::now();
        assert!(find().starts_with("TEMP "), "nobody can tell while the table is locked");
        assert!(begun.elapsed() < Duration::from_millis(2900), "{:?}", begun.elapsed());
        std::thread::sleep(Duration::from_millis(1000));
        let left = "SELECT COUNT(*) FROM information_schema.processlist WHERE user = 'mail' AND command <> 'Sleep'";
        assert_eq!(db.query(left).unwrap()[0][0], "0", "the server gave the statement up");
        locked.join().unwrap();
    });
    wait_until("the table", Duration::from_secs(5), || find() == "OK info@hoge.com/").unwrap();
    // Connections are replaced at their age.
    std::thread::sleep(Duration::from_millis(700));
    assert_eq!(find(), "OK info@hoge.com/");
    assert!(connections().iter().all(|id| !old.contains(id)), "{old:?} {:?}", connections());
}
