//! Debian's saslauthd, and testsaslauthd.
//!
//! By default the daemon stays in the foreground with `-d`, so that its log can be read. [`SaslauthdSetup::detached`]
//! starts it the way an init script does: no debug output and no log, which is what a benchmark must measure.
//!
//! Source: saslauthd(8), testsaslauthd(8) of cyrus-sasl 2.1.28.

use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::process::{Process, peer, run};
use crate::progress;
use crate::root::TempRoot;

const PACKAGE: &str = "sasl2-bin";
const START_TIMEOUT: Duration = Duration::from_secs(20);
/// Worker processes; Debian's default.
const WORKERS: &str = "5";

/// How to start saslauthd.
#[derive(Debug, Default)]
pub struct SaslauthdSetup {
    args: Vec<String>,
    detached: bool,
    folder: Option<PathBuf>,
}

impl SaslauthdSetup {
    /// Adds one flag, for instance `-c`, or a flag's value.
    #[must_use]
    pub fn arg(mut self, arg: &str) -> Self {
        self.args.push(arg.to_owned());
        self
    }

    /// Without `-d`: as an init script starts it.
    #[must_use]
    pub fn detached(mut self) -> Self {
        self.detached = true;
        self
    }

    /// Puts the socket `mux` in this folder instead of one of its own.
    #[must_use]
    pub fn folder(mut self, folder: impl Into<PathBuf>) -> Self {
        self.folder = Some(folder.into());
        self
    }

    /// Starts `saslauthd -a pam -m FOLDER -n 5 -r` and the flags added.
    ///
    /// # Errors
    /// When it is not installed or does not start.
    pub fn start(self) -> Result<Saslauthd> {
        let root = TempRoot::new()?;
        let folder = match &self.folder {
            Some(folder) => folder.clone(),
            None => root.folder("sasl", 0o755, 0, 0)?,
        };
        let mut daemon = Saslauthd { process: None, setup: self, folder, root };
        daemon.launch()?;
        Ok(daemon)
    }
}

/// A running saslauthd of Debian.
#[derive(Debug)]
pub struct Saslauthd {
    process: Option<Process>,
    setup: SaslauthdSetup,
    folder: PathBuf,
    root: TempRoot,
}

impl Saslauthd {
    /// `-a pam -n 5 -r`; PAM services are chosen by each request.
    #[must_use]
    pub fn setup() -> SaslauthdSetup {
        SaslauthdSetup::default()
    }

    fn launch(&mut self) -> Result<()> {
        let started = Instant::now();
        let mut command = Command::new(peer("saslauthd", PACKAGE)?);
        command.args(["-a", "pam", "-r", "-n", WORKERS, "-m"]).arg(&self.folder).args(&self.setup.args);
        let log = self.root.join("log");
        let mut process = if self.setup.detached {
            // It forks, makes a session of its own, and the program started here ends with the outcome.
            run(command, b"")?.ok().context("saslauthd")?;
            let pid = std::fs::read_to_string(self.folder.join("saslauthd.pid"))?;
            Process::adopt("saslauthd", pid.trim().parse()?, &log)
        } else {
            command.arg("-d");
            Process::spawn("saslauthd", command, &log)?
        };
        let socket = self.socket();
        process.wait_ready(START_TIMEOUT, || UnixStream::connect(&socket).is_ok())?;
        progress(format!("saslauthd in {:.2} s", started.elapsed().as_secs_f64()));
        self.process = Some(process);
        Ok(())
    }

    /// The socket, as `saslauthd_path` takes it.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.folder.join("mux")
    }

    /// Its process.
    ///
    /// # Errors
    /// When it is stopped.
    pub fn process(&mut self) -> Result<&mut Process> {
        self.process.as_mut().context("saslauthd is stopped")
    }

    /// Ends it in order.
    pub fn stop(&mut self) {
        self.process = None;
    }

    /// Kills every process of it.
    pub fn kill(&mut self) {
        if let Some(process) = self.process.as_mut() {
            process.kill();
        }
        self.process = None;
    }

    /// Starts it again on the same socket.
    ///
    /// # Errors
    /// As [`SaslauthdSetup::start`].
    pub fn restart(&mut self) -> Result<()> {
        self.stop();
        self.launch()
    }
}

/// What `testsaslauthd` printed and its exit code: 0 for `OK`, 255 for `NO` and for trouble.
///
/// # Errors
/// When it is not installed.
pub fn testsaslauthd(socket: &Path, service: &str, user: &str, realm: &str, password: &str) -> Result<(i32, String)> {
    let mut command = Command::new(peer("testsaslauthd", PACKAGE)?);
    command.arg("-f").arg(socket).args(["-s", service, "-u", user, "-r", realm, "-p", password]);
    let ran = run(command, b"")?;
    Ok((ran.code, ran.text().trim().to_owned()))
}
