//! lmtpd: LMTP delivery to Maildir.
#![forbid(unsafe_code)]

use anyhow::Context;
use clap::Parser;
use mailsql_daemon::Remember;
use mailsql_daemon::program::{Program, configuration, run};
use std::path::PathBuf;
use std::process::ExitCode;

/// Delivers mail from Postfix to Maildirs, for the accounts in the mailsql database.
#[derive(Parser)]
#[command(name = "lmtpd", version)]
struct Arguments {
    /// The configuration; its [lmtp] and [mail] sections are this program's own.
    #[arg(long, value_name = "FILE", env = "MAILSQL_CONFIG", default_value = mailsql_config::DEFAULT_PATH)]
    config: PathBuf,
    /// Say more; twice for all there is to say.
    #[arg(short, action = clap::ArgAction::Count)]
    verbose: u8,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let config = match configuration("lmtpd", &arguments.config) {
        Ok(config) => config,
        Err(code) => return code,
    };
    let level = match arguments.verbose {
        0 => None,
        1 => Some("debug".to_owned()),
        _ => Some("trace".to_owned()),
    };
    let program = Program { name: "lmtpd", config, remember: Remember::Nothing, delivers: true, level };
    run(program, |config, activation| {
        let service = lmtpd::bind(config, activation)?;
        let advice =
            "there is no [lmtp] section; add one, such as: [lmtp] listen = \"/var/spool/postfix/private/mailsql-lmtp\"";
        Ok(vec![service.with_context(|| format!("{}: {advice}", config.path.display()))?])
    })
}
