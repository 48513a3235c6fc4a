//! A rule of `[policy.rate]`: whom it is for, what its key is, and how much of a message it counts at which moment.
//!
//! | counts | at MAIL, RCPT | at DATA | at END-OF-MESSAGE |
//! | --- | --- | --- | --- |
//! | messages | 1 | 1 | 1 |
//! | recipients | one more for each RCPT | `recipient_count` | `recipient_count` |
//! | bytes | the size announced by SIZE= | the same | the true size |
//!
//! These are totals for the message (`instance`), not additions: what was taken for it before is set against them, so a message asked
//! about ten times counts once, recipients that other restrictions refused are given back at DATA, and a size that was announced
//! too large at END-OF-MESSAGE. Whoever asks at RCPT only counts recipients tried and sizes announced.

use crate::answer::Answer;
use crate::bucket::Pace;
use crate::facts::{Facts, domain, fold};
use mailsql_config::policy::{Clients, Count, RateKey, RateRule};
use mailsql_core::Network;
use mailsql_proto::policy::State;
use std::io::Write as _;

/// Bits of a client's network: what one customer has.
const NETWORK_BITS: (u8, u8) = (24, 64);

/// A rule.
pub(crate) struct Rule {
    pub(crate) name: Box<str>,
    pub(crate) key: RateKey,
    pub(crate) count: Count,
    pub(crate) pace: Pace,
    pub(crate) clients: Clients,
    pub(crate) answer: Answer,
}

impl Rule {
    /// Reads a rule.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(crate) fn new(rule: &RateRule) -> Result<Self, String> {
        let usable = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        if rule.name.is_empty() || rule.name.len() > 64 || !rule.name.chars().all(usable) {
            return Err("a name is up to 64 letters, digits, - _ and .".to_owned());
        }
        let per = u64::try_from(rule.per.0.as_nanos()).unwrap_or(u64::MAX);
        if per == 0 {
            return Err("per cannot be 0".to_owned());
        }
        let burst = rule.burst.unwrap_or(rule.limit).0;
        if burst == 0 && rule.limit.0 > 0 {
            return Err("burst = 0 lets nothing through; leave it out for the limit itself".to_owned());
        }
        Ok(Self {
            name: rule.name.as_str().into(),
            key: rule.key,
            count: rule.count,
            pace: Pace { limit: rule.limit.0, per, burst },
            clients: rule.clients,
            answer: Answer::parse(&rule.action, &["rule", "seconds"]).map_err(|wrong| format!("action = {wrong}"))?,
        })
    }

    /// Whether the database may hold a limit of its own for a key of this rule.
    pub(crate) fn has_subject(&self) -> bool {
        !matches!(self.key, RateKey::ClientAddress | RateKey::ClientNetwork)
    }

    /// Appends the key of a request; says whether the rule applies to it.
    pub(crate) fn key(&self, facts: &Facts<'_>, out: &mut Vec<u8>) -> bool {
        let wanted = match self.clients {
            Clients::All => true,
            Clients::Authenticated => facts.authenticated(),
            Clients::Anonymous => !facts.authenticated(),
        };
        if !wanted {
            return false;
        }
        let text = match self.key {
            RateKey::SaslUsername => &*facts.login,
            RateKey::Sender => facts.sender,
            RateKey::SenderDomain => domain(facts.sender).unwrap_or(b""),
            RateKey::Recipient => facts.recipient,
            RateKey::RecipientDomain => domain(facts.recipient).unwrap_or(b""),
            RateKey::ClientAddress | RateKey::ClientNetwork => {
                let Some(client) = facts.client else { return false };
                let (ipv4, ipv6) = if self.key == RateKey::ClientAddress { (32, 128) } else { NETWORK_BITS };
                let _ = write!(out, "{}", Network::around(client, ipv4, ipv6));
                return true;
            }
        };
        fold(out, text);
        !text.is_empty()
    }

    /// What a message is to have cost once this request is allowed, when it has cost `so_far`. `another` says that the request
    /// is about another recipient than the last.
    pub(crate) fn total(&self, facts: &Facts<'_>, so_far: u64, another: bool) -> u64 {
        let late = matches!(facts.state, State::Data | State::EndOfMessage);
        match self.count {
            Count::Messages => 1,
            Count::Recipients if late => facts.recipients,
            Count::Recipients if facts.state == State::Rcpt && another => so_far.saturating_add(1),
            Count::Recipients => so_far,
            Count::Bytes => facts.size,
        }
    }

    /// For a person: `60 messages/60s`.
    pub(crate) fn word(&self) -> &'static str {
        match self.count {
            Count::Messages => "messages",
            Count::Recipients => "recipients",
            Count::Bytes => "bytes",
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::facts::tests::rcpt;
    use mailsql_config::{Bytes, Span};
    use std::time::Duration;

    pub(crate) fn rule(name: &str, key: RateKey, count: Count, limit: u64, burst: u64) -> RateRule {
        RateRule {
            name: name.into(),
            key,
            count,
            limit: Bytes(limit),
            per: Span(Duration::from_secs(limit.max(1))),
            burst: Some(Bytes(burst)),
            clients: Clients::All,
            action: "DEFER {rule} {seconds}".into(),
        }
    }

    #[test]
    fn keys_are_what_the_rule_says() {
        use RateKey::*;
        let facts = rcpt(0, "192.0.2.77", "Bob@Example.jp", "Bob+x@Example.JP", "Info@Other.jp");
        let v6 = rcpt(0, "2001:db8::1:2:3:4", "", "", "");
        for (key, facts, want) in [
            (SaslUsername, &facts, Some("bob@example.jp")),
            (Sender, &facts, Some("bob+x@example.jp")),
            (SenderDomain, &facts, Some("example.jp")),
            (Recipient, &facts, Some("info@other.jp")),
            (RecipientDomain, &facts, Some("other.jp")),
            (ClientAddress, &facts, Some("192.0.2.77")),
            (ClientNetwork, &facts, Some("192.0.2.0/24")),
            (SaslUsername, &v6, None),
            (Sender, &v6, None),
            (SenderDomain, &v6, None),
            (RecipientDomain, &v6, None),
            (ClientAddress, &v6, Some("2001:db8::1:2:3:4")),
            (ClientNetwork, &v6, Some("2001:db8:0:0::/64")),
        ] {
            let mut out = Vec::new();
            let rule = Rule::new(&rule("a", key, Count::Messages, 1, 1)).unwrap();
            let got = rule.key(facts, &mut out).then(|| String::from_utf8(out).unwrap());
            assert_eq!(got.is_some(), want.is_some(), "{key:?}");
            if let Some(want) = want {
                let same = got.as_deref() == Some(want) || got.unwrap().parse::<Network>() == want.parse();
                assert!(same, "{key:?}");
            }
        }
        let mut settings = rule("a", ClientAddress, Count::Messages, 1, 1);
        for (clients, login, other) in [(Clients::Authenticated, true, false), (Clients::Anonymous, false, true)] {
            settings.clients = clients;
            let rule = Rule::new(&settings).unwrap();
            assert_eq!(rule.key(&facts, &mut Vec::new()), login);
            assert_eq!(rule.key(&v6, &mut Vec::new()), other);
        }
    }

    #[test]
    fn each_count_is_taken_where_postfix_knows_it() {
        let base = rcpt(0, "192.0.2.1", "", "a@b", "c@d");
        let at = |state| Facts { state, recipients: 3, size: 500, ..base.clone() };
        for (count, state, another, want) in [
            (Count::Messages, State::Rcpt, true, 1),
            (Count::Messages, State::EndOfMessage, true, 1),
            (Count::Recipients, State::Mail, true, 7),
            (Count::Recipients, State::Rcpt, true, 8),
            (Count::Recipients, State::Rcpt, false, 7),
            (Count::Recipients, State::Data, true, 3),
            (Count::Recipients, State::EndOfMessage, true, 3),
            (Count::Bytes, State::Rcpt, true, 500),
            (Count::Bytes, State::EndOfMessage, true, 500),
        ] {
            let rule = Rule::new(&rule("a", RateKey::Sender, count, 1, 1)).unwrap();
            assert_eq!(rule.total(&at(state), 7, another), want, "{count:?} {state:?}");
        }
    }

    #[test]
    fn a_rule_that_cannot_be_meant_is_refused() {
        let good = rule("a", RateKey::Sender, Count::Messages, 1, 1);
        for wrong in [
            RateRule { name: "a b".into(), ..good.clone() },
            RateRule { name: String::new(), ..good.clone() },
            RateRule { per: Span(Duration::ZERO), ..good.clone() },
            RateRule { burst: Some(Bytes(0)), ..good.clone() },
            RateRule { action: "450".into(), ..good.clone() },
            RateRule { action: "DEFER {login}".into(), ..good.clone() },
        ] {
            assert!(Rule::new(&wrong).is_err(), "{wrong:?}");
        }
        assert!(Rule::new(&good).is_ok());
        for rule in RateRule::defaults() {
            assert!(Rule::new(&rule).is_ok(), "{}", rule.name);
        }
    }
}
