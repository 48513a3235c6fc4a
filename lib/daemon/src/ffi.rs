//! The unsafe steps: taking over the listeners that the service manager opened for us, and going into the background.

use nix::unistd::ForkResult;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};

/// Owns a file descriptor that `sd_listen_fds` named.
///
/// The caller passes each number once, taken from the environment that the service manager set for this process.
pub(crate) fn own(fd: RawFd) -> OwnedFd {
    // SAFETY: systemd passes the descriptors 3..3+LISTEN_FDS open, for this process alone (LISTEN_PID is checked), and
    // nothing else in this process owns them: this runs once, before anything but the configuration file was opened.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

/// Forks. Only before there is a second thread.
pub(crate) fn fork() -> nix::Result<ForkResult> {
    // SAFETY: after fork a child of a process with several threads may call little; this runs before the runtime is
    // made, and nothing before it starts a thread, so the child is a whole process.
    unsafe { nix::unistd::fork() }
}
