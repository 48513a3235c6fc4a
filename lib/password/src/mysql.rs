//! What MySQL's own functions leave in a column.
//!
//! PASSWORD() since 4.1: `*` and 40 upper-case hex digits of SHA1(SHA1(password)). OLD_PASSWORD(): 16 lower-case hex
//! digits, two 31-bit numbers; blanks and tabs in the password do not count. Neither has a salt. PASSWORD('') is the
//! empty string, one reason why an empty stored value must never let anybody in.

use sha1::{Digest as _, Sha1};

/// The 20 bytes of PASSWORD().
pub(crate) fn password(password: &[u8]) -> [u8; 20] {
    Sha1::digest(Sha1::digest(password)).into()
}

/// The 8 bytes of OLD_PASSWORD().
pub(crate) fn old_password(password: &[u8]) -> [u8; 8] {
    const LOW_31: u32 = 0x7fff_ffff;
    let (mut first, mut second, mut add) = (0x5030_5735_u32, 0x1234_5671_u32, 7_u32);
    for byte in password.iter().filter(|byte| !b" \t".contains(byte)).map(|&byte| u32::from(byte)) {
        first ^= (first & 63).wrapping_add(add).wrapping_mul(byte).wrapping_add(first << 8);
        second = second.wrapping_add((second << 8) ^ first);
        add = add.wrapping_add(byte);
    }
    let both = u64::from(first & LOW_31) << 32 | u64::from(second & LOW_31);
    both.to_be_bytes()
}
