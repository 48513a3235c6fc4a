//! PBKDF2 as Dovecot stores it, and SCRAM server data.
//!
//! ```text
//! {PBKDF2}$1$salt$iterations$hex(20 bytes)                      HMAC-SHA1, the salt is the text itself
//! {SCRAM-SHA-1}iterations,salt,StoredKey,ServerKey      three in base64; also {SCRAM-SHA-256}; 4096 or more
//! ```
//!
//! Dovecot does no SASLprep, neither do we: such a value was made from the bytes as typed.

use crate::{
    Refused, Scheme,
    alphabet::{unbase64, unhex},
    limits::Limits,
};
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha1::{Digest as _, Sha1};
use sha2::Sha256;
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

/// Fewest iterations that Dovecot accepts in SCRAM data.
const MIN_SCRAM: u32 = 4096;

pub(crate) fn verify_pbkdf2(password: &[u8], stored: &str, limits: &Limits) -> Result<bool, Refused> {
    let scheme = Scheme::Pbkdf2;
    let malformed = Refused::Malformed { scheme, what: "it is not $1$salt$iterations$hex" };
    let mut fields = stored.strip_prefix("$1$").ok_or(malformed)?.split('$');
    let (Some(salt), Some(count), Some(hash), None) = (fields.next(), fields.next(), fields.next(), fields.next())
    else {
        return Err(malformed);
    };
    let count = count.parse().ok().filter(|&count| count > 0).ok_or(malformed)?;
    let hash = unhex(hash.as_bytes()).filter(|hash| hash.len() == 20).ok_or(malformed)?;
    check(scheme, count, limits)?;
    let computed = Zeroizing::new(pbkdf2::pbkdf2_hmac_array::<Sha1, 20>(password, salt.as_bytes(), count));
    Ok(computed.ct_eq(&hash[..]).into())
}

pub(crate) fn verify_scram(scheme: Scheme, password: &[u8], stored: &str, limits: &Limits) -> Result<bool, Refused> {
    let malformed = Refused::Malformed { scheme, what: "it is not iterations,salt,StoredKey,ServerKey" };
    let mut fields = stored.split(',');
    let count = fields.next().and_then(|count| count.parse().ok()).ok_or(malformed)?;
    let mut bytes = || fields.next().and_then(|text| unbase64(text.as_bytes())).ok_or(malformed);
    let (salt, stored_key, server_key) = (bytes()?, bytes()?, bytes()?);
    let length = if scheme == Scheme::ScramSha1 { 20 } else { 32 };
    if fields.next().is_some() || stored_key.len() != length || server_key.len() != length {
        return Err(malformed);
    }
    if count < MIN_SCRAM {
        return Err(Refused::Malformed { scheme, what: "it has fewer than 4096 iterations" });
    }
    check(scheme, count, limits)?;
    let computed = Zeroizing::new(if scheme == Scheme::ScramSha1 {
        let salted = Zeroizing::new(pbkdf2::pbkdf2_hmac_array::<Sha1, 20>(password, &salt, count));
        let mac = Hmac::<Sha1>::new_from_slice(&*salted).map_err(|_| malformed)?;
        Sha1::digest(mac.chain_update(b"Client Key").finalize().into_bytes()).to_vec()
    } else {
        let salted = Zeroizing::new(pbkdf2::pbkdf2_hmac_array::<Sha256, 32>(password, &salt, count));
        let mac = Hmac::<Sha256>::new_from_slice(&*salted).map_err(|_| malformed)?;
        Sha256::digest(mac.chain_update(b"Client Key").finalize().into_bytes()).to_vec()
    });
    Ok(computed[..].ct_eq(&stored_key[..]).into())
}

fn check(scheme: Scheme, count: u32, limits: &Limits) -> Result<(), Refused> {
    if count > limits.rounds {
        return Err(Refused::Cost { scheme, what: "iterations", asked: count.into(), cap: limits.rounds.into() });
    }
    Ok(())
}
