//! xtext: RFC 3461's quoting of parameter values, `+XX` for what a parameter cannot hold.

use std::borrow::Cow;
use std::fmt::Write;

/// Reads xtext into what it stands for.
///
/// `None` for a `+` without two upper-case hexadecimal digits, for bytes that must be quoted and are not, and for results
/// that are not UTF-8. Control characters may come out: the caller decides. UTF-8 stands for itself (RFC 6533).
pub(super) fn decode(text: &str) -> Option<Cow<'_, str>> {
    if text.bytes().any(|byte| byte <= b' ' || byte == b'=' || byte == 0x7f) {
        return None;
    }
    if !text.contains('+') {
        return Some(Cow::Borrowed(text));
    }
    let mut parts = text.split('+');
    let mut out = parts.next()?.as_bytes().to_vec();
    for part in parts {
        let (high, low) = (hex(*part.as_bytes().first()?)?, hex(*part.as_bytes().get(1)?)?);
        out.push(high << 4 | low);
        out.extend_from_slice(part.as_bytes().get(2..)?);
    }
    String::from_utf8(out).ok().map(Cow::Owned)
}

/// Writes `text` as xtext: printable ASCII and UTF-8 stand for themselves, `+`, `=`, space and controls are quoted.
pub(super) fn encode(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for char in text.chars() {
        if char.is_ascii() && (char <= ' ' || matches!(char, '+' | '=' | '\x7f')) {
            // Writing to a String cannot fail.
            let _ = write!(out, "+{:02X}", u32::from(char));
        } else {
            out.push(char);
        }
    }
    out
}

fn hex(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn plus_and_two_digits_stand_for_a_byte() {
        let table = [
            ("bob@example.org", Some("bob@example.org")),
            ("bob+2Bext@example.org", Some("bob+ext@example.org")),
            ("a+20b+3D", Some("a b=")),
            ("+E7+94+A8", Some("用")),
            ("用+2B", Some("用+")),
            ("+0D+0A", Some("\r\n")),
            ("", Some("")),
            ("+", None),
            ("a+2", None),
            ("a+2b", None),
            ("+用", None),
            ("a=b", None),
            ("a b", None),
            ("+FF", None),
        ];
        for (text, want) in table {
            assert_eq!(decode(text).as_deref(), want, "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn what_is_quoted_reads_back(text in any::<String>()) {
            let quoted = encode(&text);
            let read = decode(&quoted);
            prop_assert_eq!(read.as_deref(), Some(text.as_str()));
        }

        #[test]
        fn anything_reads_without_panic(text in any::<String>()) {
            let _ = decode(&text);
        }
    }
}
