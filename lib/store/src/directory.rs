//! Rows become accounts.

use crate::Store;
use crate::query::{Row, Trouble, Value};
use crate::schema::custom_name;
use mailsql_core::account::StoredPassword;
use mailsql_core::{
    Account, Address, AliasDomain, AppPassword, Destinations, Directory, Grant, Lookup, Quota, Unavailable,
};
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
            let rows = self.ask("domain", &[("domain", name.into()), ("key", name.into())]).await?.unwrap_or_default();
            let spelled = rows.first().and_then(|row| row.text("domain").map(Box::<str>::from));
            match spelled.filter(|spelled| spelled.to_lowercase() == name) {
                Some(spelled) => Ok(Some(spelled)),
                None => Ok(self.second_name(name).await?.map(|found| found.name)),
            }
        })
    }

    fn account<'a>(&'a self, address: &'a Address) -> Lookup<'a, Option<Arc<Account>>> {
        Box::pin(async move {
            let rows = self.ask("account", &key(address)).await?.unwrap_or_default();
            one_account(&rows, address)
        })
    }

    fn app_passwords<'a>(&'a self, address: &'a Address) -> Lookup<'a, Arc<[AppPassword]>> {
        Box::pin(async move {
            let rows = self.ask("app_passwords", &key(address)).await?.unwrap_or_default();
            Ok(rows.iter().map(app_password).collect::<Result<_, Trouble>>()?)
        })
    }

    fn alias<'a>(&'a self, address: &'a Address) -> Lookup<'a, Option<Destinations>> {
        Box::pin(async move { Ok(destinations(self.ask("alias", &key(address)).await?, address.as_str())) })
    }

    fn catch_all<'a>(&'a self, domain: &'a str) -> Lookup<'a, Option<Destinations>> {
        Box::pin(async move {
            let rows = self.ask("catch_all", &[("domain", domain.into()), ("key", domain.into())]).await?;
            Ok(destinations(rows, domain))
        })
    }

    fn alias_domains(&self) -> Lookup<'_, Vec<AliasDomain>> {
        Box::pin(async {
            let rows = self.ask("alias_domains", &[]).await?.unwrap_or_default();
            let alias = |row: &Row| Some(AliasDomain { name: filled(row, "domain")?, target: filled(row, "target")? });
            Ok(rows.iter().filter_map(alias).collect())
        })
    }

    fn alias_domain<'a>(&'a self, name: &'a str) -> Lookup<'a, Option<Box<str>>> {
        Box::pin(async move { Ok(self.second_name(name).await?.map(|found| found.target.to_lowercase().into())) })
    }

    fn relay_domains(&self) -> Lookup<'_, Vec<Box<str>>> {
        Box::pin(async {
            let rows = self.ask("relay_domains", &[]).await?.unwrap_or_default();
            Ok(rows.iter().filter_map(|row| filled(row, "domain")).collect())
        })
    }

    fn relay_domain<'a>(&'a self, name: &'a str) -> Lookup<'a, Option<Box<str>>> {
        Box::pin(async move { Ok(self.relay_domains().await?.into_iter().find(|known| known.to_lowercase() == name)) })
    }

    fn relay_recipient<'a>(&'a self, key: &'a str) -> Lookup<'a, Option<Arc<str>>> {
        Box::pin(async move {
            let rows = self.ask("relay_recipient", &parts(key)).await?.unwrap_or_default();
            let found = rows.iter().filter_map(|row| filled(row, "recipient"));
            Ok(found.into_iter().find(|recipient| recipient.to_lowercase() == key).map(Arc::from))
        })
    }

    fn grants<'a>(&'a self, source: &'a str) -> Lookup<'a, Option<Arc<[Grant]>>> {
        Box::pin(async move {
            let rows = self.ask("grants", &parts(source)).await?.unwrap_or_default();
            let mut grants = Vec::new();
            for row in rows.iter().filter(|row| is_meant(row, source)) {
                let allowed = row.int("allowed")?.is_none_or(|flag| flag != 0);
                grants.extend(filled(row, "login").map(|login| Grant { login, allowed }));
            }
            Ok((!grants.is_empty()).then(|| grants.into()))
        })
    }

    fn transport<'a>(&'a self, key: &'a str) -> Lookup<'a, Option<Arc<str>>> {
        Box::pin(async move {
            let rows = self.ask("transport", &parts(key)).await?.unwrap_or_default();
            let found = rows.iter().filter(|row| is_meant(row, key)).find_map(|row| filled(row, "transport"));
            Ok(found.map(Arc::from))
        })
    }

    fn custom<'a>(&'a self, map: &'a str, key: &'a str) -> Lookup<'a, Option<Destinations>> {
        Box::pin(async move {
            let rows = self.ask(&custom_name(map), &parts(key)).await?.unwrap_or_default();
            let values: Vec<Box<str>> = rows.iter().flat_map(Row::texts).filter(|text| !text.is_empty()).collect();
            Ok((!values.is_empty()).then(|| values.into()))
        })
    }
}

impl Store {
    async fn second_name(&self, name: &str) -> Result<Option<AliasDomain>, Unavailable> {
        Ok(self.alias_domains().await?.into_iter().find(|alias| alias.name.to_lowercase() == name))
    }
}

/// The parameters of a key that need not be an address.
fn parts(key: &str) -> [(&'static str, Value); 4] {
    let (local, domain) = key.rsplit_once('@').unwrap_or(("", key));
    [("key", key.into()), ("address", key.into()), ("local", local.into()), ("domain", domain.into())]
}

/// Whether a row is about what was asked for, and not about something that a collation takes for the same.
fn is_meant(row: &Row, asked: &str) -> bool {
    row.text("source")
        .is_none_or(|source| source.trim_start_matches('@').to_lowercase() == asked.trim_start_matches('@'))
}

/// The parameters that name an address.
pub(crate) fn key(address: &Address) -> [(&'static str, Value); 4] {
    let whole = address.as_str();
    [
        ("address", whole.into()),
        ("local", address.local().into()),
        ("domain", address.domain().into()),
        ("key", whole.into()),
    ]
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
        password: row.text("password").map(|text| StoredPassword(text.into())),
        enabled: row.int("enabled")?.is_none_or(|flag| flag != 0),
        receives: row.int("receives")?.is_none_or(|flag| flag != 0),
        expires_at: row.int("expires_at")?,
        password_expires_at: row.int("password_expires_at")?,
        services: words(row, "services"),
        allow_nets: words(row, "allow_nets"),
        has_app_passwords: row.int("app_passwords")?.is_some_and(|count| count != 0),
        maildir: filled(row, "maildir"),
        home: filled(row, "home"),
        uid: small("uid")?,
        gid: small("gid")?,
        quota: Quota { bytes: positive("quota_bytes")?, messages: positive("quota_messages")? },
    })
}

fn app_password(row: &Row) -> Result<AppPassword, Trouble> {
    let text = |column: &str| row.text(column).unwrap_or_default().into_owned().into_boxed_str();
    Ok(AppPassword {
        id: row.int("id")?.ok_or_else(|| Trouble::Broken("an app password has no id".into()))?,
        label: text("label"),
        password: StoredPassword(text("password")),
        services: words(row, "services"),
        allow_nets: words(row, "allow_nets"),
        expires_at: row.int("expires_at")?,
        created_at: row.int("created_at")?,
        last_used_at: row.int("last_used_at")?,
        last_used_from: filled(row, "last_used_from"),
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

fn destinations(rows: Option<Vec<Row>>, asked: &str) -> Option<Destinations> {
    let mine = |row: &&Row| match (row.text("local"), row.text("domain")) {
        (Some(local), Some(domain)) => format!("{local}@{domain}").to_lowercase() == asked,
        _ => is_meant(row, asked),
    };
    let rows = rows?;
    let list: Vec<Box<str>> = rows
        .iter()
        .filter(mine)
        .filter_map(|row| row.text("destination"))
        .flat_map(|text| split_list(&text).map(Box::from).collect::<Vec<Box<str>>>())
        .collect();
    (!list.is_empty()).then(|| list.into())
}

/// Parts a list at its commas and line ends, those within double quotes excepted.
fn split_list(text: &str) -> impl Iterator<Item = &str> {
    let mut quoted = false;
    let mut escaped = false;
    let parts = text.split(move |c| {
        let end = !quoted && matches!(c, ',' | '\n');
        quoted ^= c == '"' && !escaped;
        escaped = quoted && c == '\\' && !escaped;
        end
    });
    parts.map(str::trim).filter(|part| !part.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_of_destinations_is_parted_outside_of_quotes() {
        for (text, expected) in [
            ("a@b.c", &["a@b.c"][..]),
            (" a@b.c , d@e.f,,", &["a@b.c", "d@e.f"]),
            ("a@b.c\nd@e.f", &["a@b.c", "d@e.f"]),
            ("\"a,b\"@c.d,e@f.g", &["\"a,b\"@c.d", "e@f.g"]),
            ("\"a\\\",b\"@c.d,e@f.g", &["\"a\\\",b\"@c.d", "e@f.g"]),
            ("", &[]),
        ] {
            assert_eq!(split_list(text).collect::<Vec<_>>(), expected, "{text}");
        }
    }
}
