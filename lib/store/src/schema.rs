//! A schema: a data file of named queries, and the steps that make or complete its tables.

use crate::query::Query;
use serde::Deserialize;
use std::collections::{BTreeMap, HashSet};

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
    #[serde(default)]
    writes: bool,
    queries: BTreeMap<String, Vec<FileQuery>>,
    #[serde(default)]
    create: Vec<Step>,
    #[serde(default)]
    migrate: Vec<Step>,
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
}

impl Schema {
    /// A schema that comes with us.
    ///
    /// # Errors
    /// A line for the administrator when there is none of this name.
    pub fn named(name: &str) -> Result<Self, String> {
        match name {
            "mailsql" => Self::parse(include_str!("../schemas/mailsql.toml")),
            _ => Err(format!("unknown schema \"{name}\"; known is \"mailsql\"")),
        }
    }

    fn parse(text: &str) -> Result<Self, String> {
        let file: File = toml::from_str(text).map_err(|trouble| trouble.to_string())?;
        let mut queries = BTreeMap::new();
        for (name, variants) in file.queries {
            let parsed = variants.into_iter().map(|variant| Ok((variant.needs, Query::parse(&name, &variant.sql)?)));
            queries.insert(name.clone(), parsed.collect::<Result<Vec<_>, String>>()?);
        }
        Ok(Self { name: file.name, writes: file.writes, queries, create: file.create, migrate: file.migrate })
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
            for name in ["domain", "account", "alias", "catch_all", "set_password", "replace_password"] {
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
    fn no_lookup_uses_the_view() {
        let schema = Schema::named("mailsql").unwrap();
        for (_, query) in schema.queries.values().flatten() {
            assert!(!query.sql.contains("emails"), "{}", query.name);
        }
    }
}
