//! `mailsql serve`: any set of the daemons in one process, on one database pool and one cache.

mod ask;
mod nss;

use crate::arguments::{Serve, Service};
use crate::outcome::{self, Outcome};
use anyhow::{Result, bail};
use mailsql_config::Config;
use mailsql_daemon::program::{self, Program};
use mailsql_daemon::{Activation, Bound, Remember, run as run_program};
use std::path::Path;
use std::process::ExitCode;

/// Runs the services of the configuration, or those named, until told to end.
pub(crate) fn run(path: &Path, serve: Serve) -> ExitCode {
    let config = match program::configuration("mailsql", path) {
        Ok(config) => config,
        Err(code) => return code,
    };
    let missing: Vec<&str> =
        serve.only.iter().filter(|service| !present(**service, &config)).map(|service| section(*service)).collect();
    if !missing.is_empty() {
        let list = missing.join("], [");
        return outcome::exit(Err(Outcome::usage(format!("{}: there is no section [{list}]", path.display()))));
    }
    let wanted = move |service: Service| serve.only.is_empty() || serve.only.contains(&service);
    let delivers = wanted(Service::Lmtp) && config.lmtp.is_some();
    let program = Program { name: "mailsql", config, remember: Remember::Logins, delivers, level: serve.log };
    run_program(program, move |config, activation| bind(config, activation, wanted))
}

fn bind(config: &Config, activation: &mut Activation, wanted: impl Fn(Service) -> bool) -> Result<Vec<Box<dyn Bound>>> {
    let mut bound = Vec::new();
    if wanted(Service::Ask) {
        bound.extend(ask::bind(config, activation)?);
    }
    if wanted(Service::Nss) {
        bound.extend(nss::bind(config, activation)?);
    }
    if wanted(Service::Saslauthd) {
        bound.extend(saslauthd_rs::bind(config, activation)?);
    }
    if wanted(Service::Auth) {
        bound.extend(dovecot_auth::bind(config, activation)?);
    }
    if wanted(Service::Maps) {
        bound.extend(postfix_maps::bind(config, activation)?);
    }
    if wanted(Service::Policy) {
        bound.extend(policyd::bind(config, activation)?);
    }
    if wanted(Service::Lmtp) {
        bound.extend(lmtpd::bind(config, activation)?);
    }
    if bound.is_empty() {
        bail!(
            "{}: names no service; add [saslauthd], [auth], [maps], [policy], [lmtp], [ask] or [nss]",
            config.path.display()
        );
    }
    // Alone it would have nothing to tell.
    if wanted(Service::Metrics) {
        bound.extend(mailsql_daemon::metrics::bind(config, activation)?);
    }
    Ok(bound)
}

fn section(service: Service) -> &'static str {
    match service {
        Service::Ask => "ask",
        Service::Nss => "nss",
        Service::Saslauthd => "saslauthd",
        Service::Auth => "auth",
        Service::Maps => "maps",
        Service::Policy => "policy",
        Service::Lmtp => "lmtp",
        Service::Metrics => "metrics",
    }
}

fn present(service: Service, config: &Config) -> bool {
    match service {
        Service::Ask => config.ask.is_some(),
        Service::Nss => config.nss.is_some(),
        Service::Saslauthd => config.saslauthd.is_some(),
        Service::Auth => config.auth.is_some(),
        Service::Maps => config.maps.is_some(),
        Service::Policy => config.policy.is_some(),
        Service::Lmtp => config.lmtp.is_some(),
        Service::Metrics => config.metrics.is_some(),
    }
}
