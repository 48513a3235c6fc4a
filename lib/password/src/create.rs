//! Hashes for new passwords, the dummy for users who do not exist, and the question whether to hash anew.
//!
//! As configured:
//!
//! ```text
//! sha512-crypt[:rounds=5000]      1000 to the cap; the default, which every peer of the last fifteen years reads
//! argon2id[:m=65536,t=3,p=1]      KiB, passes, lanes
//! bcrypt[:cost=12]                4 to the cap; passwords of at most 72 bytes
//! yescrypt[:cost=5]               1 to 9, as crypt_gensalt(3) counts: 5 takes 16 MiB, each step doubles
//! ```
//!
//! Values are written bare, without `{SCHEME}`: PAM's crypt(3), libxcrypt and Dovecot with a CRYPT default read `$6$`,
//! `$2y$` and `$y$`; argon2id is Dovecot's `{ARGON2ID}` and PHP's.
//!
//! Salts: 96 bits for SHA-512-crypt (its longest), 128 for the others.

use crate::{
    Refused, Scheme,
    alphabet::{crypt64, crypt64_char},
    argon2, bcrypt, ffi, libcrypt,
    limits::{Limits, MAX_BCRYPT_COST, MAX_BCRYPT_PASSWORD, MAX_CRYPT_PASSWORD, MAX_ROUNDS},
    scheme::Strength,
    sha_crypt, stored,
};
use std::{fmt, str::FromStr};

/// Lowest and highest cost for yescrypt, as crypt_gensalt(3) counts; 9 takes 256 MiB, the default cap on memory.
const YESCRYPT_COSTS: std::ops::RangeInclusive<u32> = 1..=9;

/// How new passwords are hashed.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum NewHash {
    /// `$6$`.
    Sha512Crypt {
        /// 1000 to [`MAX_ROUNDS`].
        rounds: u32,
    },
    /// `$argon2id$`.
    Argon2id {
        /// Memory in KiB.
        memory_kib: u32,
        /// Passes over it.
        passes: u32,
        /// Lanes, computed one after the other here.
        lanes: u32,
    },
    /// `$2y$`.
    Bcrypt {
        /// Exponent, 4 to [`MAX_BCRYPT_COST`].
        cost: u32,
    },
    /// `$y$`.
    Yescrypt {
        /// 1 to 9.
        cost: u32,
    },
}

impl NewHash {
    /// The scheme of the values.
    pub fn scheme(&self) -> Scheme {
        match self {
            Self::Sha512Crypt { .. } => Scheme::Sha512Crypt,
            Self::Argon2id { .. } => Scheme::Argon2id,
            Self::Bcrypt { .. } => Scheme::Bcrypt,
            Self::Yescrypt { .. } => Scheme::Yescrypt,
        }
    }

    pub(crate) fn check(&self) -> Result<(), Refused> {
        let scheme = self.scheme();
        let outside = |what| Err(Refused::Malformed { scheme, what });
        match *self {
            Self::Sha512Crypt { rounds } if !(sha_crypt::MIN_ROUNDS..=MAX_ROUNDS).contains(&rounds) => {
                outside("rounds must be from 1000 to 1000000")
            }
            Self::Bcrypt { cost } if !(*bcrypt::COSTS.start()..=MAX_BCRYPT_COST).contains(&cost) => {
                outside("cost must be from 4 to 15")
            }
            Self::Yescrypt { cost } if !YESCRYPT_COSTS.contains(&cost) => outside("cost must be from 1 to 9"),
            Self::Argon2id { memory_kib, passes, lanes } => {
                if lanes == 0 || lanes > argon2::MAX_LANES || passes == 0 || memory_kib < 8 * lanes {
                    return outside("p must be from 1 to 255, t at least 1, m at least 8 p");
                }
                argon2::check(scheme, argon2::Cost { memory: memory_kib, passes, lanes }, &Limits::default())
            }
            _ => Ok(()),
        }
    }
}

/// SHA-512-crypt with crypt(3)'s own 5000 rounds.
impl Default for NewHash {
    fn default() -> Self {
        Self::Sha512Crypt { rounds: sha_crypt::DEFAULT_ROUNDS }
    }
}

/// The spelling that parses back.
impl fmt::Display for NewHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sha512Crypt { rounds } => write!(f, "sha512-crypt:rounds={rounds}"),
            Self::Argon2id { memory_kib, passes, lanes } => write!(f, "argon2id:m={memory_kib},t={passes},p={lanes}"),
            Self::Bcrypt { cost } => write!(f, "bcrypt:cost={cost}"),
            Self::Yescrypt { cost } => write!(f, "yescrypt:cost={cost}"),
        }
    }
}

/// Why a configured hash was not understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidNewHash(String);

impl fmt::Display for InvalidNewHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for InvalidNewHash {}

impl FromStr for NewHash {
    type Err = InvalidNewHash;

    fn from_str(text: &str) -> Result<Self, InvalidNewHash> {
        let (name, settings) = text.split_once(':').unwrap_or((text, ""));
        let mut hash = match name.trim().to_ascii_lowercase().as_str() {
            "sha512-crypt" => Self::default(),
            "argon2id" => Self::Argon2id { memory_kib: 65536, passes: 3, lanes: 1 },
            "bcrypt" | "blf-crypt" => Self::Bcrypt { cost: 12 },
            "yescrypt" => Self::Yescrypt { cost: 5 },
            _ => {
                let known = "sha512-crypt, argon2id, bcrypt, yescrypt";
                return Err(InvalidNewHash(format!("new passwords cannot be hashed with {name:?}; known: {known}")));
            }
        };
        for setting in settings.split(',').map(str::trim).filter(|setting| !setting.is_empty()) {
            let (key, value) = setting.split_once('=').unwrap_or((setting, ""));
            let number = value
                .trim()
                .parse()
                .map_err(|_| InvalidNewHash(format!("{setting:?} in {text:?} is no name=number")))?;
            let place = match (&mut hash, key.trim()) {
                (Self::Sha512Crypt { rounds }, "rounds") => rounds,
                (Self::Argon2id { memory_kib, .. }, "m") => memory_kib,
                (Self::Argon2id { passes, .. }, "t") => passes,
                (Self::Argon2id { lanes, .. }, "p") => lanes,
                (Self::Bcrypt { cost } | Self::Yescrypt { cost }, "cost") => cost,
                _ => return Err(InvalidNewHash(format!("{name} has no setting {key:?}"))),
            };
            *place = number;
        }
        match hash.check() {
            Ok(()) => Ok(hash),
            Err(Refused::Malformed { what, .. }) => Err(InvalidNewHash(format!("{text:?}: {what}"))),
            Err(Refused::Cost { what, asked, cap, .. }) => {
                Err(InvalidNewHash(format!("{text:?} takes {asked} {what}, the limit is {cap}")))
            }
            Err(other) => Err(InvalidNewHash(other.to_string())),
        }
    }
}

/// Hashes a new password. `random` fills a buffer with random bytes: [`os_random`], but for tests.
///
/// # Errors
/// The password is empty, has a NUL byte (crypt(3) and PAM would cut it there), or is longer than 511 bytes (72 for
/// bcrypt, which would ignore the rest); or `kind` is outside its bounds.
pub fn create(password: &[u8], kind: &NewHash, random: &mut dyn FnMut(&mut [u8])) -> Result<String, Refused> {
    check_password(password)?;
    kind.check()?;
    let mut salt = [0; 16];
    random(&mut salt);
    match *kind {
        NewHash::Sha512Crypt { rounds } => {
            Ok(sha_crypt::create(Scheme::Sha512Crypt, password, &crypt64(&salt[..12]), rounds))
        }
        NewHash::Argon2id { memory_kib, passes, lanes } => {
            argon2::create(password, argon2::Cost { memory: memory_kib, passes, lanes }, &salt)
        }
        NewHash::Bcrypt { .. } if password.len() > MAX_BCRYPT_PASSWORD => {
            Err(Refused::NewPassword("is longer than the 72 bytes that bcrypt takes in"))
        }
        NewHash::Bcrypt { cost } => bcrypt::create(password, cost, salt),
        NewHash::Yescrypt { cost } => {
            let setting = format!("{}{}", yescrypt_mark(cost), crypt64(&salt));
            ffi::crypt(password, &setting).ok_or(Refused::OutOfMemory(Scheme::Yescrypt))
        }
    }
}

/// What every new password must be.
pub(crate) fn check_password(password: &[u8]) -> Result<(), Refused> {
    if password.is_empty() {
        return Err(Refused::NewPassword("is empty"));
    }
    if password.contains(&0) {
        return Err(Refused::NewPassword("has a NUL byte, where many programs would cut it"));
    }
    if password.len() > MAX_CRYPT_PASSWORD {
        return Err(Refused::NewPassword("is longer than 511 bytes"));
    }
    Ok(())
}

/// Fills a buffer from the operating system's generator (getrandom(2)), waiting until it is seeded. When even that
/// fails there is no safe way on: the process is aborted rather than given a predictable salt.
pub fn os_random(buf: &mut [u8]) {
    if getrandom::fill(buf).is_err() {
        std::process::abort();
    }
}

/// A stored value of the same cost as `kind` that no password matches: verify against it for a user who does not exist,
/// and the answer takes as long as for one who does. (Its digest is all zeros.)
pub fn dummy(kind: &NewHash) -> String {
    const SALT: &str = "................";
    match *kind {
        NewHash::Sha512Crypt { rounds } => {
            format!("{}{}", sha_crypt::setting(Scheme::Sha512Crypt, SALT, rounds), ".".repeat(86))
        }
        NewHash::Argon2id { memory_kib, passes, lanes } => {
            argon2::dummy(argon2::Cost { memory: memory_kib, passes, lanes })
        }
        NewHash::Bcrypt { cost } => format!("$2y${cost:02}${}", ".".repeat(53)),
        NewHash::Yescrypt { cost } => format!("{}{SALT}${}", yescrypt_mark(cost), ".".repeat(43)),
    }
}

/// Whether a good login should replace `stored` by a hash of `kind`: a weaker scheme, or the same at a lower cost.
///
/// Never for a locked or unreadable value, and never for one that a challenge-response mechanism needs (CRAM-MD5,
/// DIGEST-MD5, SCRAM data): a hash in its place would lock out the clients that use it. Plain text serves those
/// mechanisms too, but is replaced: getting rid of it is what upgrading is for.
pub fn weaker_than(stored: &str, kind: &NewHash) -> bool {
    let Ok(Some(stored)) = stored::parse(stored, None) else { return false };
    let strength = stored.scheme.strength();
    if strength == Strength::Mechanism {
        return false;
    }
    if stored.scheme != kind.scheme() {
        return strength < kind.scheme().strength();
    }
    let Ok(text) = stored.text() else { return false };
    match *kind {
        NewHash::Sha512Crypt { rounds } => {
            sha_crypt::parse(stored.scheme, text).is_ok_and(|parts| parts.rounds < rounds)
        }
        NewHash::Bcrypt { cost } => bcrypt::cost(text).is_ok_and(|stored| stored < cost),
        NewHash::Argon2id { memory_kib, passes, .. } => argon2::cost(stored.scheme, text).is_ok_and(|cost| {
            u64::from(cost.memory) * u64::from(cost.passes) < u64::from(memory_kib) * u64::from(passes)
        }),
        NewHash::Yescrypt { cost } => {
            let work = |value: &str| match libcrypt::cost(Scheme::Yescrypt, value) {
                Ok(libcrypt::Cost::Memory { work_kib, .. }) => Some(work_kib),
                _ => None,
            };
            work(text).zip(work(&yescrypt_mark(cost))).is_some_and(|(stored, new)| stored < new)
        }
    }
}

/// `$y$j9T$`: flags j (the defaults), log2 N less one, r less one. As crypt_gensalt(3): r is 8 below cost 3, then 32.
fn yescrypt_mark(cost: u32) -> String {
    let (log2, r) = if cost < 3 { (cost + 9, 8) } else { (cost + 7, 32) };
    format!("$y$j{}{}$", crypt64_char(log2 - 1), crypt64_char(r - 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn yescrypt_settings_are_those_of_crypt_gensalt() {
        let marks: Vec<_> = (1..=9).map(yescrypt_mark).collect();
        let expected = ["j75", "j85", "j7T", "j8T", "j9T", "jAT", "jBT", "jCT", "jDT"].map(|m| format!("$y${m}$"));
        assert_eq!(marks, expected);
    }

    #[test]
    fn configured_hashes_parse_display_and_parse_again() {
        for (text, expected) in [
            ("sha512-crypt", "sha512-crypt:rounds=5000"),
            ("SHA512-CRYPT:rounds=10000", "sha512-crypt:rounds=10000"),
            ("argon2id", "argon2id:m=65536,t=3,p=1"),
            ("argon2id: m=1024, t=2", "argon2id:m=1024,t=2,p=1"),
            ("bcrypt:cost=10", "bcrypt:cost=10"),
            ("yescrypt:cost=7", "yescrypt:cost=7"),
        ] {
            let kind: NewHash = text.parse().unwrap();
            assert_eq!(kind.to_string(), expected);
            assert_eq!(expected.parse(), Ok(kind));
        }
    }

    #[test]
    fn configured_hashes_outside_their_bounds_are_refused_with_the_bound() {
        for (text, says) in [
            ("md5-crypt", "known: sha512-crypt"),
            ("sha512-crypt:rounds=999", "1000 to 1000000"),
            ("sha512-crypt:rounds=1000001", "1000 to 1000000"),
            ("sha512-crypt:cost=5", "no setting \"cost\""),
            ("bcrypt:cost=3", "4 to 15"),
            ("bcrypt:cost=16", "4 to 15"),
            ("bcrypt:cost=", "name=number"),
            ("argon2id:m=4194304", "the limit is 262144"),
            ("argon2id:m=7", "m at least 8 p"),
            ("yescrypt:cost=10", "1 to 9"),
        ] {
            let error = text.parse::<NewHash>().unwrap_err().to_string();
            assert!(error.contains(says), "{text}: {error}");
        }
    }
}
