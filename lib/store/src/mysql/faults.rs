//! What a failure means: for the asker, for a second try, and for what is thought of the server.
//!
//! | errors | meaning | second try | the server |
//! | --- | --- | --- | --- |
//! | 1062 1586 | the row exists | no | |
//! | 1044 1142 1143 1227 1370 | our account may not | no | |
//! | 1051 1054 1146 1305 | no such table, column, routine | no | |
//! | 1052 1060 1064 1149 1210 1222 1295 | the statement is wrong | no | |
//! | 1267 1270 1271 | the column's character set cannot hold what it is compared with | no | |
//! | 1047, ProxySQL 9001 | node not ready in its cluster; no backend | yes | serves nothing until it says otherwise |
//! | 1290 1792 1836 | read-only | yes | a reader until it says otherwise |
//! | 1205 1213 | lock wait, deadlock, failed certification in Galera | yes | |
//! | 1040 1203 1226 | no connection left for us | yes | stays: connections that we have still work |
//! | 1243 1461 1615 | prepared statement lost or one too many (proxies) | yes, on a new connection | |
//! | 1317 1969 3024 | the server gave the statement up as too slow | yes | looked at |
//! | 1053 1927 | server ends, connection killed; the statement was undone | yes | looked at |
//! | 2006 2013 4031, connection lost | the statement may have been done | reads only | looked at |
//! | no answer in time | the same | reads only | looked at |
//! | any other number | unknown | reads only | |
//! | cannot connect, TLS, wrong password | nothing was sent | yes | left alone for a while |
//!
//! Source: MariaDB and MySQL error references, ProxySQL 2 documentation.

use crate::query::Trouble;
use mailsql_config::{Endpoint, Tls};
use mysql_async::{DriverError, Error, IoError, ServerError};

/// What is to be thought of the server after a failure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Effect {
    /// Nothing.
    None,
    /// It is to be looked at now.
    Suspect,
    /// It is left alone for a while.
    Away,
    /// It takes no queries until it says otherwise.
    NotReady,
    /// It takes no writes until it says otherwise.
    ReadOnly,
}

/// Whether a second try may do the thing twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Again {
    /// The answer is final.
    No,
    /// The statement was not done: anybody may try again.
    Any,
    /// It may have been done: reads only.
    Reads,
}

/// Kinds of failures that are counted apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// No connection.
    Connect,
    /// No connection left: at the server, or in our queue.
    Crowded,
    /// No answer in time.
    Timeout,
    /// Connection lost.
    Lost,
    /// Node not ready, server read-only.
    Cluster,
    /// Locks and deadlocks.
    Conflict,
    /// Our account may not, no such table, wrong statement, row exists.
    Statement,
    /// Characters that no row can hold.
    Charset,
    /// Anything else.
    Other,
}

impl Class {
    /// All of them, in the order of their counters.
    pub const ALL: [Self; 9] = [
        Self::Connect,
        Self::Crowded,
        Self::Timeout,
        Self::Lost,
        Self::Cluster,
        Self::Conflict,
        Self::Statement,
        Self::Charset,
        Self::Other,
    ];

    /// A word for metrics.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::Crowded => "crowded",
            Self::Timeout => "timeout",
            Self::Lost => "lost",
            Self::Cluster => "cluster",
            Self::Conflict => "conflict",
            Self::Statement => "statement",
            Self::Charset => "charset",
            Self::Other => "other",
        }
    }
}

/// A failure, judged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fault {
    /// What the asker hears if there is no second try.
    pub(super) trouble: Trouble,
    /// Whether there may be one.
    pub(super) again: Again,
    /// What is to be thought of the server.
    pub(super) effect: Effect,
    /// What it counts as.
    pub(super) class: Class,
}

impl Fault {
    fn new(class: Class, again: Again, effect: Effect, trouble: Trouble) -> Self {
        Self { trouble, again, effect, class }
    }

    /// There was no room in our own queue, or no turn in time.
    #[must_use]
    pub(super) fn crowded(endpoint: &Endpoint, what: &str) -> Self {
        Self::new(Class::Crowded, Again::Any, Effect::None, Trouble::Away(format!("{endpoint}: {what}")))
    }

    /// No connection came about in time.
    #[must_use]
    pub(super) fn no_connection(endpoint: &Endpoint, after: std::time::Duration) -> Self {
        let text = format!("{endpoint}: no connection within {after:?}");
        Self::new(Class::Connect, Again::Any, Effect::Away, Trouble::Away(text))
    }

    /// No answer came in time.
    #[must_use]
    pub(super) fn no_answer(endpoint: &Endpoint, after: std::time::Duration) -> Self {
        let text = format!("{endpoint}: no answer within {after:?}");
        Self::new(Class::Timeout, Again::Reads, Effect::Suspect, Trouble::Away(text))
    }

    /// A connection could not be made: whatever keeps us out is trouble, not an answer, even a wrong password of ours.
    #[must_use]
    pub(super) fn connecting(endpoint: &Endpoint, tls: Tls, error: &Error) -> Self {
        let text = format!("{endpoint}: {}", reason(error, tls));
        match error {
            Error::Server(server) if matches!(server.code, 1040 | 1203 | 1226) => {
                Self::new(Class::Crowded, Again::Any, Effect::None, Trouble::Away(text))
            }
            _ => Self::new(Class::Connect, Again::Any, Effect::Away, Trouble::Away(text)),
        }
    }

    /// The answer makes no sense to us.
    #[must_use]
    pub(super) fn broken(trouble: Trouble) -> Self {
        Self::new(Class::Statement, Again::No, Effect::None, trouble)
    }

    /// A statement failed.
    #[must_use]
    pub(super) fn asking(endpoint: &Endpoint, error: &Error) -> Self {
        match error {
            Error::Server(server) => Self::server(endpoint, server),
            _ => {
                let text = format!("{endpoint}: {}", reason(error, Tls::Off));
                Self::new(Class::Lost, Again::Reads, Effect::Suspect, Trouble::Away(text))
            }
        }
    }

    fn server(endpoint: &Endpoint, error: &ServerError) -> Self {
        let text = format!("{endpoint}: {} ({})", error.message, error.code);
        let (class, again, effect) = match error.code {
            1062 | 1586 => return Self::new(Class::Statement, Again::No, Effect::None, Trouble::Duplicate),
            1044 | 1142 | 1143 | 1227 | 1370 => {
                return Self::new(Class::Statement, Again::No, Effect::None, Trouble::Denied(text));
            }
            1051 | 1054 | 1146 | 1305 => {
                return Self::new(Class::Statement, Again::No, Effect::None, Trouble::Schema(text));
            }
            1052 | 1060 | 1064 | 1149 | 1210 | 1222 | 1295 => {
                return Self::new(Class::Statement, Again::No, Effect::None, Trouble::Broken(text));
            }
            1267 | 1270 | 1271 => {
                return Self::new(Class::Charset, Again::No, Effect::None, Trouble::Broken(text));
            }
            1047 | 9001 => (Class::Cluster, Again::Any, Effect::NotReady),
            1290 | 1792 | 1836 => (Class::Cluster, Again::Any, Effect::ReadOnly),
            1205 | 1213 => (Class::Conflict, Again::Any, Effect::None),
            1040 | 1203 | 1226 => (Class::Crowded, Again::Any, Effect::None),
            1243 | 1461 | 1615 => (Class::Other, Again::Any, Effect::None),
            1317 | 1969 | 3024 => (Class::Timeout, Again::Any, Effect::Suspect),
            1053 | 1927 => (Class::Lost, Again::Any, Effect::Suspect),
            2006 | 2013 | 4031 => (Class::Lost, Again::Reads, Effect::Suspect),
            _ => (Class::Other, Again::Reads, Effect::None),
        };
        Self::new(class, again, effect, Trouble::Away(text))
    }
}

/// A failure to connect in the words of an administrator.
fn reason(error: &Error, tls: Tls) -> String {
    match error {
        Error::Server(server) => format!("{} ({})", server.message, server.code),
        Error::Driver(DriverError::NoClientSslFlagFromServer) => {
            let setting = match tls {
                Tls::Off => "off",
                Tls::Required => "required",
                Tls::VerifyCa => "verify-ca",
                Tls::VerifyIdentity => "verify-identity",
            };
            format!("the server offers no TLS, and the url says tls={setting}")
        }
        Error::Driver(error) => error.to_string(),
        Error::Io(error) => {
            let text = match error {
                IoError::Io(error) => error.to_string(),
                IoError::Tls(error) => error.to_string(),
            };
            match text.as_str() {
                text if text.contains("UnknownIssuer") => {
                    format!(
                        "{text}: the certificate is from an authority that is not trusted; name the right one with ca="
                    )
                }
                text if text.contains("CaUsedAsEndEntity") => {
                    format!(
                        "{text}: the server shows an authority's certificate as its own; have one made for the server"
                    )
                }
                _ => text,
            }
        }
        Error::Other(error) => error.to_string(),
        Error::Url(error) => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint() -> Endpoint {
        Endpoint::Tcp { host: "db1".into(), port: 3306 }
    }

    fn server(code: u16) -> Error {
        Error::Server(ServerError { code, message: "because".into(), state: "HY000".into() })
    }

    #[test]
    fn every_error_has_its_meaning() {
        use Again::{Any, No, Reads};
        for (codes, again, effect) in [
            (&[1062, 1586, 1044, 1142, 1143, 1227, 1370, 1051, 1054, 1146, 1305, 1064, 1267][..], No, Effect::None),
            (&[1047, 9001], Any, Effect::NotReady),
            (&[1290, 1792, 1836], Any, Effect::ReadOnly),
            (&[1205, 1213, 1040, 1203, 1226, 1243, 1461, 1615], Any, Effect::None),
            (&[1317, 1969, 3024, 1053, 1927], Any, Effect::Suspect),
            (&[2006, 2013, 4031], Reads, Effect::Suspect),
            (&[1105, 9999], Reads, Effect::None),
        ] {
            for code in codes {
                let fault = Fault::asking(&endpoint(), &server(*code));
                assert_eq!((fault.again, &fault.effect), (again, &effect), "{code}");
                assert_eq!(matches!(fault.trouble, Trouble::Away(_)), again != No, "{code}");
            }
        }
    }

    #[test]
    fn whatever_keeps_us_out_is_trouble_and_may_be_tried_elsewhere() {
        for (error, effect) in [
            (server(1045), Effect::Away),
            (server(1049), Effect::Away),
            (server(1130), Effect::Away),
            (server(1040), Effect::None),
            (Error::from(std::io::Error::from(std::io::ErrorKind::ConnectionRefused)), Effect::Away),
            (Error::Driver(DriverError::NoClientSslFlagFromServer), Effect::Away),
        ] {
            let fault = Fault::connecting(&endpoint(), Tls::Required, &error);
            assert!(matches!(&fault.trouble, Trouble::Away(text) if text.starts_with("db1:3306: ")), "{fault:?}");
            assert_eq!((fault.again, fault.effect), (Again::Any, effect), "{error}");
        }
    }

    #[test]
    fn a_lost_connection_is_no_reason_to_write_twice() {
        let fault = Fault::asking(&endpoint(), &Error::from(std::io::Error::from(std::io::ErrorKind::BrokenPipe)));
        assert_eq!((fault.again, fault.class), (Again::Reads, Class::Lost));
        assert_eq!(Fault::no_answer(&endpoint(), std::time::Duration::from_secs(2)).again, Again::Reads);
    }
}
