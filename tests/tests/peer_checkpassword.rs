//! dovecot-checkpassword before Dovecot 2.3: logins with prefetch, lookups, LMTP, an outage; and by hand.

#![allow(clippy::unwrap_used, reason = "a fixture that fails fails the test")]

use std::time::Duration;

use mailsql_rig::client::imap::Imap;
use mailsql_rig::client::lmtp::Lmtp;
use mailsql_rig::client::pop3::Pop3;
use mailsql_rig::{Daemon, Dovecot, MariaDb, Ran, TempRoot, program, run, wait_until};
use mailsql_tests::Site;

const MESSAGE: &str = "From: user@example.net\nTo: a@b.c\nSubject: test-mail\n\nhoge\n";
/// Debian's own reply program.
const REPLY_PROGRAM: &str = "/usr/lib/dovecot/checkpassword-reply";

/// The daemon that checkpassword asks, on the document's database; mail below a folder of its own.
struct Asked {
    daemon: Daemon,
    site: Site,
    db: MariaDb,
    mail: TempRoot,
}

impl Asked {
    fn start() -> Self {
        let db = MariaDb::start_with_document().unwrap();
        let mail = TempRoot::new().unwrap();
        mail.folder("mail", 0o755, 5000, 5000).unwrap();
        let sections = format!(
            "[mail]\nroot = \"{}\"\n[cache]\npositive_ttl = \"0s\"\nnegative_ttl = \"0s\"\nstale_ttl = \"0s\"\n[ask]\nlisten = {}\n",
            mail.join("mail").display(),
            Site::listen("ask.sock"),
        );
        let site = Site::on_document(&db, &sections).unwrap();
        let config = site.config().to_owned();
        let daemon = Daemon::setup("mailsql").args(["serve", "--only", "ask", "--config"]).arg(config);
        let daemon = daemon.ready_socket(site.run("ask.sock")).start().unwrap();
        Self { daemon, site, db, mail }
    }

    fn command(&self) -> String {
        let path = program("dovecot-checkpassword").unwrap();
        format!("{} --socket {}", path.display(), self.site.run("ask.sock").display())
    }

    fn home(&self, user: &str) -> String {
        self.mail.join("mail").join(user).display().to_string()
    }

    /// Runs it as Dovecot does; the status and what was on descriptor 4 and standard error.
    fn run(&self, options: &str, input: &str, environment: &[(&str, &str)]) -> Ran {
        let root = TempRoot::new().unwrap();
        let bytes = input.replace("\\0", "\0");
        let request = root.write("request", bytes).unwrap();
        let command = self.command();
        let script = format!("{command} {options} 3<{} 4>&1", request.display());
        let mut shell = std::process::Command::new("sh");
        shell.args(["-c", &script]).env_remove("AUTHORIZED").env("ORIG_UID", "0");
        shell.envs(environment.iter().copied());
        run(shell, b"").unwrap()
    }
}

/// What is sent, the environment, the exit status, and what is written.
type Row<'a> = (&'a str, &'a [(&'a str, &'a str)], i32, &'a str);

#[test]
fn the_programs_own_answers() {
    let mut asked = Asked::start();
    let fields = format!(
        "user=a@b.c\tuserdb_home={home}\tuserdb_uid=5000\tuserdb_gid=5000\tuserdb_mail=maildir:{home}\t",
        home = asked.home("a@b.c")
    );
    let lookup = [("AUTHORIZED", "1")];
    let existence = [("AUTHORIZED", "1"), ("CREDENTIALS_LOOKUP", "1"), ("SCHEME", "")];
    let credentials = [("AUTHORIZED", "1"), ("CREDENTIALS_LOOKUP", "1"), ("SCHEME", "CRAM-MD5")];
    let table: [Row<'_>; 9] = [
        ("a@b.c\\0apass\\0\\0", &[("SERVICE", "imap")], 0, &fields),
        ("A@B.C\\0apass\\0\\0", &[], 0, &fields),
        ("a@b.c\\0wrong\\0\\0", &[], 1, ""),
        ("nobody@b.c\\0apass\\0\\0", &[], 1, ""),
        ("a@b.c\\0\\0\\0", &lookup, 2, &fields),
        ("nobody@b.c\\0\\0\\0", &lookup, 3, ""),
        ("a@b.c\\0\\0\\0", &existence, 2, &fields),
        ("a@b.c\\0\\0\\0", &credentials, 111, ""),
        ("a@b.c\\0apass", &[], 111, ""),
    ];
    for (input, environment, code, expected) in table {
        let ran = asked.run("", input, environment);
        assert_eq!((ran.code, ran.stdout.as_str()), (code, expected), "{input} {environment:?} {}", ran.stderr);
        assert_eq!(code == 111, !ran.stderr.is_empty(), "{}", ran.stderr);
    }
    let long = format!("a@b.c\\0{}\\0\\0", "x".repeat(510));
    assert_eq!(asked.run("", &long, &[]).code, 111);
    assert_eq!(asked.run("--no-such-option", "a@b.c\\0apass\\0\\0", &[]).code, 111);

    asked.db.stop();
    for (input, environment) in [("a@b.c\\0apass\\0\\0", &[][..]), ("a@b.c\\0\\0\\0", &lookup[..])] {
        let ran = asked.run("", input, environment);
        assert_eq!((ran.code, ran.stdout.as_str()), (111, ""), "{input}");
        assert!(!ran.stderr.is_empty());
    }
    asked.daemon.stop();
    let ran = asked.run("", "a@b.c\\0apass\\0\\0", &[]);
    assert_eq!(ran.code, 111);
    assert!(ran.stderr.contains("is the mailsql daemon running?"), "{}", ran.stderr);
}

#[test]
fn dovecots_reply_program_sends_the_same_fields() {
    let asked = Asked::start();
    let parts = |text: &str| -> Vec<String> {
        let mut parts: Vec<String> = text.split('\t').filter(|part| !part.is_empty()).map(str::to_owned).collect();
        parts.sort();
        parts
    };
    for (input, environment, code) in
        [("a@b.c\\0apass\\0\\0", &[][..], 0), ("a@b.c\\0\\0\\0", &[("AUTHORIZED", "1")][..], 2)]
    {
        let direct = asked.run(REPLY_PROGRAM, input, environment);
        let through = asked.run(&format!("--exec {REPLY_PROGRAM}"), input, environment);
        assert_eq!((direct.code, through.code), (code, code), "{}", through.stderr);
        assert_eq!(parts(&through.stdout), parts(&direct.stdout));
    }
    let refused = asked.run(&format!("--exec {REPLY_PROGRAM}"), "a@b.c\\0wrong\\0\\0", &[]);
    assert_eq!((refused.code, refused.stdout.as_str()), (1, ""));
}

#[test]
fn dovecot_logs_in_looks_up_and_delivers() {
    let mut asked = Asked::start();
    let command = asked.command();
    let dovecot = Dovecot::setup()
        .passdb(&format!("driver = checkpassword\nargs = {command}"))
        .userdb("driver = prefetch")
        .userdb(&format!("driver = checkpassword\nargs = {command}"))
        .start()
        .unwrap();
    let imap = |user: &str, password: &str| Imap::connect(dovecot.imap_port()).unwrap().login(user, password).unwrap();
    let pop3 = |user: &str, password: &str| Pop3::connect(dovecot.pop3_port()).unwrap().login(user, password).unwrap();

    let mut lmtp = Lmtp::hello(dovecot.lmtp_socket()).unwrap();
    let delivered = lmtp.deliver("x@example.net", &["a@b.c"], MESSAGE).unwrap();
    assert!(delivered.iter().all(|reply| reply.code == 250), "{delivered:?}\n{}", dovecot.log());
    assert_eq!(std::fs::read_dir(format!("{}/new", asked.home("a@b.c"))).unwrap().count(), 1);
    let mut lmtp = Lmtp::hello(dovecot.lmtp_socket()).unwrap();
    lmtp.command("MAIL FROM:<x@example.net>").unwrap();
    assert_eq!(lmtp.command("RCPT TO:<nobody@b.c>").unwrap().code, 550, "{}", dovecot.log());

    assert!(imap("a@b.c", "apass").starts_with("OK"), "{}", dovecot.log());
    let mut session = Imap::connect(dovecot.imap_port()).unwrap();
    session.login("a@b.c", "apass").unwrap();
    assert_eq!(session.select("INBOX").unwrap(), 1);
    for (user, password) in [("a@b.c", "wrong"), ("nobody@b.c", "apass")] {
        let refused = imap(user, password);
        assert!(refused.starts_with("NO [AUTHENTICATIONFAILED]"), "{refused}\n{}", dovecot.log());
    }
    assert!(pop3("a@b.c", "apass").starts_with("+OK"), "{}", dovecot.log());
    let refused = pop3("a@b.c", "wrong");
    assert!(refused.starts_with("-ERR [AUTH]"), "{refused}");

    let user = dovecot.doveadm(&["user", "-f", "home", "a@b.c"]).unwrap();
    assert_eq!((user.code, user.stdout.trim()), (0, asked.home("a@b.c").as_str()), "{}", user.text());
    assert_eq!(dovecot.doveadm(&["user", "nobody@b.c"]).unwrap().code, 67);

    asked.db.stop();
    let trouble = imap("a@b.c", "apass");
    assert!(trouble.starts_with("NO [UNAVAILABLE]"), "{trouble}\n{}", dovecot.log());
    let trouble = pop3("a@b.c", "apass");
    assert!(trouble.starts_with("-ERR [SYS/TEMP]"), "{trouble}");
    let mut lmtp = Lmtp::hello(dovecot.lmtp_socket()).unwrap();
    lmtp.command("MAIL FROM:<x@example.net>").unwrap();
    let deferred = lmtp.command("RCPT TO:<a@b.c>").unwrap();
    assert_eq!(deferred.code, 451, "{deferred:?}");
    assert_eq!(dovecot.doveadm(&["user", "a@b.c"]).unwrap().code, 75);
    asked.db.restart().unwrap();
    wait_until("logins after the outage", Duration::from_secs(20), || imap("a@b.c", "apass").starts_with("OK"))
        .unwrap();
}
