//! LMTP: local mail delivery, SMTP's shape with one answer a recipient.
//!
//! ```text
//! command = verb [SP argument] CRLF          LHLO MAIL RCPT DATA BDAT RSET NOOP QUIT VRFY XFORWARD
//! MAIL    = "MAIL FROM:" path *(SP param)    SIZE= BODY= SMTPUTF8 RET= ENVID= AUTH=
//! RCPT    = "RCPT TO:" path *(SP param)      NOTIFY= ORCPT=
//! path    = "<" [route ":"] [local ["@" domain]] ">"
//! data    = *(line CRLF) "." CRLF            a line that begins with a dot has the dot doubled
//! chunk   = "BDAT" SP size [SP "LAST"] CRLF size*octet
//! reply   = code ("-" / SP) [status SP] text CRLF, "-" on all lines but the last
//! ```
//!
//! After the end of the message the server answers once for every accepted recipient, in their order. [`Session`] knows which
//! command may come when; [`DataDecoder`] and [`ChunkDecoder`] turn the message into LF lines.
//!
//! Limits: [`MAX_COMMAND_LINE`], [`MAX_ADDRESS`], [`MAX_DOMAIN`], [`MAX_REPLY_LINE`], [`MAX_REPLY_LINES`]; recipients and
//! message size are the [`Offer`]'s.
//!
//! Security:
//! - Only CRLF `.` CRLF ends the data. `LF . LF`, `LF . CRLF`, `CR . CR` and the like are data, so what one server takes for
//!   the end of a message and another does not cannot smuggle a second message in.
//! - A BDAT whose size cannot be read leaves no way to tell its octets from commands: [`Malformed::Chunk`] ends the
//!   connection. A BDAT refused for its timing has its octets read and dropped.
//! - Decoded xtext (ORCPT, ENVID, AUTH, XFORWARD) with control characters is refused or neutered: these values reach headers.
//! - Replies are printable ASCII, whatever text they were given.
//!
//! Oddities:
//! - Command lines may end in a bare LF, as Postfix and Dovecot take it; only data is strict.
//! - Spaces after `FROM:` and `TO:` are taken, as Postfix does; paths need their brackets, as Dovecot 2.3 wants them.
//! - Dots in a local part may stand anywhere (`a..b.@example.jp`): Japanese carriers gave out such addresses. Postfix quotes
//!   them, other clients do not. Source routes are dropped.
//! - Postfix's client never sends BDAT and reads status codes even where we do not announce them.
//! - DSN parameters are taken though DSN is not announced by default: who announces it must write the notifications.
//!
//! Source: RFC 2033, 5321, 1870, 2034, 3030, 3461, 6531; XFORWARD_README; Postfix 3.7.11 `src/smtp/`; Dovecot 2.3.19
//! `lib-smtp/`.

mod command;
mod data;
mod path;
mod reply;
mod session;
mod xtext;

use std::fmt;

pub use command::{Body, Command, Forwarded, Mail, Notify, Rcpt, Ret};
pub use data::{ChunkDecoder, DataDecoder, DataEncoder, Fed};
pub use path::Path;
pub use reply::{Reply, decode_reply};
pub use session::{Action, Envelope, Offer, Original, Recipient, Session};

/// Longest command line, in bytes with its line end: 512 of RFC 5321 and what the parameters above add to it.
pub const MAX_COMMAND_LINE: usize = 2048;
/// Longest address, in bytes; Postfix's own bound for what an alias expands to.
pub const MAX_ADDRESS: usize = 1000;
/// Longest domain, in bytes (RFC 5321).
pub const MAX_DOMAIN: usize = 255;
/// Longest reply line we write, in bytes with code and CRLF (RFC 5321).
pub const MAX_REPLY_LINE: usize = 512;
/// Longest reply line we read, in bytes: Postfix's `line_length_limit`.
pub const MAX_REPLY_LINE_READ: usize = 2048;
/// Most lines in one reply.
pub const MAX_REPLY_LINES: usize = 100;
/// Most octets of a refused BDAT that are read only to be dropped; a longer one ends the connection.
pub const MAX_DISCARD: u64 = 64 << 20;
/// Commands refused for their syntax before a connection is ended.
pub const MAX_REFUSED_COMMANDS: u32 = 100;

/// A command or the reply that refuses it, and the bytes its line took.
pub type Decoded<'a> = (Result<Command<'a>, Reply>, usize);

/// What is wrong with the bytes, beyond going on with the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Malformed {
    /// A command line longer than [`MAX_COMMAND_LINE`], or a reply line longer than [`MAX_REPLY_LINE_READ`].
    LineTooLong,
    /// A BDAT whose size is unreadable, so that its octets cannot be told from commands.
    Chunk,
    /// A reply without a code, or with several, or with more than [`MAX_REPLY_LINES`] lines.
    Reply,
}

impl Malformed {
    /// What the server says before it closes.
    pub const fn reply(self) -> Reply {
        match self {
            Malformed::LineTooLong => Reply::fixed(500, (5, 2), "Line too long"),
            Malformed::Chunk => Reply::fixed(501, (5, 4), "Syntax: BDAT size [LAST]"),
            Malformed::Reply => Reply::fixed(554, (5, 0), "Unreadable reply"),
        }
    }
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Malformed::LineTooLong => "the line is too long",
            Malformed::Chunk => "BDAT without a readable size",
            Malformed::Reply => "the reply has no code, several codes or too many lines",
        })
    }
}

impl std::error::Error for Malformed {}

/// Reads a command from the bytes received so far.
///
/// A complete line that is no valid command comes back as the reply that says so: the connection goes on.
///
/// # Errors
/// [`Malformed`] when the connection cannot go on: send its [`Malformed::reply`] and close.
pub fn decode(input: &[u8]) -> Result<Option<Decoded<'_>>, Malformed> {
    let Some((line, used)) = take_line(input, MAX_COMMAND_LINE)? else {
        return Ok(None);
    };
    Ok(Some((command::decode_line(line)?, used)))
}

/// The first line without its CRLF or LF, and the bytes it took.
fn take_line(input: &[u8], limit: usize) -> Result<Option<(&[u8], usize)>, Malformed> {
    let Some(end) = input.iter().take(limit).position(|byte| *byte == b'\n') else {
        return if input.len() < limit { Ok(None) } else { Err(Malformed::LineTooLong) };
    };
    let line = &input[..end];
    Ok(Some((line.strip_suffix(b"\r").unwrap_or(line), end + 1)))
}
