//! `mailsql alias`.

use crate::arguments::Alias;
use crate::outcome::Outcome;
use crate::print;
use crate::site::{Site, address};
use mailsql_core::address::check_domain;
use serde_json::json;
use std::path::Path;

pub(crate) async fn run(config: &Path, verb: Alias) -> Result<(), Outcome> {
    match verb {
        Alias::Add { source, destination } => {
            let (local, domain) = split(&source)?;
            let to = check_destination(&destination)?;
            let site = Site::open_to_write(config)?;
            site.store.add_alias(&local, &domain, &to).await?;
            site.flush(&source);
            print::line(&format!("{source} goes to {to}"))
        }
        Alias::List { json } => {
            let aliases = Site::open(config)?.store.list_aliases().await?;
            let rows: Vec<_> = aliases
                .iter()
                .map(|alias| vec![json!(alias.source), json!(alias.destination), json!(alias.enabled)])
                .collect();
            print::rows(&["source", "destination", "enabled"], &rows, json)
        }
        Alias::Remove { source, destination } => {
            let (local, domain) = split(&source)?;
            let site = Site::open_to_write(config)?;
            site.store.remove_alias(&local, &domain, &destination).await?;
            site.flush(&source);
            print::line(&format!("{source} no longer goes to {destination}"))
        }
    }
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
