//! From an answer to the wire.

use mailsql_core::Unavailable;
use mailsql_proto::socketmap::Reply;

/// The reply to a lookup. An empty value would be a configuration error in Postfix's eyes; it is "not found".
#[must_use]
pub fn reply(found: &Result<Option<String>, Unavailable>) -> Reply<'_> {
    match found {
        Ok(Some(value)) if !value.is_empty() => Reply::Ok(value.as_bytes()),
        Ok(_) => Reply::NotFound,
        Err(trouble) => Reply::Temp(trouble.reason().as_bytes()),
    }
}

/// The reply to a question for a map that there is not.
pub const NO_SUCH_MAP: Reply<'static> = Reply::Perm(b"no such map; there are domains, mailboxes, aliases, senders");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_of_the_verdict_table() {
        for (found, expected) in [
            (Ok(Some("info@example.jp/".to_owned())), Reply::Ok(b"info@example.jp/")),
            (Ok(Some(String::new())), Reply::NotFound),
            (Ok(None), Reply::NotFound),
            (Err(Unavailable::new("db1: down")), Reply::Temp(b"db1: down")),
        ] {
            assert_eq!(reply(&found), expected);
        }
    }
}
