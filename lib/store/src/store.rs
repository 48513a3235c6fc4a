//! A database and a schema, put together.

use crate::mysql::{HostReport, Mysql};
use crate::query::{Query, Row, Trouble, Value};
use crate::schema::{Backend, Inventory, Plan, Schema, Step};
use crate::sqlite::Sqlite;
use mailsql_config::{Database, DatabaseUrl};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

/// How long the list of tables and columns is believed.
const INVENTORY_TTL: Duration = Duration::from_secs(60);
/// How soon it is looked at again after a statement met something missing.
const INVENTORY_RETRY: Duration = Duration::from_secs(1);

/// Why a store cannot be opened at all. Trouble with reaching the database is not among these.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// There is no such schema, or it is broken.
    #[error("{0}")]
    Schema(String),
    /// A certificate or key cannot be read.
    #[error("{0}")]
    File(String),
}

pub(crate) enum Driver {
    Mysql(Mysql),
    Sqlite(Sqlite),
}

/// The account database.
pub struct Store {
    pub(crate) driver: Driver,
    pub(crate) schema: Schema,
    /// Whether passwords are changed in a schema that belongs to another program.
    pub(crate) writes: bool,
    known: RwLock<Option<Known>>,
}

#[derive(Clone)]
struct Known {
    inventory: Arc<Inventory>,
    plan: Arc<Plan>,
    at: Instant,
}

impl Store {
    /// Opens the database of a configuration. Nothing is asked of it yet: a daemon starts with its database down.
    ///
    /// `password` is that of the account in the url; daemons read it before they drop their privileges.
    ///
    /// # Errors
    /// [`OpenError`] when the configuration is wrong.
    pub fn open(config: &Database, password: Option<&str>) -> Result<Self, OpenError> {
        let mut schema = Schema::named(&config.schema).map_err(OpenError::Schema)?;
        schema.replace(&config.queries).map_err(OpenError::Schema)?;
        schema.add_custom(&config.custom).map_err(OpenError::Schema)?;
        let driver = match &config.url {
            DatabaseUrl::Sqlite(path) => Driver::Sqlite(Sqlite::new(path)),
            DatabaseUrl::Mysql(url) => Driver::Mysql(Mysql::new(config, url, password).map_err(OpenError::File)?),
        };
        Ok(Self { driver, schema, writes: config.writes, known: RwLock::new(None) })
    }

    /// Another process of ours has changed something: for a moment, reads go where changes go.
    pub fn follow_writer(&self) {
        if let Driver::Mysql(mysql) = &self.driver {
            mysql.follow_writer();
        }
    }

    /// Every server of the url as it stands now, with its counts; nothing for SQLite.
    #[must_use]
    pub fn hosts(&self) -> Vec<HostReport<'_>> {
        match &self.driver {
            Driver::Mysql(mysql) => mysql.report(),
            Driver::Sqlite(_) => Vec::new(),
        }
    }

    /// Which kind of database this is.
    #[must_use]
    pub fn backend(&self) -> Backend {
        match self.driver {
            Driver::Mysql(_) => Backend::Mysql,
            Driver::Sqlite(_) => Backend::Sqlite,
        }
    }

    /// Answers a question, or `None` where this database has no place for it (no aliases table, say).
    pub(crate) async fn ask(&self, name: &str, given: &[(&str, Value)]) -> Result<Option<Vec<Row>>, Trouble> {
        let mut known = self.known().await?;
        loop {
            let Some(query) = known.plan.find(name) else { return Ok(None) };
            match self.run(query, query.bind(given)?).await {
                // Somebody changed the tables since we looked.
                Err(Trouble::Schema(_)) if known.at.elapsed() > INVENTORY_RETRY => known = self.look().await?,
                outcome => return outcome.map(Some),
            }
        }
    }

    /// Runs a statement that reads.
    pub(crate) async fn run(&self, query: &Query, values: Vec<Value>) -> Result<Vec<Row>, Trouble> {
        match &self.driver {
            Driver::Mysql(mysql) => mysql.query(query, values).await,
            Driver::Sqlite(sqlite) => sqlite.query(query, values).await,
        }
    }

    /// The statements that fit what the database has now.
    pub(crate) async fn plan(&self) -> Result<Arc<Plan>, Trouble> {
        Ok(self.look().await?.plan)
    }

    /// Runs a change; `None` where this database has no place for it.
    pub(crate) async fn change(&self, name: &str, given: &[(&str, Value)]) -> Result<Option<u64>, Trouble> {
        let known = self.known().await?;
        let Some(query) = known.plan.find(name) else { return Ok(None) };
        let values = query.bind(given)?;
        match &self.driver {
            Driver::Mysql(mysql) => mysql.execute(query, values).await.map(Some),
            Driver::Sqlite(sqlite) => sqlite.execute(query, values).await.map(Some),
        }
    }

    pub(crate) async fn define(&self, step: &Step) -> Result<bool, Trouble> {
        let Some(sql) = step.sql(self.backend()) else { return Ok(false) };
        match &self.driver {
            Driver::Mysql(mysql) => mysql.define(sql).await?,
            Driver::Sqlite(sqlite) => sqlite.define(sql).await?,
        }
        Ok(true)
    }

    /// What the database has, looked at now.
    pub(crate) async fn inventory(&self) -> Result<Arc<Inventory>, Trouble> {
        Ok(self.look().await?.inventory)
    }

    async fn known(&self) -> Result<Known, Trouble> {
        let held = self.known.read().unwrap_or_else(PoisonError::into_inner).clone();
        match held {
            Some(known) if known.at.elapsed() < INVENTORY_TTL => Ok(known),
            // An old list is better than none while the database cannot be asked for a new one.
            Some(known) => Ok(self.look().await.unwrap_or(known)),
            None => self.look().await,
        }
    }

    async fn look(&self) -> Result<Known, Trouble> {
        let inventory = match &self.driver {
            Driver::Mysql(mysql) => mysql.inventory().await?,
            Driver::Sqlite(sqlite) => sqlite.inventory().await?,
        };
        let known =
            Known { plan: Arc::new(self.schema.plan(&inventory)), inventory: Arc::new(inventory), at: Instant::now() };
        *self.known.write().unwrap_or_else(PoisonError::into_inner) = Some(known.clone());
        Ok(known)
    }
}
