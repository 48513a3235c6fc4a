//! `mailsql pw report`: which schemes the stored passwords are in, and how far their upgrade has come. No hash is shown.

use crate::arguments::Pw;
use crate::outcome::Outcome;
use crate::print;
use crate::site::Site;
use mailsql_config::Upgrade;
use mailsql_core::Account;
use mailsql_password::{NewHash, Policy, Scheme};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::Path;

/// Accounts whose stored password is of one kind.
#[derive(Default)]
struct Kind {
    accounts: u64,
    to_upgrade: u64,
    refused: bool,
}

pub(crate) async fn run(config: &Path, verb: Pw) -> Result<(), Outcome> {
    let Pw::Report { json } = verb;
    let site = Site::open(config)?;
    let (policy, new) = mailsql_daemon::policy(&site.config).map_err(|error| Outcome::usage(format!("{error:#}")))?;
    let accounts = site.store.list_users().await?;
    let kinds = kinds(&accounts, &policy, &new);
    let total = accounts.len() as u64;
    let to_upgrade: u64 = kinds.values().map(|kind| kind.to_upgrade).sum();
    let upgrade = match site.config.passwords.upgrade {
        Upgrade::On => "on",
        Upgrade::DryRun => "dry-run",
        Upgrade::Off => "off",
    };
    if json {
        let schemes: Vec<Value> = kinds
            .iter()
            .map(|(name, kind)| {
                json!({ "scheme": name, "accounts": kind.accounts, "to_upgrade": kind.to_upgrade,
                        "may_log_in": !kind.refused })
            })
            .collect();
        let report = json!({ "accounts": total, "new_scheme": new.scheme().name(), "upgrade": upgrade,
                             "to_upgrade": to_upgrade, "schemes": schemes });
        return print::line(&format!("{report:#}"));
    }
    let rows: Vec<Vec<Value>> = kinds
        .iter()
        .map(|(name, kind)| vec![json!(name), json!(kind.accounts), json!(kind.to_upgrade), json!(!kind.refused)])
        .collect();
    print::rows(&["scheme", "accounts", "to_upgrade", "may_log_in"], &rows, false)?;
    let done = ((total - to_upgrade) * 100).checked_div(total).unwrap_or(100);
    print::line(&format!(
        "\n{total} accounts; {to_upgrade} weaker than {}; upgrade at login is {upgrade}; {done} % done",
        new.scheme()
    ))
}

fn kinds(accounts: &[Account], policy: &Policy, new: &NewHash) -> BTreeMap<&'static str, Kind> {
    let mut kinds: BTreeMap<&'static str, Kind> = BTreeMap::new();
    for account in accounts {
        let stored = account.password.as_ref().map(|stored| &*stored.0);
        let scheme = stored.and_then(mailsql_password::detect).or(match stored {
            Some(stored) if !mailsql_password::is_locked(stored) => policy.default_scheme,
            _ => None,
        });
        let name = match (stored, scheme) {
            (_, Some(scheme)) => scheme.name(),
            (None, None) => "none",
            (Some(stored), None) if mailsql_password::is_locked(stored) => "locked",
            (Some(_), None) => "unknown",
        };
        let kind = kinds.entry(name).or_default();
        kind.accounts += 1;
        kind.to_upgrade += u64::from(stored.is_some_and(|stored| mailsql_password::weaker_than(stored, new)));
        kind.refused = !scheme.is_some_and(|scheme: Scheme| !scheme.weak() || policy.allow_weak.contains(scheme));
    }
    kinds
}

#[cfg(test)]
mod tests {
    use super::*;
    use mailsql_core::Address;

    #[test]
    fn stored_passwords_are_counted_by_kind() {
        let account =
            |stored: Option<&str>| Account::new(Address::parse("a@b.c").unwrap(), stored.map(|stored| stored.into()));
        let accounts = [
            account(Some("{SSHA}YOHcW8wTgm6p2YKC/iXtqAV/rewBAgME")),
            account(Some("{SSHA}YOHcW8wTgm6p2YKC/iXtqAV/rewBAgME")),
            account(Some("$1$saltsalt$OyXC9FXr8eb5V.bRM2.j30")),
            account(Some("{PLAIN-MD5}49472fdc24a8d08deac578323659f843")),
            account(Some("$6$saltsaltsaltsalt$x")),
            account(Some("!")),
            account(None),
        ];
        let kinds = kinds(&accounts, &Policy::default(), &NewHash::default());
        let told: Vec<_> =
            kinds.iter().map(|(name, kind)| (*name, kind.accounts, kind.to_upgrade, kind.refused)).collect();
        assert_eq!(
            told,
            [
                ("locked", 1, 0, true),
                ("md5-crypt", 1, 1, false),
                ("none", 1, 0, true),
                ("plain-md5", 1, 1, true),
                ("sha512-crypt", 1, 0, false),
                ("ssha", 2, 2, false),
            ]
        );
    }
}
