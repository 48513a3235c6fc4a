//! What a request says, picked out once for all checks.
//!
//! Values are bytes as the mail client sent them. Postfix sends every attribute it knows; one that is missing is empty.

use mailsql_core::Address;
use mailsql_proto::policy::{Request, State};
use std::borrow::Cow;
use std::net::IpAddr;

/// Nanoseconds in a second.
pub const SECOND: u64 = 1_000_000_000;

/// Longest key of a counter, in bytes: the longest address there is. What is longer is cut.
pub const MAX_KEY: usize = 511;

/// What a request says.
#[derive(Debug, Clone)]
pub struct Facts<'a> {
    /// Nanoseconds since 1970.
    pub now: u64,
    /// Where the SMTP dialogue stands.
    pub state: State,
    /// The client's address.
    pub client: Option<IpAddr>,
    /// What the client calls itself.
    pub helo: &'a [u8],
    /// Login, with the default domain where it has none; empty without AUTH.
    pub login: Cow<'a, [u8]>,
    /// Sender; empty for `<>` and before MAIL.
    pub sender: &'a [u8],
    /// Recipient; empty where there is none or several.
    pub recipient: &'a [u8],
    /// Recipients so far, at DATA and END-OF-MESSAGE.
    pub recipients: u64,
    /// Bytes: announced, and at END-OF-MESSAGE true.
    pub size: u64,
    /// The same for all requests about one message.
    pub instance: &'a [u8],
}

impl<'a> Facts<'a> {
    /// Reads a request; `None` when it is no question for an access policy.
    #[must_use]
    pub fn read(request: &Request<'a>, now: u64, default_domain: Option<&str>) -> Option<Self> {
        let mut known = false;
        let mut facts = Facts {
            now,
            state: State::Connect,
            client: None,
            helo: b"",
            login: Cow::Borrowed(b""),
            sender: b"",
            recipient: b"",
            recipients: 0,
            size: 0,
            instance: b"",
        };
        let mut state = None;
        for &(name, value) in request.attributes() {
            match name {
                b"request" => known = value == mailsql_proto::policy::REQUEST_TYPE,
                b"protocol_state" => state = State::decode(value),
                b"client_address" => facts.client = std::str::from_utf8(value).ok().and_then(|text| text.parse().ok()),
                b"helo_name" => facts.helo = value,
                b"sasl_username" => facts.login = Cow::Borrowed(value),
                b"sender" => facts.sender = value,
                b"recipient" => facts.recipient = value,
                b"recipient_count" => facts.recipients = number(value),
                b"size" => facts.size = number(value),
                b"instance" => facts.instance = value,
                _ => {}
            }
        }
        if let Some(domain) = default_domain
            && !facts.login.is_empty()
            && !facts.login.contains(&b'@')
        {
            facts.login = Cow::Owned([&*facts.login, b"@", domain.as_bytes()].concat());
        }
        facts.state = state.filter(|_| known)?;
        Some(facts)
    }

    /// Whether the client has logged in.
    #[must_use]
    pub fn authenticated(&self) -> bool {
        !self.login.is_empty()
    }

    /// Whether there is a sender, be it `<>`.
    #[must_use]
    pub fn has_sender(&self) -> bool {
        matches!(self.state, State::Mail | State::Rcpt | State::Data | State::EndOfMessage)
    }

    /// Seconds since 1970.
    #[must_use]
    pub fn seconds(&self) -> u64 {
        self.now / SECOND
    }
}

fn number(value: &[u8]) -> u64 {
    let digits = value.iter().take_while(|byte| byte.is_ascii_digit());
    digits.fold(0, |number: u64, digit| number.saturating_mul(10).saturating_add(u64::from(digit - b'0')))
}

/// An address as the client wrote it, or nothing: what is no address of ours has no mailbox and no owner.
#[must_use]
pub fn address(bytes: &[u8]) -> Option<Address> {
    // Postfix sends the unquoted form: a local part that begins with a quote begins with a quote.
    let (local, domain) = std::str::from_utf8(bytes).ok()?.rsplit_once('@')?;
    Address::new(local, domain).ok()
}

/// Appends text in lower case, cut to [`MAX_KEY`].
pub fn fold(out: &mut Vec<u8>, bytes: &[u8]) {
    let bytes = &bytes[..bytes.len().min(MAX_KEY)];
    match std::str::from_utf8(bytes) {
        Ok(text) if !bytes.is_ascii() => out.extend_from_slice(text.to_lowercase().as_bytes()),
        _ => out.extend(bytes.iter().map(u8::to_ascii_lowercase)),
    }
}

/// The part of an address behind its last `@`.
#[must_use]
pub fn domain(address: &[u8]) -> Option<&[u8]> {
    let at = address.iter().rposition(|byte| *byte == b'@')?;
    Some(&address[at + 1..]).filter(|domain| !domain.is_empty())
}

/// Text for logs and answers: what cannot be shown becomes `?`, a long one is cut.
#[must_use]
pub fn shown(bytes: &[u8]) -> String {
    const MAX: usize = 100;
    let text = String::from_utf8_lossy(&bytes[..bytes.len().min(MAX)]);
    text.chars().map(|char| if char.is_control() || char == '\u{fffd}' { '?' } else { char }).collect()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Facts at RCPT.
    pub(crate) fn rcpt<'a>(now: u64, client: &str, login: &'a str, sender: &'a str, recipient: &'a str) -> Facts<'a> {
        Facts {
            now,
            state: State::Rcpt,
            client: client.parse().ok(),
            helo: b"client.example.net",
            login: Cow::Borrowed(login.as_bytes()),
            sender: sender.as_bytes(),
            recipient: recipient.as_bytes(),
            recipients: 0,
            size: 0,
            instance: b"1.2.3.0",
        }
    }

    #[test]
    fn a_request_is_read_and_what_is_none_is_not() {
        let base: [(&[u8], &[u8]); 7] = [
            (b"request", b"smtpd_access_policy"),
            (b"protocol_state", b"END-OF-MESSAGE"),
            (b"client_address", b"2001:db8::1"),
            (b"sasl_username", b"bob"),
            (b"size", b"99999999999999999999999"),
            (b"recipient_count", b"3x"),
            (b"news", b"of 3.13"),
        ];
        let facts = Facts::read(&Request::new(base), 5, Some("example.jp")).unwrap();
        assert_eq!((facts.state, facts.size, facts.recipients), (State::EndOfMessage, u64::MAX, 3));
        assert_eq!(&*facts.login, b"bob@example.jp");
        assert_eq!(facts.client, "2001:db8::1".parse().ok());
        for (name, value) in [(&b"request"[..], &b"smtpd"[..]), (b"protocol_state", b"QUIT")] {
            let other = base.map(|attribute| if attribute.0 == name { (name, value) } else { attribute });
            assert!(Facts::read(&Request::new(other), 5, None).is_none());
        }
    }

    #[test]
    fn addresses_come_without_quotes() {
        for (text, local) in [("a b@x.jp", "a b"), ("\"a@x.jp", "\"a"), ("a@b@x.jp", "a@b")] {
            assert_eq!(address(text.as_bytes()).unwrap().local(), local);
        }
        for text in ["", "@", "a", "a@", "@x.jp"] {
            assert!(address(text.as_bytes()).is_none(), "{text}");
        }
        assert!(address(b"\xff@x.jp").is_none());
    }

    #[test]
    fn keys_are_folded_and_bounded() {
        let mut key = Vec::new();
        fold(&mut key, "INFO@Ä.jp".as_bytes());
        assert_eq!(key, "info@ä.jp".as_bytes());
        key.clear();
        fold(&mut key, b"\xffA");
        assert_eq!(key, [0xff, b'a']);
        key.clear();
        fold(&mut key, &vec![b'x'; 5000]);
        assert_eq!(key.len(), MAX_KEY);
        assert_eq!(shown(b"a\nb\xff"), "a?b?");
    }
}
