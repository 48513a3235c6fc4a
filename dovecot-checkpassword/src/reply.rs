//! From the daemon's answer to an exit status and fields.
//!
//! ```text
//! fd 4   = *(name "=" value TAB)      values escaped as in Dovecot's auth protocols, no LF
//! status = login: 0 yes, 1 no        lookup: 2 found, 3 unknown        both: 111 could not find out
//! ```
//!
//! Dovecot has no status for a disabled account or an expired password; both are a no to a login. A disabled account
//! takes no mail, so a lookup does not find it; one with an expired password does.
//!
//! Source: Dovecot 2.3.19 `auth/db-checkpassword.c`, `util/checkpassword-reply.c`.

use crate::request::Task;
use mailsql_ask::{Reply, Unavailable};
use mailsql_proto::ask::Account;

/// The program could not find out: a temporary failure to the mail client.
pub(crate) const TROUBLE: u8 = 111;

/// What to end with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Fields to hand over, and the status behind them.
    Fields(Account, u8),
    /// A status alone.
    Status(u8),
    /// [`TROUBLE`], and why, for Dovecot's log.
    Trouble(String),
}

/// The outcome of a login or lookup.
pub(crate) fn outcome(task: &Task, answer: Result<Reply, Unavailable>) -> Outcome {
    let (found, not) = match task {
        Task::Login => (0, 1),
        Task::Lookup | Task::Credentials(_) => (2, 3),
    };
    match answer {
        Ok(Reply::Account(account)) => Outcome::Fields(account, found),
        Ok(Reply::Unknown | Reply::Disabled | Reply::Expired) => Outcome::Status(not),
        Ok(Reply::Wrong | Reply::Throttled | Reply::PasswordExpired) if *task == Task::Login => Outcome::Status(not),
        Ok(Reply::Refused { reason }) => Outcome::Trouble(format!("the daemon refuses: {}", reason.escape_ascii())),
        Ok(other) => Outcome::Trouble(format!("the daemon answered {} to this", other.word())),
        Err(trouble) => Outcome::Trouble(trouble.to_string()),
    }
}

/// The fields as name and value. `user` and `home` come first; the others' names begin with `userdb_`.
pub(crate) fn fields(account: &Account) -> Vec<(&'static str, Vec<u8>)> {
    let mut fields = vec![
        ("user", account.user.clone()),
        ("userdb_home", account.home.clone()),
        ("userdb_uid", account.uid.to_string().into_bytes()),
        ("userdb_gid", account.gid.to_string().into_bytes()),
        ("userdb_mail", [b"maildir:", &account.maildir[..]].concat()),
    ];
    if let Some(bytes) = account.quota {
        fields.push(("userdb_quota_rule", format!("*:bytes={bytes}").into_bytes()));
    }
    fields
}

/// The fields as Dovecot reads them from descriptor 4.
pub(crate) fn encode(account: &Account) -> Vec<u8> {
    let mut out = Vec::new();
    for (name, value) in fields(account) {
        out.extend_from_slice(name.as_bytes());
        out.push(b'=');
        for byte in value {
            match byte {
                0 => out.extend_from_slice(b"\x010"),
                1 => out.extend_from_slice(b"\x011"),
                b'\t' => out.extend_from_slice(b"\x01t"),
                b'\r' => out.extend_from_slice(b"\x01r"),
                b'\n' => out.extend_from_slice(b"\x01n"),
                _ => out.push(byte),
            }
        }
        out.push(b'\t');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn account() -> Account {
        Account {
            user: b"bob@example.org".to_vec(),
            home: b"/v/a\tb".to_vec(),
            uid: 5000,
            gid: 5001,
            maildir: b"/v/bob".to_vec(),
            quota: Some(1 << 20),
        }
    }

    #[test]
    fn every_row_of_the_verdict_table() {
        let status = |outcome| match outcome {
            Outcome::Fields(_, status) | Outcome::Status(status) => status,
            Outcome::Trouble(_) => TROUBLE,
        };
        for (reply, login, lookup) in [
            (Reply::Account(account()), 0, 2),
            (Reply::Unknown, 1, 3),
            (Reply::Wrong, 1, 111),
            (Reply::PasswordExpired, 1, 111),
            (Reply::Disabled, 1, 3),
            (Reply::Expired, 1, 3),
            (Reply::Throttled, 1, 111),
            (Reply::Refused { reason: Vec::new() }, 111, 111),
            (Reply::Done, 111, 111),
        ] {
            assert_eq!(status(outcome(&Task::Login, Ok(reply.clone()))), login, "{reply:?}");
            assert_eq!(status(outcome(&Task::Lookup, Ok(reply.clone()))), lookup, "{reply:?}");
        }
        for task in [Task::Login, Task::Lookup] {
            assert_eq!(
                outcome(&task, Err(Unavailable::NoSocket)),
                Outcome::Trouble("no socket: is the mailsql daemon running?".into())
            );
        }
    }

    #[test]
    fn fields_are_escaped_and_each_ends_in_a_tab() {
        assert_eq!(
            encode(&account()),
            b"user=bob@example.org\tuserdb_home=/v/a\x01tb\tuserdb_uid=5000\tuserdb_gid=5001\t\
              userdb_mail=maildir:/v/bob\tuserdb_quota_rule=*:bytes=1048576\t"
        );
    }
}
