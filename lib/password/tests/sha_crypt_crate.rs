//! Our SHA-crypt loops against the sha-crypt crate, which others wrote from the same specification.
#![allow(missing_docs, clippy::unwrap_used)]

use mailsql_password::{Policy, verify};
use proptest::prelude::*;
use sha_crypt::{Algorithm, Params, PasswordHasher, ShaCrypt};

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn what_the_crate_hashes_is_verified_and_nothing_else(
        password in prop::collection::vec(1..=255u8, 1..120),
        salt in prop::collection::vec(any::<u8>(), 6..=12),
        rounds in 1000..3000u32,
        sha512 in any::<bool>(),
    ) {
        let algorithm = if sha512 { Algorithm::Sha512Crypt } else { Algorithm::Sha256Crypt };
        let hasher = ShaCrypt::new(algorithm, Params::new(rounds).unwrap());
        let stored = hasher.hash_password_with_salt(&password, &salt).unwrap().to_string();
        prop_assert_eq!(verify(&password, &stored, &Policy::default()), Ok(true), "{}", stored);
        let mut other = password;
        other[0] = other[0] % 255 + 1;
        prop_assert_eq!(verify(&other, &stored, &Policy::default()), Ok(false), "{}", stored);
    }
}
