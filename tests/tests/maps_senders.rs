//! Who may send as whom: `senders` behind a submission service of Postfix with real logins.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a fixture that fails fails the test")]

use mailsql_rig::client::smtp::Smtp;
use mailsql_rig::{MariaDb, Postfix, program, run};
use mailsql_tests::Site;
use std::process::Command;

/// Login, sender, and the code at RCPT.
const TABLE: &[(&str, &str, u16)] = &[
    ("bob@example.org", "bob@example.org", 250),
    ("bob@example.org", "BOB@Example.ORG", 250),
    ("bob@example.org", "bob+lists@example.org", 250),
    ("bob@example.org", "Bob+A+b@EXAMPLE.org", 250),
    ("bob@example.org", "bob@twin.org", 250),
    ("bob@example.org", "bob+x@twin.org", 250),
    ("bob@example.org", "sales@example.org", 250),
    ("bob@example.org", "Sales+Q3@example.org", 250),
    ("bob@example.org", "sales@twin.org", 250),
    ("bob@example.org", "any.body@catch.org", 250),
    // Another one's address, by every way.
    ("bob@example.org", "ann@example.org", 553),
    ("bob@example.org", "ann+x@example.org", 553),
    ("bob@example.org", "ann@twin.org", 553),
    ("bob@example.org", "ANN@EXAMPLE.ORG", 553),
    ("bob@example.org", "only.ann@example.org", 553),
    ("bob@example.org", "nobody@example.org", 553),
    ("bob@example.org", "x@elsewhere.net", 553),
    // What the administrator said.
    ("ann@example.org", "sales@example.org", 553),
    ("ann@example.org", "sales+x@example.org", 553),
    ("ann@example.org", "sales@twin.org", 553),
    ("ann@example.org", "press@partner.net", 250),
    ("ann@example.org", "Press@Partner.net", 250),
    ("ann@example.org", "boss@partner.net", 553),
    ("bob@example.org", "boss@partner.net", 250),
    ("bob@example.org", "press@partner.net", 553),
    // Postfix asks nobody about the null sender; policyd's sender_login does.
    ("bob@example.org", "", 250),
];

#[test]
fn a_login_sends_as_what_is_its_own_and_as_nothing_else() {
    let db = MariaDb::start().unwrap();
    db.sql("CREATE DATABASE mail; GRANT ALL ON mail.* TO mail@localhost IDENTIFIED BY 'mailpass';").unwrap();
    let sections = format!("[saslauthd]\nlisten = \"{{run}}/mux\"\n[maps]\nlisten = {}\n", Site::listen("maps.sock"));
    let site = Site::on_document(&db, &sections).unwrap();
    let mailsql = |arguments: &str, input: &str| {
        let mut command = Command::new(program("mailsql").unwrap());
        command.arg("--config").arg(site.config()).args(arguments.split(' '));
        run(command, input.as_bytes()).unwrap().ok().unwrap()
    };
    let password = site.config().with_file_name("db.password");
    mailsql(&format!("init --database {} --password-file {}", db.url(), password.display()), "");
    for domain in ["example.org", "catch.org"] {
        mailsql(&format!("domain add {domain}"), "");
    }
    for user in ["bob@example.org", "ann@example.org"] {
        mailsql(&format!("user add {user} --password-stdin"), "pass");
    }
    for words in [
        "alias add sales@example.org bob@example.org",
        "alias add sales@example.org ann@example.org",
        "alias add only.ann@example.org ann@example.org",
        "alias add @catch.org bob@example.org",
        "alias add @twin.org @example.org",
        "sender deny ann@example.org sales@example.org",
        "sender allow ann@example.org @partner.net",
        "sender allow bob@example.org Boss@Partner.net",
    ] {
        mailsql(words, "");
    }
    let _daemons = [site.start("saslauthd-rs", "mux").unwrap(), site.start("postfix-maps", "maps.sock").unwrap()];
    let map = |name: &str| format!("socketmap:unix:{}:{name}", site.run("maps.sock").display());
    // A rule that takes from an own one: denied again after it was allowed for all of the domain.
    mailsql("sender deny ann@example.org boss@partner.net", "");
    let postfix = Postfix::setup()
        .saslauthd(&site.run("mux"), "smtp")
        .main("virtual_mailbox_domains", map("domains"))
        .main("virtual_mailbox_maps", map("mailboxes"))
        .main("virtual_alias_domains", "")
        .main("virtual_alias_maps", map("aliases"))
        .main("smtpd_sender_login_maps", map("senders"))
        .main("smtpd_sender_restrictions", "reject_sender_login_mismatch")
        .main("virtual_transport", "discard:mailbox")
        .start()
        .unwrap();
    let mut wrong = Vec::new();
    for (login, sender, expected) in TABLE {
        let mut smtp = Smtp::hello(postfix.submission_port()).unwrap();
        smtp.auth_plain(login, "pass").unwrap().expect_code(235).unwrap();
        let reply = smtp.send(sender, &["bob@example.org"], "Subject: x\n\nx\n").unwrap();
        if reply.code != *expected {
            wrong.push(format!("{login} as <{sender}>: wanted {expected}, got {} {}", reply.code, reply.text()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    mailsql_rig::progress(format!("{} senders", TABLE.len()));
    let list = mailsql("sender list ann@example.org", "");
    assert_eq!(list.lines().count(), 4, "{list}");
    // Taken back, seen at once by the daemon that has it in memory.
    mailsql("sender remove ann@example.org sales@example.org", "");
    let mut smtp = Smtp::hello(postfix.submission_port()).unwrap();
    smtp.auth_plain("ann@example.org", "pass").unwrap().expect_code(235).unwrap();
    assert_eq!(smtp.send("sales@example.org", &["bob@example.org"], "Subject: x\n\nx\n").unwrap().code, 250);
}
