//! `[log]`: what is logged, and how.

use serde::Deserialize;

/// `[log]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Log {
    /// `error`, `warn`, `info`, `debug` or `trace`, or tracing's filter language.
    pub level: String,
    /// The form of a line.
    pub format: LogFormat,
    /// Where lines go. Under systemd, standard error is the journal.
    pub to: LogTo,
}

impl Default for Log {
    fn default() -> Self {
        Self { level: "info".into(), format: LogFormat::Text, to: LogTo::Stderr }
    }
}

/// The form of a line on standard error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// `key=value` pairs; without a time when standard error is the journal, which has its own.
    Text,
    /// One JSON object a line.
    Json,
}

/// Where lines go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogTo {
    /// Standard error.
    Stderr,
    /// syslog, facility auth.
    Syslog,
}
