//! What one lookup among 100,000 accounts costs the database: index entries, not tables.

#![allow(clippy::unwrap_used, reason = "a fixture that fails fails the test")]

use mailsql_rig::client::saslauthd;
use mailsql_rig::client::socketmap::Socketmap;
use mailsql_rig::{MariaDb, document};
use mailsql_tests::Site;

const ACCOUNTS: u32 = 100_000;
/// Rows that a lookup may examine in one table.
const ROWS_A_TABLE: u64 = 2;

/// The document's schema with [`ACCOUNTS`] accounts in 1,000 domains, all with the password of `info@hoge.com`.
fn load(db: &MariaDb) {
    db.sql(&format!(
        "USE mail;
         SET @hash = (SELECT password FROM users LIMIT 1);
         INSERT INTO domains(name) SELECT CONCAT('d', seq, '.test') FROM seq_1_to_1000;
         INSERT INTO users(name, password, domain_id)
           SELECT CONCAT('user', s.seq), @hash, d.id
           FROM seq_1_to_{ACCOUNTS} s JOIN domains d ON d.name = CONCAT('d', 1 + s.seq MOD 1000, '.test');"
    ))
    .unwrap();
}

#[test]
fn a_lookup_among_100_000_accounts_examines_two_rows_a_table_at_most() {
    let db = MariaDb::start_with_document().unwrap();
    load(&db);
    // Before the daemons connect: a session keeps the long_query_time that it began with.
    db.sql("SET GLOBAL log_output = 'TABLE'; SET GLOBAL long_query_time = 0; SET GLOBAL slow_query_log = 1;").unwrap();
    let sections = format!("[saslauthd]\nlisten = \"{{run}}/mux\"\n[maps]\nlisten = {}\n", Site::listen("maps.sock"));
    let site = Site::on_document(&db, &sections).unwrap();
    let _maps = site.start("postfix-maps", "maps.sock").unwrap();
    let _saslauthd = site.start("saslauthd-rs", "mux").unwrap();
    let mut maps = Socketmap::connect(site.run("maps.sock")).unwrap();
    assert_eq!(maps.find("mailboxes", "user77@d78.test").unwrap(), "OK user77@d78.test/");
    assert_eq!(maps.find("mailboxes", "user78@d78.test").unwrap(), "NOTFOUND ");
    assert_eq!(maps.find("senders", "user79+x@d80.test").unwrap(), "OK user79@d80.test");
    assert_eq!(saslauthd::ask(site.run("mux"), "user80", "infopass", "smtp", "d81.test").unwrap().unwrap(), "OK");
    db.sql("SET GLOBAL slow_query_log = 0;").unwrap();
    // The complete copy of all domains is meant to read its table; it is not a lookup.
    let statements = "SELECT rows_examined, sql_text FROM mysql.slow_log WHERE user_host LIKE 'mail[%'
         AND sql_text LIKE 'SELECT%FROM domains d JOIN%WHERE%'";
    let seen = db.query(statements).unwrap();
    assert!(seen.len() >= 4, "{seen:?}");
    for row in &seen {
        let bound = ROWS_A_TABLE * (1 + row[1].matches("JOIN").count() as u64);
        let examined: u64 = row[0].parse().unwrap();
        assert!(examined <= bound, "{row:?}");
        let reads = handler_reads(&db, &row[1]);
        assert!(reads <= bound, "{reads} reads: {row:?}");
    }
    let all =
        db.query("SELECT COUNT(*) FROM mysql.slow_log WHERE user_host LIKE 'mail[%' AND sql_text LIKE '%emails%'");
    assert_eq!(all.unwrap()[0][0], "0", "the view is never asked");
}

/// Index and table reads of one statement, by the session's own counters.
fn handler_reads(db: &MariaDb, statement: &str) -> u64 {
    let text = format!("USE mail; FLUSH STATUS; {statement}; SHOW SESSION STATUS LIKE 'Handler_read%';");
    let rows = db.query(&text).unwrap();
    let counters = rows.iter().filter(|row| row[0].starts_with("Handler_read"));
    let reads: Vec<u64> = counters.map(|row| row[1].parse().unwrap()).collect();
    assert!(!reads.is_empty(), "{rows:?}");
    reads.iter().sum()
}

#[test]
fn the_document_still_logs_in_with_a_schema_that_only_has_its_tables() {
    let db = MariaDb::start_with_document().unwrap();
    let site = Site::on_document(&db, "[saslauthd]\nlisten = \"{run}/mux\"\n").unwrap();
    let _daemon = site.start("saslauthd-rs", "mux").unwrap();
    for (user, password) in document::LOGINS {
        let (login, realm) = user.split_once('@').unwrap();
        assert_eq!(saslauthd::ask(site.run("mux"), login, password, "smtp", realm).unwrap().unwrap(), "OK", "{user}");
    }
}
