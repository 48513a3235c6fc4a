//! `[auth]`: Dovecot's auth protocols, for Postfix, Exim and Dovecot's own programs.

use crate::listen::ListenList;
use crate::value::Span;
use serde::Deserialize;
use std::time::Duration;

/// Longest hold of a refusal. Postfix waits 10 s for an answer and takes silence for an outage.
const MAX_FAILURE_DELAY: Duration = Duration::from_secs(5);

/// `[auth]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Auth {
    /// The client sockets: what `smtpd_sasl_path` names, and Exim's `server_socket`.
    pub listen: ListenList,
    /// The master sockets: what `auth_socket_path` names for doveadm, dovecot-lda and dovecot-lmtp.
    pub userdb: ListenList,
    /// Mechanisms on offer.
    pub mechanisms: Vec<Mechanism>,
    /// Whether passwords are looked at only when the client vouches for its transport (`secured`), or is the host
    /// itself. Postfix has `smtpd_tls_auth_only` for the same.
    pub require_secured: bool,
    /// How long a refusal is held back; 5 s at most.
    pub failure_delay: Delay,
    /// How trouble on our side is told.
    pub unavailable: Outage,
    /// Connections at most, on each kind of socket.
    pub max_connections: usize,
}

impl Default for Auth {
    fn default() -> Self {
        Self {
            listen: ListenList::unix("/run/mailsql/auth-client"),
            userdb: ListenList::unix("/run/mailsql/auth-master"),
            mechanisms: vec![Mechanism::Plain, Mechanism::Login],
            require_secured: false,
            failure_delay: Delay(Duration::from_secs(1)),
            unavailable: Outage::Auto,
            max_connections: 4096,
        }
    }
}

/// A SASL mechanism.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub enum Mechanism {
    /// PLAIN.
    #[serde(rename = "PLAIN")]
    Plain,
    /// LOGIN.
    #[serde(rename = "LOGIN")]
    Login,
}

/// How trouble on our side is told to a client of `[auth] listen`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outage {
    /// By closing the connection to who asks with `nologin` (Postfix and Exim always do), by `code=temp_fail` to others.
    Auto,
    /// By closing the connection.
    Close,
    /// By FAIL with `code=temp_fail`, which Postfix takes for a wrong password.
    Fail,
}

/// How long a refusal is held back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Span")]
pub struct Delay(pub Duration);

impl TryFrom<Span> for Delay {
    type Error = String;

    fn try_from(span: Span) -> Result<Self, String> {
        if span.0 > MAX_FAILURE_DELAY {
            return Err(format!(
                "a refusal can be held back for {} s at most: Postfix gives up after 10 s",
                MAX_FAILURE_DELAY.as_secs()
            ));
        }
        Ok(Self(span.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_read() {
        let auth: Auth = toml::from_str(
            "listen = [\"/run/a\", \"inet:127.0.0.1:12345\"]\nuserdb = \"/run/b\"\nmechanisms = [\"LOGIN\"]\n\
             require_secured = true\nfailure_delay = \"250ms\"\nunavailable = \"close\"\n",
        )
        .unwrap();
        assert_eq!(
            (auth.listen.0.len(), auth.userdb, auth.mechanisms),
            (2, ListenList::unix("/run/b"), vec![Mechanism::Login])
        );
        assert_eq!(
            (auth.require_secured, auth.failure_delay, auth.unavailable),
            (true, Delay(Duration::from_millis(250)), Outage::Close)
        );
    }

    #[test]
    fn a_delay_that_postfix_would_take_for_an_outage_is_refused() {
        let error = toml::from_str::<Auth>("failure_delay = \"6s\"\n").unwrap_err().to_string();
        assert!(error.contains("Postfix gives up"), "{error}");
        let error = toml::from_str::<Auth>("mechanisms = [\"CRAM-MD5\"]\n").unwrap_err().to_string();
        assert!(error.contains("PLAIN"), "{error}");
    }
}
