//! A mail is submitted with AUTH, looked up, delivered and read back: Postfix, libsasl2 and Dovecot around our programs,
//! on the document's own MariaDB database and on SQLite.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a fixture that fails fails the test")]

use mailsql_rig::client::imap::Imap;
use mailsql_rig::client::pop3::Pop3;
use mailsql_rig::client::smtp::Smtp;
use mailsql_rig::{Daemon, Dovecot, MariaDb, Postfix, document, module, pam, program, run, wait_until};
use mailsql_tests::Site;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

const MESSAGE: &str =
    "From: info@hoge.com\nTo: admin@hoge.com\nSubject: test-mail\n\nhoge\n.a line that begins with a dot\n";
/// Owner of the mail files.
const VMAIL: u32 = 5000;
/// `nobody` and `nogroup`, whom the site's daemons become.
const NOBODY: u32 = 65534;
const PATIENCE: Duration = Duration::from_secs(30);

/// Our whole stack with Postfix and Dovecot around it.
struct Server {
    postfix: Postfix,
    dovecot: Dovecot,
    daemons: Vec<Daemon>,
    site: Site,
    _pam: pam::Service,
    db: Option<MariaDb>,
}

fn sections() -> String {
    format!(
        "[mail]\nroot = \"{{run}}/mail\"\nuid = {VMAIL}\ngid = {VMAIL}\n[saslauthd]\nlisten = \"{{run}}/mux\"\n[maps]\nlisten = {}\n[lmtp]\nlisten = {}\n[ask]\nlisten = {}\n",
        Site::listen("maps.sock"),
        Site::listen("lmtp.sock"),
        Site::listen("ask.sock"),
    )
}

impl Server {
    /// The document's database as it stands, each daemon by itself, PAM asking the database with the document's line.
    fn on_mariadb() -> Self {
        let db = MariaDb::start_with_document().unwrap();
        let site = Site::on_document(&db, &sections()).unwrap();
        make_mail_root(&site);
        let daemons = vec![
            site.start("saslauthd-rs", "mux").unwrap(),
            site.start("postfix-maps", "maps.sock").unwrap(),
            site.start("lmtpd", "lmtp.sock").unwrap(),
        ];
        let module = module("pam_mailsql").unwrap().display().to_string();
        let lines = document::pam_service(&module, &document::pam_arguments(&db.host_port()));
        Self::around(site, daemons, &lines, Some(db))
    }

    /// SQLite made by the command, all daemons in one process, PAM asking by the socket.
    fn on_sqlite() -> Self {
        let site = Site::with_database("url = \"sqlite:/tmp/replaced\"", &sections()).unwrap();
        let folder = site.run("db");
        std::fs::create_dir(&folder).unwrap();
        chown(&folder, Some(NOBODY), Some(NOBODY)).unwrap();
        let file = folder.join("mail.db");
        let text = std::fs::read_to_string(site.config()).unwrap();
        std::fs::write(site.config(), text.replace("/tmp/replaced", &file.display().to_string())).unwrap();
        mailsql(&site, &["init", "--database", &format!("sqlite:{}", file.display())], "");
        chown(&file, Some(NOBODY), Some(NOBODY)).unwrap();
        std::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o660)).unwrap();
        std::fs::set_permissions(&folder, std::os::unix::fs::PermissionsExt::from_mode(0o2770)).unwrap();
        for domain in document::DOMAINS {
            mailsql(&site, &["domain", "add", domain], "");
        }
        for (user, password) in document::LOGINS {
            mailsql(&site, &["user", "add", user, "--password-stdin"], password);
        }
        make_mail_root(&site);
        let serve = Daemon::setup("mailsql").arg("--config").arg(site.config()).arg("serve");
        let sockets = ["mux", "maps.sock", "lmtp.sock", "ask.sock"];
        let serve = sockets.iter().fold(serve, |setup, name| setup.ready_socket(site.run(name)));
        let daemons = vec![serve.start().unwrap()];
        let module = module("pam_mailsql").unwrap().display().to_string();
        let lines = document::pam_service(&module, &format!("socket={}", site.run("ask.sock").display()));
        Self::around(site, daemons, &lines, None)
    }

    fn around(site: Site, daemons: Vec<Daemon>, pam_lines: &str, db: Option<MariaDb>) -> Self {
        let map = |name: &str| format!("socketmap:unix:{}:{name}", site.run("maps.sock").display());
        let postfix = Postfix::setup()
            .saslauthd(&site.run("mux"), "smtp")
            .main("virtual_mailbox_domains", map("domains"))
            .main("virtual_mailbox_maps", map("mailboxes"))
            .main("virtual_alias_domains", "")
            .main("virtual_alias_maps", map("aliases"))
            .main("smtpd_sender_login_maps", map("senders"))
            .main("virtual_transport", format!("lmtp:unix:{}", site.run("lmtp.sock").display()))
            .main("mynetworks", "192.0.2.0/24")
            .main("smtpd_relay_restrictions", "permit_sasl_authenticated, reject_unauth_destination")
            .main("smtpd_sender_restrictions", "reject_sender_login_mismatch")
            .submission("smtpd_client_restrictions=permit_sasl_authenticated,reject")
            .start()
            .unwrap();
        let service = pam::Service::new(pam_lines).unwrap();
        let mail = site.run("mail").display().to_string();
        let dovecot = Dovecot::setup()
            .passdb_pam(service.name())
            .userdb(&format!("driver = static\nargs = uid={VMAIL} gid={VMAIL} home={mail}/%u"))
            .mail_location(&format!("maildir:{mail}/%u"))
            .start()
            .unwrap();
        Self { postfix, dovecot, daemons, site, _pam: service, db }
    }

    /// Files in a mailbox's `new`.
    fn new_mail(&self, address: &str) -> Vec<PathBuf> {
        let folder = self.site.run("mail").join(address).join("new");
        let entries = std::fs::read_dir(folder).map(|entries| entries.filter_map(Result::ok).map(|entry| entry.path()));
        entries.map(Iterator::collect).unwrap_or_default()
    }

    fn wait_for_mail(&self, address: &str, count: usize) -> PathBuf {
        let arrived = wait_until("the mail to arrive", PATIENCE, || self.new_mail(address).len() == count);
        let logs: Vec<String> = self.daemons.iter().map(Daemon::log).collect();
        arrived.unwrap_or_else(|error| panic!("{error}\n{}\n{}", self.postfix.log(), logs.join("\n")));
        self.new_mail(address).remove(0)
    }
}

fn make_mail_root(site: &Site) {
    std::fs::create_dir(site.run("mail")).unwrap();
    chown(site.run("mail"), Some(VMAIL), Some(VMAIL)).unwrap();
}

fn mailsql(site: &Site, arguments: &[&str], input: &str) -> String {
    let mut command = Command::new(program("mailsql").unwrap());
    command.arg("--config").arg(site.config()).args(arguments);
    run(command, input.as_bytes()).unwrap().ok().unwrap()
}

fn submit(server: &Server, login: bool, to: &str) {
    let mut session = Smtp::hello(server.postfix.submission_port()).unwrap();
    let answer = if login {
        session.auth_login("info@hoge.com", "infopass").unwrap()
    } else {
        session.auth_plain("info@hoge.com", "infopass").unwrap()
    };
    assert_eq!(answer.code, 235, "{answer:?}");
    let sent = session.send("info@hoge.com", &[to], MESSAGE).unwrap();
    assert_eq!(sent.code, 250, "{sent:?}");
}

fn mail_is_submitted_delivered_and_read(server: &mut Server) {
    submit(server, false, "admin@hoge.com");
    let file = server.wait_for_mail("admin@hoge.com", 1);
    let stored = std::fs::read(&file).unwrap();
    let text = String::from_utf8_lossy(&stored).into_owned();
    assert!(text.starts_with("Return-Path: <info@hoge.com>\nDelivered-To: admin@hoge.com\n"), "{text}");
    assert!(text.ends_with(MESSAGE.split_once("\n\n").unwrap().1), "{text}");

    // The same bytes by IMAP and POP3, where lines end in CRLF.
    let wire = text.replace('\n', "\r\n").into_bytes();
    let mut imap = Imap::connect(server.dovecot.imap_port()).unwrap();
    let answer = imap.login("admin@hoge.com", "adminpass").unwrap();
    assert!(answer.starts_with("OK"), "{answer}\n{}", server.dovecot.log());
    assert_eq!(imap.select("INBOX").unwrap(), 1);
    assert_eq!(imap.fetch(1).unwrap(), wire);
    imap.logout().unwrap();
    let mut pop3 = Pop3::connect(server.dovecot.pop3_port()).unwrap();
    let answer = pop3.login("admin@hoge.com", "adminpass").unwrap();
    assert!(answer.starts_with("+OK"), "{answer}");
    assert_eq!(pop3.fetch(1).unwrap(), wire);
    pop3.quit().unwrap();
    let mut imap = Imap::connect(server.dovecot.imap_port()).unwrap();
    assert!(imap.login("admin@hoge.com", "wrong").unwrap().starts_with("NO"));

    // A mail client that nobody here wrote reads it and sends another, by AUTH LOGIN.
    let read = s_nail(&server.dovecot, "admin%40hoge.com:adminpass");
    assert!(read.contains("a line that begins with a dot"), "{read}");
    let mut command = Command::new("s-nail");
    command.args([
        "-n",
        "-Sv15-compat",
        "-Ssmtp-auth=login",
        "-Sfrom=info@hoge.com",
        "-Ssmtp-config=-ehlo",
        "-sby-s-nail",
    ]);
    let mta = format!("-Smta=smtp://info%40hoge.com:infopass@127.0.0.1:{}", server.postfix.submission_port());
    command.args([&mta, "-Ssmtp-config=allmechs,ehlo", "admin@hoge.com"]).env("HOME", "/nonexistent");
    run(command, b"sent by s-nail\n").unwrap().ok().unwrap();
    wait_until("the second mail", PATIENCE, || {
        server
            .new_mail("admin@hoge.com")
            .iter()
            .any(|path| std::fs::read_to_string(path).is_ok_and(|text| text.contains("sent by s-nail")))
    })
    .unwrap();
    submit(server, true, "fuga@teketeke.com");
    server.wait_for_mail("fuga@teketeke.com", 1);
}

/// All messages of a POP3 mailbox, as s-nail prints them.
fn s_nail(dovecot: &Dovecot, account: &str) -> String {
    let mut command = Command::new("s-nail");
    let folder = format!("pop3://{account}@127.0.0.1:{}", dovecot.pop3_port());
    command.args(["-n", "-R", "-Sv15-compat", "-Spop3-auth=plain", "-Spop3-no-apop", "-f", &folder]);
    command.env("HOME", "/nonexistent");
    run(command, b"type 1\nexit\n").unwrap().text()
}

fn refusals_have_their_codes(server: &Server) {
    let submission = server.postfix.submission_port();
    let hello = |port: u16| Smtp::hello(port).unwrap();
    let mut session = hello(submission);
    assert_eq!(session.auth_plain("info@hoge.com", "wrong").unwrap().code, 535);
    assert_eq!(session.auth_plain("nobody@hoge.com", "infopass").unwrap().code, 535);
    assert_eq!(session.auth_plain("info@hoge.com", "infopass").unwrap().code, 235);
    for (sender, code) in [("admin@hoge.com", 553), ("nobody@hoge.com", 553), ("INFO+tag@Hoge.com", 250)] {
        let reply = session.send(sender, &["admin@hoge.com"], MESSAGE).unwrap();
        assert_eq!(reply.code, code, "{sender}: {reply:?}");
        session.command("RSET").unwrap();
    }
    let reply = session.send("info@hoge.com", &["nobody@hoge.com"], MESSAGE).unwrap();
    assert_eq!(reply.code, 550, "{reply:?}");

    // From outside: our recipients are taken, others not, and nobody writes as one of ours without AUTH.
    let mut session = hello(server.postfix.smtp_port());
    for (from, to, code) in [
        ("out@example.net", "nobody@hoge.com", 550),
        ("out@example.net", "who@example.org", 554),
        ("info@hoge.com", "admin@hoge.com", 553),
        ("out@example.net", "info@fuga.com", 250),
    ] {
        let reply = session.send(from, &[to], MESSAGE).unwrap();
        assert_eq!(reply.code, code, "{from} to {to}: {reply:?}");
        session.command("RSET").unwrap();
    }
    let mut session = hello(submission);
    let reply = session.send("info@hoge.com", &["admin@hoge.com"], MESSAGE).unwrap();
    assert_eq!(reply.code, 554, "{reply:?}");
}

#[test]
fn mail_goes_round_on_the_documents_mariadb() {
    let mut server = Server::on_mariadb();
    mail_is_submitted_delivered_and_read(&mut server);
    refusals_have_their_codes(&server);
}

#[test]
fn mail_goes_round_on_sqlite() {
    let mut server = Server::on_sqlite();
    mail_is_submitted_delivered_and_read(&mut server);
    refusals_have_their_codes(&server);
}

#[test]
fn while_the_database_is_down_everything_is_temporary_and_then_all_is_well() {
    let mut server = Server::on_mariadb();
    let from_outside = |server: &Server, to: &str| {
        Smtp::hello(server.postfix.smtp_port()).unwrap().send("out@example.net", &[to], MESSAGE).unwrap().code
    };
    // Known to the maps, not yet to lmtpd, which has not been asked to deliver to it.
    let mut session = Smtp::hello(server.postfix.smtp_port()).unwrap();
    session.command("MAIL FROM:<out@example.net>").unwrap();
    assert_eq!(session.command("RCPT TO:<fuga@teketeke.com>").unwrap().code, 250);
    session.quit().unwrap();

    server.db.as_mut().unwrap().stop();
    assert_eq!(from_outside(&server, "fuga@teketeke.com"), 250, "a cached mailbox goes on receiving");
    assert_eq!(from_outside(&server, "info@hoge.com"), 451);
    assert_eq!(from_outside(&server, "nobody@hoge.com"), 451, "nobody is called unknown by a dead database");
    for (user, password) in document::LOGINS {
        let mut session = Smtp::hello(server.postfix.submission_port()).unwrap();
        let reply = session.auth_plain(user, password).unwrap();
        assert_eq!(reply.code, 454, "{user}: {reply:?}");
        let reply = Smtp::hello(server.postfix.submission_port()).unwrap().auth_plain(user, "wrong").unwrap();
        assert_eq!(reply.code, 454, "{user}: {reply:?}");
    }
    server.postfix.wait_for_log("451", PATIENCE).unwrap();
    assert_eq!(server.postfix.mailq().unwrap().len(), 1, "the mail waits in the queue");
    assert!(server.new_mail("fuga@teketeke.com").is_empty());

    server.db.as_mut().unwrap().restart().unwrap();
    let back = Instant::now();
    let login = |server: &Server, user: &str, password: &str| {
        Smtp::hello(server.postfix.submission_port()).unwrap().auth_plain(user, password).unwrap().code
    };
    wait_until("a fresh login", Duration::from_secs(5), || login(&server, "info@hoge.com", "infopass") == 235).unwrap();
    wait_until("a fresh recipient", Duration::from_secs(5), || from_outside(&server, "info@hoge.com") == 250).unwrap();
    wait_until("an unknown one", Duration::from_secs(5), || from_outside(&server, "nobody@hoge.com") == 550).unwrap();
    assert_eq!(login(&server, "info@hoge.com", "wrong"), 535);
    assert!(back.elapsed() < Duration::from_secs(5), "{:?}", back.elapsed());
    server.postfix.flush().unwrap();
    server.wait_for_mail("fuga@teketeke.com", 1);
    server.postfix.wait_empty(PATIENCE).unwrap();
    assert_eq!(server.new_mail("fuga@teketeke.com").len(), 1, "it arrives once");
}

#[test]
fn no_daemon_keeps_anything_of_root() {
    let mut server = Server::on_mariadb();
    for daemon in &mut server.daemons {
        let pid = daemon.process().unwrap().pid();
        let status = std::fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("status")).unwrap();
        for key in ["Uid:", "Gid:", "Groups:"] {
            let line = status.lines().find(|line| line.starts_with(key)).unwrap();
            let ids: Vec<&str> = line.split_whitespace().skip(1).collect();
            assert!(!ids.contains(&"0"), "{line}");
        }
    }
}
