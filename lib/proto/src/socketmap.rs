//! socketmap: Postfix table lookups, each message one netstring.
//!
//! ```text
//! netstring = length ":" bytes ","          length in decimal digits
//! request   = name SP key                   key is raw bytes and may hold spaces: the first space splits
//! reply     = "OK" SP data | "NOTFOUND" SP | "TEMP" SP reason | "TIMEOUT" SP reason | "PERM" SP reason
//! ```
//!
//! One connection carries any number of requests, one at a time. Postfix closes it after 10 s idle or at 100 s of age, at
//! any moment between two requests.
//!
//! Limits: a request of [`MAX_REQUEST`] bytes ([`MAX_NAME`], a space, [`MAX_KEY`]); a reply of [`MAX_REPLY`] bytes with its
//! `OK `, beyond which Postfix drops the connection; a reason of [`MAX_REASON`] bytes, of which Postfix logs no more.
//!
//! Oddities:
//! - `OK` with empty data makes smtpd answer `451 4.3.5` (configuration error), and `OK` without a space reads as "not
//!   found" in 3.7 and as an empty value in 3.12: [`Reply::encode`] sends neither, it sends TEMP.
//! - `PERM` still ends in a 4xx reply of smtpd; only NOTFOUND ever rejects.
//! - Postfix puts data into a C string, so a NUL would cut a value unseen: TEMP again.
//! - Postfix's own reader takes leading zeros and no digits at all (as 0); it never writes them, so we refuse them.
//!
//! Security: data is used verbatim by Postfix, as an address list, a transport, an access(5) action. A reason reaches
//! Postfix's log (non-printable bytes become `?` there) but never the mail client.
//!
//! Source: Postfix 3.7.11 `util/dict_sockmap.c`, `util/netstring.c`; socketmap_table(5).

use std::fmt;

use crate::number;

/// Longest map name, in bytes.
pub const MAX_NAME: usize = 255;
/// Longest key, in bytes: what Postfix 3.12 will send at most (earlier versions have no limit of their own).
pub const MAX_KEY: usize = 10_000;
/// Longest request payload, in bytes.
pub const MAX_REQUEST: usize = MAX_NAME + 1 + MAX_KEY;
/// Longest reply payload that Postfix takes, in bytes, its status word and space included.
pub const MAX_REPLY: usize = 100_000;
/// Longest value, in bytes.
pub const MAX_DATA: usize = MAX_REPLY - "OK ".len();
/// Longest reason, in bytes; longer ones are cut.
pub const MAX_REASON: usize = 200;

/// One lookup.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Request<'a> {
    /// Name of the map: what stands behind the last colon in main.cf.
    pub name: &'a [u8],
    /// What to look up, in the case the mail client wrote it; Postfix does not fold it for address tables.
    pub key: &'a [u8],
}

impl Request<'_> {
    /// Appends the request as Postfix sends it.
    ///
    /// # Errors
    /// [`Malformed::NameWithSpace`] for a name that would be split elsewhere; [`Malformed::TooLong`] above [`MAX_REQUEST`].
    pub fn encode(&self, out: &mut Vec<u8>) -> Result<(), Malformed> {
        if self.name.contains(&b' ') {
            return Err(Malformed::NameWithSpace);
        }
        if self.name.len() + 1 + self.key.len() > MAX_REQUEST {
            return Err(Malformed::TooLong { limit: MAX_REQUEST });
        }
        encode_netstring(&[self.name, b" ", self.key], out);
        Ok(())
    }
}

/// The answer to a lookup.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reply<'a> {
    /// Found: 1 to [`MAX_DATA`] bytes without NUL. Lists are separated by commas.
    Ok(&'a [u8]),
    /// The key is not in the map, for certain.
    NotFound,
    /// Could not find out; Postfix tries again later.
    Temp(&'a [u8]),
    /// As [`Reply::Temp`], logged as a timeout.
    Timeout(&'a [u8]),
    /// The question cannot be answered as configured; the mail client still gets a temporary error.
    Perm(&'a [u8]),
}

impl<'a> Reply<'a> {
    /// The reply that [`Reply::encode`] writes: itself, or TEMP for a value that Postfix would misread.
    pub fn sendable(self) -> Reply<'a> {
        let Reply::Ok(data) = self else {
            return self;
        };
        if data.is_empty() {
            Reply::Temp(b"the value is empty")
        } else if data.len() > MAX_DATA {
            Reply::Temp(b"the value is longer than 99997 bytes")
        } else if data.contains(&0) {
            Reply::Temp(b"the value holds a NUL byte")
        } else {
            self
        }
    }

    /// Appends the reply as [`Reply::sendable`] has it, reasons cut at [`MAX_REASON`] bytes.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let (word, rest): (&[u8], &[u8]) = match self.sendable() {
            Reply::Ok(data) => (b"OK ", data),
            Reply::NotFound => (b"NOTFOUND ", b""),
            Reply::Temp(reason) => (b"TEMP ", cut(reason)),
            Reply::Timeout(reason) => (b"TIMEOUT ", cut(reason)),
            Reply::Perm(reason) => (b"PERM ", cut(reason)),
        };
        encode_netstring(&[word, rest], out);
    }
}

/// What is wrong with the bytes. Framing is lost or the peer is none of ours: the connection should be closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Malformed {
    /// No canonical decimal length followed by a colon.
    Length,
    /// The announced length is above the limit.
    TooLong {
        /// The limit in bytes.
        limit: usize,
    },
    /// No comma behind the payload.
    NoComma,
    /// A request without a space, hence without a key.
    NoKey,
    /// A map name above [`MAX_NAME`] bytes.
    NameTooLong,
    /// A map name that holds a space cannot be sent.
    NameWithSpace,
    /// A reply that begins with none of the five words.
    Status,
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Malformed::Length => f.write_str("a netstring must begin with its length in decimal digits and a colon"),
            Malformed::TooLong { limit } => write!(f, "the netstring is longer than {limit} bytes"),
            Malformed::NoComma => f.write_str("the netstring does not end in a comma"),
            Malformed::NoKey => f.write_str("the request has no space between map name and key"),
            Malformed::NameTooLong => write!(f, "the map name is longer than {MAX_NAME} bytes"),
            Malformed::NameWithSpace => f.write_str("a map name cannot hold a space"),
            Malformed::Status => f.write_str("the reply begins with none of OK, NOTFOUND, TEMP, TIMEOUT and PERM"),
        }
    }
}

impl std::error::Error for Malformed {}

/// Reads a request from the bytes received so far.
///
/// # Errors
/// As soon as the bytes cannot become a request of at most [`MAX_REQUEST`] bytes.
pub fn decode(input: &[u8]) -> Result<Option<(Request<'_>, usize)>, Malformed> {
    let Some((payload, used)) = decode_netstring(input, MAX_REQUEST)? else {
        return Ok(None);
    };
    let Some(space) = payload.iter().position(|byte| *byte == b' ') else {
        return Err(Malformed::NoKey);
    };
    if space > MAX_NAME {
        return Err(Malformed::NameTooLong);
    }
    Ok(Some((Request { name: &payload[..space], key: &payload[space + 1..] }, used)))
}

/// Reads a reply as Postfix 3.7 does, except that an unknown word is an error and not a TEMP.
///
/// # Errors
/// As soon as the bytes cannot become a reply of at most [`MAX_REPLY`] bytes.
pub fn decode_reply(input: &[u8]) -> Result<Option<(Reply<'_>, usize)>, Malformed> {
    let Some((payload, used)) = decode_netstring(input, MAX_REPLY)? else {
        return Ok(None);
    };
    let (word, rest) = match payload.iter().position(|byte| *byte == b' ') {
        Some(space) => (&payload[..space], Some(&payload[space + 1..])),
        None => (payload, None),
    };
    let reply = match (word, rest) {
        (b"OK", Some(data)) => Reply::Ok(data),
        (b"OK", None) | (b"NOTFOUND", _) => Reply::NotFound,
        (b"TEMP", reason) => Reply::Temp(reason.unwrap_or_default()),
        (b"TIMEOUT", reason) => Reply::Timeout(reason.unwrap_or_default()),
        (b"PERM", reason) => Reply::Perm(reason.unwrap_or_default()),
        _ => return Err(Malformed::Status),
    };
    Ok(Some((reply, used)))
}

/// Reads one netstring of at most `limit` bytes: its payload and the bytes it took with its framing.
///
/// # Errors
/// [`Malformed::Length`], [`Malformed::TooLong`] as soon as the digits say so, [`Malformed::NoComma`].
pub fn decode_netstring(input: &[u8], limit: usize) -> Result<Option<(&[u8], usize)>, Malformed> {
    let mut length = 0usize;
    for (at, byte) in input.iter().enumerate() {
        match byte {
            // A first digit 0 must be the only one.
            b'0'..=b'9' if at == 0 || length > 0 => {
                length = length.saturating_mul(10).saturating_add(usize::from(byte - b'0'));
                if length > limit {
                    return Err(Malformed::TooLong { limit });
                }
            }
            b':' if at > 0 => {
                let start = at + 1;
                let Some(comma) = input.get(start + length) else {
                    return Ok(None);
                };
                if *comma != b',' {
                    return Err(Malformed::NoComma);
                }
                return Ok(Some((&input[start..start + length], start + length + 1)));
            }
            _ => return Err(Malformed::Length),
        }
    }
    Ok(None)
}

/// Appends one netstring made of `parts` one after the other.
pub fn encode_netstring(parts: &[&[u8]], out: &mut Vec<u8>) {
    let length = parts.iter().map(|part| part.len()).sum::<usize>();
    out.reserve(length + 8);
    number::encode(length as u64, out);
    out.push(b':');
    for part in parts {
        out.extend_from_slice(part);
    }
    out.push(b',');
}

fn cut(reason: &[u8]) -> &[u8] {
    &reason[..reason.len().min(MAX_REASON)]
}

#[cfg(test)]
#[allow(clippy::type_complexity, reason = "tables of bytes and the values expected of them")]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn encoded(reply: Reply<'_>) -> Vec<u8> {
        let mut out = Vec::new();
        reply.encode(&mut out);
        out
    }

    fn netstring(payload: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        encode_netstring(&[payload], &mut out);
        out
    }

    #[test]
    fn requests_split_at_the_first_space() {
        let table: &[(&[u8], &[u8], &[u8])] = &[
            (b"23:mailboxes bob@example.o,", b"mailboxes", b"bob@example.o"),
            (b"27:aliases \"a b\"@example.org  ,", b"aliases", b"\"a b\"@example.org  "),
            (b"11:transport *,", b"transport", b"*"),
            (b"5:name ,", b"name", b""),
            (b"4: key,", b"", b"key"),
            (b"5:m a\0,,", b"m", b"a\0,"),
        ];
        for (bytes, name, key) in table {
            assert_eq!(decode(bytes), Ok(Some((Request { name, key }, bytes.len()))), "{}", bytes.escape_ascii());
            let mut out = Vec::new();
            Request { name, key }.encode(&mut out).unwrap();
            assert_eq!(out, *bytes);
        }
    }

    #[test]
    fn requests_that_postfix_never_sends_are_refused() {
        let table: &[(&[u8], Malformed)] = &[
            (b":,", Malformed::Length),
            (b"x", Malformed::Length),
            (b" 5:m a b,", Malformed::Length),
            (b"05:m abc,", Malformed::Length),
            (b"00:,", Malformed::Length),
            (b"-1:,", Malformed::Length),
            (b"+3:m a,", Malformed::Length),
            (b"3 :m a,", Malformed::Length),
            (b"3:m a\n", Malformed::NoComma),
            (b"2:m a,", Malformed::NoComma),
            (b"0:,", Malformed::NoKey),
            (b"4:name,", Malformed::NoKey),
            (b"10257", Malformed::TooLong { limit: MAX_REQUEST }),
            (b"99999999999999999999999999999999", Malformed::TooLong { limit: MAX_REQUEST }),
        ];
        for (bytes, want) in table {
            assert_eq!(decode(bytes), Err(*want), "{}", bytes.escape_ascii());
        }
    }

    #[test]
    fn every_shorter_piece_asks_for_more() {
        let bytes = b"21:mailboxes bob@example,";
        for end in 0..bytes.len() {
            assert_eq!(decode(&bytes[..end]), Ok(None), "{end} bytes");
        }
        let two = [&bytes[..], b"3:m a,"].concat();
        let (_, used) = decode(&two).unwrap().unwrap();
        assert_eq!(used, bytes.len());
        assert_eq!(decode(&two[used..]), Ok(Some((Request { name: b"m", key: b"a" }, 6))));
    }

    #[test]
    fn name_and_key_have_their_limits() {
        let (name, key) = ([b'n'; MAX_NAME], [b'k'; MAX_KEY]);
        let longest = Request { name: &name, key: &key };
        let mut out = Vec::new();
        longest.encode(&mut out).unwrap();
        assert_eq!(decode(&out), Ok(Some((longest, out.len()))));

        let long_name = netstring(&[&name[..], b"n key"].concat());
        assert_eq!(decode(&long_name), Err(Malformed::NameTooLong));
        let long_key = [&key[..], b"k"].concat();
        out.clear();
        assert_eq!(
            Request { name: &name, key: &long_key }.encode(&mut out),
            Err(Malformed::TooLong { limit: MAX_REQUEST })
        );
        assert_eq!(Request { name: b"a b", key: b"c" }.encode(&mut out), Err(Malformed::NameWithSpace));
        assert_eq!(out, b"");
    }

    #[test]
    fn replies_are_written_as_documented() {
        let table: &[(Reply<'_>, &[u8])] = &[
            (Reply::Ok(b"info@example.jp/"), b"19:OK info@example.jp/,"),
            (Reply::NotFound, b"9:NOTFOUND ,"),
            (Reply::Temp(b"database is down"), b"21:TEMP database is down,"),
            (Reply::Timeout(b""), b"8:TIMEOUT ,"),
            (Reply::Perm(b"no such map"), b"16:PERM no such map,"),
        ];
        for (reply, want) in table {
            let out = encoded(*reply);
            assert_eq!(out, *want, "{}", out.escape_ascii());
            assert_eq!(decode_reply(&out), Ok(Some((*reply, out.len()))));
            for end in 0..out.len() {
                assert_eq!(decode_reply(&out[..end]), Ok(None));
            }
        }
    }

    #[test]
    fn values_that_postfix_would_misread_are_never_sent_as_ok() {
        let longest = vec![b'x'; MAX_DATA];
        let longer = vec![b'x'; MAX_DATA + 1];
        assert_eq!(encoded(Reply::Ok(&longest)).len(), "100000:".len() + MAX_REPLY + 1);
        for data in [&b""[..], &longer, b"a@example.jp\0,b@example.jp"] {
            let out = encoded(Reply::Ok(data));
            let (reply, _) = decode_reply(&out).unwrap().unwrap();
            assert!(matches!(reply, Reply::Temp(reason) if !reason.is_empty()), "{reply:?}");
        }
    }

    #[test]
    fn a_reason_is_cut_at_200_bytes() {
        let long = [b'r'; MAX_REASON + 1];
        for reply in [Reply::Temp(&long), Reply::Timeout(&long), Reply::Perm(&long)] {
            let out = encoded(reply);
            let (Reply::Temp(reason) | Reply::Timeout(reason) | Reply::Perm(reason)) =
                decode_reply(&out).unwrap().unwrap().0
            else {
                panic!("{reply:?} became something else");
            };
            assert_eq!(reason.len(), MAX_REASON);
        }
    }

    #[test]
    fn replies_of_others_read_as_postfix_reads_them() {
        let table: &[(&[u8], Result<Reply<'_>, Malformed>)] = &[
            (b"OK", Ok(Reply::NotFound)),
            (b"OK ", Ok(Reply::Ok(b""))),
            (b"NOTFOUND", Ok(Reply::NotFound)),
            (b"NOTFOUND whatever", Ok(Reply::NotFound)),
            (b"TEMP", Ok(Reply::Temp(b""))),
            (b"OKAY x", Err(Malformed::Status)),
            (b"ok x", Err(Malformed::Status)),
            (b"", Err(Malformed::Status)),
        ];
        for (payload, want) in table {
            let bytes = netstring(payload);
            let got = decode_reply(&bytes).map(|found| found.unwrap().0);
            assert_eq!(got, *want, "{}", payload.escape_ascii());
        }
        assert_eq!(decode_reply(b"100001:"), Err(Malformed::TooLong { limit: MAX_REPLY }));
        assert_eq!(decode_reply(b"100000:"), Ok(None));
    }

    proptest! {
        #[test]
        fn any_bytes_decode_without_panic(input in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = decode(&input);
            let _ = decode_reply(&input);
        }

        #[test]
        fn any_payload_that_decodes_encodes_back(payload in proptest::collection::vec(any::<u8>(), 0..300)) {
            let bytes = netstring(&payload);
            prop_assert_eq!(decode_netstring(&bytes, 300), Ok(Some((&payload[..], bytes.len()))));
            if let Ok(Some((request, used))) = decode(&bytes) {
                prop_assert_eq!(used, bytes.len());
                let mut again = Vec::new();
                request.encode(&mut again).unwrap();
                prop_assert_eq!(again, bytes);
            }
        }

        #[test]
        fn replies_survive_the_wire(data in proptest::collection::vec(any::<u8>(), 0..300)) {
            for reply in [Reply::Ok(&data), Reply::Temp(&data), Reply::Timeout(&data), Reply::Perm(&data)] {
                let out = encoded(reply);
                let (first, used) = decode_reply(&out).unwrap().unwrap();
                prop_assert_eq!(used, out.len());
                prop_assert_eq!(encoded(first), out);
            }
        }

        #[test]
        fn what_is_malformed_stays_malformed_with_more_bytes(input in "[0-9]{0,7}[:,]?[a-z ]{0,8},?") {
            let bytes = input.as_bytes();
            let whole = decode(bytes);
            for end in 0..bytes.len() {
                match decode(&bytes[..end]) {
                    Ok(None) => {}
                    early => prop_assert_eq!(early, whole),
                }
            }
        }
    }
}
