//! What is asked of the daemon, and what its answers mean to glibc. Tested without glibc.

use crate::conf::Conf;
use crate::entry::{Group, MIN_ID, User, is_clean};
use mailsql_ask::ask::{Account, Reply, Request};
use mailsql_ask::{Client, Unavailable};

/// Longest name that is asked for, in bytes; no address of ours is longer.
const MAX_NAME: usize = 511;

/// `enum nss_status`, with the errno that goes with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// The daemon could not be asked, or could not find out (EAGAIN).
    TryAgain,
    /// The caller's buffer is too small (ERANGE): it comes back with a larger one.
    TooSmall,
    /// No such entry (ENOENT).
    NotFound,
    /// Here it is.
    Success,
}

/// Asks the daemon; a trait so that tests can answer in its place.
pub(crate) trait Daemon {
    fn ask(&self, request: &Request<'_>) -> Result<Reply, Unavailable>;
}

impl Daemon for Client {
    fn ask(&self, request: &Request<'_>) -> Result<Reply, Unavailable> {
        Client::ask(self, request)
    }
}

/// Whether a name can be that of an account. Others are answered without asking, so that a daemon that hangs delays
/// nobody who looks for root.
fn can_be_ours(name: &[u8], conf: &Conf) -> bool {
    let at = name.iter().rposition(|byte| *byte == b'@');
    let formed = match at {
        Some(at) => at > 0 && at + 1 < name.len(),
        None => conf.short_names && !name.is_empty(),
    };
    formed && name.len() <= MAX_NAME && is_clean(name) && !name.contains(&b'/')
}

/// The user of this name.
pub(crate) fn user(daemon: &dyn Daemon, conf: &Conf, name: &[u8]) -> Result<User, Status> {
    if !can_be_ours(name, conf) {
        return Err(Status::NotFound);
    }
    match daemon.ask(&Request::User { name }) {
        Ok(Reply::Account(account)) => as_user(account).ok_or(Status::NotFound),
        answer => Err(without(answer)),
    }
}

/// The user of this number.
pub(crate) fn user_by_id(daemon: &dyn Daemon, id: u32) -> Result<User, Status> {
    if id < MIN_ID {
        return Err(Status::NotFound);
    }
    match daemon.ask(&Request::Uid { id }) {
        Ok(Reply::Account(account)) => as_user(account).ok_or(Status::NotFound),
        answer => Err(number_without(answer)),
    }
}

/// The group of this name.
pub(crate) fn group(daemon: &dyn Daemon, conf: &Conf, name: &[u8]) -> Result<Group, Status> {
    if !can_be_ours(name, conf) {
        return Err(Status::NotFound);
    }
    match daemon.ask(&Request::Group { name }) {
        Ok(Reply::Group(group)) => as_group(group).ok_or(Status::NotFound),
        answer => Err(without(answer)),
    }
}

/// The group of this number.
pub(crate) fn group_by_id(daemon: &dyn Daemon, id: u32) -> Result<Group, Status> {
    if id < MIN_ID {
        return Err(Status::NotFound);
    }
    match daemon.ask(&Request::Gid { id }) {
        Ok(Reply::Group(group)) => as_group(group).ok_or(Status::NotFound),
        answer => Err(number_without(answer)),
    }
}

/// The further groups of a user.
pub(crate) fn groups(daemon: &dyn Daemon, conf: &Conf, name: &[u8]) -> Result<Vec<u32>, Status> {
    if !can_be_ours(name, conf) {
        return Err(Status::NotFound);
    }
    match daemon.ask(&Request::Groups { name }) {
        Ok(Reply::Groups(ids)) => Ok(ids.into_iter().filter(|id| *id >= MIN_ID).collect()),
        answer => Err(without(answer)),
    }
}

/// A page of all users, and whether another follows.
pub(crate) fn page(daemon: &dyn Daemon, after: Option<&[u8]>) -> Result<(Vec<User>, bool), Status> {
    match daemon.ask(&Request::List { after }) {
        Ok(Reply::List { accounts, more }) => Ok((accounts.into_iter().filter_map(as_user).collect(), more)),
        answer => Err(without(answer)),
    }
}

/// What an answer that is no entry means for a name that can be ours.
fn without(answer: Result<Reply, Unavailable>) -> Status {
    match answer {
        // A daemon that does not tell this to everybody has nothing for us.
        Ok(Reply::Unknown | Reply::Refused { .. }) => Status::NotFound,
        // Everything unforeseen is trouble, and trouble is never "no such user".
        Ok(_) | Err(_) => Status::TryAgain,
    }
}

/// What it means for a number: no number is ours alone unless the daemon says so, hence trouble is an absence, and `ls -l`
/// does not stop at every file of an unknown owner.
fn number_without(answer: Result<Reply, Unavailable>) -> Status {
    match answer {
        Ok(Reply::Unavailable { .. }) => Status::TryAgain,
        Ok(_) | Err(_) => Status::NotFound,
    }
}

fn as_user(account: Account) -> Option<User> {
    let clean = is_clean(&account.user) && is_clean(&account.home) && account.home.starts_with(b"/");
    let user = User { name: account.user, uid: account.uid, gid: account.gid, home: account.home };
    (clean && user.uid >= MIN_ID && user.gid >= MIN_ID).then_some(user)
}

fn as_group(group: mailsql_ask::ask::Group) -> Option<Group> {
    let clean = is_clean(&group.name) && group.members.iter().all(|member| is_clean(member));
    let group = Group { name: group.name, gid: group.gid, members: group.members };
    (clean && group.gid >= MIN_ID).then_some(group)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;

    /// Answers once, and asserts that it was asked.
    struct Script(RefCell<Option<Result<Reply, Unavailable>>>);

    impl Script {
        fn answers(reply: Result<Reply, Unavailable>) -> Self {
            Self(RefCell::new(Some(reply)))
        }
    }

    impl Daemon for Script {
        fn ask(&self, _: &Request<'_>) -> Result<Reply, Unavailable> {
            self.0.borrow_mut().take().unwrap()
        }
    }

    /// Must not be asked.
    struct Nobody;

    impl Daemon for Nobody {
        fn ask(&self, request: &Request<'_>) -> Result<Reply, Unavailable> {
            panic!("asked {request:?}");
        }
    }

    fn account(user: &str, uid: u32) -> Account {
        Account {
            user: user.into(),
            home: b"/var/spool/vmail/info".to_vec(),
            uid,
            gid: 5000,
            maildir: b"/var/spool/vmail/info".to_vec(),
            quota: None,
        }
    }

    #[test]
    fn every_row_of_the_verdict_table() {
        let conf = Conf::default();
        for (reply, expected) in [
            (Ok(Reply::Account(account("info@example.jp", 5000))), Ok(())),
            (Ok(Reply::Unknown), Err(Status::NotFound)),
            (Ok(Reply::Unavailable { reason: Vec::new() }), Err(Status::TryAgain)),
            (Ok(Reply::Disabled), Err(Status::TryAgain)),
            (Err(Unavailable::Timeout), Err(Status::TryAgain)),
            // What no honest daemon says: a system's number, a name that would break a line.
            (Ok(Reply::Account(account("info@example.jp", 0))), Err(Status::NotFound)),
            (Ok(Reply::Account(account("a:b@example.jp", 5000))), Err(Status::NotFound)),
        ] {
            let found = user(&Script::answers(reply), &conf, b"info@example.jp");
            assert_eq!(found.map(|_| ()), expected);
        }
    }

    #[test]
    fn names_that_cannot_be_ours_are_not_asked_for() {
        let conf = Conf::default();
        for name in [&b"root"[..], b"", b"@", b"@example.jp", b"info@", b"a/b@example.jp", b"a\nb@example.jp"] {
            assert_eq!(user(&Nobody, &conf, name), Err(Status::NotFound));
            assert_eq!(groups(&Nobody, &conf, name), Err(Status::NotFound));
        }
        assert_eq!(user(&Nobody, &conf, &[b'a'; 600]), Err(Status::NotFound));
        assert_eq!(user_by_id(&Nobody, 0), Err(Status::NotFound));
        let short = Conf { short_names: true, ..Conf::default() };
        let found = user(&Script::answers(Ok(Reply::Account(account("info", 5000)))), &short, b"info");
        assert_eq!(found.unwrap().name, b"info");
    }

    #[test]
    fn a_number_is_absent_when_the_daemon_is() {
        assert_eq!(user_by_id(&Script::answers(Err(Unavailable::Timeout)), 5000), Err(Status::NotFound));
        let unavailable = Ok(Reply::Unavailable { reason: Vec::new() });
        assert_eq!(user_by_id(&Script::answers(unavailable), 5000), Err(Status::TryAgain));
    }
}
