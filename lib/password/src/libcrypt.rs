//! The crypt(3) methods left to the host's libcrypt, with their cost read beforehand.
//!
//! | mark | method | cost in the value |
//! | --- | --- | --- |
//! | 13 characters | DES | fixed |
//! | `_` | BSDi's DES | 4 characters: rounds |
//! | `$7$` | scrypt | 1 character N, 5 characters r, 5 characters p |
//! | `$y$`, `$gy$` | yescrypt, gost-yescrypt | flags, N, r, then p, t, g, of one character or more each |
//! | `$md5` | SunMD5 | `,rounds=N` or `$rounds=N` on top of 4096 |
//! | `$sha1$` | SHA1-crypt | decimal rounds |
//! | `$3$` | NT | none |
//!
//! yescrypt's numbers grow with the first character: see [`yescrypt_number`]. Values that use its ROM are refused, for
//! this host has none. libcrypt's answer is compared with the whole stored value, in constant time.

use crate::{
    Refused, Scheme,
    alphabet::crypt64_value,
    ffi,
    limits::{Limits, MAX_CRYPT_PASSWORD},
};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

/// Rounds that SunMD5 adds to what the value says.
const SUN_BASIC_ROUNDS: u64 = 4096;

pub(crate) fn verify(scheme: Scheme, password: &[u8], stored: &str, limits: &Limits) -> Result<bool, Refused> {
    cost(scheme, stored)?.check(scheme, limits)?;
    if password.len() > MAX_CRYPT_PASSWORD || password.contains(&0) {
        return Ok(false);
    }
    let what = "crypt(3) of this host does not compute it";
    let computed = Zeroizing::new(ffi::crypt(password, stored).ok_or(Refused::Malformed { scheme, what })?);
    Ok(computed.as_bytes().ct_eq(stored.as_bytes()).into())
}

/// What a value asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cost {
    Fixed,
    Rounds(u64),
    Memory { kib: u64, work_kib: u64 },
}

impl Cost {
    fn check(self, scheme: Scheme, limits: &Limits) -> Result<(), Refused> {
        let (what, asked, cap) = match self {
            Self::Fixed => return Ok(()),
            Self::Rounds(rounds) => ("rounds", rounds, limits.rounds.into()),
            Self::Memory { kib, .. } if kib > limits.memory_kib => ("KiB of memory", kib, limits.memory_kib),
            Self::Memory { work_kib, .. } => ("KiB of memory times passes", work_kib, limits.memory_work_kib),
        };
        if asked > cap { Err(Refused::Cost { scheme, what, asked, cap }) } else { Ok(()) }
    }
}

/// Reads the cost; an error is a value that libcrypt would not compute either.
pub(crate) fn cost(scheme: Scheme, stored: &str) -> Result<Cost, Refused> {
    let malformed = Refused::Malformed { scheme, what: "its cost cannot be read" };
    let bytes = stored.as_bytes();
    Ok(match scheme {
        Scheme::BsdiCrypt => Cost::Rounds(number(bytes.get(1..5).ok_or(malformed)?).ok_or(malformed)?),
        Scheme::Scrypt => scrypt(bytes.get(3..14).ok_or(malformed)?).ok_or(malformed)?,
        Scheme::Yescrypt => yescrypt(bytes.get(3..).ok_or(malformed)?).ok_or(malformed)?,
        Scheme::GostYescrypt => yescrypt(bytes.get(4..).ok_or(malformed)?).ok_or(malformed)?,
        Scheme::Sha1Crypt => {
            let rounds = stored.strip_prefix("$sha1$").and_then(|rest| rest.split('$').next()?.parse().ok());
            Cost::Rounds(rounds.ok_or(malformed)?)
        }
        Scheme::SunMd5 => {
            let rest = stored.strip_prefix("$md5").ok_or(malformed)?;
            let rounds = match rest.get(..8) {
                Some(",rounds=" | "$rounds=") => {
                    rest[8..].split('$').next().and_then(|n| n.parse().ok()).ok_or(malformed)?
                }
                _ => 0_u64,
            };
            Cost::Rounds(rounds.saturating_add(SUN_BASIC_ROUNDS))
        }
        _ => Cost::Fixed,
    })
}

/// Characters of six bits, lowest first.
fn number(characters: &[u8]) -> Option<u64> {
    characters.iter().rev().try_fold(0, |value, &c| Some(value << 6 | u64::from(crypt64_value(c)?)))
}

fn scrypt(parameters: &[u8]) -> Option<Cost> {
    let log2 = crypt64_value(*parameters.first()?)?;
    memory(log2, number(&parameters[1..6])?, number(&parameters[6..11])?)
}

fn yescrypt(mut rest: &[u8]) -> Option<Cost> {
    let _flags = yescrypt_number(&mut rest, 0)?;
    let log2 = yescrypt_number(&mut rest, 1)?;
    let r = yescrypt_number(&mut rest, 1)?;
    let (mut p, mut t) = (1, 0);
    if rest.first() != Some(&b'$') {
        let have = yescrypt_number(&mut rest, 1)?;
        if have & 1 != 0 {
            p = yescrypt_number(&mut rest, 2)?;
        }
        if have & 2 != 0 {
            t = yescrypt_number(&mut rest, 1)?;
        }
        // 4: hash upgrades, 8: a ROM. libxcrypt computes neither.
        if have & !3 != 0 || rest.first() != Some(&b'$') {
            return None;
        }
    }
    memory(log2.try_into().ok()?, r, p.saturating_mul(t.saturating_add(1)))
}

/// yescrypt's numbers: the first character says by its range how many follow, the low ranges being short.
/// Up to 47 one character; from 48 on two, the next range half as long three, and so on; offset by `least`.
fn yescrypt_number(rest: &mut &[u8], least: u64) -> Option<u64> {
    let mut next = || {
        let (&first, others) = rest.split_first()?;
        *rest = others;
        crypt64_value(first).map(u64::from)
    };
    let first = next()?;
    let (mut start, mut end, mut more, mut value) = (0, 47, 0_u32, least);
    while first > end {
        value = value.checked_add((end + 1 - start) << (6 * more))?;
        start = end + 1;
        end = start + (62 - end) / 2;
        more += 1;
    }
    value = value.checked_add((first - start) << (6 * more))?;
    for place in (0..more).rev() {
        value = value.checked_add(next()? << (6 * place))?;
    }
    Some(value)
}

/// 128 r bytes for each of N blocks.
fn memory(log2: u32, r: u64, passes: u64) -> Option<Cost> {
    let n = 1_u64.checked_shl(log2).filter(|_| log2 > 0)?;
    if r == 0 || passes == 0 {
        return None;
    }
    let kib = n.saturating_mul(r).div_ceil(8);
    Some(Cost::Memory { kib, work_kib: kib.saturating_mul(passes) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn costs_are_read_as_libxcrypt_writes_them() {
        let memory = |mib: u64| Cost::Memory { kib: mib << 10, work_kib: mib << 10 };
        for (scheme, stored, expected) in [
            (Scheme::Yescrypt, "$y$j75$k2XAnEHBqQ1Ct2aMXFKNa/$", memory(1)),
            (Scheme::Yescrypt, "$y$j9T$k2XAnEHBqQ1Ct2aMXFKNa/$", memory(16)),
            (Scheme::Yescrypt, "$y$jFT$k2XAnEHBqQ1Ct2aMXFKNa/$", memory(1024)),
            (Scheme::GostYescrypt, "$gy$j9T$k2XAnEHBqQ1Ct2aMXFKNa/$", memory(16)),
            (Scheme::Scrypt, "$7$CU..../....k2XAnEHBqQ1Ct2aMXFKNa/$", memory(64)),
            (Scheme::BsdiCrypt, "_J9..rasm", Cost::Rounds(725)),
            (Scheme::Sha1Crypt, "$sha1$249552$qI1BtUnBX7KM$", Cost::Rounds(249_552)),
            (Scheme::SunMd5, "$md5,rounds=45105$mA1BpMnB$", Cost::Rounds(49_201)),
            (Scheme::SunMd5, "$md5$mA1BpMnB$", Cost::Rounds(4096)),
            (Scheme::DesCrypt, "aboCODnQeQkhU", Cost::Fixed),
        ] {
            assert_eq!(cost(scheme, stored), Ok(expected), "{stored}");
        }
    }

    #[test]
    fn a_cost_that_cannot_be_read_is_damage() {
        for (scheme, stored) in [
            (Scheme::Yescrypt, "$y$"),
            (Scheme::Yescrypt, "$y$j9T6x$abcd$"),
            (Scheme::Yescrypt, "$y$jzzzzzzzzzzzzzzz$abcd$"),
            (Scheme::Scrypt, "$7$CU../....."),
            (Scheme::Scrypt, "$7$C.........../salt$"),
            (Scheme::Sha1Crypt, "$sha1$x$y$z"),
            (Scheme::SunMd5, "$md5,rounds=-1$x"),
            (Scheme::BsdiCrypt, "_J9!.rasm"),
        ] {
            assert!(matches!(cost(scheme, stored), Err(Refused::Malformed { .. })), "{stored}");
        }
    }
}
