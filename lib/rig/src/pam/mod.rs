//! PAM: service files in /etc/pam.d, `pamtester`, and calls with their numeric results.
//!
//! saslauthd, Dovecot and pamtester read /etc/pam.d only, so a [`Service`] is a file there with a name of its own, gone
//! on drop. [`Call`] can read any folder instead (`pam_start_confdir`, Linux-PAM 1.4 and later).
//!
//! A [`Call`] runs in a child, the program `rig-pam` of this crate: a module under test may crash, leak, change signal
//! handlers or never return, and none of that may reach the test.

mod call;
mod ffi;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result};

use crate::keeper;
use crate::process::{Ran, peer, run};

pub use call::{Call, Step, Transcript, serve_call};

/// What every service file of the rig is called, followed by process number and count. tests/run looks for leftovers.
pub const SERVICE_PREFIX: &str = "mailsql-test-";

/// One file in /etc/pam.d for as long as this lives.
#[derive(Debug)]
pub struct Service {
    name: String,
    path: PathBuf,
}

impl Service {
    /// Writes the file; `lines` are pam.d(5) lines (`auth required MODULE ARGS`).
    ///
    /// # Errors
    /// When /etc/pam.d cannot be written.
    pub fn new(lines: &str) -> Result<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("{SERVICE_PREFIX}{}-{count}", std::process::id());
        let path = Path::new("/etc/pam.d").join(&name);
        keeper::path_made(&path);
        std::fs::write(&path, lines).with_context(|| path.display().to_string())?;
        Ok(Self { name, path })
    }

    /// The service's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Replaces its lines; programs read the file anew at every login.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn rewrite(&self, lines: &str) -> Result<()> {
        std::fs::write(&self.path, lines).with_context(|| self.path.display().to_string())
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
        keeper::path_removed(&self.path);
    }
}

/// `pamtester SERVICE USER OPERATIONS`, `input` on its standard input (one line a prompt).
///
/// Exit 0 and a text such as `successfully authenticated`, or 1 and PAM's own text for the code.
///
/// # Errors
/// When pamtester is not installed.
pub fn pamtester(service: &str, user: &str, operations: &[&str], input: &str) -> Result<Ran> {
    let mut command = Command::new(peer("pamtester", "pamtester")?);
    command.arg(service).arg(user).args(operations);
    run(command, input.as_bytes())
}

/// Linux-PAM's result codes by name, as in security/_pam_types.h.
const CODES: [&str; 32] = [
    "PAM_SUCCESS",
    "PAM_OPEN_ERR",
    "PAM_SYMBOL_ERR",
    "PAM_SERVICE_ERR",
    "PAM_SYSTEM_ERR",
    "PAM_BUF_ERR",
    "PAM_PERM_DENIED",
    "PAM_AUTH_ERR",
    "PAM_CRED_INSUFFICIENT",
    "PAM_AUTHINFO_UNAVAIL",
    "PAM_USER_UNKNOWN",
    "PAM_MAXTRIES",
    "PAM_NEW_AUTHTOK_REQD",
    "PAM_ACCT_EXPIRED",
    "PAM_SESSION_ERR",
    "PAM_CRED_UNAVAIL",
    "PAM_CRED_EXPIRED",
    "PAM_CRED_ERR",
    "PAM_NO_MODULE_DATA",
    "PAM_CONV_ERR",
    "PAM_AUTHTOK_ERR",
    "PAM_AUTHTOK_RECOVERY_ERR",
    "PAM_AUTHTOK_LOCK_BUSY",
    "PAM_AUTHTOK_DISABLE_AGING",
    "PAM_TRY_AGAIN",
    "PAM_IGNORE",
    "PAM_ABORT",
    "PAM_AUTHTOK_EXPIRED",
    "PAM_MODULE_UNKNOWN",
    "PAM_BAD_ITEM",
    "PAM_CONV_AGAIN",
    "PAM_INCOMPLETE",
];

/// The name of a result code: 7 is `PAM_AUTH_ERR`.
#[must_use]
pub fn code_name(code: i32) -> &'static str {
    usize::try_from(code).ok().and_then(|index| CODES.get(index)).copied().unwrap_or("PAM_?")
}
