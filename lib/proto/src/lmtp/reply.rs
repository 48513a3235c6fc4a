//! Replies: code, enhanced status, lines of text.

use std::borrow::Cow;

use super::{MAX_REPLY_LINE, MAX_REPLY_LINE_READ, MAX_REPLY_LINES, Malformed, take_line};
use crate::number;

/// A reply. The class of its enhanced status is the first digit of its code, so the two cannot disagree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// 200 to 599.
    pub code: u16,
    /// Subject and detail of the enhanced status (RFC 3463): `(1, 5)` with 250 is `2.1.5`. Greetings, LHLO and 354 have none.
    pub status: Option<(u16, u16)>,
    /// The text; LF separates lines.
    pub text: Cow<'static, str>,
}

impl Reply {
    /// A reply with an enhanced status.
    pub fn new(code: u16, status: (u16, u16), text: impl Into<Cow<'static, str>>) -> Reply {
        Reply { code, status: Some(status), text: text.into() }
    }

    /// A reply that never changes, for constants.
    pub const fn fixed(code: u16, status: (u16, u16), text: &'static str) -> Reply {
        Reply { code, status: Some(status), text: Cow::Borrowed(text) }
    }

    /// A reply without an enhanced status.
    pub fn plain(code: u16, text: impl Into<Cow<'static, str>>) -> Reply {
        Reply { code, status: None, text: text.into() }
    }

    /// Whether the code is 2xx: done, for good.
    pub fn is_positive(&self) -> bool {
        self.code / 100 == 2
    }

    /// Whether the code is 4xx: the client tries again later.
    pub fn is_temporary(&self) -> bool {
        self.code / 100 == 4
    }

    /// Appends the reply. Bytes that are not printable ASCII become `?`, lines are cut at [`MAX_REPLY_LINE`], lines beyond
    /// [`MAX_REPLY_LINES`] are left out.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let mut lines = self.text.split('\n').take(MAX_REPLY_LINES).peekable();
        while let Some(line) = lines.next() {
            let start = out.len();
            number::encode(u64::from(self.code), out);
            out.push(if lines.peek().is_some() { b'-' } else { b' ' });
            if let Some(status) = self.status.filter(|_| has_status(self.code)) {
                encode_status(self.code, status, out);
                if !line.is_empty() {
                    out.push(b' ');
                }
            }
            out.extend(line.chars().map(printable));
            out.truncate(start + MAX_REPLY_LINE - "\r\n".len());
            out.extend_from_slice(b"\r\n");
        }
    }
}

/// Reads a reply of any number of lines from the bytes received so far. Bytes that are not printable ASCII become `?`.
///
/// # Errors
/// [`Malformed::LineTooLong`], [`Malformed::Reply`].
pub fn decode_reply(input: &[u8]) -> Result<Option<(Reply, usize)>, Malformed> {
    let mut used = 0;
    let mut reply: Option<Reply> = None;
    for _ in 0..MAX_REPLY_LINES {
        let Some((line, taken)) = take_line(&input[used..], MAX_REPLY_LINE_READ)? else {
            return Ok(None);
        };
        used += taken;
        let Some((code, rest)) = line.split_at_checked(3) else {
            return Err(Malformed::Reply);
        };
        let code = number::decode_u32(code).and_then(|code| u16::try_from(code).ok());
        let Some(code) = code.filter(|code| (200..600).contains(code)) else {
            return Err(Malformed::Reply);
        };
        let (last, text) = match rest {
            [] => (true, rest),
            [b' ', text @ ..] => (true, text),
            [b'-', text @ ..] => (false, text),
            _ => return Err(Malformed::Reply),
        };
        let (status, rest) = match take_status(code, text) {
            Some((status, rest)) => (Some(status), rest),
            None => (None, text),
        };
        match &mut reply {
            None => {
                let text = rest.iter().map(|byte| char::from(printable(char::from(*byte)))).collect::<String>();
                reply = Some(Reply { code, status, text: Cow::Owned(text) });
            }
            Some(reply) if reply.code != code => return Err(Malformed::Reply),
            Some(reply) => {
                // The first line's status speaks for all; another one is text.
                let rest = if status.is_some() && status == reply.status { rest } else { text };
                let all = reply.text.to_mut();
                all.push('\n');
                all.extend(rest.iter().map(|byte| char::from(printable(char::from(*byte)))));
            }
        }
        if last {
            return Ok(reply.map(|reply| (reply, used)));
        }
    }
    Err(Malformed::Reply)
}

/// RFC 2034 knows statuses of the classes 2, 4 and 5 only.
fn has_status(code: u16) -> bool {
    matches!(code / 100, 2 | 4 | 5)
}

fn encode_status(code: u16, (subject, detail): (u16, u16), out: &mut Vec<u8>) {
    number::encode(u64::from(code / 100), out);
    out.push(b'.');
    number::encode(u64::from(subject), out);
    out.push(b'.');
    number::encode(u64::from(detail), out);
}

/// A canonical status of the code's class at the front of `text`, and the text behind it.
fn take_status(code: u16, text: &[u8]) -> Option<((u16, u16), &[u8])> {
    if !has_status(code) {
        return None;
    }
    let end = text.iter().position(|byte| *byte == b' ').unwrap_or(text.len());
    let mut parts = text[..end].split(|byte| *byte == b'.');
    let mut part = || number::decode_u32(parts.next()?).and_then(|part| u16::try_from(part).ok());
    let (class, subject, detail) = (part()?, part()?, part()?);
    if class != code / 100 || subject > 999 || detail > 999 || parts.next().is_some() {
        return None;
    }
    Some(((subject, detail), text.get(end + 1..).unwrap_or_default()))
}

fn printable(char: char) -> u8 {
    if matches!(char, ' '..='~') { char as u8 } else { b'?' }
}

#[cfg(test)]
#[allow(clippy::type_complexity, reason = "tables of bytes and the values expected of them")]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn encoded(reply: &Reply) -> Vec<u8> {
        let mut out = Vec::new();
        reply.encode(&mut out);
        out
    }

    #[test]
    fn replies_read_as_they_are_written() {
        let table: &[(Reply, &[u8])] = &[
            (Reply::new(250, (1, 5), "OK"), b"250 2.1.5 OK\r\n"),
            (Reply::new(451, (3, 0), "Try again later"), b"451 4.3.0 Try again later\r\n"),
            (Reply::plain(220, "mail.example.jp LMTP"), b"220 mail.example.jp LMTP\r\n"),
            (Reply::plain(250, "host\nPIPELINING\nSIZE 10"), b"250-host\r\n250-PIPELINING\r\n250 SIZE 10\r\n"),
            (Reply::new(550, (1, 1), "no\nsuch user"), b"550-5.1.1 no\r\n550 5.1.1 such user\r\n"),
            (Reply::new(250, (0, 0), ""), b"250 2.0.0\r\n"),
            (Reply::plain(250, ""), b"250 \r\n"),
            (Reply::plain(354, "go"), b"354 go\r\n"),
        ];
        for (reply, wire) in table {
            assert_eq!(encoded(reply), *wire, "{reply:?}");
            assert_eq!(decode_reply(wire), Ok(Some((reply.clone(), wire.len()))));
            for end in 0..wire.len() {
                assert_eq!(decode_reply(&wire[..end]), Ok(None));
            }
        }
        assert_eq!(encoded(&Reply::new(354, (1, 1), "go")), b"354 go\r\n");
    }

    #[test]
    fn replies_of_others_are_understood() {
        let table: &[(&[u8], Reply)] = &[
            (b"250\r\n", Reply::plain(250, "")),
            (b"250 ok\n", Reply::plain(250, "ok")),
            (b"250 5.1.1 odd\r\n", Reply::plain(250, "5.1.1 odd")),
            (b"250 2.1 odd\r\n", Reply::plain(250, "2.1 odd")),
            (b"250-2.0.0 a\r\n250 b\r\n", Reply::new(250, (0, 0), "a\nb")),
            (b"250-2.0.0 a\r\n250 2.1.0 b\r\n", Reply::new(250, (0, 0), "a\n2.1.0 b")),
            (b"554 5.0.0 \xff\t\r\n", Reply::new(554, (0, 0), "??")),
        ];
        for (wire, want) in table {
            assert_eq!(decode_reply(wire), Ok(Some((want.clone(), wire.len()))), "{}", wire.escape_ascii());
        }
        for wire in
            [&b"\r\n"[..], b"25\r\n", b"abc d\r\n", b"199 x\r\n", b"600 x\r\n", b"250_x\r\n", b"250-a\r\n251 b\r\n"]
        {
            assert_eq!(decode_reply(wire), Err(Malformed::Reply), "{}", wire.escape_ascii());
        }
    }

    #[test]
    fn text_from_elsewhere_cannot_forge_a_reply() {
        let wire = encoded(&Reply::new(550, (1, 1), "<a\r\0用@b> unknown"));
        assert_eq!(wire, b"550 5.1.1 <a???@b> unknown\r\n");
    }

    #[test]
    fn lines_are_cut_at_512_bytes_and_replies_at_100_lines() {
        let wire = encoded(&Reply::new(250, (0, 0), "x".repeat(600)));
        assert_eq!(wire.len(), MAX_REPLY_LINE);
        assert!(wire.ends_with(b"x\r\n"));
        let wire = encoded(&Reply::plain(250, "x\n".repeat(MAX_REPLY_LINES + 5)));
        let (reply, used) = decode_reply(&wire).unwrap().unwrap();
        assert_eq!((reply.text.split('\n').count(), used), (MAX_REPLY_LINES, wire.len()));
        assert_eq!(decode_reply("250-x\r\n".repeat(MAX_REPLY_LINES).as_bytes()), Err(Malformed::Reply));
        let long = [b"250 ", &[b'x'; MAX_REPLY_LINE_READ - 4][..]].concat();
        assert_eq!(decode_reply(&long[..long.len() - 1]), Ok(None));
        assert_eq!(decode_reply(&long), Err(Malformed::LineTooLong));
    }

    proptest! {
        #[test]
        fn replies_survive_the_wire(wire in "([2-5][0-9]{2}[ -]([245]\\.[0-9]{1,3}\\.[0-9])? ?[ -~]{0,20}\r\n){1,4}") {
            if let Ok(Some((reply, _))) = decode_reply(wire.as_bytes()) {
                let again = encoded(&reply);
                prop_assert_eq!(decode_reply(&again), Ok(Some((reply, again.len()))));
            }
        }

        #[test]
        fn any_bytes_decode_without_panic(input in proptest::collection::vec(any::<u8>(), 0..100)) {
            let _ = decode_reply(&input);
        }
    }
}
