//! A schema: a data file of named queries, and the steps that make or complete its tables.
//!
//! ```toml
//! name = "postfixadmin"
//! title = "PostfixAdmin"
//! writes = false                        # whether we make and change accounts; without it only passwords, if allowed
//! recognise = ["mailbox.username"]      # a database that has all of these, and none of `lacks`, is of this schema
//! lacks = ["forwardings.forwarding"]
//! [mail]                                # what `mailsql init` writes for it
//! root = "/var/vmail"
//! [[queries.account]]                   # the first statement whose `needs` the database has is used
//! needs = ["mailbox.smtp_active"]
//! sql = "SELECT ... WHERE username = :address"
//! [[create]] [[migrate]]                # steps that make its tables, and complete them
//! ```
//!
//! The questions are in [`crate::question`]. `[queries]` of the administrator's own replaces statements of a schema, or
//! stands alone with `schema = "custom"`.

use crate::query::Query;
use crate::question;
use serde::Deserialize;
use std::collections::{BTreeMap, HashSet};

/// The schemas that come with us.
const FILES: [(&str, &str); 4] = [
    ("mailsql", include_str!("../schemas/mailsql.toml")),
    ("postfixadmin", include_str!("../schemas/postfixadmin.toml")),
    ("iredmail", include_str!("../schemas/iredmail.toml")),
    ("ispmail", include_str!("../schemas/ispmail.toml")),
];
/// The name of the schema that has no queries but the administrator's.
pub const CUSTOM: &str = "custom";

/// The changes that the administrator can give his own schema.
const PASSWORD_CHANGES: [&str; 2] = ["set_password", "replace_password"];

/// The name under which a custom map's statement is kept; no question has a space in its name.
#[must_use]
pub fn custom_name(map: &str) -> String {
    format!("custom {map}")
}

/// Which database a step is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backend {
    /// MySQL, MariaDB and what speaks their protocol.
    Mysql,
    /// SQLite.
    Sqlite,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    name: String,
    title: String,
    #[serde(default)]
    recognise: Vec<String>,
    #[serde(default)]
    lacks: Vec<String>,
    #[serde(default)]
    mail: MailForm,
    #[serde(default)]
    writes: bool,
    queries: BTreeMap<String, Vec<FileQuery>>,
    #[serde(default)]
    create: Vec<Step>,
    #[serde(default)]
    migrate: Vec<Step>,
}

/// Where a schema's own programs keep mail, as far as their settings do not say otherwise.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MailForm {
    /// `[mail] root`.
    pub root: Option<String>,
    /// `[mail] maildir`.
    pub maildir: Option<String>,
    /// `[mail] uid`.
    pub uid: Option<u32>,
    /// `[mail] gid`.
    pub gid: Option<u32>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct FileQuery {
    #[serde(default)]
    needs: Vec<String>,
    sql: String,
}

/// One statement that adds something to a database.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Step {
    /// A table, `table.column` or `procedure NAME`; the step runs where this is not there.
    pub provides: String,
    mysql: Option<String>,
    sqlite: Option<String>,
}

impl Step {
    /// The statement for a database, if the step is for it.
    #[must_use]
    pub fn sql(&self, backend: Backend) -> Option<&str> {
        match backend {
            Backend::Mysql => self.mysql.as_deref(),
            Backend::Sqlite => self.sqlite.as_deref(),
        }
    }
}

/// What a database has: tables, `table.column`s and `procedure NAME`s, in lower case.
pub type Inventory = HashSet<String>;

/// A schema.
#[derive(Debug)]
pub struct Schema {
    /// Its name in the configuration.
    pub name: String,
    /// What people call it.
    pub title: String,
    /// Where its own programs keep mail.
    pub mail: MailForm,
    recognise: Vec<String>,
    lacks: Vec<String>,
    /// Whether accounts are made and changed through it.
    pub writes: bool,
    queries: BTreeMap<String, Vec<(Vec<String>, Query)>>,
    /// The tables without which it is not this schema.
    pub create: Vec<Step>,
    /// What later features need.
    pub migrate: Vec<Step>,
}

/// The statements of a schema that fit a database.
#[derive(Debug, Default)]
pub struct Plan {
    queries: BTreeMap<String, Query>,
}

impl Plan {
    /// The statement for a question; `None` where the database has no place for it.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<&Query> {
        self.queries.get(name)
    }

    /// All statements by their names.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Query)> {
        self.queries.iter().map(|(name, query)| (name.as_str(), query))
    }
}

impl Schema {
    /// A schema that comes with us, or the empty one for `[queries]`.
    ///
    /// # Errors
    /// A line for the administrator when there is none of this name.
    pub fn named(name: &str) -> Result<Self, String> {
        if name == CUSTOM {
            return Self::parse("name = \"custom\"\ntitle = \"the queries of mailsql.toml\"\n[queries]\n");
        }
        match FILES.iter().find(|(known, _)| *known == name) {
            Some((_, text)) => Self::parse(text),
            None => {
                let known: Vec<&str> = FILES.iter().map(|(known, _)| *known).collect();
                Err(format!("unknown schema \"{name}\"; known are {}, {CUSTOM}", known.join(", ")))
            }
        }
    }

    /// Every schema that comes with us.
    ///
    /// # Errors
    /// What is wrong with one of them.
    pub fn all() -> Result<Vec<Self>, String> {
        FILES.iter().map(|(name, _)| Self::named(name)).collect()
    }

    /// Whether a database is of this schema.
    #[must_use]
    pub fn recognises(&self, inventory: &Inventory) -> bool {
        !self.recognise.is_empty()
            && self.recognise.iter().all(|need| inventory.contains(need))
            && !self.lacks.iter().any(|alien| inventory.contains(alien))
    }

    /// Puts the administrator's statements in the place of the schema's.
    ///
    /// # Errors
    /// A line for the administrator: no such question, a placeholder that it is not asked with, a broken statement.
    pub fn replace(&mut self, queries: &BTreeMap<String, String>) -> Result<(), String> {
        for (name, sql) in queries {
            let label = format!("[queries] {name}");
            let change = question::find(name).is_none();
            if change && !self.queries.contains_key(name) && !PASSWORD_CHANGES.contains(&name.as_str()) {
                let known: Vec<&str> = question::QUESTIONS.iter().map(|question| question.name).collect();
                return Err(format!("{label}: there is no such question; there are {}", known.join(", ")));
            }
            let query = Query::parse(&label, sql)?;
            if let Some(question) = question::find(name) {
                let alien = query.parameters.iter().find(|parameter| !question.given.contains(&&***parameter));
                if let Some(parameter) = alien {
                    let given = match question.given {
                        [] => "no placeholders".to_owned(),
                        given => format!(":{}", given.join(", :")),
                    };
                    return Err(format!("{label}: has :{parameter}, but is asked with {given}"));
                }
            }
            self.queries.insert(name.clone(), vec![(Vec::new(), query)]);
        }
        Ok(())
    }

    /// Adds the statements of the administrator's own maps, under [`custom_name`].
    ///
    /// # Errors
    /// A line for the administrator.
    pub fn add_custom(&mut self, maps: &BTreeMap<String, String>) -> Result<(), String> {
        for (map, sql) in maps {
            let label = format!("[maps.custom.{map}] query");
            let query = Query::parse(&label, sql)?;
            let known = ["key", "address", "local", "domain"];
            if let Some(parameter) = query.parameters.iter().find(|parameter| !known.contains(&&***parameter)) {
                return Err(format!("{label}: has :{parameter}, but is asked with :{}", known.join(", :")));
            }
            self.queries.insert(custom_name(map), vec![(Vec::new(), query)]);
        }
        Ok(())
    }

    fn parse(text: &str) -> Result<Self, String> {
        let file: File = toml::from_str(text).map_err(|trouble| trouble.to_string())?;
        let mut queries = BTreeMap::new();
        for (name, variants) in file.queries {
            let parsed = variants.into_iter().map(|variant| Ok((variant.needs, Query::parse(&name, &variant.sql)?)));
            queries.insert(name.clone(), parsed.collect::<Result<Vec<_>, String>>()?);
        }
        Ok(Self {
            name: file.name,
            title: file.title,
            writes: file.writes,
            mail: file.mail,
            recognise: file.recognise,
            lacks: file.lacks,
            queries,
            create: file.create,
            migrate: file.migrate,
        })
    }

    /// Whether it has a statement of this name, for whatever state of the database.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.queries.contains_key(name)
    }

    /// For each question, the first statement that the database has everything for.
    #[must_use]
    pub fn plan(&self, inventory: &Inventory) -> Plan {
        let fits = |needs: &[String]| needs.iter().all(|need| inventory.contains(need));
        let first = |variants: &[(Vec<String>, Query)]| {
            variants.iter().find(|(needs, _)| fits(needs)).map(|(_, query)| query.clone())
        };
        let queries = self.queries.iter().filter_map(|(name, variants)| Some((name.clone(), first(variants)?)));
        Plan { queries: queries.collect() }
    }

    /// What a question needs that the database lacks, for an error that names it.
    #[must_use]
    pub fn lacking(&self, name: &str, inventory: &Inventory) -> Vec<String> {
        let variants = self.queries.get(name).and_then(|variants| variants.first());
        let needs = variants.map(|(needs, _)| needs.as_slice()).unwrap_or_default();
        needs.iter().filter(|need| !inventory.contains(*need)).cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_native_schema_parses_and_answers_on_the_documents_tables_alone() {
        let schema = Schema::named("mailsql").unwrap();
        let document = ["domains", "domains.id", "domains.name", "users", "users.id", "users.name", "users.password"];
        let plan = schema.plan(&document.iter().map(ToString::to_string).collect());
        for name in ["domains", "domain", "account", "add_user", "set_password", "list_users"] {
            assert!(plan.find(name).is_some(), "{name}");
        }
        for name in ["alias", "catch_all", "enable_user"] {
            assert!(plan.find(name).is_none(), "{name}");
        }
        assert!(!plan.find("account").unwrap().sql.contains("quota"));
    }

    #[test]
    fn every_statement_is_chosen_once_all_is_there() {
        let schema = Schema::named("mailsql").unwrap();
        let all: Inventory = schema.queries.values().flatten().flat_map(|(needs, _)| needs.clone()).collect();
        let plan = schema.plan(&all);
        assert_eq!(plan.queries.len(), schema.queries.len());
        assert!(plan.find("account").unwrap().sql.contains("quota"));
    }

    #[test]
    fn every_lookup_among_100_000_accounts_in_sqlite_searches_indexes_only() {
        let schema = Schema::named("mailsql").unwrap();
        let database = rusqlite::Connection::open_in_memory().unwrap();
        for step in schema.create.iter().chain(&schema.migrate) {
            database.execute_batch(step.sql(Backend::Sqlite).unwrap_or("")).unwrap();
        }
        let numbers = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 100000)";
        let domains = "INSERT INTO domains(name) SELECT 'd' || i || '.test' FROM n LIMIT 1000";
        let users = "INSERT INTO users(name, password, domain_id) SELECT 'user' || i, 'x', 1 + i % 1000 FROM n";
        database.execute_batch(&format!("{numbers} {domains}; {numbers} {users}; ANALYZE;")).unwrap();
        let all: Inventory = schema.queries.values().flatten().flat_map(|(needs, _)| needs.clone()).collect();
        for plan in [schema.plan(&all), schema.plan(&Inventory::new())] {
            for name in [
                "domain",
                "account",
                "alias",
                "catch_all",
                "grants",
                "transport",
                "relay_recipient",
                "set_password",
                "replace_password",
                "rate_limit",
                "greylist",
            ] {
                let Some(query) = plan.find(name) else { continue };
                let mut explain = database.prepare(&format!("EXPLAIN QUERY PLAN {}", query.sql)).unwrap();
                let values = vec!["x"; query.parameters.len()];
                let steps = explain.query_map(rusqlite::params_from_iter(values), |row| row.get::<_, String>(3));
                for step in steps.unwrap().map(Result::unwrap) {
                    assert!(!step.contains("SCAN"), "{name}: {step}");
                }
            }
        }
    }

    #[test]
    fn every_statement_of_every_schema_has_the_placeholders_of_its_question() {
        for schema in Schema::all().unwrap() {
            for (name, variants) in &schema.queries {
                let Some(question) = question::find(name) else { continue };
                for parameter in variants.iter().flat_map(|(_, query)| &query.parameters) {
                    assert!(question.given.contains(&&**parameter), "{}: {name}: {parameter}", schema.name);
                }
            }
        }
    }

    #[test]
    fn own_statements_replace_those_of_a_schema_and_are_checked() {
        let queries = |name: &str, sql: &str| BTreeMap::from([(name.to_owned(), sql.to_owned())]);
        let mut schema = Schema::named("ispmail").unwrap();
        schema.replace(&queries("account", "SELECT email AS address, password FROM v WHERE email = :address")).unwrap();
        let plan = schema.plan(&Inventory::new());
        assert!(plan.find("account").unwrap().sql.contains("FROM v"));
        assert!(plan.find("alias").is_some());
        for (name, sql, expected) in [
            ("acount", "SELECT 1", "there is no such question; there are domains, domain"),
            ("account", "SELECT :adress", "unknown placeholder :adress"),
            ("domain", "SELECT :local", "has :local, but is asked with :domain, :key"),
            ("domains", "SELECT :domain", "asked with no placeholders"),
        ] {
            let error = Schema::named("custom").unwrap().replace(&queries(name, sql)).unwrap_err();
            assert!(error.contains(expected), "{error}");
        }
        let error = Schema::named("custom").unwrap().add_custom(&queries("bcc", "SELECT :password")).unwrap_err();
        assert!(error.contains("[maps.custom.bcc] query: has :password"), "{error}");
    }

    #[test]
    fn a_schema_that_is_not_known_is_answered_with_those_that_are() {
        let error = Schema::named("vexim").unwrap_err();
        assert_eq!(error, "unknown schema \"vexim\"; known are mailsql, postfixadmin, iredmail, ispmail, custom");
    }

    #[test]
    fn no_lookup_uses_the_view() {
        let schema = Schema::named("mailsql").unwrap();
        for (_, query) in schema.queries.values().flatten() {
            assert!(!query.sql.contains("emails"), "{}", query.name);
        }
    }
}
