//! What the client hears: one table for RCPT, one for the end of a message.
//!
//! | RCPT | reply | | end of the message | reply |
//! | --- | --- | --- | --- | --- |
//! | a mailbox of ours | 250 2.1.5 | | stored | 250 2.0.0 |
//! | unknown | 550 5.1.1 | | stored before, the client missed our answer | 250 2.0.0 |
//! | switched off or expired | 550 5.2.1 | | loop | 554 5.4.6 |
//! | full | 552 5.2.2 or 452 4.2.2 | | full | 552 5.2.2 or 452 4.2.2 |
//! | the database cannot tell | 451 4.3.0 | | larger than the limit | 552 5.3.4 |
//! | belongs to another uid or gid, or lies outside of the root | 451 4.3.5 | | no space | 452 4.3.1 |
//! | | | | any other trouble | 451 4.3.0, of the mailbox alone 451 4.2.0, of the root 451 4.3.5 |
//!
//! An address of a domain that is not ours is unknown like any other (5.1.1, not 5.1.2): Postfix sends here only what it
//! takes for ours, so what is missing is most likely the row of the mailbox.

use crate::trouble::{Doing, Trouble};
use mailsql_config::OverQuota;
use mailsql_proto::lmtp::Reply;
use nix::errno::Errno;

/// What RCPT came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Yes,
    Unknown,
    Closed,
    Full,
    Unavailable,
    /// The row asks for what this process cannot do.
    Misconfigured,
}

/// What a delivery came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The message is on disk, in this file.
    Stored(std::path::PathBuf),
    /// It was there already.
    Repeated,
    Loop,
    Full,
    TooLarge,
    Failed(Trouble),
}

impl Verdict {
    /// A word for the log.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Yes => "ok",
            Self::Unknown => "unknown",
            Self::Closed => "closed",
            Self::Full => "full",
            Self::Unavailable => "unavailable",
            Self::Misconfigured => "misconfigured",
        }
    }

    /// The reply to RCPT.
    pub(crate) fn reply(self, address: &str, over_quota: OverQuota) -> Reply {
        match self {
            Self::Yes => Reply::new(250, (1, 5), format!("<{address}> OK")),
            Self::Unknown => Reply::new(550, (1, 1), format!("<{address}> No such user here")),
            Self::Closed => Reply::new(550, (2, 1), format!("<{address}> Mailbox disabled")),
            Self::Full => full(address, over_quota),
            Self::Unavailable => {
                Reply::new(451, (3, 0), format!("<{address}> Temporary lookup failure, try again later"))
            }
            Self::Misconfigured => {
                Reply::new(451, (3, 5), format!("<{address}> Server misconfigured, try again later"))
            }
        }
    }
}

impl Outcome {
    /// A word for the log.
    pub(crate) fn word(&self) -> &'static str {
        match self {
            Self::Stored(_) => "stored",
            Self::Repeated => "repeated",
            Self::Loop => "loop",
            Self::Full => "full",
            Self::TooLarge => "too_large",
            Self::Failed(_) => "failed",
        }
    }

    /// The reply for this recipient after the end of the message.
    pub(crate) fn reply(&self, address: &str, id: &str, over_quota: OverQuota) -> Reply {
        match self {
            Self::Stored(_) => Reply::new(250, (0, 0), format!("<{address}> {id} Saved")),
            Self::Repeated => Reply::new(250, (0, 0), format!("<{address}> {id} Saved before")),
            Self::Loop => Reply::new(554, (4, 6), format!("<{address}> Mail forwarding loop")),
            Self::Full => full(address, over_quota),
            Self::TooLarge => Reply::new(552, (3, 4), format!("<{address}> Message is larger than the limit")),
            Self::Failed(trouble) => failed(address, trouble),
        }
    }
}

fn full(address: &str, over_quota: OverQuota) -> Reply {
    match over_quota {
        OverQuota::Reject => Reply::new(552, (2, 2), format!("<{address}> Mailbox is full")),
        OverQuota::Defer => Reply::new(452, (2, 2), format!("<{address}> Mailbox is full, try again later")),
    }
}

/// Paths and causes stay in the log: the client may be anybody's.
fn failed(address: &str, trouble: &Trouble) -> Reply {
    match (trouble.doing, trouble.errno) {
        (Doing::FindRoot, _) => {
            Reply::new(451, (3, 5), format!("<{address}> Mail storage is missing, try again later"))
        }
        (_, Errno::ENOSPC | Errno::EDQUOT | Errno::EFBIG) => {
            Reply::new(452, (3, 1), format!("<{address}> Insufficient storage, try again later"))
        }
        (_, Errno::EACCES | Errno::EPERM | Errno::ENOTDIR | Errno::EISDIR | Errno::ELOOP | Errno::ENAMETOOLONG) => {
            Reply::new(451, (2, 0), format!("<{address}> Mailbox cannot be written to, try again later"))
        }
        _ => Reply::new(451, (3, 0), format!("<{address}> Temporary storage failure, try again later")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn start(reply: &Reply) -> String {
        let mut wire = Vec::new();
        reply.encode(&mut wire);
        String::from_utf8(wire).unwrap().chars().take("250 2.1.5 ".len()).collect()
    }

    #[test]
    fn every_verdict_has_its_row() {
        for (verdict, reject, defer) in [
            (Verdict::Yes, "250 2.1.5 ", "250 2.1.5 "),
            (Verdict::Unknown, "550 5.1.1 ", "550 5.1.1 "),
            (Verdict::Closed, "550 5.2.1 ", "550 5.2.1 "),
            (Verdict::Full, "552 5.2.2 ", "452 4.2.2 "),
            (Verdict::Unavailable, "451 4.3.0 ", "451 4.3.0 "),
            (Verdict::Misconfigured, "451 4.3.5 ", "451 4.3.5 "),
        ] {
            assert_eq!(start(&verdict.reply("a@b", OverQuota::Reject)), reject, "{verdict:?}");
            assert_eq!(start(&verdict.reply("a@b", OverQuota::Defer)), defer, "{verdict:?}");
        }
    }

    #[test]
    fn every_outcome_has_its_row() {
        let trouble = |doing, errno| Outcome::Failed(Trouble { doing, path: "/secret/path".into(), errno });
        for (outcome, want) in [
            (Outcome::Stored(Path::new("/x").into()), "250 2.0.0 "),
            (Outcome::Repeated, "250 2.0.0 "),
            (Outcome::Loop, "554 5.4.6 "),
            (Outcome::Full, "552 5.2.2 "),
            (Outcome::TooLarge, "552 5.3.4 "),
            (trouble(Doing::FindRoot, Errno::ENOENT), "451 4.3.5 "),
            (trouble(Doing::Write, Errno::ENOSPC), "452 4.3.1 "),
            (trouble(Doing::Write, Errno::EDQUOT), "452 4.3.1 "),
            (trouble(Doing::Create, Errno::EACCES), "451 4.2.0 "),
            (trouble(Doing::Create, Errno::ENOTDIR), "451 4.2.0 "),
            (trouble(Doing::Create, Errno::EMFILE), "451 4.3.0 "),
            (trouble(Doing::Create, Errno::EROFS), "451 4.3.0 "),
            (trouble(Doing::Sync, Errno::EIO), "451 4.3.0 "),
            (trouble(Doing::Work, Errno::ECANCELED), "451 4.3.0 "),
        ] {
            let reply = outcome.reply("a@b", "ID", OverQuota::Reject);
            assert_eq!(start(&reply), want, "{outcome:?}");
            assert!(!reply.text.contains("secret"), "{reply:?}");
        }
        assert_eq!(start(&Outcome::Full.reply("a@b", "ID", OverQuota::Defer)), "452 4.2.2 ");
    }
}
