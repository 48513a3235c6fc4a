//! `[maps]`: Postfix lookup tables.
//!
//! ```toml
//! [maps]
//! listen = ["unix:/run/mailsql/maps.sock"]     # socketmap; the map's name is part of each question
//! [maps.tcp]
//! transports = "inet:127.0.0.1:8463"           # tcp_table knows no names, so each map has its own listeners
//! [maps.custom.bcc]
//! query = "SELECT copy_to FROM archive WHERE address = :address"
//! keys = "address"                             # exact, address, domain or transport
//! result_format = "%s"                         # as in mysql_table(5)
//! domains = ["example.jp"]                     # only keys in these; absent for all
//! expansion_limit = 100                        # more values are trouble; 0 for no limit
//! ```

use crate::Error;
use crate::listen::ListenList;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::Path;

/// The names of our own maps, which no custom map can have.
pub const NAMES: [&str; 8] = [
    "domains",
    "mailboxes",
    "aliases",
    "senders",
    "transports",
    "relay_domains",
    "relay_recipients",
    "local_recipients",
];

/// `[maps]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Maps {
    /// Where Postfix's processes connect to.
    pub listen: ListenList,
    /// Connections at most.
    pub max_connections: usize,
    /// Listeners of the tcp_table protocol, by the name of their map.
    pub tcp: BTreeMap<String, ListenList>,
    /// Maps of the administrator's own, by their names.
    pub custom: BTreeMap<String, CustomMap>,
}

impl Default for Maps {
    fn default() -> Self {
        Self {
            listen: ListenList::unix("/run/mailsql/maps.sock"),
            max_connections: 4096,
            tcp: BTreeMap::new(),
            custom: BTreeMap::new(),
        }
    }
}

/// `[maps.custom.NAME]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CustomMap {
    /// The statement; `:key` is the key in lower case, `:local` and `:domain` its parts.
    pub query: String,
    /// Which keys are tried for one that Postfix sends.
    #[serde(default)]
    pub keys: Keys,
    /// What a value becomes: `%s %u %d` are the value and its parts, `%S %U %D %1`…`%9` those of the key.
    #[serde(default = "whole")]
    pub result_format: String,
    /// Domains whose keys are looked up; empty for all.
    #[serde(default)]
    pub domains: Vec<String>,
    /// Values at most, 0 for no limit; more are answered as trouble.
    #[serde(default)]
    pub expansion_limit: usize,
}

fn whole() -> String {
    "%s".into()
}

/// Which keys are tried for one that Postfix sends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Keys {
    /// The key as it is.
    Exact,
    /// The address, without its detail, `@domain`.
    #[default]
    Address,
    /// The domain and those above it.
    Domain,
    /// The address, without its detail, its domain, `.parent` for each above, `*`.
    Transport,
}

impl Maps {
    /// Refuses names that cannot be asked for.
    pub(crate) fn check(&self, path: &Path) -> Result<(), Error> {
        for name in self.custom.keys() {
            if NAMES.contains(&name.as_str()) {
                return Err(Error::new(
                    path,
                    format!("[maps.custom.{name}]: there is a map of this name; take another"),
                ));
            }
            let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
            if name.is_empty() || name.len() > 64 || !name.chars().all(plain) {
                return Err(Error::new(path, format!("[maps.custom.{name}]: a name is 1-64 letters, digits, - _ .")));
            }
        }
        for name in self.tcp.keys() {
            if !NAMES.contains(&name.as_str()) && !self.custom.contains_key(name) {
                let known = NAMES.join(", ");
                return Err(Error::new(path, format!("[maps.tcp] {name}: no such map; there are {known}")));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use crate::Config;
    use std::path::Path;

    fn parse(maps: &str) -> Result<Config, crate::Error> {
        let text = format!("[database]\nurl = \"sqlite:/x\"\n[queries]\ndomain = \"SELECT 1\"\n{maps}");
        Config::parse(&text, Path::new("mailsql.toml"))
    }

    #[test]
    fn own_maps_and_tcp_tables_are_read() {
        let config = parse(
            "[maps.custom.bcc]\nquery = \"SELECT x FROM t WHERE a = :key\"\nkeys = \"transport\"\n\
             [maps.tcp]\nbcc = \"127.0.0.1:1\"\nsenders = [\"127.0.0.1:2\", \"127.0.0.1:3\"]\n",
        )
        .unwrap();
        let maps = config.maps.unwrap();
        assert_eq!(
            (maps.custom["bcc"].keys, maps.custom["bcc"].result_format.as_str()),
            (super::Keys::Transport, "%s")
        );
        assert_eq!(maps.tcp["senders"].0.len(), 2);
        assert_eq!(config.database.queries["domain"], "SELECT 1");
        assert!(config.database.custom["bcc"].contains(":key"));
    }

    #[test]
    fn a_name_that_nobody_can_ask_for_is_refused() {
        for (text, expected) in [
            ("[maps.custom.aliases]\nquery = \"SELECT 1\"\n", "take another"),
            ("[maps.custom.\"a b\"]\nquery = \"SELECT 1\"\n", "letters, digits"),
            ("[maps.tcp]\nalias = \"127.0.0.1:1\"\n", "no such map"),
            ("[maps.custom.x]\nquery = \"SELECT 1\"\nkey = 1\n", "unknown key `key`"),
        ] {
            let error = parse(text).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }
}
