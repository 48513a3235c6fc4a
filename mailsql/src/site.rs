//! The configuration and the database, opened for a verb.

use crate::outcome::Outcome;
use mailsql_config::Config;
use mailsql_core::Address;
use mailsql_store::Store;
use std::path::Path;

/// What a verb works on.
pub(crate) struct Site {
    pub(crate) config: Config,
    pub(crate) store: Store,
}

impl Site {
    /// Opens the database for reading.
    pub(crate) fn open(path: &Path) -> Result<Self, Outcome> {
        Self::with(Config::load(path)?)
    }

    /// Opens the database through the account that may write.
    pub(crate) fn open_to_write(path: &Path) -> Result<Self, Outcome> {
        let mut config = Config::load(path)?;
        config.database = config.database.admin();
        Self::with(config)
    }

    fn with(config: Config) -> Result<Self, Outcome> {
        let password = config.database.password()?;
        let store = Store::open(&config.database, password.as_deref().map(String::as_str))?;
        Ok(Self { config, store })
    }

    /// Tells every daemon on this host what has changed.
    pub(crate) fn flush(&self, changed: &str) {
        crate::flush::all(&self.config.control.dir, Some(changed), self.config.cache.positive_ttl.0);
    }
}

/// Reads an address from the command line.
pub(crate) fn address(text: &str) -> Result<Address, Outcome> {
    Address::parse(text).map_err(|error| Outcome::usage(format!("{text}: {error}")))
}
