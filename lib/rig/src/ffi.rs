//! Process sessions: the one thing a fixture needs that `std` cannot do without `unsafe`.

use std::os::unix::process::CommandExt;
use std::process::Command;

/// Starts `command` as the leader of a new session.
///
/// Everything it forks stays in that session unless it leaves it on purpose, so a whole peer can be found and ended by
/// one number. A process group would not do: Postfix's master insists on being a *session* leader and makes itself one.
pub(crate) fn in_new_session(command: &mut Command) {
    // SAFETY: between fork and exec only async-signal-safe calls are allowed; setsid(2) is one, and reading errno
    // through `last_os_error` neither locks nor allocates.
    unsafe {
        command.pre_exec(|| if libc::setsid() == -1 { Err(std::io::Error::last_os_error()) } else { Ok(()) });
    }
}
