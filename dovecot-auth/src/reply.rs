//! From a verdict to the wire: one table for the client protocol, one for the master protocol.
//!
//! `reason=` is shown to the mail client by Postfix, so an unknown user and a wrong password share one. `code=` and a
//! reason of their own go only to who knew the password.
//!
//! Trouble has no word that Postfix or Exim understand: FAIL with `code=temp_fail` is a wrong password to Postfix (535).
//! Both take a connection that closes without an answer for an outage (454). Dovecot's clients understand the code.

use crate::place::Place;
use mailsql_core::authenticator::Decision;
use mailsql_core::{Account, Quota, Unavailable, Verdict};
use mailsql_proto::dovecot_auth::Fields;
use mailsql_proto::dovecot_auth::client::{Code, Reply};
use mailsql_proto::dovecot_auth::master::{self, Found};

/// What all are told who did not know the password.
const REFUSED: &[u8] = b"wrong user name or password";
const EXPIRED: &[u8] = b"password expired";
const DISABLED: &[u8] = b"account disabled";
const NOT_AS_OTHER: &[u8] = b"not allowed to act as another user";
const TROUBLE: &[u8] = b"temporary authentication failure";

/// How a client is told of trouble.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// By closing the connection.
    Closes,
    /// By FAIL and `code=temp_fail`.
    Tells,
}

/// The reply to a decided login; `None` closes the connection. `other` tells that the client wants to act as another
/// user than the one who logs in: nobody may.
#[must_use]
pub fn reply(
    id: u32,
    decision: &Result<Decision, Unavailable>,
    other: bool,
    trouble: Trouble,
) -> Option<Reply<'static>> {
    let verdict = match decision {
        Ok(decision) => &decision.verdict,
        Err(_) if trouble == Trouble::Closes => return None,
        Err(_) => return Some(fail(id, Some(Code::TempFail), TROUBLE)),
    };
    Some(match verdict {
        Verdict::Yes(_) if other => fail(id, Some(Code::AuthzFail), NOT_AS_OTHER),
        // Postfix takes the name as sasl_username, for sender_login_maps: one spelling.
        Verdict::Yes(account) => {
            Reply::Ok { id, user: account.address.folded().as_str().as_bytes().to_vec().into(), fields: Fields::new() }
        }
        Verdict::PasswordExpired(_) => fail(id, Some(Code::PassExpired), EXPIRED),
        Verdict::Disabled(_) | Verdict::Expired(_) => fail(id, Some(Code::UserDisabled), DISABLED),
        Verdict::Unknown | Verdict::Wrong | Verdict::Throttled => fail(id, None, REFUSED),
    })
}

/// A refusal.
#[must_use]
pub fn fail(id: u32, code: Option<Code>, reason: &'static [u8]) -> Reply<'static> {
    Reply::Fail { id, user: None, code, reason: Some(reason.into()), fields: Fields::new() }
}

/// The reply to USER.
#[must_use]
pub fn user(
    id: u32,
    outcome: &Result<Verdict, Unavailable>,
    place: impl Fn(&Account) -> Result<Place, Unavailable>,
) -> Vec<u8> {
    let mut out = Vec::new();
    let account = match outcome {
        // A disabled account takes no mail, and to delivery that is the same as none there: an address refused at RCPT
        // makes no backscatter.
        Ok(Verdict::Yes(account) | Verdict::PasswordExpired(account)) => account,
        Ok(_) => {
            master::Reply::NotFound(id).encode(&mut out);
            return out;
        }
        Err(trouble) => {
            master_trouble(id, trouble).encode(&mut out);
            return out;
        }
    };
    match place(account) {
        Ok(place) => {
            let mut fields = Fields::new()
                .with("uid", place.uid.to_string().into_bytes())
                .with("gid", place.gid.to_string().into_bytes())
                .with("home", place.home.into_bytes())
                .with("mail", format!("maildir:{}", place.maildir).into_bytes());
            if let Some(rule) = quota_rule(place.quota) {
                fields = fields.with("quota_rule", rule.into_bytes());
            }
            let user = account.address.as_str().as_bytes().into();
            master::Reply::User(Found { id, user, fields }).encode(&mut out);
        }
        Err(trouble) => master_trouble(id, &trouble).encode(&mut out),
    }
    out
}

/// The reply to PASS: whether the account may log in. The stored password is not handed out.
#[must_use]
pub fn pass(id: u32, outcome: &Result<Verdict, Unavailable>) -> Vec<u8> {
    let mut out = Vec::new();
    let refused = |code| master::Reply::Fail { id, code: Some(code), reason: None, fields: Fields::new() };
    match outcome {
        Ok(Verdict::Yes(account)) => {
            let mut fields = Fields::new();
            if let Some(nets) = &account.allow_nets {
                fields = fields.with("allow_nets", nets.join(",").into_bytes());
            }
            let user = account.address.as_str().as_bytes().into();
            master::Reply::Pass(Found { id, user, fields }).encode(&mut out);
        }
        Ok(Verdict::PasswordExpired(_)) => refused(Code::PassExpired).encode(&mut out),
        Ok(Verdict::Disabled(_) | Verdict::Expired(_)) => refused(Code::UserDisabled).encode(&mut out),
        Ok(_) => master::Reply::NotFound(id).encode(&mut out),
        Err(trouble) => master_trouble(id, trouble).encode(&mut out),
    }
    out
}

/// Limits as Dovecot's quota plugin reads them.
fn quota_rule(quota: Quota) -> Option<String> {
    let bytes = quota.bytes.map(|bytes| format!(":bytes={bytes}")).unwrap_or_default();
    let messages = quota.messages.map(|messages| format!(":messages={messages}")).unwrap_or_default();
    (quota.bytes.is_some() || quota.messages.is_some()).then(|| format!("*{bytes}{messages}"))
}

fn master_trouble<'a>(id: u32, trouble: &'a Unavailable) -> master::Reply<'a> {
    let reason = Some(trouble.reason().as_bytes().into());
    master::Reply::Fail { id, code: Some(Code::TempFail), reason, fields: Fields::new() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mailsql_core::Address;
    use std::sync::Arc;

    fn verdicts() -> [(&'static str, Result<Verdict, Unavailable>); 8] {
        let account = Arc::new(Account::new(Address::parse("Info@Example.JP").unwrap(), None));
        [
            ("yes", Ok(Verdict::Yes(Arc::clone(&account)))),
            ("unknown", Ok(Verdict::Unknown)),
            ("wrong", Ok(Verdict::Wrong)),
            ("password expired", Ok(Verdict::PasswordExpired(Arc::clone(&account)))),
            ("disabled", Ok(Verdict::Disabled(Arc::clone(&account)))),
            ("expired", Ok(Verdict::Expired(account))),
            ("throttled", Ok(Verdict::Throttled)),
            ("unavailable", Err(Unavailable::new("database down"))),
        ]
    }

    fn line(outcome: &Result<Verdict, Unavailable>, other: bool, trouble: Trouble) -> String {
        let decision = outcome.clone().map(Decision::of);
        let Some(reply) = reply(7, &decision, other, trouble) else { return "(close)".to_owned() };
        let mut out = Vec::new();
        reply.encode(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn every_row_of_the_client_table() {
        let expected = [
            "OK\t7\tuser=info@example.jp\n",
            "FAIL\t7\treason=wrong user name or password\n",
            "FAIL\t7\treason=wrong user name or password\n",
            "FAIL\t7\tcode=pass_expired\treason=password expired\n",
            "FAIL\t7\tcode=user_disabled\treason=account disabled\n",
            "FAIL\t7\tcode=user_disabled\treason=account disabled\n",
            "FAIL\t7\treason=wrong user name or password\n",
            "(close)",
        ];
        for ((name, outcome), expected) in verdicts().iter().zip(expected) {
            assert_eq!(line(outcome, false, Trouble::Closes), expected, "{name}");
        }
        let [.., (_, down)] = verdicts();
        assert_eq!(
            line(&down, false, Trouble::Tells),
            "FAIL\t7\tcode=temp_fail\treason=temporary authentication failure\n"
        );
    }

    #[test]
    fn another_identity_is_refused_only_to_who_knew_the_password() {
        let expected = "FAIL\t7\tcode=authz_fail\treason=not allowed to act as another user\n";
        for (name, outcome) in verdicts() {
            let want = if name == "yes" { expected.to_owned() } else { line(&outcome, false, Trouble::Tells) };
            assert_eq!(line(&outcome, true, Trouble::Tells), want, "{name}");
        }
    }

    #[test]
    fn every_row_of_the_user_and_pass_tables() {
        let here = |account: &Account| {
            let quota = Quota { bytes: Some(1 << 20), messages: Some(9) };
            Ok(Place { uid: 5000, gid: 5001, home: "/v/h".into(), maildir: format!("/v/{}", account.address), quota })
        };
        let row = "USER\t7\tInfo@Example.JP\tuid=5000\tgid=5001\thome=/v/h\tmail=maildir:/v/Info@Example.JP\t\
                   quota_rule=*:bytes=1048576:messages=9\n";
        let trouble = "FAIL\t7\tcode=temp_fail\treason=database down\n";
        let expected = [
            (row, "PASS\t7\tuser=Info@Example.JP\n"),
            ("NOTFOUND\t7\n", "NOTFOUND\t7\n"),
            ("NOTFOUND\t7\n", "NOTFOUND\t7\n"),
            (row, "FAIL\t7\tcode=pass_expired\n"),
            ("NOTFOUND\t7\n", "FAIL\t7\tcode=user_disabled\n"),
            ("NOTFOUND\t7\n", "FAIL\t7\tcode=user_disabled\n"),
            ("NOTFOUND\t7\n", "NOTFOUND\t7\n"),
            (trouble, trouble),
        ];
        for ((name, outcome), (want_user, want_pass)) in verdicts().iter().zip(expected) {
            assert_eq!(String::from_utf8(user(7, outcome, here)).unwrap(), want_user, "{name}");
            assert_eq!(String::from_utf8(pass(7, outcome)).unwrap(), want_pass, "{name}");
        }
        let [(_, yes), ..] = verdicts();
        let nowhere = user(7, &yes, |_| Err(Unavailable::new("the maildir is wrong")));
        assert_eq!(nowhere, b"FAIL\t7\tcode=temp_fail\treason=the maildir is wrong\n");
    }
}
