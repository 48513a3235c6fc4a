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

mod line;
#[cfg(test)]
mod tests;

pub use line::line;
use line::{Writer, number, open};

/// Longest line in bytes, LF included: every request, and every reply not named at [`BULK_LINE_MAX`].
pub const LINE_MAX: usize = 16 * 1024;
/// Longest reply in bytes, LF included, to `list`, `flush`, `limits`, `explain` and `stats`.
pub const BULK_LINE_MAX: usize = 1024 * 1024;
/// Most fields of a request.
pub const FIELDS_MAX: usize = 16;
/// Most accounts in one reply to `list`; ask again with `after` for the next page.
pub const LIST_PAGE_MAX: usize = 500;

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
