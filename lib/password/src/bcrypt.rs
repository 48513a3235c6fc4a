//! bcrypt.
//!
//! ```text
//! $2a$CC$salt(22)hash(31)      also $2b$ $2x$ $2y$; CC 04 to 31
//! ```
//!
//! Base 64 of its own order, the last character of the salt only half used: what writers put into the unused bits is
//! ignored. Bytes after the 72nd are ignored, as everywhere; [`create`](crate::create()) refuses such passwords.
//!
//! Oddities: `$2x$` is a sign-extension bug of 2011 preserved, and `$2a$` in libxcrypt and PHP deviates on purpose
//! for the few 8-bit passwords that the bug confused; both go to libcrypt (`$2a$` only when the password has an 8-bit
//! byte).

use crate::{
    Refused, Scheme, ffi,
    limits::{Limits, MAX_BCRYPT_PASSWORD},
};
use base64::{
    Engine, alphabet,
    engine::{GeneralPurpose, general_purpose::NO_PAD},
};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

/// Bytes of a value.
const LENGTH: usize = 60;
/// `$2b$CC$`.
const SALT_AT: usize = 7;
/// `$2b$CC$` and the salt.
const HASH_AT: usize = SALT_AT + 22;
/// Costs that bcrypt knows.
pub(crate) const COSTS: std::ops::RangeInclusive<u32> = 4..=31;

const BASE64: GeneralPurpose = GeneralPurpose::new(&alphabet::BCRYPT, NO_PAD.with_decode_allow_trailing_bits(true));

pub(crate) fn verify(password: &[u8], stored: &str, limits: &Limits) -> Result<bool, Refused> {
    let scheme = Scheme::Bcrypt;
    let cost = cost(stored)?;
    if cost > limits.bcrypt_cost {
        return Err(Refused::Cost { scheme, what: "as cost", asked: cost.into(), cap: limits.bcrypt_cost.into() });
    }
    let salt = BASE64.decode(&stored[SALT_AT..HASH_AT]).ok().and_then(|salt| <[u8; 16]>::try_from(salt).ok());
    let salt = salt.ok_or(Refused::Malformed { scheme, what: "the salt has a character of another alphabet" })?;
    if password.contains(&0) {
        return Ok(false);
    }
    let computed = Zeroizing::new(match &stored[..4] {
        "$2a$" if password.is_ascii() => raw(password, cost, salt)?,
        "$2b$" | "$2y$" => raw(password, cost, salt)?,
        _ => {
            // Cut where bcrypt cuts, for libcrypt refuses what is longer than 511 bytes.
            let password = password.get(..MAX_BCRYPT_PASSWORD).unwrap_or(password);
            let what = "crypt(3) of this host does not compute it";
            ffi::crypt(password, stored).ok_or(Refused::Malformed { scheme, what })?
        }
    });
    Ok(computed.as_bytes()[HASH_AT..].ct_eq(&stored.as_bytes()[HASH_AT..]).into())
}

/// A whole value to store.
pub(crate) fn create(password: &[u8], cost: u32, salt: [u8; 16]) -> Result<String, Refused> {
    // PHP writes $2y$ and every reader takes it; $2b$ is unknown to Dovecot before 2.3 and to old crypt_blowfish.
    Ok(raw(password, cost, salt)?.replacen("$2b$", "$2y$", 1))
}

/// The cost of a stored value, after a look at its shape.
pub(crate) fn cost(stored: &str) -> Result<u32, Refused> {
    let malformed = |what| Refused::Malformed { scheme: Scheme::Bcrypt, what };
    if stored.len() != LENGTH || !stored.is_ascii() {
        return Err(malformed("it is not 60 characters long"));
    }
    let bytes = stored.as_bytes();
    if bytes[6] != b'$' || !bytes[4].is_ascii_digit() || !bytes[5].is_ascii_digit() {
        return Err(malformed("the cost is not two digits"));
    }
    let cost = u32::from(bytes[4] - b'0') * 10 + u32::from(bytes[5] - b'0');
    if COSTS.contains(&cost) { Ok(cost) } else { Err(malformed("the cost is not from 04 to 31")) }
}

fn raw(password: &[u8], cost: u32, salt: [u8; 16]) -> Result<String, Refused> {
    let parts = bcrypt::hash_with_salt(password, cost, salt)
        .map_err(|_| Refused::Malformed { scheme: Scheme::Bcrypt, what: "the cost is not from 04 to 31" })?;
    Ok(parts.format_for_version(bcrypt::Version::TwoB))
}
