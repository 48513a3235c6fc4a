//! The master socket: user lookups.
//!
//! ```text
//! server: VERSION 1 1, SPID pid                                       at connect; no MECH, no DONE
//! client: VERSION 1 minor
//! client: USER id name [param…]     server: USER id name [field…] | NOTFOUND id | FAIL id [reason=TEXT] [field…]
//! client: PASS id name [param…]     server: PASS id user=NAME [field…] | NOTFOUND id | FAIL id [field…]
//! client: LIST id [param…]          server: LIST id name…, then DONE id "" | DONE id fail
//! client: CACHE-FLUSH id [name…]    server: OK id count
//! ```
//!
//! (TABs are shown as spaces.) NOTFOUND makes dovecot-lmtp say 550, FAIL 451, and doveadm exit with 67 or 75: trouble is never NOTFOUND.
//!
//! Fields that Dovecot's programs read: `uid`, `gid`, `home`, `mail`, `chroot`, `quota_rule` and others named in its settings.
//!
//! Oddities: the client may send its first command together with VERSION. REQUEST, which belongs to Dovecot's own login processes, is
//! an unknown command here and ends the connection, as every unknown command does.

use std::borrow::Cow;
use std::fmt;

use super::client::{Code, put_failure, take_failure};
use super::{Fields, MAX_LINE, Malformed, Words, end_reply, escape, put_field, put_number, take_line, unescape};
use crate::number;

/// The minor version we speak.
pub const MINOR: u32 = 1;

/// A line from the client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request<'a> {
    /// The client's minor version; another major one is [`Malformed::Version`].
    Version(u32),
    /// Where does this user's mail live?
    User(Lookup<'a>),
    /// What does the password database say of this user, without a login?
    Pass(Lookup<'a>),
    /// Name all users.
    List {
        /// The request.
        id: u32,
        /// `user=` a mask with `*` and `?`; `service=`.
        params: Fields<'a>,
    },
    /// Forget what is cached.
    CacheFlush {
        /// The request.
        id: u32,
        /// Of these users; of all when there are none.
        users: Vec<Cow<'a, [u8]>>,
    },
}

/// USER and PASS.
#[derive(Clone, PartialEq, Eq)]
pub struct Lookup<'a> {
    /// The request: not 0.
    pub id: u32,
    /// The name as the client has it.
    pub user: Cow<'a, [u8]>,
    /// As with AUTH: `service`, `lip`, `rip`.
    pub params: Fields<'a>,
}

impl fmt::Debug for Lookup<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lookup")
            .field("id", &self.id)
            .field("user", &self.user.escape_ascii().to_string())
            .field("params", &self.params)
            .finish()
    }
}

impl Request<'_> {
    /// Appends the line as a client sends it.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Request::Version(minor) => out.extend_from_slice(format!("VERSION\t1\t{minor}").as_bytes()),
            Request::User(lookup) => lookup.encode("USER", out),
            Request::Pass(lookup) => lookup.encode("PASS", out),
            Request::List { id, params } => {
                put_number("LIST", *id, out);
                params.encode(out);
            }
            Request::CacheFlush { id, users } => {
                put_number("CACHE-FLUSH", *id, out);
                for user in users {
                    out.push(b'\t');
                    escape(user, out);
                }
            }
        }
        out.push(b'\n');
    }
}

impl Lookup<'_> {
    fn encode(&self, command: &str, out: &mut Vec<u8>) {
        put_number(command, self.id, out);
        out.push(b'\t');
        escape(&self.user, out);
        self.params.encode(out);
    }
}

/// Appends what a server says at connect.
pub fn encode_hello(spid: u32, out: &mut Vec<u8>) {
    Reply::Version(MINOR).encode(out);
    Reply::Spid(spid).encode(out);
}

/// A line from the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply<'a> {
    /// The server's minor version.
    Version(u32),
    /// A number of this server.
    Spid(u32),
    /// Answer to USER: name in canonical spelling and fields.
    User(Found<'a>),
    /// Answer to PASS: the same.
    Pass(Found<'a>),
    /// There is no such user, for certain.
    NotFound(u32),
    /// Could not find out, or may not say.
    Fail {
        /// The request.
        id: u32,
        /// Why, for programs.
        code: Option<Code>,
        /// Why, for people.
        reason: Option<Cow<'a, [u8]>>,
        /// More.
        fields: Fields<'a>,
    },
    /// One user of a LIST.
    List {
        /// The request.
        id: u32,
        /// The name.
        user: Cow<'a, [u8]>,
    },
    /// The end of a LIST.
    Done {
        /// The request.
        id: u32,
        /// Whether these are all users there are.
        complete: bool,
    },
    /// Answer to CACHE-FLUSH.
    Ok {
        /// The request.
        id: u32,
        /// Entries forgotten.
        count: u64,
    },
    /// A line that clients skip.
    Other,
}

/// A user that was found.
#[derive(Clone, PartialEq, Eq)]
pub struct Found<'a> {
    /// The request.
    pub id: u32,
    /// The name in canonical spelling.
    pub user: Cow<'a, [u8]>,
    /// What is known of the user.
    pub fields: Fields<'a>,
}

impl fmt::Debug for Found<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Found")
            .field("id", &self.id)
            .field("user", &self.user.escape_ascii().to_string())
            .field("fields", &self.fields)
            .finish()
    }
}

impl Reply<'_> {
    /// Appends the line. One above [`MAX_REPLY`](super::MAX_REPLY) becomes a FAIL with `code=temp_fail`, but for a name of a LIST that long,
    /// which is left out; [`Reply::Other`] is nothing.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let start = out.len();
        match self {
            Reply::Version(minor) => out.extend_from_slice(format!("VERSION\t1\t{minor}\n").as_bytes()),
            Reply::Spid(pid) => {
                put_number("SPID", *pid, out);
                out.push(b'\n');
            }
            Reply::User(found) => {
                put_number("USER", found.id, out);
                out.push(b'\t');
                escape(&found.user, out);
                found.fields.encode(out);
                end_reply(start, found.id, out);
            }
            Reply::Pass(found) => {
                put_number("PASS", found.id, out);
                put_field("user", &found.user, out);
                found.fields.encode(out);
                end_reply(start, found.id, out);
            }
            Reply::NotFound(id) => {
                put_number("NOTFOUND", *id, out);
                out.push(b'\n');
            }
            Reply::Fail { id, code, reason, fields } => {
                put_number("FAIL", *id, out);
                put_failure(*code, reason.as_deref(), fields, out);
                end_reply(start, *id, out);
            }
            Reply::List { id, user } => {
                put_number("LIST", *id, out);
                out.push(b'\t');
                escape(user, out);
                out.push(b'\n');
                if out.len() - start > super::MAX_REPLY {
                    out.truncate(start);
                }
            }
            Reply::Done { id, complete } => {
                put_number("DONE", *id, out);
                out.extend_from_slice(if *complete { b"\t\n" } else { b"\tfail\n" });
            }
            Reply::Ok { id, count } => {
                put_number("OK", *id, out);
                out.push(b'\t');
                number::encode(*count, out);
                out.push(b'\n');
            }
            Reply::Other => {}
        }
    }
}

/// Reads a line of the client from the bytes received so far.
///
/// # Errors
/// [`Malformed`]: close, as Dovecot does.
pub fn decode(input: &[u8]) -> Result<Option<(Request<'_>, usize)>, Malformed> {
    let Some((mut words, used)) = take_line(input, MAX_LINE)? else {
        return Ok(None);
    };
    let request = match words.next() {
        Some(b"VERSION") => Request::Version(words.version()?),
        Some(b"USER") => Request::User(decode_lookup(words)?),
        Some(b"PASS") => Request::Pass(decode_lookup(words)?),
        Some(b"LIST") => Request::List { id: words.id()?, params: Fields::take(&mut words) },
        Some(b"CACHE-FLUSH") => Request::CacheFlush {
            id: words.id()?,
            users: words.map(unescape).filter(|user| !user.is_empty()).collect(),
        },
        _ => return Err(Malformed::Command),
    };
    Ok(Some((request, used)))
}

/// Reads a line of the server from the bytes received so far.
///
/// # Errors
/// [`Malformed`].
pub fn decode_reply(input: &[u8]) -> Result<Option<(Reply<'_>, usize)>, Malformed> {
    let Some((mut words, used)) = take_line(input, MAX_LINE)? else {
        return Ok(None);
    };
    let reply = match words.next() {
        Some(b"VERSION") => Reply::Version(words.version()?),
        Some(b"SPID") => Reply::Spid(words.number()?),
        Some(b"USER") => {
            Reply::User(Found { id: words.id()?, user: words.value("user")?, fields: Fields::take(&mut words) })
        }
        Some(b"PASS") => {
            let id = words.id()?;
            let user = words.next().and_then(|field| field.strip_prefix(b"user=")).ok_or(Malformed::Missing("user"))?;
            Reply::Pass(Found { id, user: unescape(user), fields: Fields::take(&mut words) })
        }
        Some(b"NOTFOUND") => Reply::NotFound(words.id()?),
        Some(b"FAIL") => {
            let id = words.id()?;
            let (code, reason, fields) = take_failure(Fields::take(&mut words));
            Reply::Fail { id, code, reason, fields }
        }
        Some(b"LIST") => Reply::List { id: words.id()?, user: words.value("user")? },
        Some(b"DONE") => Reply::Done { id: words.id()?, complete: words.next().is_none_or(<[u8]>::is_empty) },
        Some(b"OK") => {
            let id = words.id()?;
            Reply::Ok { id, count: words.next().and_then(number::decode).ok_or(Malformed::Number)? }
        }
        _ => Reply::Other,
    };
    Ok(Some((reply, used)))
}

fn decode_lookup(mut words: Words<'_>) -> Result<Lookup<'_>, Malformed> {
    Ok(Lookup { id: words.id()?, user: words.value("user")?, params: Fields::take(&mut words) })
}

#[cfg(test)]
#[allow(clippy::type_complexity, reason = "tables of bytes and the values expected of them")]
mod tests {
    use super::super::MAX_REPLY;
    use super::*;
    use proptest::prelude::*;

    fn encoded(reply: &Reply<'_>) -> Vec<u8> {
        let mut out = Vec::new();
        reply.encode(&mut out);
        out
    }

    fn bob() -> Cow<'static, [u8]> {
        Cow::Borrowed(b"bob@example.org")
    }

    #[test]
    fn what_dovecot_s_programs_send_is_understood() {
        let lmtp = || Fields::new().with("service", &b"lmtp"[..]);
        let table: &[(&[u8], Request<'_>)] = &[
            (b"VERSION\t1\t1\n", Request::Version(1)),
            (b"USER\t1\tbob@example.org\tservice=lmtp\n", Request::User(Lookup { id: 1, user: bob(), params: lmtp() })),
            (b"PASS\t2\tbob@example.org\tservice=lmtp\n", Request::Pass(Lookup { id: 2, user: bob(), params: lmtp() })),
            (b"USER\t3\ta\x01tb\n", Request::User(Lookup { id: 3, user: b"a\tb"[..].into(), params: Fields::new() })),
            (b"LIST\t4\tuser=*@x\n", Request::List { id: 4, params: Fields::new().with("user", &b"*@x"[..]) }),
            (b"CACHE-FLUSH\t5\n", Request::CacheFlush { id: 5, users: vec![] }),
            (b"CACHE-FLUSH\t5\ta\tb\n", Request::CacheFlush { id: 5, users: vec![b"a"[..].into(), b"b"[..].into()] }),
        ];
        for (wire, want) in table {
            assert_eq!(decode(wire), Ok(Some((want.clone(), wire.len()))), "{}", wire.escape_ascii());
            for end in 0..wire.len() {
                assert_eq!(decode(&wire[..end]), Ok(None));
            }
            let mut out = Vec::new();
            want.encode(&mut out);
            assert_eq!(out, *wire);
        }
    }

    #[test]
    fn what_dovecot_closes_over_is_malformed() {
        let table: &[(&[u8], Malformed)] = &[
            (b"\n", Malformed::Command),
            (b"REQUEST\t1\t2\t3\tcookie\n", Malformed::Command),
            (b"AUTH\t1\tPLAIN\tservice=smtp\n", Malformed::Command),
            (b"VERSION\t0\t1\n", Malformed::Version),
            (b"USER\t0\tbob\n", Malformed::Id),
            (b"USER\t1\n", Malformed::Missing("user")),
            (b"USER\t1\t\tservice=lmtp\n", Malformed::Missing("user")),
            (b"PASS\t1\n", Malformed::Missing("user")),
            (b"LIST\n", Malformed::Id),
        ];
        for (wire, want) in table {
            assert_eq!(decode(wire), Err(*want), "{}", wire.escape_ascii());
        }
    }

    #[test]
    fn replies_read_as_they_are_written() {
        let fields = || Fields::new().with("uid", &b"5000"[..]).with("home", &b"/var/spool/vmail/a b"[..]);
        let fail = Reply::Fail {
            id: 1,
            code: Some(Code::TempFail),
            reason: Some(b"no database"[..].into()),
            fields: Fields::new(),
        };
        let table: &[(&[u8], Reply<'_>)] = &[
            (b"VERSION\t1\t1\n", Reply::Version(1)),
            (b"SPID\t9\n", Reply::Spid(9)),
            (
                b"USER\t1\tbob@example.org\tuid=5000\thome=/var/spool/vmail/a b\n",
                Reply::User(Found { id: 1, user: bob(), fields: fields() }),
            ),
            (b"PASS\t1\tuser=bob@example.org\n", Reply::Pass(Found { id: 1, user: bob(), fields: Fields::new() })),
            (b"NOTFOUND\t1\n", Reply::NotFound(1)),
            (b"FAIL\t1\tcode=temp_fail\treason=no database\n", fail),
            (b"LIST\t1\tbob@example.org\n", Reply::List { id: 1, user: bob() }),
            (b"DONE\t1\t\n", Reply::Done { id: 1, complete: true }),
            (b"DONE\t1\tfail\n", Reply::Done { id: 1, complete: false }),
            (b"OK\t1\t12\n", Reply::Ok { id: 1, count: 12 }),
        ];
        for (wire, want) in table {
            assert_eq!(encoded(want), *wire, "{want:?}");
            assert_eq!(decode_reply(wire), Ok(Some((want.clone(), wire.len()))));
        }
        let mut out = Vec::new();
        encode_hello(9, &mut out);
        assert_eq!(out, b"VERSION\t1\t1\nSPID\t9\n");
        assert_eq!(decode_reply(b"NEWS\n"), Ok(Some((Reply::Other, 5))));
        assert_eq!(decode_reply(b"PASS\t1\tbob\n"), Err(Malformed::Missing("user")));
    }

    #[test]
    fn a_reply_that_dovecot_cannot_read_becomes_a_temporary_failure() {
        let found = |length: usize| Found { id: 1, user: vec![b'u'; length].into(), fields: Fields::new() };
        let fits = MAX_REPLY - "USER\t1\t\n".len();
        assert_eq!(encoded(&Reply::User(found(fits))).len(), MAX_REPLY);
        assert_eq!(encoded(&Reply::User(found(fits + 1))), b"FAIL\t1\tcode=temp_fail\n");
        assert_eq!(encoded(&Reply::List { id: 1, user: vec![b'u'; fits].into() }).len(), MAX_REPLY);
        assert_eq!(encoded(&Reply::List { id: 1, user: vec![b'u'; fits + 1].into() }), b"");
    }

    proptest! {
        #[test]
        fn lines_survive_the_wire(
            command in "(VERSION\t1\t1|USER\t1\ta|PASS\t1\tuser=a|LIST\t1|CACHE-FLUSH\t1|FAIL\t1|DONE\t1|NOTFOUND\t1)",
            rest in "(\t[a-z=0-9\u{1}\r]{0,6}){0,4}",
        ) {
            let wire = format!("{command}{rest}\n");
            if let Ok(Some((request, used))) = decode(wire.as_bytes()) {
                prop_assert_eq!(used, wire.len());
                let mut out = Vec::new();
                request.encode(&mut out);
                prop_assert_eq!(decode(&out), Ok(Some((request, out.len()))));
            }
            if let Ok(Some((reply, _))) = decode_reply(wire.as_bytes())
                && reply != Reply::Other
            {
                let out = encoded(&reply);
                let (again, _) = decode_reply(&out).unwrap().unwrap();
                prop_assert_eq!(again, reply);
            }
        }

        #[test]
        fn any_bytes_decode_without_panic(input in proptest::collection::vec(any::<u8>(), 0..100)) {
            let _ = decode(&input);
            let _ = decode_reply(&input);
        }
    }
}
