//! saslauthd's wire: four counted strings out, one back (cyrus-sasl `lib/checkpw.c`).

use anyhow::{Context, Result};

use super::{Endpoint, Stream};

/// Asks once. `Some("OK")` or `Some("NO ...")`; `None` when the daemon closed without a reply, which says "try later".
///
/// # Errors
/// When nobody listens, a field is longer than 65,535 bytes, or the daemon says nothing for the clients' timeout.
pub fn ask(
    endpoint: impl Into<Endpoint>,
    login: impl AsRef<[u8]>,
    password: impl AsRef<[u8]>,
    service: &str,
    realm: &str,
) -> Result<Option<String>> {
    let request = encode(&[login.as_ref(), password.as_ref(), service.as_bytes(), realm.as_bytes()])?;
    ask_raw(endpoint, &request)
}

/// Sends bytes as they are and reads the reply, if any.
///
/// # Errors
/// As [`ask`].
pub fn ask_raw(endpoint: impl Into<Endpoint>, request: &[u8]) -> Result<Option<String>> {
    let mut stream = Stream::connect(&endpoint.into())?;
    // A daemon may refuse an oversized field and close before it has read everything.
    let _ = stream.send(request);
    let bytes = {
        // The daemon reads on until we close, so the end of our direction comes first.
        let _ = stream.finish();
        stream.read_to_end()?
    };
    let Some((head, text)) = bytes.split_first_chunk::<2>() else { return Ok(None) };
    let length = usize::from(u16::from_be_bytes(*head));
    let text = text.get(..length).context("reply shorter than its count")?;
    Ok(Some(String::from_utf8_lossy(text).into_owned()))
}

/// Counted strings, as a request holds them.
///
/// # Errors
/// When a field is longer than 65,535 bytes.
pub fn encode(fields: &[&[u8]]) -> Result<Vec<u8>> {
    let mut request = Vec::new();
    for field in fields {
        request.extend_from_slice(&u16::try_from(field.len())?.to_be_bytes());
        request.extend_from_slice(field);
    }
    Ok(request)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_four_counted_strings() {
        let request = encode(&[b"bob@example.org", b"s3cret", b"smtp", b""]).unwrap();
        assert_eq!(request, b"\0\x0fbob@example.org\0\x06s3cret\0\x04smtp\0\0");
    }
}
