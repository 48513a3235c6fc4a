//! `mailsql demo`: the document's walk on a throw-away SQLite database, each step as request and answer.
//!
//! It runs this very program for every verb and for the daemons, and speaks to their sockets as Postfix, Cyrus SASL
//! and a reader of the Maildir would. A step whose answer differs from the expected one fails the whole.

mod client;

use crate::outcome::Outcome;
use crate::print::line;
use anstyle::{AnsiColor, Style};
use client::Client;
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, Uid};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Longest wait for the daemons to be there.
const START: Duration = Duration::from_secs(10);
/// The user that daemons become when the demonstration is run by root (`nobody`).
const NOBODY: u32 = 65_534;

const TITLE: Style = Style::new().bold();
const SENT: Style = AnsiColor::Cyan.on_default();
const GOOD: Style = AnsiColor::Green.on_default();
const BAD: Style = AnsiColor::Red.on_default().bold();

/// Runs the walk.
pub(crate) fn run() -> Result<(), Outcome> {
    let mut demo = Demo::new()?;
    line(&format!("{TITLE}The mail server of the document, on a throw-away database{TITLE:#}"))?;
    let walked = demo.walk();
    demo.stop();
    match (walked, demo.differing) {
        (Err(outcome), _) => Err(outcome),
        (Ok(()), 0) => line(&format!(
            "\n{GOOD}All {} answers are as they should be.{GOOD:#} Everything made for this is gone.",
            demo.answers
        )),
        (Ok(()), count) => Err(Outcome::no(format!("{count} of {} answers differ", demo.answers))),
    }
}

struct Demo {
    root: tempfile::TempDir,
    config: PathBuf,
    daemon: Option<Child>,
    answers: usize,
    differing: usize,
    steps: usize,
}

impl Demo {
    fn new() -> Result<Self, Outcome> {
        let root = tempfile::Builder::new().prefix("mailsql-demo-").tempdir()?;
        let config = root.path().join("mailsql.toml");
        let (uid, gid) = if Uid::effective().is_root() {
            std::os::unix::fs::chown(root.path(), Some(NOBODY), Some(NOBODY))?;
            (NOBODY, NOBODY)
        } else {
            (Uid::effective().as_raw(), nix::unistd::Gid::effective().as_raw())
        };
        let text = configuration(root.path(), uid, gid);
        std::fs::write(&config, text)?;
        std::fs::create_dir(root.path().join("mail"))?;
        if uid == NOBODY {
            std::os::unix::fs::chown(root.path().join("mail"), Some(uid), Some(gid))?;
        }
        Ok(Self { root, config, daemon: None, answers: 0, differing: 0, steps: 0 })
    }

    fn walk(&mut self) -> Result<(), Outcome> {
        self.title("An account database, as CREATE TABLE domains, users, VIEW emails")?;
        let database = format!("sqlite:{}", self.root.path().join("mail.db").display());
        self.command(&["init", "--database", &database], None, 0)?;
        self.title("The document's domains and users")?;
        for domain in ["hoge.com", "fuga.com"] {
            self.command(&["domain", "add", domain], None, 0)?;
        }
        for (user, password) in
            [("info@hoge.com", "infopass"), ("info@fuga.com", "infopass"), ("admin@hoge.com", "adminpass")]
        {
            self.command(&["user", "add", user, "--password-stdin"], Some(password), 0)?;
        }
        self.command(&["alias", "add", "sales@hoge.com", "info@hoge.com"], None, 0)?;
        self.command(&["user", "list"], None, 0)?;
        self.hand_over()?;

        self.title("The daemons, in one process")?;
        self.start()?;

        self.title("Logins by the saslauthd protocol, as Postfix asks them")?;
        let mux = self.root.path().join("mux");
        self.login(&mux, "info", "hoge.com", "infopass", "OK")?;
        self.login(&mux, "info", "hoge.com", "guess", "NO authentication failed")?;
        self.login(&mux, "nobody", "hoge.com", "infopass", "NO authentication failed")?;

        self.title("Postfix's lookups")?;
        for (map, key, expected) in [
            ("domains", "hoge.com", "OK hoge.com"),
            ("domains", "example.net", "NOTFOUND"),
            ("mailboxes", "info@hoge.com", "OK info@hoge.com/"),
            ("mailboxes", "Info+news@HOGE.com", "OK info@hoge.com/"),
            ("mailboxes", "nobody@hoge.com", "NOTFOUND"),
            ("aliases", "sales@hoge.com", "OK info@hoge.com"),
            ("senders", "sales@hoge.com", "OK info@hoge.com"),
        ] {
            self.map(map, key, expected)?;
        }

        self.title("A foreign sender: info@hoge.com is logged in and writes as admin@hoge.com")?;
        let owners = self.map("senders", "admin@hoge.com", "OK admin@hoge.com")?;
        let allowed =
            owners.strip_prefix("OK ").is_some_and(|list| list.split(',').any(|login| login == "info@hoge.com"));
        let answer =
            if allowed { "250 2.1.0 Ok" } else { "553 5.7.1 Sender address rejected: not owned by user info@hoge.com" };
        self.compare(
            "MAIL FROM:<admin@hoge.com>",
            answer,
            "553 5.7.1 Sender address rejected: not owned by user info@hoge.com",
        )?;

        self.title("A delivery by LMTP, and the message in the Maildir")?;
        self.deliver()?;

        self.title("A new password: the old one is refused at once")?;
        self.command(&["user", "passwd", "info@hoge.com", "--password-stdin"], Some("newpass"), 0)?;
        self.login(&mux, "info", "hoge.com", "infopass", "NO authentication failed")?;
        self.login(&mux, "info", "hoge.com", "newpass", "OK")
    }

    /// The database was made by root; from here on it is the daemons'.
    fn hand_over(&self) -> Result<(), Outcome> {
        if Uid::effective().is_root() {
            for name in ["mail.db", "mail.db-wal", "mail.db-shm", "mailsql.toml"] {
                let path = self.root.path().join(name);
                if path.exists() {
                    std::os::unix::fs::chown(path, Some(NOBODY), Some(NOBODY))?;
                }
            }
        }
        Ok(())
    }

    fn start(&mut self) -> Result<(), Outcome> {
        self.sent("$ mailsql serve")?;
        let log = std::fs::File::create(self.root.path().join("log"))?;
        let daemon = self.program(&["serve"]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn()?;
        self.daemon = Some(daemon);
        let begun = Instant::now();
        let sockets = ["mux", "maps.sock", "lmtp.sock"].map(|name| self.root.path().join(name));
        while !sockets.iter().all(|path| std::os::unix::net::UnixStream::connect(path).is_ok()) {
            let ended = self.daemon.as_mut().is_some_and(|daemon| !matches!(daemon.try_wait(), Ok(None)));
            if ended || begun.elapsed() > START {
                let log = std::fs::read_to_string(self.root.path().join("log")).unwrap_or_default();
                return Err(Outcome::temporary(format!("the daemons did not start:\n{log}")));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        self.compare("", "listening on mux, maps.sock, lmtp.sock", "listening on mux, maps.sock, lmtp.sock")
    }

    fn login(&mut self, mux: &Path, user: &str, realm: &str, password: &str, expected: &str) -> Result<(), Outcome> {
        let answer = Client::connect(mux)?.login(user, realm, password)?;
        let stars = "*".repeat(password.len());
        self.compare(&format!("login {user}  realm {realm}  service smtp  password {stars}"), &answer, expected)
    }

    fn map(&mut self, map: &str, key: &str, expected: &str) -> Result<String, Outcome> {
        let answer = Client::connect(&self.root.path().join("maps.sock"))?.look_up(map, key)?;
        self.compare(&format!("{map} {key}"), &answer, expected)?;
        Ok(answer)
    }

    fn deliver(&mut self) -> Result<(), Outcome> {
        let mut client = Client::connect(&self.root.path().join("lmtp.sock"))?;
        let greeting = client.reply()?;
        self.starts_with("(connect)", &greeting, "220 ")?;
        for (command, expected) in [
            ("LHLO example.jp", "250"),
            ("MAIL FROM:<admin@hoge.com>", "250 2.1.0"),
            ("RCPT TO:<info@hoge.com>", "250 2.1.5"),
            ("RCPT TO:<nobody@hoge.com>", "550 5.1.1"),
            ("DATA", "354"),
            ("From: admin@hoge.com\r\nTo: info@hoge.com\r\nSubject: test-mail\r\n\r\nhoge\r\n.", "250 2.0.0"),
            ("QUIT", "221"),
        ] {
            let answer = client.command(command)?;
            self.starts_with(&command.replace("\r\n", " | "), &answer, expected)?;
        }
        let folder = self.root.path().join("mail/info@hoge.com/new");
        let file = std::fs::read_dir(&folder)?.filter_map(Result::ok).map(|entry| entry.path()).next();
        let file = file.ok_or_else(|| Outcome::no(format!("nothing arrived in {}", folder.display())))?;
        let text = std::fs::read_to_string(&file)?;
        self.sent("$ cat info@hoge.com/new/*")?;
        for header in text.lines() {
            line(&format!("      {header}"))?;
        }
        self.answers += 1;
        let whole = text.starts_with("Return-Path: <admin@hoge.com>\nDelivered-To: info@hoge.com\n")
            && text.ends_with("Subject: test-mail\n\nhoge\n");
        if !whole {
            self.differing += 1;
            line(&format!("      {BAD}this is not the message that was sent{BAD:#}"))?;
        }
        Ok(())
    }

    /// Runs this program with a verb and shows what it prints.
    fn command(&mut self, arguments: &[&str], input: Option<&str>, expected: i32) -> Result<(), Outcome> {
        let typed = input.map(|_| "printf '%s' \"$PASSWORD\" | ").unwrap_or_default();
        self.sent(&format!("$ {typed}mailsql {}", arguments.join(" ")))?;
        let mut child = self
            .program(arguments)
            .stdin(if input.is_some() { Stdio::piped() } else { Stdio::null() })
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        if let (Some(input), Some(mut pipe)) = (input, child.stdin.take()) {
            pipe.write_all(input.as_bytes())?;
        }
        let output = child.wait_with_output()?;
        let good = output.status.code() == Some(expected);
        let style = if good { GOOD } else { BAD };
        for text in [&output.stdout, &output.stderr] {
            for row in String::from_utf8_lossy(text).lines() {
                line(&format!("      {style}{row}{style:#}"))?;
            }
        }
        self.answers += 1;
        if !good {
            self.differing += 1;
            line(&format!("      {BAD}exit status {:?}, expected {expected}{BAD:#}", output.status.code()))?;
        }
        Ok(())
    }

    fn program(&self, arguments: &[&str]) -> Command {
        let program = std::env::current_exe().unwrap_or_else(|_| "mailsql".into());
        let mut command = Command::new(program);
        command.arg("--config").arg(&self.config).args(arguments).env_remove("RUST_LOG");
        command
    }

    fn title(&mut self, text: &str) -> Result<(), Outcome> {
        self.steps += 1;
        line(&format!("\n{TITLE}{}. {text}{TITLE:#}", self.steps))
    }

    fn sent(&self, text: &str) -> Result<(), Outcome> {
        if text.is_empty() { Ok(()) } else { line(&format!("   {SENT}{text}{SENT:#}")) }
    }

    fn compare(&mut self, request: &str, answer: &str, expected: &str) -> Result<(), Outcome> {
        self.show(request, answer, answer == expected, expected)
    }

    fn starts_with(&mut self, request: &str, answer: &str, expected: &str) -> Result<(), Outcome> {
        self.show(request, answer, answer.starts_with(expected), expected)
    }

    fn show(&mut self, request: &str, answer: &str, good: bool, expected: &str) -> Result<(), Outcome> {
        self.sent(request)?;
        self.answers += 1;
        if good {
            return line(&format!("      {GOOD}{answer}{GOOD:#}"));
        }
        self.differing += 1;
        line(&format!("      {BAD}{answer}   (expected: {expected}){BAD:#}"))
    }

    fn stop(&mut self) {
        if let Some(mut daemon) = self.daemon.take() {
            if let Ok(pid) = i32::try_from(daemon.id()) {
                let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
            }
            let _ = daemon.wait();
        }
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        self.stop();
    }
}

fn configuration(root: &Path, uid: u32, gid: u32) -> String {
    let root = root.display();
    format!(
        "\
[database]
url = \"sqlite:{root}/mail.db\"
[mail]
root = \"{root}/mail\"
uid = {uid}
gid = {gid}
hostname = \"example.jp\"
[saslauthd]
listen = \"{root}/mux\"
[maps]
listen = {{ socket = \"{root}/maps.sock\", user = \"{uid}\", group = \"{gid}\" }}
[lmtp]
listen = {{ socket = \"{root}/lmtp.sock\", user = \"{uid}\", group = \"{gid}\" }}
[control]
dir = \"{root}/control\"
[state]
dir = \"{root}/state\"
[serve]
user = \"{uid}\"
group = \"{gid}\"
"
    )
}
