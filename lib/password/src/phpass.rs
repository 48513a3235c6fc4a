//! phpass (`$P$`, `$H$`) and Drupal 7 (`$S$`).
//!
//! ```text
//! $P$ n salt(8) digest(22)      MD5, 34 characters
//! $S$ n salt(8) digest(43)      SHA-512, cut to 55 characters
//! U$S$…  U$P$…                  the same over the hex MD5 of the password: accounts that came from Drupal 6
//! ```
//!
//! n: log2 of the rounds, 7 to 30, as a character of `./0-9A-Za-z`. h = H(salt password), then h = H(h password).
//! pam_mysql 0.8.2 never matches `U` values, for it compares with a string that lacks the U; Drupal does, and so do we.

use crate::{
    Refused, Scheme,
    alphabet::{crypt64, crypt64_char, crypt64_value, hex, is_crypt64},
    limits::{Limits, MAX_CRYPT_PASSWORD},
};
use md5::{Digest, Md5};
use sha2::Sha512;
use subtle::ConstantTimeEq;
use zeroize::{Zeroize, Zeroizing};

const SALT: std::ops::Range<usize> = 4..12;
const EXPONENTS: std::ops::RangeInclusive<u32> = 7..=30;
/// Exponent of new Drupal values, as Drupal 7 has it.
const NEW_EXPONENT: u32 = 15;

pub(crate) fn verify(scheme: Scheme, password: &[u8], stored: &str, limits: &Limits) -> Result<bool, Refused> {
    let malformed = |what| Refused::Malformed { scheme, what };
    let (value, upgraded) = stored.strip_prefix('U').map_or((stored, false), |rest| (rest, true));
    let length = if scheme == Scheme::Drupal7 { 55 } else { 34 };
    if value.len() != length || !value.bytes().skip(3).all(is_crypt64) {
        return Err(malformed(if length == 55 {
            "it is not 55 characters long"
        } else {
            "it is not 34 characters long"
        }));
    }
    let log2 = crypt64_value(value.as_bytes()[3]).filter(|log2| EXPONENTS.contains(log2));
    let log2 = log2.ok_or(malformed("its count of rounds is not from 2^7 to 2^30"))?;
    if log2 > limits.phpass_log2 {
        return Err(Refused::Cost {
            scheme,
            what: "as log2 of rounds",
            asked: log2.into(),
            cap: limits.phpass_log2.into(),
        });
    }
    if password.len() > MAX_CRYPT_PASSWORD {
        return Ok(false);
    }
    let inner = Zeroizing::new(if upgraded { hex(&Md5::digest(password)).into_bytes() } else { Vec::new() });
    let password = if upgraded { &inner[..] } else { password };
    let computed = hash(scheme, password, value[SALT].as_bytes(), log2, length - SALT.end);
    Ok(computed.as_bytes().ct_eq(&value.as_bytes()[SALT.end..]).into())
}

/// A Drupal 7 value to store.
pub(crate) fn create(password: &[u8], salt: [u8; 6]) -> String {
    let salt = crypt64(&salt);
    let hash = hash(Scheme::Drupal7, password, salt.as_bytes(), NEW_EXPONENT, 43);
    format!("$S${}{salt}{}", crypt64_char(NEW_EXPONENT), *hash)
}

fn hash(scheme: Scheme, password: &[u8], salt: &[u8], log2: u32, length: usize) -> Zeroizing<String> {
    let mut text = if scheme == Scheme::Drupal7 {
        crypt64(&*iterate::<Sha512, 64>(password, salt, log2))
    } else {
        crypt64(&*iterate::<Md5, 16>(password, salt, log2))
    };
    text.truncate(length);
    Zeroizing::new(text)
}

fn iterate<D: Digest, const N: usize>(password: &[u8], salt: &[u8], log2: u32) -> Zeroizing<[u8; N]>
where
    [u8; N]: From<sha2::digest::Output<D>> + Zeroize,
{
    let mut hash = Zeroizing::new(<[u8; N]>::from(D::new().chain_update(salt).chain_update(password).finalize()));
    for _ in 0..1_u32 << log2 {
        *hash = D::new().chain_update(&hash[..]).chain_update(password).finalize().into();
    }
    hash
}
