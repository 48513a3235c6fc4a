//! What a question about a login can come to.

use crate::Account;
use std::sync::Arc;

/// The answer to "may this user in?". Trouble is not a verdict: see [`Unavailable`].
#[derive(Clone, Debug)]
pub enum Verdict {
    /// The password is right and nothing speaks against the login.
    Yes(Arc<Account>),
    /// No account has this name.
    Unknown,
    /// The account exists, the password does not match.
    Wrong,
    /// The password is right but must be changed before it is good for a login.
    PasswordExpired(Arc<Account>),
    /// The password is right but the account is switched off.
    Disabled(Arc<Account>),
    /// The password is right but the account has come to its end.
    Expired(Arc<Account>),
    /// Too many wrong passwords; this one was not looked at.
    Throttled,
}

impl Verdict {
    /// A word for logs and the `ask` protocol.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            Self::Yes(_) => "ok",
            Self::Unknown => "unknown",
            Self::Wrong => "wrong",
            Self::PasswordExpired(_) => "password_expired",
            Self::Disabled(_) => "disabled",
            Self::Expired(_) => "expired",
            Self::Throttled => "throttled",
        }
    }
}

/// "I could not find out": the database is down, slow or broken, or we are overloaded. On every wire this becomes a
/// temporary answer. The reason names the host or file and what failed; it never holds a secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct Unavailable {
    reason: Arc<str>,
}

impl Unavailable {
    /// Trouble, told in a line for the administrator.
    pub fn new(reason: impl Into<Arc<str>>) -> Self {
        Self { reason: reason.into() }
    }

    /// What failed.
    #[must_use]
    pub fn reason(&self) -> &str {
        &self.reason
    }
}
