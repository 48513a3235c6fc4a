//! One digest, salted or not, and what else is a fixed count of bytes in hex or base64.
//!
//! ```text
//! {SHA}base64   {SHA.HEX}hex   {SHA256}…   {SHA512}…   {PLAIN-MD5}hex or base64   {LDAP-MD5}…   {PLAIN-MD4}…   {NTLM}…
//! {SSHA}base64(SHA1(password salt) salt)   {SMD5}…   {SSHA256}…   {SSHA512}…      salt of one byte or more
//! {CRAM-MD5}…   {DIGEST-MD5}hex(MD5(user:realm:password))
//! ```
//!
//! Without `.HEX` or `.B64`, a value of twice as many characters as the digest has bytes is hex, another base64; salted
//! ones are base64. That is Dovecot's rule, which panels that write `{SHA256}` and 64 hex digits rely on.

use crate::{
    Refused, Scheme,
    alphabet::{unbase64, unhex},
    cram_md5,
    stored::Encoding,
};
use md4::Md4;
use md5::Md5;
use sha1::{Digest, Sha1};
use sha2::{Sha256, Sha512};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

pub(crate) fn verify(
    scheme: Scheme,
    user: Option<&str>,
    password: &[u8],
    body: &[u8],
    encoding: Option<Encoding>,
) -> Result<bool, Refused> {
    let malformed = |what| Refused::Malformed { scheme, what };
    let (length, salted) = match scheme {
        Scheme::Smd5 => (16, true),
        Scheme::Ssha => (20, true),
        Scheme::Ssha256 => (32, true),
        Scheme::Ssha512 => (64, true),
        Scheme::Sha1 => (20, false),
        Scheme::Sha256 => (32, false),
        Scheme::Sha512 => (64, false),
        Scheme::CramMd5 => (cram_md5::LENGTH, false),
        _ => (16, false),
    };
    let hex = match encoding {
        Some(encoding) => encoding == Encoding::Hex,
        None => !salted && body.len() == 2 * length,
    };
    let raw = if hex { unhex(body) } else { unbase64(body) };
    let raw = raw.ok_or(malformed(if hex { "it is not hexadecimal" } else { "it is not base64" }))?;
    let Some((digest, salt)) = raw.split_at_checked(length).filter(|(_, salt)| salt.is_empty() != salted) else {
        return Err(malformed(if salted {
            "it has no salt after the digest"
        } else {
            "it is not as long as the digest"
        }));
    };
    let computed = match scheme {
        Scheme::CramMd5 => cram_md5::state(password),
        Scheme::DigestMd5 => {
            let (user, realm) = split_realm(user.ok_or(Refused::NeedsUser(scheme))?);
            once::<Md5>(&[user.as_bytes(), b":", realm.as_bytes(), b":", password])
        }
        Scheme::Nt => nt(password),
        Scheme::PlainMd4 => once::<Md4>(&[password]),
        Scheme::Sha1 | Scheme::Ssha => once::<Sha1>(&[password, salt]),
        Scheme::Sha256 | Scheme::Ssha256 => once::<Sha256>(&[password, salt]),
        Scheme::Sha512 | Scheme::Ssha512 => once::<Sha512>(&[password, salt]),
        _ => once::<Md5>(&[password, salt]),
    };
    Ok(computed[..].ct_eq(digest).into())
}

/// The digest of the parts.
pub(crate) fn once<D: Digest>(parts: &[&[u8]]) -> Zeroizing<Vec<u8>> {
    let mut hasher = D::new();
    parts.iter().for_each(|part| hasher.update(part));
    Zeroizing::new(hasher.finalize().to_vec())
}

/// Windows hashes UTF-16; a password that is no UTF-8 has no such hash, and gets one that matches nothing likely.
fn nt(password: &[u8]) -> Zeroizing<Vec<u8>> {
    let wide = String::from_utf8_lossy(password).encode_utf16().flat_map(u16::to_le_bytes).collect();
    once::<Md4>(&[&Zeroizing::<Vec<u8>>::new(wide)])
}

/// Dovecot splits at the last `@`; a name without one has the empty realm.
fn split_realm(user: &str) -> (&str, &str) {
    user.rsplit_once('@').unwrap_or((user, ""))
}
