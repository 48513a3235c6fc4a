//! `mailsql sender`: who may send as whom. A login may send as its own address and its details, as the aliases that lead
//! to it, and as both in a second name of its domain; rules here add to that, or take from it. Of several rules for one
//! login the closest to the address decides: the address, then `@domain`.

use crate::arguments::Sender;
use crate::outcome::Outcome;
use crate::print;
use crate::site::{Site, address};
use mailsql_core::Address;
use mailsql_core::address::check_domain;
use serde_json::json;
use std::path::Path;

pub(crate) async fn run(config: &Path, verb: Sender) -> Result<(), Outcome> {
    match verb {
        Sender::Allow { login, source } => set(config, &login, &source, true).await,
        Sender::Deny { login, source } => set(config, &login, &source, false).await,
        Sender::Remove { login, source } => {
            let (login, source) = (address(&login)?, check_source(&source)?);
            let site = Site::open_to_write(config)?;
            site.store.remove_grant(&login, &source).await?;
            site.flush(&source);
            print::line(&format!("nothing more is said about {login} and {source}"))
        }
        Sender::List { login, json } => {
            let login = address(&login)?;
            let grants = Site::open(config)?.store.list_grants(&login).await?;
            let word = |allowed| if allowed { "allow" } else { "deny" };
            let rows: Vec<_> = grants
                .iter()
                .map(|grant| vec![json!(grant.login), json!(word(grant.allowed)), json!(grant.address)])
                .collect();
            print::rows(&["login", "rule", "address"], &rows, json)
        }
    }
}

async fn set(config: &Path, login: &str, source: &str, allowed: bool) -> Result<(), Outcome> {
    let (login, source) = (address(login)?, check_source(source)?);
    let site = Site::open_to_write(config)?;
    site.store.set_grant(&login, &source, allowed).await?;
    site.flush(&source);
    print::line(&format!("{login} {} send as {source}", if allowed { "may" } else { "must not" }))
}

/// An address, or `@domain`, as it is stored: in lower case, without quotes.
fn check_source(text: &str) -> Result<String, Outcome> {
    match text.strip_prefix('@') {
        Some(domain) => {
            let domain = check_domain(domain).map_err(|error| Outcome::usage(format!("{text}: {error}")))?;
            Ok(format!("@{}", domain.to_lowercase()))
        }
        None => address(text).map(|address: Address| address.folded().as_str().to_owned()),
    }
}
