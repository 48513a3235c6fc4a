//! dovecot_auth: the two line protocols of Dovecot's auth service.
//!
//! [`client`] is what Postfix (`smtpd_sasl_type = dovecot`) and Exim speak to log somebody in; [`master`] is what doveadm, dovecot-lmtp and
//! dovecot-lda speak to look users up. [`sasl`] holds the exchanges behind AUTH and CONT.
//!
//! ```text
//! line   = command *(TAB field) LF        commands are case-sensitive
//! field  = name ["=" value] | value
//! escape = %x01 ("0" / "1" / "t" / "r" / "n")   for NUL, %x01, TAB, CR, LF; any other byte behind %x01 is itself
//! id     = 1*DIGIT                        32 bits, not 0
//! ```
//!
//! Limits: a line we read is at most [`MAX_LINE`] bytes with its LF, as in Dovecot, and has at most [`MAX_FIELDS`] fields. A reply we write is at
//! most [`MAX_REPLY`] bytes: Exim and Dovecot's own master client read no longer line.
//!
//! Security: `resp=` and CONT carry passwords. They borrow from the receive buffer, whose owner wipes it, and `Debug` leaves them
//! out, as it does the value of every field whose name holds `pass`. [`sasl::Credentials`] overwrites itself when dropped.
//!
//! Oddities:
//! - Postfix and Exim do not undo escapes, so what they are sent (user names, reasons) should need none.
//! - Postfix makes 535 of every FAIL, `code=temp_fail` too. Only closing the connection makes it say 454.
//! - `\r` before LF is dropped, as Dovecot's reader drops it.
//!
//! Source: Dovecot 2.3.19 and 2.4.4 `auth/auth-client-connection.c`, `auth/auth-master-connection.c`, `auth/auth-request-handler.c`,
//! `lib/strescape.c`; Postfix 3.7.11 `xsasl/xsasl_dovecot_server.c`; Exim `auths/dovecot.c`.

use std::borrow::Cow;
use std::fmt;

use crate::number;

pub mod client;
pub mod master;
pub mod sasl;

mod base64;

/// Longest line we read, in bytes with its LF (AUTH_CLIENT_MAX_LINE_LENGTH).
pub const MAX_LINE: usize = 16_384;
/// Longest line we write, in bytes with its LF.
pub const MAX_REPLY: usize = 8192;
/// Most fields in a line we read, the command included.
pub const MAX_FIELDS: usize = 64;
/// Major version of both protocols; a peer with another one is no peer.
pub const MAJOR: u32 = 1;

/// What is wrong with a line. Dovecot closes the connection over each of these, and so should we.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Malformed {
    /// No LF within the limit.
    LineTooLong,
    /// More than [`MAX_FIELDS`] fields.
    TooManyFields,
    /// A command that does not exist on this socket.
    Command,
    /// A VERSION, CPID, SPID or the like whose number is missing or no number.
    Number,
    /// VERSION with a major number other than [`MAJOR`].
    Version,
    /// No id, or 0.
    Id,
    /// A field that must be there is not: mechanism, user, service.
    Missing(&'static str),
    /// Fields behind `resp=`, which must be last.
    AfterResponse,
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Malformed::LineTooLong => f.write_str("the line is too long"),
            Malformed::TooManyFields => write!(f, "the line has more than {MAX_FIELDS} fields"),
            Malformed::Command => f.write_str("unknown command for this socket"),
            Malformed::Number => f.write_str("a number is missing or unreadable"),
            Malformed::Version => write!(f, "the major version is not {MAJOR}"),
            Malformed::Id => f.write_str("the request id is missing, unreadable or 0"),
            Malformed::Missing(field) => write!(f, "the {field} is missing"),
            Malformed::AfterResponse => f.write_str("resp= is not the last field"),
        }
    }
}

impl std::error::Error for Malformed {}

/// Named fields: `name=value`, or a name alone. Values come with their escapes undone. A field whose name holds control
/// characters is skipped: nobody's does.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Fields<'a>(Vec<Field<'a>>);

type Field<'a> = (&'a [u8], Option<Cow<'a, [u8]>>);

impl<'a> Fields<'a> {
    /// No fields.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds `name=value`. The name must hold neither `=` nor bytes that need escapes.
    #[must_use]
    pub fn with(mut self, name: &'a str, value: impl Into<Cow<'a, [u8]>>) -> Self {
        self.0.push((name.as_bytes(), Some(value.into())));
        self
    }

    /// Adds a name alone.
    #[must_use]
    pub fn with_flag(mut self, name: &'a str) -> Self {
        self.0.push((name.as_bytes(), None));
        self
    }

    /// The value of the first field of that name; empty for a name alone.
    pub fn find(&self, name: &str) -> Option<&[u8]> {
        self.iter().find(|(known, _)| *known == name.as_bytes()).map(|(_, value)| value.unwrap_or_default())
    }

    /// As [`Fields::find`], as text; `None` too when it is not UTF-8.
    pub fn find_text(&self, name: &str) -> Option<&str> {
        std::str::from_utf8(self.find(name)?).ok()
    }

    /// Whether there is a field of that name, with or without a value.
    pub fn has(&self, name: &str) -> bool {
        self.find(name).is_some()
    }

    /// All fields in their order.
    pub fn iter(&self) -> impl Iterator<Item = (&'a [u8], Option<&[u8]>)> {
        self.0.iter().map(|(name, value)| (*name, value.as_deref()))
    }

    fn push(&mut self, field: &'a [u8]) {
        let (name, value) = split_value(field);
        if !name.iter().any(u8::is_ascii_control) {
            self.0.push((name, value.map(unescape)));
        }
    }

    fn take(words: &mut Words<'a>) -> Self {
        let mut fields = Self::new();
        words.filter(|field| !field.is_empty()).for_each(|field| fields.push(field));
        fields
    }

    fn encode(&self, out: &mut Vec<u8>) {
        for (name, value) in self.iter() {
            out.push(b'\t');
            escape(name, out);
            if let Some(value) = value {
                out.push(b'=');
                escape(value, out);
            }
        }
    }
}

impl fmt::Debug for Fields<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut list = f.debug_list();
        for (name, value) in self.iter() {
            let name = name.escape_ascii().to_string();
            match value {
                Some(_) if name.contains("pass") || name == "resp" => list.entry(&format_args!("{name}=<hidden>")),
                Some(value) => list.entry(&format_args!("{name}={}", value.escape_ascii())),
                None => list.entry(&format_args!("{name}")),
            };
        }
        list.finish()
    }
}

/// The fields of a line, not yet unescaped.
struct Words<'a> {
    rest: Option<&'a [u8]>,
}

impl<'a> Iterator for Words<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let rest = self.rest.take()?;
        match rest.iter().position(|byte| *byte == b'\t') {
            Some(tab) => {
                self.rest = Some(&rest[tab + 1..]);
                Some(&rest[..tab])
            }
            None => Some(rest),
        }
    }
}

impl<'a> Words<'a> {
    fn number(&mut self) -> Result<u32, Malformed> {
        self.next().and_then(number::decode_u32).ok_or(Malformed::Number)
    }

    fn id(&mut self) -> Result<u32, Malformed> {
        self.next().and_then(number::decode_u32).filter(|id| *id != 0).ok_or(Malformed::Id)
    }

    /// A positional value that must not be empty.
    fn value(&mut self, what: &'static str) -> Result<Cow<'a, [u8]>, Malformed> {
        self.next().map(unescape).filter(|value| !value.is_empty()).ok_or(Malformed::Missing(what))
    }

    /// Minor version, once the major one is ours.
    fn version(&mut self) -> Result<u32, Malformed> {
        if self.number()? != MAJOR {
            return Err(Malformed::Version);
        }
        self.number()
    }
}

/// The first line as its fields, and the bytes it took.
fn take_line(input: &[u8], limit: usize) -> Result<Option<(Words<'_>, usize)>, Malformed> {
    let Some(end) = input.iter().take(limit).position(|byte| *byte == b'\n') else {
        return if input.len() < limit { Ok(None) } else { Err(Malformed::LineTooLong) };
    };
    let line = &input[..end];
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    if line.iter().filter(|byte| **byte == b'\t').count() >= MAX_FIELDS {
        return Err(Malformed::TooManyFields);
    }
    Ok(Some((Words { rest: Some(line) }, end + 1)))
}

fn split_value(field: &[u8]) -> (&[u8], Option<&[u8]>) {
    match field.iter().position(|byte| *byte == b'=') {
        Some(at) => (&field[..at], Some(&field[at + 1..])),
        None => (field, None),
    }
}

fn escape(bytes: &[u8], out: &mut Vec<u8>) {
    for byte in bytes {
        let letter = match byte {
            0 => b'0',
            1 => b'1',
            b'\t' => b't',
            b'\r' => b'r',
            b'\n' => b'n',
            _ => {
                out.push(*byte);
                continue;
            }
        };
        out.extend_from_slice(&[1, letter]);
    }
}

/// Copies only when there is an escape. One at the very end stands for nothing, as in Dovecot.
fn unescape(bytes: &[u8]) -> Cow<'_, [u8]> {
    if !bytes.contains(&1) {
        return Cow::Borrowed(bytes);
    }
    let mut out = Vec::with_capacity(bytes.len());
    let mut rest = bytes.iter();
    while let Some(byte) = rest.next() {
        if *byte != 1 {
            out.push(*byte);
            continue;
        }
        match rest.next() {
            Some(b'0') => out.push(0),
            Some(b'1') => out.push(1),
            Some(b't') => out.push(b'\t'),
            Some(b'r') => out.push(b'\r'),
            Some(b'n') => out.push(b'\n'),
            Some(other) => out.push(*other),
            None => {}
        }
    }
    Cow::Owned(out)
}

/// `COMMAND TAB number`.
fn put_number(command: &str, number: u32, out: &mut Vec<u8>) {
    out.extend_from_slice(command.as_bytes());
    out.push(b'\t');
    number::encode(u64::from(number), out);
}

fn put_field(name: &str, value: &[u8], out: &mut Vec<u8>) {
    out.push(b'\t');
    out.extend_from_slice(name.as_bytes());
    out.push(b'=');
    escape(value, out);
}

/// Ends the reply line that began at `start`. One that the peer could not read becomes a temporary failure.
fn end_reply(start: usize, id: u32, out: &mut Vec<u8>) {
    if out.len() - start >= MAX_REPLY {
        out.truncate(start);
        put_number("FAIL", id, out);
        put_field("code", b"temp_fail", out);
    }
    out.push(b'\n');
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn escapes_stand_for_what_ends_fields_and_lines() {
        let mut out = Vec::new();
        escape(b"a\0b\x01c\td\re\nf\xff", &mut out);
        assert_eq!(out, b"a\x010b\x011c\x01td\x01re\x01nf\xff");
        assert_eq!(unescape(&out).as_ref(), b"a\0b\x01c\td\re\nf\xff");
        assert_eq!(unescape(b"a\x01x\x01\x01b\x01").as_ref(), b"ax\x01b");
    }

    #[test]
    fn fields_are_found_by_name() {
        let (mut words, _) =
            take_line(b"service=smtp\tnologin\trip=192.0.2.7\tx=a=b\t\trip=2\n", MAX_LINE).unwrap().unwrap();
        let fields = Fields::take(&mut words);
        assert_eq!(fields.find("service"), Some(&b"smtp"[..]));
        assert_eq!(fields.find("nologin"), Some(&b""[..]));
        assert_eq!(fields.find_text("rip"), Some("192.0.2.7"));
        assert_eq!(fields.find("x"), Some(&b"a=b"[..]));
        assert!(!fields.has("lip"));
        assert_eq!(fields.iter().count(), 5);
    }

    #[test]
    fn printed_fields_hide_passwords() {
        let fields =
            Fields::new().with("user", &b"bob"[..]).with("master_password", &b"s3cret"[..]).with_flag("nodelay");
        assert_eq!(format!("{fields:?}"), "[user=bob, master_password=<hidden>, nodelay]");
    }

    #[test]
    fn lines_and_fields_have_their_limits() {
        let most = [&b"\t".repeat(MAX_FIELDS - 1)[..], b"\n"].concat();
        assert!(take_line(&most, MAX_LINE).is_ok());
        let more = [&b"\t"[..], &most].concat();
        assert_eq!(take_line(&more, MAX_LINE).map(|_| ()), Err(Malformed::TooManyFields));
        let longest = [&b"x".repeat(MAX_LINE - 1)[..], b"\n"].concat();
        assert!(matches!(take_line(&longest, MAX_LINE), Ok(Some((_, MAX_LINE)))));
        assert!(matches!(take_line(&longest[..MAX_LINE - 1], MAX_LINE), Ok(None)));
        let longer = [&b"x"[..], &longest].concat();
        assert_eq!(take_line(&longer, MAX_LINE).map(|_| ()), Err(Malformed::LineTooLong));
        let (mut words, used) = take_line(b"a\tb\r\nc", MAX_LINE).unwrap().unwrap();
        assert_eq!((words.next(), words.next(), words.next(), used), (Some(&b"a"[..]), Some(&b"b"[..]), None, 5));
    }

    proptest! {
        #[test]
        fn any_value_survives_its_escapes(value in proptest::collection::vec(any::<u8>(), 0..40)) {
            let mut out = Vec::new();
            escape(&value, &mut out);
            prop_assert!(!out.iter().any(|byte| b"\0\t\r\n".contains(byte)));
            let back = unescape(&out);
            prop_assert_eq!(back.as_ref(), value.as_slice());
        }
    }
}
