//! Rows become accounts.

use crate::Store;
use crate::query::{Row, Trouble, Value};
use mailsql_core::{Account, Address, Directory, Lookup, Quota, Unavailable};
use std::sync::Arc;

impl Directory for Store {
    fn domains(&self) -> Lookup<'_, Vec<Box<str>>> {
        Box::pin(async {
            let rows = self.ask("domains", &[]).await?.unwrap_or_default();
            Ok(rows.iter().filter_map(|row| row.text("domain").map(Box::from)).collect())
        })
    }

    fn domain<'a>(&'a self, name: &'a str) -> Lookup<'a, Option<Box<str>>> {
        Box::pin(async move {
            let rows = self.ask("domain", &[("domain", name.into())]).await?.unwrap_or_default();
            let spelled = rows.first().and_then(|row| row.text("domain").map(Box::<str>::from));
            Ok(spelled.filter(|spelled| spelled.to_lowercase() == name))
        })
    }

    fn account<'a>(&'a self, address: &'a Address) -> Lookup<'a, Option<Arc<Account>>> {
        Box::pin(async move {
            let rows = self.ask("account", &key(address)).await?.unwrap_or_default();
            one_account(&rows, address)
        })
    }

    fn alias<'a>(&'a self, address: &'a Address) -> Lookup<'a, Option<Arc<[Box<str>]>>> {
        Box::pin(async move { Ok(destinations(self.ask("alias", &key(address)).await?, Some(address))) })
    }

    fn catch_all<'a>(&'a self, domain: &'a str) -> Lookup<'a, Option<Arc<[Box<str>]>>> {
        Box::pin(async move { Ok(destinations(self.ask("catch_all", &[("domain", domain.into())]).await?, None)) })
    }
}

/// The parameters that name an address.
pub(crate) fn key(address: &Address) -> [(&'static str, Value); 3] {
    [("address", address.as_str().into()), ("local", address.local().into()), ("domain", address.domain().into())]
}

fn one_account(rows: &[Row], asked: &Address) -> Result<Option<Arc<Account>>, Unavailable> {
    let mut found = None;
    for row in rows {
        let account = account(row)?;
        // A collation may take other texts for equal: accents, trailing spaces. Then it is somebody else.
        if !account.address.matches(asked) {
            continue;
        }
        if found.is_some() {
            return Err(Unavailable::new(format!("two accounts are called {asked}; remove one of them")));
        }
        found = Some(Arc::new(account));
    }
    Ok(found)
}

pub(crate) fn account(row: &Row) -> Result<Account, Trouble> {
    let address = match (row.text("local"), row.text("domain"), row.text("address")) {
        (Some(local), Some(domain), _) => Address::new(&local, &domain),
        (_, _, Some(address)) => Address::parse(&address),
        _ => return Err(Trouble::Broken("the account query has neither local and domain nor address".into())),
    };
    let address = address.map_err(|error| Trouble::Broken(format!("an account's address cannot be used: {error}")))?;
    let positive = |column| row.int(column).map(|number| number.and_then(|n| u64::try_from(n).ok()).filter(|n| *n > 0));
    let small = |column| row.int(column).map(|number| number.and_then(|n| u32::try_from(n).ok()));
    Ok(Account {
        address,
        password: row.text("password").map(|text| mailsql_core::account::StoredPassword(text.into())),
        enabled: row.int("enabled")?.is_none_or(|flag| flag != 0),
        expires_at: row.int("expires_at")?,
        password_expires_at: row.int("password_expires_at")?,
        services: words(row, "services"),
        allow_nets: words(row, "allow_nets"),
        maildir: filled(row, "maildir"),
        home: filled(row, "home"),
        uid: small("uid")?,
        gid: small("gid")?,
        quota: Quota { bytes: positive("quota_bytes")?, messages: positive("quota_messages")? },
    })
}

fn filled(row: &Row, column: &str) -> Option<Box<str>> {
    row.text(column).filter(|text| !text.trim().is_empty()).map(|text| text.trim().into())
}

/// A list separated by commas or blanks; `None` where it is empty or absent.
fn words(row: &Row, column: &str) -> Option<Vec<Box<str>>> {
    let text = filled(row, column)?;
    Some(text.split([',', ' ']).filter(|word| !word.is_empty()).map(Box::from).collect())
}

fn destinations(rows: Option<Vec<Row>>, asked: Option<&Address>) -> Option<Arc<[Box<str>]>> {
    let mine = |row: &&Row| match (asked, row.text("local"), row.text("domain")) {
        (Some(asked), Some(local), Some(domain)) => {
            Address::new(&local, &domain).is_ok_and(|address| address.matches(asked))
        }
        _ => true,
    };
    let rows = rows?;
    let list: Vec<Box<str>> = rows
        .iter()
        .filter(mine)
        .filter_map(|row| row.text("destination"))
        .flat_map(|text| text.split(',').map(|to| Box::from(to.trim())).collect::<Vec<Box<str>>>())
        .filter(|to| !to.is_empty())
        .collect();
    (!list.is_empty()).then(|| list.into())
}
