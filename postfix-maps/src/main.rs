//! postfix-maps: Postfix lookup tables on the mailsql account database.
#![forbid(unsafe_code)]

use clap::Parser;
use mailsql_config::DEFAULT_PATH;
use mailsql_daemon::program::{self, Program};
use mailsql_daemon::{Remember, run};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::PathBuf;
use std::process::ExitCode;

/// Answer Postfix's lookups (socketmap_table(5), tcp_table(5)): domains, mailboxes, aliases, senders, transports,
/// relay_domains, relay_recipients, local_recipients, and maps of your own.
#[derive(Parser)]
#[command(name = "postfix-maps", version)]
struct Arguments {
    /// Configuration file
    #[arg(long, value_name = "FILE", env = "MAILSQL_CONFIG", default_value = DEFAULT_PATH)]
    config: PathBuf,
    /// Serve the one client on standard input, for spawn(8)
    #[arg(long)]
    stdin: bool,
    /// With --stdin: speak tcp_table(5) for this map instead of socketmap
    #[arg(long, value_name = "MAP", requires = "stdin")]
    tcp_table: Option<String>,
    /// Log every lookup
    #[arg(short = 'v', long)]
    verbose: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let mut config = match program::configuration("postfix-maps", &arguments.config) {
        Ok(config) => config,
        Err(code) => return code,
    };
    config.maps.get_or_insert_default();
    let mut level = arguments.verbose.then(|| "debug".to_owned());
    if arguments.stdin && is_errors_client() {
        level = Some("off".to_owned());
    }
    let remember = Remember::Logins;
    let (stdin, tcp_table) = (arguments.stdin, arguments.tcp_table);
    run(Program { name: "postfix-maps", config, remember, delivers: false, level }, |config, activation| {
        if stdin {
            return Ok(vec![postfix_maps::bind_stdin(config, tcp_table.as_deref())?]);
        }
        Ok(postfix_maps::bind(config, activation)?.into_iter().collect())
    })
}

/// Whether standard error leads to the client, as spawn(8) leaves it: a log line there would be part of an answer.
/// Postfix logs the reasons of temporary answers itself.
fn is_errors_client() -> bool {
    let place = |fd: BorrowedFd<'_>| {
        let meta = std::fs::File::from(fd.try_clone_to_owned()?).metadata()?;
        std::io::Result::Ok((meta.dev(), meta.ino(), meta.file_type().is_socket()))
    };
    match (place(std::io::stdin().as_fd()), place(std::io::stderr().as_fd())) {
        (Ok(input), Ok(errors)) => input == errors && input.2,
        _ => false,
    }
}
