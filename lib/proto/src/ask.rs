//! ask: the private line between our own parts (PAM, NSS, checkpassword, the command) and a mailsql daemon.
//!
//! # Grammar
//! One request, one reply; a server may be asked again on the same connection.
//! ```text
//! request = "mailsql" TAB "1" TAB verb  *(TAB key "=" value) LF
//! reply   = "mailsql" TAB "1" TAB word  *(TAB key "=" value) LF
//! verb    = login | account | passwd | user | uid | group | gid | groups | list      (ask; NSS: user to groups only)
//!         | flush | limits | explain | stats                                         (control sockets only)
//! word    = ok | unknown | wrong | disabled | expired | password_expired | throttled
//!         | unavailable | refused | readonly
//! key     = 1*(a-z / 0-9 / "_")
//! value   = any bytes, these five escaped:  \\  \t  \n  \r  \0   for backslash, TAB, LF, CR, NUL
//! ```
//! | verb | fields (`?` may be absent) |
//! | --- | --- |
//! | login | user password service? rip? lip? |
//! | account | user service? rip? |
//! | passwd | user old? new |
//! | user, group, groups | name |
//! | uid, gid | id |
//! | list | after? |
//! | flush | address? |
//! | limits | action? (list, explain, reset; list when absent) address? |
//! | explain | address |
//! | stats | – |
//!
//! The first key after `ok` tells what is answered: `user` an account (user home uid gid maildir quota?), `name` a group
//! (name gid member*), `groups` a count and that many `gid`, `entries` a count, `more` and that many accounts each begun
//! by its `user`, `text` words for a person; no key: done. `unavailable` and `refused` carry `reason?`.
//!
//! # Limits
//! A line is at most [`LINE_MAX`] bytes with its LF; the replies to `list` and to the control verbs at most
//! [`BULK_LINE_MAX`], their line breaks escaped like any other. A request has at most [`FIELDS_MAX`] fields. Unknown keys
//! are skipped, so that either side may be the newer one; a key given twice is malformed.
//!
//! # Security
//! Passwords cross this line in clear: it is for Unix sockets alone. Decoding works inside the caller's buffer and copies
//! no secret, so the caller has one buffer to wipe. [`Secret`] prints nothing. No error repeats what was received.
//!
//! # Source
//! Our own; design "how our own parts talk". The escapes are those of C, so that a line can be typed into socat.

use std::fmt;

/// Longest line in bytes, LF included: every request, and every reply not named at [`BULK_LINE_MAX`].
pub const LINE_MAX: usize = 16 * 1024;
/// Longest reply in bytes, LF included, to `list`, `flush`, `limits`, `explain` and `stats`.
pub const BULK_LINE_MAX: usize = 1024 * 1024;
/// Most fields of a request.
pub const FIELDS_MAX: usize = 16;
/// Most accounts in one reply to `list`; ask again with `after` for the next page.
pub const LIST_PAGE_MAX: usize = 500;

const MAGIC: &[u8] = b"mailsql";
const VERSION: &[u8] = b"1";

/// A password on its way; shows nothing of itself. The bytes belong to the caller, who wipes them.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Secret<'a>(
    /// The password, any bytes.
    pub &'a [u8],
);

impl fmt::Debug for Secret<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

/// What is asked. Text that may be absent on the wire is empty here, unless absence means something of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request<'a> {
    /// Verify a password: the account, or why not.
    Login {
        /// Login name as the client gave it.
        user: &'a [u8],
        /// The password to verify.
        password: Secret<'a>,
        /// Service asking ("smtp", "imap"); empty when unknown.
        service: &'a [u8],
        /// Address of the client; empty when unknown.
        rip: &'a [u8],
        /// Address the client reached; empty when unknown.
        lip: &'a [u8],
    },
    /// May this account be used now? As `Login`, without a password and without the answer `wrong`.
    Account {
        /// Login name.
        user: &'a [u8],
        /// Service asking; empty when unknown.
        service: &'a [u8],
        /// Address of the client; empty when unknown.
        rip: &'a [u8],
    },
    /// Change a password.
    Passwd {
        /// Login name.
        user: &'a [u8],
        /// The present password; the server lets only uid 0 leave it out.
        old: Option<Secret<'a>>,
        /// The password to store, hashed by the server.
        new: Secret<'a>,
    },
    /// Find an account by name.
    User {
        /// Account name.
        name: &'a [u8],
    },
    /// Find an account by number.
    Uid {
        /// User id.
        id: u32,
    },
    /// Find a group by name.
    Group {
        /// Group name.
        name: &'a [u8],
    },
    /// Find a group by number.
    Gid {
        /// Group id.
        id: u32,
    },
    /// The groups an account belongs to.
    Groups {
        /// Account name.
        name: &'a [u8],
    },
    /// A page of accounts in the order of their names.
    List {
        /// The last name of the page before; `None` begins.
        after: Option<&'a [u8]>,
    },
    /// Forget what is cached of an address, or everything.
    Flush {
        /// The address; `None` is all of them.
        address: Option<&'a [u8]>,
    },
    /// Look at, or lift, throttling.
    Limits {
        /// What to do.
        action: LimitsAction,
        /// The login or client; `None` is all of them.
        address: Option<&'a [u8]>,
    },
    /// How the daemon sees an address.
    Explain {
        /// The address.
        address: &'a [u8],
    },
    /// Counters of the daemon.
    Stats,
}

/// What `limits` is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LimitsAction {
    /// Show what is throttled.
    List,
    /// Say why one login or client is.
    Explain,
    /// Lift it.
    Reset,
}

/// An account as programs outside the database need it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// The stored spelling of the address.
    pub user: Vec<u8>,
    /// Home directory, an absolute path.
    pub home: Vec<u8>,
    /// User id that owns the mail.
    pub uid: u32,
    /// Group id that owns the mail.
    pub gid: u32,
    /// Maildir, an absolute path.
    pub maildir: Vec<u8>,
    /// Quota in bytes; `None` is unlimited.
    pub quota: Option<u64>,
}

/// A group of the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// Group name.
    pub name: Vec<u8>,
    /// Group id.
    pub gid: u32,
    /// Names of its members.
    pub members: Vec<Vec<u8>>,
}

/// What is answered. Holds no secrets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// `login`, `account`: yes; `user`, `uid`: found.
    Account(Account),
    /// `group`, `gid`: found.
    Group(Group),
    /// `groups`: the group ids of an account that exists, in no order; may be empty.
    Groups(Vec<u32>),
    /// `list`: a page, and whether another follows.
    List {
        /// Accounts in the order of their names, at most [`LIST_PAGE_MAX`].
        accounts: Vec<Account>,
        /// Ask again with the last name.
        more: bool,
    },
    /// Control verbs: lines for a person.
    Text(Vec<u8>),
    /// `passwd`, `flush`: done.
    Done,
    /// No such account or group.
    Unknown,
    /// The password is not the account's.
    Wrong,
    /// The account is switched off.
    Disabled,
    /// The account has ended.
    Expired,
    /// The password was right and must be changed first.
    PasswordExpired,
    /// Too many failures: come back later.
    Throttled,
    /// Could not find out; never the same as `Unknown`.
    Unavailable {
        /// Why, for a log; may be empty.
        reason: Vec<u8>,
    },
    /// Not allowed (peer, socket or rules of the new password).
    Refused {
        /// Why, fit to be shown; may be empty.
        reason: Vec<u8>,
    },
    /// `passwd`: this daemon may not write to the database.
    ReadOnly,
}

/// Why a line cannot be understood. Never repeats the line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Malformed {
    /// Longer than the limit.
    TooLong,
    /// Does not begin with `mailsql`.
    Magic,
    /// Another version of the protocol.
    Version,
    /// No such verb, word or action.
    Word,
    /// A field without `=`.
    Field,
    /// More than [`FIELDS_MAX`] fields.
    TooManyFields,
    /// A backslash followed by none of `\ t n r 0`, or a bare CR or NUL.
    Escape,
    /// This field is needed.
    Missing(&'static str),
    /// This field came twice, or not as often as announced.
    Count(&'static str),
    /// This field is no number, or one out of range.
    Number(&'static str),
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLong => f.write_str("line too long"),
            Self::Magic => f.write_str("not the ask protocol"),
            Self::Version => f.write_str("another version of the ask protocol"),
            Self::Word => f.write_str("unknown word"),
            Self::Field => f.write_str("field without a value"),
            Self::TooManyFields => f.write_str("too many fields"),
            Self::Escape => f.write_str("bad escape"),
            Self::Missing(key) => write!(f, "field {key} is missing"),
            Self::Count(key) => write!(f, "field {key} comes the wrong number of times"),
            Self::Number(key) => write!(f, "field {key} is not a number in range"),
        }
    }
}

impl std::error::Error for Malformed {}

/// Length of the first line of `buffer` with its LF, `None` when more bytes are needed.
///
/// # Errors
/// [`Malformed::TooLong`] as soon as the line cannot end within `limit` bytes.
pub fn line(buffer: &[u8], limit: usize) -> Result<Option<usize>, Malformed> {
    match buffer.iter().take(limit).position(|&b| b == b'\n') {
        Some(at) => Ok(Some(at + 1)),
        None if buffer.len() >= limit => Err(Malformed::TooLong),
        None => Ok(None),
    }
}

impl<'a> Request<'a> {
    /// Decode one line, with or without its LF. Values are unescaped inside `line` and borrowed from it.
    ///
    /// # Errors
    /// [`Malformed`]; the line is then of no further use.
    pub fn decode(line: &'a mut [u8]) -> Result<Self, Malformed> {
        let (verb, mut f) = open(line, LINE_MAX, FIELDS_MAX)?;
        Ok(match verb {
            b"login" => Self::Login {
                user: f.need("user")?,
                password: Secret(f.need("password")?),
                service: f.text("service")?,
                rip: f.text("rip")?,
                lip: f.text("lip")?,
            },
            b"account" => Self::Account { user: f.need("user")?, service: f.text("service")?, rip: f.text("rip")? },
            b"passwd" => {
                Self::Passwd { user: f.need("user")?, old: f.find("old")?.map(Secret), new: Secret(f.need("new")?) }
            }
            b"user" => Self::User { name: f.need("name")? },
            b"uid" => Self::Uid { id: number(f.need("id")?, "id")? },
            b"group" => Self::Group { name: f.need("name")? },
            b"gid" => Self::Gid { id: number(f.need("id")?, "id")? },
            b"groups" => Self::Groups { name: f.need("name")? },
            b"list" => Self::List { after: f.find("after")? },
            b"flush" => Self::Flush { address: f.find("address")? },
            b"limits" => Self::Limits {
                action: match f.text("action")? {
                    b"" | b"list" => LimitsAction::List,
                    b"explain" => LimitsAction::Explain,
                    b"reset" => LimitsAction::Reset,
                    _ => return Err(Malformed::Word),
                },
                address: f.find("address")?,
            },
            b"explain" => Self::Explain { address: f.need("address")? },
            b"stats" => Self::Stats,
            _ => return Err(Malformed::Word),
        })
    }

    /// Append the request as one line with its LF. Reserves [`LINE_MAX`] first, so that a growing buffer leaves no
    /// copies of a password behind.
    ///
    /// # Errors
    /// [`Malformed::TooLong`] when it does not fit in [`LINE_MAX`]; nothing of it is left in `out` then.
    pub fn encode(&self, out: &mut Vec<u8>) -> Result<(), Malformed> {
        out.reserve(LINE_MAX + 1);
        let mut w = Writer::open(out, self.verb(), LINE_MAX);
        match *self {
            Self::Login { user, password, service, rip, lip } => {
                w.put("user", user).put("password", password.0);
                w.put_some("service", service).put_some("rip", rip).put_some("lip", lip);
            }
            Self::Account { user, service, rip } => {
                w.put("user", user).put_some("service", service).put_some("rip", rip);
            }
            Self::Passwd { user, old, new } => {
                w.put("user", user);
                if let Some(old) = old {
                    w.put("old", old.0);
                }
                w.put("new", new.0);
            }
            Self::User { name } | Self::Group { name } | Self::Groups { name } => {
                w.put("name", name);
            }
            Self::Uid { id } | Self::Gid { id } => {
                w.put_number("id", id.into());
            }
            Self::List { after } => {
                w.put_option("after", after);
            }
            Self::Flush { address } => {
                w.put_option("address", address);
            }
            Self::Limits { action, address } => {
                let action: &[u8] = match action {
                    LimitsAction::List => b"list",
                    LimitsAction::Explain => b"explain",
                    LimitsAction::Reset => b"reset",
                };
                w.put("action", action).put_option("address", address);
            }
            Self::Explain { address } => {
                w.put("address", address);
            }
            Self::Stats => {}
        }
        w.close()
    }

    /// The word of the request on the wire, also for logs.
    pub fn verb(&self) -> &'static str {
        match self {
            Self::Login { .. } => "login",
            Self::Account { .. } => "account",
            Self::Passwd { .. } => "passwd",
            Self::User { .. } => "user",
            Self::Uid { .. } => "uid",
            Self::Group { .. } => "group",
            Self::Gid { .. } => "gid",
            Self::Groups { .. } => "groups",
            Self::List { .. } => "list",
            Self::Flush { .. } => "flush",
            Self::Limits { .. } => "limits",
            Self::Explain { .. } => "explain",
            Self::Stats => "stats",
        }
    }

    /// Whether only a control socket answers this.
    pub fn is_control(&self) -> bool {
        matches!(self, Self::Flush { .. } | Self::Limits { .. } | Self::Explain { .. } | Self::Stats)
    }

    /// Whether the socket for everybody (NSS) answers this: finding accounts and groups, nothing secret.
    pub fn is_public(&self) -> bool {
        matches!(
            self,
            Self::User { .. } | Self::Uid { .. } | Self::Group { .. } | Self::Gid { .. } | Self::Groups { .. }
        )
    }

    /// Longest reply to this request in bytes, LF included.
    pub fn reply_max(&self) -> usize {
        if self.is_control() || matches!(self, Self::List { .. }) { BULK_LINE_MAX } else { LINE_MAX }
    }
}

impl Reply {
    /// Decode one line, with or without its LF, unescaping inside `line`.
    ///
    /// # Errors
    /// [`Malformed`]; to a client that means unavailable.
    pub fn decode(line: &mut [u8]) -> Result<Self, Malformed> {
        // Every field takes two bytes at least, so the line's length bounds their number.
        let (word, mut f) = open(line, BULK_LINE_MAX, usize::MAX)?;
        Ok(match word {
            b"ok" => return f.answer(),
            b"unknown" => Self::Unknown,
            b"wrong" => Self::Wrong,
            b"disabled" => Self::Disabled,
            b"expired" => Self::Expired,
            b"password_expired" => Self::PasswordExpired,
            b"throttled" => Self::Throttled,
            b"unavailable" => Self::Unavailable { reason: f.text("reason")?.to_vec() },
            b"refused" => Self::Refused { reason: f.text("reason")?.to_vec() },
            b"readonly" => Self::ReadOnly,
            _ => return Err(Malformed::Word),
        })
    }

    /// Append the reply as one line with its LF; `limit` is the request's [`Request::reply_max`].
    ///
    /// # Errors
    /// [`Malformed::TooLong`] when it does not fit; nothing is appended then.
    pub fn encode(&self, limit: usize, out: &mut Vec<u8>) -> Result<(), Malformed> {
        let mut w = Writer::open(out, self.word(), limit);
        match self {
            Self::Account(account) => w.put_account(account),
            Self::Group(group) => {
                w.put("name", &group.name).put_number("gid", group.gid.into());
                for member in &group.members {
                    w.put("member", member);
                }
            }
            Self::Groups(gids) => {
                w.put_number("groups", gids.len() as u64);
                for &gid in gids {
                    w.put_number("gid", gid.into());
                }
            }
            Self::List { accounts, more } => {
                w.put_number("entries", accounts.len() as u64).put_number("more", (*more).into());
                for account in accounts {
                    w.put_account(account);
                }
            }
            Self::Text(text) => {
                w.put("text", text);
            }
            Self::Unavailable { reason } | Self::Refused { reason } => {
                w.put_some("reason", reason);
            }
            _ => {}
        }
        w.close()
    }

    /// The word of the reply on the wire, also for logs.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Account(_) | Self::Group(_) | Self::Groups(_) | Self::List { .. } | Self::Text(_) | Self::Done => {
                "ok"
            }
            Self::Unknown => "unknown",
            Self::Wrong => "wrong",
            Self::Disabled => "disabled",
            Self::Expired => "expired",
            Self::PasswordExpired => "password_expired",
            Self::Throttled => "throttled",
            Self::Unavailable { .. } => "unavailable",
            Self::Refused { .. } => "refused",
            Self::ReadOnly => "readonly",
        }
    }
}

/// The fields of a line, unescaped, in their order.
struct Fields<'a>(Vec<(&'a [u8], &'a [u8])>);

fn open<'a>(line: &'a mut [u8], limit: usize, fields: usize) -> Result<(&'a [u8], Fields<'a>), Malformed> {
    if line.len() > limit {
        return Err(Malformed::TooLong);
    }
    let line = match line {
        [rest @ .., b'\n'] => rest,
        line => line,
    };
    let mut parts = line.split_mut(|&b| b == b'\t');
    if parts.next().is_none_or(|part| part != MAGIC) {
        return Err(Malformed::Magic);
    }
    if parts.next().is_none_or(|part| part != VERSION) {
        return Err(Malformed::Version);
    }
    let word: &'a [u8] = parts.next().ok_or(Malformed::Word)?;
    let mut found = Vec::new();
    for part in parts {
        if found.len() == fields {
            return Err(Malformed::TooManyFields);
        }
        let equals = part.iter().position(|&b| b == b'=').ok_or(Malformed::Field)?;
        let (key, value) = part.split_at_mut(equals);
        found.push((&*key, unescape(&mut value[1..])?));
    }
    Ok((word, Fields(found)))
}

impl<'a> Fields<'a> {
    fn find(&mut self, key: &'static str) -> Result<Option<&'a [u8]>, Malformed> {
        let mut of_key = self.0.iter().filter(|(k, _)| *k == key.as_bytes());
        let value = of_key.next().map(|(_, value)| *value);
        if of_key.next().is_some() { Err(Malformed::Count(key)) } else { Ok(value) }
    }

    fn need(&mut self, key: &'static str) -> Result<&'a [u8], Malformed> {
        self.find(key)?.ok_or(Malformed::Missing(key))
    }

    fn text(&mut self, key: &'static str) -> Result<&'a [u8], Malformed> {
        Ok(self.find(key)?.unwrap_or_default())
    }

    fn all(&self, key: &'static str) -> impl Iterator<Item = &'a [u8]> {
        self.0.iter().filter(move |(k, _)| *k == key.as_bytes()).map(|(_, value)| *value)
    }

    /// What stands behind `ok`: its first key tells.
    fn answer(mut self) -> Result<Reply, Malformed> {
        let Some(&(first, value)) = self.0.first() else { return Ok(Reply::Done) };
        Ok(match first {
            b"user" => Reply::Account(self.account()?),
            b"name" => Reply::Group(Group {
                name: self.need("name")?.to_vec(),
                gid: number(self.need("gid")?, "gid")?,
                members: self.all("member").map(<[u8]>::to_vec).collect(),
            }),
            b"groups" => {
                let gids = self.all("gid").map(|gid| number(gid, "gid")).collect::<Result<Vec<u32>, _>>()?;
                if gids.len() != number::<usize>(value, "groups")? {
                    return Err(Malformed::Count("gid"));
                }
                Reply::Groups(gids)
            }
            b"entries" => {
                let more = number::<u8>(self.need("more")?, "more")? != 0;
                let mut accounts = Vec::new();
                let begins = |field: &(&[u8], &[u8])| field.0 == b"user";
                let mut rest = self.0.iter().position(begins).map_or(&[][..], |at| &self.0[at..]);
                while let [_, tail @ ..] = rest {
                    let end = 1 + tail.iter().position(begins).unwrap_or(tail.len());
                    accounts.push(Fields(rest[..end].to_vec()).account()?);
                    rest = &rest[end..];
                }
                if accounts.len() != number::<usize>(value, "entries")? {
                    return Err(Malformed::Count("entries"));
                }
                Reply::List { accounts, more }
            }
            b"text" => Reply::Text(self.need("text")?.to_vec()),
            _ => Reply::Done,
        })
    }

    fn account(&mut self) -> Result<Account, Malformed> {
        Ok(Account {
            user: self.need("user")?.to_vec(),
            home: self.need("home")?.to_vec(),
            uid: number(self.need("uid")?, "uid")?,
            gid: number(self.need("gid")?, "gid")?,
            maildir: self.need("maildir")?.to_vec(),
            quota: self.find("quota")?.map(|quota| number(quota, "quota")).transpose()?,
        })
    }
}

/// Decimal digits only: no sign, no blanks.
fn number<T: std::str::FromStr>(digits: &[u8], key: &'static str) -> Result<T, Malformed> {
    let text = std::str::from_utf8(digits).ok().filter(|text| text.bytes().all(|b| b.is_ascii_digit()));
    text.and_then(|text| text.parse().ok()).ok_or(Malformed::Number(key))
}

/// Unescape in place; the result is the front of the same memory.
fn unescape(value: &mut [u8]) -> Result<&[u8], Malformed> {
    let (mut from, mut to) = (0, 0);
    while from < value.len() {
        value[to] = match value[from] {
            b'\\' => {
                from += 1;
                match value.get(from) {
                    Some(b'\\') => b'\\',
                    Some(b't') => b'\t',
                    Some(b'n') => b'\n',
                    Some(b'r') => b'\r',
                    Some(b'0') => 0,
                    _ => return Err(Malformed::Escape),
                }
            }
            b'\r' | b'\n' | 0 => return Err(Malformed::Escape),
            byte => byte,
        };
        from += 1;
        to += 1;
    }
    Ok(&value[..to])
}

/// Appends one line, never beyond its limit.
struct Writer<'o> {
    out: &'o mut Vec<u8>,
    start: usize,
    limit: usize,
    full: bool,
}

impl<'o> Writer<'o> {
    fn open(out: &'o mut Vec<u8>, word: &str, limit: usize) -> Self {
        let start = out.len();
        let mut writer = Self { out, start, limit, full: false };
        for part in [MAGIC, b"\t", VERSION, b"\t", word.as_bytes()] {
            writer.raw(part);
        }
        writer
    }

    fn raw(&mut self, bytes: &[u8]) {
        // One byte stays free for the LF.
        if self.full || self.out.len() - self.start + bytes.len() >= self.limit {
            self.full = true;
        } else {
            self.out.extend_from_slice(bytes);
        }
    }

    fn put(&mut self, key: &str, value: &[u8]) -> &mut Self {
        self.raw(b"\t");
        self.raw(key.as_bytes());
        self.raw(b"=");
        for plain in value.split_inclusive(|b| b"\\\t\n\r\0".contains(b)) {
            let (body, escape): (&[u8], &[u8]) = match plain {
                [body @ .., b'\\'] => (body, b"\\\\"),
                [body @ .., b'\t'] => (body, b"\\t"),
                [body @ .., b'\n'] => (body, b"\\n"),
                [body @ .., b'\r'] => (body, b"\\r"),
                [body @ .., 0] => (body, b"\\0"),
                body => (body, b""),
            };
            self.raw(body);
            self.raw(escape);
        }
        self
    }

    fn put_some(&mut self, key: &str, value: &[u8]) -> &mut Self {
        if value.is_empty() { self } else { self.put(key, value) }
    }

    fn put_option(&mut self, key: &str, value: Option<&[u8]>) -> &mut Self {
        match value {
            Some(value) => self.put(key, value),
            None => self,
        }
    }

    fn put_number(&mut self, key: &str, value: u64) -> &mut Self {
        self.put(key, value.to_string().as_bytes())
    }

    fn put_account(&mut self, account: &Account) {
        self.put("user", &account.user).put("home", &account.home);
        self.put_number("uid", account.uid.into()).put_number("gid", account.gid.into());
        self.put("maildir", &account.maildir);
        if let Some(quota) = account.quota {
            self.put_number("quota", quota);
        }
    }

    fn close(self) -> Result<(), Malformed> {
        if self.full {
            // Zeroes first: what did not fit may have been half a password.
            self.out[self.start..].fill(0);
            self.out.truncate(self.start);
            return Err(Malformed::TooLong);
        }
        self.out.push(b'\n');
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn decode(text: &[u8]) -> String {
        let mut line = text.to_vec();
        match Request::decode(&mut line) {
            Ok(request) => format!("{request:?}"),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn requests_read_and_write_as_the_table_says() {
        let login = Request::Login {
            user: b"info@example.jp",
            password: Secret(b"in\tfo\\pa\nss\r\0=\xff"),
            service: b"smtp",
            rip: b"2001:db8::1",
            lip: b"",
        };
        let account = Request::Account { user: b"a@b.c", service: b"", rip: b"" };
        let passwd = Request::Passwd { user: b"a@b.c", old: None, new: Secret(b"") };
        let reset = Request::Limits { action: LimitsAction::Reset, address: Some(b"a@b.c") };
        for (request, wire) in [
            (
                login,
                &b"mailsql\t1\tlogin\tuser=info@example.jp\tpassword=in\\tfo\\\\pa\\nss\\r\\0=\xff\tservice=smtp\trip=2001:db8::1\n"[..],
            ),
            (account, b"mailsql\t1\taccount\tuser=a@b.c\n"),
            (passwd, b"mailsql\t1\tpasswd\tuser=a@b.c\tnew=\n"),
            (Request::User { name: b"x" }, b"mailsql\t1\tuser\tname=x\n"),
            (Request::Uid { id: u32::MAX }, b"mailsql\t1\tuid\tid=4294967295\n"),
            (Request::Group { name: b"x" }, b"mailsql\t1\tgroup\tname=x\n"),
            (Request::Gid { id: 0 }, b"mailsql\t1\tgid\tid=0\n"),
            (Request::Groups { name: b"x" }, b"mailsql\t1\tgroups\tname=x\n"),
            (Request::List { after: None }, b"mailsql\t1\tlist\n"),
            (Request::Flush { address: None }, b"mailsql\t1\tflush\n"),
            (Request::Flush { address: Some(b"") }, b"mailsql\t1\tflush\taddress=\n"),
            (reset, b"mailsql\t1\tlimits\taction=reset\taddress=a@b.c\n"),
            (Request::Explain { address: b"x" }, b"mailsql\t1\texplain\taddress=x\n"),
            (Request::Stats, b"mailsql\t1\tstats\n"),
        ] {
            let mut out = b"before".to_vec();
            request.encode(&mut out).unwrap();
            assert_eq!(&out[6..], wire, "{request:?}");
            assert_eq!(Request::decode(&mut out[6..]).unwrap(), request);
        }
    }

    #[test]
    fn malformed_requests_are_told_apart() {
        for (line, error) in [
            (&b""[..], "not the ask protocol"),
            (b"mailsqlx\t1\tstats", "not the ask protocol"),
            (b"mailsql", "another version of the ask protocol"),
            (b"mailsql\t2\tstats", "another version of the ask protocol"),
            (b"mailsql\t1", "unknown word"),
            (b"mailsql\t1\tLOGIN", "unknown word"),
            (b"mailsql\t1\tlogin\tuser=a", "field password is missing"),
            (b"mailsql\t1\tlogin\tuser=a\tuser=b\tpassword=c", "field user comes the wrong number of times"),
            (b"mailsql\t1\tuser\tname", "field without a value"),
            (b"mailsql\t1\tuser\tname=a\\", "bad escape"),
            (b"mailsql\t1\tuser\tname=a\\x", "bad escape"),
            (b"mailsql\t1\tuser\tname=a\r\n", "bad escape"),
            (b"mailsql\t1\tuser\tname=a\0", "bad escape"),
            (b"mailsql\t1\tuid\tid=-1", "field id is not a number in range"),
            (b"mailsql\t1\tuid\tid=+1", "field id is not a number in range"),
            (b"mailsql\t1\tuid\tid=4294967296", "field id is not a number in range"),
            (b"mailsql\t1\tuid\tid=", "field id is not a number in range"),
            (b"mailsql\t1\tlimits\taction=forget", "unknown word"),
        ] {
            assert_eq!(decode(line), error, "{line:?}");
        }
        assert_eq!(decode(b"mailsql\t1\tstats\tnew_in_version=9\n"), "Stats");
        assert_eq!(decode(&[&b"mailsql\t1\tstats"[..], &b"\ta=".repeat(17)].concat()), "too many fields");
    }

    #[test]
    fn passwords_are_never_printed() {
        let secret = Secret(b"infopass");
        let login = Request::Login { user: b"u", password: secret, service: b"", rip: b"", lip: b"" };
        let passwd = Request::Passwd { user: b"u", old: Some(secret), new: secret };
        for request in [login, passwd] {
            let shown = format!("{request:?} {request:#?}");
            assert!(!shown.contains("infopass") && !shown.contains("105"), "{shown}");
        }
    }

    fn account(user: &str, quota: Option<u64>) -> Account {
        Account {
            user: user.into(),
            home: b"/v/x".to_vec(),
            uid: 5000,
            gid: 5001,
            maildir: b"/v/x/Maildir/".to_vec(),
            quota,
        }
    }

    #[test]
    fn replies_read_and_write_as_the_table_says() {
        let fields = "home=/v/x\tuid=5000\tgid=5001\tmaildir=/v/x/Maildir/";
        let list = Reply::List { accounts: vec![account("a", None), account("b", Some(9))], more: true };
        let group = Group { name: b"g".to_vec(), gid: 7, members: vec![b"a".to_vec(), b"b,c".to_vec()] };
        for (reply, wire) in [
            (Reply::Account(account("a", Some(1024))), format!("ok\tuser=a\t{fields}\tquota=1024")),
            (Reply::Account(account("a", None)), format!("ok\tuser=a\t{fields}")),
            (Reply::Group(group), "ok\tname=g\tgid=7\tmember=a\tmember=b,c".into()),
            (Reply::Groups(vec![]), "ok\tgroups=0".into()),
            (Reply::Groups(vec![5, 6]), "ok\tgroups=2\tgid=5\tgid=6".into()),
            (list, format!("ok\tentries=2\tmore=1\tuser=a\t{fields}\tuser=b\t{fields}\tquota=9")),
            (Reply::List { accounts: vec![], more: false }, "ok\tentries=0\tmore=0".into()),
            (Reply::Text(b"one\ntwo\t3\n".to_vec()), "ok\ttext=one\\ntwo\\t3\\n".into()),
            (Reply::Done, "ok".into()),
            (Reply::Unknown, "unknown".into()),
            (Reply::Wrong, "wrong".into()),
            (Reply::Disabled, "disabled".into()),
            (Reply::Expired, "expired".into()),
            (Reply::PasswordExpired, "password_expired".into()),
            (Reply::Throttled, "throttled".into()),
            (Reply::Unavailable { reason: vec![] }, "unavailable".into()),
            (Reply::Refused { reason: b"too short".to_vec() }, "refused\treason=too short".into()),
            (Reply::ReadOnly, "readonly".into()),
        ] {
            let mut out = Vec::new();
            reply.encode(LINE_MAX, &mut out).unwrap();
            assert_eq!(String::from_utf8_lossy(&out), format!("mailsql\t1\t{wire}\n"));
            assert_eq!(Reply::decode(&mut out).unwrap(), reply);
        }
    }

    #[test]
    fn replies_that_do_not_add_up_are_malformed() {
        for (line, error) in [
            ("ok\tgroups=2\tgid=5", Malformed::Count("gid")),
            ("ok\tgroups=x\tgid=5", Malformed::Number("groups")),
            ("ok\tentries=1\tmore=0", Malformed::Count("entries")),
            ("ok\tuser=a\tuser=b", Malformed::Count("user")),
            ("ok\tuser=a", Malformed::Missing("home")),
            ("ok\tname=g", Malformed::Missing("gid")),
            ("yes", Malformed::Word),
            ("", Malformed::Word),
        ] {
            let mut bytes = format!("mailsql\t1\t{line}\n").into_bytes();
            assert_eq!(Reply::decode(&mut bytes), Err(error), "{line}");
        }
    }

    #[test]
    fn lines_are_bounded_both_ways() {
        assert_eq!(line(b"abc", 8), Ok(None));
        assert_eq!(line(b"abc\ndef", 8), Ok(Some(4)));
        assert_eq!(line(b"abcdefg\n", 8), Ok(Some(8)));
        assert_eq!(line(b"abcdefgh", 8), Err(Malformed::TooLong));
        assert_eq!(line(b"abcdefgh\n", 8), Err(Malformed::TooLong));
        assert_eq!(line(b"", 8), Ok(None));

        let overhead = b"mailsql\t1\tuser\tname=\n".len();
        for (length, fits) in [(LINE_MAX - overhead, true), (LINE_MAX - overhead + 1, false)] {
            let mut out = Vec::new();
            let done = Request::User { name: &vec![b'x'; length] }.encode(&mut out);
            assert_eq!((done.is_ok(), out.len()), (fits, if fits { LINE_MAX } else { 0 }));
        }
        let mut out = Vec::new();
        let text = Reply::Text(vec![b'\n'; LINE_MAX]);
        assert_eq!(text.encode(LINE_MAX, &mut out), Err(Malformed::TooLong));
        assert!(out.is_empty());
        assert_eq!(text.encode(Request::Stats.reply_max(), &mut out), Ok(()));
        let full = Reply::List { accounts: vec![account(&"x".repeat(254), Some(1)); LIST_PAGE_MAX], more: true };
        assert_eq!(full.encode(BULK_LINE_MAX, &mut Vec::new()), Ok(()));
        assert_eq!(Request::decode(&mut vec![b'a'; LINE_MAX + 1]), Err(Malformed::TooLong));
    }

    fn bytes() -> impl Strategy<Value = Vec<u8>> {
        let byte = prop_oneof![any::<u8>(), Just(b'\\'), Just(b'\t'), Just(b'\n'), Just(b'\r'), Just(0), Just(b'=')];
        proptest::collection::vec(byte, 0..40)
    }

    fn accounts() -> impl Strategy<Value = Account> {
        (bytes(), bytes(), any::<u32>(), any::<u32>(), bytes(), any::<Option<u64>>())
            .prop_map(|(user, home, uid, gid, maildir, quota)| Account { user, home, uid, gid, maildir, quota })
    }

    proptest! {
        #[test]
        fn every_request_survives_the_wire(
            a in bytes(), b in bytes(), c in bytes(), d in bytes(), o in proptest::option::of(bytes()), id in any::<u32>(),
        ) {
            for request in [
                Request::Login { user: &a, password: Secret(&b), service: &c, rip: &d, lip: &a },
                Request::Account { user: &a, service: &b, rip: &c },
                Request::Passwd { user: &a, old: o.as_deref().map(Secret), new: Secret(&b) },
                Request::User { name: &a }, Request::Group { name: &b }, Request::Groups { name: &c },
                Request::Uid { id }, Request::Gid { id },
                Request::List { after: o.as_deref() }, Request::Flush { address: o.as_deref() },
                Request::Limits { action: LimitsAction::Explain, address: o.as_deref() },
                Request::Explain { address: &d }, Request::Stats,
            ] {
                let mut out = Vec::new();
                request.encode(&mut out).unwrap();
                prop_assert_eq!(line(&out, LINE_MAX), Ok(Some(out.len())));
                prop_assert_eq!(Request::decode(&mut out), Ok(request));
            }
        }

        #[test]
        fn every_reply_survives_the_wire(
            list in proptest::collection::vec(accounts(), 0..4), more in any::<bool>(), text in bytes(),
            gids in proptest::collection::vec(any::<u32>(), 0..5), members in proptest::collection::vec(bytes(), 0..4),
        ) {
            for reply in [
                Reply::List { accounts: list.clone(), more },
                list.first().cloned().map_or(Reply::Done, Reply::Account),
                Reply::Group(Group { name: text.clone(), gid: 1, members }),
                Reply::Groups(gids), Reply::Text(text.clone()), Reply::Unavailable { reason: text.clone() },
                Reply::Refused { reason: text },
            ] {
                let mut out = Vec::new();
                reply.encode(LINE_MAX, &mut out).unwrap();
                prop_assert_eq!(line(&out, LINE_MAX), Ok(Some(out.len())));
                prop_assert_eq!(Reply::decode(&mut out), Ok(reply));
            }
        }

        #[test]
        fn noise_is_refused_without_panic_and_what_decodes_encodes_again(noise in bytes(), word in "[a-z]{3,8}") {
            let _ = Request::decode(&mut noise.clone());
            let mut line = format!("mailsql\t1\t{word}\t").into_bytes();
            line.extend_from_slice(&noise);
            let _ = Request::decode(&mut line.clone());
            if let Ok(reply) = Reply::decode(&mut line) {
                let mut out = Vec::new();
                reply.encode(LINE_MAX, &mut out).unwrap();
                prop_assert_eq!(Reply::decode(&mut out), Ok(reply));
            }
        }
    }
}
