//! Decimal numbers on the wire: strict reading, allocation-free writing.
//!
//! Every wire here writes numbers as plain ASCII digits. `parse` of the standard library also takes a leading `+`, which
//! no peer sends; these functions take digits only.

use std::num::IntErrorKind;

/// Digits of the largest `u64`.
const MAX_DIGITS: usize = 20;

/// Reads all of `text` as an unsigned decimal number: one or more ASCII digits, nothing else. Leading zeros are taken.
///
/// `None` when a byte is no digit, there is none at all, or the value does not fit.
pub(crate) fn decode(text: &[u8]) -> Option<u64> {
    if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    text.iter().try_fold(0u64, |value, digit| value.checked_mul(10)?.checked_add(u64::from(digit - b'0')))
}

/// As [`decode`] for 32 bits.
pub(crate) fn decode_u32(text: &[u8]) -> Option<u32> {
    u32::try_from(decode(text)?).ok()
}

/// As [`decode`], but a number of too many digits becomes the largest one. For counts that are only compared with a
/// bound, where "absurdly large" must not read as "not a number".
pub(crate) fn decode_saturating(text: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(text).ok()?;
    if text.starts_with('+') {
        return None;
    }
    match text.parse::<u64>() {
        Ok(value) => Some(value),
        Err(error) if *error.kind() == IntErrorKind::PosOverflow => Some(u64::MAX),
        Err(_) => None,
    }
}

/// Appends `value` in canonical form: no sign, no leading zeros.
pub(crate) fn encode(mut value: u64, out: &mut Vec<u8>) {
    let mut digits = [0u8; MAX_DIGITS];
    let mut start = MAX_DIGITS;
    for slot in digits.iter_mut().rev() {
        // The remainder is below ten, so the cast loses nothing.
        *slot = b'0' + (value % 10) as u8;
        value /= 10;
        start -= 1;
        if value == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[start..]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_only_are_numbers() {
        let table: &[(&[u8], Option<u64>)] = &[
            (b"0", Some(0)),
            (b"007", Some(7)),
            (b"18446744073709551615", Some(u64::MAX)),
            (b"18446744073709551616", None),
            (b"", None),
            (b"+1", None),
            (b"-1", None),
            (b" 1", None),
            (b"1x", None),
        ];
        for (text, want) in table {
            assert_eq!(decode(text), *want, "{}", text.escape_ascii());
        }
        assert_eq!(decode_u32(b"4294967295"), Some(u32::MAX));
        assert_eq!(decode_u32(b"4294967296"), None);
    }

    #[test]
    fn an_absurd_count_saturates_and_a_word_stays_no_number() {
        let table: &[(&[u8], Option<u64>)] = &[
            (b"12", Some(12)),
            (b"99999999999999999999999", Some(u64::MAX)),
            (b"+5", None),
            (b"-5", None),
            (b"", None),
            (b"12a", None),
            (b"\xff", None),
        ];
        for (text, want) in table {
            assert_eq!(decode_saturating(text), *want, "{}", text.escape_ascii());
        }
    }

    #[test]
    fn numbers_are_written_as_the_standard_library_writes_them() {
        for value in [0, 9, 10, 99, 100, 65_535, 1_000_000, u64::MAX] {
            let mut out = Vec::new();
            encode(value, &mut out);
            assert_eq!(out, value.to_string().into_bytes());
        }
    }
}
