//! saslauthd-rs: saslauthd's flags on the mailsql account database.
#![forbid(unsafe_code)]

use clap::{ArgAction, Parser};
use mailsql_config::{DEFAULT_PATH, ListenList, Saslauthd, Span};
use mailsql_daemon::program::{self, EXIT_USAGE, Program};
use mailsql_daemon::{Remember, run};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

/// Answer libsasl2's password checks (saslauthd's protocol) from the mailsql account database.
///
/// Takes saslauthd's own flags, so that it can stand in for it in /etc/default/saslauthd or /etc/sysconfig/saslauthd.
#[derive(Parser)]
#[command(name = "saslauthd-rs", disable_version_flag = true)]
struct Arguments {
    /// Authentication mechanism: mailsql
    #[arg(short = 'a', value_name = "MECH", default_value = "mailsql")]
    mechanism: String,
    /// Configuration file (saslauthd's option for mechanisms)
    #[arg(short = 'O', value_name = "FILE", conflicts_with = "config")]
    option: Option<PathBuf>,
    /// Configuration file
    #[arg(long, value_name = "FILE", env = "MAILSQL_CONFIG")]
    config: Option<PathBuf>,
    /// Directory of the mux socket
    #[arg(short = 'm', value_name = "DIR")]
    directory: Option<PathBuf>,
    /// Requests worked on at once; 0 for no limit but that on connections
    #[arg(short = 'n', value_name = "N")]
    threads: Option<usize>,
    /// Join login and realm with @ (always on unless the configuration says combine_realm = false)
    #[arg(short = 'r')]
    combine_realm: bool,
    /// Remember right passwords
    #[arg(short = 'c')]
    cache: bool,
    /// Seconds for which they are remembered
    #[arg(short = 't', value_name = "SECONDS")]
    cache_time: Option<u64>,
    /// Size of saslauthd's cache table; ours is sized by [cache] entries
    #[arg(short = 's', value_name = "KILOBYTES")]
    cache_size: Option<u64>,
    /// No accept lock; we have none
    #[arg(short = 'l')]
    no_lock: bool,
    /// Stay in the foreground and log every step
    #[arg(short = 'd')]
    debug: bool,
    /// Log every decision, accepted logins too
    #[arg(short = 'V')]
    verbose: bool,
    /// Print the version and the mechanisms
    #[arg(short = 'v', action = ArgAction::SetTrue)]
    version: bool,
}

#[expect(clippy::print_stderr, reason = "saslauthd prints these on standard error too")]
fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if arguments.version {
        eprintln!("saslauthd-rs {}\nauthentication mechanisms: mailsql", env!("CARGO_PKG_VERSION"));
        return ExitCode::SUCCESS;
    }
    if !arguments.mechanism.eq_ignore_ascii_case("mailsql") {
        eprintln!("saslauthd-rs: unsupported mechanism {:?}; there is: mailsql", arguments.mechanism);
        return ExitCode::from(EXIT_USAGE);
    }
    let path = arguments.option.clone().or(arguments.config.clone()).unwrap_or_else(|| DEFAULT_PATH.into());
    let mut config = match program::configuration("saslauthd-rs", &path) {
        Ok(config) => config,
        Err(code) => return code,
    };
    let section = config.saslauthd.get_or_insert_with(Saslauthd::default);
    if let Some(directory) = &arguments.directory {
        // As saslauthd: the directory is made if it can be.
        let _ = std::fs::create_dir_all(directory);
        section.listen = ListenList::unix(directory.join("mux"));
    }
    section.combine_realm |= arguments.combine_realm;
    section.concurrency = match arguments.threads {
        Some(0) => section.max_connections,
        Some(threads) => threads,
        None => section.concurrency,
    };
    if let Some(seconds) = arguments.cache_time {
        config.cache.positive_ttl = Span(Duration::from_secs(seconds));
    }
    let level = match (arguments.debug, arguments.verbose) {
        (true, _) => Some("debug".to_owned()),
        (false, true) => Some("info".to_owned()),
        (false, false) => None,
    };
    let remember = if arguments.cache { Remember::Logins } else { Remember::Nothing };
    run(Program { name: "saslauthd-rs", config, remember, delivers: false, level }, |config, activation| {
        Ok(saslauthd_rs::bind(config, activation)?.into_iter().collect())
    })
}
