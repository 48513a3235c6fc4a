//! The wires and keys of postfix-maps that main.cf can name: tcp_table, spawn(8), maps of the administrator's own, both
//! spellings of a domain; and what `mailsql init` makes of a database that is there.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a fixture that fails fails the test")]

use mailsql_rig::client::smtp::Smtp;
use mailsql_rig::client::socketmap::Socketmap;
use mailsql_rig::{Daemon, MariaDb, Postfix, free_port, program, run};
use mailsql_tests::Site;
use std::process::Command;

const POSTFIXADMIN: &str = include_str!("../fixtures/postfixadmin.sql");

struct Fixture {
    _db: MariaDb,
    site: Site,
    _daemon: Daemon,
    tcp: u16,
}

/// PostfixAdmin's database behind postfix-maps, with two tcp_tables and two own maps.
fn start() -> Fixture {
    let db = MariaDb::start().unwrap();
    db.sql(&format!(
        "CREATE DATABASE mail; GRANT SELECT ON mail.* TO mail@localhost IDENTIFIED BY 'mailpass'; USE mail; {POSTFIXADMIN}
         SET NAMES utf8mb4;
         INSERT INTO domain (domain) VALUES ('xn--r8jz45g.jp');
         ALTER TABLE domain CONVERT TO CHARACTER SET utf8mb4; ALTER TABLE mailbox CONVERT TO CHARACTER SET utf8mb4;
         ALTER TABLE alias CONVERT TO CHARACTER SET utf8mb4;
         INSERT INTO mailbox (username, password, maildir, local_part, domain) VALUES
           ('info@xn--r8jz45g.jp', 'x', 'jp/info/', 'info', 'xn--r8jz45g.jp'),
           ('点@xn--r8jz45g.jp', 'x', 'jp/ten/', '点', 'xn--r8jz45g.jp');"
    ))
    .unwrap();
    let tcp = free_port().unwrap();
    let sections = format!(
        "[nss]\nlisten = \"{{run}}/nss\"\nshort_names = \"example.org\"\n[maps]\nlisten = {}\n[maps.tcp]\nsenders = \"127.0.0.1:{tcp}\"\n\
         [maps.custom.bcc]\nquery = \"SELECT email_other FROM mailbox WHERE username = :address\"\n\
         [maps.custom.hosts]\nkeys = \"domain\"\nquery = \"SELECT domain, backupmx FROM domain WHERE domain = :key\"\n\
         result_format = \"<%s>\"\nexpansion_limit = 1\n",
        Site::listen("maps.sock")
    );
    let site = Site::on_document(&db, &sections).unwrap();
    let text = std::fs::read_to_string(site.config()).unwrap();
    std::fs::write(site.config(), text.replace("[database]\n", "[database]\nschema = \"postfixadmin\"\n")).unwrap();
    db.sql("UPDATE mail.mailbox SET email_other = 'archive@example.org' WHERE username = 'bob@example.org'").unwrap();
    let daemon = site.start("postfix-maps", "maps.sock").unwrap();
    Fixture { _db: db, site, _daemon: daemon, tcp }
}

#[test]
fn every_map_answers_its_keys_and_refuses_the_rest() {
    let fixture = start();
    let mut maps = Socketmap::connect(fixture.site.run("maps.sock")).unwrap();
    let mut wrong = Vec::new();
    for (map, key, expected) in [
        ("domains", "Example.ORG", "OK example.org"),
        ("domains", "sub.example.org", "NOTFOUND "),
        ("domains", "例え.jp", "OK xn--r8jz45g.jp"),
        ("domains", "xn--r8jz45g.jp", "OK xn--r8jz45g.jp"),
        ("mailboxes", "INFO+x@例え.JP", "OK jp/info/"),
        ("mailboxes", "点@例え.jp", "OK jp/ten/"),
        ("mailboxes", "点@xn--r8jz45g.jp", "OK jp/ten/"),
        ("mailboxes", "bob", "NOTFOUND "),
        ("mailboxes", "off@example.org", "NOTFOUND "),
        ("aliases", "example.org", "NOTFOUND "),
        ("aliases", "bob", "NOTFOUND "),
        ("aliases", "", "NOTFOUND "),
        ("aliases", "@catch.org", "NOTFOUND "),
        ("aliases", "\"odd one\"@catch.org", "OK bob@example.org"),
        ("transports", "x@backup.org", "OK smtp:[mx.backup.org]"),
        ("transports", "BACKUP.org", "OK smtp:[mx.backup.org]"),
        ("transports", "*", "NOTFOUND "),
        ("relay_domains", "deep.sub.Backup.org", "OK backup.org"),
        ("relay_domains", "example.org", "NOTFOUND "),
        ("relay_recipients", "One@backup.org", "OK one@backup.org"),
        ("relay_recipients", "two@backup.org", "NOTFOUND "),
        ("local_recipients", "bob", "OK bob@example.org"),
        ("local_recipients", "Bob+x@this.host", "OK bob+x@example.org"),
        ("local_recipients", "nobody", "NOTFOUND "),
        ("local_recipients", "x@catch.org", "OK x@catch.org"),
        ("bcc", "BOB+x@example.org", "OK archive@example.org"),
        ("bcc", "ann@example.org", "NOTFOUND "),
        ("hosts", "x@sub.example.org", "TEMP 2 values are more than expansion_limit = 1"),
        ("hosts", "nowhere.net", "NOTFOUND "),
    ] {
        let found = maps.find(map, key).unwrap();
        if found.to_lowercase() != expected.to_lowercase() {
            wrong.push(format!("{map} {key}: wanted {expected}, got {found}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert_eq!(maps.find("mailboxes", [b'x', 0xff, b'@', b'y']).unwrap(), "NOTFOUND ");
    let perm = maps.find("nothing", "x").unwrap();
    assert!(
        perm.starts_with("PERM no such map; there are domains, mailboxes") && perm.ends_with("bcc, hosts"),
        "{perm}"
    );
}

#[test]
fn postfix_asks_by_tcp_table_and_by_spawn() {
    let fixture = start();
    let spawned = program("postfix-maps").unwrap();
    let config = fixture.site.config().display().to_string();
    // spawn(8) runs as nobody, who may read neither the configuration nor the password.
    let folder = fixture.site.config().parent().unwrap().to_owned();
    for name in ["mailsql.toml", "db.password"] {
        std::os::unix::fs::chown(folder.join(name), Some(65534), None).unwrap();
    }
    let postfix = Postfix::setup()
        .service(&format!("maps unix - n n - 0 spawn user=nobody argv={} --config {config} --stdin", spawned.display()))
        .service(&format!(
            "tcp-maps unix - n n - 0 spawn user=nobody argv={} --config {config} --stdin --tcp-table transports",
            spawned.display()
        ))
        .start()
        .unwrap();
    let socketmap = |name: &str| format!("socketmap:unix:{}/private/maps:{name}", postfix.queue().display());
    for (table, key, expected) in [
        (format!("tcp:127.0.0.1:{}", fixture.tcp), "BOB+x@twin.org", "bob@example.org\n"),
        (format!("tcp:127.0.0.1:{}", fixture.tcp), "nobody@example.org", ""),
        (socketmap("aliases"), "sales+Q3@example.org", "bob+Q3@example.org,Ann+Q3@example.org\n"),
        (socketmap("bcc"), "bob@example.org", "archive@example.org\n"),
        (socketmap("mailboxes"), "nobody@example.org", ""),
    ] {
        let ran = postfix.postmap(&table, key).unwrap();
        assert_eq!(ran.stdout, expected, "{table} {key}: {}\n{}", ran.stderr, postfix.log());
        assert_eq!(ran.code, i32::from(expected.is_empty()), "{table} {key}: {}", ran.stderr);
    }
    let _ = Smtp::hello(postfix.smtp_port()).unwrap().quit();
    // A shell's pipe does as well as a socket.
    let mut command = Command::new(&spawned);
    command.args(["--config", &config, "--stdin", "--tcp-table", "transports"]);
    let ran = run(command, b"get x@backup.org\nget no%20body\nput a b\nget %\nget x@backup.org\n").unwrap();
    assert_eq!(ran.stdout.lines().map(|line| &line[..4]).collect::<Vec<_>>(), ["200 ", "500 ", "500 ", "400 "]);
}

#[test]
fn init_says_which_schema_a_database_has_and_writes_the_configuration_for_it() {
    let db = MariaDb::start().unwrap();
    for (schema, title, sql) in [
        ("postfixadmin", "PostfixAdmin", POSTFIXADMIN),
        ("iredmail", "iRedMail", include_str!("../fixtures/iredmail.sql")),
        ("ispmail", "ISPmail", include_str!("../fixtures/ispmail.sql")),
    ] {
        db.sql(&format!(
            "CREATE DATABASE {schema}; GRANT SELECT ON {schema}.* TO mail@localhost IDENTIFIED BY 'mailpass'; USE {schema}; {sql}"
        ))
        .unwrap();
        let root = mailsql_rig::TempRoot::new().unwrap();
        let password = root.write_mode("db.password", "mailpass", 0o600).unwrap();
        let config = root.path().join("mailsql.toml");
        let mailsql = |arguments: &[&str]| {
            let mut command = Command::new(program("mailsql").unwrap());
            run(
                {
                    command.arg("--config").arg(&config).args(arguments);
                    command
                },
                b"",
            )
            .unwrap()
        };
        let url = format!("mysql://mail@{}/{schema}", db.host_port());
        let ran = mailsql(&["init", "--database", &url, "--password-file", password.to_str().unwrap()]);
        assert!(
            ran.code == 0 && ran.stdout.contains(&format!("is a database of {title}")),
            "{}{}",
            ran.stdout,
            ran.stderr
        );
        let text = std::fs::read_to_string(&config).unwrap();
        assert!(text.contains(&format!("schema = \"{schema}\"\n")) && text.contains("root = \"/var/vmail\""), "{text}");
        let list = mailsql(&["user", "list", "--json"]);
        assert!(list.stdout.contains("bob@example.org"), "{}{}", list.stdout, list.stderr);
        let refused = mailsql(&["domain", "add", "new.org"]);
        assert!(refused.code == 2 && refused.stderr.contains("use the program it belongs to"), "{}", refused.stderr);
        let status = mailsql(&["db", "status"]);
        // ISPmail as it comes has no index on the sources of its aliases, and says so.
        let slow = schema == "ispmail";
        assert_eq!(status.code, i32::from(slow), "{}{}", status.stdout, status.stderr);
        assert_eq!(status.stdout.contains("reads all of virtual_aliases"), slow, "{}", status.stdout);
    }
}
