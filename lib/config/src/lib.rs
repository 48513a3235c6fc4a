//! `mailsql.toml`: one file a section. Every program parses the whole file and takes its own part.
//!
//! Unknown keys are refused with file, line and the nearest known key. A service runs when its section is present.
//! A password in a file that everybody may read is refused.
#![forbid(unsafe_code)]

mod auth;
mod cache;
mod database;
mod error;
mod listen;
mod log;
mod mail;
mod maps;
mod metrics;
mod passwords;
pub mod policy;
mod services;
mod throttle;
mod value;

pub use auth::{Auth, Delay, Mechanism, Outage};
pub use cache::Cache;
pub use database::{Database, DatabaseUrl, Endpoint, MysqlUrl, Pem, Tls};
pub use error::Error;
pub use listen::{Listen, ListenList, Permissions};
pub use log::{Log, LogFormat, LogTo};
pub use mail::Mail;
pub use maps::{CustomMap, Keys, Maps, NAMES as MAP_NAMES};
pub use metrics::Metrics;
pub use passwords::{Passwords, Upgrade};
pub use policy::Policy;
pub use services::{Ask, Control, Detail, Lmtp, Mode, Nss, OverQuota, Saslauthd, Serve, State};
pub use throttle::Throttle;
pub use value::{Bytes, Span};

use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Where the configuration is unless `--config` or `$MAILSQL_CONFIG` says otherwise.
pub const DEFAULT_PATH: &str = "/etc/mailsql/mailsql.toml";

/// The whole file.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Where the accounts are.
    pub database: Database,
    /// Statements of the administrator's own, by the name of their question.
    #[serde(default)]
    pub queries: BTreeMap<String, String>,
    /// Where mail is kept.
    #[serde(default)]
    pub mail: Mail,
    /// How long answers are good.
    #[serde(default)]
    pub cache: Cache,
    /// What passwords are accepted and made.
    #[serde(default)]
    pub passwords: Passwords,
    /// Who may try a password, and how often.
    #[serde(default)]
    pub throttle: Throttle,
    /// The saslauthd protocol.
    pub saslauthd: Option<Saslauthd>,
    /// Postfix lookup tables.
    pub maps: Option<Maps>,
    /// Decisions for Postfix.
    pub policy: Option<Policy>,
    /// Delivery to Maildir.
    pub lmtp: Option<Lmtp>,
    /// Dovecot's auth protocols.
    pub auth: Option<Auth>,
    /// The socket of PAM, checkpassword and the command.
    pub ask: Option<Ask>,
    /// The socket of the NSS module.
    pub nss: Option<Nss>,
    /// Counts for Prometheus.
    pub metrics: Option<Metrics>,
    /// Control sockets.
    #[serde(default)]
    pub control: Control,
    /// State that outlives a restart.
    #[serde(default)]
    pub state: State,
    /// Who `mailsql serve` and the daemons run as.
    #[serde(default)]
    pub serve: Serve,
    /// What is logged, and how.
    #[serde(default)]
    pub log: Log,
    /// The file this came from.
    #[serde(skip)]
    pub path: PathBuf,
}

impl Config {
    /// Reads and checks a file.
    ///
    /// # Errors
    /// [`Error`] with the file, where possible the line, and what to do.
    pub fn load(path: &Path) -> Result<Self, Error> {
        let text = std::fs::read_to_string(path).map_err(|trouble| Error::unreadable(path, &trouble))?;
        let mut config = Self::parse(&text, path)?;
        config.path = path.to_owned();
        config.database.check_secrets(path)?;
        Ok(config)
    }

    /// Parses a text as if it stood in `path`, without looking at any other file.
    ///
    /// # Errors
    /// As [`Self::load`].
    pub fn parse(text: &str, path: &Path) -> Result<Self, Error> {
        let mut config: Self = toml::from_str(text).map_err(|trouble| Error::syntax(path, text, &trouble))?;
        config.path = path.to_owned();
        config.database.queries = config.queries.clone();
        if let Some(maps) = &config.maps {
            maps.check(path)?;
            let statements = maps.custom.iter().map(|(name, map)| (name.clone(), map.query.clone()));
            config.database.custom = statements.collect();
        }
        Ok(config)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Config, Error> {
        Config::parse(text, Path::new("/etc/mailsql/mailsql.toml"))
    }

    #[test]
    fn the_smallest_file_has_a_database_and_defaults() {
        let config = parse("[database]\nurl = \"sqlite:/var/lib/mailsql/mail.db\"\n").unwrap();
        assert_eq!(config.mail.root, Path::new("/var/spool/vmail"));
        assert_eq!(config.mail.maildir, "{address}/");
        assert!(config.maps.is_none());
    }

    #[test]
    fn an_unknown_key_is_refused_with_its_line_and_the_nearest_known_one() {
        for (text, expected) in [
            (
                "[database]\nurl = \"sqlite:/x\"\n[maps]\nlisen = \"/x\"\n",
                "/etc/mailsql/mailsql.toml:4: unknown key `lisen` in [maps]; did you mean `listen`?",
            ),
            (
                "[database]\nurl = \"sqlite:/x\"\npoolmax = 3\n",
                "/etc/mailsql/mailsql.toml:3: unknown key `poolmax` in [database]; did you mean `pool_max`?",
            ),
            (
                "[database]\nurl = \"sqlite:/x\"\n[map]\n",
                "/etc/mailsql/mailsql.toml:3: unknown section [map]; did you mean [maps]?",
            ),
        ] {
            let error = parse(text).unwrap_err().to_string();
            assert!(error.starts_with(expected), "{error}");
        }
    }

    #[test]
    fn every_section_of_the_contract_is_read() {
        let config = parse(
            r#"
            [database]
            url = "mysql://mail@db1,db2:3307,[::1]:3308/mail?tls=required"
            schema = "mailsql"
            [mail]
            root = "/srv/mail"
            maildir = "{domain}/{local}/"
            uid = 5000
            gid = 5000
            recipient_delimiter = "+"
            [cache]
            positive_ttl = "30s"
            negative_ttl = "500ms"
            stale_ttl = "2h"
            entries = 1000
            [passwords]
            upgrade = "dry-run"
            [throttle]
            client_limit = 5
            [saslauthd]
            listen = "/run/saslauthd/mux"
            combine_realm = true
            [maps]
            listen = ["unix:/run/mailsql/maps.sock", "inet:127.0.0.1:8461", { socket = "/var/spool/postfix/m.sock", mode = "0660", user = "mailsql", group = "postfix" }]
            [lmtp]
            listen = "127.0.0.1:24"
            [auth]
            userdb = ["unix:/run/mailsql/auth-master"]
            [ask]
            [nss]
            [control]
            [state]
            [serve]
            [log]
            "#,
        )
        .unwrap();
        assert_eq!(config.maps.unwrap().listen.0.len(), 3);
        assert_eq!(config.cache.negative_ttl.0, std::time::Duration::from_millis(500));
        let DatabaseUrl::Mysql(url) = &config.database.url else { panic!("not mysql") };
        assert_eq!(url.endpoints.len(), 3);
        assert_eq!(url.endpoints[2], Endpoint::Tcp { host: "::1".into(), port: 3308 });
    }
}
