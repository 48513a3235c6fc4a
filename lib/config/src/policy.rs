//! `[policy]`, its checks `[policy.NAME]`, and `[[policy.rate.rule]]`.
//!
//! Actions are right-hand sides of access(5), such as `"DEFER Too fast, come back in {seconds} seconds"`; which words in
//! braces are replaced stands at each setting.

use crate::listen::ListenList;
use crate::value::{Bytes, Span};
use serde::Deserialize;
use std::path::PathBuf;
use std::time::Duration;

/// `[policy]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Policy {
    /// Where Postfix's smtpd processes connect to.
    pub listen: ListenList,
    /// The checks, in the order in which they are asked. The first that has an opinion answers.
    pub checks: Vec<CheckName>,
    /// Connections at most. Each smtpd process keeps one.
    pub max_connections: usize,
    /// `[policy.acl]`.
    pub acl: Acl,
    /// `[policy.sender_login]`.
    pub sender_login: SenderLogin,
    /// `[policy.quota]`.
    pub quota: QuotaCheck,
    /// `[policy.greylist]`.
    pub greylist: Greylist,
    /// `[policy.rate]`.
    pub rate: RateCheck,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            listen: ListenList::unix("/run/mailsql/policy.sock"),
            checks: vec![CheckName::Acl, CheckName::SenderLogin, CheckName::Quota, CheckName::Rate],
            max_connections: 4096,
            acl: Acl::default(),
            sender_login: SenderLogin::default(),
            quota: QuotaCheck::default(),
            greylist: Greylist::default(),
            rate: RateCheck::default(),
        }
    }
}

/// A check.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CheckName {
    /// Lists of clients, senders, recipients, names.
    Acl,
    /// Whether a login may send as this sender.
    SenderLogin,
    /// Whether the recipient's mailbox takes mail.
    Quota,
    /// Makes strangers come back.
    Greylist,
    /// How much and how fast.
    Rate,
}

/// What a check does that cannot find out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnTrouble {
    /// Closes the connection without an answer: smtpd_policy_service_default_action decides.
    #[default]
    Disconnect,
    /// Has no opinion; the other checks are asked (fail open).
    Pass,
    /// Answers `451 4.3.0` (fail closed, for now).
    Defer,
}

/// Which clients something is for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Clients {
    /// All.
    #[default]
    All,
    /// Those that have logged in.
    Authenticated,
    /// Those that have not: port 25.
    Anonymous,
}

/// `[policy.acl]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Acl {
    /// Rules that are asked first.
    pub rule: Vec<AclRule>,
    /// Files of rules, one a line; read anew when they change.
    pub files: Vec<PathBuf>,
    /// Whether the rules of the database's table `policy_acl` follow.
    pub database: bool,
    /// What the check does while the database's rules are not known.
    pub on_trouble: OnTrouble,
}

impl Default for Acl {
    fn default() -> Self {
        Self { rule: Vec::new(), files: Vec::new(), database: true, on_trouble: OnTrouble::default() }
    }
}

/// `[[policy.acl.rule]]`: it matches when all that it names match.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AclRule {
    /// Address or network of the client.
    pub client: Option<String>,
    /// What the client calls itself: a name, `.domain` with what is below it.
    pub helo: Option<String>,
    /// Login: `user@domain` or `@domain`.
    pub login: Option<String>,
    /// Sender: `user@domain`, `user@`, `@domain`, `@.domain` with what is below it, `<>`.
    pub sender: Option<String>,
    /// Recipient, likewise.
    pub recipient: Option<String>,
    /// An action of access(5); `DUNNO` goes on with the next check, `PASS` answers DUNNO at once.
    pub action: String,
}

/// `[policy.sender_login]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SenderLogin {
    /// Whether a login may send with the null sender `<>`, as vacation messages and receipts do.
    pub null_sender: bool,
    /// Whether clients without a login may send as an address that has one here. Forwarders and mailing lists do.
    pub anonymous: bool,
    /// Logins that may send as anybody.
    pub any_sender: Vec<String>,
    /// The answer to others. `{login}` and `{sender}` are replaced.
    pub action: String,
    /// What the check does when the database cannot tell.
    pub on_trouble: OnTrouble,
}

impl Default for SenderLogin {
    fn default() -> Self {
        Self {
            null_sender: true,
            anonymous: true,
            any_sender: Vec::new(),
            action: "553 5.7.1 <{sender}> does not belong to {login}".into(),
            on_trouble: OnTrouble::default(),
        }
    }
}

/// `[policy.quota]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct QuotaCheck {
    /// The answer for a full mailbox: an action of access(5). Empty: as `[lmtp] over_quota` says, `552 5.2.2` or
    /// `452 4.2.2`.
    pub action: String,
    /// The answer for a mailbox that is switched off.
    pub disabled_action: String,
    /// With several mailboxes behind an alias, whether one or all of them must be full.
    pub many: Many,
    /// What the check does when the database or the mailbox cannot tell.
    pub on_trouble: OnTrouble,
}

impl Default for QuotaCheck {
    fn default() -> Self {
        Self {
            action: String::new(),
            disabled_action: "550 5.2.1 Mailbox is disabled".into(),
            many: Many::All,
            on_trouble: OnTrouble::default(),
        }
    }
}

/// How many of several mailboxes must refuse.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Many {
    /// One that refuses is enough; nobody of the others gets the mail.
    Any,
    /// All; those that can get the mail do, the others' share is refused at delivery.
    All,
}

/// `[policy.greylist]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Greylist {
    /// Whether recipients are protected whose user and domain say nothing about it in the database.
    pub default: bool,
    /// How long a stranger waits.
    pub delay: Span,
    /// How long it may take to come back.
    pub retry_window: Span,
    /// How long one who came back is remembered since the last mail.
    pub keep: Span,
    /// Greylisted mails after which a client's network need not wait any more; 0 for never.
    pub allow_after: u32,
    /// Bits of an IPv4 client's address that count.
    pub ipv4_bits: u8,
    /// Bits of an IPv6 client's address that count.
    pub ipv6_bits: u8,
    /// Networks that never wait.
    pub except: Vec<String>,
    /// The answer to strangers. `{seconds}` is replaced by the rest of the delay.
    pub action: String,
    /// Triplets remembered at most.
    pub entries: usize,
    /// What the check does when the database cannot tell whether a recipient is protected.
    pub on_trouble: OnTrouble,
}

impl Default for Greylist {
    fn default() -> Self {
        Self {
            default: true,
            delay: Span(Duration::from_secs(300)),
            retry_window: Span(Duration::from_secs(2 * 86_400)),
            keep: Span(Duration::from_secs(36 * 86_400)),
            allow_after: 5,
            ipv4_bits: 24,
            ipv6_bits: 64,
            except: vec!["127.0.0.0/8".into(), "::1".into()],
            action: "DEFER_IF_PERMIT Greylisted, try again in {seconds} seconds".into(),
            entries: 100_000,
            on_trouble: OnTrouble::default(),
        }
    }
}

/// `[policy.rate]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RateCheck {
    /// The rules; all that apply must agree. Without any: 500 recipients an hour for a login, 1000 messages an hour for
    /// an IP address without one.
    pub rule: Vec<RateRule>,
    /// Networks that are not counted.
    pub except: Vec<String>,
    /// Whether limits of users and domains are taken from the database's table `rate_limits`.
    pub database: bool,
    /// Keys that each rule remembers at most. Those with a full bucket are forgotten first.
    pub entries: usize,
    /// What the check does when the database cannot tell a limit.
    pub on_trouble: OnTrouble,
}

impl Default for RateCheck {
    fn default() -> Self {
        Self {
            rule: Vec::new(),
            except: vec!["127.0.0.0/8".into(), "::1".into()],
            database: true,
            entries: 50_000,
            on_trouble: OnTrouble::default(),
        }
    }
}

/// `[[policy.rate.rule]]`: a token bucket for each value of `key`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RateRule {
    /// Its name, in answers, logs and the database.
    pub name: String,
    /// What has a bucket of its own.
    pub key: RateKey,
    /// What is counted.
    #[serde(default)]
    pub count: Count,
    /// What a bucket regains within `per`.
    pub limit: Bytes,
    /// The time for `limit`.
    pub per: Span,
    /// What a full bucket holds; `limit` if absent.
    pub burst: Option<Bytes>,
    /// Whom the rule is for.
    #[serde(default)]
    pub clients: Clients,
    /// The answer when the bucket holds too little. `{rule}` and `{seconds}` are replaced.
    #[serde(default = "too_fast")]
    pub action: String,
}

fn too_fast() -> String {
    "DEFER Limit \"{rule}\" reached, try again in {seconds} seconds".into()
}

impl RateRule {
    /// The rules of a `[policy.rate]` without any.
    #[must_use]
    pub fn defaults() -> Vec<Self> {
        let rule = |name: &str, key, count, limit, clients| Self {
            name: name.into(),
            key,
            count,
            limit: Bytes(limit),
            per: Span(Duration::from_secs(3600)),
            burst: None,
            clients,
            action: too_fast(),
        };
        vec![
            rule("login", RateKey::SaslUsername, Count::Recipients, 500, Clients::Authenticated),
            rule("client", RateKey::ClientAddress, Count::Messages, 1000, Clients::Anonymous),
        ]
    }
}

/// What has a bucket of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RateKey {
    /// The login.
    SaslUsername,
    /// The sender's address.
    Sender,
    /// The sender's domain.
    SenderDomain,
    /// The client's address.
    ClientAddress,
    /// The client's /24 or /64.
    ClientNetwork,
    /// The recipient's address.
    Recipient,
    /// The recipient's domain.
    RecipientDomain,
}

/// What is counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Count {
    /// Messages, each once.
    #[default]
    Messages,
    /// Recipients of messages.
    Recipients,
    /// Bytes of messages, each message once.
    Bytes,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_section_of_the_contract_is_read() {
        let policy: Policy = toml::from_str(
            r#"
            listen = ["unix:/run/mailsql/policy.sock", "inet:127.0.0.1:10040"]
            checks = ["acl", "sender_login", "quota", "greylist", "rate"]
            [greylist]
            delay = "5m"
            [[rate.rule]]
            name = "minute"
            key = "sasl_username"
            count = "messages"
            limit = 60
            per = "1m"
            burst = 20
            action = "DEFER slow down"
            [[rate.rule]]
            name = "volume"
            key = "sender_domain"
            count = "bytes"
            limit = "1G"
            per = "1d"
            clients = "authenticated"
            [[acl.rule]]
            client = "192.0.2.0/24"
            action = "REJECT"
            "#,
        )
        .unwrap();
        assert_eq!(policy.checks.len(), 5);
        let [minute, volume] = &policy.rate.rule[..] else { panic!("{:?}", policy.rate.rule) };
        assert_eq!((minute.limit, minute.burst, minute.count), (Bytes(60), Some(Bytes(20)), Count::Messages));
        assert_eq!((volume.limit, volume.burst, volume.clients), (Bytes(1 << 30), None, Clients::Authenticated));
        assert_eq!(policy.acl.rule[0].client.as_deref(), Some("192.0.2.0/24"));
    }

    #[test]
    fn what_is_not_known_is_refused() {
        for text in [
            "checks = [\"spf\"]",
            "[quota]\nmany = \"some\"",
            "[rate]\non_trouble = \"ignore\"",
            "[[rate.rule]]\nname = \"a\"\nkey = \"helo\"\nlimit = 1\nper = \"1m\"",
            "[[rate.rule]]\nname = \"a\"\nkey = \"sender\"\nlimit = 1",
            "[sender_logins]",
        ] {
            assert!(toml::from_str::<Policy>(text).is_err(), "{text}");
        }
    }
}
