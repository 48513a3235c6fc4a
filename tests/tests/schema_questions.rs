//! Every question asked of every schema, on databases with the public schemas' own columns.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a fixture that fails fails the test")]

use mailsql_config::{Database, DatabaseUrl};
use mailsql_core::resolve::{self, Rules};
use mailsql_core::{Address, Directory};
use mailsql_rig::MariaDb;
use mailsql_store::{Store, WriteError};
use std::path::Path;

const POSTFIXADMIN: &str = include_str!("../fixtures/postfixadmin.sql");
const IREDMAIL: &str = include_str!("../fixtures/iredmail.sql");
const ISPMAIL: &str = include_str!("../fixtures/ispmail.sql");
const MAILSQL: &str = include_str!("../fixtures/mailsql.sql");

/// A question, what it is asked with, and the answers of mailsql, PostfixAdmin, iRedMail and ISPmail; `=` stands for
/// "as the one before".
const TABLE: &[(&str, &str, [&str; 4])] = &[
    ("domain", "example.org", ["example.org", "=", "=", "="]),
    ("domain", "off.org", ["-", "=", "=", "="]),
    ("domain", "twin.org", ["twin.org", "=", "=", "-"]),
    ("domain", "quiet.org", ["-", "=", "=", "="]),
    ("domain", "backup.org", ["-", "=", "=", "="]),
    ("domain", "all", ["-", "=", "=", "="]),
    (
        "mailbox",
        "BOB@Example.org",
        [
            "bob@example.org open quota 10240000",
            "bob@example.org open quota 10240000 maildir example.org/bob/",
            "bob@example.org open quota 10485760 maildir /var/vmail/vmail1/example.org/b/o/b/bob-2024/Maildir/ \
             home /var/vmail/vmail1/example.org/b/o/b/bob-2024/",
            "bob@example.org open quota 10240000",
        ],
    ),
    (
        "mailbox",
        "ann+x@example.org",
        [
            "Ann@example.org open detail x",
            "Ann@example.org open maildir example.org/ann/ detail x",
            "Ann@example.org open maildir /var/vmail/vmail1/example.org/a/n/n/ann-2024/Maildir/ \
             home /var/vmail/vmail1/example.org/a/n/n/ann-2024 detail x",
            "Ann@example.org open detail x",
        ],
    ),
    (
        "mailbox",
        "off@example.org",
        [
            "off@example.org shut",
            "off@example.org shut maildir example.org/off/",
            "off@example.org shut maildir /var/vmail/vmail1/example.org/o/f/f/off-2024/Maildir/ home /var/vmail/vmail1/example.org/o/f/f/off-2024/",
            "-",
        ],
    ),
    (
        "mailbox",
        "send@example.org",
        [
            "-",
            "-",
            "send@example.org open no-mail maildir /var/vmail/vmail1/example.org/s/e/n/send-2024/Maildir/ home /var/vmail/vmail1/example.org/s/e/n/send-2024/",
            "-",
        ],
    ),
    (
        "mailbox",
        "u@off.org",
        [
            "u@off.org shut",
            "u@off.org shut maildir off.org/u/",
            "u@off.org shut maildir /var/vmail/vmail1/off.org/u/u/u/u-2024/Maildir/ home /var/vmail/vmail1/off.org/u/u/u/u-2024/",
            "-",
        ],
    ),
    ("mailbox", "sales@example.org", ["-", "=", "=", "="]),
    ("mailbox", "bób@example.org", ["-", "=", "=", "="]),
    ("mailbox", "😀@example.org", ["-", "=", "=", "="]),
    ("mailbox", "bob @example.org", ["-", "=", "=", "="]),
    ("credentials", "bob@example.org", ["{PLAIN}bobpass smtp imap", "=", "=", "="]),
    (
        "credentials",
        "ann@example.org",
        ["{PLAIN}annpass imap", "=", "{PLAIN}annpass imap from 192.0.2.0/24", "{PLAIN}annpass smtp imap"],
    ),
    ("credentials", "nobody@example.org", ["-", "=", "=", "="]),
    ("aliases", "sales@example.org", ["bob@example.org,Ann@example.org", "=", "=", "="]),
    ("aliases", "Sales+Q3@EXAMPLE.org", ["bob+Q3@example.org,Ann+Q3@example.org", "=", "=", "="]),
    ("aliases", "ann@example.org", ["Ann@example.org,ann@elsewhere.net", "=", "=", "="]),
    ("aliases", "bob@example.org", ["-", "bob@example.org", "bob@example.org", "-"]),
    ("aliases", "old@example.org", ["-", "=", "=", "="]),
    ("aliases", "any.one@catch.org", ["bob@example.org", "=", "=", "="]),
    ("aliases", "bob+x@twin.org", ["bob+x@example.org", "=", "=", "-"]),
    ("aliases", "sales@twin.org", ["bob@example.org,Ann@example.org", "=", "=", "-"]),
    ("aliases", "nobody@twin.org", ["-", "=", "=", "="]),
    ("aliases", "bob@quiet.org", ["-", "=", "=", "="]),
    ("senders", "bob@example.org", ["bob@example.org", "=", "=", "="]),
    ("senders", "SALES+x@example.org", ["bob@example.org", "bob@example.org,Ann@example.org", "=", "="]),
    ("senders", "bob@twin.org", ["bob@example.org", "=", "=", "-"]),
    ("senders", "any@partner.net", ["bob@example.org", "-", "-", "-"]),
    ("senders", "off@example.org", ["-", "=", "=", "="]),
    ("transport", "ann+x@example.org", ["lmtp:ann", "-", "lmtp:ann", "-"]),
    ("transport", "bob@example.org", ["-", "-", "dovecot", "-"]),
    ("transport", "x@sub.example.org", ["slow:", "-", "-", "-"]),
    ("transport", "one@backup.org", ["smtp:[mx.backup.org]", "=", "=", "-"]),
    ("relay", "backup.org", ["backup.org", "=", "=", "-"]),
    ("relay", "example.org", ["-", "=", "=", "="]),
    ("relay recipient", "One+x@backup.org", ["one@backup.org", "one@backup.org", "-", "-"]),
    ("relay recipient", "two@backup.org", ["-", "=", "=", "="]),
];

const SCHEMAS: [&str; 4] = ["mailsql", "postfixadmin", "iredmail", "ispmail"];

async fn answer(store: &Store, question: &str, key: &str) -> String {
    let rules = Rules::default();
    let address = Address::parse(key).unwrap_or_else(|_| Address::parse("no@address.here").unwrap());
    let found = match question {
        "domain" => store.domain(key).await.unwrap().map(String::from),
        "relay" => resolve::relay_domain(store, key).await.unwrap().map(String::from),
        "relay recipient" => {
            resolve::relay_recipient(store, &address, &rules).await.unwrap().map(|found| found.to_string())
        }
        "transport" => resolve::transport(store, key, &rules).await.unwrap().map(|found| found.to_string()),
        "aliases" => resolve::aliases(store, &address, &rules).await.unwrap().map(|list| list.join(",")),
        "senders" => {
            Some(resolve::senders(store, &address, &rules, 0).await.unwrap().join(",")).filter(|s| !s.is_empty())
        }
        "credentials" => resolve::mailbox(store, &address, &rules).await.unwrap().map(|found| {
            let account = found.account;
            let mut text = account.password.as_ref().unwrap().0.to_string();
            for service in ["smtp", "imap"] {
                if account.allows_service(service) {
                    text = format!("{text} {service}");
                }
            }
            account.allow_nets.as_ref().map_or(text.clone(), |nets| format!("{text} from {}", nets.join(",")))
        }),
        "mailbox" => resolve::mailbox(store, &address, &rules).await.unwrap().map(|found| {
            let account = found.account;
            let mut text = format!("{} {}", account.address, if account.closed(0) { "shut" } else { "open" });
            if !account.receives {
                text.push_str(" no-mail");
            }
            for (name, value) in [
                ("quota", account.quota.bytes.map(|bytes| bytes.to_string())),
                ("maildir", account.maildir.as_deref().map(str::to_owned)),
                ("home", account.home.as_deref().map(str::to_owned)),
                ("detail", found.detail.as_deref().map(str::to_owned)),
            ] {
                if let Some(value) = value {
                    text = format!("{text} {name} {value}");
                }
            }
            text
        }),
        _ => panic!("{question}"),
    };
    found.unwrap_or_else(|| "-".to_owned())
}

async fn ask_all(store: &Store, schema: &str, label: &str) {
    let place = SCHEMAS.iter().position(|known| *known == schema).unwrap();
    let mut wrong = Vec::new();
    for (question, key, expected) in TABLE {
        let expected = expected[..=place].iter().rev().find(|text| **text != "=").unwrap();
        let found = answer(store, question, key).await;
        if found != *expected {
            wrong.push(format!("{label}: {question} {key}: wanted {expected}, got {found}"));
        }
    }
    assert!(wrong.is_empty(), "{} of {} wrong\n{}", wrong.len(), TABLE.len(), wrong.join("\n"));
    let findings = store.check().await.unwrap();
    assert!(findings.is_empty(), "{label}: {findings:?}");
    let seen = store.recognise().await.unwrap();
    assert_eq!(seen.iter().map(|one| one.name.as_str()).collect::<Vec<_>>(), [schema], "{label}");
    mailsql_rig::progress(format!("{label}: {} answers", TABLE.len()));
}

/// A database of its own on the server, with an account that reads it and one that writes it.
fn load(db: &MariaDb, schema: &str, sql: &str) {
    db.sql(&format!(
        "CREATE DATABASE {schema}; GRANT ALL ON {schema}.* TO writer@localhost IDENTIFIED BY 'w';
         GRANT SELECT ON {schema}.* TO reader@localhost IDENTIFIED BY 'r'; USE {schema}; SET NAMES utf8mb4; {sql}"
    ))
    .unwrap();
}

fn open(db: &MariaDb, user: &str, schema: &str, writes: bool) -> Store {
    let mut config = Database::new(format!("mysql://{user}@{}/{schema}", db.host_port()).parse().unwrap());
    config.schema = schema.to_owned();
    config.writes = writes;
    Store::open(&config, Some(&user[..1])).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_schema_answers_every_question_on_mariadb() {
    let db = MariaDb::start().unwrap();
    load(&db, "mailsql", "");
    open(&db, "writer", "mailsql", false).create().await.unwrap();
    db.sql(&format!("USE mailsql; SET NAMES utf8mb4; {MAILSQL}")).unwrap();
    for (schema, sql) in [("postfixadmin", POSTFIXADMIN), ("iredmail", IREDMAIL), ("ispmail", ISPMAIL)] {
        load(&db, schema, sql);
    }
    // ISPmail has no index on its aliases' sources; small tables are read whole, so large ones must be told about.
    db.sql(
        "ALTER TABLE ispmail.virtual_aliases ADD INDEX (source); ALTER TABLE ispmail.virtual_domains ADD INDEX (name)",
    )
    .unwrap();
    for schema in SCHEMAS {
        ask_all(&open(&db, "reader", schema, false), schema, &format!("{schema} on MariaDB")).await;
    }
}

fn sqlite(path: &Path, sql: &str) {
    rusqlite::Connection::open(path).unwrap().execute_batch(sql).unwrap();
}

#[tokio::test]
async fn the_schemas_that_there_are_on_sqlite_answer_every_question() {
    let dir = mailsql_rig::TempRoot::new().unwrap();
    let path = dir.path().join("mail.db");
    let config = Database::new(DatabaseUrl::Sqlite(path.clone()));
    let store = Store::open(&config, None).unwrap();
    store.create_file().await.unwrap();
    store.create().await.unwrap();
    sqlite(&path, MAILSQL);
    ask_all(&store, "mailsql", "mailsql on SQLite").await;

    let path = dir.path().join("postfix.db");
    sqlite(
        &path,
        &POSTFIXADMIN.replace("varchar(255) NOT NULL PRIMARY KEY", "varchar(255) NOT NULL PRIMARY KEY COLLATE NOCASE"),
    );
    let config = Database { schema: "postfixadmin".to_owned(), ..Database::new(DatabaseUrl::Sqlite(path)) };
    ask_all(&Store::open(&config, None).unwrap(), "postfixadmin", "postfixadmin on SQLite").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_belongs_to_another_program_is_changed_only_where_that_was_allowed() {
    let db = MariaDb::start().unwrap();
    for (schema, sql) in [("postfixadmin", POSTFIXADMIN), ("iredmail", IREDMAIL), ("ispmail", ISPMAIL)] {
        load(&db, schema, sql);
        let bob = Address::parse("bob@example.org").unwrap();
        let refused = open(&db, "writer", schema, false).set_password(&bob, "h").await.unwrap_err();
        assert!(refused.to_string().contains("`writes = true` in [database] allows password changes"), "{refused}");
        let store = open(&db, "writer", schema, true);
        store.set_password(&bob, "h1").await.unwrap();
        assert!(!store.replace_password(&bob, "other", "h2").await.unwrap());
        assert!(store.replace_password(&bob, "h1", "h2").await.unwrap());
        let found = store.account(&bob).await.unwrap().unwrap();
        assert_eq!(&*found.password.as_ref().unwrap().0, "h2", "{schema}");
        let refused = store.remove_user(&bob).await.unwrap_err();
        assert!(matches!(refused, WriteError::ReadOnly(..)), "{schema}: {refused}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn own_queries_are_told_what_is_wrong_with_them() {
    let db = MariaDb::start().unwrap();
    load(&db, "ispmail", ISPMAIL);
    db.sql(
        "USE ispmail; CREATE TABLE plain (email varchar(100), secret varchar(100)) ENGINE=InnoDB;
         CREATE TABLE big (email varchar(100)) ENGINE=InnoDB; INSERT INTO big SELECT seq FROM seq_1_to_5000;",
    )
    .unwrap();
    let findings = async |queries: &[(&str, &str)]| {
        let mut config = Database::new(format!("mysql://reader@{}/ispmail", db.host_port()).parse().unwrap());
        config.schema = "ispmail".to_owned();
        config.queries = queries.iter().map(|(name, sql)| ((*name).to_owned(), (*sql).to_owned())).collect();
        let store = Store::open(&config, Some("r")).map_err(|error| error.to_string())?;
        let found = store.check().await.unwrap();
        Ok::<_, String>(
            found.iter().map(ToString::to_string).filter(|text| text.contains("[queries]")).collect::<Vec<_>>(),
        )
    };
    for (query, sql, expected) in [
        (
            "account",
            "SELECT email AS address, secret AS password FROM plain WHERE email = :address",
            "reads all of plain",
        ),
        ("account", "SELECT email AS address FROM virtual_users WHERE email = :address", "has no column password"),
        (
            "account",
            "SELECT password FROM virtual_users WHERE email = :address",
            "has neither a column address nor both",
        ),
        (
            "account",
            "SELECT email AS address, password, quota FROM virtual_users WHERE email = :address",
            "a column quota that means nothing",
        ),
        (
            "alias",
            "SELECT destinaton AS destination FROM virtual_aliases WHERE source = :address",
            "Unknown column 'destinaton'",
        ),
        ("alias", "SELECT destination FROM virtual_alias WHERE source = :address", "doesn't exist"),
        ("transport", "SELECT email AS transport FROM big WHERE CONCAT(email) = :key", "reads all of big"),
        ("domain", "SELECT name AS domain FROM virtual_domains WHERE", "syntax"),
    ] {
        let found = findings(&[(query, sql)]).await.unwrap();
        assert!(found.len() == 1 && found[0].contains(expected), "{sql}: {found:?}");
    }
    let fine = "SELECT email AS address, password, 'u' AS home FROM virtual_users WHERE email = :address";
    assert_eq!(findings(&[("account", fine)]).await.unwrap(), Vec::<String>::new());
    let error = findings(&[("account", "SELECT :adress")]).await.unwrap_err();
    assert!(error.contains("[queries] account: unknown placeholder :adress"), "{error}");
}
