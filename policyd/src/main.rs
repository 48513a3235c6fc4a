//! policyd: Postfix access policy on the mailsql account database.
#![forbid(unsafe_code)]

use clap::Parser;
use mailsql_config::DEFAULT_PATH;
use mailsql_daemon::program::{self, Program};
use mailsql_daemon::{Remember, run};
use std::path::PathBuf;
use std::process::ExitCode;

/// Answer Postfix's policy questions (SMTPD_POLICY_README): senders, quota, greylisting, rates, lists.
#[derive(Parser)]
#[command(name = "policyd", version)]
struct Arguments {
    /// Configuration file
    #[arg(long, value_name = "FILE", env = "MAILSQL_CONFIG", default_value = DEFAULT_PATH)]
    config: PathBuf,
    /// Log every decision
    #[arg(short = 'v', long)]
    verbose: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let mut config = match program::configuration("policyd", &arguments.config) {
        Ok(config) => config,
        Err(code) => return code,
    };
    config.policy.get_or_insert_default();
    let level = arguments.verbose.then(|| "debug".to_owned());
    let program = Program { name: "policyd", config, remember: Remember::Nothing, delivers: false, level };
    run(program, |config, activation| Ok(policyd::bind(config, activation)?.into_iter().collect()))
}
