//! From a verdict to the wire.
//!
//! The protocol has no word for "try later". libsasl2 takes whatever does not begin with `OK` for a wrong password
//! (Postfix: 535), but a connection that closes without an answer for a failure of the service (Postfix: 454). So
//! trouble is answered by closing.

use mailsql_core::authenticator::Decision;
use mailsql_core::{Unavailable, Verdict};
use mailsql_proto::saslauthd::Reply;

/// One text for all that is refused: the wire must not tell an unknown user from a wrong password.
const REFUSED: &[u8] = b"authentication failed";

/// The reply to a decision; `None` closes the connection.
#[must_use]
pub fn reply(decision: &Result<Decision, Unavailable>) -> Option<Reply<'static>> {
    match decision {
        Ok(Decision { verdict: Verdict::Yes(_), .. }) => Some(Reply::Ok(None)),
        Ok(_) => Some(Reply::No(Some(REFUSED))),
        Err(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mailsql_core::{Account, Address};
    use std::sync::Arc;

    #[test]
    fn every_row_of_the_verdict_table() {
        let account = Arc::new(Account::new(Address::parse("info@example.jp").unwrap(), None));
        let no = Some(Reply::No(Some(REFUSED)));
        for (verdict, expected) in [
            (Verdict::Yes(Arc::clone(&account)), Some(Reply::Ok(None))),
            (Verdict::Unknown, no),
            (Verdict::Wrong, no),
            (Verdict::PasswordExpired(Arc::clone(&account)), no),
            (Verdict::Disabled(Arc::clone(&account)), no),
            (Verdict::Expired(account), no),
            (Verdict::Throttled, no),
        ] {
            let word = verdict.word();
            assert_eq!(reply(&Ok(Decision::of(verdict))), expected, "{word}");
        }
        assert_eq!(reply(&Err(Unavailable::new("down"))), None);
    }
}
