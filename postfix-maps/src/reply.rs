//! From an answer to the wires.

use mailsql_core::Unavailable;
use mailsql_proto::socketmap::Reply;
use mailsql_proto::tcp_table;

/// The reply to a lookup. An empty value would be a configuration error in Postfix's eyes; it is "not found".
#[must_use]
pub fn reply(found: &Result<Option<String>, Unavailable>) -> Reply<'_> {
    match found {
        Ok(Some(value)) if !value.is_empty() => Reply::Ok(value.as_bytes()),
        Ok(_) => Reply::NotFound,
        Err(trouble) => Reply::Temp(trouble.reason().as_bytes()),
    }
}

/// The same on the wire of tcp_table.
#[must_use]
pub fn tcp_reply(found: &Result<Option<String>, Unavailable>) -> tcp_table::Reply<'_> {
    match found {
        Ok(Some(value)) if !value.is_empty() => tcp_table::Reply::Ok(value.as_bytes().into()),
        Ok(_) => tcp_table::Reply::NotFound(b"not found"[..].into()),
        Err(trouble) => tcp_table::Reply::Temp(trouble.reason().as_bytes().into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_of_the_verdict_table() {
        for (found, expected, line) in [
            (Ok(Some("info@example.jp/".to_owned())), Reply::Ok(b"info@example.jp/"), "200 info@example.jp/\n"),
            (Ok(Some(String::new())), Reply::NotFound, "500 not%20found\n"),
            (Ok(None), Reply::NotFound, "500 not%20found\n"),
            (Err(Unavailable::new("db1: down")), Reply::Temp(b"db1: down"), "400 db1:%20down\n"),
        ] {
            assert_eq!(reply(&found), expected);
            let mut out = Vec::new();
            tcp_reply(&found).encode(&mut out);
            assert_eq!(out, line.as_bytes());
        }
    }
}
