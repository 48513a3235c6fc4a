//! Stored password schemes: verify and create.
//!
//! The one verifier behind PAM, saslauthd, Dovecot's auth protocol and the command line. Mail databases hold whatever
//! panels, scripts and database functions wrote in twenty years, often several schemes in one column, so every value is
//! recognised by itself: see `stored.rs` for the grammar, [`Scheme`] for the list, one file a family for the details.
//!
//! * [`verify`] answers yes, no, or [`Refused`]: this row was not computed, and why. A refusal is a matter for the
//!   administrator, never a "try again": to the client it reads as a wrong password.
//! * Costs are capped before they are paid ([`Limits`]), comparisons take constant time, and what was derived from a
//!   password is wiped. Nothing is logged; errors hold neither password nor hash.
//! * crypt(3) methods take no NUL, and those whose cost grows with the password at most 511 bytes, like libxcrypt: a
//!   longer password matches nothing. All others stop at [`MAX_PASSWORD`].
//! * Hashing is blocking work of milliseconds to seconds: keep it off an event loop.

mod alphabet;
mod argon2;
mod bcrypt;
mod cram_md5;
mod create;
mod digest;
mod ffi;
mod iterated;
mod libcrypt;
mod limits;
mod md5_crypt;
mod mixing;
mod mysql;
pub mod pam_mysql;
mod phpass;
mod plain;
mod refused;
mod scheme;
mod sha_crypt;
mod stored;

pub use create::{InvalidNewHash, NewHash, create, dummy, os_random, weaker_than};
pub use limits::{
    Limits, MAX_BCRYPT_COST, MAX_BCRYPT_PASSWORD, MAX_CRYPT_PASSWORD, MAX_MEMORY_KIB, MAX_MEMORY_WORK_KIB,
    MAX_PASSWORD, MAX_PHPASS_LOG2, MAX_ROUNDS, MAX_STORED, Policy, UnknownScheme, WeakSet,
};
pub use refused::Refused;
pub use scheme::Scheme;

/// Verifies `password` against a stored value, detecting the scheme. Constant-time compares.
///
/// A locked value (empty, `!…`, `*…`) is `Ok(false)` for every password. NULL columns are the caller's: never a match.
///
/// # Errors
/// [`Refused`] when the value was not computed; `{DIGEST-MD5}` needs [`verify_as`].
pub fn verify(password: &[u8], stored: &str, policy: &Policy) -> Result<bool, Refused> {
    verify_for(None, password, stored, policy)
}

/// As [`verify`], for callers that know the full user name: `{DIGEST-MD5}` values hash `user:realm` as well, split at
/// the last `@`.
///
/// # Errors
/// [`Refused`] when the value was not computed.
pub fn verify_as(user: &str, password: &[u8], stored: &str, policy: &Policy) -> Result<bool, Refused> {
    verify_for(Some(user), password, stored, policy)
}

/// The scheme of a stored value (for reports), no verification. None for locked and unknown values.
pub fn detect(stored: &str) -> Option<Scheme> {
    stored::parse(stored, None).ok().flatten().map(|stored| stored.scheme)
}

/// Whether a stored value locks the account: no password will ever match it.
pub fn is_locked(stored: &str) -> bool {
    matches!(stored::parse(stored, None), Ok(None))
}

/// crypt(3) of the host's libcrypt, uncapped. For this crate's own comparisons only.
#[doc(hidden)]
pub fn host_crypt(password: &[u8], setting: &str) -> Option<String> {
    ffi::crypt(password, setting)
}

fn verify_for(user: Option<&str>, password: &[u8], stored: &str, policy: &Policy) -> Result<bool, Refused> {
    let Some(stored) = stored::parse(stored, policy.default_scheme)? else { return Ok(false) };
    let scheme = stored.scheme;
    if scheme.weak() && !policy.allow_weak.contains(scheme) {
        return Err(Refused::Weak(scheme));
    }
    if password.len() > MAX_PASSWORD {
        return Ok(false);
    }
    let limits = &policy.limits;
    match scheme {
        Scheme::Plain => Ok(plain::verify(password, &stored.body)),
        Scheme::PlainTrunc => Ok(plain::verify_trunc(password, &stored.body)),
        Scheme::Sha256Crypt | Scheme::Sha512Crypt => sha_crypt::verify(scheme, password, stored.text()?, limits),
        Scheme::Bcrypt => bcrypt::verify(password, stored.text()?, limits),
        Scheme::Md5Crypt | Scheme::Apr1 => md5_crypt::verify(scheme, password, stored.text()?),
        Scheme::Argon2i | Scheme::Argon2d | Scheme::Argon2id => {
            argon2::verify(scheme, password, stored.text()?, limits)
        }
        Scheme::Nt if stored.body.starts_with(b"$3$") => libcrypt::verify(scheme, password, stored.text()?, limits),
        Scheme::DesCrypt
        | Scheme::BsdiCrypt
        | Scheme::SunMd5
        | Scheme::Sha1Crypt
        | Scheme::Scrypt
        | Scheme::Yescrypt
        | Scheme::GostYescrypt => libcrypt::verify(scheme, password, stored.text()?, limits),
        Scheme::Pbkdf2 => iterated::verify_pbkdf2(password, stored.text()?, limits),
        Scheme::ScramSha1 | Scheme::ScramSha256 => iterated::verify_scram(scheme, password, stored.text()?, limits),
        Scheme::Drupal7 | Scheme::Phpass => phpass::verify(scheme, password, stored.text()?, limits),
        Scheme::Joomla15 => plain::verify_joomla(password, stored.text()?),
        Scheme::Mysql | Scheme::MysqlOld => plain::verify_mysql(scheme, password, stored.text()?),
        Scheme::Nt
        | Scheme::PlainMd4
        | Scheme::PlainMd5
        | Scheme::Smd5
        | Scheme::Sha1
        | Scheme::Sha256
        | Scheme::Sha512
        | Scheme::Ssha
        | Scheme::Ssha256
        | Scheme::Ssha512
        | Scheme::CramMd5
        | Scheme::DigestMd5 => digest::verify(scheme, user, password, &stored.body, stored.encoding),
        Scheme::Crypt => Err(Refused::Unknown { name: None }),
    }
}
