//! The story of a guessed login: what reaches the hash, who still gets in, what a restart keeps.

#![allow(clippy::unwrap_used, reason = "a fixture that fails fails the test")]

use mailsql_rig::{MariaDb, TempRoot, wait_until};
use mailsql_tests::{Ask, Site, stats};
use std::time::Duration;

const OWNER: &str = "203.0.113.7";
const ATTACKER: &str = "192.0.2.1";
const SOON: Duration = Duration::from_secs(10);

fn site(db: &MariaDb, more: &str) -> Site {
    let sections =
        format!("[ask]\nlisten = {}\n[saslauthd]\nlisten = \"{{run}}/mux\"\n{more}", Site::listen("ask.sock"));
    Site::on_document(db, &sections).unwrap()
}

fn ask(site: &Site) -> Ask {
    Ask::connect(&site.run("ask.sock")).unwrap()
}

fn hashes(site: &Site) -> u64 {
    stats(&site.control()).unwrap()["password_hashes"]
}

#[test]
fn ten_thousand_guesses_from_one_network_reach_the_hash_as_often_as_configured() {
    let db = MariaDb::start_with_document().unwrap();
    let site = site(&db, "[throttle]\nclient_limit = 20\n");
    let mut daemon = site.serve("ask.sock").unwrap();
    let mut owner = ask(&site);
    assert_eq!(owner.login("info@hoge.com", "infopass", "imap", OWNER).unwrap(), "ok");
    std::thread::scope(|scope| {
        for worker in 0..10 {
            let site = &site;
            scope.spawn(move || {
                let mut attacker = ask(site);
                for number in 0..1000 {
                    let word = attacker.login("info@hoge.com", &format!("guess-{worker}-{number}"), "imap", ATTACKER);
                    let word = word.unwrap();
                    assert!(word == "wrong" || word == "throttled", "{word}");
                }
            });
        }
    });
    assert_eq!(hashes(&site), 21, "the owner's, and twenty guesses");
    // Even the right password: nobody learns anything from there any more. Nor by another login's name.
    let mut attacker = ask(&site);
    for (user, password) in [("info@hoge.com", "infopass"), ("a@b.c", "apass"), ("nobody@b.c", "x")] {
        assert_eq!(attacker.login(user, password, "imap", ATTACKER).unwrap(), "throttled", "{user}");
    }
    assert_eq!(owner.login("info@hoge.com", "infopass", "imap", OWNER).unwrap(), "ok");
    assert_eq!(ask(&site).login("a@b.c", "apass", "imap", "198.51.100.1").unwrap(), "ok", "others are not concerned");

    let list = site.mailsql(&["limits", "list"], "").unwrap().ok().unwrap();
    assert!(list.contains("client network=192.0.2.1 wrong=20 limit=20 refused_seconds="), "{list}");
    let explain = site.mailsql(&["limits", "explain", "info@hoge.com"], "").unwrap().ok().unwrap();
    assert!(explain.contains("known-client login=info@hoge.com network=203.0.113.7 wrong=0"), "{explain}");
    let explain = site.mailsql(&["explain", "login", "info@hoge.com"], "").unwrap().ok().unwrap();
    assert!(explain.contains("known-client") && explain.contains("PAM_SUCCESS"), "{explain}");

    // A restart in order keeps everything; so does a kill, a second later.
    daemon.restart().unwrap();
    assert_eq!(ask(&site).login("info@hoge.com", "infopass", "imap", ATTACKER).unwrap(), "throttled");
    assert_eq!(ask(&site).login("info@hoge.com", "infopass", "imap", OWNER).unwrap(), "ok");
    for number in 0..5 {
        assert_eq!(ask(&site).login("a@b.c", &format!("x{number}"), "imap", "192.0.2.2").unwrap(), "wrong");
    }
    std::thread::sleep(Duration::from_millis(1100));
    daemon.kill();
    daemon.restart().unwrap();
    let explain = site.mailsql(&["limits", "explain", "192.0.2.2"], "").unwrap().ok().unwrap();
    assert!(explain.contains("wrong=5 limit=20"), "{explain}");

    site.mailsql(&["limits", "reset", ATTACKER], "").unwrap().ok().unwrap();
    assert_eq!(ask(&site).login("a@b.c", "apass", "imap", ATTACKER).unwrap(), "ok");
    assert!(!daemon.log().contains("guess-"));
}

#[test]
fn the_command_is_neither_refused_nor_counted() {
    let db = MariaDb::start_with_document().unwrap();
    let site = site(&db, "[throttle]\nclient_limit = 3\nlogin_limit = 3\n");
    let _daemon = site.serve("ask.sock").unwrap();
    for _ in 0..10 {
        let check = site.mailsql(&["check", "a@b.c", "--password-stdin", "--client", ATTACKER], "wrong\n").unwrap();
        assert_eq!(check.code, 1, "{}", check.text());
        assert!(check.text().contains("wrong password"), "{}", check.text());
    }
    assert_eq!(ask(&site).login("a@b.c", "apass", "imap", ATTACKER).unwrap(), "ok");
}

#[test]
fn where_no_address_is_told_a_login_is_slowed_and_others_are_not() {
    let db = MariaDb::start_with_document().unwrap();
    let site = site(&db, "[throttle]\nlogin_limit = 5\n");
    let _daemon = site.serve("ask.sock").unwrap();
    let mut client = ask(&site);
    // A device with an old password: one count, whatever it does.
    for _ in 0..200 {
        assert_eq!(client.login("info@hoge.com", "old", "imap", "").unwrap(), "wrong");
    }
    assert_eq!(hashes(&site), 1);
    assert_eq!(client.login("info@hoge.com", "infopass", "imap", "").unwrap(), "ok");
    let words: Vec<_> = (0..50).map(|n| client.login("a@b.c", &format!("x{n}"), "imap", "").unwrap()).collect();
    assert_eq!(words.iter().filter(|word| *word == "wrong").count(), 5, "{words:?}");
    assert_eq!(client.login("info@hoge.com", "infopass", "imap", "").unwrap(), "ok");
}

#[test]
fn a_state_folder_that_cannot_be_written_costs_the_memory_of_a_restart_and_nothing_else() {
    let db = MariaDb::start_with_document().unwrap();
    let site = site(&db, "");
    let root = TempRoot::new().unwrap();
    let config = std::fs::read_to_string(site.config()).unwrap();
    let state = site.control().with_file_name("state");
    let config = config.replace(&state.display().to_string(), &root.join("absent").display().to_string());
    std::fs::write(site.config(), config).unwrap();
    let daemon = site.serve("ask.sock").unwrap();
    daemon.wait_for_log("no state", SOON).unwrap();
    assert_eq!(ask(&site).login("a@b.c", "apass", "imap", OWNER).unwrap(), "ok");
}

/// On SQLite, where everything may be written.
#[test]
fn an_app_password_logs_in_where_it_may_and_its_use_is_noted_at_the_end() {
    let root = TempRoot::new().unwrap();
    root.folder("db", 0o777, 0, 0).unwrap();
    let database = format!("sqlite:{}", root.join("db/mail.db").display());
    let site = Site::with_database(
        &format!("url = \"{database}\""),
        &format!("[ask]\nlisten = {}\n", Site::listen("ask.sock")),
    )
    .unwrap();
    let mailsql = |arguments: &[&str], input: &str| site.mailsql(arguments, input).unwrap().ok().unwrap();
    mailsql(&["init", "--database", &database], "");
    mailsql(&["domain", "add", "hoge.com"], "");
    mailsql(&["user", "add", "info@hoge.com", "--password-stdin"], "infopass\n");
    let add = ["user", "app-password", "add", "info@hoge.com", "--label", "phone", "--service", "imap"];
    let password = mailsql(&add, "").trim().to_owned();
    for file in ["mail.db", "mail.db-wal", "mail.db-shm"] {
        let path = root.join("db").join(file);
        if path.exists() {
            std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o666)).unwrap();
        }
    }
    let mut daemon = site.serve("ask.sock").unwrap();
    let login = |password: &str, service: &str| ask(&site).login("info@hoge.com", password, service, OWNER).unwrap();
    assert_eq!(login(&password, "imap"), "ok");
    assert_eq!(login(&password.replace('-', ""), "imap"), "ok");
    assert_eq!(login(&password, "smtp"), "disabled");
    assert_eq!(login("infopass", "smtp"), "ok");
    daemon.stop();
    wait_until("the use is written", SOON, || {
        mailsql(&["user", "app-password", "list", "info@hoge.com"], "").contains(OWNER)
    })
    .unwrap();
    daemon.restart().unwrap();
    assert_eq!(login(&password, "imap"), "ok");
    mailsql(&["user", "app-password", "remove", "info@hoge.com", "--label", "phone"], "");
    assert_eq!(login(&password, "imap"), "wrong", "at once, since the command flushes the daemons");
}
