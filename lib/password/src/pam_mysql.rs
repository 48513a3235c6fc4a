//! The `crypt=` values of pam_mysql 0.8.2, for a module that stands in for it.
//!
//! | value | stored | compared as |
//! | --- | --- | --- |
//! | 0 plain | the password | bytes |
//! | 1 Y | crypt(3) | the whole string |
//! | 2 mysql | `*` and 40 upper-case hex; with use_323_passwd 16 lower-case hex | the whole string |
//! | 3 md5, 4 sha1, 8 sha512, 9 sha256 | lower-case hex, no salt | the whole string |
//! | 5 drupal7 | `$S$ $P$ $H$`, also after a `U` | the whole string |
//! | 6 joomla15 | lower-case hex of MD5(password salt), `:`, salt | the whole string |
//! | 7 ssha | base64 of SHA1(password salt) and salt; no `{SSHA}` | the whole string |
//!
//! What differs, on purpose: an empty stored value matches nothing (pam_mysql lets the empty password in with
//! crypt=0); compares take constant time; costs are capped as [`Limits`] says; no buffer overflows (salts of any
//! length with ssha, passwords over 20 bytes with mysql); a joomla15 value without a colon is a "no", not a crash;
//! `U` values of drupal7 match, as in Drupal. Prefixes like `{CRYPT}` are not understood here, as they are not there.

use crate::{
    Limits, NewHash, Refused, Scheme,
    alphabet::{base64, crypt64, hex, unbase64},
    bcrypt, create as new_hash,
    digest::once,
    libcrypt,
    limits::{MAX_CRYPT_PASSWORD, MAX_PASSWORD, MAX_STORED},
    md5_crypt, mysql, phpass, plain, sha_crypt, stored,
};
use md5::Md5;
use sha1::Sha1;
use sha2::{Sha256, Sha512};
use std::{fmt, str::FromStr};
use zeroize::Zeroizing;

/// Bytes of salt in a new ssha value.
const SSHA_SALT: usize = 8;

/// The `crypt` option.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Crypt {
    /// 0: plain text.
    #[default]
    Plain,
    /// 1: crypt(3).
    Y,
    /// 2: PASSWORD().
    Mysql,
    /// 3: MD5 in hex.
    Md5,
    /// 4: SHA-1 in hex.
    Sha1,
    /// 5: Drupal 7 and phpass.
    Drupal7,
    /// 6: Joomla 1.5.
    Joomla15,
    /// 7: salted SHA-1 in base64.
    Ssha,
    /// 8: SHA-512 in hex.
    Sha512,
    /// 9: SHA-256 in hex.
    Sha256,
}

const NAMES: [(&str, Crypt); 10] = [
    ("plain", Crypt::Plain),
    ("Y", Crypt::Y),
    ("mysql", Crypt::Mysql),
    ("md5", Crypt::Md5),
    ("sha1", Crypt::Sha1),
    ("drupal7", Crypt::Drupal7),
    ("joomla15", Crypt::Joomla15),
    ("ssha", Crypt::Ssha),
    ("sha512", Crypt::Sha512),
    ("sha256", Crypt::Sha256),
];

/// A `crypt` option that pam_mysql does not know either; there the whole call fails with PAM_SERVICE_ERR.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownCrypt(pub String);

impl fmt::Display for UnknownCrypt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "crypt={:?} is not one of 0 to 9", self.0)?;
        NAMES.iter().try_for_each(|(name, _)| write!(f, ", {name}"))
    }
}

impl std::error::Error for UnknownCrypt {}

/// By name in any case, or by number.
impl FromStr for Crypt {
    type Err = UnknownCrypt;

    fn from_str(text: &str) -> Result<Self, UnknownCrypt> {
        let by_number = || match text.as_bytes() {
            [digit @ b'0'..=b'9'] => NAMES.get(usize::from(digit - b'0')),
            _ => None,
        };
        let found = NAMES.iter().find(|(name, _)| name.eq_ignore_ascii_case(text)).or_else(by_number);
        found.map(|&(_, crypt)| crypt).ok_or_else(|| UnknownCrypt(text.to_owned()))
    }
}

impl fmt::Display for Crypt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = NAMES.iter().find(|(_, crypt)| crypt == self).map_or("plain", |(name, _)| name);
        f.write_str(name)
    }
}

/// What crypt=1 writes for a new password. pam_mysql 0.8.2 writes `$1$` or DES, salted from the password itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NewCrypt {
    /// A present-day hash; by default `$6$`. `blowfish` of pam_mysql's master branch is bcrypt, `sha512` is this too.
    Hash(NewHash),
    /// `$5$`: `sha256` of the master branch.
    Sha256Crypt {
        /// 1000 to 1,000,000.
        rounds: u32,
    },
    /// `$1$`: only where `md5=1` asks for it, for peers that read nothing else.
    Md5Crypt,
}

impl Default for NewCrypt {
    fn default() -> Self {
        Self::Hash(NewHash::default())
    }
}

/// Whether `password` matches what the column holds. A NULL column is the caller's: never a match.
pub fn verify(password: &[u8], stored: &str, crypt: Crypt, use_323: bool) -> bool {
    if stored.is_empty() || stored.len() > MAX_STORED || password.len() > MAX_PASSWORD {
        return false;
    }
    let same = |computed: String| plain::verify(Zeroizing::new(computed).as_bytes(), stored.as_bytes());
    match crypt {
        Crypt::Plain => plain::verify(password, stored.as_bytes()),
        Crypt::Y => verify_crypt(password, stored).unwrap_or(false),
        Crypt::Drupal7 => match stored.strip_prefix('U').unwrap_or(stored).get(..3) {
            Some("$S$") => phpass::verify(Scheme::Drupal7, password, stored, &Limits::default()).unwrap_or(false),
            Some("$P$" | "$H$") => {
                phpass::verify(Scheme::Phpass, password, stored, &Limits::default()).unwrap_or(false)
            }
            _ => false,
        },
        Crypt::Joomla15 => stored.split_once(':').is_some_and(|(_, salt)| same(joomla(password, salt))),
        Crypt::Ssha => {
            let raw = unbase64(stored.as_bytes());
            raw.and_then(|raw| raw.get(20..).map(|salt| same(ssha(password, salt)))).unwrap_or(false)
        }
        Crypt::Mysql | Crypt::Md5 | Crypt::Sha1 | Crypt::Sha512 | Crypt::Sha256 => {
            same(unsalted(password, crypt, use_323))
        }
    }
}

/// The value to store for a new password.
///
/// As pam_mysql writes it, but for crypt=1 (see [`NewCrypt`]), and for drupal7 and ssha, where it writes an empty
/// string.
///
/// # Errors
/// The password is empty, has a NUL byte or is longer than 511 bytes (72 for bcrypt); or `kind` is out of bounds.
pub fn create(
    password: &[u8],
    crypt: Crypt,
    use_323: bool,
    kind: &NewCrypt,
    random: &mut dyn FnMut(&mut [u8]),
) -> Result<String, Refused> {
    new_hash::check_password(password)?;
    let mut bytes = Zeroizing::new([0; 32]);
    Ok(match (crypt, kind) {
        (Crypt::Plain, _) => match std::str::from_utf8(password) {
            Ok(text) => text.to_owned(),
            Err(_) => return Err(Refused::NewPassword("is not UTF-8, which a plain text column needs")),
        },
        (Crypt::Y, NewCrypt::Hash(kind)) => new_hash::create(password, kind, random)?,
        (Crypt::Y, &NewCrypt::Sha256Crypt { rounds }) => {
            NewHash::Sha512Crypt { rounds }.check()?;
            random(&mut bytes[..12]);
            sha_crypt::create(Scheme::Sha256Crypt, password, &crypt64(&bytes[..12]), rounds)
        }
        (Crypt::Y, NewCrypt::Md5Crypt) => {
            random(&mut bytes[..6]);
            md5_crypt::create(password, &crypt64(&bytes[..6]))
        }
        (Crypt::Drupal7, _) => {
            let mut salt = [0; 6];
            random(&mut salt);
            phpass::create(password, salt)
        }
        (Crypt::Joomla15, _) => {
            random(&mut bytes[..24]);
            joomla(password, &crypt64(&bytes[..24]))
        }
        (Crypt::Ssha, _) => {
            random(&mut bytes[..SSHA_SALT]);
            ssha(password, &bytes[..SSHA_SALT])
        }
        (Crypt::Mysql | Crypt::Md5 | Crypt::Sha1 | Crypt::Sha512 | Crypt::Sha256, _) => {
            unsalted(password, crypt, use_323)
        }
    })
}

/// crypt(3)(password, stored) == stored. libcrypt itself computes only what has no faster home here.
fn verify_crypt(password: &[u8], stored: &str) -> Result<bool, Refused> {
    let limits = &Limits::default();
    let Some(scheme) = stored::crypt_method(stored).filter(|_| stored.is_ascii()) else { return Ok(false) };
    if password.len() > MAX_CRYPT_PASSWORD {
        return Ok(false);
    }
    match scheme {
        Scheme::Sha256Crypt | Scheme::Sha512Crypt => sha_crypt::verify(scheme, password, stored, limits),
        Scheme::Bcrypt => bcrypt::verify(password, stored, limits),
        // What may follow after another `$` elsewhere is part of the comparison here.
        Scheme::Md5Crypt if stored.matches('$').count() == 3 => md5_crypt::verify(scheme, password, stored),
        Scheme::Md5Crypt => Ok(false),
        _ => libcrypt::verify(scheme, password, stored, limits),
    }
}

fn unsalted(password: &[u8], crypt: Crypt, use_323: bool) -> String {
    match crypt {
        Crypt::Mysql if use_323 => hex(&mysql::old_password(password)),
        Crypt::Mysql => format!("*{}", hex(&mysql::password(password)).to_ascii_uppercase()),
        Crypt::Sha1 => hex(&once::<Sha1>(&[password])),
        Crypt::Sha512 => hex(&once::<Sha512>(&[password])),
        Crypt::Sha256 => hex(&once::<Sha256>(&[password])),
        _ => hex(&once::<Md5>(&[password])),
    }
}

fn joomla(password: &[u8], salt: &str) -> String {
    format!("{}:{salt}", hex(&once::<Md5>(&[password, salt.as_bytes()])))
}

fn ssha(password: &[u8], salt: &[u8]) -> String {
    let mut value = once::<Sha1>(&[password, salt]);
    value.extend_from_slice(salt);
    base64(&value)
}
