//! `[throttle]`: who may try a password, and how often.
//!
//! A client network is an IPv4 address or an IPv6 /64, where the protocol tells it. What counts are *different* wrong
//! passwords: a device that repeats an old one counts once. Every count drains within `window`.

use crate::value::Span;
use serde::Deserialize;
use std::time::Duration;

/// `[throttle]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Throttle {
    /// Whether anybody is ever refused.
    pub enabled: bool,
    /// Time in which a full count is empty again, and for which a client over `client_limit` is refused.
    pub window: Span,
    /// Wrong tries of one client network, over all logins; then it is refused for `window`.
    pub client_limit: u32,
    /// Wrong passwords for one login from clients it is not known to come from; then such clients' tries pass only one
    /// every `window` / `login_limit`.
    pub login_limit: u32,
    /// Wrong passwords for one login from a client network that it is known to come from; then one every
    /// `window` / `known_limit`.
    pub known_limit: u32,
    /// How long a client network stays known to a login that got in from there. A known client is never refused for
    /// what others do.
    pub known_for: Span,
    /// Networks whose wrong tries do not count against the client (webmail on this host), as `address` or `address/bits`.
    pub trusted: Vec<String>,
    /// Client networks, logins and wrong passwords remembered at most, of each.
    pub entries: usize,
}

impl Default for Throttle {
    fn default() -> Self {
        Self {
            enabled: true,
            window: Span(Duration::from_secs(600)),
            client_limit: 20,
            login_limit: 50,
            known_limit: 20,
            known_for: Span(Duration::from_secs(30 * 86_400)),
            trusted: vec!["127.0.0.0/8".into(), "::1".into()],
            entries: 100_000,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_is_read() {
        let text = "enabled = false\nwindow = \"1m\"\nclient_limit = 1\nlogin_limit = 2\nknown_limit = 3\n\
                    known_for = \"7d\"\ntrusted = [\"10.0.0.0/8\"]\nentries = 5\n";
        let throttle: Throttle = toml::from_str(text).unwrap();
        assert!(!throttle.enabled);
        assert_eq!((throttle.client_limit, throttle.login_limit, throttle.known_limit), (1, 2, 3));
        assert_eq!((throttle.window.0.as_secs(), throttle.known_for.0.as_secs()), (60, 7 * 86_400));
        assert_eq!((&throttle.trusted[..], throttle.entries), (&["10.0.0.0/8".to_owned()][..], 5));
    }
}
