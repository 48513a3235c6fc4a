//! A private MariaDB server.
//!
//! `mariadb-install-db` runs once per version into `/var/tmp/mailsql-rig/`; each server gets a copy (26 MB, 30 ms). The
//! flags trade durability for speed: a commit survives [`MariaDb::kill`], not a power cut. Root logs in over the server's own socket only.
//!
//! Source: mariadbd(8), mariadb-install-db(1) of MariaDB 10.11.

use std::io::Read;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::fcntl::{Flock, FlockArg};
use nix::sys::signal::Signal;

use crate::process::{Process, peer, run};
use crate::root::{TempRoot, free_port, make_folder, system_user};
use crate::{document, progress};

const PACKAGE: &str = "mariadb-server";
const TEMPLATES: &str = "/var/tmp/mailsql-rig";
/// Changes whenever the flags that shape the template do.
const TEMPLATE_REVISION: u32 = 1;
/// A start takes a third of a second; a loaded machine may need many times that.
const START_TIMEOUT: Duration = Duration::from_secs(60);
const LOG_FILE_SIZE: &str = "--innodb-log-file-size=8M";

/// A MariaDB server of its own: `mysqld` user, own data, own socket, own TCP port on 127.0.0.1.
#[derive(Debug)]
pub struct MariaDb {
    // Before the root, so that the server ends before its data folder goes.
    process: Option<Process>,
    root: TempRoot,
    port: u16,
    flags: Vec<String>,
}

impl MariaDb {
    /// Starts an empty server.
    ///
    /// # Errors
    /// When MariaDB is not installed or does not start; the error holds the end of its log.
    pub fn start() -> Result<Self> {
        Self::start_with(&[])
    }

    /// Starts an empty server with further `mariadbd` flags, which win over the fixture's own.
    ///
    /// # Errors
    /// As [`MariaDb::start`].
    pub fn start_with(flags: &[&str]) -> Result<Self> {
        let (uid, gid) = system_user("mysql", PACKAGE)?;
        let template = template()?;
        let root = TempRoot::new()?;
        make_folder(root.path(), 0o755, uid, gid)?;
        copy_tree(&template, &root.join("data"))?;
        let flags = flags.iter().map(|flag| (*flag).to_owned()).collect();
        let mut server = Self { process: None, root, port: free_port()?, flags };
        server.launch()?;
        Ok(server)
    }

    /// Starts a server that holds the document's database with its sample rows.
    ///
    /// # Errors
    /// As [`MariaDb::start`].
    pub fn start_with_document() -> Result<Self> {
        let server = Self::start()?;
        server.load_document()?;
        Ok(server)
    }

    /// Loads the document's schema and rows.
    ///
    /// # Errors
    /// When a statement fails.
    pub fn load_document(&self) -> Result<()> {
        self.sql(&format!("{}{}", document::SCHEMA, document::ROWS))
    }

    fn launch(&mut self) -> Result<()> {
        let started = Instant::now();
        let mut command = Command::new(peer("mariadbd", PACKAGE)?);
        command.arg("--no-defaults").arg("--user=mysql").arg("--bind-address=127.0.0.1");
        command.arg(format!("--datadir={}", self.root.join("data").display()));
        command.arg(format!("--socket={}", self.socket().display()));
        command.arg(format!("--pid-file={}", self.root.join("pid").display()));
        command.arg(format!("--port={}", self.port));
        // Small, and nothing is written twice or waited for. 2: a commit is handed to the kernel, so it outlives a killed
        // server, but no disk is waited for.
        command.args(["--innodb-buffer-pool-size=32M", LOG_FILE_SIZE, "--innodb-flush-log-at-trx-commit=2"]);
        command.args(["--innodb-flush-method=nosync", "--innodb-doublewrite=0", "--innodb-fast-shutdown=2"]);
        command.args(["--innodb-buffer-pool-dump-at-shutdown=0", "--innodb-buffer-pool-load-at-startup=0"]);
        command.args(["--innodb-temp-data-file-path=ibtmp1:4M:autoextend", "--skip-log-bin", "--performance-schema=0"]);
        command.args(["--key-buffer-size=64K", "--aria-pagecache-buffer-size=1M", "--max-connections=500"]);
        command.args(["--table-open-cache=200", "--skip-ssl", "--back-log=500"]);
        command.args(&self.flags);
        let mut process = Process::spawn("mariadbd", command, &self.log())?;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, self.port));
        process.wait_ready(START_TIMEOUT, || greets(address))?;
        self.process = Some(process);
        progress(format!("mariadb on {} in {:.2} s", self.host_port(), started.elapsed().as_secs_f64()));
        Ok(())
    }

    /// The TCP port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// `127.0.0.1:PORT`, as pam_mysql and mysql_table(5) take it.
    #[must_use]
    pub fn host_port(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// The Unix socket.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.root.join("sock")
    }

    /// A mailsql database URL for the document's account, without its password.
    #[must_use]
    pub fn url(&self) -> String {
        format!("mysql://{}@{}/{}", document::USER, self.host_port(), document::DATABASE)
    }

    /// The server's log file.
    #[must_use]
    pub fn log(&self) -> PathBuf {
        self.root.join("log")
    }

    /// The server's process, for signals and memory figures.
    ///
    /// # Errors
    /// When the server is stopped.
    pub fn process(&mut self) -> Result<&mut Process> {
        self.process.as_mut().context("mariadbd is stopped")
    }

    /// Shuts the server down in order. Its data and port stay for [`MariaDb::restart`].
    pub fn stop(&mut self) {
        self.process = None;
    }

    /// Kills the server (SIGKILL). Its data and port stay for [`MariaDb::restart`].
    pub fn kill(&mut self) {
        if let Some(process) = self.process.as_mut() {
            process.kill();
        }
        self.process = None;
    }

    /// Freezes the server: connections open, queries never answered.
    ///
    /// # Errors
    /// When it is stopped.
    pub fn sigstop(&mut self) -> Result<()> {
        self.process()?.signal(Signal::SIGSTOP)
    }

    /// Lets a frozen server go on.
    ///
    /// # Errors
    /// When it is stopped.
    pub fn sigcont(&mut self) -> Result<()> {
        self.process()?.signal(Signal::SIGCONT)
    }

    /// Starts the server again on the same port and data; a running one is stopped first.
    ///
    /// # Errors
    /// As [`MariaDb::start`].
    pub fn restart(&mut self) -> Result<()> {
        self.stop();
        self.launch()
    }

    /// Runs SQL as root through the `mariadb` client, which understands `DELIMITER`.
    ///
    /// # Errors
    /// When a statement fails; the error is the server's.
    pub fn sql(&self, text: &str) -> Result<()> {
        self.client("root", None, "", text).map(drop)
    }

    /// Rows of a query run as root in the database `mail`; NULL reads as `NULL`.
    ///
    /// # Errors
    /// When the query fails.
    pub fn query(&self, text: &str) -> Result<Vec<Vec<String>>> {
        let output = self.client("root", None, document::DATABASE, text)?;
        Ok(output.lines().map(|line| line.split('\t').map(unescape).collect()).collect())
    }

    /// Runs SQL as another account (TCP from 127.0.0.1).
    ///
    /// # Errors
    /// When the login or a statement fails; the error is the server's.
    pub fn sql_as(&self, user: &str, password: &str, database: &str, text: &str) -> Result<String> {
        self.client(user, Some(password), database, text)
    }

    /// Rows of a statement run as root in no database, as the client prints them.
    pub(crate) fn ask_root(&self, text: &str) -> Result<String> {
        self.client("root", None, "", text)
    }

    /// Other flags for the next start.
    pub(crate) fn set_flags(&mut self, flags: Vec<String>) {
        self.flags = flags;
    }

    fn client(&self, user: &str, password: Option<&str>, database: &str, text: &str) -> Result<String> {
        let mut command = Command::new(peer("mariadb", "mariadb-client")?);
        command.args(["--no-defaults", "--batch", "--skip-column-names", "--user", user]);
        match password {
            None => command.arg(format!("--socket={}", self.socket().display())),
            Some(password) => command
                .args(["--protocol=TCP", "--host=127.0.0.1"])
                .arg(format!("--port={}", self.port))
                // Not in argv: every local user reads that.
                .env("MYSQL_PWD", password),
        };
        if !database.is_empty() {
            command.arg(database);
        }
        run(command, text.as_bytes())?.ok().context("mariadb client")
    }
}

/// Undoes the client's batch-mode escapes: `\t`, `\n`, `\0`, `\\`.
fn unescape(field: &str) -> String {
    let mut out = String::with_capacity(field.len());
    let mut chars = field.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.next() {
                Some('t') => out.push('\t'),
                Some('n') => out.push('\n'),
                Some('0') => out.push('\0'),
                Some(other) => out.push(other),
                None => out.push('\\'),
            },
            _ => out.push(c),
        }
    }
    out
}

/// True when the server sends its greeting: it listens and has finished recovery.
fn greets(address: SocketAddr) -> bool {
    let Ok(mut stream) = TcpStream::connect_timeout(&address, Duration::from_secs(1)) else { return false };
    // Read, so that the close below is an orderly one and not counted as a network error of the host.
    let ready = stream.set_read_timeout(Some(Duration::from_secs(1))).is_ok();
    ready && matches!(stream.read(&mut [0; 512]), Ok(length) if length > 0)
}

/// The data folder every server starts from; made by whoever comes first, the others wait.
fn template() -> Result<PathBuf> {
    let (uid, gid) = system_user("mysql", PACKAGE)?;
    let mut version = Command::new(peer("mariadbd", PACKAGE)?);
    version.args(["--no-defaults", "--version"]);
    let version = run(version, b"")?.ok()?;
    let version = version.split_whitespace().skip_while(|word| *word != "Ver").nth(1).unwrap_or("unknown").to_owned();
    std::fs::create_dir_all(TEMPLATES)?;
    let folder = Path::new(TEMPLATES).join(format!("mariadb-{version}-{TEMPLATE_REVISION}"));
    let lock = std::fs::File::create(Path::new(TEMPLATES).join("lock"))?;
    let Ok(_lock) = Flock::lock(lock, FlockArg::LockExclusive) else { bail!("cannot lock {TEMPLATES}") };
    if folder.is_dir() {
        return Ok(folder);
    }
    let started = Instant::now();
    let fresh = Path::new(TEMPLATES).join("fresh");
    if fresh.exists() {
        std::fs::remove_dir_all(&fresh)?;
    }
    make_folder(&fresh, 0o700, uid, gid)?;
    let mut command = Command::new(peer("mariadb-install-db", PACKAGE)?);
    command.args(["--no-defaults", "--user=mysql", "--skip-test-db", "--skip-name-resolve", LOG_FILE_SIZE]);
    command.arg("--auth-root-authentication-method=socket");
    command.arg(format!("--datadir={}", fresh.display()));
    run(command, b"")?.ok().context("mariadb-install-db")?;
    std::fs::rename(&fresh, &folder)?;
    progress(format!("mariadb template {} in {:.2} s", folder.display(), started.elapsed().as_secs_f64()));
    Ok(folder)
}

fn copy_tree(from: &Path, to: &Path) -> Result<()> {
    let mut command = Command::new("cp");
    command.args(["-a", "--reflink=auto"]).arg(from).arg(to);
    run(command, b"")?.ok().map(drop).with_context(|| format!("copying {}", from.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batch_escapes_are_undone() {
        for (field, value) in [("plain", "plain"), (r"a\tb", "a\tb"), (r"a\\tb", r"a\tb"), (r"\n\0", "\n\0")] {
            assert_eq!(unescape(field), value);
        }
    }
}
