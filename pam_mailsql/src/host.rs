//! What the logic needs of PAM, and nothing more: real in `pam_host`, scripted in tests.

use std::time::Duration;

use pam::constants::PamResultCode;
use zeroize::Zeroizing;

/// A password in this process; wiped when it goes.
pub(crate) type Secret = Zeroizing<Vec<u8>>;

/// How much a line matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Level {
    /// Something the administrator must mend.
    Error,
    /// A login that was refused.
    Notice,
    /// Only with `verbose`.
    Debug,
}

/// The transaction that called us.
pub(crate) trait Host {
    /// PAM_USER, asking for it if need be.
    fn user(&mut self) -> Result<Vec<u8>, PamResultCode>;
    /// PAM_SERVICE; empty when unknown.
    fn service(&self) -> Vec<u8>;
    /// PAM_RHOST; empty when unknown.
    fn client(&self) -> Vec<u8>;
    /// PAM_AUTHTOK, if a module before us left one.
    fn password(&self) -> Option<Secret>;
    /// PAM_OLDAUTHTOK.
    fn old_password(&self) -> Option<Secret>;
    /// Leave PAM_AUTHTOK to the modules behind us.
    fn keep_password(&mut self, password: &Secret);
    /// Leave PAM_OLDAUTHTOK to the modules behind us.
    fn keep_old_password(&mut self, password: &Secret);
    /// Ask with echo off; `None` when the application has no answer.
    fn prompt(&mut self, text: &str) -> Result<Option<Secret>, PamResultCode>;
    /// Show the user an error.
    fn tell(&mut self, text: &str);
    /// Ask libpam to wait if the whole stack fails.
    fn fail_delay(&mut self, delay: Duration);
    /// Write to the system's log.
    fn log(&mut self, level: Level, text: &str);
    /// Whether the person is root (real user id), who needs no old password.
    fn is_root(&self) -> bool;
    /// Whether the program may change passwords (effective user id).
    #[cfg(feature = "direct")]
    fn is_privileged(&self) -> bool;
    /// Arguments that earlier calls of this transaction left.
    fn remembered(&self) -> Vec<Secret>;
    /// Leave arguments to later calls of this transaction.
    fn remember(&mut self, arguments: Vec<Secret>);
}
