//! Random values against the host's crypt(3): what it computes verifies here, with the same answer for a wrong
//! password.
//!
//! MAILSQL_CASES=N sets the count (400 when absent); the seed is printed with a failure through the case itself.
#![allow(clippy::unwrap_used, reason = "a host without libcrypt is to stop the test")]

use mailsql_password::{NewHash, Policy, Refused, WeakSet, create, host_crypt, pam_mysql, verify};

const CRYPT64: &[u8] = b"./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// splitmix64: the same cases on every run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % end as u64).unwrap()
    }

    fn text(&mut self, length: usize, alphabet: &[u8]) -> String {
        (0..length).map(|_| char::from(alphabet[self.below(alphabet.len())])).collect()
    }

    /// Mostly what people type; sometimes long, sometimes any bytes but NUL.
    fn password(&mut self) -> Vec<u8> {
        let length = match self.below(10) {
            0 => 0,
            1 => self.below(512),
            2 => 60 + self.below(70),
            _ => self.below(20),
        };
        let ascii = self.below(3) > 0;
        (0..length).map(|_| if ascii { b' ' + self.below(95) as u8 } else { 1 + self.below(255) as u8 }).collect()
    }

    fn setting(&mut self) -> String {
        // All that libxcrypt takes in a salt.
        let graphic: Vec<u8> = (0x21..0x7f).filter(|byte| !b"!$*:;\\".contains(byte)).collect();
        let rounds = ["".to_owned(), "rounds=1000$".to_owned(), format!("rounds={}$", 1000 + self.below(3000))];
        let rounds = &rounds[self.below(3)];
        match self.below(12) {
            0..=2 => format!("$6${rounds}{}$", {
                let n = self.below(17);
                self.text(n, &graphic)
            }),
            3..=4 => format!("$5${rounds}{}$", {
                let n = self.below(17);
                self.text(n, &graphic)
            }),
            5..=6 => format!("$1${}$", {
                let n = self.below(9);
                self.text(n, &graphic)
            }),
            7..=8 => {
                let letter = ["a", "b", "x", "y"][self.below(4)];
                format!("$2{letter}$04${}{}", self.text(21, CRYPT64), [".", "O", "e", "u"][self.below(4)])
            }
            9 => self.text(2, CRYPT64),
            10 => format!("_/...{}", self.text(4, CRYPT64)),
            _ => format!("$y$j75${}$", {
                let n = 4 * self.below(6);
                self.text(n, CRYPT64)
            }),
        }
    }
}

fn cases() -> usize {
    std::env::var("MAILSQL_CASES").ok().and_then(|text| text.parse().ok()).unwrap_or(400)
}

#[test]
fn what_crypt_computes_verifies_and_nothing_else_does() {
    let policy = Policy { allow_weak: WeakSet::ALL, ..Policy::default() };
    let mut random = Random(1);
    for case in 0..cases() {
        let (password, setting) = (random.password(), random.setting());
        let stored = host_crypt(&password, &setting);
        let stored = stored.unwrap_or_else(|| panic!("case {case}: crypt(3) refuses {setting:?}"));
        assert_eq!(verify(&password, &stored, &policy), Ok(true), "case {case}: {password:?} {stored}");
        assert!(pam_mysql::verify(&password, &stored, pam_mysql::Crypt::Y, false), "case {case}: {stored}");
        let mut other = password.clone();
        match random.below(3) {
            0 => other.push(b'x'),
            1 if !other.is_empty() => other.truncate(other.len() - 1),
            _ => other = random.password(),
        }
        let same = host_crypt(&other, &stored).as_ref() == Some(&stored);
        assert_eq!(verify(&other, &stored, &policy), Ok(same), "case {case}: {other:?} {stored}");
    }
}

#[test]
fn a_damaged_value_never_matches_where_crypt_does_not() {
    let policy = Policy { allow_weak: WeakSet::ALL, ..Policy::default() };
    let mut random = Random(2);
    for case in 0..cases() / 2 {
        let (password, setting) = (random.password(), random.setting());
        let mut stored = host_crypt(&password, &setting).unwrap().into_bytes();
        let at = random.below(stored.len());
        match random.below(3) {
            0 => stored.truncate(at),
            1 => stored[at] = b'!' + random.below(94) as u8,
            _ => stored.insert(at, b'!' + random.below(94) as u8),
        }
        let stored = String::from_utf8(stored).unwrap();
        // The spare bits of bcrypt's last salt character, and what follows an MD5-crypt hash, are ignored on purpose.
        if stored.starts_with("$2") || stored.starts_with("$1$") {
            continue;
        }
        let same = host_crypt(&password, &stored).as_ref() == Some(&stored);
        let ours = verify(&password, &stored, &policy);
        assert!(same || ours != Ok(true), "case {case}: {stored}");
        let capped = matches!(ours, Err(Refused::Cost { .. }));
        assert!(!same || capped || ours == Ok(true), "case {case}: {stored}: {ours:?}");
    }
}

#[test]
fn crypt_reads_the_values_created_here() {
    let mut random = Random(3);
    for kind in ["sha512-crypt", "sha512-crypt:rounds=1000", "bcrypt:cost=4", "yescrypt:cost=1", "yescrypt:cost=5"] {
        let kind: NewHash = kind.parse().unwrap();
        for password in [&b"infopass"[..], "Grüße 日本".as_bytes(), b"x", &[b'a'; 72]] {
            let mut fill = |buf: &mut [u8]| buf.iter_mut().for_each(|byte| *byte = random.below(256) as u8);
            let stored = create(password, &kind, &mut fill).unwrap();
            assert_eq!(host_crypt(password, &stored).as_ref(), Some(&stored), "{kind}");
        }
    }
}
