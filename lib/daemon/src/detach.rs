//! Into the background, as init scripts expect of a daemon: the program they start ends when its child serves, or with
//! the child's complaint when it does not.
//!
//! Nothing is done under systemd, which wants its daemons in the foreground and shows itself by `$NOTIFY_SOCKET` or
//! `$LISTEN_FDS`.

use crate::ffi;
use anyhow::{Context, Result};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, dup2_stderr, dup2_stdin, dup2_stdout, setsid};
use std::fs::File;
use std::io::{Read, Write};
use std::path::PathBuf;

/// How a daemon goes into the background.
#[derive(Clone, Debug)]
pub struct Detach {
    /// The file that holds the daemon's number while it runs.
    pub pid_file: Option<PathBuf>,
}

/// Whether a service manager runs us in the foreground.
#[must_use]
pub fn is_supervised() -> bool {
    ["NOTIFY_SOCKET", "LISTEN_FDS"].iter().any(|name| std::env::var_os(name).is_some())
}

/// A daemon in the background that has not told its starter yet; dropped, it has failed.
#[derive(Debug)]
pub(crate) struct Detached {
    starter: std::io::PipeWriter,
}

/// The file with our number; removed when dropped, if it still holds it.
#[derive(Debug)]
pub(crate) struct PidFile(PathBuf);

impl Detach {
    /// Goes into the background: returns in the child. Must run before there is a second thread.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub(crate) fn detach(&self) -> Result<Detached> {
        let (mut outcome, starter) = std::io::pipe()?;
        match ffi::fork().context("fork")? {
            ForkResult::Parent { child } => {
                drop(starter);
                let ready = outcome.read_exact(&mut [0]).is_ok();
                let status = if ready { 0 } else { status_of(child) };
                // Not by return: sockets and files belong to the child now, and nothing here may clean them up.
                std::process::exit(status);
            }
            ForkResult::Child => {
                setsid().context("setsid")?;
                std::env::set_current_dir("/")?;
                Ok(Detached { starter })
            }
        }
    }

    /// Writes the file with our number, if there is to be one. Under another name first: nobody ever reads half of it.
    ///
    /// # Errors
    /// A line with the file.
    pub(crate) fn write_pid(&self) -> Result<Option<PidFile>> {
        let Some(path) = &self.pid_file else { return Ok(None) };
        let pid = std::process::id();
        let fresh = path.with_extension(format!("pid.{pid}"));
        let written = std::fs::write(&fresh, format!("{pid}\n")).and_then(|()| std::fs::rename(&fresh, path));
        written.with_context(|| path.display().to_string())?;
        Ok(Some(PidFile(path.clone())))
    }
}

/// What a child ended with; 1 when something killed it.
fn status_of(child: Pid) -> i32 {
    match waitpid(child, None) {
        Ok(WaitStatus::Exited(_, status)) => status,
        _ => 1,
    }
}

impl Detached {
    /// Tells the starter that we serve, and lets go of its terminal.
    pub(crate) fn ready(mut self) {
        if let Ok(null) = File::options().read(true).write(true).open("/dev/null") {
            let _ = (dup2_stdin(&null), dup2_stdout(&null), dup2_stderr(&null));
        }
        let _ = self.starter.write_all(b"r");
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        let own = std::process::id().to_string();
        if std::fs::read_to_string(&self.0).is_ok_and(|text| text.trim() == own) {
            let _ = std::fs::remove_file(&self.0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_with_our_number_goes_with_us_unless_another_took_it_over() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.pid");
        let detach = Detach { pid_file: Some(path.clone()) };
        let file = detach.write_pid().unwrap().unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), format!("{}\n", std::process::id()));
        drop(file);
        assert!(!path.exists());
        let file = detach.write_pid().unwrap().unwrap();
        std::fs::write(&path, "1\n").unwrap();
        drop(file);
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "1\n");
        assert!(Detach { pid_file: Some(dir.path().join("absent/x.pid")) }.write_pid().is_err());
        assert!(Detach { pid_file: None }.write_pid().unwrap().is_none());
    }
}
