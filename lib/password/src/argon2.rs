//! argon2i, argon2d and argon2id in PHC strings.
//!
//! ```text
//! $argon2id$[v=16$|v=19$]m=KIB,t=PASSES,p=LANES$salt$hash      base64 without padding; no v= means 16
//! ```
//!
//! salt 8 to 64 bytes, hash 4 to 64. Parameters in this order, as the reference library, libsodium and PHP write them.
//! Security: `m` and `t` come from the row and are capped before any memory is asked for. Lanes are computed one after
//! the other, so p raises neither speed nor memory.

use crate::{
    Refused, Scheme,
    alphabet::{base64, unbase64},
    ffi::Memory,
    limits::Limits,
};
use argon2::{Algorithm, Argon2, Params, Version};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

const MAX_SALT: usize = 64;
const MAX_HASH: usize = 64;
/// Bytes of hash in new values.
const NEW_HASH: usize = 32;
/// Most lanes; more are unheard of, and each needs 8 KiB.
pub(crate) const MAX_LANES: u32 = 255;

/// What one computation costs.
#[derive(Clone, Copy)]
pub(crate) struct Cost {
    /// Memory in KiB.
    pub(crate) memory: u32,
    /// Passes over it.
    pub(crate) passes: u32,
    /// Lanes.
    pub(crate) lanes: u32,
}

pub(crate) fn verify(scheme: Scheme, password: &[u8], stored: &str, limits: &Limits) -> Result<bool, Refused> {
    let malformed = |what| Refused::Malformed { scheme, what };
    let (cost, version, rest) = parse(scheme, stored)?;
    check(scheme, cost, limits)?;
    let (salt, hash) = rest.split_once('$').ok_or(malformed("it has no hash"))?;
    let salt = unbase64(salt.as_bytes()).ok_or(malformed("the salt is not base64"))?;
    let hash = unbase64(hash.as_bytes()).ok_or(malformed("the hash is not base64"))?;
    if !(argon2::MIN_SALT_LEN..=MAX_SALT).contains(&salt.len()) {
        return Err(malformed("the salt is not of 8 to 64 bytes"));
    }
    if !(Params::MIN_OUTPUT_LEN..=MAX_HASH).contains(&hash.len()) {
        return Err(malformed("the hash is not of 4 to 64 bytes"));
    }
    let mut computed = Zeroizing::new([0; MAX_HASH]);
    let computed = &mut computed[..hash.len()];
    compute(scheme, version, password, &salt, cost, computed)?;
    Ok((*computed).ct_eq(&hash).into())
}

/// A whole argon2id value to store.
pub(crate) fn create(password: &[u8], cost: Cost, salt: &[u8]) -> Result<String, Refused> {
    let mut hash = Zeroizing::new([0; NEW_HASH]);
    compute(Scheme::Argon2id, Version::V0x13, password, salt, cost, &mut *hash)?;
    Ok(format(cost, salt, &*hash))
}

/// A value no password matches.
pub(crate) fn dummy(cost: Cost) -> String {
    format(cost, &[0; 16], &[0; NEW_HASH])
}

/// The cost of a stored value.
pub(crate) fn cost(scheme: Scheme, stored: &str) -> Result<Cost, Refused> {
    parse(scheme, stored).map(|(cost, ..)| cost)
}

/// Compares with the limits.
pub(crate) fn check(scheme: Scheme, Cost { memory, passes, .. }: Cost, limits: &Limits) -> Result<(), Refused> {
    let (memory, passes) = (u64::from(memory), u64::from(passes));
    if memory > limits.memory_kib {
        return Err(Refused::Cost { scheme, what: "KiB of memory", asked: memory, cap: limits.memory_kib });
    }
    if memory * passes > limits.memory_work_kib {
        let what = "KiB of memory times passes";
        return Err(Refused::Cost { scheme, what, asked: memory * passes, cap: limits.memory_work_kib });
    }
    Ok(())
}

fn format(Cost { memory, passes, lanes }: Cost, salt: &[u8], hash: &[u8]) -> String {
    let (salt, hash) = (base64(salt), base64(hash));
    let (salt, hash) = (salt.trim_end_matches('='), hash.trim_end_matches('='));
    format!("$argon2id$v=19$m={memory},t={passes},p={lanes}${salt}${hash}")
}

fn parse(scheme: Scheme, stored: &str) -> Result<(Cost, Version, &str), Refused> {
    let malformed = |what| Refused::Malformed { scheme, what };
    let rest = stored.get(1..).and_then(|rest| rest.split_once('$')).ok_or(malformed("it has no parameters"))?.1;
    let (version, rest) = match rest.split_once('$') {
        Some(("v=19", rest)) => (Version::V0x13, rest),
        Some(("v=16", rest)) => (Version::V0x10, rest),
        Some((other, _)) if other.starts_with("v=") => return Err(malformed("v= is neither 16 nor 19")),
        _ => (Version::V0x10, rest),
    };
    let (parameters, rest) = rest.split_once('$').ok_or(malformed("it has no salt"))?;
    let mut numbers = parameters.split(',');
    let mut number = |name: &str| -> Option<u32> { numbers.next()?.strip_prefix(name)?.parse().ok() };
    let cost = (|| Some(Cost { memory: number("m=")?, passes: number("t=")?, lanes: number("p=")? }))();
    let cost = cost.filter(|_| numbers.next().is_none()).ok_or(malformed("its parameters are not m=, t=, p="))?;
    if cost.lanes == 0 || cost.lanes > MAX_LANES || cost.passes == 0 || cost.memory < 8 * cost.lanes {
        return Err(malformed("m=, t= or p= is too small, or p= too large"));
    }
    Ok((cost, version, rest))
}

fn compute(
    scheme: Scheme,
    version: Version,
    password: &[u8],
    salt: &[u8],
    Cost { memory, passes, lanes }: Cost,
    out: &mut [u8],
) -> Result<(), Refused> {
    let algorithm = match scheme {
        Scheme::Argon2i => Algorithm::Argon2i,
        Scheme::Argon2d => Algorithm::Argon2d,
        _ => Algorithm::Argon2id,
    };
    let failed = |_| Refused::Malformed { scheme, what: "its parameters are outside argon2's own limits" };
    let params = Params::new(memory, passes, lanes, Some(out.len())).map_err(failed)?;
    let mut space = Memory::new(params.block_count()).ok_or(Refused::OutOfMemory(scheme))?;
    Argon2::new(algorithm, version, params)
        .hash_password_into_with_memory(password, salt, out, space.blocks())
        .map_err(failed)
}
