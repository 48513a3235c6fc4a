//! `[database]`: where the accounts are.
//!
//! `url` is `sqlite:/path`, or `mysql://user[:password]@host[:port][,host[:port]…]/database[?key=value&…]` with the
//! keys `tls` (off, required, verify-ca, verify-identity), `ca`, `cert`, `key` (PEM files) and `socket` (a Unix socket
//! instead of hosts). `mariadb://` is the same as `mysql://`.

use crate::Error;
use crate::value::Span;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::fmt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;
use zeroize::Zeroizing;

/// `[database]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Database {
    /// Where the accounts are.
    pub url: DatabaseUrl,
    /// A file that holds the password of the account in `url`.
    pub password_file: Option<PathBuf>,
    /// The named set of queries: mailsql, postfixadmin, iredmail, ispmail; or custom, for `[queries]` alone.
    #[serde(default = "default_schema")]
    pub schema: String,
    /// Whether what belongs to another program is changed where that is safe: passwords. Our own schema is always.
    #[serde(default)]
    pub writes: bool,
    /// For root's verbs that write or migrate, where the daemons' account may only read.
    pub admin_url: Option<DatabaseUrl>,
    /// A file that holds the password of the account in `admin_url`.
    pub admin_password_file: Option<PathBuf>,
    /// Connections to each host at most.
    #[serde(default = "default_pool")]
    pub pool_max: usize,
    /// Longest wait for a connection to come about.
    #[serde(default = "default_connect")]
    pub connect_timeout: Span,
    /// Longest wait for an answer. The servers are told to give a statement up soon after.
    #[serde(default = "default_query")]
    pub query_timeout: Span,
    /// Longest time for a question with all that belongs to it: queue, connection, answer, another server. It lies
    /// below the patience of our own clients (3 s), so that they hear of trouble from us.
    #[serde(default = "default_total")]
    pub total_timeout: Span,
    /// Questions that wait for a connection to one host at most; one beyond them is told at once that there is no room.
    #[serde(default = "default_queue")]
    pub queue_max: usize,
    /// Connections are replaced at this age, give or take a fifth.
    #[serde(default = "default_age")]
    pub connection_max_age: Span,
    /// Between two looks at the state of each host of a cluster.
    #[serde(default = "default_health")]
    pub health_interval: Span,
    /// Certificates and key once they were read: see [`Self::read_pem`].
    #[serde(skip)]
    pub pem: Pem,
    /// `[queries]`: statements instead of, or besides, those of the schema, by the name of their question.
    #[serde(skip)]
    pub queries: BTreeMap<String, String>,
    /// Statements of the administrator's own maps, by the name of the map.
    #[serde(skip)]
    pub custom: BTreeMap<String, String>,
}

/// PEM files that a url names, as bytes. Empty where a file is yet to be read, or none is named.
#[derive(Clone, Default)]
pub struct Pem {
    /// Certificate authorities.
    pub ca: Option<Vec<u8>>,
    /// Our own certificate.
    pub cert: Option<Vec<u8>>,
    /// Its key.
    pub key: Option<Zeroizing<Vec<u8>>>,
}

/// Says which files are there, never what is in them.
impl fmt::Debug for Pem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (ca, cert, key) = (self.ca.is_some(), self.cert.is_some(), self.key.is_some());
        f.debug_struct("Pem").field("ca", &ca).field("cert", &cert).field("key", &key).finish()
    }
}

impl Pem {
    /// Reads the files that a url names.
    ///
    /// # Errors
    /// [`Error`] with the file when it cannot be read, or when it is a key that everybody may read.
    pub fn read(url: &MysqlUrl) -> Result<Self, Error> {
        let bytes = |path: &PathBuf| std::fs::read(path).map_err(|trouble| Error::unreadable(path, &trouble));
        if let Some(key) = &url.key {
            check_not_public(key)?;
        }
        Ok(Self {
            ca: url.ca.as_ref().map(bytes).transpose()?,
            cert: url.cert.as_ref().map(bytes).transpose()?,
            key: url.key.as_ref().map(bytes).transpose()?.map(Zeroizing::new),
        })
    }
}

fn default_schema() -> String {
    "mailsql".into()
}

fn default_pool() -> usize {
    8
}

fn default_connect() -> Span {
    Span(Duration::from_secs(1))
}

fn default_query() -> Span {
    Span(Duration::from_secs(2))
}

fn default_total() -> Span {
    Span(Duration::from_millis(2500))
}

fn default_queue() -> usize {
    512
}

fn default_age() -> Span {
    Span(Duration::from_secs(300))
}

fn default_health() -> Span {
    Span(Duration::from_secs(1))
}

impl Database {
    /// The defaults with this url.
    #[must_use]
    pub fn new(url: DatabaseUrl) -> Self {
        Self {
            url,
            password_file: None,
            schema: default_schema(),
            admin_url: None,
            admin_password_file: None,
            pool_max: default_pool(),
            connect_timeout: default_connect(),
            query_timeout: default_query(),
            total_timeout: default_total(),
            queue_max: default_queue(),
            connection_max_age: default_age(),
            health_interval: default_health(),
            pem: Pem::default(),
            writes: false,
            queries: BTreeMap::new(),
            custom: BTreeMap::new(),
        }
    }

    /// Reads certificates and key now, while the process may; later only what was read is used.
    ///
    /// # Errors
    /// [`Error`] with the file.
    pub fn read_pem(&mut self) -> Result<(), Error> {
        if let DatabaseUrl::Mysql(url) = &self.url {
            self.pem = Pem::read(url)?;
        }
        Ok(())
    }

    /// The same database through the account that may write, where one is set up.
    #[must_use]
    pub fn admin(&self) -> Self {
        match &self.admin_url {
            None => self.clone(),
            Some(url) => Self {
                url: url.clone(),
                password_file: self.admin_password_file.clone(),
                pem: Pem::default(),
                ..self.clone()
            },
        }
    }

    /// The password for `url`: from the file, or from the url itself.
    ///
    /// # Errors
    /// [`Error`] when the file cannot be read or everybody may read it.
    pub fn password(&self) -> Result<Option<Zeroizing<String>>, Error> {
        match (&self.password_file, &self.url) {
            (Some(file), _) => read_secret(file).map(Some),
            (None, DatabaseUrl::Mysql(url)) => Ok(url.password.clone()),
            (None, DatabaseUrl::Sqlite(_)) => Ok(None),
        }
    }

    /// Refuses a password that everybody can read in the configuration file itself.
    pub(crate) fn check_secrets(&self, path: &Path) -> Result<(), Error> {
        let inline = |url: &DatabaseUrl| matches!(url, DatabaseUrl::Mysql(url) if url.password.is_some());
        if inline(&self.url) || self.admin_url.as_ref().is_some_and(inline) {
            check_not_public(path)?;
        }
        if self.password_file.is_some() && inline(&self.url) {
            return Err(Error::new(path, "[database] has a password in url and a password_file; remove one"));
        }
        Ok(())
    }
}

/// Reads a file that holds a secret in its first line.
fn read_secret(path: &Path) -> Result<Zeroizing<String>, Error> {
    check_not_public(path)?;
    let text =
        std::fs::read_to_string(path).map(Zeroizing::new).map_err(|trouble| Error::unreadable(path, &trouble))?;
    Ok(Zeroizing::new(text.lines().next().unwrap_or("").to_owned()))
}

fn check_not_public(path: &Path) -> Result<(), Error> {
    let meta = std::fs::metadata(path).map_err(|trouble| Error::unreadable(path, &trouble))?;
    if meta.mode() & 0o004 != 0 {
        let advice = "holds a secret and everybody may read it; chmod o-rwx and chgrp mailsql, then start again";
        return Err(Error::new(path, advice));
    }
    Ok(())
}

/// A database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DatabaseUrl {
    /// A file, by the embedded SQLite.
    Sqlite(PathBuf),
    /// A MySQL-protocol server or cluster.
    Mysql(MysqlUrl),
}

/// A MySQL-protocol server or cluster. `Debug` leaves the password out.
#[derive(Clone, PartialEq, Eq)]
pub struct MysqlUrl {
    /// Account on the server.
    pub user: String,
    /// Its password, if the url holds one.
    pub password: Option<Zeroizing<String>>,
    /// Servers, in order of preference.
    pub endpoints: Vec<Endpoint>,
    /// Name of the database.
    pub database: String,
    /// Encryption.
    pub tls: Tls,
    /// Certificate authorities to trust instead of the public ones.
    pub ca: Option<PathBuf>,
    /// Our own certificate, if the server asks for one.
    pub cert: Option<PathBuf>,
    /// Its key.
    pub key: Option<PathBuf>,
}

/// One server.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Endpoint {
    /// By TCP.
    Tcp {
        /// Name or address, without brackets.
        host: String,
        /// Port.
        port: u16,
    },
    /// By Unix socket.
    Unix(PathBuf),
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { host, port } if host.contains(':') => write!(f, "[{host}]:{port}"),
            Self::Tcp { host, port } => write!(f, "{host}:{port}"),
            Self::Unix(path) => write!(f, "{}", path.display()),
        }
    }
}

/// How much of TLS is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tls {
    /// None.
    Off,
    /// Encryption, whoever the server is.
    Required,
    /// A certificate from a trusted authority, for whatever name.
    VerifyCa,
    /// A certificate from a trusted authority for the host's name.
    VerifyIdentity,
}

impl fmt::Debug for MysqlUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// The url without its password, in a form that reads back.
impl fmt::Display for MysqlUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hosts = self.endpoints.iter().filter(|endpoint| matches!(endpoint, Endpoint::Tcp { .. }));
        let hosts: Vec<String> = hosts.map(ToString::to_string).collect();
        let hosts = if hosts.is_empty() { "localhost".to_owned() } else { hosts.join(",") };
        write!(f, "mysql://{}@{hosts}/{}", percent_encode(&self.user), percent_encode(&self.database))?;
        let mut parameters = Vec::new();
        match self.tls {
            Tls::Off => {}
            Tls::Required => parameters.push("tls=required".to_owned()),
            Tls::VerifyCa => parameters.push("tls=verify-ca".to_owned()),
            Tls::VerifyIdentity => parameters.push("tls=verify-identity".to_owned()),
        }
        let sockets = self.endpoints.iter().filter_map(|endpoint| match endpoint {
            Endpoint::Unix(path) => Some(("socket", path)),
            Endpoint::Tcp { .. } => None,
        });
        let files = [("ca", &self.ca), ("cert", &self.cert), ("key", &self.key)];
        let files = files.into_iter().filter_map(|(name, path)| Some((name, path.as_ref()?)));
        parameters.extend(sockets.chain(files).map(|(name, path)| format!("{name}={}", path.display())));
        if parameters.is_empty() { Ok(()) } else { write!(f, "?{}", parameters.join("&")) }
    }
}

fn percent_encode(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    text.bytes().map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}

impl fmt::Display for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlite(path) => write!(f, "sqlite:{}", path.display()),
            Self::Mysql(url) => url.fmt(f),
        }
    }
}

impl std::str::FromStr for DatabaseUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(path) = text.strip_prefix("sqlite:") {
            let path = path.strip_prefix("//").unwrap_or(path);
            return if path.starts_with('/') {
                Ok(Self::Sqlite(path.into()))
            } else {
                Err(format!("\"{text}\": write sqlite:/absolute/path"))
            };
        }
        match text.strip_prefix("mysql://").or_else(|| text.strip_prefix("mariadb://")) {
            Some(rest) => parse_mysql(rest).map(Self::Mysql),
            None => Err("a database url begins with sqlite: or mysql://".into()),
        }
    }
}

fn parse_mysql(rest: &str) -> Result<MysqlUrl, String> {
    let (rest, parameters) = rest.split_once('?').unwrap_or((rest, ""));
    let (authority, database) = rest.rsplit_once('/').ok_or("a mysql url ends with /DATABASE")?;
    let (account, hosts) = authority.rsplit_once('@').ok_or("a mysql url names its account: mysql://USER@HOST/…")?;
    let (user, password) = match account.split_once(':') {
        Some((user, password)) => (user, Some(Zeroizing::new(percent_decode(password)?))),
        None => (account, None),
    };
    let mut url = MysqlUrl {
        user: percent_decode(user)?,
        password,
        endpoints: Vec::new(),
        database: percent_decode(database)?,
        tls: Tls::Off,
        ca: None,
        cert: None,
        key: None,
    };
    if url.user.is_empty() || url.database.is_empty() {
        return Err("a mysql url names its account and its database: mysql://USER@HOST/DATABASE".into());
    }
    for pair in parameters.split('&').filter(|pair| !pair.is_empty()) {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        let path = || percent_decode(value).map(PathBuf::from);
        match key {
            "tls" => {
                url.tls = match value {
                    "off" => Tls::Off,
                    "required" => Tls::Required,
                    "verify-ca" => Tls::VerifyCa,
                    "verify-identity" => Tls::VerifyIdentity,
                    _ => return Err(format!("tls={value}: write off, required, verify-ca or verify-identity")),
                }
            }
            "socket" => url.endpoints.push(Endpoint::Unix(path()?)),
            "ca" => url.ca = Some(path()?),
            "cert" => url.cert = Some(path()?),
            "key" => url.key = Some(path()?),
            _ => return Err(format!("unknown url parameter {key}; known are tls, ca, cert, key, socket")),
        }
    }
    if url.endpoints.is_empty() {
        for host in hosts.split(',').filter(|host| !host.is_empty()) {
            url.endpoints.push(parse_host(host)?);
        }
    }
    if url.endpoints.is_empty() {
        return Err("a mysql url names a host, or ?socket=/path".into());
    }
    match (url.tls, &url.ca, &url.cert, &url.key) {
        (Tls::Off, Some(_), _, _) | (Tls::Off, _, Some(_), _) | (Tls::Off, _, _, Some(_)) => {
            Err("ca, cert and key mean nothing without tls; add tls=verify-identity".into())
        }
        (Tls::Required, Some(_), _, _) => {
            Err("tls=required looks at no ca; write tls=verify-identity, or leave ca out".into())
        }
        (_, _, Some(_), None) | (_, _, None, Some(_)) => Err("cert and key go together; one of them is missing".into()),
        _ => Ok(url),
    }
}

fn parse_host(text: &str) -> Result<Endpoint, String> {
    let (host, port) = match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((host, "")) => (host, None),
        Some((host, rest)) => (host, rest.strip_prefix(':')),
        None => match text.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        },
    };
    let port = port.map_or(Ok(3306), |port| port.parse().map_err(|_| format!("\"{text}\": no such port")))?;
    Ok(Endpoint::Tcp { host: host.to_owned(), port })
}

fn percent_decode(text: &str) -> Result<String, String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, tail)) = rest.split_first() {
        if byte == b'%' {
            let hex = tail.get(..2).and_then(|hex| std::str::from_utf8(hex).ok());
            let value = hex.and_then(|hex| u8::from_str_radix(hex, 16).ok());
            bytes.push(value.ok_or("a % in a url is followed by two hexadecimal digits; a % itself is %25")?);
            rest = &tail[2..];
        } else {
            bytes.push(byte);
            rest = tail;
        }
    }
    String::from_utf8(bytes).map_err(|_| "a url is UTF-8".into())
}

impl<'de> Deserialize<'de> for DatabaseUrl {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Zeroizing::new(String::deserialize(deserializer)?);
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn urls_are_read_and_shown_without_their_password() {
        let url: DatabaseUrl = "mysql://mail:p%40ss@db1,db2:3307/mail?tls=verify-identity".parse().unwrap();
        assert_eq!(url.to_string(), "mysql://mail@db1:3306,db2:3307/mail?tls=verify-identity");
        assert!(!format!("{url:?}").contains("p@ss"));
        let DatabaseUrl::Mysql(url) = url else { panic!("not mysql") };
        assert_eq!(url.password.as_deref().map(String::as_str), Some("p@ss"));
        assert_eq!(url.tls, Tls::VerifyIdentity);
        let url: DatabaseUrl = "mysql://mail@localhost/mail?socket=/run/mysqld/mysqld.sock".parse().unwrap();
        assert_eq!(url.to_string(), "mysql://mail@localhost/mail?socket=/run/mysqld/mysqld.sock");
        assert_eq!(url.to_string().parse(), Ok(url));
    }

    #[test]
    fn a_wrong_url_is_refused_with_what_is_missing() {
        for (text, expected) in [
            ("postgres://x", "begins with sqlite: or mysql://"),
            ("sqlite:relative.db", "absolute"),
            ("mysql://db1/mail", "names its account"),
            ("mysql://mail@db1", "ends with /DATABASE"),
            ("mysql://mail@/mail", "names a host"),
            ("mysql://mail@db1:port/mail", "no such port"),
            ("mysql://mail@db1/mail?tls=maybe", "verify-identity"),
            ("mysql://mail@db1/mail?x=1", "unknown url parameter x"),
            ("mysql://mail:%zz@db1/mail", "hexadecimal"),
            ("mysql://mail@db1/mail?ca=/ca.pem", "mean nothing without tls"),
            ("mysql://mail@db1/mail?tls=required&ca=/ca.pem", "looks at no ca"),
            ("mysql://mail@db1/mail?tls=verify-ca&ca=/ca.pem&cert=/c.pem", "go together"),
        ] {
            let error = text.parse::<DatabaseUrl>().unwrap_err();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }

    #[test]
    fn certificates_are_read_once_and_a_public_key_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        for name in ["ca", "cert", "key"] {
            std::fs::write(path(name), name).unwrap();
        }
        let text =
            format!("mysql://mail@db1/mail?tls=verify-ca&ca={0}/ca&cert={0}/cert&key={0}/key", dir.path().display());
        let mut database = Database::new(text.parse().unwrap());
        std::fs::set_permissions(path("key"), std::fs::Permissions::from_mode(0o644)).unwrap();
        assert!(database.read_pem().unwrap_err().to_string().contains("everybody may read it"));
        std::fs::set_permissions(path("key"), std::fs::Permissions::from_mode(0o600)).unwrap();
        database.read_pem().unwrap();
        assert_eq!(database.pem.key.as_deref().map(Vec::as_slice), Some(&b"key"[..]));
        assert!(!format!("{database:?}").contains("107"), "no bytes of the key");
        std::fs::remove_file(path("ca")).unwrap();
        assert!(database.read_pem().unwrap_err().to_string().contains("/ca"));
    }

    #[test]
    fn a_password_that_everybody_may_read_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("db.password");
        std::fs::write(&file, "mailpass\n").unwrap();
        let mut database = Database::new("mysql://mail@db1/mail".parse().unwrap());
        database.password_file = Some(file.clone());
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644)).unwrap();
        assert!(database.password().unwrap_err().to_string().contains("everybody may read it"));
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o640)).unwrap();
        assert_eq!(database.password().unwrap().unwrap().as_str(), "mailpass");
    }
}
