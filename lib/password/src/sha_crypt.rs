//! SHA-256-crypt and SHA-512-crypt.
//!
//! ```text
//! $5$[rounds=N$]salt$hash      43 characters of hash
//! $6$[rounds=N$]salt$hash      86 characters of hash
//! ```
//!
//! salt: 0 to 16 characters, any that libxcrypt takes (also the empty salt, and the five-character ones of
//! hand-written INSERT statements). N: 1000 to 999,999,999 without leading zeros, 5000 when absent; crypt(3) of
//! libxcrypt 4.4 computes nothing outside that, while old glibc clamped, and stored the clamped number.
//!
//! A longer salt is damage: crypt(3) cuts it to 16 in what it returns, so no login ever matched such a row.
//! Security: the time depends on the length of the password, by design of the scheme.
//! Source: Ulrich Drepper, "Unix crypt using SHA-256 and SHA-512", 2008, in the public domain.

use crate::{
    Refused, Scheme,
    alphabet::push_crypt64,
    limits::{Limits, MAX_CRYPT_PASSWORD},
    mixing::{Blocks, is_salt_byte, repeated, stir},
};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

/// Rounds when the value does not say.
pub(crate) const DEFAULT_ROUNDS: u32 = 5000;
/// Fewest rounds crypt(3) computes.
pub(crate) const MIN_ROUNDS: u32 = 1000;
const MAX_ROUNDS: u32 = 999_999_999;
const MAX_SALT: usize = 16;

/// A stored value in its parts.
pub(crate) struct Parts<'a> {
    pub(crate) rounds: u32,
    salt: &'a str,
    hash: &'a str,
}

pub(crate) fn verify(scheme: Scheme, password: &[u8], stored: &str, limits: &Limits) -> Result<bool, Refused> {
    let parts = parse(scheme, stored)?;
    if parts.rounds > limits.rounds {
        return Err(Refused::Cost { scheme, what: "rounds", asked: parts.rounds.into(), cap: limits.rounds.into() });
    }
    if password.len() > MAX_CRYPT_PASSWORD || password.contains(&0) {
        return Ok(false);
    }
    let hash = Zeroizing::new(hash(scheme, password, parts.salt.as_bytes(), parts.rounds));
    Ok(hash.as_bytes().ct_eq(parts.hash.as_bytes()).into())
}

/// A whole value to store; `salt` has at most 16 characters that crypt(3) takes.
pub(crate) fn create(scheme: Scheme, password: &[u8], salt: &str, rounds: u32) -> String {
    format!("{}{}", setting(scheme, salt, rounds), hash(scheme, password, salt.as_bytes(), rounds))
}

/// `$6$salt$`.
pub(crate) fn setting(scheme: Scheme, salt: &str, rounds: u32) -> String {
    let id = if scheme == Scheme::Sha256Crypt { '5' } else { '6' };
    if rounds == DEFAULT_ROUNDS { format!("${id}${salt}$") } else { format!("${id}$rounds={rounds}${salt}$") }
}

pub(crate) fn parse(scheme: Scheme, stored: &str) -> Result<Parts<'_>, Refused> {
    let malformed = |what| Refused::Malformed { scheme, what };
    let length = if scheme == Scheme::Sha256Crypt { 43 } else { 86 };
    let mut rest = stored.get(3..).ok_or(malformed("it ends after its first mark"))?;
    let mut rounds = DEFAULT_ROUNDS;
    if let Some(after) = rest.strip_prefix("rounds=") {
        let (digits, after) = after.split_once('$').ok_or(malformed("rounds= has no end"))?;
        let plain = digits.bytes().all(|digit| digit.is_ascii_digit()) && !digits.starts_with('0');
        rounds = digits.parse().ok().filter(|rounds| plain && (MIN_ROUNDS..=MAX_ROUNDS).contains(rounds)).ok_or(
            malformed(
                "rounds= is not a number from 1000 to 999999999 without leading zeros, which crypt(3) insists on",
            ),
        )?;
        rest = after;
    }
    let (salt, hash) = rest.split_once('$').ok_or(malformed("it has no hash"))?;
    if salt.len() > MAX_SALT || !salt.bytes().all(is_salt_byte) {
        return Err(malformed("the salt has more than 16 characters, or one that crypt(3) does not take"));
    }
    if hash.len() != length {
        return Err(malformed(if length == 43 {
            "the hash is not 43 characters long"
        } else {
            "the hash is not 86 characters long"
        }));
    }
    Ok(Parts { rounds, salt, hash })
}

fn hash(scheme: Scheme, password: &[u8], salt: &[u8], rounds: u32) -> String {
    let mut text = String::with_capacity(86);
    if scheme == Scheme::Sha256Crypt {
        let digest = digest::<Sha256Blocks, sha2::Sha256>(password, salt, rounds);
        // The groups begin 0,10,20; 21,1,11; 12,22,2; 3,13,23; …
        for i in 0..10 {
            push_group(&mut text, [digest[i], digest[i + 10], digest[i + 20]], 2 * i);
        }
        push_crypt64(&mut text, u32::from(digest[31]) << 8 | u32::from(digest[30]), 3);
    } else {
        let digest = digest::<Sha512Blocks, sha2::Sha512>(password, salt, rounds);
        // The groups begin 0,21,42; 22,43,1; 44,2,23; 3,24,45; …
        for i in 0..21 {
            push_group(&mut text, [digest[i], digest[i + 21], digest[i + 42]], i);
        }
        push_crypt64(&mut text, digest[63].into(), 2);
    }
    text
}

fn push_group(text: &mut String, mut group: [u8; 3], turn: usize) {
    group.rotate_left(turn % 3);
    let [high, middle, low] = group.map(u32::from);
    push_crypt64(text, high << 16 | middle << 8 | low, 4);
}

fn digest<H: Blocks, D: sha2::Digest>(password: &[u8], salt: &[u8], rounds: u32) -> Zeroizing<H::Digest>
where
    H::Digest: From<sha2::digest::Output<D>>,
{
    let once = |parts: &[&[u8]]| {
        let mut hasher = D::new();
        parts.iter().for_each(|part| hasher.update(part));
        Zeroizing::new(H::Digest::from(hasher.finalize()))
    };
    let b = once(&[password, salt, password]);
    let b = (*b).as_ref();

    let mut hasher = D::new();
    hasher.update(password);
    hasher.update(salt);
    hasher.update(&*repeated(b, password.len()));
    let mut bits = password.len();
    while bits != 0 {
        hasher.update(if bits & 1 != 0 { b } else { password });
        bits >>= 1;
    }
    let a = Zeroizing::new(H::Digest::from(hasher.finalize()));

    let mut hasher = D::new();
    for _ in 0..password.len() {
        hasher.update(password);
    }
    let dp = Zeroizing::new(H::Digest::from(hasher.finalize()));
    let p = repeated((*dp).as_ref(), password.len());

    let mut hasher = D::new();
    for _ in 0..16 + usize::from((*a).as_ref()[0]) {
        hasher.update(salt);
    }
    let ds = Zeroizing::new(H::Digest::from(hasher.finalize()));
    let s = repeated((*ds).as_ref(), salt.len());

    stir::<H>(rounds, &p, &s, *a)
}

struct Sha256Blocks;

impl Blocks for Sha256Blocks {
    const BLOCK: usize = 64;
    const LENGTH: usize = 8;
    const BIG_ENDIAN: bool = true;
    type Digest = [u8; 32];

    fn hash(padded: &[u8]) -> [u8; 32] {
        let mut state =
            [0x6a09_e667, 0xbb67_ae85, 0x3c6e_f372, 0xa54f_f53a, 0x510e_527f, 0x9b05_688c, 0x1f83_d9ab, 0x5be0_cd19];
        sha2::block_api::compress256(&mut state, padded.as_chunks().0);
        let mut digest = [0; 32];
        for (bytes, word) in digest.as_chunks_mut().0.iter_mut().zip(state) {
            *bytes = word.to_be_bytes();
        }
        digest
    }
}

struct Sha512Blocks;

impl Blocks for Sha512Blocks {
    const BLOCK: usize = 128;
    const LENGTH: usize = 16;
    const BIG_ENDIAN: bool = true;
    type Digest = [u8; 64];

    fn hash(padded: &[u8]) -> [u8; 64] {
        let mut state = [
            0x6a09_e667_f3bc_c908,
            0xbb67_ae85_84ca_a73b,
            0x3c6e_f372_fe94_f82b,
            0xa54f_f53a_5f1d_36f1,
            0x510e_527f_ade6_82d1,
            0x9b05_688c_2b3e_6c1f,
            0x1f83_d9ab_fb41_bd6b,
            0x5be0_cd19_137e_2179,
        ];
        sha2::block_api::compress512(&mut state, padded.as_chunks().0);
        let mut digest = [0; 64];
        for (bytes, word) in digest.as_chunks_mut().0.iter_mut().zip(state) {
            *bytes = word.to_be_bytes();
        }
        digest
    }
}
