//! Logs on standard error or to syslog: one line an event, fixed keys, no secrets.

use crate::syslog::Syslog;
use mailsql_config::{Log, LogFormat};
use std::io::IsTerminal;
use tracing_subscriber::EnvFilter;

/// Where lines go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// Standard error.
    Stderr,
    /// syslog, facility auth, under this name: for a daemon in the background.
    Syslog(&'static str),
}

/// Starts logging on standard error. `$RUST_LOG` goes before the configuration; `level` from the command line before both.
pub fn start(config: &Log, level: Option<&str>) {
    start_on(Target::Stderr, config, level);
}

/// As [`start`], to any target.
pub fn start_on(target: Target, config: &Log, level: Option<&str>) {
    let filter = match level {
        Some(level) => EnvFilter::try_new(level),
        None => EnvFilter::try_from_default_env().or_else(|_| EnvFilter::try_new(&config.level)),
    };
    let filter = filter.unwrap_or_else(|_| EnvFilter::new("info"));
    let builder = tracing_subscriber::fmt().with_env_filter(filter);
    if let Target::Syslog(name) = target {
        // syslog has times and levels of its own, and filters such as fail2ban's expect the message first.
        let builder = builder.with_writer(Syslog::new(name)).with_ansi(false);
        let _ = match config.format {
            LogFormat::Json => builder.json().flatten_event(true).try_init(),
            LogFormat::Text => builder.without_time().with_level(false).with_target(false).try_init(),
        };
        return;
    }
    let builder = builder.with_writer(std::io::stderr).with_ansi(std::io::stderr().is_terminal());
    // The journal and syslog put their own time before each line.
    let journal = std::env::var_os("JOURNAL_STREAM").is_some();
    // Failing means that a log was started before, as in tests; that one goes on.
    let _ = match (config.format, journal) {
        (LogFormat::Json, _) => builder.json().flatten_event(true).try_init(),
        (LogFormat::Text, true) => builder.without_time().try_init(),
        (LogFormat::Text, false) => builder.try_init(),
    };
}

/// The event that every decided login leaves, whatever the protocol, with these fields in this order: `protocol`,
/// `service`, `login`, `client`, `result`, `reason`, `scheme`, `cache`, `micros`. What is not known is `-`. `service`,
/// `login` and `client` are the client's words: the text form quotes and escapes them, so that none can pass for another
/// field; packaging/fail2ban relies on that.
pub fn login(
    protocol: &'static str,
    login: &mailsql_core::Login<'_>,
    decision: &Result<mailsql_core::authenticator::Decision, mailsql_core::Unavailable>,
    begun: std::time::Instant,
) {
    let micros = u64::try_from(begun.elapsed().as_micros()).unwrap_or(u64::MAX);
    let client = login.client.map_or_else(|| "-".to_owned(), |client| client.to_canonical().to_string());
    let (user, service) = (shown(login.user), shown(login.service));
    match decision {
        Ok(decision) => tracing::info!(
            target: "login", protocol, service, login = user, client, result = decision.verdict.word(),
            reason = decision.reason, scheme = decision.scheme, cache = if decision.cached { "hit" } else { "miss" },
            micros
        ),
        Err(trouble) => tracing::warn!(
            target: "login", protocol, service, login = user, client, result = "unavailable",
            reason = trouble.reason(), scheme = "-", cache = "miss", micros
        ),
    }
}

/// Longest text of a client in a log, in bytes; an address has at most 254.
const SHOWN_MAX: usize = 256;

/// A client's text, cut.
fn shown(text: &str) -> &str {
    match text {
        "" => "-",
        text => &text[..text.floor_char_boundary(SHOWN_MAX)],
    }
}
