//! saslauthd: the wire of the Cyrus SASL password checker.
//!
//! ```text
//! request = login password service realm [client]     one per connection
//! reply   = field                                     "OK" or "NO", then optionally SP and a reason
//! field   = length(u16, big endian) bytes             no terminator
//! ```
//!
//! Limits: a request field is at most [`MAX_FIELD`] bytes; the stock daemon answers the three bytes `NO ` as soon as it
//! has read a longer length and leaves the rest unread ([`Malformed::FieldTooLong`], [`FIELD_TOO_LONG_REPLY`]). libsasl2
//! reads at most [`MAX_REPLY_TEXT`] bytes of a reply.
//!
//! Security: a request holds a password. It borrows from the receive buffer and is not copied; the owner of that buffer
//! wipes it. `Debug` leaves the password out. There is no word for "try later": a server that could not find out closes
//! the connection without an answer (libsasl2 then reports SASL_FAIL and Postfix says 454), for `NO` means that the
//! password is wrong.
//!
//! Oddities:
//! - The stock daemon (2.1.28) reads fields into C strings, so a NUL ends a field early. We cut there too: a password
//!   of `a NUL b` is the password `a` to every backend it ever had.
//! - Development versions of libsasl2 send the client's address as a fifth field. 2.1.28 does not, and both wait for the answer
//!   without closing, so nobody may wait for it: a request is complete after four fields, and a fifth is taken only if
//!   all of it is in the buffer already. A fifth that is too long or still incomplete is left unread.
//! - libsasl2 splits the user id at its last `@` into login and realm, so for virtual domains the two must be joined
//!   again ([`Request::user`], the stock `-r`). testsaslauthd and others send the whole address as login.
//! - libsasl2 takes any reply that begins with `OK` as success (`OKAY` too) and anything else of two bytes or more as a
//!   wrong password; fewer are an error. [`decode_reply`] follows it.
//!
//! Source: cyrus-sasl 2.1.28, `saslauthd/ipc_unix.c`, `lib/checkpw.c`; saslauthd(8).

use std::borrow::Cow;
use std::fmt;

/// Longest request field, in bytes (MAX_REQ_LEN of the stock daemon).
pub const MAX_FIELD: usize = 256;
/// Longest request, in bytes: four fields and the fifth, each with its length.
pub const MAX_REQUEST: usize = 5 * (LENGTH + MAX_FIELD);
/// Longest reply text that libsasl2 reads, in bytes, without its length.
pub const MAX_REPLY_TEXT: usize = 1023;
/// What the stock daemon sends for a field longer than [`MAX_FIELD`]: `NO` with an empty reason.
pub const FIELD_TOO_LONG_REPLY: Reply<'static> = Reply::No(Some(b""));
/// What the stock daemon sends for an empty login.
pub const NULL_LOGIN_REPLY: Reply<'static> = Reply::No(Some(b"NULL login received"));
/// What the stock daemon sends for an empty password.
pub const NULL_PASSWORD_REPLY: Reply<'static> = Reply::No(Some(b"NULL password received"));

/// Bytes of a field's length.
const LENGTH: usize = 2;

/// One login to check. Fields are cut at their first NUL.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Request<'a> {
    /// The user's name as the client split it; see [`Request::user`].
    pub login: &'a [u8],
    /// The password in the clear.
    pub password: &'a [u8],
    /// SASL service of the asking program, `smtp` from Postfix.
    pub service: &'a [u8],
    /// What stood behind the last `@` of the user id, or the program's default realm, or nothing.
    pub realm: &'a [u8],
    /// Address of the mail client, from peers that send it.
    pub client: Option<&'a [u8]>,
}

impl<'a> Request<'a> {
    /// The user to look up. With `combine_realm` it is `login@realm` when there is a realm, else the login alone.
    ///
    /// A login that already ends in `@realm` (in any case) is not joined a second time. A login with another `@` is
    /// joined as the stock `-r` does: `a@b` with realm `c` stays the three-part name the user typed and no account's.
    /// Taking `a@b` instead would let one account log in under any number of names, each with a rate limit of its own.
    pub fn user(&self, combine_realm: bool) -> Cow<'a, [u8]> {
        if !combine_realm || self.realm.is_empty() || self.ends_in_realm() {
            return Cow::Borrowed(self.login);
        }
        Cow::Owned([self.login, b"@", self.realm].concat())
    }

    /// The stock answer to a request without login or password, in the order the stock daemon looks.
    pub fn refusal(&self) -> Option<Reply<'static>> {
        if self.login.is_empty() {
            Some(NULL_LOGIN_REPLY)
        } else if self.password.is_empty() {
            Some(NULL_PASSWORD_REPLY)
        } else {
            None
        }
    }

    /// Appends the request as a client sends it; the client address only when there is one.
    ///
    /// # Errors
    /// [`Malformed::FieldTooLong`] when a field's length does not fit the wire's 16 bits. Fields between [`MAX_FIELD`] and
    /// that are written as libsasl2 would write them, for the server to refuse.
    pub fn encode(&self, out: &mut Vec<u8>) -> Result<(), Malformed> {
        let start = out.len();
        let fields = [
            (Field::Login, Some(self.login)),
            (Field::Password, Some(self.password)),
            (Field::Service, Some(self.service)),
            (Field::Realm, Some(self.realm)),
            (Field::Client, self.client),
        ];
        for (field, bytes) in fields {
            let Some(bytes) = bytes else { continue };
            let Ok(length) = u16::try_from(bytes.len()) else {
                out.truncate(start);
                return Err(Malformed::FieldTooLong { field, length: bytes.len() });
            };
            out.extend_from_slice(&length.to_be_bytes());
            out.extend_from_slice(bytes);
        }
        Ok(())
    }

    fn ends_in_realm(&self) -> bool {
        let Some(at) = self.login.len().checked_sub(self.realm.len() + 1) else {
            return false;
        };
        let (_, tail) = self.login.split_at(at);
        tail.split_first().is_some_and(|(first, rest)| *first == b'@' && rest.eq_ignore_ascii_case(self.realm))
    }
}

impl fmt::Debug for Request<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Request")
            .field("login", &self.login.escape_ascii().to_string())
            .field("service", &self.service.escape_ascii().to_string())
            .field("realm", &self.realm.escape_ascii().to_string())
            .field("client", &self.client.map(|client| client.escape_ascii().to_string()))
            .finish_non_exhaustive()
    }
}

/// The field of a request, for messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Field {
    /// First field.
    Login,
    /// Second field.
    Password,
    /// Third field.
    Service,
    /// Fourth field.
    Realm,
    /// Fifth field, which most peers do not send.
    Client,
}

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Field::Login => "login",
            Field::Password => "password",
            Field::Service => "service",
            Field::Realm => "realm",
            Field::Client => "client address",
        })
    }
}

/// The answer. A reason is for people with testsaslauthd in hand: libsasl2 throws it away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reply<'a> {
    /// The password is right.
    Ok(Option<&'a [u8]>),
    /// The password is wrong, or nobody may log in with it. Not for trouble on our side: close instead.
    No(Option<&'a [u8]>),
}

impl Reply<'_> {
    /// Appends the reply, its reason cut so that the text stays within [`MAX_REPLY_TEXT`].
    pub fn encode(&self, out: &mut Vec<u8>) {
        let (word, reason) = match self {
            Reply::Ok(reason) => (b"OK", reason),
            Reply::No(reason) => (b"NO", reason),
        };
        let start = out.len();
        out.extend_from_slice(&[0; LENGTH]);
        out.extend_from_slice(word);
        if let Some(reason) = reason {
            out.push(b' ');
            out.extend_from_slice(reason);
        }
        out.truncate(start + LENGTH + MAX_REPLY_TEXT);
        // MAX_REPLY_TEXT fits 16 bits, so the cast loses nothing.
        let length = (out.len() - start - LENGTH) as u16;
        out[start..start + LENGTH].copy_from_slice(&length.to_be_bytes());
    }
}

/// What is wrong with the bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Malformed {
    /// A request field is longer than [`MAX_FIELD`]. The server answers [`FIELD_TOO_LONG_REPLY`] and reads no further.
    FieldTooLong {
        /// Which field.
        field: Field,
        /// Its announced length in bytes.
        length: usize,
    },
    /// A reply too short to hold `OK` or `NO`.
    ReplyTooShort {
        /// Its announced length in bytes.
        length: usize,
    },
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Malformed::FieldTooLong { field, length } => {
                write!(f, "the {field} is {length} bytes long, more than {MAX_FIELD}")
            }
            Malformed::ReplyTooShort { length } => write!(f, "a reply of {length} bytes is neither OK nor NO"),
        }
    }
}

impl std::error::Error for Malformed {}

/// Reads a request from the bytes received so far.
///
/// `Ok(None)` until four fields are there. A fifth is taken when it is complete in `input`, else left (see the module's
/// page). No valid request needs more than [`MAX_REQUEST`] bytes.
///
/// # Errors
/// [`Malformed::FieldTooLong`] as soon as the length of an over-long field is known.
pub fn decode(input: &[u8]) -> Result<Option<(Request<'_>, usize)>, Malformed> {
    let mut rest = input;
    let mut fields = [&[][..]; 4];
    for (slot, field) in fields.iter_mut().zip([Field::Login, Field::Password, Field::Service, Field::Realm]) {
        let Some((bytes, tail)) = take_field(rest, field)? else {
            return Ok(None);
        };
        (*slot, rest) = (bytes, tail);
    }
    let mut client = None;
    if let Ok(Some((bytes, tail))) = take_field(rest, Field::Client) {
        (client, rest) = (Some(bytes), tail);
    }
    let [login, password, service, realm] = fields;
    Ok(Some((Request { login, password, service, realm, client }, input.len() - rest.len())))
}

/// Reads a reply as libsasl2 does: success is any text that begins with `OK`, everything else is a no.
///
/// Of a text longer than [`MAX_REPLY_TEXT`] the first part is read and the rest left.
///
/// # Errors
/// [`Malformed::ReplyTooShort`] for a text below two bytes.
pub fn decode_reply(input: &[u8]) -> Result<Option<(Reply<'_>, usize)>, Malformed> {
    let Some((length, rest)) = take_length(input) else {
        return Ok(None);
    };
    if length < 2 {
        return Err(Malformed::ReplyTooShort { length });
    }
    let length = length.min(MAX_REPLY_TEXT);
    let Some(text) = rest.get(..length) else {
        return Ok(None);
    };
    let (word, tail) = text.split_at(2);
    let reason = match (word, tail) {
        (b"OK" | b"NO", []) => None,
        (b"OK" | b"NO", [b' ', reason @ ..]) => Some(reason),
        _ => Some(text),
    };
    let reply = if word == b"OK" { Reply::Ok(reason) } else { Reply::No(reason) };
    Ok(Some((reply, LENGTH + length)))
}

fn take_length(input: &[u8]) -> Option<(usize, &[u8])> {
    let (length, rest) = input.split_first_chunk::<LENGTH>()?;
    Some((usize::from(u16::from_be_bytes(*length)), rest))
}

/// A field and what follows it.
type FieldAndRest<'a> = (&'a [u8], &'a [u8]);

/// The next field, cut at its first NUL, and what follows it.
fn take_field(input: &[u8], field: Field) -> Result<Option<FieldAndRest<'_>>, Malformed> {
    let Some((length, rest)) = take_length(input) else {
        return Ok(None);
    };
    if length > MAX_FIELD {
        return Err(Malformed::FieldTooLong { field, length });
    }
    Ok(rest.split_at_checked(length).map(|(bytes, tail)| {
        let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(length);
        (&bytes[..end], tail)
    }))
}

#[cfg(test)]
#[allow(clippy::type_complexity, reason = "tables of bytes and the values expected of them")]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const BOB: &[u8] = b"\0\x03bob\0\x06s3cret\0\x04smtp\0\x0bexample.org";

    fn bob() -> Request<'static> {
        Request { login: b"bob", password: b"s3cret", service: b"smtp", realm: b"example.org", client: None }
    }

    fn encoded(request: &Request<'_>) -> Vec<u8> {
        let mut out = Vec::new();
        request.encode(&mut out).unwrap();
        out
    }

    #[test]
    fn what_libsasl2_sends_reads_as_four_fields() {
        assert_eq!(decode(BOB), Ok(Some((bob(), BOB.len()))));
        assert_eq!(encoded(&bob()), BOB);
    }

    #[test]
    fn every_shorter_piece_asks_for_more() {
        for end in 0..BOB.len() {
            assert_eq!(decode(&BOB[..end]), Ok(None), "{end} bytes");
        }
    }

    #[test]
    fn a_fifth_field_is_taken_when_present_and_never_waited_for() {
        let table: &[(&[u8], Option<&[u8]>, usize)] = &[
            (b"", None, 0),
            (b"\0", None, 0),
            (b"\0\x09192.0.2", None, 0),
            (b"\0\x09192.0.2.7", Some(b"192.0.2.7"), 11),
            (b"\0\0", Some(b""), 2),
            (b"\x01\x01too long to be a field", None, 0),
            (b"\0\x011more", Some(b"1"), 3),
        ];
        for (tail, client, taken) in table {
            let bytes = [BOB, tail].concat();
            let want = Request { client: *client, ..bob() };
            assert_eq!(decode(&bytes), Ok(Some((want, BOB.len() + taken))), "{}", tail.escape_ascii());
        }
    }

    #[test]
    fn a_field_of_256_bytes_is_taken_and_one_of_257_refused_at_its_length() {
        let longest = [b'x'; MAX_FIELD];
        let request = Request { login: &longest, password: &longest, service: &longest, realm: &longest, client: None };
        let bytes = encoded(&request);
        assert_eq!(decode(&bytes), Ok(Some((request, bytes.len()))));
        let full = Request { client: Some(&longest), ..request };
        assert_eq!(encoded(&full).len(), MAX_REQUEST);

        let short: &[u8] = b"\0\x01x";
        for (place, field) in [Field::Login, Field::Password, Field::Service, Field::Realm].into_iter().enumerate() {
            let bytes = [short.repeat(place), b"\x01\x01".to_vec()].concat();
            assert_eq!(decode(&bytes), Err(Malformed::FieldTooLong { field, length: 257 }));
            assert_eq!(decode(&bytes[..bytes.len() - 1]), Ok(None));
        }
        let mut reply = Vec::new();
        FIELD_TOO_LONG_REPLY.encode(&mut reply);
        assert_eq!(reply, b"\0\x03NO ");
    }

    #[test]
    fn a_field_beyond_16_bits_cannot_be_written() {
        let long = vec![b'x'; 65_536];
        let mut out = b"kept".to_vec();
        let request = Request { password: &long, ..bob() };
        assert_eq!(request.encode(&mut out), Err(Malformed::FieldTooLong { field: Field::Password, length: 65_536 }));
        assert_eq!(out, b"kept");
        assert_eq!(Request { password: &long[1..], ..bob() }.encode(&mut out), Ok(()));
    }

    #[test]
    fn a_nul_ends_a_field_as_it_ends_a_c_string() {
        let bytes = b"\0\x04b\0ob\0\x03a\0b\0\x01\0\0\x02\0x";
        let (request, used) = decode(bytes).unwrap().unwrap();
        assert_eq!(
            (request.login, request.password, request.service, request.realm),
            (&b"b"[..], &b"a"[..], &b""[..], &b""[..])
        );
        assert_eq!(used, bytes.len());
    }

    #[test]
    fn login_and_realm_are_joined_once() {
        let table: &[(&[u8], &[u8], bool, &[u8])] = &[
            (b"bob", b"example.org", true, b"bob@example.org"),
            (b"bob", b"example.org", false, b"bob"),
            (b"bob", b"", true, b"bob"),
            (b"bob@example.org", b"", true, b"bob@example.org"),
            (b"bob@example.org", b"example.org", true, b"bob@example.org"),
            (b"bob@Example.ORG", b"example.org", true, b"bob@Example.ORG"),
            (b"bob@example.org", b"example.com", true, b"bob@example.org@example.com"),
            (b"\"a@b\"", b"example.org", true, b"\"a@b\"@example.org"),
            (b"example.org", b"example.org", true, b"example.org@example.org"),
            (b"", b"example.org", true, b"@example.org"),
        ];
        for (login, realm, combine, want) in table {
            let request = Request { login, realm, ..bob() };
            assert_eq!(request.user(*combine).as_ref(), *want, "{}", want.escape_ascii());
        }
    }

    #[test]
    fn an_empty_login_or_password_gets_the_stock_answer() {
        assert_eq!(bob().refusal(), None);
        assert_eq!(Request { login: b"", ..bob() }.refusal(), Some(NULL_LOGIN_REPLY));
        assert_eq!(Request { password: b"", ..bob() }.refusal(), Some(NULL_PASSWORD_REPLY));
        assert_eq!(Request { login: b"", password: b"", ..bob() }.refusal(), Some(NULL_LOGIN_REPLY));
    }

    #[test]
    fn a_printed_request_does_not_show_its_password() {
        let shown = format!("{:?} {:#?}", bob(), bob());
        assert!(!shown.contains("s3cret"), "{shown}");
        assert!(shown.contains("example.org"), "{shown}");
    }

    #[test]
    fn replies_are_written_as_the_stock_daemon_writes_them() {
        let table: &[(Reply<'_>, &[u8])] = &[
            (Reply::Ok(None), b"\0\x02OK"),
            (Reply::No(None), b"\0\x02NO"),
            (Reply::No(Some(b"PAM auth error")), b"\0\x11NO PAM auth error"),
            (NULL_LOGIN_REPLY, b"\0\x16NO NULL login received"),
            (NULL_PASSWORD_REPLY, b"\0\x19NO NULL password received"),
        ];
        for (reply, want) in table {
            let mut out = Vec::new();
            reply.encode(&mut out);
            assert_eq!(out, *want);
            assert_eq!(decode_reply(&out), Ok(Some((*reply, out.len()))));
        }
    }

    #[test]
    fn the_client_looks_at_the_first_two_bytes_only() {
        let table: &[(&[u8], Reply<'_>)] = &[
            (b"\0\x04OKAY", Reply::Ok(Some(b"OKAY"))),
            (b"\0\x03OK ", Reply::Ok(Some(b""))),
            (b"\0\x02ok", Reply::No(Some(b"ok"))),
            (b"\0\x05MAYBE", Reply::No(Some(b"MAYBE"))),
            (b"\0\x05NOPE!", Reply::No(Some(b"NOPE!"))),
            (b"\0\x02NOtail", Reply::No(None)),
        ];
        for (bytes, want) in table {
            let (reply, _) = decode_reply(bytes).unwrap().unwrap();
            assert_eq!(reply, *want, "{}", bytes.escape_ascii());
        }
        assert_eq!(decode_reply(b"\0\0"), Err(Malformed::ReplyTooShort { length: 0 }));
        assert_eq!(decode_reply(b"\0\x01O"), Err(Malformed::ReplyTooShort { length: 1 }));
        for piece in [&b""[..], b"\0", b"\0\x02", b"\0\x02O"] {
            assert_eq!(decode_reply(piece), Ok(None));
        }
    }

    #[test]
    fn reply_text_is_cut_at_1023_bytes_on_both_sides() {
        let long = [b'x'; 2000];
        let mut out = Vec::new();
        Reply::No(Some(&long)).encode(&mut out);
        assert_eq!(out.len(), LENGTH + MAX_REPLY_TEXT);
        assert_eq!(decode_reply(&out), Ok(Some((Reply::No(Some(&long[..MAX_REPLY_TEXT - 3])), out.len()))));
        let sent = [&2000u16.to_be_bytes()[..], b"OK ", &long].concat();
        assert_eq!(
            decode_reply(&sent),
            Ok(Some((Reply::Ok(Some(&long[..MAX_REPLY_TEXT - 3])), LENGTH + MAX_REPLY_TEXT)))
        );
    }

    proptest! {
        #[test]
        fn any_bytes_decode_without_panic_and_encode_back(input in proptest::collection::vec(any::<u8>(), 0..600)) {
            if let Ok(Some((request, used))) = decode(&input) {
                prop_assert!(used <= input.len());
                let again = encoded(&request);
                prop_assert_eq!(decode(&again), Ok(Some((request, again.len()))));
            }
            if let Ok(Some((reply, used))) = decode_reply(&input) {
                prop_assert!(used <= input.len());
                let mut again = Vec::new();
                reply.encode(&mut again);
                prop_assert_eq!(decode_reply(&again), Ok(Some((reply, again.len()))));
            }
        }

        #[test]
        fn what_is_encoded_decodes_from_any_pieces(
            fields in proptest::array::uniform4(proptest::collection::vec(1u8.., 0..=MAX_FIELD)),
        ) {
            let [login, password, service, realm] = &fields;
            let request = Request { login, password, service, realm, client: None };
            let bytes = encoded(&request);
            for end in 0..bytes.len() {
                prop_assert_eq!(decode(&bytes[..end]), Ok(None));
            }
            prop_assert_eq!(decode(&bytes), Ok(Some((request, bytes.len()))));
        }
    }
}
