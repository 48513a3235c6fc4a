//! MariaDB: the document's database loads as written, and the server survives what stories do to it.

#![allow(clippy::unwrap_used, reason = "a fixture that fails fails the test")]

use std::time::{Duration, Instant};

use mailsql_rig::{MariaDb, document};

#[test]
fn the_documents_database_holds_its_rows_and_grants_select_only() {
    let db = MariaDb::start_with_document().unwrap();
    let emails = db.query("SELECT name FROM emails").unwrap();
    let mut names: Vec<&str> = emails.iter().map(|row| row[0].as_str()).collect();
    names.sort_unstable();
    let mut expected = document::LOGINS.map(|(name, _)| name);
    expected.sort_unstable();
    assert_eq!(names, expected);
    let domains = db.query("SELECT name FROM domains ORDER BY id").unwrap();
    assert_eq!(domains.concat(), document::DOMAINS);

    let as_mail = |sql: &str| db.sql_as(document::USER, document::PASSWORD, document::DATABASE, sql);
    assert_eq!(as_mail("SELECT COUNT(*) FROM emails").unwrap(), "6\n");
    let refused = format!("{:#}", as_mail("DELETE FROM users").unwrap_err());
    assert!(refused.contains("DELETE command denied"), "{refused}");
    assert!(db.sql_as(document::USER, "wrong", document::DATABASE, "SELECT 1").is_err());
}

#[test]
fn stored_passwords_are_crypt_strings_of_the_documents_kinds() {
    let db = MariaDb::start_with_document().unwrap();
    let stored = |name: &str| db.query(&format!("SELECT password FROM emails WHERE name = '{name}'")).unwrap().concat();
    assert!(stored("info@hoge.com")[0].starts_with("$6$saslt$"));
    assert_eq!(stored("info@domain.com")[0].len(), 13, "ENCRYPT without a salt makes a DES crypt string");
    let random = stored("a@b.c");
    assert!(random[0].starts_with("$6$") && random[0].len() == 106, "{random:?}");
}

#[test]
fn a_server_comes_back_on_its_port_with_its_data_after_stop_and_kill() {
    let mut db = MariaDb::start_with_document().unwrap();
    let (port, count) = (db.port(), "SELECT COUNT(*) FROM users");
    db.stop();
    assert!(db.query(count).is_err());
    db.restart().unwrap();
    assert_eq!((db.port(), db.query(count).unwrap().concat()), (port, vec!["6".to_owned()]));
    // Killed right after a commit, InnoDB recovers it from its log.
    db.sql("CALL mail.insert_email('late@b.c', 'latepass')").unwrap();
    db.kill();
    db.restart().unwrap();
    assert_eq!(db.query(count).unwrap().concat(), ["7"]);
}

#[test]
fn a_frozen_server_answers_when_it_goes_on() {
    let mut db = MariaDb::start_with_document().unwrap();
    db.sigstop().unwrap();
    let started = Instant::now();
    std::thread::scope(|scope| {
        let asked = scope.spawn(|| {
            let mut command = std::process::Command::new("mariadb");
            command.args(["--no-defaults", "-N", "-uroot", "-e", "SELECT 1"]).arg("-S").arg(db.socket());
            mailsql_rig::run(command, b"").unwrap()
        });
        std::thread::sleep(Duration::from_millis(500));
        assert!(!asked.is_finished(), "a frozen server answered");
        nix_continue(&db);
        assert_eq!(asked.join().unwrap().stdout, "1\n");
    });
    assert!(started.elapsed() >= Duration::from_millis(500));
    db.sigcont().unwrap();
}

/// Lets the server go on while another thread borrows it.
fn nix_continue(db: &MariaDb) {
    let pid = std::fs::read_to_string(db.socket().with_file_name("pid")).unwrap();
    let mut command = std::process::Command::new("kill");
    command.args(["-CONT", pid.trim()]);
    assert_eq!(mailsql_rig::run(command, b"").unwrap().code, 0);
}
