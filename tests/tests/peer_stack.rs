//! The document's own stack, with Debian's programs in every role: pam_mysql.so, saslauthd, `mysql:` tables, virtual(8),
//! Dovecot over PAM. What passes here is what our programs must do at least; each test's doc comment names the step.

#![allow(clippy::unwrap_used, reason = "a fixture that fails fails the test")]

use std::time::Duration;

use mailsql_rig::client::imap::Imap;
use mailsql_rig::client::pop3::Pop3;
use mailsql_rig::client::saslauthd;
use mailsql_rig::client::smtp::Smtp;
use mailsql_rig::pam::{self, Call, Step};
use mailsql_rig::{Dovecot, MariaDb, Postfix, PostfixSetup, Saslauthd, document, testsaslauthd};

const DELIVERED: Duration = Duration::from_secs(20);
const MESSAGE: &str = "From: user@example.net\nTo: info@hoge.com\nSubject: test-mail\n\nhoge\n.leading dot\n";

/// The document's /etc/pam.d/smtp on this server.
fn pam_service(db: &MariaDb) -> pam::Service {
    let lines = document::pam_service("pam_mysql.so", &document::pam_arguments(&db.host_port()));
    pam::Service::new(&lines).unwrap()
}

/// The document's main.cf for virtual mailboxes in `mysql:` tables, delivered by virtual(8) below `mail`.
fn postfix_with_mysql_tables(db: &MariaDb, mail: &std::path::Path) -> PostfixSetup {
    Postfix::setup()
        .file("mysql-virtual-mailbox-domains.cf", document::domains_map(&db.host_port()))
        .file("mysql-virtual-mailbox-maps.cf", document::mailboxes_map(&db.host_port()))
        .main("virtual_mailbox_domains", "mysql:$config_directory/mysql-virtual-mailbox-domains.cf")
        .main("virtual_mailbox_maps", "mysql:$config_directory/mysql-virtual-mailbox-maps.cf")
        .main("virtual_mailbox_base", mail.display().to_string())
        .main("virtual_uid_maps", "static:5000")
        .main("virtual_gid_maps", "static:5000")
}

/// `pamtester smtp a@b.c authenticate`, and the numeric codes behind it.
#[test]
fn pam_mysql_knows_the_documents_logins() {
    let db = MariaDb::start_with_document().unwrap();
    let service = pam_service(&db);
    let tested = pam::pamtester(service.name(), "a@b.c", &["authenticate"], "apass\n").unwrap();
    assert_eq!(tested.code, 0, "{}", tested.text());
    assert!(tested.text().contains("successfully authenticated"), "{}", tested.text());

    let table = [
        ("info@hoge.com", "infopass", ["PAM_SUCCESS", "PAM_SUCCESS"]),
        ("info@domain.com", "infopass", ["PAM_SUCCESS", "PAM_SUCCESS"]),
        ("a@b.c", "wrong", ["PAM_AUTH_ERR", "PAM_SUCCESS"]),
        ("nobody@b.c", "apass", ["PAM_USER_UNKNOWN", "PAM_USER_UNKNOWN"]),
    ];
    for (user, password, expected) in table {
        let call = Call::new(service.name(), user).answer(password).step(Step::Authenticate).step(Step::AcctMgmt);
        let transcript = call.run().unwrap();
        assert_eq!(transcript.names(), expected, "{user}: {transcript:?}");
        assert_eq!(transcript.prompts, ["off Password:"], "{user}");
    }
}

/// A stopped database: pam_mysql does say so, by code.
#[test]
fn pam_mysql_calls_a_stopped_database_unavailable() {
    let mut db = MariaDb::start_with_document().unwrap();
    let service = pam_service(&db);
    db.stop();
    let call = Call::new(service.name(), "a@b.c").answer("apass").step(Step::Authenticate);
    assert_eq!(call.run().unwrap().names(), ["PAM_AUTHINFO_UNAVAIL"]);
}

/// `testsaslauthd -s smtp -u a -r b.c -p apass`, and Postfix AUTH through it.
#[test]
fn saslauthd_and_postfix_accept_the_documents_logins_and_refuse_others() {
    let db = MariaDb::start_with_document().unwrap();
    let service = pam_service(&db);
    let sasl = Saslauthd::setup().start().unwrap();

    let (code, text) = testsaslauthd(&sasl.socket(), service.name(), "a", "b.c", "apass").unwrap();
    assert_eq!((code, text.as_str()), (0, "0: OK \"Success.\""));
    let (code, text) = testsaslauthd(&sasl.socket(), service.name(), "a", "b.c", "wrong").unwrap();
    assert_eq!((code, text.as_str()), (255, "0: NO \"authentication failed\""));
    let answer = saslauthd::ask(sasl.socket(), "a", "apass", service.name(), "b.c").unwrap();
    assert_eq!(answer.as_deref(), Some("OK"));
    let answer = saslauthd::ask(sasl.socket(), "a", "wrong", service.name(), "b.c").unwrap();
    assert_eq!(answer.as_deref(), Some("NO PAM auth error"));

    let postfix = Postfix::setup().saslauthd(&sasl.socket(), service.name()).start().unwrap();
    for port in [postfix.smtp_port(), postfix.submission_port()] {
        let mut session = Smtp::hello(port).unwrap();
        assert_eq!(session.auth_plain("a@b.c", "wrong").unwrap().code, 535);
        assert_eq!(session.auth_plain("a@b.c", "apass").unwrap().code, 235);
        let mut session = Smtp::hello(port).unwrap();
        assert_eq!(session.auth_login("admin@hoge.com", "nopass").unwrap().code, 535);
        assert_eq!(session.auth_login("admin@hoge.com", "adminpass").unwrap().code, 235);
    }
    let mut stranger = Smtp::hello(postfix.submission_port()).unwrap();
    let refused = stranger.send("x@example.net", &["y@example.org"], MESSAGE).unwrap();
    assert_eq!(refused.code, 554, "{refused:?}");
}

/// What goes wrong in the hand-made stack: a dead database reads as a wrong password (535), not as trouble (454).
#[test]
fn the_hand_made_stack_turns_a_dead_database_into_a_wrong_password() {
    let mut db = MariaDb::start_with_document().unwrap();
    let service = pam_service(&db);
    let mut sasl = Saslauthd::setup().start().unwrap();
    let postfix = Postfix::setup().saslauthd(&sasl.socket(), service.name()).start().unwrap();
    db.kill();
    let mut session = Smtp::hello(postfix.smtp_port()).unwrap();
    assert_eq!(session.auth_plain("a@b.c", "apass").unwrap().code, 535);
    // A daemon that is gone is trouble that Postfix can tell.
    sasl.stop();
    let mut session = Smtp::hello(postfix.smtp_port()).unwrap();
    let reply = session.auth_plain("a@b.c", "apass").unwrap();
    assert_eq!(reply.code, 454, "{reply:?}");
}

/// `postmap -q` on the document's two tables, and the recipient check they feed.
#[test]
fn mysql_tables_answer_domains_and_mailboxes() {
    let db = MariaDb::start_with_document().unwrap();
    let root = mailsql_rig::TempRoot::new().unwrap();
    let postfix = postfix_with_mysql_tables(&db, root.path()).start().unwrap();
    let config = postfix.config();
    let domains = format!("mysql:{}/mysql-virtual-mailbox-domains.cf", config.display());
    let mailboxes = format!("mysql:{}/mysql-virtual-mailbox-maps.cf", config.display());
    let table = [
        (&domains, "hoge.com", 0, "1\n"),
        (&domains, "nowhere.com", 1, ""),
        (&mailboxes, "info@hoge.com", 0, "info@hoge.com/\n"),
        (&mailboxes, "INFO@HOGE.COM", 0, "info@hoge.com/\n"),
        (&mailboxes, "nobody@hoge.com", 1, ""),
    ];
    for (map, key, code, value) in table {
        let ran = postfix.postmap(map, key).unwrap();
        assert_eq!((ran.code, ran.stdout.as_str()), (code, value), "{key}: {}", ran.stderr);
    }
    let mut session = Smtp::hello(postfix.smtp_port()).unwrap();
    let refused = session.send("user@example.net", &["nobody@hoge.com"], MESSAGE).unwrap();
    assert_eq!(refused.code, 550, "{refused:?}");
}

/// The document's last step: mail in by SMTP, into a Maildir by virtual(8), out by IMAP and POP3 with a PAM login.
#[test]
fn mail_comes_in_by_smtp_and_out_by_imap_and_pop3() {
    let db = MariaDb::start_with_document().unwrap();
    let service = pam_service(&db);
    let dovecot = Dovecot::setup().passdb_pam(service.name()).start().unwrap();
    let postfix = postfix_with_mysql_tables(&db, &dovecot.mail_root()).start().unwrap();

    let mut session = Smtp::hello(postfix.smtp_port()).unwrap();
    assert_eq!(session.send("user@example.net", &["info@hoge.com"], MESSAGE).unwrap().code, 250);
    postfix.wait_for_log("status=sent (delivered to maildir)", DELIVERED).unwrap();
    postfix.wait_empty(DELIVERED).unwrap();

    let mut imap = Imap::connect(dovecot.imap_port()).unwrap();
    assert!(imap.login("info@hoge.com", "wrong").unwrap().starts_with("NO [AUTHENTICATIONFAILED]"));
    assert!(imap.login("info@hoge.com", "infopass").unwrap().starts_with("OK"));
    assert_eq!(imap.select("INBOX").unwrap(), 1);
    let by_imap = String::from_utf8(imap.fetch(1).unwrap()).unwrap();
    assert!(by_imap.ends_with("\r\n\r\nhoge\r\n.leading dot\r\n"), "{by_imap}");
    imap.logout().unwrap();

    let mut pop3 = Pop3::connect(dovecot.pop3_port()).unwrap();
    assert!(pop3.login("info@hoge.com", "wrong").unwrap().starts_with("-ERR [AUTH]"));
    assert!(pop3.login("info@hoge.com", "infopass").unwrap().starts_with("+OK"));
    assert_eq!(pop3.count().unwrap(), 1);
    assert_eq!(pop3.fetch(1).unwrap(), by_imap.as_bytes());
    pop3.quit().unwrap();

    let tested = dovecot.doveadm(&["auth", "test", "a@b.c", "apass"]).unwrap();
    assert_eq!(tested.code, 0, "{}", tested.text());
}

/// Debian chroots smtpd, cleanup and rewrite: the SASL socket must lie inside the queue folder then.
#[test]
fn a_chrooted_postfix_reaches_a_socket_inside_its_queue() {
    let db = MariaDb::start_with_document().unwrap();
    let service = pam_service(&db);
    let mut postfix = Postfix::setup().chroot().saslauthd("/sasl/mux".as_ref(), service.name()).start().unwrap();
    let sasl = Saslauthd::setup().folder(postfix.queue().join("sasl")).start().unwrap();
    let mut session = Smtp::hello(postfix.smtp_port()).unwrap();
    assert_eq!(session.auth_plain("a@b.c", "apass").unwrap().code, 235);
    drop(sasl);

    // And a reload takes a changed setting.
    postfix.set("smtpd_sasl_auth_enable", "no").unwrap();
    postfix.reload().unwrap();
    let mut session = Smtp::hello(postfix.smtp_port()).unwrap();
    assert_eq!(session.auth_plain("a@b.c", "apass").unwrap().code, 503);
}

/// Detached, as an init script starts it and as benchmarks measure it.
#[test]
fn a_detached_saslauthd_is_found_and_ended() {
    let db = MariaDb::start_with_document().unwrap();
    let service = pam_service(&db);
    let mut sasl = Saslauthd::setup().arg("-c").detached().start().unwrap();
    let answer = saslauthd::ask(sasl.socket(), "a", "apass", service.name(), "b.c").unwrap();
    assert_eq!(answer.as_deref(), Some("OK"));
    let members = sasl.process().unwrap().members();
    assert_eq!(members.len(), 5, "five workers, the first one included");
    sasl.stop();
    for pid in members {
        // A zombie counts as ended: its new parent, process 1, reaps it when it likes.
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        assert!(stat.is_empty() || stat.contains(") Z "), "{pid} still runs: {stat}");
    }
}
