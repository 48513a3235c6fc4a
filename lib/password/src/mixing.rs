//! The loop that MD5-crypt, SHA-256-crypt and SHA-512-crypt share.
//!
//! Round `i` hashes, in this order: P if `i` is odd, else the last digest; S unless 3 divides `i`; P unless 7 divides
//! `i`; the last digest if `i` is odd, else P. So there are only eight messages, in which nothing but the last digest
//! changes: they are laid out once, with their padding, and each round writes the digest in its place and runs the
//! block function. That is where the time of a login goes; a hasher object fed piece by piece costs about a fifth more.

use zeroize::{Zeroize, Zeroizing};

/// A Merkle–Damgård hash as its block function.
pub(crate) trait Blocks {
    /// Bytes of a block.
    const BLOCK: usize;
    /// Bytes of the length at the end of the padding.
    const LENGTH: usize;
    /// Whether that length is big endian.
    const BIG_ENDIAN: bool;
    /// The digest.
    type Digest: AsRef<[u8]> + Copy + Zeroize;
    /// Hashes whole blocks, padding included.
    fn hash(padded: &[u8]) -> Self::Digest;
}

struct Message {
    padded: Zeroizing<Vec<u8>>,
    digest_at: usize,
}

/// Runs the rounds, beginning with `digest`.
pub(crate) fn stir<H: Blocks>(rounds: u32, p: &[u8], s: &[u8], mut digest: H::Digest) -> Zeroizing<H::Digest> {
    let mut messages: [Message; 8] = std::array::from_fn(|kind| {
        message::<H>(p, s, digest.as_ref().len(), kind & 1 != 0, kind & 2 != 0, kind & 4 != 0)
    });
    let (mut third, mut seventh) = (0, 0);
    for round in 0..rounds {
        let kind = (round & 1) as usize | usize::from(third != 0) << 1 | usize::from(seventh != 0) << 2;
        third = if third == 2 { 0 } else { third + 1 };
        seventh = if seventh == 6 { 0 } else { seventh + 1 };
        let Message { padded, digest_at } = &mut messages[kind];
        let bytes = digest.as_ref();
        padded[*digest_at..*digest_at + bytes.len()].copy_from_slice(bytes);
        digest = H::hash(padded);
    }
    Zeroizing::new(digest)
}

fn message<H: Blocks>(p: &[u8], s: &[u8], digest: usize, odd: bool, with_s: bool, with_p: bool) -> Message {
    let length = digest + p.len() + if with_s { s.len() } else { 0 } + if with_p { p.len() } else { 0 };
    let mut padded = Zeroizing::new(vec![0; (length + 1 + H::LENGTH).next_multiple_of(H::BLOCK)]);
    let mut at = 0;
    let mut put = |bytes: &[u8]| {
        padded[at..at + bytes.len()].copy_from_slice(bytes);
        at += bytes.len();
    };
    let place = vec![0; digest];
    put(if odd { p } else { &place });
    if with_s {
        put(s);
    }
    if with_p {
        put(p);
    }
    put(if odd { &place } else { p });
    put(&[0x80]);
    let end = padded.len();
    // A message is at most a few KiB, so its bit count fits in the low eight bytes.
    let bits = (length as u64) * 8;
    if H::BIG_ENDIAN {
        padded[end - 8..].copy_from_slice(&bits.to_be_bytes());
    } else {
        padded[end - 8..].copy_from_slice(&bits.to_le_bytes());
    }
    Message { padded, digest_at: if odd { length - digest } else { 0 } }
}

/// `pattern` repeated and cut to `length` bytes.
pub(crate) fn repeated(pattern: &[u8], length: usize) -> Zeroizing<Vec<u8>> {
    Zeroizing::new(pattern.iter().copied().cycle().take(length).collect())
}

/// Whether libxcrypt takes this byte in a salt: printable ASCII but `$ ! * : ; \` and the blank.
pub(crate) fn is_salt_byte(byte: u8) -> bool {
    byte.is_ascii_graphic() && !b"$!*:;\\".contains(&byte)
}
