//! policy: Postfix SMTP access policy delegation.
//!
//! ```text
//! request = *(name "=" value LF) LF      the first "=" splits; any order; no CR
//! reply   = "action=" action LF LF
//! ```
//!
//! One connection carries any number of requests, one at a time. It stays open for 300 s idle and 1000 s at most.
//!
//! Limits: a request of [`MAX_REQUEST`] bytes and [`MAX_ATTRIBUTES`] lines. An action of [`MAX_ACTION`] bytes when we write it: it
//! becomes an SMTP reply line.
//!
//! Security:
//! - Values are raw bytes from the mail client, not always UTF-8. They hold no LF, so no value can forge another attribute.
//! - A byte too many towards Postfix breaks the connection, so [`Action`] holds no LF, no control character, and nothing
//!   that is not UTF-8 (Postfix with smtputf8_enable drops such a reply and uses its default action).
//! - An action of digits only means OK, whatever the digits: `action=450` lets everything in. [`Action::parse`] refuses it.
//!
//! Oddities:
//! - A name that comes twice: the last value counts. Names we do not know are kept and ignored; 3.8 sends two more than 3.7.
//! - `protocol_state` is where the SMTP dialogue stands, not which restriction list asks.
//! - There is no way to say "I could not find out" but to close without an answer; Postfix asks once more on a new
//!   connection after a second and then does as smtpd_policy_service_default_action says.
//! - A reply's other attributes are skipped; `action` and the empty line are what Postfix waits for.
//!
//! Source: Postfix 3.7.11 `smtpd/smtpd_check.c`, `util/attr_clnt.c`; SMTPD_POLICY_README; access(5).

use std::borrow::Cow;
use std::fmt;
use std::net::IpAddr;

use crate::number;

/// Longest request, in bytes with its empty line.
pub const MAX_REQUEST: usize = 100 * 1024;
/// Most attributes in a request; Postfix 3.12 sends some 35.
pub const MAX_ATTRIBUTES: usize = 200;
/// Longest action we write, in bytes: an SMTP reply line of 512 bytes, less what Postfix puts in front.
pub const MAX_ACTION: usize = 400;
/// Longest reply we read, in bytes with its empty line.
pub const MAX_REPLY: usize = 8192;
/// What `request` says in every request of smtpd.
pub const REQUEST_TYPE: &[u8] = b"smtpd_access_policy";

/// What smtpd asks: attributes, found by name.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Request<'a> {
    attributes: Vec<(&'a [u8], &'a [u8])>,
}

/// Where the SMTP dialogue stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// At connect.
    Connect,
    /// At EHLO.
    Ehlo,
    /// At HELO.
    Helo,
    /// At MAIL.
    Mail,
    /// At RCPT; also for client, helo and sender restrictions while smtpd_delay_reject is on.
    Rcpt,
    /// At DATA, or BDAT.
    Data,
    /// The message is complete: `size` is its true size.
    EndOfMessage,
    /// At VRFY.
    Vrfy,
    /// At ETRN.
    Etrn,
}

impl State {
    const WORDS: [(State, &'static [u8]); 9] = [
        (State::Connect, b"CONNECT"),
        (State::Ehlo, b"EHLO"),
        (State::Helo, b"HELO"),
        (State::Mail, b"MAIL"),
        (State::Rcpt, b"RCPT"),
        (State::Data, b"DATA"),
        (State::EndOfMessage, b"END-OF-MESSAGE"),
        (State::Vrfy, b"VRFY"),
        (State::Etrn, b"ETRN"),
    ];

    /// The state of a `protocol_state` value; `None` for a word we do not know.
    pub fn decode(word: &[u8]) -> Option<State> {
        State::WORDS.iter().find(|(_, known)| *known == word).map(|(state, _)| *state)
    }
}

/// Accessors for attributes that are plain text: empty when the attribute is empty or missing.
macro_rules! text {
    ($($(#[$doc:meta])* $name:ident)*) => {$(
        $(#[$doc])*
        pub fn $name(&self) -> &'a [u8] {
            self.find(stringify!($name).as_bytes()).unwrap_or_default()
        }
    )*};
}

/// Accessors for counts: 0 when missing or no number, as Postfix sends for "not known".
macro_rules! count {
    ($($(#[$doc:meta])* $name:ident)*) => {$(
        $(#[$doc])*
        pub fn $name(&self) -> u64 {
            self.find(stringify!($name).as_bytes()).and_then(number::decode_saturating).unwrap_or(0)
        }
    )*};
}

impl<'a> Request<'a> {
    /// A request of these attributes, for clients.
    pub fn new(attributes: impl IntoIterator<Item = (&'a [u8], &'a [u8])>) -> Self {
        Request { attributes: attributes.into_iter().collect() }
    }

    /// The value of an attribute, the last one given.
    pub fn find(&self, name: &[u8]) -> Option<&'a [u8]> {
        self.attributes.iter().rev().find(|(known, _)| *known == name).map(|(_, value)| *value)
    }

    /// All attributes in the order they came.
    pub fn attributes(&self) -> &[(&'a [u8], &'a [u8])] {
        &self.attributes
    }

    /// Whether this is a question for an access policy at all. Anything else deserves no answer.
    pub fn is_access_policy(&self) -> bool {
        self.find(b"request") == Some(REQUEST_TYPE)
    }

    /// `protocol_state`; `None` for a word we do not know.
    pub fn protocol_state(&self) -> Option<State> {
        self.find(b"protocol_state").and_then(State::decode)
    }

    /// `client_address`; `None` when it is no address.
    pub fn client_ip(&self) -> Option<IpAddr> {
        std::str::from_utf8(self.client_address()).ok()?.parse().ok()
    }

    text! {
        /// `ESMTP` or `SMTP`.
        protocol_name
        /// IPv4 or IPv6 address of the client, without brackets.
        client_address
        /// Verified host name, or `unknown`.
        client_name
        /// Port of the client, or `unknown`.
        client_port
        /// Host name not verified, or `unknown`.
        reverse_client_name
        /// Address the client connected to (3.2).
        server_address
        /// Port the client connected to (3.2).
        server_port
        /// What the client called itself.
        helo_name
        /// Sender without brackets and quotes; empty for `<>` and before MAIL.
        sender
        /// Recipient; empty at DATA and END-OF-MESSAGE when there are several.
        recipient
        /// Queue id, once there is a queue file.
        queue_id
        /// The same for all requests about one message.
        instance
        /// Argument of ETRN.
        etrn_domain
        /// `yes` under stress.
        stress
        /// SASL mechanism; empty without authentication.
        sasl_method
        /// SASL login; empty without authentication.
        sasl_username
        /// AUTH= of MAIL.
        sasl_sender
        /// Subject of a trusted client certificate, in xtext.
        ccert_subject
        /// Issuer of a trusted client certificate, in xtext.
        ccert_issuer
        /// Fingerprint of the client certificate, trusted or not.
        ccert_fingerprint
        /// Fingerprint of its public key.
        ccert_pubkey_fingerprint
        /// `TLSv1.3`; empty in the clear.
        encryption_protocol
        /// Cipher; empty in the clear.
        encryption_cipher
        /// Free text of main.cf (3.1).
        policy_context
        /// `major.minor.patch` (3.8).
        compatibility_level
        /// Postfix's version (3.8).
        mail_version
    }

    count! {
        /// Recipients at DATA and END-OF-MESSAGE, 0 before.
        recipient_count
        /// SIZE= of MAIL in bytes, 0 when not given; the true size at END-OF-MESSAGE.
        size
        /// Bits of the cipher's key, 0 in the clear.
        encryption_keysize
    }

    /// Appends the request as Postfix sends it.
    ///
    /// # Errors
    /// [`Malformed::Attribute`] for a name with `=` or an empty one, and for LF anywhere: they would read as something else.
    pub fn encode(&self, out: &mut Vec<u8>) -> Result<(), Malformed> {
        let start = out.len();
        for (name, value) in &self.attributes {
            if name.is_empty() || name.contains(&b'=') || name.contains(&b'\n') || value.contains(&b'\n') {
                out.truncate(start);
                return Err(Malformed::Attribute);
            }
            for part in [*name, b"=", value, b"\n"] {
                out.extend_from_slice(part);
            }
        }
        out.push(b'\n');
        Ok(())
    }
}

/// The answer: an access(5) right-hand side that Postfix reads as it was meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Action(Cow<'static, str>);

impl Action {
    /// No opinion: the next restriction decides.
    pub const DUNNO: Action = Action(Cow::Borrowed("DUNNO"));
    /// Accept, and end this restriction list.
    pub const OK: Action = Action(Cow::Borrowed("OK"));

    /// An action as an administrator writes it: `DEFER_IF_PERMIT Greylisted`, `552 5.2.2 Mailbox full`.
    ///
    /// # Errors
    /// Says what Postfix would make of it: a code without text (all digits: OK), a code outside 400 to 599, control
    /// characters, nothing at all, more than [`MAX_ACTION`] bytes.
    pub fn parse(text: &str) -> Result<Action, BadAction> {
        let text = text.trim_matches(' ');
        if text.len() > MAX_ACTION {
            return Err(BadAction::TooLong);
        }
        if text.contains(char::is_control) {
            return Err(BadAction::Control);
        }
        let (word, rest) = text.split_once(' ').unwrap_or((text, ""));
        let digits = word.bytes().all(|byte| byte.is_ascii_digit());
        let code = word.len() == 3 && (word.starts_with('4') || word.starts_with('5'));
        match (word.is_empty(), digits, code, rest.trim_start_matches(' ').is_empty()) {
            (true, ..) => Err(BadAction::Empty),
            (_, true, false, _) => Err(BadAction::Code),
            (_, true, true, true) => Err(BadAction::NoText),
            _ => Ok(Action(Cow::Owned(text.to_owned()))),
        }
    }

    /// `code subject.detail text`: the reply smtpd gives, its class taken from the code. What cannot be sent in `text` becomes `?`, a long text
    /// is cut, a missing one is filled in.
    pub fn reply(code: ReplyClass, text: &str) -> Action {
        let ReplyClass { code, status: (subject, detail) } = code;
        let text = text.trim_matches(' ');
        let text = if text.is_empty() { "refused" } else { text };
        let mut action = format!("{code} {}.{subject}.{detail} ", code / 100);
        action.extend(text.chars().map(|char| if char.is_control() { '?' } else { char }));
        while action.len() > MAX_ACTION {
            action.pop();
        }
        Action(Cow::Owned(action))
    }

    /// The action as it is sent.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Appends the whole reply.
    pub fn encode(&self, out: &mut Vec<u8>) {
        for part in [b"action=", self.0.as_bytes(), b"\n\n"] {
            out.extend_from_slice(part);
        }
    }
}

/// Code and enhanced status of a refusal; one of the constants, so that no code can read as OK.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReplyClass {
    code: u16,
    status: (u16, u16),
}

impl ReplyClass {
    /// `550 5.2.1`: the mailbox is disabled.
    pub const DISABLED: ReplyClass = ReplyClass { code: 550, status: (2, 1) };
    /// `552 5.2.2`: the mailbox is full, for good.
    pub const OVER_QUOTA: ReplyClass = ReplyClass { code: 552, status: (2, 2) };
    /// `452 4.2.2`: the mailbox is full, for now.
    pub const OVER_QUOTA_FOR_NOW: ReplyClass = ReplyClass { code: 452, status: (2, 2) };
    /// `550 5.1.1`: no such user.
    pub const UNKNOWN_USER: ReplyClass = ReplyClass { code: 550, status: (1, 1) };
    /// `553 5.7.1`: the sender address belongs to somebody else.
    pub const NOT_OWNER: ReplyClass = ReplyClass { code: 553, status: (7, 1) };
    /// `554 5.7.1`: refused by policy.
    pub const REFUSED: ReplyClass = ReplyClass { code: 554, status: (7, 1) };
    /// `450 4.7.1`: refused by policy for now (rates, greylisting).
    pub const LATER: ReplyClass = ReplyClass { code: 450, status: (7, 1) };
    /// `451 4.3.0`: trouble on our side.
    pub const TROUBLE: ReplyClass = ReplyClass { code: 451, status: (3, 0) };

    /// Any refusal: a code of 400 to 599, subject and detail of at most three digits. `None` for others.
    pub fn new(code: u16, status: (u16, u16)) -> Option<ReplyClass> {
        let usable = (400..600).contains(&code) && status.0 < 1000 && status.1 < 1000;
        usable.then_some(ReplyClass { code, status })
    }
}

/// Why a text is no usable action.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BadAction {
    /// Nothing: Postfix warns and takes it as OK.
    Empty,
    /// Digits that are no code of 400 to 599: Postfix takes them as OK.
    Code,
    /// A code without text: Postfix takes it as OK.
    NoText,
    /// A control character, or a line end that would cut the action short.
    Control,
    /// More than [`MAX_ACTION`] bytes.
    TooLong,
}

impl fmt::Display for BadAction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BadAction::Empty => f.write_str("an empty action means OK to Postfix; write DUNNO or OK"),
            BadAction::Code => f.write_str("digits alone mean OK to Postfix; a reply code is 400 to 599"),
            BadAction::NoText => f.write_str("a reply code without text means OK to Postfix; add a text"),
            BadAction::Control => f.write_str("an action cannot hold control characters"),
            BadAction::TooLong => write!(f, "an action is at most {MAX_ACTION} bytes long"),
        }
    }
}

impl std::error::Error for BadAction {}

/// What is wrong with the bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Malformed {
    /// More than [`MAX_REQUEST`] bytes, or [`MAX_REPLY`] for a reply, without an empty line.
    TooLong,
    /// More than [`MAX_ATTRIBUTES`] attributes.
    TooManyAttributes,
    /// A line without `=`, with nothing before it, or that cannot be written.
    Attribute,
    /// An empty line with no attribute before it.
    Empty,
    /// A reply without `action`.
    NoAction,
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Malformed::TooLong => f.write_str("no empty line within the limit"),
            Malformed::TooManyAttributes => write!(f, "more than {MAX_ATTRIBUTES} attributes"),
            Malformed::Attribute => f.write_str("a line is not name=value"),
            Malformed::Empty => f.write_str("a request without attributes"),
            Malformed::NoAction => f.write_str("the reply has no action"),
        }
    }
}

impl std::error::Error for Malformed {}

/// Reads a request from the bytes received so far.
///
/// # Errors
/// [`Malformed`]: close without an answer.
pub fn decode(input: &[u8]) -> Result<Option<(Request<'_>, usize)>, Malformed> {
    let Some(used) = block_length(input, MAX_REQUEST)? else {
        return Ok(None);
    };
    let mut attributes = Vec::with_capacity(40);
    for line in lines(&input[..used]) {
        if attributes.len() == MAX_ATTRIBUTES {
            return Err(Malformed::TooManyAttributes);
        }
        attributes.push(split(line)?);
    }
    if attributes.is_empty() {
        return Err(Malformed::Empty);
    }
    Ok(Some((Request { attributes }, used)))
}

/// Reads a reply from the bytes received so far: the value of its last `action`.
///
/// # Errors
/// [`Malformed::NoAction`] where Postfix would count a failed attempt; [`Malformed::TooLong`], [`Malformed::Attribute`].
pub fn decode_reply(input: &[u8]) -> Result<Option<(&[u8], usize)>, Malformed> {
    let Some(used) = block_length(input, MAX_REPLY)? else {
        return Ok(None);
    };
    let mut action = None;
    for line in lines(&input[..used]) {
        if let (b"action", value) = split(line)? {
            action = Some(value);
        }
    }
    action.map(|action| Some((action, used))).ok_or(Malformed::NoAction)
}

/// Bytes up to and with the empty line.
fn block_length(input: &[u8], limit: usize) -> Result<Option<usize>, Malformed> {
    let seen = &input[..input.len().min(limit)];
    if seen.first() == Some(&b'\n') {
        return Ok(Some(1));
    }
    match seen.windows(2).position(|pair| pair == b"\n\n") {
        Some(at) => Ok(Some(at + 2)),
        None if input.len() >= limit => Err(Malformed::TooLong),
        None => Ok(None),
    }
}

/// The lines of a block without its empty one.
fn lines(block: &[u8]) -> impl Iterator<Item = &[u8]> {
    block.split(|byte| *byte == b'\n').take_while(|line| !line.is_empty())
}

fn split(line: &[u8]) -> Result<(&[u8], &[u8]), Malformed> {
    match line.iter().position(|byte| *byte == b'=') {
        None | Some(0) => Err(Malformed::Attribute),
        Some(at) => Ok((&line[..at], &line[at + 1..])),
    }
}

#[cfg(test)]
#[allow(clippy::type_complexity, reason = "tables of bytes and the values expected of them")]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const RCPT: &[u8] = b"request=smtpd_access_policy
protocol_state=RCPT
protocol_name=ESMTP
client_address=192.0.2.7
client_name=mx.example.net
client_port=41234
reverse_client_name=mx.example.net
server_address=198.51.100.1
server_port=25
helo_name=mx.example.net
sender=a=b@example.net
recipient=b@example.org
recipient_count=0
queue_id=
instance=2d1f.65a1b2c3.1f2e.0
size=2048
etrn_domain=
stress=
sasl_method=plain
sasl_username=bob@example.org
sasl_sender=
ccert_subject=
ccert_issuer=
ccert_fingerprint=
ccert_pubkey_fingerprint=
encryption_protocol=TLSv1.3
encryption_cipher=TLS_AES_256_GCM_SHA384
encryption_keysize=256
policy_context=submission
some_later_name=x

";

    #[test]
    fn what_postfix_sends_is_found_by_name() {
        let (request, used) = decode(RCPT).unwrap().unwrap();
        assert_eq!(used, RCPT.len());
        assert!(request.is_access_policy());
        assert_eq!(request.protocol_state(), Some(State::Rcpt));
        assert_eq!(request.client_ip(), Some(IpAddr::from([192, 0, 2, 7])));
        assert_eq!((request.size(), request.recipient_count(), request.encryption_keysize()), (2048, 0, 256));
        let table: &[(&[u8], &[u8])] = &[
            (request.protocol_name(), b"ESMTP"),
            (request.client_name(), b"mx.example.net"),
            (request.client_port(), b"41234"),
            (request.reverse_client_name(), b"mx.example.net"),
            (request.server_address(), b"198.51.100.1"),
            (request.server_port(), b"25"),
            (request.helo_name(), b"mx.example.net"),
            (request.sender(), b"a=b@example.net"),
            (request.recipient(), b"b@example.org"),
            (request.queue_id(), b""),
            (request.instance(), b"2d1f.65a1b2c3.1f2e.0"),
            (request.sasl_method(), b"plain"),
            (request.sasl_username(), b"bob@example.org"),
            (request.encryption_protocol(), b"TLSv1.3"),
            (request.policy_context(), b"submission"),
            (request.mail_version(), b""),
        ];
        for (got, want) in table {
            assert_eq!(got, want);
        }
        assert_eq!(request.find(b"some_later_name"), Some(&b"x"[..]));
        assert_eq!(request.attributes().len(), 30);
        let mut out = Vec::new();
        request.encode(&mut out).unwrap();
        assert_eq!(out, RCPT);
    }

    #[test]
    fn every_shorter_piece_asks_for_more() {
        for end in 0..RCPT.len() {
            assert_eq!(decode(&RCPT[..end]), Ok(None), "{end} bytes");
        }
        let two = [RCPT, b"request=x\n\n"].concat();
        let (_, used) = decode(&two).unwrap().unwrap();
        let (second, _) = decode(&two[used..]).unwrap().unwrap();
        assert!(!second.is_access_policy());
    }

    #[test]
    fn odd_requests_have_a_meaning_or_none() {
        let (request, _) =
            decode(b"a=1\na=2\nsize=many\nprotocol_state=FOO\nclient_address=unknown\nb==\xff\n\n").unwrap().unwrap();
        assert_eq!(request.find(b"a"), Some(&b"2"[..]));
        assert_eq!(request.find(b"b"), Some(&b"=\xff"[..]));
        assert_eq!((request.size(), request.protocol_state(), request.client_ip()), (0, None, None));
        let table: &[(&[u8], Malformed)] = &[
            (b"\n", Malformed::Empty),
            (b"a\n\n", Malformed::Attribute),
            (b"=a\n\n", Malformed::Attribute),
            (b"a=1\r\n\r\n\n", Malformed::Attribute),
        ];
        for (wire, want) in table {
            assert_eq!(decode(wire), Err(*want), "{}", wire.escape_ascii());
        }
        assert_eq!(
            decode(b"client_address=2001:db8::1\n\n").unwrap().unwrap().0.client_ip(),
            "2001:db8::1".parse().ok()
        );
    }

    #[test]
    fn requests_have_their_limits() {
        let most = "a=\n".repeat(MAX_ATTRIBUTES);
        assert!(matches!(decode(format!("{most}\n").as_bytes()), Ok(Some(_))));
        assert_eq!(decode(format!("{most}a=\n\n").as_bytes()), Err(Malformed::TooManyAttributes));
        let longest = format!("a={}\n\n", "x".repeat(MAX_REQUEST - 4));
        assert!(matches!(decode(longest.as_bytes()), Ok(Some((_, MAX_REQUEST)))));
        assert_eq!(decode(format!("a={}\n\n", "x".repeat(MAX_REQUEST - 3)).as_bytes()), Err(Malformed::TooLong));
        assert_eq!(decode(&vec![b'x'; MAX_REQUEST - 1]), Ok(None));
        assert_eq!(decode(&vec![b'x'; MAX_REQUEST]), Err(Malformed::TooLong));
    }

    #[test]
    fn attributes_that_would_read_as_others_are_not_written() {
        for (name, value) in [(&b""[..], &b"x"[..]), (b"a=b", b"x"), (b"a\nb", b"x"), (b"a", b"x\naction=OK")] {
            let mut out = Vec::new();
            assert_eq!(
                Request::new([(&b"k"[..], &b"v"[..]), (name, value)]).encode(&mut out),
                Err(Malformed::Attribute)
            );
            assert_eq!(out, b"");
        }
    }

    #[test]
    fn actions_that_postfix_takes_as_ok_are_refused() {
        let table = [
            ("DUNNO", Ok("DUNNO")),
            ("450 4.7.1 Later", Ok("450 4.7.1 Later")),
            (" REJECT No ", Ok("REJECT No")),
            ("552 full", Ok("552 full")),
            ("DEFER", Ok("DEFER")),
            ("PREPEND X-A: b", Ok("PREPEND X-A: b")),
            ("45x", Ok("45x")),
            ("450", Err(BadAction::NoText)),
            ("450 ", Err(BadAction::NoText)),
            ("554    ", Err(BadAction::NoText)),
            ("250 fine", Err(BadAction::Code)),
            ("600 x", Err(BadAction::Code)),
            ("5500 x", Err(BadAction::Code)),
            ("4 x", Err(BadAction::Code)),
            ("", Err(BadAction::Empty)),
            ("  ", Err(BadAction::Empty)),
            ("REJECT a\naction=OK", Err(BadAction::Control)),
            ("REJECT a\0", Err(BadAction::Control)),
            ("REJECT a\r", Err(BadAction::Control)),
        ];
        for (text, want) in table {
            let got = Action::parse(text);
            assert_eq!(got.as_ref().map(Action::as_str).map_err(|error| *error), want, "{text:?}");
        }
        assert!(Action::parse(&format!("OK{}", "x".repeat(MAX_ACTION - 2))).is_ok());
        assert_eq!(Action::parse(&format!("OK{}", "x".repeat(MAX_ACTION - 1))), Err(BadAction::TooLong));
    }

    #[test]
    fn refusals_always_carry_a_text() {
        assert_eq!(Action::reply(ReplyClass::OVER_QUOTA, "Mailbox full").as_str(), "552 5.2.2 Mailbox full");
        assert_eq!(Action::reply(ReplyClass::LATER, " ").as_str(), "450 4.7.1 refused");
        assert_eq!(Action::reply(ReplyClass::REFUSED, "a\nb\0c").as_str(), "554 5.7.1 a?b?c");
        let long = Action::reply(ReplyClass::DISABLED, &"用".repeat(500));
        assert!((MAX_ACTION - 3..=MAX_ACTION).contains(&long.as_str().len()));
        assert_eq!(ReplyClass::new(399, (0, 0)), None);
        assert_eq!(ReplyClass::new(600, (0, 0)), None);
        assert_eq!(ReplyClass::new(450, (1000, 0)), None);
        assert_eq!(ReplyClass::new(554, (7, 1)), Some(ReplyClass::REFUSED));
    }

    #[test]
    fn replies_read_as_they_are_written() {
        let mut out = Vec::new();
        Action::DUNNO.encode(&mut out);
        assert_eq!(out, b"action=DUNNO\n\n");
        assert_eq!(decode_reply(&out), Ok(Some((&b"DUNNO"[..], out.len()))));
        for end in 0..out.len() {
            assert_eq!(decode_reply(&out[..end]), Ok(None));
        }
        assert_eq!(decode_reply(b"x=y\naction=OK\nz=\n\nrest"), Ok(Some((&b"OK"[..], 18))));
        assert_eq!(decode_reply(b"x=y\n\n"), Err(Malformed::NoAction));
        assert_eq!(decode_reply(b"\n"), Err(Malformed::NoAction));
        assert_eq!(decode_reply(b"DUNNO\n\n"), Err(Malformed::Attribute));
        assert_eq!(decode_reply(&vec![b'x'; MAX_REPLY]), Err(Malformed::TooLong));
    }

    proptest! {
        #[test]
        fn requests_survive_the_wire(input in "([a-z=]{1,4}=?[ -~]{0,5}\n){0,5}\n") {
            if let Ok(Some((request, used))) = decode(input.as_bytes()) {
                let mut out = Vec::new();
                request.encode(&mut out).unwrap();
                prop_assert_eq!(&out, &input.as_bytes()[..used]);
            }
        }

        #[test]
        fn any_bytes_decode_without_panic(input in proptest::collection::vec(any::<u8>(), 0..100)) {
            let _ = decode(&input);
            let _ = decode_reply(&input);
        }

        #[test]
        fn any_action_is_one_line_and_never_digits_only(text in any::<String>()) {
            let mut actions = vec![Action::reply(ReplyClass::LATER, &text)];
            actions.extend(Action::parse(&text));
            for action in actions {
                let mut out = Vec::new();
                action.encode(&mut out);
                prop_assert_eq!(decode_reply(&out), Ok(Some((action.as_str().as_bytes(), out.len()))));
                prop_assert!(!action.as_str().bytes().all(|byte| byte.is_ascii_digit()));
            }
        }

        #[test]
        fn pieces_make_no_difference(input in "([ab]=[a=]{0,2}\n){1,3}\n[ab=\n]{0,5}") {
            let whole = decode(input.as_bytes());
            let used = whole.as_ref().ok().and_then(Option::as_ref).map(|(_, used)| *used).unwrap();
            for end in 0..used {
                prop_assert_eq!(decode(&input.as_bytes()[..end]), Ok(None));
            }
            prop_assert_eq!(decode(&input.as_bytes()[..used]), whole);
        }
    }
}
