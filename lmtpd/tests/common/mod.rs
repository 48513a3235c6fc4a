//! A delivery service on a socket of its own, with accounts from a table, and a client that speaks to it.
#![allow(dead_code, unreachable_pub, reason = "each test file uses its part")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test ends where its set-up does")]

use mailsql_config::{Config, Permissions};
use mailsql_core::resolve::Rules;
use mailsql_core::{Account, Address, Directory, Lookup, Unavailable};
use mailsql_daemon::{Activation, Shutdown};
use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// Accounts from a table, and a switch that makes every question fail.
#[derive(Default)]
pub struct Table {
    pub accounts: HashMap<String, Arc<Account>>,
    pub outage: AtomicBool,
}

impl Table {
    pub fn add(&mut self, address: &str, change: impl FnOnce(&mut Account)) {
        let mut account = Account::new(Address::parse(address).unwrap(), None);
        change(&mut account);
        self.accounts.insert(account.address.folded().as_str().to_owned(), Arc::new(account));
    }

    fn answer<'a, T: Send + 'a>(&self, value: T) -> Lookup<'a, T> {
        let outage = self.outage.load(Ordering::SeqCst);
        Box::pin(async move { if outage { Err(Unavailable::new("switched off")) } else { Ok(value) } })
    }
}

impl Directory for Table {
    fn domains(&self) -> Lookup<'_, Vec<Box<str>>> {
        self.answer(Vec::new())
    }
    fn domain<'a>(&'a self, _: &'a str) -> Lookup<'a, Option<Box<str>>> {
        self.answer(None)
    }
    fn account<'a>(&'a self, address: &'a Address) -> Lookup<'a, Option<Arc<Account>>> {
        self.answer(self.accounts.get(address.as_str()).cloned())
    }
    fn alias<'a>(&'a self, _: &'a Address) -> Lookup<'a, Option<Arc<[Box<str>]>>> {
        self.answer(None)
    }
    fn catch_all<'a>(&'a self, _: &'a str) -> Lookup<'a, Option<Arc<[Box<str>]>>> {
        self.answer(None)
    }
}

/// The accounts that the tests speak of.
pub fn accounts() -> Table {
    let mut table = Table::default();
    for address in ["Info@Example.jp", "admin@example.jp", "third@example.jp", "a b@example.jp"] {
        table.add(address, |_| ());
    }
    table.add("off@example.jp", |account| account.enabled = false);
    table.add("gone@example.jp", |account| account.expires_at = Some(1));
    table.add("other@example.jp", |account| account.uid = Some(4_000_000));
    table.add("escape@example.jp", |account| account.maildir = Some("../escape".into()));
    table.add("own@example.jp", |account| account.maildir = Some("example.jp/own/Maildir/".into()));
    table.add("file@example.jp", |account| account.maildir = Some("file".into()));
    table
}

/// A running service.
pub struct Server {
    pub dir: TempDir,
    pub table: Arc<Table>,
    runtime: Option<tokio::runtime::Runtime>,
    control: Option<mailsql_daemon::serve::ShutdownControl>,
}

impl Server {
    pub fn start(settings: &str) -> Self {
        Self::with(accounts(), settings)
    }

    /// Starts with `settings` as further lines of `[lmtp]`.
    pub fn with(table: Table, settings: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("mail")).unwrap();
        Self::at(dir, Arc::new(table), settings)
    }

    fn at(dir: TempDir, table: Arc<Table>, settings: &str) -> Self {
        let path = dir.path().display();
        let text = format!(
            "[database]\nurl = \"sqlite:{path}/none\"\n[mail]\nroot = \"{path}/mail\"\nhostname = \"store.example.jp\"\n\
             default_domain = \"example.jp\"\n[lmtp]\nlisten = [\"{path}/s\"]\n{settings}\n"
        );
        let config = Config::parse(&text, &dir.path().join("mailsql.toml")).unwrap();
        let listen = &config.lmtp.as_ref().unwrap().listen;
        let listeners =
            mailsql_daemon::listen::bind("lmtp", listen, &Permissions::default(), &mut Activation::default()).unwrap();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let (shutdown, control) = Shutdown::new();
        let directory: Arc<dyn Directory> = Arc::clone(&table) as _;
        runtime.spawn(async move { lmtpd::serve(listeners, &config, directory, Rules::default(), shutdown).await });
        Self { dir, table, runtime: Some(runtime), control: Some(control) }
    }

    /// Ends the service and starts another on the same folders.
    pub fn restart(mut self, settings: &str) -> Self {
        self.stop();
        let (dir, table) = (std::mem::replace(&mut self.dir, tempfile::tempdir().unwrap()), Arc::clone(&self.table));
        drop(self);
        Self::at(dir, table, settings)
    }

    pub fn stop(&mut self) -> bool {
        let (Some(control), Some(runtime)) = (self.control.take(), &self.runtime) else { return false };
        runtime.block_on(control.finish(Duration::from_secs(5)))
    }

    pub fn root(&self) -> PathBuf {
        self.dir.path().join("mail")
    }

    pub fn connect(&self) -> Client {
        let stream = UnixStream::connect(self.dir.path().join("s")).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        let mut client = Client { stream: BufReader::new(stream) };
        assert!(client.reply().starts_with("220 store.example.jp"));
        client
    }

    /// A client that said LHLO.
    pub fn greeted(&self) -> Client {
        let mut client = self.connect();
        assert!(client.say("LHLO mx.example.jp").starts_with("250"));
        client
    }

    /// Names of the files in a folder below the root, sorted; none where there is no folder.
    pub fn list(&self, folder: &str) -> Vec<String> {
        let Ok(entries) = std::fs::read_dir(self.root().join(folder)) else { return Vec::new() };
        let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    /// The one message in a mailbox's `new`.
    pub fn message(&self, mailbox: &str) -> Vec<u8> {
        let names = self.list(&format!("{mailbox}/new"));
        assert_eq!(names.len(), 1, "{mailbox}: {names:?}");
        let bytes = std::fs::read(self.root().join(mailbox).join("new").join(&names[0])).unwrap();
        let lines = bytes.iter().filter(|byte| **byte == b'\n').count();
        let want = format!(",S={},W={}", bytes.len(), bytes.len() + lines);
        assert!(names[0].ends_with(&want), "{} should end in {want}", names[0]);
        assert!(bytes.ends_with(b"\n"));
        bytes
    }

    /// Waits until no file is left in a mailbox's `tmp` that is a message.
    pub fn wait_for_empty_tmp(&self, mailbox: &str) {
        let end = Instant::now() + Duration::from_secs(10);
        while self.list(&format!("{mailbox}/tmp")).iter().any(|name| name.contains(".M")) {
            assert!(Instant::now() < end, "{:?}", self.list(&format!("{mailbox}/tmp")));
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_timeout(Duration::from_secs(5));
        }
    }
}

/// The other side.
pub struct Client {
    pub stream: BufReader<UnixStream>,
}

impl Client {
    pub fn send(&mut self, bytes: &[u8]) {
        self.stream.get_mut().write_all(bytes).unwrap();
    }

    /// The next reply, its lines joined; empty at the end of the connection.
    pub fn reply(&mut self) -> String {
        let mut text = String::new();
        loop {
            let mut line = String::new();
            if self.stream.read_line(&mut line).unwrap() == 0 {
                return text;
            }
            text.push_str(line.trim_end());
            if line.as_bytes().get(3) != Some(&b'-') {
                return text;
            }
            text.push('\n');
        }
    }

    pub fn say(&mut self, line: &str) -> String {
        self.send(format!("{line}\r\n").as_bytes());
        self.reply()
    }

    /// Sends a line and compares how the reply begins.
    #[track_caller]
    pub fn expect(&mut self, line: &str, start: &str) {
        let reply = self.say(line);
        assert!(reply.starts_with(start), "{line}: {reply}, wanted {start}");
    }

    #[track_caller]
    pub fn expect_reply(&mut self, start: &str) {
        let reply = self.reply();
        assert!(reply.starts_with(start), "{reply}, wanted {start}");
    }

    /// MAIL, one RCPT each, DATA and `message` as it is with the final dot: the replies for the recipients.
    pub fn deliver(&mut self, to: &[&str], message: &[u8]) -> Vec<String> {
        self.expect("MAIL FROM:<sender@example.net>", "250 2.1.0");
        for to in to {
            self.expect(&format!("RCPT TO:<{to}>"), "250 2.1.5");
        }
        self.expect("DATA", "354");
        self.send(message);
        self.send(b".\r\n");
        to.iter().map(|_| self.reply()).collect()
    }

    pub fn at_end(&mut self) -> bool {
        let mut rest = Vec::new();
        self.stream.read_to_end(&mut rest).is_ok() && rest.is_empty()
    }
}

/// Whether `path` exists.
pub fn exists(path: &Path) -> bool {
    path.symlink_metadata().is_ok()
}

/// The size that a message's file name tells.
pub fn size_in(name: &str) -> u64 {
    name.split_once(",S=").unwrap().1.split_once(',').unwrap().0.parse().unwrap()
}
