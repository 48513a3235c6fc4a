//! The text forms of digests: crypt(3)'s own base 64, hexadecimal, and standard base64.
//!
//! crypt(3) writes six bits a character, lowest first, in the order `./0-9A-Za-z`; bcrypt alone uses another order (see
//! bcrypt.rs). Base64 is read with or without its `=`.

use base64::{
    Engine, alphabet,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};

const CRYPT64: &[u8; 64] = b"./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
const HEX: &[u8; 16] = b"0123456789abcdef";

const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Whether the byte is one of `./0-9A-Za-z`.
pub(crate) fn is_crypt64(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'.' || byte == b'/'
}

/// The value of a character of `./0-9A-Za-z`.
pub(crate) fn crypt64_value(byte: u8) -> Option<u32> {
    let value = match byte {
        b'.' | b'/' => byte - b'.',
        b'0'..=b'9' => byte - b'0' + 2,
        b'A'..=b'Z' => byte - b'A' + 12,
        b'a'..=b'z' => byte - b'a' + 38,
        _ => return None,
    };
    Some(value.into())
}

/// The character for the low six bits of `value`.
pub(crate) fn crypt64_char(value: u32) -> char {
    CRYPT64[(value & 63) as usize].into()
}

/// Appends `count` characters of `value`, lowest six bits first.
pub(crate) fn push_crypt64(text: &mut String, mut value: u32, count: usize) {
    for _ in 0..count {
        text.push(crypt64_char(value));
        value >>= 6;
    }
}

/// Bytes in groups of three, first byte lowest: what phpass, drupal7 and yescrypt's salt use.
pub(crate) fn crypt64(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let value = group.iter().rev().fold(0, |value, &byte| value << 8 | u32::from(byte));
        push_crypt64(&mut text, value, group.len() + 1);
    }
    text
}

/// Lower-case hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().flat_map(|byte| [HEX[usize::from(byte >> 4)].into(), HEX[usize::from(byte & 15)] as char]).collect()
}

/// Hexadecimal in either case; None for an odd count or another character.
pub(crate) fn unhex(text: &[u8]) -> Option<Vec<u8>> {
    let (pairs, []) = text.as_chunks::<2>() else { return None };
    let digit = |c: u8| char::from(c).to_digit(16);
    pairs.iter().map(|&[high, low]| u8::try_from(digit(high)? << 4 | digit(low)?).ok()).collect()
}

/// Standard base64 with padding.
pub(crate) fn base64(bytes: &[u8]) -> String {
    BASE64.encode(bytes)
}

/// Standard base64, padded or not.
pub(crate) fn unbase64(text: &[u8]) -> Option<Vec<u8>> {
    BASE64.decode(text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn crypt64_values_and_characters_are_inverse() {
        for value in 0..64 {
            let c = crypt64_char(value);
            assert!(is_crypt64(c as u8));
            assert_eq!(crypt64_value(c as u8), Some(value));
        }
        assert_eq!(crypt64_value(b'-'), None);
    }

    #[test]
    fn hexadecimal_reads_both_cases_and_rejects_the_rest() {
        assert_eq!(unhex(b"00fFa0"), Some(vec![0, 255, 160]));
        assert_eq!(hex(&[0, 255, 160]), "00ffa0");
        for bad in [&b"0"[..], b"0g", b"+1", b"\xc3\xa9"] {
            assert_eq!(unhex(bad), None);
        }
    }

    #[test]
    fn base64_is_read_with_and_without_padding() {
        for text in ["QQ==", "QQ"] {
            assert_eq!(unbase64(text.as_bytes()), Some(b"A".to_vec()));
        }
        assert_eq!(unbase64(b"Q Q="), None);
    }
}
