//! How a verb ends: exit status and a line on standard error.

use mailsql_core::Unavailable;
use mailsql_store::{OpenError, WriteError};
use std::process::ExitCode;

/// An end other than "done".
#[derive(Debug)]
pub(crate) struct Outcome {
    code: u8,
    text: String,
}

impl Outcome {
    /// A "no": unknown user, wrong password, exists already.
    pub(crate) fn no(text: impl Into<String>) -> Self {
        Self { code: 1, text: text.into() }
    }

    /// Wrong usage or configuration.
    pub(crate) fn usage(text: impl Into<String>) -> Self {
        Self { code: 2, text: text.into() }
    }

    /// Trouble that may pass.
    pub(crate) fn temporary(text: impl Into<String>) -> Self {
        Self { code: 75, text: text.into() }
    }
}

impl From<Unavailable> for Outcome {
    fn from(trouble: Unavailable) -> Self {
        Self::temporary(trouble.to_string())
    }
}

impl From<mailsql_config::Error> for Outcome {
    fn from(error: mailsql_config::Error) -> Self {
        Self::usage(error.to_string())
    }
}

impl From<OpenError> for Outcome {
    fn from(error: OpenError) -> Self {
        Self::usage(error.to_string())
    }
}

impl From<std::io::Error> for Outcome {
    fn from(error: std::io::Error) -> Self {
        Self::temporary(error.to_string())
    }
}

impl From<WriteError> for Outcome {
    fn from(error: WriteError) -> Self {
        let text = error.to_string();
        match error {
            WriteError::Unavailable(_) => Self::temporary(text),
            WriteError::Exists(_) | WriteError::Missing(..) => Self::no(text),
            WriteError::NotMigrated(_) | WriteError::Denied(_) | WriteError::ReadOnly(..) => Self::usage(text),
        }
    }
}

/// The process's exit status; prints why it is not 0.
#[expect(clippy::print_stderr, reason = "this is where the command's errors are printed")]
pub(crate) fn exit(outcome: Result<(), Outcome>) -> ExitCode {
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(outcome) => {
            if !outcome.text.is_empty() {
                eprintln!("mailsql: {}", outcome.text);
            }
            ExitCode::from(outcome.code)
        }
    }
}
