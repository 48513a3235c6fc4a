//! `mailsql domain`.

use crate::arguments::Domain;
use crate::outcome::Outcome;
use crate::password::confirm;
use crate::print;
use crate::site::Site;
use mailsql_core::address::check_domain;
use mailsql_store::DomainRow;
use serde_json::{Value, json};
use std::path::Path;

const COLUMNS: [&str; 3] = ["domain", "enabled", "users"];

pub(crate) async fn run(config: &Path, verb: Domain) -> Result<(), Outcome> {
    match verb {
        Domain::Add { name } => {
            let name = check_domain(&name).map_err(|error| Outcome::usage(format!("{name}: {error}")))?;
            let site = Site::open_to_write(config)?;
            site.store.add_domain(name).await?;
            site.flush(&format!("@{name}"));
            print::line(&format!(
                "{name} added. An smtpd that looked it up before may remember for up to 100 s that it \
                was not there; `postfix reload` ends that"
            ))
        }
        Domain::List { json } => {
            let rows: Vec<_> = Site::open(config)?.store.list_domains().await?.iter().map(row).collect();
            print::rows(&COLUMNS, &rows, json)
        }
        Domain::Show { name, json } => {
            let found = find(&Site::open(config)?, &name).await?;
            print::one(&COLUMNS, &row(&found), json)
        }
        Domain::Remove { name, yes } => {
            let site = Site::open_to_write(config)?;
            let found = find(&site, &name).await?;
            let question = format!("Remove {} with {} accounts and all its aliases?", found.name, found.users);
            confirm(&question, yes)?;
            site.store.remove_domain(&name).await?;
            site.flush(&format!("@{name}"));
            let root = site.config.mail.root.display();
            print::line(&format!("{name} removed; its mail stays in {root}"))
        }
        Domain::Enable { name } => enable(config, &name, true).await,
        Domain::Disable { name } => enable(config, &name, false).await,
    }
}

async fn enable(config: &Path, name: &str, enabled: bool) -> Result<(), Outcome> {
    let site = Site::open_to_write(config)?;
    site.store.enable_domain(name, enabled).await?;
    site.flush(&format!("@{name}"));
    print::line(&format!("{name} {}", if enabled { "enabled" } else { "disabled" }))
}

async fn find(site: &Site, name: &str) -> Result<DomainRow, Outcome> {
    let domains = site.store.list_domains().await?;
    let found = domains.into_iter().find(|domain| domain.name.to_lowercase() == name.to_lowercase());
    found.ok_or_else(|| Outcome::no(format!("{name} does not exist")))
}

fn row(domain: &DomainRow) -> Vec<Value> {
    vec![json!(domain.name), json!(domain.enabled), json!(domain.users)]
}
