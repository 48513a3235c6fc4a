//! mailsql: accounts for Postfix and Dovecot from one database. Set up, serve, explain.
#![forbid(unsafe_code)]

mod arguments;
mod flush;
mod outcome;
mod password;
mod print;
mod serve;
mod site;
mod verb;

use arguments::{Arguments, Verb};
use clap::Parser;
use outcome::Outcome;
use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let config = arguments.config;
    let outcome = match arguments.verb {
        // A daemon starts its own runtime, after it has dropped its privileges.
        Verb::Serve(serve) => return serve::run(&config, serve),
        Verb::Demo => verb::demo::run(),
        Verb::PrintConfig(what) => verb::print_config::run(&config, &what),
        verb => match tokio::runtime::Builder::new_current_thread().enable_all().build() {
            Ok(runtime) => runtime.block_on(dispatch(verb, &config)),
            Err(error) => Err(Outcome::temporary(error.to_string())),
        },
    };
    outcome::exit(outcome)
}

async fn dispatch(verb: Verb, config: &std::path::Path) -> Result<(), Outcome> {
    match verb {
        Verb::Init(init) => verb::init::run(config, init).await,
        Verb::Domain { verb } => verb::domain::run(config, verb).await,
        Verb::User { verb } => verb::user::run(config, verb).await,
        Verb::Alias { verb } => verb::alias::run(config, verb).await,
        Verb::Sender { verb } => verb::sender::run(config, verb).await,
        Verb::Check(check) => verb::check::run(config, check).await,
        Verb::Db { verb } => verb::db::run(config, verb).await,
        Verb::Cache { verb } => verb::cache::run(config, verb),
        Verb::Limits { verb } => verb::limits::run(config, verb),
        Verb::Explain { verb } => verb::explain::run(config, verb).await,
        Verb::Pw { verb } => verb::pw::run(config, verb).await,
        Verb::Serve(_) | Verb::Demo | Verb::PrintConfig(_) => Ok(()),
    }
}
