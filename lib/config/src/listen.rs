//! `listen = …`: one or a list of `"/p"`, `"unix:/p"`, `"host:port"`, `"inet:host:port"` or
//! `{ socket = "/p", mode = "0660", user = "…", group = "…" }`.

use serde::de::{self, Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use std::fmt;
use std::path::PathBuf;

/// Where a service listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Listen {
    /// A Unix socket.
    Unix(PathBuf, Permissions),
    /// A TCP address, `host:port`.
    Tcp(String),
}

/// Who may connect to a Unix socket; what is absent is the service's own default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Permissions {
    /// Mode bits.
    pub mode: Option<u32>,
    /// Owner by name or number.
    pub user: Option<String>,
    /// Group by name or number.
    pub group: Option<String>,
}

/// One or more places to listen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenList(pub Vec<Listen>);

impl ListenList {
    /// A single Unix socket.
    pub fn unix(path: impl Into<PathBuf>) -> Self {
        Self(vec![Listen::Unix(path.into(), Permissions::default())])
    }
}

impl std::str::FromStr for Listen {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(path) = text.strip_prefix("unix:").or_else(|| text.starts_with('/').then_some(text)) {
            return if path.starts_with('/') {
                Ok(Self::Unix(path.into(), Permissions::default()))
            } else {
                Err(format!("\"{text}\": a socket path must begin with /"))
            };
        }
        let host_port = text.strip_prefix("inet:").unwrap_or(text);
        match host_port.rsplit_once(':') {
            Some((host, port)) if !host.is_empty() && port.parse::<u16>().is_ok() => {
                Ok(Self::Tcp(host_port.to_owned()))
            }
            _ => {
                Err(format!("\"{text}\" is no place to listen; write \"/path\", \"unix:/path\" or \"inet:host:port\""))
            }
        }
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path, _) => write!(f, "unix:{}", path.display()),
            Self::Tcp(host_port) => write!(f, "inet:{host_port}"),
        }
    }
}

struct ListenVisitor;

impl<'de> Visitor<'de> for ListenVisitor {
    type Value = Listen;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("\"/path\", \"inet:host:port\" or { socket = \"/path\", mode = \"0660\", … }")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Listen, E> {
        text.parse().map_err(E::custom)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Listen, A::Error> {
        const KNOWN: &[&str] = &["socket", "mode", "user", "group"];
        let mut socket = None;
        let mut permissions = Permissions::default();
        while let Some((key, value)) = map.next_entry::<String, String>()? {
            match key.as_str() {
                "socket" => socket = Some(value),
                "mode" => {
                    let mode = u32::from_str_radix(&value, 8).ok().filter(|mode| *mode <= 0o777);
                    permissions.mode = Some(mode.ok_or_else(|| {
                        de::Error::custom(format!("mode = \"{value}\" is not octal; write \"0660\""))
                    })?);
                }
                "user" => permissions.user = Some(value),
                "group" => permissions.group = Some(value),
                _ => return Err(de::Error::unknown_field(&key, KNOWN)),
            }
        }
        let socket = socket.ok_or_else(|| de::Error::missing_field("socket"))?;
        match socket.parse().map_err(de::Error::custom)? {
            Listen::Unix(path, _) => Ok(Listen::Unix(path, permissions)),
            Listen::Tcp(_) => Err(de::Error::custom(format!("socket = \"{socket}\" is not a path"))),
        }
    }
}

impl<'de> Deserialize<'de> for Listen {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ListenVisitor)
    }
}

struct ListVisitor;

impl<'de> Visitor<'de> for ListVisitor {
    type Value = ListenList;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "one or a list of ")?;
        ListenVisitor.expecting(f)
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<ListenList, E> {
        ListenVisitor.visit_str(text).map(|listen| ListenList(vec![listen]))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<ListenList, A::Error> {
        ListenVisitor.visit_map(map).map(|listen| ListenList(vec![listen]))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<ListenList, A::Error> {
        let mut list = Vec::new();
        while let Some(listen) = items.next_element()? {
            list.push(listen);
        }
        if list.is_empty() {
            return Err(de::Error::custom("listen names no place; remove the section to switch the service off"));
        }
        Ok(ListenList(list))
    }
}

impl<'de> Deserialize<'de> for ListenList {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ListVisitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, serde::Deserialize)]
    struct Section {
        listen: ListenList,
    }

    #[test]
    fn every_form_of_the_contract_is_read() {
        let unix = |path: &str| Listen::Unix(path.into(), Permissions::default());
        for (text, expected) in [
            ("listen = \"/p\"", vec![unix("/p")]),
            ("listen = \"unix:/p\"", vec![unix("/p")]),
            ("listen = \"localhost:24\"", vec![Listen::Tcp("localhost:24".into())]),
            ("listen = \"inet:[::1]:24\"", vec![Listen::Tcp("[::1]:24".into())]),
            ("listen = [\"/p\", \"h:1\"]", vec![unix("/p"), Listen::Tcp("h:1".into())]),
        ] {
            assert_eq!(toml::from_str::<Section>(text).unwrap().listen.0, expected, "{text}");
        }
        let table = "listen = { socket = \"/p\", mode = \"0660\", user = \"a\", group = \"b\" }";
        let permissions = Permissions { mode: Some(0o660), user: Some("a".into()), group: Some("b".into()) };
        assert_eq!(toml::from_str::<Section>(table).unwrap().listen.0, [Listen::Unix("/p".into(), permissions)]);
    }

    #[test]
    fn what_is_no_place_is_refused_with_the_right_form() {
        for (text, expected) in [
            ("listen = \"unix:p\"", "must begin with /"),
            ("listen = \"nowhere\"", "is no place to listen"),
            ("listen = \"h:99999\"", "is no place to listen"),
            ("listen = []", "names no place"),
            ("listen = { socket = \"/p\", mode = \"rw\" }", "is not octal"),
            ("listen = { socket = \"/p\", owner = \"x\" }", "unknown field `owner`"),
        ] {
            let error = toml::from_str::<Section>(text).unwrap_err().to_string();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }
}
