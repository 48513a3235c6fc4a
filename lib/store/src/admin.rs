//! What changes the database: the verbs of the command, and password changes.

use crate::Store;
use crate::directory::{account, key};
use crate::query::{Row, Trouble, Value};
use crate::schema::{CUSTOM, Schema};
use crate::store::Driver;
use mailsql_core::{Account, Address, Quota, Unavailable};

/// Why a change was not made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WriteError {
    /// The database cannot be asked now.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
    /// What was to be made is there already.
    #[error("{0} exists already")]
    Exists(String),
    /// What was to be changed is not there.
    #[error("{0} does not exist{1}")]
    Missing(String, &'static str),
    /// The database has no column for it yet.
    #[error("this database has no {0} yet; `mailsql db migrate` adds it")]
    NotMigrated(String),
    /// Our account on the database may not.
    #[error("{0}; set [database] admin_url to an account that may write")]
    Denied(String),
    /// This schema belongs to another program.
    #[error("the database of {0} is not written to{1}")]
    ReadOnly(String, &'static str),
}

/// What a step of `init` or `migrate` did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Done {
    /// What was added.
    pub provides: String,
}

/// A domain in a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DomainRow {
    /// Its name.
    pub name: String,
    /// Whether it is switched on.
    pub enabled: bool,
    /// Accounts in it.
    pub users: u64,
}

/// An alias in a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AliasRow {
    /// The address, or `@domain` for a catch-all.
    pub source: String,
    /// Where its mail goes.
    pub destination: String,
    /// Whether it is switched on.
    pub enabled: bool,
}

/// Who may, or must not, send as an address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GrantRow {
    /// The login.
    pub login: String,
    /// The address, or `@domain` for all of a domain.
    pub address: String,
    /// Whether it may.
    pub allowed: bool,
}

/// An app password to be added.
#[derive(Debug, Clone, Copy)]
pub struct NewAppPassword<'a> {
    /// What it is for.
    pub label: &'a str,
    /// Its hash.
    pub hash: &'a str,
    /// Services that it is good for; none for all.
    pub services: &'a [String],
    /// Networks from which it is good; none for everywhere.
    pub allow_nets: &'a [String],
    /// When it ends (seconds since 1970), if it does.
    pub expires_at: Option<i64>,
    /// Now (seconds since 1970).
    pub created_at: i64,
}

impl Store {
    /// The schemas that this database is one of: their names, best first. Empty for a database without any.
    ///
    /// # Errors
    /// [`Unavailable`]; [`WriteError::Denied`] does not happen.
    pub async fn recognise(&self) -> Result<Vec<Schema>, Unavailable> {
        let inventory = self.inventory().await?;
        let known = Schema::all().map_err(Unavailable::new)?;
        Ok(known.into_iter().filter(|schema| schema.recognises(&inventory)).collect())
    }

    /// Whether the database has no table at all.
    ///
    /// # Errors
    /// [`Unavailable`].
    pub async fn is_empty(&self) -> Result<bool, Unavailable> {
        // SQLite's inventory names a procedure that it never misses.
        Ok(self.inventory().await?.iter().all(|name| name.starts_with("procedure ")))
    }

    /// Makes the database file where it is SQLite and missing.
    ///
    /// # Errors
    /// [`WriteError`].
    pub async fn create_file(&self) -> Result<(), WriteError> {
        match &self.driver {
            Driver::Sqlite(sqlite) => sqlite.create().await.map_err(write_error),
            Driver::Mysql(_) => Ok(()),
        }
    }

    /// Whether the tables of the schema are there already.
    ///
    /// # Errors
    /// [`Unavailable`].
    pub async fn is_set_up(&self) -> Result<bool, Unavailable> {
        let inventory = self.inventory().await?;
        Ok(self.schema.name == CUSTOM || self.schema.recognises(&inventory))
    }

    /// Makes the document's tables and what is added to them, as far as they are missing.
    ///
    /// # Errors
    /// [`WriteError`].
    pub async fn create(&self) -> Result<Vec<Done>, WriteError> {
        let mut done = self.steps(true).await?;
        done.extend(self.steps(false).await?);
        Ok(done)
    }

    /// Adds what later features need, as far as it is missing.
    ///
    /// # Errors
    /// [`WriteError`].
    pub async fn migrate(&self) -> Result<Vec<Done>, WriteError> {
        self.steps(false).await
    }

    /// What [`Self::migrate`] would add.
    ///
    /// # Errors
    /// [`Unavailable`].
    pub async fn missing(&self) -> Result<Vec<String>, Unavailable> {
        let inventory = self.inventory().await?;
        let steps = self.schema.migrate.iter().filter(|step| !inventory.contains(&step.provides));
        Ok(steps.map(|step| step.provides.clone()).collect())
    }

    async fn steps(&self, create: bool) -> Result<Vec<Done>, WriteError> {
        self.check_writes("")?;
        let inventory = self.inventory().await.map_err(write_error)?;
        let mut done = Vec::new();
        for step in if create { &self.schema.create } else { &self.schema.migrate } {
            if !inventory.contains(&step.provides) && self.define(step).await.map_err(write_error)? {
                done.push(Done { provides: step.provides.clone() });
            }
        }
        self.inventory().await.map_err(write_error)?;
        Ok(done)
    }

    /// All domains.
    ///
    /// # Errors
    /// [`Unavailable`].
    pub async fn list_domains(&self) -> Result<Vec<DomainRow>, Unavailable> {
        let rows = self.ask("list_domains", &[]).await?.unwrap_or_default();
        rows.iter()
            .map(|row| {
                Ok(DomainRow {
                    name: row.text("domain").unwrap_or_default().into_owned(),
                    enabled: row.int("enabled")?.is_none_or(|flag| flag != 0),
                    users: row.int("users")?.and_then(|n| u64::try_from(n).ok()).unwrap_or(0),
                })
            })
            .collect()
    }

    /// All accounts, in the order of their addresses.
    ///
    /// # Errors
    /// [`Unavailable`].
    pub async fn list_users(&self) -> Result<Vec<Account>, Unavailable> {
        let rows = self.ask("list_users", &[]).await?.unwrap_or_default();
        rows.iter().map(|row| account(row).map_err(Unavailable::from)).collect()
    }

    /// All aliases.
    ///
    /// # Errors
    /// [`Unavailable`].
    pub async fn list_aliases(&self) -> Result<Vec<AliasRow>, Unavailable> {
        let rows = self.ask("list_aliases", &[]).await?.unwrap_or_default();
        rows.iter()
            .map(|row| {
                let parts = || {
                    let domain = row.text("domain").unwrap_or_default();
                    format!("{}@{domain}", row.text("local").unwrap_or_default())
                };
                Ok(AliasRow {
                    source: row.text("source").map_or_else(parts, std::borrow::Cow::into_owned),
                    destination: row.text("destination").unwrap_or_default().into_owned(),
                    enabled: row.int("enabled")?.is_none_or(|flag| flag != 0),
                })
            })
            .collect()
    }

    /// Adds a domain.
    ///
    /// # Errors
    /// [`WriteError`].
    pub async fn add_domain(&self, name: &str) -> Result<(), WriteError> {
        self.write("add_domain", &[("domain", name.into())], name, "").await
    }

    /// Removes a domain with its accounts and aliases. Mail stays where it is.
    ///
    /// # Errors
    /// [`WriteError`].
    pub async fn remove_domain(&self, name: &str) -> Result<(), WriteError> {
        self.write("remove_domain", &[("domain", name.into())], name, "").await
    }

    /// Switches a domain on or off.
    ///
    /// # Errors
    /// [`WriteError`].
    pub async fn enable_domain(&self, name: &str, enabled: bool) -> Result<(), WriteError> {
        let given = [("domain", name.into()), ("enabled", Value::Int(enabled.into()))];
        self.write("enable_domain", &given, name, "").await
    }

    /// Adds an account with a password hash. Its domain must be there.
    ///
    /// # Errors
    /// [`WriteError`].
    pub async fn add_user(&self, address: &Address, hash: &str) -> Result<(), WriteError> {
        let given = with(address, ("password", hash.into()));
        let done = self.write("add_user", &given, address.as_str(), "").await;
        match done {
            Err(WriteError::Missing(..)) => {
                Err(WriteError::Missing(format!("domain {}", address.domain()), "; `mailsql domain add` it first"))
            }
            done => done,
        }
    }

    /// Removes an account. Mail stays where it is.
    ///
    /// # Errors
    /// [`WriteError`].
    pub async fn remove_user(&self, address: &Address) -> Result<(), WriteError> {
        self.write("remove_user", &key(address), address.as_str(), "").await
    }

    /// Switches an account on or off.
    ///
    /// # Errors
    /// [`WriteError`].
    pub async fn enable_user(&self, address: &Address, enabled: bool) -> Result<(), WriteError> {
        let given = with(address, ("enabled", Value::Int(enabled.into())));
        self.write("enable_user", &given, address.as_str(), "").await
    }

    /// Sets a password hash, and ends the password's expiry.
    ///
    /// # Errors
    /// [`WriteError`].
    pub async fn set_password(&self, address: &Address, hash: &str) -> Result<(), WriteError> {
        self.write("set_password", &with(address, ("password", hash.into())), address.as_str(), "").await
    }

    /// Sets a password hash if the stored one is still `old`; says whether it was.
    ///
    /// # Errors
    /// [`WriteError`].
    pub async fn replace_password(&self, address: &Address, old: &str, hash: &str) -> Result<bool, WriteError> {
        let mut given = key(address).to_vec();
        given.extend([("password", hash.into()), ("old_password", old.into())]);
        match self.write("replace_password", &given, address.as_str(), "").await {
            Ok(()) => Ok(true),
            Err(WriteError::Missing(..)) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Adds an app password with its hash; its label is new to the account.
    ///
    /// # Errors
    /// [`WriteError`].
    pub async fn add_app_password(&self, address: &Address, new: &NewAppPassword<'_>) -> Result<(), WriteError> {
        let list = |words: &[String]| match words {
            [] => Value::Null,
            words => words.join(",").as_str().into(),
        };
        let mut given = key(address).to_vec();
        given.extend([
            ("label", new.label.into()),
            ("password", new.hash.into()),
            ("services", list(new.services)),
            ("allow_nets", list(new.allow_nets)),
            ("expires_at", new.expires_at.into()),
            ("created_at", Value::Int(new.created_at)),
        ]);
        let what = format!("app password \"{}\" of {address}", new.label);
        match self.write("add_app_password", &given, &what, "").await {
            Err(WriteError::Missing(..)) => Err(WriteError::Missing(address.to_string(), "")),
            done => done,
        }
    }

    /// Removes an app password by its label.
    ///
    /// # Errors
    /// [`WriteError`].
    pub async fn remove_app_password(&self, address: &Address, label: &str) -> Result<(), WriteError> {
        let what = format!("app password \"{label}\" of {address}");
        self.write("remove_app_password", &with(address, ("label", label.into())), &what, "").await
    }

    /// Sets the moment from which the password must be changed (seconds since 1970), or none.
    ///
    /// # Errors
    /// [`WriteError`].
    pub async fn expire_password(&self, address: &Address, at: Option<i64>) -> Result<(), WriteError> {
        self.write("expire_password", &with(address, ("expires_at", at.into())), address.as_str(), "").await
    }

    /// Sets the moment from which the account is closed (seconds since 1970), or none.
    ///
    /// # Errors
    /// [`WriteError`].
    pub async fn expire_user(&self, address: &Address, at: Option<i64>) -> Result<(), WriteError> {
        self.write("expire_user", &with(address, ("expires_at", at.into())), address.as_str(), "").await
    }

    /// Sets an account's quota.
    ///
    /// # Errors
    /// [`WriteError`].
    pub async fn set_quota(&self, address: &Address, quota: Quota) -> Result<(), WriteError> {
        let number = |limit: Option<u64>| Value::from(limit.map(|n| i64::try_from(n).unwrap_or(i64::MAX)));
        let mut given = key(address).to_vec();
        given.extend([("quota_bytes", number(quota.bytes)), ("quota_messages", number(quota.messages))]);
        self.write("set_quota", &given, address.as_str(), "").await
    }

    /// Adds an alias; a source with an empty local part is the domain's catch-all.
    ///
    /// # Errors
    /// [`WriteError`].
    pub async fn add_alias(&self, local: &str, domain: &str, destination: &str) -> Result<(), WriteError> {
        let given = [("local", local.into()), ("domain", domain.into()), ("destination", destination.into())];
        match self.write("add_alias", &given, &format!("alias {local}@{domain} to {destination}"), "").await {
            Err(WriteError::Missing(..)) => {
                Err(WriteError::Missing(format!("domain {domain}"), "; `mailsql domain add` it first"))
            }
            done => done,
        }
    }

    /// Removes an alias.
    ///
    /// # Errors
    /// [`WriteError`].
    pub async fn remove_alias(&self, local: &str, domain: &str, destination: &str) -> Result<(), WriteError> {
        let given = [("local", local.into()), ("domain", domain.into()), ("destination", destination.into())];
        self.write("remove_alias", &given, &format!("alias {local}@{domain} to {destination}"), "").await
    }

    /// Makes `name` a second name of a domain.
    ///
    /// # Errors
    /// [`WriteError`].
    pub async fn add_alias_domain(&self, name: &str, domain: &str) -> Result<(), WriteError> {
        let given = [("source", name.into()), ("domain", domain.into())];
        match self.write("add_alias_domain", &given, &format!("@{name}"), "").await {
            Err(WriteError::Missing(..)) => {
                Err(WriteError::Missing(format!("domain {domain}"), "; `mailsql domain add` it first"))
            }
            done => done,
        }
    }

    /// Takes a second name from a domain.
    ///
    /// # Errors
    /// [`WriteError`].
    pub async fn remove_alias_domain(&self, name: &str, domain: &str) -> Result<(), WriteError> {
        let given = [("source", name.into()), ("domain", domain.into())];
        self.write("remove_alias_domain", &given, &format!("alias @{name} to @{domain}"), "").await
    }

    /// Allows or forbids a login to send as an address, or as all of `@domain`; an earlier word is replaced.
    ///
    /// # Errors
    /// [`WriteError`].
    pub async fn set_grant(&self, login: &Address, source: &str, allowed: bool) -> Result<(), WriteError> {
        let mut given = with(login, ("source", source.to_lowercase().as_str().into()));
        given.push(("allowed", Value::Int(allowed.into())));
        self.write("set_grant", &given, login.as_str(), "").await
    }

    /// Takes back what [`Self::set_grant`] said.
    ///
    /// # Errors
    /// [`WriteError`].
    pub async fn remove_grant(&self, login: &Address, source: &str) -> Result<(), WriteError> {
        let given = with(login, ("source", source.to_lowercase().as_str().into()));
        self.write("remove_grant", &given, &format!("a rule for {login} and {source}"), "").await
    }

    /// What was said about a login.
    ///
    /// # Errors
    /// [`WriteError`].
    pub async fn list_grants(&self, login: &Address) -> Result<Vec<GrantRow>, WriteError> {
        let Some(rows) = self.ask("list_grants", &key(login)).await.map_err(write_error)? else {
            let inventory = self.inventory().await.map_err(write_error)?;
            return Err(WriteError::NotMigrated(self.schema.lacking("list_grants", &inventory).join(", ")));
        };
        let grant = |row: &Row| {
            Ok(GrantRow {
                login: row.text("login").unwrap_or_default().into_owned(),
                address: row.text("source").unwrap_or_default().into_owned(),
                allowed: row.int("allowed")?.is_none_or(|flag| flag != 0),
            })
        };
        rows.iter().map(grant).collect::<Result<_, Trouble>>().map_err(write_error)
    }

    pub(crate) async fn write(
        &self,
        name: &str,
        given: &[(&str, Value)],
        what: &str,
        advice: &'static str,
    ) -> Result<(), WriteError> {
        self.check_writes(name)?;
        match self.change(name, given).await {
            Ok(Some(0)) => Err(WriteError::Missing(what.to_owned(), advice)),
            Ok(Some(_)) => Ok(()),
            Ok(None) => {
                let inventory = self.inventory().await.map_err(write_error)?;
                Err(WriteError::NotMigrated(self.schema.lacking(name, &inventory).join(", ")))
            }
            Err(Trouble::Duplicate) => Err(WriteError::Exists(what.to_owned())),
            Err(trouble) => Err(write_error(trouble)),
        }
    }

    /// What belongs to another program is changed where that is allowed, and only by the statements that it has.
    fn check_writes(&self, name: &str) -> Result<(), WriteError> {
        if self.schema.writes || (self.writes && self.schema.has(name)) {
            return Ok(());
        }
        let advice = match (self.writes, self.schema.has(name)) {
            (false, true) => "; `writes = true` in [database] allows password changes",
            _ => "; use the program it belongs to",
        };
        Err(WriteError::ReadOnly(self.schema.title.clone(), advice))
    }
}

fn with(address: &Address, more: (&'static str, Value)) -> Vec<(&'static str, Value)> {
    let mut given = key(address).to_vec();
    given.push(more);
    given
}

fn write_error(trouble: Trouble) -> WriteError {
    match trouble {
        Trouble::Denied(text) => WriteError::Denied(text),
        trouble => WriteError::Unavailable(trouble.into()),
    }
}
