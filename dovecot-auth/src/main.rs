//! dovecot-auth: Dovecot's auth protocols on the mailsql account database.
#![forbid(unsafe_code)]

use clap::Parser;
use mailsql_config::DEFAULT_PATH;
use mailsql_daemon::program::{self, Program};
use mailsql_daemon::{Remember, run};
use std::path::PathBuf;
use std::process::ExitCode;

/// Answer Dovecot's auth protocols: logins for Postfix and Exim, user lookups for doveadm, dovecot-lda and dovecot-lmtp.
#[derive(Parser)]
#[command(name = "dovecot-auth", version)]
struct Arguments {
    /// Configuration file
    #[arg(long, value_name = "FILE", env = "MAILSQL_CONFIG", default_value = DEFAULT_PATH)]
    config: PathBuf,
    /// Log every request
    #[arg(short = 'v', long)]
    verbose: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let mut config = match program::configuration("dovecot-auth", &arguments.config) {
        Ok(config) => config,
        Err(code) => return code,
    };
    config.auth.get_or_insert_default();
    let level = arguments.verbose.then(|| "debug".to_owned());
    let remember = Remember::Logins;
    run(Program { name: "dovecot-auth", config, remember, delivers: false, level }, |config, activation| {
        Ok(dovecot_auth::bind(config, activation)?.into_iter().collect())
    })
}
