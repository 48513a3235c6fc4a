//! The password schemes by name, and how they rank.
//!
//! Names are stable: configuration, reports and logs use them. Dovecot's spellings are understood as well, in any case.

use crate::limits::UnknownScheme;
use std::{fmt, str::FromStr};

macro_rules! schemes {
    ($($(#[$doc:meta])* $variant:ident = $name:literal, $strength:ident $(, $alias:literal)*;)+) => {
        /// How a password is stored.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        #[non_exhaustive]
        pub enum Scheme { $($(#[$doc])* $variant,)+ }

        impl Scheme {
            /// Every scheme.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// The name, as Display writes it.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)+ }
            }

            pub(crate) const fn strength(self) -> Strength {
                match self { $(Self::$variant => Strength::$strength,)+ }
            }
        }

        impl FromStr for Scheme {
            type Err = UnknownScheme;
            fn from_str(name: &str) -> Result<Self, UnknownScheme> {
                match name.to_ascii_lowercase().as_str() {
                    $($name $(| $alias)* => Ok(Self::$variant),)+
                    _ => Err(UnknownScheme(name.to_owned())),
                }
            }
        }
    };
}

/// How much work a stolen value costs per guess, coarsely; equal schemes are compared by their cost.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Strength {
    /// The password itself.
    Clear,
    /// One fast digest or less, and one that Dovecot 2.4 calls weak.
    Weak,
    /// One unsalted digest.
    Digest,
    /// One salted digest.
    Salted,
    /// Iterated, on digests that graphics cards compute best.
    Iterated,
    /// SHA-256-crypt.
    Sha256Crypt,
    /// SHA-512-crypt.
    Sha512Crypt,
    /// Hard on graphics cards: bcrypt, and argon2 other than argon2id.
    CacheHard,
    /// scrypt and its children.
    Scrypt,
    /// argon2id.
    Argon2id,
    /// Data that a challenge-response mechanism needs, which no hash of another scheme could serve.
    Mechanism,
}

schemes! {
    /// The password itself.
    Plain = "plain", Clear, "clear", "cleartext";
    /// The password, possibly cut: `len-text`.
    PlainTrunc = "plain-trunc", Clear;
    /// Traditional DES crypt(3): 13 characters, 8 significant.
    DesCrypt = "des-crypt", Weak, "des";
    /// Extended DES of BSDi: `_`.
    BsdiCrypt = "bsdi-crypt", Weak;
    /// `$1$`.
    Md5Crypt = "md5-crypt", Weak;
    /// `$apr1$`, Apache's variant of `$1$`.
    Apr1 = "apr1", Weak;
    /// `$md5`, of Solaris.
    SunMd5 = "sunmd5", Iterated;
    /// `$sha1$`, of NetBSD.
    Sha1Crypt = "sha1-crypt", Iterated;
    /// `$5$`.
    Sha256Crypt = "sha256-crypt", Sha256Crypt;
    /// `$6$`.
    Sha512Crypt = "sha512-crypt", Sha512Crypt;
    /// `$2a$ $2b$ $2x$ $2y$`.
    Bcrypt = "bcrypt", CacheHard, "blf-crypt";
    /// `$7$`.
    Scrypt = "scrypt", Scrypt;
    /// `$y$`.
    Yescrypt = "yescrypt", Scrypt;
    /// `$gy$`.
    GostYescrypt = "gost-yescrypt", Scrypt;
    /// Any of crypt(3): for `default_scheme` only, no stored value is detected as this.
    Crypt = "crypt", Weak;
    /// `$argon2i$`.
    Argon2i = "argon2i", CacheHard;
    /// `$argon2d$`.
    Argon2d = "argon2d", CacheHard;
    /// `$argon2id$`.
    Argon2id = "argon2id", Argon2id;
    /// MD4 of the UTF-16 password: `$3$` and `{NTLM}`.
    Nt = "nt", Weak, "ntlm";
    /// MD4.
    PlainMd4 = "plain-md4", Weak;
    /// MD5: `{PLAIN-MD5} {LDAP-MD5} {MD5} {MD5RAW}`, or 32 hex digits.
    PlainMd5 = "plain-md5", Weak, "ldap-md5", "md5raw", "md5";
    /// Salted MD5.
    Smd5 = "smd5", Weak;
    /// SHA-1.
    Sha1 = "sha1", Digest, "sha";
    /// SHA-256.
    Sha256 = "sha256", Digest;
    /// SHA-512.
    Sha512 = "sha512", Digest;
    /// Salted SHA-1.
    Ssha = "ssha", Salted, "ssha1";
    /// Salted SHA-256.
    Ssha256 = "ssha256", Salted;
    /// Salted SHA-512.
    Ssha512 = "ssha512", Salted;
    /// Dovecot's PBKDF2-HMAC-SHA1.
    Pbkdf2 = "pbkdf2", Iterated;
    /// Precomputed HMAC-MD5 state.
    CramMd5 = "cram-md5", Mechanism, "hmac-md5";
    /// MD5 of `user:realm:password`.
    DigestMd5 = "digest-md5", Mechanism;
    /// SCRAM-SHA-1 server data.
    ScramSha1 = "scram-sha-1", Mechanism;
    /// SCRAM-SHA-256 server data.
    ScramSha256 = "scram-sha-256", Mechanism;
    /// MySQL's PASSWORD(): `*` and 40 hex digits.
    Mysql = "mysql", Digest;
    /// MySQL's OLD_PASSWORD(): 16 hex digits.
    MysqlOld = "mysql-old", Weak;
    /// Drupal 7: `$S$`.
    Drupal7 = "drupal7", Iterated;
    /// phpass: `$P$ $H$`.
    Phpass = "phpass", Iterated;
    /// Joomla 1.5: `HEX:salt`.
    Joomla15 = "joomla15", Weak;
}

impl Scheme {
    /// Whether the scheme is computed only when the policy allows it: one round of MD4 or MD5, DES, MD5-crypt, the
    /// old MySQL hash. As Dovecot 2.4 draws the line, plain text and plain SHA are not on this list: they are no
    /// accident of history but somebody's choice, which [`crate::weaker_than`] mends.
    pub fn weak(self) -> bool {
        self.strength() == Strength::Weak || self == Self::DigestMd5
    }
}

impl fmt::Display for Scheme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_parses_to_its_scheme() {
        for &scheme in Scheme::ALL {
            assert_eq!(scheme.to_string().parse(), Ok(scheme));
            assert_eq!(scheme.to_string().to_uppercase().parse(), Ok(scheme));
        }
        assert_eq!("HMAC-MD5".parse(), Ok(Scheme::CramMd5));
        assert_eq!("rot13".parse::<Scheme>(), Err(UnknownScheme("rot13".into())));
    }

    #[test]
    fn a_weak_set_has_a_bit_for_every_scheme() {
        assert!(Scheme::ALL.len() <= 64);
    }
}
