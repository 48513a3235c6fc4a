//! Every value in vectors.txt, made by other software, matches its password and no other.

#![allow(clippy::unwrap_used, reason = "a broken vector file is to stop the test")]

use mailsql_password::{Policy, Scheme, WeakSet, detect, verify};

fn everything() -> Policy {
    Policy { allow_weak: WeakSet::ALL, ..Policy::default() }
}

fn password(text: &str) -> Vec<u8> {
    if let Some(hex) = text.strip_prefix("hex:") {
        return (0..hex.len()).step_by(2).map(|i| u8::from_str_radix(&hex[i..i + 2], 16).unwrap()).collect();
    }
    if let Some((c, count)) = text.strip_prefix("repeat:").and_then(|rest| rest.split_once('*')) {
        return c.repeat(count.parse().unwrap()).into_bytes();
    }
    text.as_bytes().to_vec()
}

fn vectors() -> impl Iterator<Item = (Scheme, Vec<u8>, &'static str)> {
    include_str!("vectors.txt").lines().filter(|line| !line.starts_with('#')).map(|line| {
        let mut fields = line.splitn(3, '\t');
        let mut field = || fields.next().unwrap();
        (field().parse().unwrap(), password(field()), field())
    })
}

#[test]
fn values_of_other_software_are_detected_and_accept_their_password() {
    for (scheme, password, stored) in vectors() {
        assert_eq!(detect(stored), Some(scheme), "{stored}");
        assert_eq!(verify(&password, stored, &everything()), Ok(true), "{stored} with {} bytes", password.len());
    }
}

#[test]
fn values_of_other_software_reject_any_other_password() {
    for (scheme, password, stored) in vectors() {
        // DES takes eight characters, bcrypt 72, of seven and eight bits: change the first.
        let mut wrong = password.clone();
        match wrong.first_mut() {
            Some(first) => *first ^= 1,
            None => wrong.push(b'x'),
        }
        assert_eq!(verify(&wrong, stored, &everything()), Ok(false), "{stored}");
        if !matches!(scheme, Scheme::DesCrypt | Scheme::Bcrypt) || password.len() < 8 {
            let longer = [&password[..], b"x"].concat();
            assert_eq!(verify(&longer, stored, &everything()), Ok(false), "{stored} with one byte more");
        }
    }
}

#[test]
fn every_scheme_has_at_least_two_values_made_elsewhere() {
    for &scheme in Scheme::ALL {
        let count = vectors().filter(|(found, ..)| *found == scheme).count();
        // crypt is a name for any of them; DIGEST-MD5 needs a user; argon2d no program at hand writes.
        let elsewhere = [Scheme::Crypt, Scheme::DigestMd5, Scheme::Argon2d];
        assert!(count >= 2 || elsewhere.contains(&scheme), "{scheme}: {count}");
    }
}

#[test]
fn blanks_after_a_hash_are_dropped_and_after_plain_text_are_not() {
    for stored in [
        "{SHA}e/aU0jWWsttPRsV9s6GINID3YFE=",
        "{SHA512-CRYPT}$6$kiePqEfsR.eedjeG$0E/Vp/SICr8zBWZTwglUHF.xZKlvQ5znuE8wpqOu1AvLWgmW3.NLcISKTsugCFdB.meXqqC0ZWjhxEmNKSuID.",
        "$6$kiePqEfsR.eedjeG$0E/Vp/SICr8zBWZTwglUHF.xZKlvQ5znuE8wpqOu1AvLWgmW3.NLcISKTsugCFdB.meXqqC0ZWjhxEmNKSuID.",
        "BiHD0GfaCyvao",
        "2d20a69102f4b5fb2751b86553cdea04",
    ] {
        assert_eq!(verify(b"infopass", &format!("{stored} \r\n"), &everything()), Ok(true), "{stored}");
    }
    assert_eq!(verify(b"infopass", "{PLAIN}infopass\n", &everything()), Ok(false));
    assert_eq!(verify(b"infopass\n", "{PLAIN}infopass\n", &everything()), Ok(true));
}
