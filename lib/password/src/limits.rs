//! What a row may cost to check, and which weak schemes are computed at all.
//!
//! A stored value names its own cost, and whoever may write the column may name any: an argon2 value asking for 4 GiB
//! would take the host down with one login. Every verifier compares the cost with [`Limits`] before it computes.

use crate::Scheme;
use std::str::FromStr;

/// Longest password in bytes for SHA-crypt, whose set-up is quadratic in it, for phpass and drupal7, which hash it in
/// every round, and for all that libcrypt computes: libxcrypt refuses 512 bytes. Also the longest that is hashed
/// anew.
pub const MAX_CRYPT_PASSWORD: usize = 511;
/// Longest password in bytes for any scheme.
pub const MAX_PASSWORD: usize = 4096;
/// Longest password in bytes that bcrypt takes in; the rest is ignored when verifying, refused when creating.
pub const MAX_BCRYPT_PASSWORD: usize = 72;
/// Longest stored value in bytes that is looked at: a `varchar(255)` column and room for `.HEX`.
pub const MAX_STORED: usize = 4096;
/// Longest setting in bytes that libxcrypt takes (CRYPT_OUTPUT_SIZE less the NUL).
pub(crate) const MAX_CRYPT_SETTING: usize = 383;

/// Cap on `rounds=`, PBKDF2 and SCRAM iterations: 1,000,000, about half a second of SHA-512-crypt.
pub const MAX_ROUNDS: u32 = 1_000_000;
/// Cap on bcrypt's cost exponent: 15, about two seconds.
pub const MAX_BCRYPT_COST: u32 = 15;
/// Cap on the exponent in phpass and drupal7 values: 20, about half a second.
pub const MAX_PHPASS_LOG2: u32 = 20;
/// Cap on the memory of one argon2, scrypt or yescrypt computation, in KiB: 256 MiB, four times what Dovecot writes.
pub const MAX_MEMORY_KIB: u64 = 256 * 1024;
/// Cap on the memory one computation writes over all its passes, in KiB: 4 GiB, some seconds.
pub const MAX_MEMORY_WORK_KIB: u64 = 4 * 1024 * 1024;

/// Caps on the cost of one verification. A row that asks for more is refused unread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Rounds of `$5$ $6$ $sha1$ $md5$ _`, iterations of PBKDF2 and SCRAM.
    pub rounds: u32,
    /// Exponent of bcrypt.
    pub bcrypt_cost: u32,
    /// Exponent of phpass and drupal7.
    pub phpass_log2: u32,
    /// Memory of argon2, scrypt, yescrypt in KiB.
    pub memory_kib: u64,
    /// Memory times passes of the same, in KiB.
    pub memory_work_kib: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            rounds: MAX_ROUNDS,
            bcrypt_cost: MAX_BCRYPT_COST,
            phpass_log2: MAX_PHPASS_LOG2,
            memory_kib: MAX_MEMORY_KIB,
            memory_work_kib: MAX_MEMORY_WORK_KIB,
        }
    }
}

/// The weak schemes (see [`Scheme::weak`]) that are computed nevertheless.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WeakSet(u64);

impl WeakSet {
    /// No weak scheme.
    pub const NONE: Self = Self(0);
    /// All of them.
    pub const ALL: Self = Self(u64::MAX);

    /// Adds one scheme.
    pub fn allow(&mut self, scheme: Scheme) {
        self.0 |= bit(scheme);
    }

    /// Whether the scheme is in the set.
    pub fn contains(self, scheme: Scheme) -> bool {
        self.0 & bit(scheme) != 0
    }

    /// Parses scheme names; `all` and `none` are understood. The error is the first name that is no scheme.
    pub fn from_names<'a>(names: impl IntoIterator<Item = &'a str>) -> Result<Self, UnknownScheme> {
        let mut set = Self::NONE;
        for name in names {
            match name.trim() {
                all if all.eq_ignore_ascii_case("all") => set = Self::ALL,
                none if none.is_empty() || none.eq_ignore_ascii_case("none") => {}
                name => set.allow(name.parse()?),
            }
        }
        Ok(set)
    }
}

/// What ENCRYPT() left in the mail databases of the MySQL years: DES, and MD5-crypt.
impl Default for WeakSet {
    fn default() -> Self {
        [Scheme::DesCrypt, Scheme::Md5Crypt].into_iter().collect()
    }
}

impl FromIterator<Scheme> for WeakSet {
    fn from_iter<I: IntoIterator<Item = Scheme>>(schemes: I) -> Self {
        let mut set = Self::NONE;
        schemes.into_iter().for_each(|scheme| set.allow(scheme));
        set
    }
}

/// A list with commas or blanks between the names.
impl FromStr for WeakSet {
    type Err = UnknownScheme;
    fn from_str(text: &str) -> Result<Self, UnknownScheme> {
        Self::from_names(text.split([',', ' ', '\t']))
    }
}

fn bit(scheme: Scheme) -> u64 {
    1 << scheme as u32
}

/// A name that is no scheme: the name as configured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownScheme(pub String);

impl std::fmt::Display for UnknownScheme {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "no password scheme is called {:?}; known:", self.0)?;
        Scheme::ALL.iter().try_for_each(|scheme| write!(f, " {scheme}"))
    }
}

impl std::error::Error for UnknownScheme {}

/// What this crate will compute.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    /// Weak schemes that may still log in; by default DES and MD5-crypt.
    pub allow_weak: WeakSet,
    /// Caps on the cost of a row.
    pub limits: Limits,
    /// How to read a bare value that carries no unmistakable mark. Unmistakable are `{SCHEME}`, `$id$` and MySQL's
    /// `*HEX`. Without a default, the shapes of DES (13 characters) and BSDi hashes, of hex digests (16, 32, 40, 64 or
    /// 128 digits) and of Joomla's `HEX:salt` are recognised as well; with one, they are read as the default says,
    /// because a plain text password may look like any of them. [`Scheme::Crypt`] stands for all of crypt(3).
    pub default_scheme: Option<Scheme>,
}
