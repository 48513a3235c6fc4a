//! Decimal numbers on the wire: strict reading, allocation-free writing.
//!
//! Every wire here writes numbers as plain ASCII digits. `parse` of the standard library also takes a leading `+`, which
//! no peer sends; these functions take digits only.

/// Digits of the largest `u64`.
const MAX_DIGITS: usize = 20;

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
    fn numbers_are_written_as_the_standard_library_writes_them() {
        for value in [0, 9, 10, 99, 100, 65_535, 1_000_000, u64::MAX] {
            let mut out = Vec::new();
            encode(value, &mut out);
            assert_eq!(out, value.to_string().into_bytes());
        }
    }
}
