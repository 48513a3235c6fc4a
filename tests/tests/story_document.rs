//! The document's walk on both sides: with Debian's programs and with ours, the same steps and the same answers.

#![allow(clippy::unwrap_used, reason = "a fixture that fails fails the test")]

use mailsql_rig::client::saslauthd;
use mailsql_rig::client::smtp::Smtp;
use mailsql_rig::pam::{self, Call, Step};
use mailsql_rig::{MariaDb, Postfix, Side, document, testsaslauthd};
use mailsql_tests::{Maps, Module, Sasl};

const MESSAGE: &str = "From: user@example.net\nSubject: test-mail\n\nhoge\n";

/// `pamtester smtp a@b.c authenticate` and every login of the document.
fn pam_answers_the_documents_logins(side: Side) {
    let db = MariaDb::start_with_document().unwrap();
    let service = Module::of(side, &db).unwrap().service("").unwrap();
    let tested = pam::pamtester(service.name(), "a@b.c", &["authenticate", "acct_mgmt"], "apass\n").unwrap();
    assert_eq!(tested.code, 0, "{}", tested.text());
    let ask = |user: &str, password: &str| {
        Call::new(service.name(), user).answer(password).step(Step::Authenticate).step(Step::AcctMgmt).run().unwrap()
    };
    for (user, password) in document::LOGINS {
        let transcript = ask(user, password);
        assert_eq!(transcript.names(), ["PAM_SUCCESS", "PAM_SUCCESS"], "{user}: {transcript:?}");
        assert_eq!(ask(user, "wrong").names()[0], "PAM_AUTH_ERR", "{user}");
    }
    assert_eq!(ask("nobody@b.c", "apass").names()[0], "PAM_USER_UNKNOWN");
}

#[test]
fn pam_mysql_answers_the_documents_logins() {
    pam_answers_the_documents_logins(Side::Theirs);
}

#[test]
fn pam_mailsql_answers_the_documents_logins() {
    pam_answers_the_documents_logins(Side::Ours);
}

/// `testsaslauthd -s smtp -u a -r b.c -p apass`, then AUTH through Postfix.
fn smtp_auth_accepts_the_documents_logins(side: Side) {
    let db = MariaDb::start_with_document().unwrap();
    let sasl = Sasl::start(side, &db).unwrap();
    let (code, text) = testsaslauthd(&sasl.socket(), sasl.service(), "a", "b.c", "apass").unwrap();
    assert_eq!((code, text.as_str()), (0, "0: OK \"Success.\""));
    // testsaslauthd's other way: the address unsplit, no realm.
    let (code, _) = testsaslauthd(&sasl.socket(), sasl.service(), "a@b.c", "", "apass").unwrap();
    assert_eq!(code, 0);
    for (login, realm, password) in [("a", "b.c", "wrong"), ("nobody", "b.c", "apass"), ("a", "", "apass")] {
        let answer = saslauthd::ask(sasl.socket(), login, password, sasl.service(), realm).unwrap();
        assert!(answer.as_deref().is_some_and(|text| text.starts_with("NO")), "{login} {realm}: {answer:?}");
    }

    let postfix = sasl.serve(Postfix::setup()).start().unwrap();
    for (user, password) in document::LOGINS {
        let mut session = Smtp::hello(postfix.submission_port()).unwrap();
        assert_eq!(session.auth_plain(user, "wrong").unwrap().code, 535, "{user}");
        assert_eq!(session.auth_plain(user, password).unwrap().code, 235, "{user}");
        let mut session = Smtp::hello(postfix.submission_port()).unwrap();
        assert_eq!(session.auth_login(user, password).unwrap().code, 235, "{user}");
    }
}

#[test]
fn smtp_auth_by_debians_saslauthd_accepts_the_documents_logins() {
    smtp_auth_accepts_the_documents_logins(Side::Theirs);
}

#[test]
fn smtp_auth_by_saslauthd_rs_accepts_the_documents_logins() {
    smtp_auth_accepts_the_documents_logins(Side::Ours);
}

/// The document's two tables: recipients of known domains and mailboxes are taken, others refused at RCPT.
fn recipients_are_checked_against_the_tables(side: Side) {
    let db = MariaDb::start_with_document().unwrap();
    let maps = Maps::start(side, &db).unwrap();
    // Who delivers is not this story's matter.
    let postfix = maps.serve(Postfix::setup()).main("virtual_transport", "discard:").main("mynetworks", "").start();
    let postfix = postfix.unwrap();
    for (user, _) in document::LOGINS {
        let mut session = Smtp::hello(postfix.smtp_port()).unwrap();
        assert_eq!(session.send("user@example.net", &[user], MESSAGE).unwrap().code, 250, "{user}");
    }
    for (recipient, code) in
        [("INFO@HOGE.COM", 250), ("nobody@hoge.com", 550), ("info@b.c", 550), ("info@elsewhere.net", 554)]
    {
        let mut session = Smtp::hello(postfix.smtp_port()).unwrap();
        let reply = session.send("user@example.net", &[recipient], MESSAGE).unwrap();
        assert_eq!(reply.code, code, "{recipient}: {reply:?}");
    }
}

#[test]
fn recipients_are_checked_against_mysql_tables() {
    recipients_are_checked_against_the_tables(Side::Theirs);
}

#[test]
fn recipients_are_checked_against_postfix_maps() {
    recipients_are_checked_against_the_tables(Side::Ours);
}

/// Where the two differ, and why ours exists: a dead database is trouble (454), not a wrong password (535).
#[test]
fn a_dead_database_is_temporary_with_saslauthd_rs() {
    let mut db = MariaDb::start_with_document().unwrap();
    let sasl = Sasl::start(Side::Ours, &db).unwrap();
    let postfix = sasl.serve(Postfix::setup()).start().unwrap();
    db.kill();
    assert_eq!(saslauthd::ask(sasl.socket(), "a", "apass", sasl.service(), "b.c").unwrap(), None);
    let mut session = Smtp::hello(postfix.submission_port()).unwrap();
    let reply = session.auth_plain("a@b.c", "apass").unwrap();
    assert_eq!(reply.code, 454, "{reply:?}");
    db.restart().unwrap();
    mailsql_rig::wait_until("the daemon to find the database again", std::time::Duration::from_secs(20), || {
        Smtp::hello(postfix.submission_port()).unwrap().auth_plain("a@b.c", "apass").unwrap().code == 235
    })
    .unwrap();
}
