//! From the text in the column to a scheme and its data.
//!
//! ```text
//! value  = "{" NAME [ "." ENCODING ] "}" data     Dovecot, PostfixAdmin, iRedMail, Modoboa, Courier; in any case
//!        | "$" ID "$" …                           crypt(3), PHC, phpass, Drupal
//!        | "*" 40HEX                              MySQL's PASSWORD()
//!        | bare                                   as Policy::default_scheme says, else guessed by its shape
//! ENCODING = "HEX" | "B64" | "BASE64"
//! ```
//!
//! Locked, matching no password: nothing at all, nothing after the `}`, and what begins with `!` or `*` (passwd(5)
//! habits; also libxcrypt's failure tokens `*0` and `*1`), the last two also after the `}` unless it is plain text.
//!
//! Blanks and newlines at the end are dropped, imports by hand leave them; not for plain text. For text schemes
//! (crypt(3), plain, SCRAM, PBKDF2, argon2) `.B64` wraps the whole text: PostfixAdmin writes `{SHA512-CRYPT.B64}`.
//!
//! As in Dovecot 2.3, `{SHA512-CRYPT}$5$…` is whatever crypt(3) says of `$5$`, `{MD5}` is MD5-crypt before a `$1$`
//! and a plain digest before anything else, and `{CRYPT}$argon2id$…` is refused, for crypt(3) has no such method.

use crate::{
    Refused, Scheme,
    alphabet::{is_crypt64, unbase64, unhex},
    limits::MAX_STORED,
};
use std::borrow::Cow;

/// How the bytes of a digest are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Encoding {
    Hex,
    Base64,
}

/// A stored value taken apart. No Debug: it may hold a plain text password.
pub(crate) struct Stored<'a> {
    pub(crate) scheme: Scheme,
    /// Without the `{SCHEME}`; text schemes are decoded.
    pub(crate) body: Cow<'a, [u8]>,
    /// The explicit encoding of a digest.
    pub(crate) encoding: Option<Encoding>,
}

impl Stored<'_> {
    /// The body of a text scheme that is ASCII by nature, without blanks at its end.
    pub(crate) fn text(&self) -> Result<&str, Refused> {
        let what = "it has a byte that is not ASCII";
        let text = std::str::from_utf8(&self.body).ok().filter(|text| text.is_ascii() && !text.contains('\0'));
        text.map(str::trim_ascii_end).ok_or(Refused::Malformed { scheme: self.scheme, what })
    }
}

/// None is a locked account.
pub(crate) fn parse(stored: &str, default: Option<Scheme>) -> Result<Option<Stored<'_>>, Refused> {
    let trimmed = stored.trim_ascii_end();
    if stored.len() > MAX_STORED {
        return Err(Refused::Unknown { name: None });
    }
    if is_mysql(trimmed) {
        return Ok(Some(bare(Scheme::Mysql, trimmed)));
    }
    if is_locked(trimmed) {
        return Ok(None);
    }
    if let Some((name, body)) = stored.strip_prefix('{').and_then(|rest| rest.split_once('}')) {
        return prefixed(name, body);
    }
    if let Some(scheme) = marked(trimmed) {
        return Ok(Some(bare(scheme, trimmed)));
    }
    let scheme = match default {
        Some(Scheme::Crypt) => crypt_method(trimmed),
        Some(scheme @ (Scheme::Plain | Scheme::PlainTrunc)) => return Ok(Some(bare(scheme, stored))),
        Some(scheme) => Some(scheme),
        None => crypt_method(trimmed).or_else(|| digest_shape(trimmed)),
    };
    scheme.map(|scheme| Some(bare(scheme, trimmed))).ok_or(Refused::Unknown { name: None })
}

/// The crypt(3) method of a value, by its first characters.
pub(crate) fn crypt_method(value: &str) -> Option<Scheme> {
    const MARKS: [(&str, Scheme); 13] = [
        ("$1$", Scheme::Md5Crypt),
        ("$2a$", Scheme::Bcrypt),
        ("$2b$", Scheme::Bcrypt),
        ("$2x$", Scheme::Bcrypt),
        ("$2y$", Scheme::Bcrypt),
        ("$3$", Scheme::Nt),
        ("$5$", Scheme::Sha256Crypt),
        ("$6$", Scheme::Sha512Crypt),
        ("$7$", Scheme::Scrypt),
        ("$y$", Scheme::Yescrypt),
        ("$gy$", Scheme::GostYescrypt),
        ("$md5", Scheme::SunMd5),
        ("$sha1$", Scheme::Sha1Crypt),
    ];
    let mark = MARKS.iter().find(|(mark, _)| value.starts_with(mark));
    let all_crypt64 = |text: &str| text.bytes().all(is_crypt64);
    mark.map(|&(_, scheme)| scheme).or_else(|| match value.len() {
        13 if all_crypt64(value) => Some(Scheme::DesCrypt),
        20 if value.starts_with('_') && all_crypt64(&value[1..]) => Some(Scheme::BsdiCrypt),
        _ => None,
    })
}

/// Marks that nobody's plain text password bears by accident.
fn marked(value: &str) -> Option<Scheme> {
    const MARKS: [(&str, Scheme); 10] = [
        ("$argon2id$", Scheme::Argon2id),
        ("$argon2i$", Scheme::Argon2i),
        ("$argon2d$", Scheme::Argon2d),
        ("$apr1$", Scheme::Apr1),
        ("$S$", Scheme::Drupal7),
        ("U$S$", Scheme::Drupal7),
        ("$P$", Scheme::Phpass),
        ("$H$", Scheme::Phpass),
        ("U$P$", Scheme::Phpass),
        ("U$H$", Scheme::Phpass),
    ];
    let mark = MARKS.iter().find(|(mark, _)| value.starts_with(mark)).map(|&(_, scheme)| scheme);
    mark.or_else(|| if value.starts_with('$') { crypt_method(value) } else { None })
}

/// Digests that only their length betrays.
fn digest_shape(value: &str) -> Option<Scheme> {
    let is_hex = |text: &str| text.bytes().all(|byte| byte.is_ascii_hexdigit());
    if let Some((hash, _)) = value.split_once(':') {
        return (hash.len() == 32 && is_hex(hash)).then_some(Scheme::Joomla15);
    }
    let scheme = match value.len() {
        16 => Scheme::MysqlOld,
        32 => Scheme::PlainMd5,
        40 => Scheme::Sha1,
        64 => Scheme::Sha256,
        128 => Scheme::Sha512,
        _ => return None,
    };
    is_hex(value).then_some(scheme)
}

fn prefixed<'a>(name: &str, body: &'a str) -> Result<Option<Stored<'a>>, Refused> {
    let name = name.to_ascii_uppercase();
    let (name, encoding) = match name.split_once('.') {
        None => (&*name, None),
        Some((name, "HEX")) => (name, Some(Encoding::Hex)),
        Some((name, "B64" | "BASE64")) => (name, Some(Encoding::Base64)),
        Some(_) => return Err(Refused::Unknown { name: None }),
    };
    let form = match name {
        "PLAIN" | "CLEAR" | "CLEARTEXT" => Form::Plain(Scheme::Plain),
        "PLAIN-TRUNC" => Form::Plain(Scheme::PlainTrunc),
        "CRYPT" | "DES-CRYPT" | "MD5-CRYPT" | "SHA256-CRYPT" | "SHA512-CRYPT" => Form::Crypt,
        "BLF-CRYPT" => Form::Bcrypt,
        "ARGON2I" | "ARGON2ID" | "ARGON2D" => Form::Argon2,
        "PBKDF2" => Form::Text(Scheme::Pbkdf2),
        "SCRAM-SHA-1" => Form::Text(Scheme::ScramSha1),
        "SCRAM-SHA-256" => Form::Text(Scheme::ScramSha256),
        "MD5" if body.starts_with("$1$") => Form::Text(Scheme::Md5Crypt),
        "MD5" | "PLAIN-MD5" | "LDAP-MD5" | "MD5RAW" => Form::Digest(Scheme::PlainMd5),
        "PLAIN-MD4" => Form::Digest(Scheme::PlainMd4),
        "NTLM" => Form::Digest(Scheme::Nt),
        "SMD5" => Form::Digest(Scheme::Smd5),
        "SHA" | "SHA1" => Form::Digest(Scheme::Sha1),
        "SHA256" => Form::Digest(Scheme::Sha256),
        "SHA512" => Form::Digest(Scheme::Sha512),
        "SSHA" => Form::Digest(Scheme::Ssha),
        "SSHA256" => Form::Digest(Scheme::Ssha256),
        "SSHA512" => Form::Digest(Scheme::Ssha512),
        "CRAM-MD5" | "HMAC-MD5" => Form::Digest(Scheme::CramMd5),
        "DIGEST-MD5" => Form::Digest(Scheme::DigestMd5),
        _ => {
            const HEARD_OF: [&str; 7] = ["OTP", "SKEY", "RPA", "LANMAN", "LM", "SASL", "SCRAM-SHA-512"];
            return Err(Refused::Unknown { name: HEARD_OF.into_iter().find(|known| *known == name) });
        }
    };
    let trimmed = body.trim_ascii_end();
    if let Form::Plain(scheme) = form {
        return Ok(text(scheme, body, encoding)?.filter(|stored| !stored.body.is_empty()));
    }
    if is_locked(trimmed) {
        return Ok(None);
    }
    match form {
        Form::Plain(scheme) | Form::Text(scheme) => text(scheme, trimmed, encoding),
        Form::Digest(scheme) => Ok(Some(Stored { scheme, body: trimmed.as_bytes().into(), encoding })),
        Form::Crypt => crypt(Scheme::Crypt, trimmed, encoding),
        Form::Bcrypt => {
            let stored = crypt(Scheme::Bcrypt, trimmed, encoding)?;
            let other = stored.as_ref().is_some_and(|stored| stored.scheme != Scheme::Bcrypt);
            let what = "it does not begin with $2";
            if other { Err(Refused::Malformed { scheme: Scheme::Bcrypt, what }) } else { Ok(stored) }
        }
        Form::Argon2 => {
            let Some(mut stored) = text(Scheme::Argon2id, trimmed, encoding)? else { return Ok(None) };
            // libsodium verifies either kind under either name.
            let found = std::str::from_utf8(&stored.body).ok().and_then(marked);
            let kinds = [Scheme::Argon2i, Scheme::Argon2d, Scheme::Argon2id];
            let what = "it does not begin with $argon2";
            stored.scheme = found
                .filter(|found| kinds.contains(found))
                .ok_or(Refused::Malformed { scheme: Scheme::Argon2id, what })?;
            Ok(Some(stored))
        }
    }
}

/// How what follows a `{SCHEME}` is read.
#[derive(Clone, Copy)]
enum Form {
    Plain(Scheme),
    Text(Scheme),
    Digest(Scheme),
    Crypt,
    Bcrypt,
    Argon2,
}

/// A text scheme, its encoding undone. Locked when empty.
fn text(scheme: Scheme, body: &str, encoding: Option<Encoding>) -> Result<Option<Stored<'_>>, Refused> {
    let decoded = match encoding {
        None => return Ok(Some(Stored { scheme, body: body.as_bytes().into(), encoding: None })),
        Some(Encoding::Hex) => unhex(body.trim_ascii_end().as_bytes()),
        Some(Encoding::Base64) => unbase64(body.trim_ascii_end().as_bytes()),
    };
    let what = "the text inside .HEX or .B64 cannot be decoded";
    let body = decoded.ok_or(Refused::Malformed { scheme, what })?.into();
    Ok(Some(Stored { scheme, body, encoding: None }))
}

/// A crypt(3) value under any of its names.
fn crypt(named: Scheme, body: &str, encoding: Option<Encoding>) -> Result<Option<Stored<'_>>, Refused> {
    let Some(mut stored) = text(named, body, encoding)? else { return Ok(None) };
    let value = stored.text()?;
    if is_locked(value) {
        return Ok(None);
    }
    let what = "it is of no method that crypt(3) knows (an argon2 value needs {ARGON2ID} or no prefix)";
    stored.scheme = crypt_method(value).ok_or(Refused::Malformed { scheme: named, what })?;
    Ok(Some(stored))
}

fn bare(scheme: Scheme, body: &str) -> Stored<'_> {
    let encoding = match scheme {
        // A default scheme "sha256" over bare values: hex by length, as in {SHA256}.
        Scheme::Mysql | Scheme::MysqlOld => Some(Encoding::Hex),
        _ => None,
    };
    Stored { scheme, body: body.as_bytes().into(), encoding }
}

fn is_locked(value: &str) -> bool {
    value.is_empty() || value.starts_with(['!', '*'])
}

fn is_mysql(value: &str) -> bool {
    value.strip_prefix('*').is_some_and(|hex| hex.len() == 40 && hex.bytes().all(|byte| byte.is_ascii_hexdigit()))
}
