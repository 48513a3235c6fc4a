//! saslauthd-rs: saslauthd's flags on the mailsql account database, or on PAM.

mod ffi;
mod flags;
mod pam;

use clap::Parser;
use flags::{Arguments, Mechanism};
use mailsql_config::{DEFAULT_PATH, Saslauthd, Span};
use mailsql_daemon::program::{self, EXIT_USAGE, Program};
use mailsql_daemon::{Alone, Remember, run_alone, run_detached};
use std::process::ExitCode;
use std::time::Duration;

#[expect(clippy::print_stderr, reason = "saslauthd prints these on standard error too")]
fn main() -> ExitCode {
    if std::env::args_os().nth(1).is_some_and(|argument| argument == pam::WORKER) {
        return pam::run_worker();
    }
    let arguments = Arguments::parse();
    if arguments.version {
        eprintln!("saslauthd-rs {}\nauthentication mechanisms: mailsql pam", env!("CARGO_PKG_VERSION"));
        return ExitCode::SUCCESS;
    }
    let run = match Mechanism::find(&arguments.mechanism) {
        Ok(Mechanism::Mailsql) => run_mailsql(&arguments),
        Ok(Mechanism::Pam) => run_pam(&arguments),
        Err(refused) => Err(refused),
    };
    run.unwrap_or_else(|wrong| {
        eprintln!("saslauthd-rs: {wrong}");
        ExitCode::from(EXIT_USAGE)
    })
}

fn run_mailsql(arguments: &Arguments) -> Result<ExitCode, String> {
    let path = arguments.option.as_deref().map(Into::into).or(arguments.config.clone());
    let mut config = match program::configuration("saslauthd-rs", &path.unwrap_or_else(|| DEFAULT_PATH.into())) {
        Ok(config) => config,
        Err(code) => return Ok(code),
    };
    let section = config.saslauthd.get_or_insert_with(Saslauthd::default);
    arguments.apply(section)?;
    if let Some(seconds) = arguments.cache_time {
        config.cache.positive_ttl = Span(Duration::from_secs(seconds));
    }
    if let Some(entries) = arguments.cache_entries() {
        config.cache.entries = entries;
    }
    let detach = arguments.detach(section);
    let remember = if arguments.cache { Remember::Logins } else { Remember::Nothing };
    let program = Program { name: "saslauthd-rs", config, remember, delivers: false, level: arguments.level() };
    Ok(run_detached(program, detach, |config, activation| {
        Ok(saslauthd_rs::bind(config, activation)?.into_iter().collect())
    }))
}

fn run_pam(arguments: &Arguments) -> Result<ExitCode, String> {
    // As many children as saslauthd has processes.
    let mut section = Saslauthd { combine_realm: false, concurrency: flags::WORKERS, ..Saslauthd::default() };
    arguments.apply(&mut section)?;
    let deadline = arguments.pam_deadline()?;
    let detach = arguments.detach(&section);
    let level = arguments.level().unwrap_or_else(|| "info".to_owned());
    let alone = Alone { name: "saslauthd-rs", level, detach };
    Ok(run_alone(alone, |activation| pam::bind(section, deadline, activation)))
}
