//! MD5-crypt, and Apache's variant of it.
//!
//! ```text
//! $1$salt$hash[$anything]      salt 0 to 8 characters, hash 22
//! $apr1$salt$hash
//! ```
//!
//! 1000 rounds, fixed in 1994: weak, computed only where the policy allows it. What follows the hash after another
//! `$` is ignored, and passwords of more than crypt(3)'s 511 bytes are taken, as in Dovecot 2.3, which has its own
//! MD5-crypt. Apache's form is not crypt(3)'s; htpasswd files moved to SQL hold it.

use crate::{
    Refused, Scheme,
    alphabet::push_crypt64,
    mixing::{Blocks, is_salt_byte, stir},
};
use md5::{Digest as _, Md5};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

const MAX_SALT: usize = 8;
const HASH: usize = 22;
const ROUNDS: u32 = 1000;

pub(crate) fn verify(scheme: Scheme, password: &[u8], stored: &str) -> Result<bool, Refused> {
    let malformed = |what| Refused::Malformed { scheme, what };
    let magic = magic(scheme);
    let rest = stored.strip_prefix(magic).ok_or(malformed("its first mark is missing"))?;
    let mut fields = rest.split('$');
    let (salt, hash) = (fields.next().unwrap_or_default(), fields.next().unwrap_or_default());
    if salt.len() > MAX_SALT || !salt.bytes().all(is_salt_byte) {
        return Err(malformed("the salt has more than 8 characters, or one that crypt(3) does not take"));
    }
    if hash.len() != HASH {
        return Err(malformed("the hash is not 22 characters long"));
    }
    if password.contains(&0) {
        return Ok(false);
    }
    let computed = Zeroizing::new(self::hash(magic, password, salt));
    Ok(computed.as_bytes().ct_eq(hash.as_bytes()).into())
}

/// `$1$salt$hash`, for a drop-in asked for it by name.
pub(crate) fn create(password: &[u8], salt: &str) -> String {
    let magic = magic(Scheme::Md5Crypt);
    format!("{magic}{salt}${}", hash(magic, password, salt))
}

fn magic(scheme: Scheme) -> &'static str {
    if scheme == Scheme::Apr1 { "$apr1$" } else { "$1$" }
}

fn hash(magic: &str, password: &[u8], salt: &str) -> String {
    let salt = salt.as_bytes();
    let inner = Zeroizing::new(<[u8; 16]>::from(
        Md5::new().chain_update(password).chain_update(salt).chain_update(password).finalize(),
    ));
    let mut hasher = Md5::new().chain_update(password).chain_update(magic).chain_update(salt);
    for piece in (0..password.len()).step_by(inner.len()) {
        hasher.update(&inner[..inner.len().min(password.len() - piece)]);
    }
    let mut bits = password.len();
    while bits != 0 {
        // The NUL where another scheme would take from the digest is a slip in the original, kept by everybody.
        hasher.update(if bits & 1 != 0 { &[0] } else { &password[..1] });
        bits >>= 1;
    }
    let digest = stir::<Md5Blocks>(ROUNDS, password, salt, hasher.finalize().into());
    let mut text = String::with_capacity(HASH);
    for i in 0..5 {
        let last = if i == 4 { 5 } else { i + 12 };
        let [high, middle, low] = [digest[i], digest[i + 6], digest[last]].map(u32::from);
        push_crypt64(&mut text, high << 16 | middle << 8 | low, 4);
    }
    push_crypt64(&mut text, digest[11].into(), 2);
    text
}

struct Md5Blocks;

impl Blocks for Md5Blocks {
    const BLOCK: usize = 64;
    const LENGTH: usize = 8;
    const BIG_ENDIAN: bool = false;
    type Digest = [u8; 16];

    fn hash(padded: &[u8]) -> [u8; 16] {
        let mut state = crate::cram_md5::INITIAL;
        md5::block_api::compress(&mut state, padded.as_chunks().0);
        let mut digest = [0; 16];
        for (bytes, word) in digest.as_chunks_mut().0.iter_mut().zip(state) {
            *bytes = word.to_le_bytes();
        }
        digest
    }
}
