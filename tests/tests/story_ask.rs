//! One daemon answers everything thin: PAM in socket mode from real hosts, changes seen at once, sockets that keep out
//! whom they should.

#![allow(clippy::unwrap_used, reason = "a fixture that fails fails the test")]

use mailsql_rig::client::imap::Imap;
use mailsql_rig::client::saslauthd;
use mailsql_rig::client::socketmap::Socketmap;
use mailsql_rig::pam::{self, Call, Step};
use mailsql_rig::{Daemon, Dovecot, Ran, Saslauthd, TempRoot, module, program, run};
use nix::sys::signal::Signal;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

/// Users and groups by number, so that no name has to exist on the host.
const SERVICE: u32 = 5001;
const AUTH_GROUP: u32 = 5002;
const VMAIL: u32 = 5000;
const NOBODY: u32 = 65534;

/// `mailsql serve` on SQLite with the sockets' owners and modes as on a packaged system.
struct Serve {
    root: TempRoot,
    daemon: Daemon,
}

impl Serve {
    fn start() -> Self {
        let root = TempRoot::new().unwrap();
        root.folder("db", 0o2770, SERVICE, SERVICE).unwrap();
        root.folder("mail", 0o750, VMAIL, VMAIL).unwrap();
        root.folder("control", 0o755, SERVICE, SERVICE).unwrap();
        let path = root.path().display();
        let text = format!(
            "[database]\nurl = \"sqlite:{path}/db/mail.db\"\n[mail]\nroot = \"{path}/mail\"\n[serve]\nuser = \"{SERVICE}\"\ngroup = \"{SERVICE}\"\n\
             [control]\ndir = \"{path}/control\"\n[state]\ndir = \"{path}/db\"\n[nss]\nlisten = \"{path}/nss.sock\"\n\
             [ask]\nlisten = {{ socket = \"{path}/ask.sock\", mode = \"0660\", user = \"{SERVICE}\", group = \"{AUTH_GROUP}\" }}\n\
             [saslauthd]\nlisten = \"{path}/mux\"\n[maps]\nlisten = {{ socket = \"{path}/maps.sock\", mode = \"0666\" }}\n"
        );
        let config = root.write_mode("mailsql.toml", text, 0o640).unwrap();
        let database = format!("sqlite:{path}/db/mail.db");
        mailsql_at(&config, &["init", "--database", &database], "").ok().unwrap();
        for file in ["mail.db", "mail.db-wal", "mail.db-shm"] {
            let file = root.join("db").join(file);
            if file.exists() {
                chown(&file, Some(SERVICE), Some(SERVICE)).unwrap();
                std::fs::set_permissions(&file, PermissionsExt::from_mode(0o660)).unwrap();
            }
        }
        mailsql_at(&config, &["domain", "add", "example.jp"], "").ok().unwrap();
        for user in ["right", "off", "stale"] {
            let address = format!("{user}@example.jp");
            mailsql_at(&config, &["user", "add", &address, "--password-stdin"], "apass").ok().unwrap();
        }
        mailsql_at(&config, &["user", "disable", "off@example.jp"], "").ok().unwrap();
        mailsql_at(&config, &["user", "passwd", "stale@example.jp", "--expire"], "").ok().unwrap();
        let daemon = Daemon::setup("mailsql").arg("--config").arg(&config).arg("serve");
        let sockets = ["ask.sock", "nss.sock", "mux", "maps.sock"];
        let daemon = sockets.iter().fold(daemon, |setup, name| setup.ready_socket(root.join(name)));
        let daemon = daemon.start().unwrap();
        Self { root, daemon }
    }

    fn mailsql(&self, arguments: &[&str], input: &str) -> String {
        mailsql_at(&self.root.join("mailsql.toml"), arguments, input).ok().unwrap()
    }

    fn pam_lines(&self) -> String {
        let module = module("pam_mailsql").unwrap();
        ["auth", "account", "password"]
            .map(|kind| {
                format!("{kind} required {} socket={}\n", module.display(), self.root.join("ask.sock").display())
            })
            .concat()
    }

    fn saslauthd(&self, user: &str, password: &str) -> String {
        let answer = saslauthd::ask(self.root.join("mux"), user, password, "smtp", "example.jp").unwrap();
        answer.unwrap_or_else(|| "closed".to_owned())
    }
}

fn mailsql_at(config: &std::path::Path, arguments: &[&str], input: &str) -> Ran {
    let mut command = Command::new(program("mailsql").unwrap());
    command.arg("--config").arg(config).args(arguments);
    run(command, input.as_bytes()).unwrap()
}

/// What a process of this user and group gets from a Unix socket that it sends a line to; `refused` if it may not connect.
fn ask_as(uid: u32, gid: u32, socket: PathBuf, line: &str) -> String {
    let script =
        "use IO::Socket::UNIX; my $s = IO::Socket::UNIX->new(Peer => $ARGV[0]) or do { print 'refused'; exit };
        print $s $ARGV[1], chr(10); $s->flush; print scalar <$s>;";
    let mut command = Command::new("perl");
    command.args(["-e", script]).arg(socket).arg(line).uid(uid).gid(gid);
    run(command, b"").unwrap().ok().unwrap()
}

#[test]
fn pam_in_socket_mode_has_the_codes_of_the_verdict_table() {
    let mut serve = Serve::start();
    let service = pam::Service::new(&serve.pam_lines()).unwrap();
    let ask = |user: &str, password: &str| {
        let call = Call::new(service.name(), user).answer(password);
        call.step(Step::Authenticate).step(Step::AcctMgmt).run().unwrap().names()
    };
    assert_eq!(ask("right@example.jp", "apass"), ["PAM_SUCCESS", "PAM_SUCCESS"]);
    assert_eq!(ask("right@example.jp", "wrong")[0], "PAM_AUTH_ERR");
    assert_eq!(ask("nobody@example.jp", "apass"), ["PAM_USER_UNKNOWN", "PAM_USER_UNKNOWN"]);
    assert_eq!(ask("off@example.jp", "apass"), ["PAM_ACCT_EXPIRED", "PAM_ACCT_EXPIRED"]);
    assert_eq!(ask("off@example.jp", "wrong")[0], "PAM_AUTH_ERR", "a stranger is not told that it is disabled");
    assert_eq!(ask("stale@example.jp", "apass"), ["PAM_NEW_AUTHTOK_REQD", "PAM_NEW_AUTHTOK_REQD"]);
    assert_eq!(ask("stale@example.jp", "wrong")[0], "PAM_AUTH_ERR");

    // A new password: root is not asked for the old one, the owner is.
    let change = |answers: &[&str], owner: Option<(u32, u32)>| {
        let call =
            answers.iter().fold(Call::new(service.name(), "stale@example.jp"), |call, answer| call.answer(answer));
        let call = owner.into_iter().fold(call, |call, (uid, gid)| call.owner(uid, gid));
        call.step(Step::Chauthtok).run().unwrap().names()[0]
    };
    assert_eq!(change(&["second", "second"], None), "PAM_SUCCESS");
    assert_eq!(ask("stale@example.jp", "second"), ["PAM_SUCCESS", "PAM_SUCCESS"], "a new password is not expired");
    let owner = Some((NOBODY, AUTH_GROUP));
    assert_eq!(change(&["wrong", "third", "third"], owner), "PAM_AUTH_ERR");
    assert_eq!(change(&["second", "third", "third"], owner), "PAM_SUCCESS");
    assert_eq!(ask("stale@example.jp", "second")[0], "PAM_AUTH_ERR");
    assert_eq!(ask("stale@example.jp", "third")[0], "PAM_SUCCESS");

    serve.daemon.stop();
    assert_eq!(ask("right@example.jp", "apass"), ["PAM_AUTHINFO_UNAVAIL", "PAM_AUTHINFO_UNAVAIL"]);
}

#[test]
fn dovecot_and_debians_saslauthd_log_in_through_the_module() {
    let mut serve = Serve::start();
    let service = pam::Service::new(&serve.pam_lines()).unwrap();
    let mail = serve.root.join("mail");
    let dovecot = Dovecot::setup()
        .passdb_pam(service.name())
        .userdb(&format!("driver = static\nargs = uid={VMAIL} gid={VMAIL} home={}/%u", mail.display()))
        .mail_location(&format!("maildir:{}/%u", mail.display()))
        .start()
        .unwrap();
    let theirs = Saslauthd::setup().start().unwrap();
    let imap = |user: &str, password: &str| Imap::connect(dovecot.imap_port()).unwrap().login(user, password).unwrap();
    let sasl = |user: &str, password: &str| {
        saslauthd::ask(theirs.socket(), user, password, service.name(), "example.jp").unwrap().unwrap()
    };
    for (user, password, good) in [
        ("right", "apass", true),
        ("right", "wrong", false),
        ("nobody", "apass", false),
        ("off", "apass", false),
        ("stale", "apass", false),
    ] {
        let answer = imap(&format!("{user}@example.jp"), password);
        assert_eq!(answer.starts_with("OK"), good, "{user}: {answer}");
        assert_eq!(sasl(user, password).starts_with("OK"), good, "{user}");
    }
    serve.daemon.stop();
    // Both hosts have no other word for PAM's trouble than a refusal: see docs/limits.md.
    assert!(imap("right@example.jp", "apass").starts_with("NO"));
    assert!(sasl("right", "apass").starts_with("NO"));
}

#[test]
fn a_change_by_the_command_is_seen_at_once_on_a_warm_cache() {
    let serve = Serve::start();
    let service = pam::Service::new(&serve.pam_lines()).unwrap();
    let pam = |password: &str| {
        let call = Call::new(service.name(), "right@example.jp").answer(password);
        call.step(Step::Authenticate).run().unwrap().names()[0]
    };
    let mailbox = || {
        let mut maps = Socketmap::connect(serve.root.join("maps.sock")).unwrap();
        maps.find("mailboxes", "right@example.jp").unwrap()
    };
    for _ in 0..3 {
        assert_eq!(serve.saslauthd("right", "apass"), "OK");
        assert_eq!(pam("apass"), "PAM_SUCCESS");
    }
    serve.mailsql(&["user", "passwd", "right@example.jp", "--password-stdin"], "other");
    assert!(serve.saslauthd("right", "apass").starts_with("NO"));
    assert_eq!(pam("apass"), "PAM_AUTH_ERR");
    assert_eq!(serve.saslauthd("right", "other"), "OK");
    assert_eq!(pam("other"), "PAM_SUCCESS");

    assert_eq!(mailbox(), "OK right@example.jp/");
    serve.mailsql(&["user", "disable", "right@example.jp"], "");
    assert!(serve.saslauthd("right", "other").starts_with("NO"));
    assert_eq!(pam("other"), "PAM_ACCT_EXPIRED");
    assert_eq!(mailbox(), "NOTFOUND ");
    serve.mailsql(&["user", "enable", "right@example.jp"], "");
    assert_eq!(serve.saslauthd("right", "other"), "OK");
    assert_eq!(mailbox(), "OK right@example.jp/");

    // A domain, too: added, switched off and on.
    let mut maps = Socketmap::connect(serve.root.join("maps.sock")).unwrap();
    assert_eq!(maps.find("domains", "example.net").unwrap(), "NOTFOUND ");
    serve.mailsql(&["domain", "add", "example.net"], "");
    assert_eq!(maps.find("domains", "example.net").unwrap(), "OK example.net");
    serve.mailsql(&["domain", "disable", "example.jp"], "");
    assert_eq!(maps.find("domains", "example.jp").unwrap(), "NOTFOUND ");
    assert!(serve.saslauthd("right", "other").starts_with("NO"));
    let flushed = serve.mailsql(&["cache", "flush"], "");
    assert!(flushed.contains("1 daemon forgot everything"), "{flushed}");
}

#[test]
fn sockets_and_secrets_are_for_those_they_are_meant_for() {
    let mut serve = Serve::start();
    let pid = serve.daemon.process().unwrap().pid();
    let control = serve.root.join("control").join(format!("mailsql.{pid}.sock"));
    let owners = |path: &std::path::Path| {
        let meta = std::fs::metadata(path).unwrap();
        (meta.mode() & 0o777, meta.uid(), meta.gid())
    };
    assert_eq!(owners(&serve.root.join("ask.sock")), (0o660, SERVICE, AUTH_GROUP));
    assert_eq!(owners(&serve.root.join("nss.sock")).0, 0o666);
    assert_eq!(owners(&control), (0o600, SERVICE, SERVICE));

    let login = "mailsql\t1\tlogin\tuser=right@example.jp\tpassword=apass\tservice=imap";
    let user = "mailsql\t1\tuser\tname=right@example.jp";
    let flush = "mailsql\t1\tflush";
    assert_eq!(ask_as(NOBODY, NOBODY, serve.root.join("ask.sock"), login), "refused");
    assert_eq!(ask_as(NOBODY, NOBODY, control.clone(), flush), "refused");
    assert_eq!(ask_as(NOBODY, AUTH_GROUP, control.clone(), flush), "refused");
    let nss = |line: &str| ask_as(NOBODY, NOBODY, serve.root.join("nss.sock"), line);
    assert!(nss(user).starts_with("mailsql\t1\tok\tuser=right@example.jp\t"), "{}", nss(user));
    for line in
        [login, flush, "mailsql\t1\tlist", "mailsql\t1\tpasswd\tuser=right@example.jp\tnew=x", "mailsql\t1\tstats"]
    {
        assert!(nss(line).starts_with("mailsql\t1\trefused"), "{line}: {}", nss(line));
    }
    let ask = |line: &str| ask_as(NOBODY, AUTH_GROUP, serve.root.join("ask.sock"), line);
    assert!(ask(login).starts_with("mailsql\t1\tok\tuser=right@example.jp\t"), "{}", ask(login));
    assert!(ask(flush).starts_with("mailsql\t1\trefused"));
    let passwd = "mailsql\t1\tpasswd\tuser=right@example.jp\tnew=guess";
    assert!(ask(passwd).starts_with("mailsql\t1\trefused"), "only root leaves out the old password: {}", ask(passwd));

    // Nobody reads the configuration, the database or the state.
    for file in ["mailsql.toml", "db/mail.db"] {
        let mut command = Command::new("cat");
        command.arg(serve.root.join(file)).uid(NOBODY).gid(NOBODY);
        assert_ne!(run(command, b"").unwrap().code, 0, "{file}");
    }

    // Nothing of root is left, and the daemon's memory is not for others.
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    for key in ["Uid:", "Gid:", "Groups:"] {
        let line = status.lines().find(|line| line.starts_with(key)).unwrap();
        assert!(!line.split_whitespace().skip(1).any(|id| id == "0"), "{line}");
    }
    assert_eq!(std::fs::metadata(format!("/proc/{pid}/mem")).unwrap().uid(), 0, "not dumpable");
}

#[test]
fn a_secret_that_everybody_may_read_is_refused() {
    let root = TempRoot::new().unwrap();
    let password = root.write_mode("db.password", "mailpass\n", 0o644).unwrap();
    let text = format!(
        "[database]\nurl = \"mysql://mail@127.0.0.1:1/mail\"\npassword_file = \"{}\"\n[ask]\nlisten = \"{}\"\n",
        password.display(),
        root.join("ask.sock").display()
    );
    let config = root.write_mode("mailsql.toml", text, 0o640).unwrap();
    let ran = mailsql_at(&config, &["user", "list"], "");
    assert_eq!(ran.code, 2, "{}", ran.text());
    assert!(ran.text().contains("everybody may read it"), "{}", ran.text());
    assert!(!ran.text().contains("mailpass"));
    let ran = mailsql_at(&config, &["serve"], "");
    assert_eq!(ran.code, 2, "{}", ran.text());
    assert!(ran.text().contains("everybody may read it"), "{}", ran.text());
}

#[test]
fn a_stopped_daemon_costs_a_client_its_deadline_and_no_more() {
    let mut serve = Serve::start();
    let service = pam::Service::new(&serve.pam_lines()).unwrap();
    serve.daemon.process().unwrap().signal(Signal::SIGSTOP).unwrap();
    let begun = Instant::now();
    let call = Call::new(service.name(), "right@example.jp").answer("apass").step(Step::Authenticate);
    assert_eq!(call.run().unwrap().names(), ["PAM_AUTHINFO_UNAVAIL"]);
    assert!(begun.elapsed() < Duration::from_secs(4), "{:?}", begun.elapsed());
    // The command says so, too, and does not wait for ever.
    let begun = Instant::now();
    let ran = mailsql_at(&serve.root.join("mailsql.toml"), &["user", "enable", "off@example.jp"], "");
    assert_eq!(ran.code, 0, "{}", ran.text());
    assert!(ran.text().contains("did not answer"), "{}", ran.text());
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    serve.daemon.process().unwrap().signal(Signal::SIGCONT).unwrap();
}
