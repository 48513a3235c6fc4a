//! `mailsql alias`.

use crate::arguments::Alias;
use crate::outcome::Outcome;
use crate::print;
use crate::site::{Site, address};
use mailsql_core::Directory;
use mailsql_core::address::check_domain;
use mailsql_core::resolve::{self, Rules};
use serde_json::json;
use std::path::Path;

pub(crate) async fn run(config: &Path, verb: Alias) -> Result<(), Outcome> {
    match verb {
        Alias::Add { source, destination } => {
            let (local, domain) = split(&source)?;
            let to = check_destination(&destination)?;
            let site = Site::open_to_write(config)?;
            if let Some(target) = to.strip_prefix('@').filter(|_| local.is_empty()) {
                site.store.add_alias_domain(&domain, target).await?;
                site.flush(&source);
                return print::line(&format!("{domain} is a second name of {target}"));
            }
            site.store.add_alias(&local, &domain, &to).await?;
            site.flush(&source);
            print::line(&format!("{source} goes to {to}"))?;
            warn_of_loops(&site, &source).await
        }
        Alias::List { json } => {
            let store = Site::open(config)?.store;
            let second = store.alias_domains().await?;
            let second = second
                .iter()
                .map(|alias| vec![json!(format!("@{}", alias.name)), json!(format!("@{}", alias.target)), json!(true)]);
            let aliases = store.list_aliases().await?;
            let aliases =
                aliases.iter().map(|alias| vec![json!(alias.source), json!(alias.destination), json!(alias.enabled)]);
            let rows: Vec<_> = second.chain(aliases).collect();
            print::rows(&["source", "destination", "enabled"], &rows, json)
        }
        Alias::Remove { source, destination } => {
            let (local, domain) = split(&source)?;
            let site = Site::open_to_write(config)?;
            if let Some(target) = destination.strip_prefix('@').filter(|_| local.is_empty()) {
                site.store.remove_alias_domain(&domain, target).await?;
                site.flush(&source);
                return print::line(&format!("{domain} is no longer a second name of {target}"));
            }
            site.store.remove_alias(&local, &domain, &destination).await?;
            site.flush(&source);
            print::line(&format!("{source} no longer goes to {destination}"))
        }
    }
}

/// Says what Postfix would stumble over. What was asked for is done all the same: the next command may put it right.
#[expect(clippy::print_stderr, reason = "a warning beside the verb's own output")]
async fn warn_of_loops(site: &Site, source: &str) -> Result<(), Outcome> {
    let Ok(address) = address(source) else { return Ok(()) };
    let rules = Rules { delimiters: site.config.mail.recipient_delimiter.as_str().into() };
    for problem in resolve::expand(&site.store, &address, &rules).await?.problems {
        eprintln!("mailsql: {source}: {problem}; Postfix will defer mail for it");
    }
    Ok(())
}

/// An address, or `@domain` for a catch-all.
fn split(source: &str) -> Result<(String, String), Outcome> {
    match source.strip_prefix('@') {
        Some(domain) => {
            let domain = check_domain(domain).map_err(|error| Outcome::usage(format!("{source}: {error}")))?;
            Ok((String::new(), domain.to_owned()))
        }
        None => address(source).map(|address| (address.local().to_owned(), address.domain().to_owned())),
    }
}

/// An address, or `@domain` to keep the local part.
fn check_destination(text: &str) -> Result<String, Outcome> {
    match text.strip_prefix('@') {
        Some(domain) => {
            check_domain(domain).map_err(|error| Outcome::usage(format!("{text}: {error}")))?;
            Ok(text.to_owned())
        }
        None => address(text).map(|address| address.to_string()),
    }
}
