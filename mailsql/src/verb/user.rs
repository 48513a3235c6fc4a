//! `mailsql user`.

use crate::arguments::User;
use crate::outcome::Outcome;
use crate::password::{confirm, read_new};
use crate::print;
use crate::site::{Site, address};
use mailsql_core::{Account, Address, Directory, Quota};
use serde_json::{Value, json};
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

const COLUMNS: [&str; 6] = ["address", "enabled", "scheme", "quota_bytes", "quota_messages", "maildir"];
/// What `show` tells beyond a line of `list`.
const DETAILS: [&str; 6] =
    ["expires_at", "password_expires_at", "services", "allow_nets", "password_is_weak", "app_passwords"];

pub(crate) async fn run(config: &Path, verb: User) -> Result<(), Outcome> {
    match verb {
        User::Add { address: text, password_stdin } => {
            let address = address(&text)?;
            let site = Site::open_to_write(config)?;
            // Before the password is asked for: nobody types one for nothing.
            if site.store.account(&address.folded()).await?.is_some() {
                return Err(Outcome::no(format!("{address} exists already")));
            }
            let hash = new_hash(&site, password_stdin)?;
            site.store.add_user(&address, &hash).await?;
            site.flush(address.as_str());
            print::line(&format!("{address} added"))
        }
        User::List { domain, json } => {
            let site = Site::open(config)?;
            let users = site.store.list_users().await?;
            let wanted = domain.map(|domain| domain.to_lowercase());
            let mine =
                |user: &&Account| wanted.as_ref().is_none_or(|domain| user.address.domain().to_lowercase() == *domain);
            let rows: Vec<_> = users.iter().filter(mine).map(|user| row(&site, user)).collect();
            print::rows(&COLUMNS, &rows, json)
        }
        User::Show { address: text, json } => {
            let site = Site::open(config)?;
            let account = find(&site, &address(&text)?).await?;
            let names: Vec<&str> = COLUMNS.iter().chain(&DETAILS).copied().collect();
            let values: Vec<Value> = row(&site, &account).into_iter().chain(details(&site, &account).await?).collect();
            print::one(&names, &values, json)
        }
        User::Passwd { address: text, password_stdin, expire } => {
            let address = address(&text)?;
            let site = Site::open_to_write(config)?;
            find(&site, &address).await?;
            if expire {
                site.store.expire_password(&address, Some(now())).await?;
                site.flush(address.as_str());
                return print::line(&format!("password of {address} expired"));
            }
            let hash = new_hash(&site, password_stdin)?;
            site.store.set_password(&address, &hash).await?;
            site.flush(address.as_str());
            print::line(&format!("password of {address} changed"))
        }
        User::Remove { address: text, yes } => {
            let address = address(&text)?;
            let site = Site::open_to_write(config)?;
            let account = find(&site, &address).await?;
            confirm(&format!("Remove {}?", account.address), yes)?;
            site.store.remove_user(&address).await?;
            site.flush(address.as_str());
            let folder = site.config.mail.root.join(folder(&site, &account));
            print::line(&format!("{address} removed; its mail stays in {}", folder.display()))
        }
        User::AppPassword { verb } => super::app_password::run(config, verb).await,
        User::Enable { address: text } => enable(config, &address(&text)?, true).await,
        User::Disable { address: text } => enable(config, &address(&text)?, false).await,
        User::Quota { address: text, bytes, messages } => {
            let address = address(&text)?;
            let site = Site::open_to_write(config)?;
            let limit = |number: u64| (number > 0).then_some(number);
            site.store.set_quota(&address, Quota { bytes: limit(bytes.0), messages: limit(messages) }).await?;
            site.flush(address.as_str());
            print::line(&format!("quota of {address} set"))
        }
    }
}

async fn enable(config: &Path, address: &Address, enabled: bool) -> Result<(), Outcome> {
    let site = Site::open_to_write(config)?;
    site.store.enable_user(address, enabled).await?;
    site.flush(address.as_str());
    print::line(&format!("{address} {}", if enabled { "enabled" } else { "disabled" }))
}

async fn details(site: &Site, account: &Account) -> Result<Vec<Value>, Outcome> {
    let (_, kind) = mailsql_daemon::policy(&site.config).map_err(|error| Outcome::usage(format!("{error:#}")))?;
    let weak = account.password.as_ref().is_some_and(|stored| mailsql_password::weaker_than(&stored.0, &kind));
    let apps = site.store.app_passwords(&account.address.folded()).await?;
    let list = |words: &Option<Vec<Box<str>>>| json!(words.as_ref().map(|words| words.join(",")));
    Ok(vec![
        json!(account.expires_at.map(print::moment)),
        json!(account.password_expires_at.map(print::moment)),
        list(&account.services),
        list(&account.allow_nets),
        json!(weak),
        json!(apps.len()),
    ])
}

pub(crate) async fn find(site: &Site, address: &Address) -> Result<Account, Outcome> {
    let found = site.store.account(&address.folded()).await?;
    found.map(|account| (*account).clone()).ok_or_else(|| Outcome::no(format!("{address} does not exist")))
}

fn new_hash(site: &Site, from_stdin: bool) -> Result<String, Outcome> {
    let password = read_new(from_stdin)?;
    let (_, kind) = mailsql_daemon::policy(&site.config).map_err(|error| Outcome::usage(format!("{error:#}")))?;
    mailsql_password::create(password.as_bytes(), &kind, &mut mailsql_password::os_random)
        .map_err(|refused| Outcome::usage(refused.to_string()))
}

fn folder(site: &Site, account: &Account) -> String {
    match &account.maildir {
        Some(maildir) => maildir.to_string(),
        None => site.config.mail.maildir_of(account.address.local(), account.address.domain()),
    }
}

fn row(site: &Site, account: &Account) -> Vec<Value> {
    let scheme = account.password.as_ref().and_then(|stored| mailsql_password::detect(&stored.0));
    vec![
        json!(account.address.as_str()),
        json!(!account.closed(now())),
        json!(scheme.map(|scheme| scheme.to_string())),
        json!(account.quota.bytes),
        json!(account.quota.messages),
        json!(folder(site, account)),
    ]
}

pub(crate) fn now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |age| i64::try_from(age.as_secs()).unwrap_or(i64::MAX))
}
