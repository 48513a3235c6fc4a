//! Logs on standard error: one line an event, fixed keys, no secrets.

use mailsql_config::{Log, LogFormat};
use std::io::IsTerminal;
use tracing_subscriber::EnvFilter;

/// Starts logging. `$RUST_LOG` goes before the configuration; `level` from the command line before both.
pub fn start(config: &Log, level: Option<&str>) {
    let filter = match level {
        Some(level) => EnvFilter::try_new(level),
        None => EnvFilter::try_from_default_env().or_else(|_| EnvFilter::try_new(&config.level)),
    };
    let filter = filter.unwrap_or_else(|_| EnvFilter::new("info"));
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let builder = builder.with_ansi(std::io::stderr().is_terminal());
    // The journal and syslog put their own time before each line.
    let journal = std::env::var_os("JOURNAL_STREAM").is_some();
    // Failing means that a log was started before, as in tests; that one goes on.
    let _ = match (config.format, journal) {
        (LogFormat::Json, _) => builder.json().flatten_event(true).try_init(),
        (LogFormat::Text, true) => builder.without_time().try_init(),
        (LogFormat::Text, false) => builder.try_init(),
    };
}

/// The line that every decided login leaves, whatever the protocol: fixed keys, the client's words escaped.
pub fn login(
    protocol: &'static str,
    login: &mailsql_core::Login<'_>,
    decision: &Result<mailsql_core::authenticator::Decision, mailsql_core::Unavailable>,
    begun: std::time::Instant,
) {
    let micros = u64::try_from(begun.elapsed().as_micros()).unwrap_or(u64::MAX);
    let client = login.client.map(|client| client.to_string()).unwrap_or_default();
    let (user, service) = (login.user, login.service);
    match decision {
        Ok(decision) => tracing::info!(
            target: "login", protocol, login = user, service, client, result = decision.verdict.word(),
            scheme = decision.scheme, cached = decision.cached, micros
        ),
        Err(trouble) => tracing::warn!(
            target: "login", protocol, login = user, service, client, result = "unavailable", reason = trouble.reason(), micros
        ),
    }
}
