//! Why a row was not computed. Written for the log: it says what to do, and holds neither hash nor password.

use crate::Scheme;
use std::fmt;

/// Why a stored value was not checked, or a new password not hashed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Refused {
    /// The value has no mark of a scheme known here, or names one that this crate does not compute. The name is one of
    /// a fixed list: an unknown `{word}` may be the beginning of a plain text password.
    Unknown {
        /// The unsupported scheme, when it is one we have heard of.
        name: Option<&'static str>,
    },
    /// A weak scheme that the policy does not allow.
    Weak(Scheme),
    /// The value asks for more work than the policy allows.
    Cost {
        /// Scheme of the value.
        scheme: Scheme,
        /// What there is too much of: "rounds", "KiB of memory", …
        what: &'static str,
        /// What the value asks for.
        asked: u64,
        /// What the policy allows.
        cap: u64,
    },
    /// The value is damaged.
    Malformed {
        /// Scheme of the value.
        scheme: Scheme,
        /// What is wrong with it.
        what: &'static str,
    },
    /// The scheme hashes the user name too: use [`crate::verify_as`].
    NeedsUser(Scheme),
    /// Memory for the computation could not be had; the one refusal that may pass.
    OutOfMemory(Scheme),
    /// The new password cannot be hashed: empty, with a NUL byte, or too long.
    NewPassword(&'static str),
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown { name: Some(name) } => {
                write!(f, "the stored password uses {name}, which cannot be checked here; set a new password")
            }
            Self::Unknown { name: None } => f.write_str(
                "the stored password is of no known scheme; set a new password, or the default scheme if bare values \
                 are normal here",
            ),
            Self::Weak(scheme) => {
                write!(f, "the stored password uses {scheme}, which is weak; set a new password, or allow {scheme}")
            }
            Self::Cost { scheme, what, asked, cap } => write!(
                f,
                "the stored {scheme} password asks for {asked} {what}, the limit is {cap}; set a new password, or \
                 raise the limit"
            ),
            Self::Malformed { scheme, what } => write!(
                f,
                "the stored {scheme} password is damaged: {what}; set a new password (was the column too narrow?)"
            ),
            Self::NeedsUser(scheme) => write!(
                f,
                "the stored password uses {scheme}, which cannot be checked without the user's name; set a new password"
            ),
            Self::OutOfMemory(scheme) => write!(f, "no memory to compute {scheme}"),
            Self::NewPassword(what) => write!(f, "the new password {what}"),
        }
    }
}

impl std::error::Error for Refused {}
