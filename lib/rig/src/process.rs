//! One running peer: its own session, its log, its end.

use std::fs::File;
use std::io::Write;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::wait::{TAIL_LINES, tail, wait_until};
use crate::{ffi, keeper};

/// How long a peer may take to end after SIGTERM before it is killed.
const STOP_GRACE: Duration = Duration::from_secs(10);
/// How long processes may take to vanish after SIGKILL.
const KILL_GRACE: Duration = Duration::from_secs(5);

/// A process that a fixture started, with everything it forked.
#[derive(Debug)]
pub struct Process {
    name: String,
    /// Absent for a daemon that detached itself and was adopted.
    child: Option<Child>,
    session: i32,
    status: Option<ExitStatus>,
    ended: bool,
    /// Shown when a test panics or the start fails, in this order.
    logs: Vec<PathBuf>,
}

impl Process {
    /// Starts `command` as a new session, input from /dev/null, both outputs appended to `log`.
    ///
    /// # Errors
    /// When the program or the log file cannot be opened.
    pub fn spawn(name: &str, mut command: Command, log: &Path) -> Result<Self> {
        let out = File::options().create(true).append(true).open(log).with_context(|| log.display().to_string())?;
        command.stdin(Stdio::null()).stdout(out.try_clone()?).stderr(out);
        ffi::in_new_session(&mut command);
        let child = command.spawn().with_context(|| format!("starting {name}: {:?}", command.get_program()))?;
        let session = i32::try_from(child.id())?;
        keeper::session_started(session);
        Ok(Self {
            name: name.to_owned(),
            child: Some(child),
            session,
            status: None,
            ended: false,
            logs: vec![log.to_owned()],
        })
    }

    /// Takes over a daemon that made itself a session leader; `pid` is that leader. `log` need not exist.
    #[must_use]
    pub fn adopt(name: &str, pid: i32, log: &Path) -> Self {
        keeper::session_started(pid);
        let logs = if log.exists() { vec![log.to_owned()] } else { Vec::new() };
        Self { name: name.to_owned(), child: None, session: pid, status: None, ended: false, logs }
    }

    /// Adds a log file that the peer writes itself.
    pub fn add_log(&mut self, log: &Path) {
        self.logs.push(log.to_owned());
    }

    /// Number of the process that was started (its children have others).
    #[must_use]
    pub fn pid(&self) -> i32 {
        self.session
    }

    /// Waits until `probe` is true; an early end of the process or `timeout` is an error with the end of its logs.
    ///
    /// # Errors
    /// When the peer ends or does not get ready in time.
    pub fn wait_ready(&mut self, timeout: Duration, mut probe: impl FnMut() -> bool) -> Result<Duration> {
        let started = Instant::now();
        loop {
            if probe() {
                return Ok(started.elapsed());
            }
            if let Some(status) = self.poll()? {
                bail!("{} ended while starting ({status})\n{}", self.name, self.log_tails());
            }
            if started.elapsed() >= timeout {
                bail!("{} was not ready after {timeout:?}\n{}", self.name, self.log_tails());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Waits for the process to end by itself.
    ///
    /// # Errors
    /// When it still runs after `timeout`.
    pub fn wait(&mut self, timeout: Duration) -> Result<ExitStatus> {
        let started = Instant::now();
        loop {
            if let Some(status) = self.poll()? {
                return Ok(status);
            }
            if started.elapsed() >= timeout {
                bail!("{} still runs after {timeout:?}\n{}", self.name, self.log_tails());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Whether the process that was started still runs.
    pub fn running(&mut self) -> bool {
        matches!(self.poll(), Ok(None))
    }

    fn poll(&mut self) -> Result<Option<ExitStatus>> {
        if self.status.is_none() {
            self.status = match self.child.as_mut() {
                Some(child) => child.try_wait()?,
                // Nobody tells an adopter how its daemon ended.
                None => (!alive(self.session)).then(|| ExitStatus::from_raw(0)),
            };
        }
        Ok(self.status)
    }

    /// Sends a signal to the process that was started, not to its children.
    ///
    /// # Errors
    /// When it is gone.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        if self.status.is_some() {
            bail!("{} is not running", self.name);
        }
        kill(Pid::from_raw(self.session), signal).with_context(|| format!("{signal} to {}", self.name))
    }

    /// Sends a signal to every process of the session.
    pub fn signal_all(&self, signal: Signal) {
        for pid in session_members(self.session) {
            // It may have ended since it was listed.
            let _ = kill(Pid::from_raw(pid), signal);
        }
    }

    /// Processes of the session, the first one included.
    #[must_use]
    pub fn members(&self) -> Vec<i32> {
        session_members(self.session)
    }

    /// Asks the process to end (SIGTERM), waits up to 10 s, then kills what is left of its session.
    pub fn stop(&mut self) -> Option<ExitStatus> {
        if !self.ended && self.running() {
            // A stopped process takes SIGTERM only when it goes on.
            let _ = self.signal(Signal::SIGTERM);
            self.signal_all(Signal::SIGCONT);
            if self.wait(STOP_GRACE).is_err() {
                crate::progress(format!("{} ignored SIGTERM for {STOP_GRACE:?}: killed", self.name));
            }
        }
        self.kill()
    }

    /// Kills the whole session at once (SIGKILL), as a crash of the machine would.
    pub fn kill(&mut self) -> Option<ExitStatus> {
        if self.ended {
            return self.status;
        }
        let gone = wait_until("the end of a session", KILL_GRACE, || {
            // Again and again: a process may fork between being listed and being killed.
            self.signal_all(Signal::SIGKILL);
            session_members(self.session).is_empty()
        });
        if gone.is_err() {
            crate::progress(format!("{}: processes left: {:?}", self.name, session_members(self.session)));
        }
        if self.status.is_none() {
            self.status = self.child.as_mut().and_then(|child| child.wait().ok());
        }
        self.ended = true;
        keeper::session_ended(self.session);
        self.status
    }

    /// Everything the logs hold.
    #[must_use]
    pub fn log_text(&self) -> String {
        self.logs
            .iter()
            .map(|log| String::from_utf8_lossy(&std::fs::read(log).unwrap_or_default()).into_owned())
            .collect()
    }

    /// The end of each log, under its path.
    #[must_use]
    pub fn log_tails(&self) -> String {
        let mut text = String::new();
        for log in &self.logs {
            text.push_str(&format!("--- {} ({}) ---\n{}\n", self.name, log.display(), tail(log, TAIL_LINES)));
        }
        text
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.stop();
        if std::thread::panicking() {
            show(&self.log_tails());
        }
    }
}

/// Prints where the harness collects a failed test's output.
#[expect(clippy::print_stderr, reason = "only the print macros reach the test harness's capture")]
fn show(text: &str) {
    eprintln!("{text}");
}

/// Whether a process exists and is no zombie.
fn alive(pid: i32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
}

/// Live processes of a session, by /proc; zombies are left out.
fn session_members(session: i32) -> Vec<i32> {
    let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
    let pids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    pids.filter(|pid| {
        let Ok(stat) = std::fs::read_to_string(format!("/proc/{pid}/stat")) else { return false };
        // Behind the command name (which may hold blanks and brackets): state, parent, group, session.
        let Some((_, rest)) = stat.rsplit_once(") ") else { return false };
        let fields: Vec<&str> = rest.split(' ').collect();
        fields.first() != Some(&"Z") && fields.get(3).and_then(|field| field.parse().ok()) == Some(session)
    })
    .collect()
}

/// What a short command did.
#[derive(Debug, Clone)]
pub struct Ran {
    /// Exit code; 128 + signal for a killed one, as the shell counts.
    pub code: i32,
    /// Standard output, lossily decoded.
    pub stdout: String,
    /// Standard error, lossily decoded.
    pub stderr: String,
}

impl Ran {
    /// Both outputs, one after the other.
    #[must_use]
    pub fn text(&self) -> String {
        format!("{}{}", self.stdout, self.stderr)
    }

    /// The standard output of a command that must have exited 0.
    ///
    /// # Errors
    /// When the exit code is another one; the error holds both outputs.
    pub fn ok(self) -> Result<String> {
        if self.code == 0 { Ok(self.stdout) } else { bail!("exit {}: {}", self.code, self.text()) }
    }
}

/// Runs a command to its end with `input` on its standard input.
///
/// # Errors
/// When it cannot be started.
pub fn run(mut command: Command, input: &[u8]) -> Result<Ran> {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().with_context(|| format!("starting {:?}", command.get_program()))?;
    let output = std::thread::scope(|scope| {
        if let Some(mut stdin) = child.stdin.take() {
            // A command may end without reading all of it.
            scope.spawn(move || stdin.write_all(input));
        }
        child.wait_with_output()
    })?;
    Ok(Ran {
        code: output.status.code().unwrap_or_else(|| 128 + output.status.signal().unwrap_or(0)),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    })
}

/// Finds a peer's program; an error that names the Debian package when it is not installed.
///
/// # Errors
/// When no system folder holds it.
pub fn peer(name: &str, package: &str) -> Result<PathBuf> {
    const FOLDERS: [&str; 5] = ["/usr/sbin", "/usr/bin", "/usr/lib/postfix/sbin", "/usr/local/sbin", "/usr/local/bin"];
    for folder in FOLDERS {
        let path = Path::new(folder).join(name);
        if path.is_file() {
            return Ok(path);
        }
    }
    bail!("{name} is not installed: this test needs the Debian package {package} (tests/run installs it)")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str, log: &Path) -> Process {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        Process::spawn("sh", command, log).unwrap()
    }

    #[test]
    fn stopping_ends_children_that_ignore_the_signal() {
        let root = tempfile::tempdir().unwrap();
        let log = root.path().join("log");
        let mut process = shell("sh -c 'trap \"\" TERM; echo up; sleep 60; sleep 60' & wait", &log);
        process.wait_ready(Duration::from_secs(5), || tail(&log, 1) == "up").unwrap();
        assert!(process.members().len() >= 2);
        process.stop();
        assert_eq!(process.members(), []);
    }

    #[test]
    fn a_peer_that_ends_while_starting_is_an_error_with_its_log() {
        let root = tempfile::tempdir().unwrap();
        let mut process = shell("echo no such option >&2; exit 3", &root.path().join("log"));
        let error = process.wait_ready(Duration::from_secs(5), || false).unwrap_err().to_string();
        assert!(error.contains("no such option") && error.contains("exit status: 3"), "{error}");
    }

    #[test]
    fn a_process_that_was_stopped_by_signal_can_be_ended() {
        let root = tempfile::tempdir().unwrap();
        let mut process = shell("sleep 60", &root.path().join("log"));
        process.signal(Signal::SIGSTOP).unwrap();
        let started = Instant::now();
        process.stop();
        assert!(started.elapsed() < STOP_GRACE);
        assert!(!process.running());
    }

    #[test]
    fn short_commands_give_exit_code_and_both_outputs() {
        let mut command = Command::new("sh");
        command.args(["-c", "cat; echo err >&2; exit 7"]);
        let ran = run(command, b"in").unwrap();
        assert_eq!((ran.code, ran.stdout.as_str(), ran.stderr.as_str()), (7, "in", "err\n"));
    }

    #[test]
    fn a_missing_peer_names_its_package() {
        let error = peer("no-such-peer", "some-package").unwrap_err().to_string();
        assert!(error.contains("some-package"), "{error}");
    }
}
