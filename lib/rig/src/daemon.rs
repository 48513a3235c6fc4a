//! Our own programs, from the target folder of the running test.
//!
//! A test binary is `target/PROFILE/deps/NAME-HASH`, so the programs lie one or two folders up. `MAILSQL_BIN_DIR` names
//! another folder, for instance `/usr/sbin` to test an installed package.

use std::ffi::{OsStr, OsString};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::process::Process;
use crate::progress;
use crate::root::TempRoot;

/// Our daemons are ready in well under a second; a loaded machine may need many times that.
const START_TIMEOUT: Duration = Duration::from_secs(30);

/// Path of one of our programs.
///
/// # Errors
/// When it has not been built; the error says how to.
pub fn program(name: &str) -> Result<PathBuf> {
    built(name).with_context(|| format!("{name} is not built: run `cargo build --workspace` (tests/run does)"))
}

/// Path of one of our shared objects, by crate name: `pam_mailsql` finds `libpam_mailsql.so`.
///
/// # Errors
/// When it has not been built; the error says how to.
pub fn module(name: &str) -> Result<PathBuf> {
    program(&format!("lib{name}.so"))
}

fn built(file: &str) -> Result<PathBuf> {
    let mut folders = Vec::new();
    if let Some(folder) = std::env::var_os("MAILSQL_BIN_DIR") {
        folders.push(PathBuf::from(folder));
    } else {
        let own = std::env::current_exe()?;
        folders.extend(own.ancestors().skip(1).take(2).map(Path::to_owned));
    }
    for folder in &folders {
        // cargo keeps another copy of a shared object in deps/; the one above it is the finished one.
        let path = folder.join(file);
        if path.is_file() && !folder.ends_with("deps") {
            return Ok(path);
        }
    }
    bail!("no {file} in {folders:?}")
}

/// How a daemon shows that it serves.
#[derive(Debug, Clone)]
pub enum Ready {
    /// It accepts connections on a Unix socket.
    Socket(PathBuf),
    /// It accepts connections on a TCP address.
    Tcp(SocketAddr),
    /// Its output holds this text.
    Log(String),
}

/// What to start and how; see [`Daemon::setup`].
#[derive(Debug)]
pub struct DaemonSetup {
    name: String,
    program: Option<PathBuf>,
    args: Vec<OsString>,
    env: Vec<(OsString, OsString)>,
    owner: Option<(u32, u32)>,
    ready: Vec<Ready>,
    timeout: Duration,
}

impl DaemonSetup {
    /// Adds one argument.
    #[must_use]
    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.args.push(arg.as_ref().to_owned());
        self
    }

    /// Adds several arguments.
    #[must_use]
    pub fn args<A: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = A>) -> Self {
        self.args.extend(args.into_iter().map(|arg| arg.as_ref().to_owned()));
        self
    }

    /// Sets one environment variable.
    #[must_use]
    pub fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.env.push((name.as_ref().to_owned(), value.as_ref().to_owned()));
        self
    }

    /// Runs it as this user and group, without other groups, instead of root.
    #[must_use]
    pub fn owner(mut self, uid: u32, gid: u32) -> Self {
        self.owner = Some((uid, gid));
        self
    }

    /// Runs this file instead of the program of that name in the target folder.
    #[must_use]
    pub fn program(mut self, path: impl Into<PathBuf>) -> Self {
        self.program = Some(path.into());
        self
    }

    /// Counts as started only when this holds too.
    #[must_use]
    pub fn ready(mut self, ready: Ready) -> Self {
        self.ready.push(ready);
        self
    }

    /// Counts as started only when this Unix socket accepts.
    #[must_use]
    pub fn ready_socket(self, path: impl Into<PathBuf>) -> Self {
        self.ready(Ready::Socket(path.into()))
    }

    /// Waits this long for the start instead of 30 s.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Starts it.
    ///
    /// # Errors
    /// When it is not built, ends early, or is not ready in time; the error holds the end of its output.
    pub fn start(self) -> Result<Daemon> {
        let root = TempRoot::new()?;
        let mut daemon = Daemon { process: None, setup: self, root };
        daemon.launch()?;
        Ok(daemon)
    }
}

/// A running program of ours; its output is kept in a file.
#[derive(Debug)]
pub struct Daemon {
    process: Option<Process>,
    setup: DaemonSetup,
    root: TempRoot,
}

impl Daemon {
    /// Describes a program of ours by its name in the target folder.
    #[must_use]
    pub fn setup(name: &str) -> DaemonSetup {
        DaemonSetup {
            name: name.to_owned(),
            program: None,
            args: Vec::new(),
            env: Vec::new(),
            owner: None,
            ready: Vec::new(),
            timeout: START_TIMEOUT,
        }
    }

    fn launch(&mut self) -> Result<()> {
        let started = Instant::now();
        let setup = &self.setup;
        let path = match &setup.program {
            Some(path) => path.clone(),
            None => program(&setup.name)?,
        };
        let mut command = Command::new(path);
        command.args(&setup.args).envs(setup.env.iter().map(|(name, value)| (name, value)));
        command.current_dir("/");
        if let Some((uid, gid)) = setup.owner {
            command.gid(gid).uid(uid);
        }
        let log = self.log_path();
        let mut process = Process::spawn(&setup.name, command, &log)?;
        process.wait_ready(setup.timeout, || setup.ready.iter().all(|ready| holds(ready, &log)))?;
        progress(format!("{} in {:.2} s", setup.name, started.elapsed().as_secs_f64()));
        self.process = Some(process);
        Ok(())
    }

    /// Its process, for signals and memory figures.
    ///
    /// # Errors
    /// When it is stopped.
    pub fn process(&mut self) -> Result<&mut Process> {
        self.process.as_mut().with_context(|| format!("{} is stopped", self.setup.name))
    }

    /// Ends it by SIGTERM; its exit status, if it still ran.
    pub fn stop(&mut self) -> Option<std::process::ExitStatus> {
        let status = self.process.as_mut().and_then(Process::stop);
        self.process = None;
        status
    }

    /// Kills it (SIGKILL).
    pub fn kill(&mut self) {
        if let Some(process) = self.process.as_mut() {
            process.kill();
        }
        self.process = None;
    }

    /// Starts it again with the same arguments; a running one is stopped first. The log goes on in the same file.
    ///
    /// # Errors
    /// As [`DaemonSetup::start`].
    pub fn restart(&mut self) -> Result<()> {
        self.stop();
        self.launch()
    }

    /// Everything it has written.
    #[must_use]
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(self.log_path()).unwrap_or_default()).into_owned()
    }

    /// The file that holds its output.
    #[must_use]
    pub fn log_path(&self) -> PathBuf {
        self.root.join("log")
    }

    /// Waits until its output holds `text` and returns the first such line.
    ///
    /// # Errors
    /// When it does not in time; the error holds the end of the output.
    pub fn wait_for_log(&self, text: &str, timeout: Duration) -> Result<String> {
        crate::wait::wait_for_line(&self.log_path(), text, timeout)
    }
}

fn holds(ready: &Ready, log: &Path) -> bool {
    match ready {
        Ready::Socket(path) => UnixStream::connect(path).is_ok(),
        Ready::Tcp(address) => TcpStream::connect_timeout(address, Duration::from_secs(1)).is_ok(),
        Ready::Log(text) => String::from_utf8_lossy(&std::fs::read(log).unwrap_or_default()).contains(text.as_str()),
    }
}
