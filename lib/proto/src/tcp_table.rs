//! tcp_table: Postfix table lookups, one line each way.
//!
//! ```text
//! request = "get" SP key LF | "put" SP key SP value LF
//! reply   = "200" SP data LF | "400" SP text LF | "500" SP text LF       found, try later, not found
//! quoting = "%XX" for "%", white space, control characters and bytes beyond ASCII, in both directions
//! ```
//!
//! Limits: a request line of [`MAX_LINE`] bytes and a reply line of [`MAX_REPLY`], both with their LF; Postfix reads no
//! longer reply. Text of 400 and 500 is cut to fit; a value that does not fit is answered with 400.
//!
//! Oddities:
//! - Postfix sends `get` only. `put` is in the manual and answered with 500 by servers that do not change their table.
//! - After a 400 Postfix closes the connection. A connection that was lost it tries anew up to ten times, a second apart.
//! - There is no map name: one listener serves one table.
//! - A `200` without data is an error to Postfix, as an empty value is everywhere: it is answered with 400 instead.
//! - A `%` without two hexadecimal digits spoils a whole reply for Postfix; we refuse such a request.
//!
//! Source: Postfix 3.7.11 `util/dict_tcp.c`, `util/hex_quote.c`; tcp_table(5).

use std::borrow::Cow;
use std::fmt;

/// Longest request line, in bytes with its LF. Postfix sets no limit; every quoted byte of a longest address fits.
pub const MAX_LINE: usize = 4096;
/// Longest reply line, in bytes with its LF (tcp_table(5)).
pub const MAX_REPLY: usize = 4096;

/// A question about one key, its quoting undone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request<'a> {
    /// What is the value?
    Get(Cow<'a, [u8]>),
    /// Set the value.
    Put(Cow<'a, [u8]>, Cow<'a, [u8]>),
}

impl Request<'_> {
    /// Appends the request as Postfix sends it.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Request::Get(key) => {
                out.extend_from_slice(b"get ");
                quote(key, out);
            }
            Request::Put(key, value) => {
                out.extend_from_slice(b"put ");
                quote(key, out);
                out.push(b' ');
                quote(value, out);
            }
        }
        out.push(b'\n');
    }
}

/// The answer, its quoting undone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply<'a> {
    /// 200: found.
    Ok(Cow<'a, [u8]>),
    /// 400: could not find out.
    Temp(Cow<'a, [u8]>),
    /// 500: the key is not in the table, for certain.
    NotFound(Cow<'a, [u8]>),
}

impl Reply<'_> {
    /// Appends the reply. A value that is empty, or too long for [`MAX_REPLY`] when quoted, becomes a 400; text is cut.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let start = out.len();
        let (code, text): (&[u8], &[u8]) = match self {
            Reply::Ok(data) if data.is_empty() => (b"400 ", b"the value is empty"),
            Reply::Ok(data) => {
                out.extend_from_slice(b"200 ");
                quote(data, out);
                if out.len() - start < MAX_REPLY {
                    out.push(b'\n');
                    return;
                }
                out.truncate(start);
                (b"400 ", b"the value is too long")
            }
            Reply::Temp(text) => (b"400 ", text),
            Reply::NotFound(text) => (b"500 ", text),
        };
        out.extend_from_slice(code);
        for byte in text {
            let end = out.len();
            quote(&[*byte], out);
            if out.len() - start >= MAX_REPLY {
                out.truncate(end);
                break;
            }
        }
        out.push(b'\n');
    }
}

/// What is wrong with the bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Malformed {
    /// No LF within [`MAX_LINE`], or [`MAX_REPLY`] for a reply.
    LineTooLong,
    /// A request that is neither `get` with one word nor `put` with two.
    Request,
    /// A reply that begins with none of 200, 400 and 500 and a space.
    Code,
    /// A `%` without two hexadecimal digits.
    Quoting,
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Malformed::LineTooLong => "the line is too long",
            Malformed::Request => "the request is neither \"get KEY\" nor \"put KEY VALUE\"",
            Malformed::Code => "the reply begins with none of 200, 400 and 500",
            Malformed::Quoting => "a % is not followed by two hexadecimal digits",
        })
    }
}

impl std::error::Error for Malformed {}

/// Reads a request from the bytes received so far.
///
/// # Errors
/// [`Malformed`]; the line says no more than that, so the server answers 400 and closes.
pub fn decode(input: &[u8]) -> Result<Option<(Request<'_>, usize)>, Malformed> {
    let Some(end) = line_end(input, MAX_LINE)? else {
        return Ok(None);
    };
    let mut words = input[..end].split(|byte| *byte == b' ');
    let request = match (words.next(), words.next(), words.next(), words.next()) {
        (Some(b"get"), Some(key), None, None) => Request::Get(unquote(key)?),
        (Some(b"put"), Some(key), Some(value), None) => Request::Put(unquote(key)?, unquote(value)?),
        _ => return Err(Malformed::Request),
    };
    Ok(Some((request, end + 1)))
}

/// Reads a reply from the bytes received so far.
///
/// # Errors
/// [`Malformed::LineTooLong`], [`Malformed::Code`], [`Malformed::Quoting`].
pub fn decode_reply(input: &[u8]) -> Result<Option<(Reply<'_>, usize)>, Malformed> {
    let Some(end) = line_end(input, MAX_REPLY)? else {
        return Ok(None);
    };
    let Some((code, text)) = input[..end].split_at_checked(4) else {
        return Err(Malformed::Code);
    };
    let reply = match code {
        b"200 " => Reply::Ok(unquote(text)?),
        b"400 " => Reply::Temp(unquote(text)?),
        b"500 " => Reply::NotFound(unquote(text)?),
        _ => return Err(Malformed::Code),
    };
    Ok(Some((reply, end + 1)))
}

fn line_end(input: &[u8], limit: usize) -> Result<Option<usize>, Malformed> {
    match input.iter().take(limit).position(|byte| *byte == b'\n') {
        None if input.len() >= limit => Err(Malformed::LineTooLong),
        end => Ok(end),
    }
}

fn quote(bytes: &[u8], out: &mut Vec<u8>) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    for byte in bytes {
        if byte.is_ascii_graphic() && *byte != b'%' {
            out.push(*byte);
        } else {
            out.extend_from_slice(&[b'%', DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]);
        }
    }
}

/// Copies only when there is something quoted.
fn unquote(text: &[u8]) -> Result<Cow<'_, [u8]>, Malformed> {
    let mut parts = text.split(|byte| *byte == b'%');
    let first = parts.next().unwrap_or_default();
    if first.len() == text.len() {
        return Ok(Cow::Borrowed(text));
    }
    let mut out = Vec::with_capacity(text.len());
    out.extend_from_slice(first);
    for part in parts {
        let Some(([high, low], rest)) = part.split_first_chunk::<2>() else {
            return Err(Malformed::Quoting);
        };
        let digit = |digit: u8| char::from(digit).to_digit(16);
        let byte = digit(*high).zip(digit(*low)).and_then(|(high, low)| u8::try_from(high << 4 | low).ok());
        out.push(byte.ok_or(Malformed::Quoting)?);
        out.extend_from_slice(rest);
    }
    Ok(Cow::Owned(out))
}

#[cfg(test)]
#[allow(clippy::type_complexity, reason = "tables of bytes and the values expected of them")]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn get(key: &[u8]) -> Request<'_> {
        Request::Get(Cow::Borrowed(key))
    }

    fn encoded(reply: &Reply<'_>) -> Vec<u8> {
        let mut out = Vec::new();
        reply.encode(&mut out);
        out
    }

    #[test]
    fn requests_read_as_they_are_written() {
        let table: &[(&[u8], Request<'_>)] = &[
            (b"get bob@example.org\n", get(b"bob@example.org")),
            (b"get %22a%20b%22@example.org\n", get(b"\"a b\"@example.org")),
            (b"get 100%25\n", get(b"100%")),
            (b"get %C3%A9%0A%00\n", get(b"\xc3\xa9\n\0")),
            (b"get \n", get(b"")),
            (b"put k v%20w\n", Request::Put(b"k".into(), b"v w".into())),
        ];
        for (wire, want) in table {
            assert_eq!(decode(wire), Ok(Some((want.clone(), wire.len()))), "{}", wire.escape_ascii());
            for end in 0..wire.len() {
                assert_eq!(decode(&wire[..end]), Ok(None));
            }
            let mut out = Vec::new();
            want.encode(&mut out);
            // The quotation mark needs no quoting and is written plain.
            assert_eq!(decode(&out), Ok(Some((want.clone(), out.len()))));
        }
        assert_eq!(decode(b"get %c3%A9\nget"), Ok(Some((get(b"\xc3\xa9"), 11))));
    }

    #[test]
    fn what_is_no_request_is_refused() {
        let table: &[(&[u8], Malformed)] = &[
            (b"\n", Malformed::Request),
            (b"get\n", Malformed::Request),
            (b"get a b\n", Malformed::Request),
            (b"GET a\n", Malformed::Request),
            (b"put a\n", Malformed::Request),
            (b"put a b c\n", Malformed::Request),
            (b"del a\n", Malformed::Request),
            (b"get %\n", Malformed::Quoting),
            (b"get %4\n", Malformed::Quoting),
            (b"get %4g\n", Malformed::Quoting),
            (b"get %+1\n", Malformed::Quoting),
        ];
        for (wire, want) in table {
            assert_eq!(decode(wire), Err(*want), "{}", wire.escape_ascii());
        }
    }

    #[test]
    fn replies_read_as_they_are_written() {
        let table: &[(&[u8], Reply<'_>)] = &[
            (b"200 a@example.org,b@example.org\n", Reply::Ok(b"a@example.org,b@example.org".into())),
            (b"200 smtp:[mx]%20x\n", Reply::Ok(b"smtp:[mx] x".into())),
            (b"400 database%20is%20down\n", Reply::Temp(b"database is down".into())),
            (b"500 \n", Reply::NotFound(b"".into())),
        ];
        for (wire, want) in table {
            assert_eq!(encoded(want), *wire);
            assert_eq!(decode_reply(wire), Ok(Some((want.clone(), wire.len()))));
        }
        for wire in [&b"\n"[..], b"200\n", b"300 x\n", b"2000 x\n"] {
            assert_eq!(decode_reply(wire), Err(Malformed::Code), "{}", wire.escape_ascii());
        }
    }

    #[test]
    fn lines_end_within_4096_bytes() {
        let longest = format!("get {}\n", "k".repeat(MAX_LINE - 5));
        assert!(matches!(decode(longest.as_bytes()), Ok(Some((_, MAX_LINE)))));
        let longer = format!("get {}\n", "k".repeat(MAX_LINE - 4));
        assert_eq!(decode(longer.as_bytes()), Err(Malformed::LineTooLong));
        assert_eq!(decode(&longer.as_bytes()[..MAX_LINE - 1]), Ok(None));

        let fits = vec![b'v'; MAX_REPLY - "200 \n".len()];
        assert_eq!(encoded(&Reply::Ok(fits.as_slice().into())).len(), MAX_REPLY);
        let too_long = vec![b'v'; MAX_REPLY - "200 \n".len() + 1];
        assert!(encoded(&Reply::Ok(too_long.as_slice().into())).starts_with(b"400 "));
        assert!(encoded(&Reply::Ok(vec![b' '; 1400].into())).starts_with(b"400 "));
        assert!(encoded(&Reply::Ok(Cow::Borrowed(b""))).starts_with(b"400 "));
        let text = encoded(&Reply::NotFound(vec![b' '; 5000].into()));
        assert!((MAX_REPLY - 2..=MAX_REPLY).contains(&text.len()));
        assert!(matches!(decode_reply(&text), Ok(Some((Reply::NotFound(_), _)))));
    }

    proptest! {
        #[test]
        fn anything_survives_the_wire(key in proptest::collection::vec(any::<u8>(), 0..50), value in proptest::collection::vec(any::<u8>(), 1..50)) {
            for request in [Request::Get(key.as_slice().into()), Request::Put(key.as_slice().into(), value.as_slice().into())] {
                let mut out = Vec::new();
                request.encode(&mut out);
                prop_assert_eq!(decode(&out), Ok(Some((request, out.len()))));
            }
            for reply in [Reply::Ok(value.as_slice().into()), Reply::Temp(key.as_slice().into()), Reply::NotFound(key.as_slice().into())] {
                let out = encoded(&reply);
                prop_assert_eq!(decode_reply(&out), Ok(Some((reply, out.len()))));
            }
        }

        #[test]
        fn any_line_decodes_without_panic_and_encodes_back(line in "(get|put|200|400|500) ?[ -~\n]{0,20}\n?") {
            if let Ok(Some((request, used))) = decode(line.as_bytes()) {
                prop_assert!(used <= line.len());
                let mut out = Vec::new();
                request.encode(&mut out);
                prop_assert_eq!(decode(&out), Ok(Some((request, out.len()))));
            }
            let _ = decode_reply(line.as_bytes());
        }

        #[test]
        fn any_bytes_decode_without_panic(input in proptest::collection::vec(any::<u8>(), 0..100)) {
            let _ = decode(&input);
            let _ = decode_reply(&input);
        }
    }
}
