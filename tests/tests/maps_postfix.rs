//! Whole sessions through two Postfixes on one database: one asks our maps, the other `mysql:` tables of the same rows.
//! Every address is accepted or refused with the same code and words, and leads to the same mailboxes.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a fixture that fails fails the test")]

use mailsql_rig::client::smtp::Smtp;
use mailsql_rig::{MariaDb, Postfix, PostfixSetup, document};
use mailsql_tests::Site;
use std::time::Duration;

const ROWS: &str = "USE mail;
CREATE TABLE aliases (
  id INT NOT NULL AUTO_INCREMENT, name VARCHAR(255) NOT NULL, domain_id INT NOT NULL, destination VARCHAR(255) NOT NULL,
  enabled TINYINT NULL, PRIMARY KEY(id), UNIQUE KEY (name, domain_id, destination));
CREATE TABLE alias_domains (
  id INT NOT NULL AUTO_INCREMENT, name VARCHAR(255) NOT NULL, domain_id INT NOT NULL, enabled TINYINT NULL,
  PRIMARY KEY(id), UNIQUE KEY (name));
CREATE TABLE transports (
  id INT NOT NULL AUTO_INCREMENT, name VARCHAR(255) NOT NULL, transport VARCHAR(255) NOT NULL, PRIMARY KEY(id), UNIQUE KEY (name));
CREATE TABLE relay_domains (
  id INT NOT NULL AUTO_INCREMENT, name VARCHAR(255) NOT NULL, enabled TINYINT NULL, PRIMARY KEY(id), UNIQUE KEY (name));
CREATE TABLE relay_recipients (
  id INT NOT NULL AUTO_INCREMENT, name VARCHAR(255) NOT NULL, relay_domain_id INT NOT NULL, PRIMARY KEY(id),
  UNIQUE KEY (name, relay_domain_id));
ALTER TABLE domains ADD enabled TINYINT NULL;
SET @hoge = (SELECT id FROM domains WHERE name = 'hoge.com'), @fuga = (SELECT id FROM domains WHERE name = 'fuga.com');
INSERT INTO users(name, password, domain_id) VALUES ('a b', 'x', @hoge), ('tag+x', 'x', @hoge);
INSERT INTO aliases(name, domain_id, destination) VALUES
  ('sales', @hoge, 'info@hoge.com'), ('sales', @hoge, 'admin@hoge.com'), ('away', @hoge, 'out@elsewhere.test'),
  ('chain', @hoge, 'sales@hoge.com'), ('keep', @hoge, 'keep@hoge.com'), ('keep', @hoge, 'info@hoge.com'),
  ('moved', @hoge, '@fuga.com'), ('loop', @hoge, 'pool@hoge.com'), ('pool', @hoge, 'loop@hoge.com'),
  ('', @fuga, 'info@hoge.com'), ('info', @fuga, 'info@fuga.com');
INSERT INTO users(name, password, domain_id) VALUES ('keep', 'x', @hoge);
INSERT INTO alias_domains(name, domain_id) VALUES ('twin.test', @hoge);
INSERT INTO transports(name, transport) VALUES
  ('relay.test', 'discard:relay'), ('.relay.test', 'discard:below'), ('admin@hoge.com', 'discard:admin');
INSERT INTO relay_domains(name) VALUES ('relay.test');
INSERT INTO relay_recipients(name, relay_domain_id) VALUES ('one', 1);
";

/// Address and whether it is accepted.
const ADDRESSES: &[(&str, bool)] = &[
    ("info@hoge.com", true),
    ("INFO@Hoge.COM", true),
    ("info+detail@hoge.com", true),
    ("Info+De.Tail@hoge.com", true),
    ("tag+x@hoge.com", true),
    ("tag@hoge.com", false),
    ("nobody@hoge.com", false),
    ("nobody+x@hoge.com", false),
    ("\"a b\"@hoge.com", true),
    ("\"no body\"@hoge.com", false),
    ("o'brien%x@hoge.com", false),
    ("sales@hoge.com", true),
    ("Sales+Q3@hoge.com", true),
    ("chain+a+b@hoge.com", true),
    ("away@hoge.com", true),
    ("keep@hoge.com", true),
    ("moved@hoge.com", true),
    ("anything@fuga.com", true),
    ("anything+x@fuga.com", true),
    ("info@fuga.com", true),
    ("info@twin.test", true),
    ("info+x@twin.test", true),
    ("sales+x@twin.test", true),
    ("nobody@twin.test", false),
    ("one@relay.test", true),
    ("ONE+x@Relay.test", true),
    ("two@relay.test", false),
    ("one@sub.relay.test", false),
    ("x@foreign.test", false),
    ("admin@hoge.com", true),
];

fn theirs(db: &MariaDb, setup: PostfixSetup) -> PostfixSetup {
    let own = "domains d JOIN users u ON u.domain_id = d.id WHERE";
    let alias = "domains d JOIN aliases a ON a.domain_id = d.id WHERE";
    let maps = [
        ("domains", "SELECT name FROM domains WHERE name = '%s' UNION SELECT name FROM alias_domains WHERE name = '%s'".to_owned()),
        ("mailboxes", format!("SELECT 1 FROM {own} d.name = '%d' AND u.name = '%u'")),
        ("aliases", format!("SELECT a.destination FROM {alias} d.name = '%d' AND a.name = '%u' ORDER BY a.id")),
        // PostfixAdmin's way: a second name leads to an alias or mailbox of the other, if there is one.
        (
            "twins",
            format!(
                "SELECT a.destination FROM alias_domains t JOIN {alias} t.name = '%d' AND d.id = t.domain_id AND a.name = '%u'
                 UNION SELECT CONCAT(u.name, '@', d.name) FROM alias_domains t JOIN {own} t.name = '%d' AND d.id = t.domain_id AND u.name = '%u'"
            ),
        ),
        ("catch_alls", format!("SELECT a.destination FROM {alias} '@%d' = '%s' AND d.name = '%d' AND a.name = ''")),
        ("transports", "SELECT transport FROM transports WHERE name = '%s'".to_owned()),
        ("relays", "SELECT name FROM relay_domains WHERE name = '%s'".to_owned()),
        ("relay_recipients", "SELECT r.id FROM relay_domains d JOIN relay_recipients r ON r.relay_domain_id = d.id WHERE d.name = '%d' AND r.name = '%u'".to_owned()),
    ];
    let table = |name: &str| format!("mysql:$config_directory/{name}.cf");
    let setup = maps.iter().fold(setup, |setup, (name, query)| {
        let query = query.split_whitespace().collect::<Vec<_>>().join(" ");
        setup.file(&format!("{name}.cf"), document::mysql_map(&db.host_port(), &query))
    });
    setup
        .main("virtual_mailbox_domains", table("domains"))
        .main("virtual_mailbox_maps", table("mailboxes"))
        .main("virtual_alias_maps", format!("{} {} {}", table("aliases"), table("twins"), table("catch_alls")))
        .main("transport_maps", table("transports"))
        .main("relay_domains", table("relays"))
        .main("relay_recipient_maps", table("relay_recipients"))
}

fn ours(site: &Site, setup: PostfixSetup) -> PostfixSetup {
    let table = |name: &str| format!("socketmap:unix:{}:{name}", site.run("maps.sock").display());
    setup
        .main("virtual_mailbox_domains", table("domains"))
        .main("virtual_mailbox_maps", table("mailboxes"))
        .main("virtual_alias_maps", table("aliases"))
        .main("transport_maps", table("transports"))
        .main("relay_domains", table("relay_domains"))
        .main("relay_recipient_maps", table("relay_recipients"))
}

/// What becomes of a message to this address: the reply, and the recipients with the transport that took each.
fn send(postfix: &Postfix, address: &str) -> (u16, String, Vec<String>) {
    let mut smtp = Smtp::hello(postfix.smtp_port()).unwrap();
    let reply = smtp.send("sender@outside.test", &[address], "Subject: x\n\nx\n").unwrap();
    let _ = smtp.quit();
    let text = reply.text();
    let Some((_, id)) = text.split_once("queued as ") else { return (reply.code, text, Vec::new()) };
    postfix.wait_for_log(&format!("{id}: removed"), Duration::from_secs(20)).unwrap();
    let log = postfix.log();
    let lines = log.lines().filter(|line| line.contains(&format!("{id}: to=<")));
    let mut recipients: Vec<String> = lines
        .map(|line| {
            let field = |name: &str| {
                line.split_once(name).map_or("", |(_, rest)| rest.split_once(", ").map_or(rest, |(one, _)| one))
            };
            // The text behind the status is the discard transport's own: the nexthop of transports.
            let status = line.split_once("status=").map_or("", |(_, rest)| rest);
            format!("{} by {} {status}", field("to=").to_lowercase(), field("relay="))
        })
        .collect();
    recipients.sort();
    (reply.code, "queued".to_owned(), recipients)
}

#[test]
fn addresses_are_accepted_expanded_and_refused_as_with_mysql_tables() {
    let db = MariaDb::start_with_document().unwrap();
    db.sql(ROWS).unwrap();
    let site = Site::on_document(&db, &format!("[maps]\nlisten = {}\n", Site::listen("maps.sock"))).unwrap();
    let _maps = site.start("postfix-maps", "maps.sock").unwrap();
    let base = || {
        Postfix::setup()
            .main("mynetworks", "192.0.2.0/24")
            .main("virtual_alias_domains", "")
            .main("virtual_transport", "discard:mailbox")
            .main("recipient_delimiter", "+")
    };
    let ours = ours(&site, base()).start().unwrap();
    let theirs = theirs(&db, base()).start().unwrap();
    let mut wrong = Vec::new();
    for (address, accepted) in ADDRESSES {
        let (mine, other) = (send(&ours, address), send(&theirs, address));
        if mine != other {
            wrong.push(format!("{address}: theirs {other:?}, ours {mine:?}"));
        }
        if (mine.0 == 250) != *accepted {
            wrong.push(format!("{address}: {mine:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    mailsql_rig::progress(format!("{} addresses alike", ADDRESSES.len()));
    // What loops is deferred by Postfix's own limit with either: neither accepts it for ever.
    let (mine, other) = (send_loop(&ours), send_loop(&theirs));
    assert_eq!(mine, other);
}

fn send_loop(postfix: &Postfix) -> u16 {
    let mut smtp = Smtp::hello(postfix.smtp_port()).unwrap();
    smtp.send("sender@outside.test", &["loop@hoge.com"], "Subject: x\n\nx\n").unwrap().code
}

#[test]
fn with_the_database_down_nothing_is_refused_for_good() {
    let mut db = MariaDb::start_with_document().unwrap();
    let site = Site::on_document(
        &db,
        &format!(
            "[cache]\npositive_ttl = \"1s\"\nnegative_ttl = \"1s\"\nstale_ttl = \"0s\"\n[maps]\nlisten = {}\n",
            Site::listen("maps.sock")
        ),
    )
    .unwrap();
    let _maps = site.start("postfix-maps", "maps.sock").unwrap();
    let postfix = ours(&site, Postfix::setup().main("mynetworks", "192.0.2.0/24").main("virtual_alias_domains", ""));
    let postfix = postfix.main("virtual_transport", "discard:mailbox").start().unwrap();
    assert_eq!(send(&postfix, "info@hoge.com").0, 250);
    assert_eq!(send(&postfix, "nobody@hoge.com").0, 550);
    db.stop();
    std::thread::sleep(Duration::from_millis(1100));
    for address in ["info@hoge.com", "nobody@hoge.com", "new@hoge.com"] {
        assert_eq!(send(&postfix, address).0, 451, "{address}");
    }
}
