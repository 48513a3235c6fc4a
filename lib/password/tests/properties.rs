//! Whatever is in the column and whatever is typed: an answer, never a panic.

use mailsql_password::{
    Limits, NewHash, Policy, Scheme, WeakSet, create, detect, is_locked, pam_mysql, verify, weaker_than,
};
use proptest::prelude::*;

/// Cheap enough for arbitrary costs.
fn policy(default_scheme: Option<Scheme>) -> Policy {
    let limits = Limits { rounds: 5000, bcrypt_cost: 4, phpass_log2: 8, memory_kib: 1024, memory_work_kib: 2048 };
    Policy { allow_weak: WeakSet::ALL, limits, default_scheme }
}

/// Text that gets past the first look more often than chance would have it.
fn stored() -> impl Strategy<Value = String> {
    let mark = prop::sample::select(
        "$1$ $2a$04$ $2b$ $2x$04$ $2y$31$ $3$ $5$ $5$rounds= $6$ $6$rounds=1000$ $7$ $7$2/..../.... $y$ $y$j75$ $gy$ $gy$j7 \
         $md5 $md5,rounds= $sha1$ $sha1$100$ _ _/... * ! U$S$ $S$7 $P$7 $H$7 $apr1$ $argon2id$ $argon2i$v=19$m=8,t=1,p=1$ \
         $argon2d$m= {PLAIN} {PLAIN.B64} {PLAIN-TRUNC}3- {CRYPT} {SHA512-CRYPT.B64} {BLF-CRYPT}$2y$04$ {MD5} {SSHA} \
         {SSHA.HEX} {SHA256} {CRAM-MD5} {PBKDF2}$1$ {SCRAM-SHA-1}4096, {ARGON2ID}$argon2id$ {DIGEST-MD5} {OTP} {x {} \
         {NTLM} é"
            .split_whitespace()
            .collect::<Vec<_>>(),
    );
    let rest = prop_oneof!["\\PC{0,70}", "[./0-9A-Za-z$,=]{0,100}", "[0-9a-f]{0,130}", "[A-Za-z0-9+/]{0,90}={0,2}"];
    let marked = (mark, rest.clone()).prop_map(|(mark, rest)| format!("{mark}{rest}"));
    prop_oneof![3 => marked, 1 => rest, 1 => any::<String>()]
}

fn kinds() -> impl Strategy<Value = NewHash> {
    prop_oneof![
        (1000..3000_u32).prop_map(|rounds| NewHash::Sha512Crypt { rounds }),
        (8..64_u32, 1..3_u32, 1..=1_u32).prop_map(|(memory_kib, passes, lanes)| NewHash::Argon2id {
            memory_kib,
            passes,
            lanes
        }),
        Just(NewHash::Bcrypt { cost: 4 }),
        Just(NewHash::Yescrypt { cost: 1 }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_value_and_any_password_get_an_answer(
        stored in stored(),
        password in prop::collection::vec(any::<u8>(), 0..80),
        default in prop::option::of(prop::sample::select(Scheme::ALL)),
    ) {
        let answer = verify(&password, &stored, &policy(default));
        if let Err(refused) = &answer {
            // The text may not give away what is in the column.
            let text = refused.to_string();
            prop_assert!(stored.len() < 16 || !text.contains(&stored));
        }
        if is_locked(&stored) {
            prop_assert_eq!(answer, Ok(false));
            prop_assert_eq!(detect(&stored), None);
        }
        weaker_than(&stored, &NewHash::default());
        for crypt in 0..=9 {
            let crypt: pam_mysql::Crypt = crypt.to_string().parse().map_err(|_| TestCaseError::fail("crypt"))?;
            if crypt != pam_mysql::Crypt::Y {
                pam_mysql::verify(&password, &stored, crypt, true);
            }
        }
    }

    #[test]
    fn a_created_value_verifies_and_needs_no_upgrade(
        password in prop::collection::vec(1..=255_u8, 1..72),
        kind in kinds(),
        seed in any::<u8>(),
    ) {
        let mut random = |buf: &mut [u8]| buf.iter_mut().zip(seed..=255).for_each(|(byte, value)| *byte = value);
        let stored = create(&password, &kind, &mut random).map_err(|refused| TestCaseError::fail(refused.to_string()))?;
        prop_assert_eq!(detect(&stored), Some(kind.scheme()));
        prop_assert_eq!(verify(&password, &stored, &policy(None)), Ok(true));
        prop_assert!(!weaker_than(&stored, &kind));
        let wrong = [&password[..password.len() - 1], &[password[password.len() - 1] ^ 1]].concat();
        // A changed last byte may be a NUL, which matches nothing either.
        prop_assert_eq!(verify(&wrong, &stored, &policy(None)), Ok(false));
    }
}
