//! Commands: one line each, its parameters checked.

use std::borrow::Cow;

use super::path::{self, Path};
use super::{MAX_DOMAIN, Malformed, Reply, xtext};
use crate::number;

/// What a client asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command<'a> {
    /// LHLO with the client's name: letters, digits, `.`, `-`, `_`, `:`, brackets, or beyond ASCII.
    Lhlo(&'a str),
    /// MAIL: begins a transaction.
    Mail(Mail<'a>),
    /// RCPT: adds a recipient.
    Rcpt(Rcpt<'a>),
    /// DATA: the message follows once the server said 354.
    Data,
    /// BDAT: `size` octets of the message follow at once.
    Bdat {
        /// Octets; an absurd number reads as `u64::MAX`.
        size: u64,
        /// Whether the message ends with them.
        last: bool,
    },
    /// RSET: forgets the transaction.
    Rset,
    /// NOOP.
    Noop,
    /// QUIT.
    Quit,
    /// VRFY with its argument.
    Vrfy(&'a str),
    /// XFORWARD: where the mail came from before the client had it; `None` is `[UNAVAILABLE]`.
    Xforward(Vec<(Forwarded, Option<String>)>),
}

/// MAIL and its parameters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mail<'a> {
    /// The sender; null for bounces.
    pub sender: Path<'a>,
    /// SIZE=, the client's estimate in bytes; an absurd number reads as `u64::MAX`.
    pub size: Option<u64>,
    /// BODY=.
    pub body: Option<Body>,
    /// SMTPUTF8: addresses and headers may hold UTF-8.
    pub smtputf8: bool,
    /// RET=.
    pub ret: Option<Ret>,
    /// ENVID=, decoded, printable.
    pub envid: Option<Cow<'a, str>>,
    /// AUTH=, decoded, printable; empty for `<>`.
    pub auth: Option<Cow<'a, str>>,
}

/// RCPT and its parameters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rcpt<'a> {
    /// The recipient, never null.
    pub recipient: Path<'a>,
    /// NOTIFY=.
    pub notify: Option<Notify>,
    /// ORCPT= as address type and decoded, printable address.
    pub original: Option<(&'a str, Cow<'a, str>)>,
}

/// Whether the message is 8-bit. BINARYMIME is not among them: stored lines end in LF.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Body {
    /// `7BIT`.
    SevenBit,
    /// `8BITMIME`.
    EightBitMime,
}

/// How much of the message a notification returns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ret {
    /// All of it.
    Full,
    /// Its header.
    Headers,
}

/// What the sender wants to hear of; nothing at all is NEVER.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Notify {
    /// Of delivery.
    pub success: bool,
    /// Of failure.
    pub failure: bool,
    /// Of delay.
    pub delay: bool,
}

/// The attributes of XFORWARD.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Forwarded {
    /// Host name of the original client.
    Name,
    /// Its address.
    Addr,
    /// Its port.
    Port,
    /// Its protocol.
    Proto,
    /// What it called itself.
    Helo,
    /// Its queue id at the forwarder.
    Ident,
    /// `LOCAL` or `REMOTE`.
    Source,
}

impl Forwarded {
    /// All of them, in the order of the XFORWARD keyword.
    pub const ALL: [(Forwarded, &'static str); 7] = [
        (Forwarded::Name, "NAME"),
        (Forwarded::Addr, "ADDR"),
        (Forwarded::Port, "PORT"),
        (Forwarded::Proto, "PROTO"),
        (Forwarded::Helo, "HELO"),
        (Forwarded::Ident, "IDENT"),
        (Forwarded::Source, "SOURCE"),
    ];

    fn word(self) -> &'static str {
        Self::ALL.iter().find(|(attribute, _)| *attribute == self).map_or("", |(_, word)| word)
    }
}

const UNAVAILABLE: &str = "[UNAVAILABLE]";

/// Reads a line, without its line end.
pub(super) fn decode_line(line: &[u8]) -> Result<Result<Command<'_>, Reply>, Malformed> {
    let is_chunk = line.get(..4).is_some_and(|verb| verb.eq_ignore_ascii_case(b"BDAT"));
    match decode_text(line) {
        Err(_) if is_chunk => Err(Malformed::Chunk),
        decoded => Ok(decoded),
    }
}

fn decode_text(line: &[u8]) -> Result<Command<'_>, Reply> {
    let text = std::str::from_utf8(line).ok().filter(|text| !text.contains(char::is_control));
    let Some(text) = text else {
        return Err(Reply::fixed(500, (5, 2), "Control characters or broken UTF-8 in a command"));
    };
    let text = text.trim_end_matches(' ');
    let (verb, argument) = text.split_once(' ').unwrap_or((text, ""));
    let argument = argument.trim_start_matches(' ');
    let bare = |command| if argument.is_empty() { Ok(command) } else { Err(NO_ARGUMENT) };
    match verb.to_ascii_uppercase().as_str() {
        "LHLO" => decode_lhlo(argument).map(Command::Lhlo),
        "MAIL" => decode_mail(argument).map(Command::Mail),
        "RCPT" => decode_rcpt(argument).map(Command::Rcpt),
        "DATA" => bare(Command::Data),
        "BDAT" => decode_bdat(argument).ok_or(Malformed::Chunk.reply()),
        "RSET" => bare(Command::Rset),
        "NOOP" => Ok(Command::Noop),
        "QUIT" => bare(Command::Quit),
        "VRFY" if argument.is_empty() => Err(Reply::fixed(501, (5, 4), "Syntax: VRFY address")),
        "VRFY" => Ok(Command::Vrfy(argument)),
        "XFORWARD" => decode_xforward(argument).map(Command::Xforward),
        "HELO" | "EHLO" => Err(Reply::fixed(500, (5, 1), "This is LMTP: say LHLO")),
        "STARTTLS" | "AUTH" | "EXPN" | "HELP" | "ETRN" | "TURN" => {
            Err(Reply::fixed(502, (5, 1), "Command not implemented"))
        }
        _ => Err(Reply::fixed(500, (5, 1), "Unknown command")),
    }
}

const NO_ARGUMENT: Reply = Reply::fixed(501, (5, 4), "This command takes no argument");
const MAIL_SYNTAX: Reply = Reply::fixed(501, (5, 4), "Syntax: MAIL FROM:<address> [SP parameters]");
const RCPT_SYNTAX: Reply = Reply::fixed(501, (5, 4), "Syntax: RCPT TO:<address> [SP parameters]");
const BAD_SENDER: Reply = Reply::fixed(501, (1, 7), "Bad sender address syntax");
const BAD_RECIPIENT: Reply = Reply::fixed(501, (1, 3), "Bad recipient address syntax");
const BAD_VALUE: Reply = Reply::fixed(501, (5, 4), "Bad parameter value");
const REPEATED: Reply = Reply::fixed(501, (5, 4), "Parameter given twice");
const UNKNOWN_PARAMETER: Reply = Reply::fixed(555, (5, 4), "Parameter not recognised");
const XFORWARD_SYNTAX: Reply = Reply::fixed(501, (5, 4), "Syntax: XFORWARD attribute=value ...");

fn decode_lhlo(argument: &str) -> Result<&str, Reply> {
    let usable = |char: char| char.is_ascii_alphanumeric() || ".-_:[]".contains(char) || char > '\x7f';
    if argument.is_empty() || argument.len() > MAX_DOMAIN || !argument.chars().all(usable) {
        return Err(Reply::fixed(501, (5, 4), "Syntax: LHLO hostname"));
    }
    Ok(argument)
}

fn decode_bdat<'a>(argument: &str) -> Option<Command<'a>> {
    let mut words = argument.split(' ').filter(|word| !word.is_empty());
    let size = number::decode_saturating(words.next()?.as_bytes())?;
    let last = match words.next() {
        None => false,
        Some(word) if word.eq_ignore_ascii_case("LAST") => true,
        Some(_) => return None,
    };
    words.next().is_none().then_some(Command::Bdat { size, last })
}

fn decode_mail(argument: &str) -> Result<Mail<'_>, Reply> {
    let rest = strip_keyword(argument, "FROM:").ok_or(MAIL_SYNTAX)?;
    let (sender, rest) = path::take(rest).ok_or(BAD_SENDER)?;
    let mut mail = Mail { sender, size: None, body: None, smtputf8: false, ret: None, envid: None, auth: None };
    for (name, value) in parameters(rest).ok_or(MAIL_SYNTAX)? {
        match (name.to_ascii_uppercase().as_str(), value) {
            ("SIZE", Some(value)) => {
                let size = number::decode_saturating(value.as_bytes()).ok_or(BAD_VALUE)?;
                once(&mut mail.size, size)?;
            }
            ("BODY", Some(value)) => once(&mut mail.body, one_of(value, &BODIES)?)?,
            ("SMTPUTF8", None) if mail.smtputf8 => return Err(REPEATED),
            ("SMTPUTF8", None) => mail.smtputf8 = true,
            ("RET", Some(value)) => once(&mut mail.ret, one_of(value, &RETS)?)?,
            ("ENVID", Some(value)) => once(&mut mail.envid, printable_xtext(value)?)?,
            ("AUTH", Some("<>")) => once(&mut mail.auth, Cow::Borrowed(""))?,
            ("AUTH", Some(value)) => once(&mut mail.auth, printable_xtext(value)?)?,
            _ => return Err(UNKNOWN_PARAMETER),
        }
    }
    Ok(mail)
}

fn decode_rcpt(argument: &str) -> Result<Rcpt<'_>, Reply> {
    let rest = strip_keyword(argument, "TO:").ok_or(RCPT_SYNTAX)?;
    let (recipient, rest) = path::take(rest).filter(|(path, _)| !path.is_null()).ok_or(BAD_RECIPIENT)?;
    let mut rcpt = Rcpt { recipient, notify: None, original: None };
    for (name, value) in parameters(rest).ok_or(RCPT_SYNTAX)? {
        match (name.to_ascii_uppercase().as_str(), value) {
            ("NOTIFY", Some(value)) => once(&mut rcpt.notify, decode_notify(value)?)?,
            ("ORCPT", Some(value)) => {
                let (kind, address) = value.split_once(';').ok_or(BAD_VALUE)?;
                if kind.is_empty() || !kind.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-') {
                    return Err(BAD_VALUE);
                }
                once(&mut rcpt.original, (kind, printable_xtext(address)?))?;
            }
            _ => return Err(UNKNOWN_PARAMETER),
        }
    }
    Ok(rcpt)
}

fn decode_notify(value: &str) -> Result<Notify, Reply> {
    let mut notify = Notify::default();
    if value.eq_ignore_ascii_case("NEVER") {
        return Ok(notify);
    }
    for word in value.split(',') {
        let slot = match word.to_ascii_uppercase().as_str() {
            "SUCCESS" => &mut notify.success,
            "FAILURE" => &mut notify.failure,
            "DELAY" => &mut notify.delay,
            _ => return Err(BAD_VALUE),
        };
        *slot = true;
    }
    Ok(notify)
}

fn decode_xforward(argument: &str) -> Result<Vec<(Forwarded, Option<String>)>, Reply> {
    let mut attributes: Vec<(Forwarded, Option<String>)> = Vec::new();
    for word in argument.split(' ').filter(|word| !word.is_empty()) {
        let (name, value) = word.split_once('=').ok_or(XFORWARD_SYNTAX)?;
        let known = Forwarded::ALL.iter().find(|(_, word)| word.eq_ignore_ascii_case(name));
        let Some((attribute, _)) = known else {
            return Err(Reply::fixed(501, (5, 4), "Unknown XFORWARD attribute"));
        };
        if attributes.iter().any(|(known, _)| known == attribute) {
            return Err(REPEATED);
        }
        // As Postfix's own server: what cannot be printed is neutered, not refused.
        let value = xtext::decode(value).ok_or(BAD_VALUE)?.replace(char::is_control, "?");
        attributes.push((*attribute, Some(value).filter(|value| !value.eq_ignore_ascii_case(UNAVAILABLE))));
    }
    if attributes.is_empty() { Err(XFORWARD_SYNTAX) } else { Ok(attributes) }
}

const BODIES: [(&str, Body); 2] = [("7BIT", Body::SevenBit), ("8BITMIME", Body::EightBitMime)];
const RETS: [(&str, Ret); 2] = [("FULL", Ret::Full), ("HDRS", Ret::Headers)];

fn one_of<T: Copy>(value: &str, words: &[(&str, T)]) -> Result<T, Reply> {
    let found = words.iter().find(|(word, _)| word.eq_ignore_ascii_case(value));
    found.map(|(_, meaning)| *meaning).ok_or(Reply::fixed(555, (5, 4), "Parameter value not supported"))
}

fn once<T>(slot: &mut Option<T>, value: T) -> Result<(), Reply> {
    if slot.is_some() {
        return Err(REPEATED);
    }
    *slot = Some(value);
    Ok(())
}

fn printable_xtext(value: &str) -> Result<Cow<'_, str>, Reply> {
    xtext::decode(value).filter(|text| !text.contains(char::is_control)).ok_or(BAD_VALUE)
}

/// What follows `keyword` and any spaces behind it.
fn strip_keyword<'a>(argument: &'a str, keyword: &str) -> Option<&'a str> {
    let (word, rest) = argument.split_at_checked(keyword.len())?;
    word.eq_ignore_ascii_case(keyword).then(|| rest.trim_start_matches(' '))
}

/// The parameters behind a path; `None` when no space separates them from it.
fn parameters(rest: &str) -> Option<impl Iterator<Item = (&str, Option<&str>)>> {
    if !rest.is_empty() && !rest.starts_with(' ') {
        return None;
    }
    let words = rest.split(' ').filter(|word| !word.is_empty());
    Some(words.map(|word| word.split_once('=').map_or((word, None), |(name, value)| (name, Some(value)))))
}

impl Command<'_> {
    /// Appends the command as a client sends it. Values that went through xtext are quoted again.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let mut line = String::new();
        match self {
            Command::Lhlo(name) => line = format!("LHLO {name}"),
            Command::Mail(mail) => mail.encode(&mut line),
            Command::Rcpt(rcpt) => rcpt.encode(&mut line),
            Command::Data => line.push_str("DATA"),
            Command::Bdat { size, last } => line = format!("BDAT {size}{}", if *last { " LAST" } else { "" }),
            Command::Rset => line.push_str("RSET"),
            Command::Noop => line.push_str("NOOP"),
            Command::Quit => line.push_str("QUIT"),
            Command::Vrfy(argument) => line = format!("VRFY {argument}"),
            Command::Xforward(attributes) => {
                line.push_str("XFORWARD");
                for (attribute, value) in attributes {
                    let value = value.as_deref().map_or_else(|| UNAVAILABLE.to_owned(), xtext::encode);
                    parameter(&mut line, attribute.word(), Some(&value));
                }
            }
        }
        out.extend_from_slice(line.as_bytes());
        out.extend_from_slice(b"\r\n");
    }
}

impl Mail<'_> {
    /// MAIL from `sender` with no parameters.
    pub fn new(sender: Path<'_>) -> Mail<'_> {
        Mail { sender, size: None, body: None, smtputf8: false, ret: None, envid: None, auth: None }
    }

    fn encode(&self, line: &mut String) {
        *line = format!("MAIL FROM:<{}>", self.sender.as_str());
        if let Some(size) = self.size {
            parameter(line, "SIZE", Some(&size.to_string()));
        }
        match self.body {
            Some(Body::SevenBit) => parameter(line, "BODY", Some("7BIT")),
            Some(Body::EightBitMime) => parameter(line, "BODY", Some("8BITMIME")),
            None => {}
        }
        if self.smtputf8 {
            parameter(line, "SMTPUTF8", None);
        }
        match self.ret {
            Some(Ret::Full) => parameter(line, "RET", Some("FULL")),
            Some(Ret::Headers) => parameter(line, "RET", Some("HDRS")),
            None => {}
        }
        if let Some(envid) = &self.envid {
            parameter(line, "ENVID", Some(&xtext::encode(envid)));
        }
        match self.auth.as_deref() {
            Some("") => parameter(line, "AUTH", Some("<>")),
            Some(auth) => parameter(line, "AUTH", Some(&xtext::encode(auth))),
            None => {}
        }
    }
}

impl Rcpt<'_> {
    /// RCPT to `recipient` with no parameters.
    pub fn new(recipient: Path<'_>) -> Rcpt<'_> {
        Rcpt { recipient, notify: None, original: None }
    }

    fn encode(&self, line: &mut String) {
        *line = format!("RCPT TO:<{}>", self.recipient.as_str());
        if let Some(Notify { success, failure, delay }) = self.notify {
            let words = [(success, "SUCCESS"), (failure, "FAILURE"), (delay, "DELAY")];
            let words = words.iter().filter(|(wanted, _)| *wanted).map(|(_, word)| *word).collect::<Vec<_>>();
            parameter(line, "NOTIFY", Some(&if words.is_empty() { "NEVER".to_owned() } else { words.join(",") }));
        }
        if let Some((kind, address)) = &self.original {
            parameter(line, "ORCPT", Some(&format!("{kind};{}", xtext::encode(address))));
        }
    }
}

fn parameter(line: &mut String, name: &str, value: Option<&str>) {
    line.push(' ');
    line.push_str(name);
    if let Some(value) = value {
        line.push('=');
        line.push_str(value);
    }
}

#[cfg(test)]
mod tests {
    use super::super::{MAX_COMMAND_LINE, decode};
    use super::*;
    use proptest::prelude::*;

    fn command(line: &str) -> Command<'_> {
        decode_line(line.as_bytes()).unwrap().unwrap_or_else(|reply| panic!("{line}: {reply:?}"))
    }

    fn path(text: &str) -> Path<'_> {
        Path::parse(text).unwrap()
    }

    #[test]
    fn what_postfix_sends_is_understood() {
        let bounce = Mail { size: Some(0), ..Mail::new(Path::NULL) };
        let full = Mail {
            sender: path("a@example.net"),
            size: Some(2048),
            body: Some(Body::EightBitMime),
            smtputf8: true,
            ret: Some(Ret::Headers),
            envid: Some("x+y".into()),
            auth: Some("".into()),
        };
        let rcpt = Rcpt {
            recipient: path("bob@example.org"),
            notify: Some(Notify { success: true, failure: true, delay: false }),
            original: Some(("rfc822", "bob+ext@example.org".into())),
        };
        let never = Rcpt { notify: Some(Notify::default()), ..Rcpt::new(path("\"a b\"@example.org")) };
        let forwarded = vec![
            (Forwarded::Name, None),
            (Forwarded::Addr, Some("192.0.2.7".to_owned())),
            (Forwarded::Helo, Some("a b".to_owned())),
        ];
        let table = [
            ("LHLO mail.example.jp", Command::Lhlo("mail.example.jp")),
            ("LHLO [127.0.0.1]", Command::Lhlo("[127.0.0.1]")),
            ("MAIL FROM:<> SIZE=0", Command::Mail(bounce)),
            (
                "MAIL FROM:<a@example.net> SIZE=2048 BODY=8BITMIME SMTPUTF8 RET=HDRS ENVID=x+2By AUTH=<>",
                Command::Mail(full),
            ),
            (
                "RCPT TO:<bob@example.org> NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;bob+2Bext@example.org",
                Command::Rcpt(rcpt),
            ),
            ("RCPT TO:<\"a b\"@example.org> NOTIFY=NEVER", Command::Rcpt(never)),
            ("DATA", Command::Data),
            ("BDAT 86", Command::Bdat { size: 86, last: false }),
            ("BDAT 0 LAST", Command::Bdat { size: 0, last: true }),
            ("RSET", Command::Rset),
            ("NOOP", Command::Noop),
            ("QUIT", Command::Quit),
            ("VRFY bob", Command::Vrfy("bob")),
            ("XFORWARD NAME=[UNAVAILABLE] ADDR=192.0.2.7 HELO=a+20b", Command::Xforward(forwarded)),
        ];
        for (line, want) in table {
            assert_eq!(command(line), want, "{line}");
            let mut out = Vec::new();
            want.encode(&mut out);
            assert_eq!(out, format!("{line}\r\n").into_bytes());
        }
    }

    #[test]
    fn people_may_type_loosely() {
        let table = [
            ("lhlo a", Command::Lhlo("a")),
            ("Mail From: <a@b>  size=1 ", Command::Mail(Mail { size: Some(1), ..Mail::new(path("a@b")) })),
            ("rcpt to:<@relay:a@b>", Command::Rcpt(Rcpt::new(path("a@b")))),
            ("rcpt to:<Postmaster>", Command::Rcpt(Rcpt::new(path("Postmaster")))),
            ("noop whatever", Command::Noop),
            ("bdat  5  last", Command::Bdat { size: 5, last: true }),
            ("BDAT 99999999999999999999999", Command::Bdat { size: u64::MAX, last: false }),
            ("QUIT ", Command::Quit),
        ];
        for (line, want) in table {
            assert_eq!(command(line), want, "{line}");
        }
    }

    #[test]
    fn every_fault_has_its_code() {
        let table = [
            ("HELO a", 500, (5, 1)),
            ("EHLO a", 500, (5, 1)),
            ("FOO", 500, (5, 1)),
            ("", 500, (5, 1)),
            ("STARTTLS", 502, (5, 1)),
            ("AUTH PLAIN", 502, (5, 1)),
            ("LHLO", 501, (5, 4)),
            ("LHLO a b", 501, (5, 4)),
            ("LHLO a(b)", 501, (5, 4)),
            ("DATA now", 501, (5, 4)),
            ("RSET x", 501, (5, 4)),
            ("QUIT x", 501, (5, 4)),
            ("VRFY", 501, (5, 4)),
            ("MAIL", 501, (5, 4)),
            ("MAIL TO:<a@b>", 501, (5, 4)),
            ("MAIL FROM <a@b>", 501, (5, 4)),
            ("MAIL FROM:a@b", 501, (1, 7)),
            ("MAIL FROM:<a@b", 501, (1, 7)),
            ("MAIL FROM:", 501, (1, 7)),
            ("MAIL FROM:<a b@c>", 501, (1, 7)),
            ("MAIL FROM:<a@b>SIZE=1", 501, (5, 4)),
            ("MAIL FROM:<a@b> SIZE=1 SIZE=1", 501, (5, 4)),
            ("MAIL FROM:<a@b> SMTPUTF8 SMTPUTF8", 501, (5, 4)),
            ("MAIL FROM:<a@b> SIZE=-1", 501, (5, 4)),
            ("MAIL FROM:<a@b> SIZE=", 501, (5, 4)),
            ("MAIL FROM:<a@b> SIZE", 555, (5, 4)),
            ("MAIL FROM:<a@b> SMTPUTF8=1", 555, (5, 4)),
            ("MAIL FROM:<a@b> BODY=BINARYMIME", 555, (5, 4)),
            ("MAIL FROM:<a@b> BODY=x", 555, (5, 4)),
            ("MAIL FROM:<a@b> RET=x", 555, (5, 4)),
            ("MAIL FROM:<a@b> ENVID=a+0D+0Ab", 501, (5, 4)),
            ("MAIL FROM:<a@b> ENVID=a+b", 501, (5, 4)),
            ("MAIL FROM:<a@b> FOO=1", 555, (5, 4)),
            ("MAIL FROM:<a@b> NOTIFY=NEVER", 555, (5, 4)),
            ("RCPT TO:<>", 501, (1, 3)),
            ("RCPT TO:a@b", 501, (1, 3)),
            ("RCPT FROM:<a@b>", 501, (5, 4)),
            ("RCPT TO:<a@b> SIZE=1", 555, (5, 4)),
            ("RCPT TO:<a@b> NOTIFY=NEVER,DELAY", 501, (5, 4)),
            ("RCPT TO:<a@b> NOTIFY=", 501, (5, 4)),
            ("RCPT TO:<a@b> ORCPT=a@b", 501, (5, 4)),
            ("RCPT TO:<a@b> ORCPT=;a@b", 501, (5, 4)),
            ("RCPT TO:<a@b> ORCPT=rfc822;a+0Ab", 501, (5, 4)),
            ("XFORWARD", 501, (5, 4)),
            ("XFORWARD NAME", 501, (5, 4)),
            ("XFORWARD FOO=1", 501, (5, 4)),
            ("XFORWARD NAME=a NAME=b", 501, (5, 4)),
            ("XFORWARD NAME=a+", 501, (5, 4)),
            ("NOOP \t", 500, (5, 2)),
            ("RSET\rQUIT", 500, (5, 2)),
            ("MAIL FROM:<a\u{85}@b>", 500, (5, 2)),
        ];
        for (line, code, status) in table {
            let reply = decode_line(line.as_bytes()).unwrap().expect_err(line);
            assert_eq!((reply.code, reply.status), (code, Some(status)), "{line:?}");
        }
        let reply = decode_line(b"MAIL FROM:<\xff@b>").unwrap().unwrap_err();
        assert_eq!(reply.code, 500);
    }

    #[test]
    fn forwarded_controls_are_neutered() {
        let want = Command::Xforward(vec![(Forwarded::Helo, Some("a??b".to_owned()))]);
        assert_eq!(command("XFORWARD HELO=a+0D+0Ab"), want);
    }

    #[test]
    fn an_unreadable_chunk_ends_the_connection() {
        for line in [
            &b"BDAT"[..],
            b"BDAT ",
            b"BDAT x",
            b"BDAT -1",
            b"BDAT +1",
            b"BDAT 1 FIRST",
            b"BDAT 1 LAST x",
            b"BDAT\t5",
            b"bdat5",
            b"BDAT 5\xff",
        ] {
            assert_eq!(decode_line(line), Err(Malformed::Chunk), "{}", line.escape_ascii());
        }
    }

    #[test]
    fn lines_end_in_crlf_or_lf_within_2048_bytes() {
        assert_eq!(decode(b"NOOP\r\nQUIT\r\n"), Ok(Some((Ok(Command::Noop), 6))));
        assert_eq!(decode(b"NOOP\nQUIT"), Ok(Some((Ok(Command::Noop), 5))));
        assert_eq!(decode(b"NOOP\r"), Ok(None));
        assert_eq!(decode(b""), Ok(None));
        let longest = format!("NOOP {}\r\n", "x".repeat(MAX_COMMAND_LINE - 7));
        assert_eq!(decode(longest.as_bytes()), Ok(Some((Ok(Command::Noop), MAX_COMMAND_LINE))));
        let longer = format!("NOOP {}\r\n", "x".repeat(MAX_COMMAND_LINE - 6));
        assert_eq!(decode(longer.as_bytes()), Err(Malformed::LineTooLong));
        assert_eq!(decode(&longer.as_bytes()[..MAX_COMMAND_LINE - 1]), Ok(None));
        assert_eq!(decode(&longer.as_bytes()[..MAX_COMMAND_LINE]), Err(Malformed::LineTooLong));
    }

    fn line() -> impl Strategy<Value = String> {
        let verb = prop_oneof![
            Just("MAIL FROM:<a@b>"),
            Just("RCPT TO:<用@b>"),
            Just("XFORWARD"),
            Just("BDAT"),
            Just("LHLO a"),
            Just("VRFY"),
            Just("MAIL FROM:"),
        ];
        let word = prop_oneof![
            "(SIZE|BODY|SMTPUTF8|RET|ENVID|AUTH|NOTIFY|ORCPT|NAME|ADDR)(=(7BIT|FULL|NEVER|<>|DELAY|[0-9]{1,3}|rfc822;a|[+0-9A-F]{0,6}))?",
            "[ -~]{0,10}",
        ];
        (verb, proptest::collection::vec(word, 0..4)).prop_map(|(verb, words)| format!("{verb} {}", words.join(" ")))
    }

    proptest! {
        #[test]
        fn commands_survive_the_wire(line in line()) {
            if let Ok(Ok(first)) = decode_line(line.as_bytes()) {
                let mut out = Vec::new();
                first.encode(&mut out);
                prop_assert_eq!(decode(&out), Ok(Some((Ok(first), out.len()))));
            }
        }

        #[test]
        fn any_bytes_decode_without_panic(input in proptest::collection::vec(any::<u8>(), 0..100)) {
            let _ = decode(&input);
            let _ = decode_line(&input);
        }

        #[test]
        fn pieces_make_no_difference(line in line(), rest in "[ -~]{0,10}") {
            let wire = format!("{line}\r\n{rest}");
            for end in 0..line.len() + 2 {
                prop_assert_eq!(decode(&wire.as_bytes()[..end]), Ok(None));
            }
            prop_assert_eq!(decode(&wire.as_bytes()[..line.len() + 2]), decode(wire.as_bytes()));
        }
    }
}
