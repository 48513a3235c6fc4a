//! The state that CRAM-MD5 needs: `{CRAM-MD5}`, also called `{HMAC-MD5}`.
//!
//! 32 bytes, hex or base64: the MD5 chaining variables A, B, C, D after the key xor 0x5c (outer), then after the key
//! xor 0x36 (inner), each little endian. A password of more than 64 bytes is hashed with MD5 first.
//! Security: whoever reads the value can log in with CRAM-MD5; it is kept for that mechanism only.

use md5::{Digest as _, Md5};
use zeroize::Zeroizing;

/// MD5's initial chaining variables.
pub(crate) const INITIAL: [u32; 4] = [0x6745_2301, 0xefcd_ab89, 0x98ba_dcfe, 0x1032_5476];
/// Bytes of the value.
pub(crate) const LENGTH: usize = 32;

const BLOCK: usize = 64;

pub(crate) fn state(password: &[u8]) -> Zeroizing<Vec<u8>> {
    let mut key = Zeroizing::new([0; BLOCK]);
    if password.len() > BLOCK {
        key[..16].copy_from_slice(&Md5::digest(password));
    } else {
        key[..password.len()].copy_from_slice(password);
    }
    let mut bytes = Zeroizing::new(Vec::with_capacity(LENGTH));
    for pad in [0x5c, 0x36] {
        let block = Zeroizing::new(key.map(|byte| byte ^ pad));
        let mut state = INITIAL;
        md5::block_api::compress(&mut state, &[*block]);
        state.iter().for_each(|word| bytes.extend_from_slice(&word.to_le_bytes()));
    }
    bytes
}
