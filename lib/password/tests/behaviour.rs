//! What the column may hold, what is refused, and what pam_mysql's values mean.
#![allow(clippy::unwrap_used, reason = "a value that cannot be created is to stop the test")]

use mailsql_password::{
    Limits, NewHash, Policy, Refused, Scheme, WeakSet, create, detect, dummy, is_locked, os_random,
    pam_mysql::{self, Crypt, NewCrypt},
    verify, verify_as, weaker_than,
};

const SASLT: &str = "$6$saslt$KVnMYjegSr8Jebrfu6CTM9wMltl0ZEQDUZLW7hFgeKShPbwySE8uF16Iv89kXG4F5rCvN7UOIgjodRLBJ4XVC0";
const EMPTY_SALT: &str = "$6$$6QSjyCZ4UTABm7iK56Bu/FSrlxpvZLspm/TLE3/o10bt9Kkf9vk4CzV.eF6R8Xc7oxRO65kpgL.VICoaadDA80";
const DES: &str = "aboCODnQeQkhU";

fn everything() -> Policy {
    Policy { allow_weak: WeakSet::ALL, ..Policy::default() }
}

fn by_default(scheme: Scheme) -> Policy {
    Policy { default_scheme: Some(scheme), ..everything() }
}

#[test]
fn odd_salts_that_crypt_takes_are_taken() {
    assert_eq!(verify(b"infopass", SASLT, &Policy::default()), Ok(true));
    assert_eq!(verify(b"test", EMPTY_SALT, &Policy::default()), Ok(true));
    assert_eq!(verify(b"Test", EMPTY_SALT, &Policy::default()), Ok(false));
}

#[test]
fn locked_values_match_no_password() {
    for stored in [
        "",
        " ",
        "\n",
        "!",
        "!!",
        "*",
        "*0",
        "*1",
        "*LK*",
        "*NP*",
        "!infopass",
        &format!("!{SASLT}"),
        &format!("*{SASLT}"),
        "{CRYPT}",
        "{CRYPT}!",
        "{CRYPT}*",
        "{crypt} ",
        "{SHA512-CRYPT}!$6$x",
        "{SHA}",
        "{PLAIN}",
        "{PLAIN.B64}",
        "{PLAIN-TRUNC}",
        "{SSHA}*",
        "{CRYPT.B64}",
        "{CRYPT.B64}IQ==",
    ] {
        for password in [&b""[..], b"!", b"*", b"*0", b"infopass", stored.as_bytes()] {
            for policy in [Policy::default(), everything(), by_default(Scheme::Plain)] {
                assert_eq!(verify(password, stored, &policy), Ok(false), "{stored:?}");
            }
        }
        assert!(is_locked(stored), "{stored:?}");
        assert_eq!(detect(stored), None, "{stored:?}");
        assert!(!weaker_than(stored, &NewHash::default()), "{stored:?}");
    }
}

#[test]
fn schemes_are_detected_by_mark_then_by_shape() {
    for (stored, scheme) in [
        (SASLT, Some(Scheme::Sha512Crypt)),
        (DES, Some(Scheme::DesCrypt)),
        ("_J9..rasmedve.zDsiA6", Some(Scheme::BsdiCrypt)),
        ("*6C8989366EAF75BB670AD8EA7A7FC1176A95CEF4", Some(Scheme::Mysql)),
        ("6f8c114b58f2ce9e", Some(Scheme::MysqlOld)),
        ("49472fdc24a8d08deac578323659f843", Some(Scheme::PlainMd5)),
        ("8494a16437c6af22ee622a842dce0a09:salt", Some(Scheme::Joomla15)),
        ("{md5raw}49472fdc24a8d08deac578323659f843", Some(Scheme::PlainMd5)),
        ("{MD5}$1$saltsalt$OyXC9FXr8eb5V.bRM2.j30", Some(Scheme::Md5Crypt)),
        ("{SHA512-CRYPT}$5$a$b", Some(Scheme::Sha256Crypt)),
        ("{crypt}$2y$05$x", Some(Scheme::Bcrypt)),
        ("{DES-CRYPT}aboCODnQeQkhU", Some(Scheme::DesCrypt)),
        ("{ARGON2I}$argon2id$v=19$m=8,t=1,p=1$x$y", Some(Scheme::Argon2id)),
        ("{PLAIN}!", Some(Scheme::Plain)),
        ("secret", None),
        ("{secret}", None),
        ("{OTP}sha1 1 a b", None),
        ("{CRYPT}$argon2id$v=19$m=8,t=1,p=1$x$y", None),
        ("{BLF-CRYPT}$6$x$y", None),
        ("{SHA.ROT13}x", None),
    ] {
        assert_eq!(detect(stored), scheme, "{stored}");
    }
}

#[test]
fn the_default_scheme_reads_bare_values_but_not_marked_ones() {
    for (default, stored, password) in [
        (Scheme::Plain, "infopass", "infopass"),
        (Scheme::Plain, DES, DES),
        (Scheme::Plain, "49472fdc24a8d08deac578323659f843", "49472fdc24a8d08deac578323659f843"),
        (Scheme::Plain, "$ecret", "$ecret"),
        (Scheme::Plain, SASLT, "infopass"),
        (Scheme::Plain, "{PLAIN}x", "x"),
        (Scheme::Crypt, DES, "Secret.123"),
        (Scheme::PlainMd5, "49472fdc24a8d08deac578323659f843", "Secret.123"),
        (Scheme::Sha256, "zEFFEbqVy3kXvs/4Uy7U0vnr+XzM+Iqd4bq9jcO+XtQ=", "Secret.123"),
        (Scheme::Ssha, "YOHcW8wTgm6p2YKC/iXtqAV/rewBAgME", "Secret.123"),
        (Scheme::Sha512Crypt, SASLT, "infopass"),
        (Scheme::Mysql, "*6C8989366EAF75BB670AD8EA7A7FC1176A95CEF4", "mypass"),
    ] {
        assert_eq!(verify(password.as_bytes(), stored, &by_default(default)), Ok(true), "{default} {stored}");
        assert_eq!(verify(b"Infopass", stored, &by_default(default)), Ok(false), "{default} {stored}");
    }
    assert_eq!(verify(b"x", "secret", &everything()), Err(Refused::Unknown { name: None }));
    assert_eq!(verify(b"x", "secret", &by_default(Scheme::Crypt)), Err(Refused::Unknown { name: None }));
    assert!(verify(b"x", "secret", &by_default(Scheme::Sha512Crypt)).is_err());
}

#[test]
fn weak_schemes_are_refused_by_name_unless_allowed() {
    let md5 = "{PLAIN-MD5}49472fdc24a8d08deac578323659f843";
    assert_eq!(verify(b"Secret.123", md5, &Policy::default()), Err(Refused::Weak(Scheme::PlainMd5)));
    let allow_weak = "plain-md5".parse().unwrap();
    let policy = Policy { allow_weak, ..Policy::default() };
    assert_eq!(verify(b"Secret.123", md5, &policy), Ok(true));
    assert_eq!(verify(b"Secret.123", DES, &policy), Err(Refused::Weak(Scheme::DesCrypt)));
    assert_eq!(verify(b"Secret.123", DES, &Policy::default()), Ok(true));
    assert_eq!(WeakSet::from_names(["des-crypt", "MD5-CRYPT"]), Ok(WeakSet::default()));
    assert_eq!("all".parse(), Ok(WeakSet::ALL));
    assert_eq!("none".parse(), Ok(WeakSet::NONE));
    assert_eq!("des-crypt, rot13".parse::<WeakSet>().unwrap_err().0, "rot13");
}

#[test]
fn a_cost_above_the_cap_is_refused_before_it_is_paid() {
    let hash = ".".repeat(86);
    let started = std::time::Instant::now();
    for (stored, asked, cap) in [
        (format!("$6$rounds=1000001$salt${hash}"), 1_000_001, 1_000_000),
        (format!("$5$rounds=999999999$salt${}", &hash[..43]), 999_999_999, 1_000_000),
        (format!("$2y$16${}", &hash[..53]), 16, 15),
        (format!("$2y$31${}", &hash[..53]), 31, 15),
        (format!("$2x$31${}", &hash[..53]), 31, 15),
        ("$argon2id$v=19$m=4194304,t=1,p=1$c2FsdHNhbHQ$AAAAAA".into(), 4_194_304, 262_144),
        ("$argon2i$m=262144,t=17,p=1$c2FsdHNhbHQ$AAAAAA".into(), 262_144 * 17, 4_194_304),
        ("$argon2d$v=19$m=8,t=4294967295,p=1$c2FsdHNhbHQ$AAAAAA".into(), 8 * 4_294_967_295, 4_194_304),
        (format!("$y$jET$saltsalt${}", &hash[..43]), 512 << 10, 262_144),
        (format!("$gy$jFT$saltsalt${}", &hash[..43]), 1 << 20, 262_144),
        (format!("$7$IU..../....salt${}", &hash[..43]), 4 << 20, 262_144),
        ("_zzzzsaltzzzzzzzzzzz".into(), (1 << 24) - 1, 1_000_000),
        (format!("$sha1$4000000000$salt${}", &hash[..28]), 4_000_000_000, 1_000_000),
        (format!("$md5,rounds=4000000000$salt$${}", &hash[..22]), 4_000_004_096, 1_000_000),
        (format!("$S$J{}", &hash[..51]), 21, 20),
        (format!("$P$S{}", &hash[..30]), 30, 20),
        (format!("{{PBKDF2}}$1$salt$4000000000${}", "0".repeat(40)), 4_000_000_000, 1_000_000),
        (format!("{{SCRAM-SHA-1}}4000000000,c2FsdA==,{0}=,{0}=", "A".repeat(27)), 4_000_000_000, 1_000_000),
    ] {
        match verify(b"infopass", &stored, &everything()) {
            Err(Refused::Cost { asked: found, cap: limit, .. }) => assert_eq!((found, limit), (asked, cap), "{stored}"),
            other => panic!("{stored}: {other:?}"),
        }
    }
    assert!(started.elapsed().as_millis() < 500, "something was computed");
    let limits = Limits { rounds: 4999, ..Limits::default() };
    assert!(verify(b"infopass", SASLT, &Policy { limits, ..Policy::default() }).is_err());
}

#[test]
fn damaged_values_are_refused_as_damaged() {
    for stored in [
        "$6$",
        "$6$salt",
        "$6$salt$",
        "$6$salt$abc",
        &SASLT[..80],
        "$6$rounds=999$salt$x",
        "$6$rounds=05000$salt$x",
        "$6$rounds=$salt$x",
        "$6$rounds=5000",
        "$6$rounds=1000000000$s$x",
        &SASLT.replace("saslt", "saltsaltsaltsalts"),
        &SASLT.replace("saslt", "sa:lt"),
        "$5$salt$abc",
        "$1$salt$abc",
        "$1$saltsalts$OyXC9FXr8eb5V.bRM2.j30",
        "$2y$05$short",
        "$2y$3$",
        "$2b$99$",
        "$argon2id$",
        "$argon2id$v=20$m=8,t=1,p=1$c2FsdHNhbHQ$AAAAAA",
        "$argon2id$v=19$m=7,t=1,p=1$c2FsdHNhbHQ$AAAAAA",
        "$argon2id$v=19$m=8,t=0,p=1$c2FsdHNhbHQ$AAAAAA",
        "$argon2id$v=19$m=8,t=1,p=0$c2FsdHNhbHQ$AAAAAA",
        "$argon2id$v=19$m=8,t=1,p=1$c2FsdA$AAAAAA",
        "$argon2id$v=19$m=8,t=1,p=1$c2FsdHNhbHQ$",
        "$S$D",
        "$P$B",
        "$y$",
        "$7$",
        "{SHA}abc",
        "{SSHA}U3erh/qbB3esYssYd3PZpGILGBU=",
        "{SHA.HEX}zz",
        "{SHA256}AAAA",
        "{CRAM-MD5}00",
        "{PBKDF2}$1$a$b$c",
        "{SCRAM-SHA-1}4095,c2FsdA==,AAAAAAAAAAAAAAAAAAAAAAAAAAA=,AAAAAAAAAAAAAAAAAAAAAAAAAAA=",
        "{SCRAM-SHA-256}4096",
        "{CRYPT}é",
        "{PLAIN.B64}!",
        "{BLF-CRYPT}$6$x$y",
        "{ARGON2ID}$6$x$y",
    ] {
        let answer = verify(b"infopass", stored, &everything());
        assert!(matches!(answer, Err(Refused::Malformed { .. })), "{stored}: {answer:?}");
    }
}

#[test]
fn a_refusal_names_the_remedy_and_never_the_value() {
    let long = "x".repeat(5000);
    for stored in ["hunter2", "{hunter2}", "{hunter2.hex}x", "$6$hunter2", "$y$hunter2", "{SHA}hunter2", &long] {
        let refused = verify(b"infopass", stored, &everything()).expect_err(stored).to_string();
        assert!(!refused.contains("hunter2") && refused.len() < 300, "{refused}");
        assert!(refused.contains("set a new password"), "{refused}");
    }
    let otp = verify(b"x", "{otp}sha1 1 a b", &everything()).unwrap_err();
    assert!(otp.to_string().contains("OTP"));
}

#[test]
fn long_passwords_match_where_the_scheme_takes_them_and_nowhere_else() {
    let thousand = [b'a'; 1000];
    let ssha = pam_mysql::create(&thousand[..511], Crypt::Ssha, false, &NewCrypt::default(), &mut os_random).unwrap();
    assert_eq!(verify(&thousand[..511], &format!("{{SSHA}}{ssha}"), &everything()), Ok(true));
    assert_eq!(verify(&thousand, &format!("{{SSHA}}{ssha}"), &everything()), Ok(false));
    for stored in [SASLT, EMPTY_SALT, DES, &dummy(&"yescrypt:cost=1".parse().unwrap())] {
        assert_eq!(verify(&thousand, stored, &everything()), Ok(false));
        assert_eq!(verify(b"info\0pass", stored, &everything()), Ok(false));
    }
    assert_eq!(verify(&[b'a'; 4097], &format!("{{PLAIN}}{}", "a".repeat(4000)), &everything()), Ok(false));
}

#[test]
fn a_nul_does_not_cut_the_password() {
    let stored = create(b"abc", &NewHash::Bcrypt { cost: 4 }, &mut os_random).unwrap();
    for (stored, password) in
        [(&*stored, &b"abc\0def"[..]), (SASLT, b"infopass\0"), (DES, b"Secret.1\0"), ("{PLAIN}abc", b"abc\0")]
    {
        assert_eq!(verify(password, stored, &everything()), Ok(false));
    }
}

#[test]
fn digest_md5_needs_the_user() {
    let stored = "{DIGEST-MD5}66d686c16ab279726ddcf7f6cbbb07b5";
    assert_eq!(verify(b"Secret.123", stored, &everything()), Err(Refused::NeedsUser(Scheme::DigestMd5)));
    assert_eq!(verify_as("bob@example.org", b"Secret.123", stored, &everything()), Ok(true));
    assert_eq!(verify_as("bob@example.net", b"Secret.123", stored, &everything()), Ok(false));
    // doveadm pw -u bob, Dovecot 2.3.19.1
    let no_realm = "{DIGEST-MD5}5948db036e38450febdd58547daebeee";
    assert_eq!(verify_as("bob", b"infopass", no_realm, &everything()), Ok(true));
}

#[test]
fn plain_trunc_accepts_a_longer_password_only_at_its_length() {
    // As doveadm pw -t of Dovecot 2.3.19.1 answers, but for the last two, which it reports as lacking a length.
    for (stored, password, matches) in [
        ("{PLAIN-TRUNC}4-info", "infopass", true),
        ("{PLAIN-TRUNC}4-info", "info", true),
        ("{PLAIN-TRUNC}4-info", "inf", false),
        ("{PLAIN-TRUNC}4-info", "", false),
        ("{PLAIN-TRUNC}5-info", "info", true),
        ("{PLAIN-TRUNC}5-info", "infopass", false),
        ("{PLAIN-TRUNC}4-infopass", "infopass", true),
        ("{PLAIN-TRUNC}4-infopass", "info", false),
        ("{PLAIN-TRUNC}0-info", "info", true),
        ("{PLAIN-TRUNC}0-info", "infopass", false),
        ("{PLAIN-TRUNC}0-", "anything", false),
        ("{PLAIN-TRUNC}info", "info", true),
        ("{PLAIN-TRUNC}info", "infopass", false),
    ] {
        assert_eq!(verify(password.as_bytes(), stored, &everything()), Ok(matches), "{stored} {password}");
    }
}

#[test]
fn created_values_look_as_their_readers_expect() {
    let mut zero = |buf: &mut [u8]| buf.fill(0);
    for (kind, begins, length) in [
        ("sha512-crypt", "$6$................$", 106),
        ("sha512-crypt:rounds=6000", "$6$rounds=6000$................$", 118),
        ("bcrypt:cost=4", "$2y$04$......................", 60),
        ("yescrypt:cost=1", "$y$j75$......................$", 73),
        ("argon2id:m=64,t=1", "$argon2id$v=19$m=64,t=1,p=1$AAAAAAAAAAAAAAAAAAAAAA$", 94),
    ] {
        let kind: NewHash = kind.parse().unwrap();
        let stored = create(b"infopass", &kind, &mut zero).unwrap();
        assert!(stored.starts_with(begins), "{stored}");
        assert_eq!(stored.len(), length, "{stored}");
        assert_ne!(create(b"infopass", &kind, &mut os_random), create(b"infopass", &kind, &mut os_random));
    }
}

#[test]
fn passwords_that_peers_would_cut_are_not_hashed() {
    let bcrypt = NewHash::Bcrypt { cost: 4 };
    for (kind, password, says) in [
        (&NewHash::default(), &b""[..], "empty"),
        (&NewHash::default(), b"info\0pass", "NUL"),
        (&NewHash::default(), &[b'a'; 512], "511"),
        (&bcrypt, &[b'a'; 73], "72"),
    ] {
        let refused = create(password, kind, &mut os_random).unwrap_err().to_string();
        assert!(refused.contains(says), "{refused}");
    }
    assert!(create(&[b'a'; 511], &NewHash::default(), &mut os_random).is_ok());
    assert!(create(b"x", &NewHash::Bcrypt { cost: 31 }, &mut os_random).is_err());
    assert!(create(b"x", &NewHash::Sha512Crypt { rounds: 5_000_000 }, &mut os_random).is_err());
}

#[test]
fn a_dummy_is_computed_at_the_cost_of_its_kind_and_matches_nothing() {
    for kind in ["sha512-crypt", "sha512-crypt:rounds=7000", "argon2id:m=64,t=1", "bcrypt:cost=5", "yescrypt:cost=2"] {
        let kind: NewHash = kind.parse().unwrap();
        let stored = dummy(&kind);
        assert_eq!(detect(&stored), Some(kind.scheme()));
        assert!(!weaker_than(&stored, &kind), "{stored}");
        for password in [&b""[..], b"infopass"] {
            assert_eq!(verify(password, &stored, &Policy::default()), Ok(false), "{stored}");
        }
    }
}

#[test]
fn weaker_values_are_to_be_replaced_and_stronger_ones_kept() {
    let bcrypt = format!("$2y$10${}", ".".repeat(53));
    for (stored, kind, replace) in [
        (SASLT, "sha512-crypt", false),
        (SASLT, "sha512-crypt:rounds=5001", true),
        (SASLT, "argon2id", true),
        (SASLT, "bcrypt", true),
        (SASLT, "yescrypt", true),
        (&format!("{{SHA512-CRYPT}}{SASLT}"), "sha512-crypt", false),
        (DES, "sha512-crypt", true),
        ("{PLAIN}infopass", "sha512-crypt", true),
        ("{SHA}e/aU0jWWsttPRsV9s6GINID3YFE=", "sha512-crypt", true),
        ("*6C8989366EAF75BB670AD8EA7A7FC1176A95CEF4", "sha512-crypt", true),
        (&bcrypt, "sha512-crypt", false),
        (&bcrypt, "bcrypt:cost=10", false),
        (&bcrypt, "bcrypt:cost=11", true),
        ("$argon2id$v=19$m=1024,t=1,p=1$x$y", "argon2id:m=1024,t=1", false),
        ("$argon2id$v=19$m=1024,t=1,p=1$x$y", "argon2id:m=1024,t=2", true),
        ("$argon2i$v=19$m=65536,t=4,p=1$x$y", "argon2id", true),
        ("$argon2id$v=19$m=8,t=1,p=1$x$y", "sha512-crypt", false),
        ("$y$j9T$x$y", "yescrypt:cost=5", false),
        ("$y$j9T$x$y", "yescrypt:cost=6", true),
        ("{CRAM-MD5}b430649d85e2b278559d3f29142d1bf712f9acb44f989ece30ffee4c2ba55ab9", "argon2id", false),
        ("{SCRAM-SHA-1}4096,x,y,z", "argon2id", false),
        ("unreadable", "argon2id", false),
    ] {
        assert_eq!(weaker_than(stored, &kind.parse().unwrap()), replace, "{stored} {kind}");
    }
}

#[test]
fn pam_mysql_values_compare_as_its_source_does() {
    let sha512 = "9862c609c27ffe022a40c168666e26ddd6fc3f75d047bb0ffe921716a46ff3ff\
                  bc87a1f31fff47ff7613812968f9ad0cfb4f15dd78ed05c9c3b5aa0abb0b09d9";
    let ssha = "YOHcW8wTgm6p2YKC/iXtqAV/rewBAgME";
    for (crypt, use_323, stored, matches) in [
        ("0", false, "Secret.123", true),
        ("plain", false, "{PLAIN}Secret.123", false),
        ("y", false, DES, true),
        ("1", false, "{CRYPT}aboCODnQeQkhU", false),
        ("1", false, "$1$saltsalt$OyXC9FXr8eb5V.bRM2.j30", true),
        ("1", false, "$1$saltsalt$OyXC9FXr8eb5V.bRM2.j30$", false),
        ("1", false, "$y$j9T$saltsaltsaltsalt$AxVCq2t8rMQOL/252YBrzm7cmuIyY1wQ2MVzlP2fhC9", true),
        ("1", false, "$apr1$saltsalt$ruUbICnVTfeAcMLK2SOyh.", false),
        ("1", false, "*0", false),
        ("2", false, "*7E4A14F6C617022D19C7B5C5B25F9FFA9065B32F", true),
        ("2", false, "*7e4a14f6c617022d19c7b5c5b25f9ffa9065b32f", false),
        ("mysql", true, "05e08b8c6e60d782", true),
        ("mysql", true, "05E08B8C6E60D782", false),
        ("mysql", false, "05e08b8c6e60d782", false),
        ("MD5", false, "49472fdc24a8d08deac578323659f843", true),
        ("3", false, "49472FDC24A8D08DEAC578323659F843", false),
        ("4", false, "5377ab87fa9b0777ac62cb187773d9a4620b1815", true),
        ("5", false, "$S$DsaltSALTuGZjSAWIUJMqhi81BUMxzSSKhLTF7F7SliVs2PLH7rN", true),
        ("drupal7", false, "$P$BsaltSALTXRJ6WRRz3P0febyNf0nWz0", true),
        ("drupal7", false, "49472fdc24a8d08deac578323659f843", false),
        ("6", false, "8494a16437c6af22ee622a842dce0a09:saltsaltsaltsaltsaltsaltsaltsalt", true),
        ("6", false, "8494A16437c6af22ee622a842dce0a09:saltsaltsaltsaltsaltsaltsaltsalt", false),
        ("6", false, "49472fdc24a8d08deac578323659f843", false),
        ("7", false, ssha, true),
        ("7", false, "YOHcW8wTgm6p2YKC/iXtqAV/rewBAgMF", false),
        ("7", false, "{SSHA}YOHcW8wTgm6p2YKC/iXtqAV/rewBAgME", false),
        ("7", false, "AAAA", false),
        ("8", false, sha512, true),
        ("9", false, "cc414511ba95cb7917becff8532ed4d2f9ebf97cccf88a9de1babd8dc3be5ed4", true),
    ] {
        let parsed: Crypt = crypt.parse().unwrap();
        assert_eq!(pam_mysql::verify(b"Secret.123", stored, parsed, use_323), matches, "{crypt} {stored}");
        assert!(!pam_mysql::verify(b"secret.123", stored, parsed, use_323), "{crypt} {stored}");
        assert!(!pam_mysql::verify(b"", "", parsed, use_323), "{crypt} with nothing");
    }
    for bad in ["10", "-1", "", "crypt", "00", "1 "] {
        assert!(bad.parse::<Crypt>().is_err(), "{bad:?}");
    }
}

#[test]
fn pam_mysql_values_created_here_verify_under_the_same_option() {
    for crypt in 0..=9 {
        let crypt: Crypt = crypt.to_string().parse().unwrap();
        for use_323 in [false, true] {
            let stored = pam_mysql::create(b"infopass", crypt, use_323, &NewCrypt::default(), &mut os_random).unwrap();
            assert!(pam_mysql::verify(b"infopass", &stored, crypt, use_323), "{crypt} {stored}");
            assert!(!pam_mysql::verify(b"infopasS", &stored, crypt, use_323), "{crypt} {stored}");
        }
        assert!(pam_mysql::create(b"", crypt, false, &NewCrypt::default(), &mut os_random).is_err());
    }
    for (kind, begins) in [
        (NewCrypt::default(), "$6$"),
        (NewCrypt::Sha256Crypt { rounds: 5000 }, "$5$"),
        (NewCrypt::Sha256Crypt { rounds: 1000 }, "$5$rounds=1000$"),
        (NewCrypt::Md5Crypt, "$1$"),
        (NewCrypt::Hash(NewHash::Bcrypt { cost: 4 }), "$2y$04$"),
    ] {
        let stored = pam_mysql::create(b"infopass", Crypt::Y, false, &kind, &mut os_random).unwrap();
        assert!(stored.starts_with(begins), "{stored}");
        assert!(pam_mysql::verify(b"infopass", &stored, Crypt::Y, false), "{stored}");
    }
    let out = NewCrypt::Sha256Crypt { rounds: 1 };
    assert!(pam_mysql::create(b"infopass", Crypt::Y, false, &out, &mut os_random).is_err());
}
