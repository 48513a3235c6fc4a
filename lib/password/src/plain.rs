//! Schemes whose check is a comparison: plain text, Joomla's salted MD5, and MySQL's two.
//!
//! ```text
//! {PLAIN}text   {PLAIN-TRUNC}text   {PLAIN-TRUNC}len-text      a text of len bytes may be the password's beginning
//! 32HEX:salt                        MD5(password salt), split at the first colon
//! *40HEX   16HEX                    see mysql.rs
//! ```
//!
//! Compared in constant time for equal lengths; the length of a plain text password can be timed.

use crate::{Refused, Scheme, alphabet::unhex, digest::once, mysql};
use md5::Md5;
use subtle::ConstantTimeEq;

pub(crate) fn verify(password: &[u8], stored: &[u8]) -> bool {
    !stored.is_empty() && stored.ct_eq(password).into()
}

pub(crate) fn verify_trunc(password: &[u8], stored: &[u8]) -> bool {
    let digits = stored.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let length = std::str::from_utf8(&stored[..digits]).ok().and_then(|digits| digits.parse::<usize>().ok());
    match length {
        Some(length) if stored.get(digits) == Some(&b'-') => {
            let text = &stored[digits + 1..];
            let given = if text.len() == length { password.get(..length).unwrap_or(password) } else { password };
            verify(given, text)
        }
        _ => verify(password, stored),
    }
}

pub(crate) fn verify_joomla(password: &[u8], stored: &str) -> Result<bool, Refused> {
    let malformed =
        Refused::Malformed { scheme: Scheme::Joomla15, what: "it is not 32 hex digits, a colon and a salt" };
    let (hash, salt) = stored.split_once(':').ok_or(malformed)?;
    let hash = unhex(hash.as_bytes()).filter(|hash| hash.len() == 16).ok_or(malformed)?;
    Ok(once::<Md5>(&[password, salt.as_bytes()]).ct_eq(&hash).into())
}

pub(crate) fn verify_mysql(scheme: Scheme, password: &[u8], stored: &str) -> Result<bool, Refused> {
    let malformed = |what| Refused::Malformed { scheme, what };
    if scheme == Scheme::MysqlOld {
        let hash =
            unhex(stored.as_bytes()).filter(|hash| hash.len() == 8).ok_or(malformed("it is not 16 hex digits"))?;
        return Ok(mysql::old_password(password).ct_eq(&hash[..]).into());
    }
    let hash = stored.strip_prefix('*').and_then(|hash| unhex(hash.as_bytes())).filter(|hash| hash.len() == 20);
    Ok(mysql::password(password).ct_eq(&hash.ok_or(malformed("it is not * and 40 hex digits"))?[..]).into())
}
