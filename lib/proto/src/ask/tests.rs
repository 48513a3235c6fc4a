//! The ask protocol: tables of bytes and what they mean, and properties of every message.

use super::*;
use proptest::prelude::*;

fn decode(text: &[u8]) -> String {
    let mut line = text.to_vec();
    match Request::decode(&mut line) {
        Ok(request) => format!("{request:?}"),
        Err(error) => error.to_string(),
    }
}

#[test]
fn requests_read_and_write_as_the_table_says() {
    let login = Request::Login {
        user: b"info@example.jp",
        password: Secret(b"in\tfo\\pa\nss\r\0=\xff"),
        service: b"smtp",
        rip: b"2001:db8::1",
        lip: b"",
    };
    let account = Request::Account { user: b"a@b.c", service: b"", rip: b"" };
    let passwd = Request::Passwd { user: b"a@b.c", old: None, new: Secret(b"") };
    let reset = Request::Limits { action: LimitsAction::Reset, address: Some(b"a@b.c") };
    for (request, wire) in [
        (
            login,
            &b"mailsql\t1\tlogin\tuser=info@example.jp\tpassword=in\\tfo\\\\pa\\nss\\r\\0=\xff\tservice=smtp\trip=2001:db8::1\n"[..],
        ),
        (account, b"mailsql\t1\taccount\tuser=a@b.c\n"),
        (passwd, b"mailsql\t1\tpasswd\tuser=a@b.c\tnew=\n"),
        (Request::User { name: b"x" }, b"mailsql\t1\tuser\tname=x\n"),
        (Request::Uid { id: u32::MAX }, b"mailsql\t1\tuid\tid=4294967295\n"),
        (Request::Group { name: b"x" }, b"mailsql\t1\tgroup\tname=x\n"),
        (Request::Gid { id: 0 }, b"mailsql\t1\tgid\tid=0\n"),
        (Request::Groups { name: b"x" }, b"mailsql\t1\tgroups\tname=x\n"),
        (Request::List { after: None }, b"mailsql\t1\tlist\n"),
        (Request::Flush { address: None }, b"mailsql\t1\tflush\n"),
        (Request::Flush { address: Some(b"") }, b"mailsql\t1\tflush\taddress=\n"),
        (reset, b"mailsql\t1\tlimits\taction=reset\taddress=a@b.c\n"),
        (Request::Explain { address: b"x" }, b"mailsql\t1\texplain\taddress=x\n"),
        (Request::Stats, b"mailsql\t1\tstats\n"),
    ] {
        let mut out = b"before".to_vec();
        request.encode(&mut out).unwrap();
        assert_eq!(&out[6..], wire, "{request:?}");
        assert_eq!(Request::decode(&mut out[6..]).unwrap(), request);
    }
}

#[test]
fn malformed_requests_are_told_apart() {
    for (line, error) in [
        (&b""[..], "not the ask protocol"),
        (b"mailsqlx\t1\tstats", "not the ask protocol"),
        (b"mailsql", "another version of the ask protocol"),
        (b"mailsql\t2\tstats", "another version of the ask protocol"),
        (b"mailsql\t1", "unknown word"),
        (b"mailsql\t1\tLOGIN", "unknown word"),
        (b"mailsql\t1\tlogin\tuser=a", "field password is missing"),
        (b"mailsql\t1\tlogin\tuser=a\tuser=b\tpassword=c", "field user comes the wrong number of times"),
        (b"mailsql\t1\tuser\tname", "field without a value"),
        (b"mailsql\t1\tuser\tname=a\\", "bad escape"),
        (b"mailsql\t1\tuser\tname=a\\x", "bad escape"),
        (b"mailsql\t1\tuser\tname=a\r\n", "bad escape"),
        (b"mailsql\t1\tuser\tname=a\0", "bad escape"),
        (b"mailsql\t1\tuid\tid=-1", "field id is not a number in range"),
        (b"mailsql\t1\tuid\tid=+1", "field id is not a number in range"),
        (b"mailsql\t1\tuid\tid=4294967296", "field id is not a number in range"),
        (b"mailsql\t1\tuid\tid=", "field id is not a number in range"),
        (b"mailsql\t1\tlimits\taction=forget", "unknown word"),
    ] {
        assert_eq!(decode(line), error, "{line:?}");
    }
    assert_eq!(decode(b"mailsql\t1\tstats\tnew_in_version=9\n"), "Stats");
    assert_eq!(decode(&[&b"mailsql\t1\tstats"[..], &b"\ta=".repeat(17)].concat()), "too many fields");
}

#[test]
fn passwords_are_never_printed() {
    let secret = Secret(b"infopass");
    let login = Request::Login { user: b"u", password: secret, service: b"", rip: b"", lip: b"" };
    let passwd = Request::Passwd { user: b"u", old: Some(secret), new: secret };
    for request in [login, passwd] {
        let shown = format!("{request:?} {request:#?}");
        assert!(!shown.contains("infopass") && !shown.contains("105"), "{shown}");
    }
}

fn account(user: &str, quota: Option<u64>) -> Account {
    Account {
        user: user.into(),
        home: b"/v/x".to_vec(),
        uid: 5000,
        gid: 5001,
        maildir: b"/v/x/Maildir/".to_vec(),
        quota,
    }
}

#[test]
fn replies_read_and_write_as_the_table_says() {
    let fields = "home=/v/x\tuid=5000\tgid=5001\tmaildir=/v/x/Maildir/";
    let list = Reply::List { accounts: vec![account("a", None), account("b", Some(9))], more: true };
    let group = Group { name: b"g".to_vec(), gid: 7, members: vec![b"a".to_vec(), b"b,c".to_vec()] };
    for (reply, wire) in [
        (Reply::Account(account("a", Some(1024))), format!("ok\tuser=a\t{fields}\tquota=1024")),
        (Reply::Account(account("a", None)), format!("ok\tuser=a\t{fields}")),
        (Reply::Group(group), "ok\tname=g\tgid=7\tmember=a\tmember=b,c".into()),
        (Reply::Groups(vec![]), "ok\tgroups=0".into()),
        (Reply::Groups(vec![5, 6]), "ok\tgroups=2\tgid=5\tgid=6".into()),
        (list, format!("ok\tentries=2\tmore=1\tuser=a\t{fields}\tuser=b\t{fields}\tquota=9")),
        (Reply::List { accounts: vec![], more: false }, "ok\tentries=0\tmore=0".into()),
        (Reply::Text(b"one\ntwo\t3\n".to_vec()), "ok\ttext=one\\ntwo\\t3\\n".into()),
        (Reply::Done, "ok".into()),
        (Reply::Unknown, "unknown".into()),
        (Reply::Wrong, "wrong".into()),
        (Reply::Disabled, "disabled".into()),
        (Reply::Expired, "expired".into()),
        (Reply::PasswordExpired, "password_expired".into()),
        (Reply::Throttled, "throttled".into()),
        (Reply::Unavailable { reason: vec![] }, "unavailable".into()),
        (Reply::Refused { reason: b"too short".to_vec() }, "refused\treason=too short".into()),
        (Reply::ReadOnly, "readonly".into()),
    ] {
        let mut out = Vec::new();
        reply.encode(LINE_MAX, &mut out).unwrap();
        assert_eq!(String::from_utf8_lossy(&out), format!("mailsql\t1\t{wire}\n"));
        assert_eq!(Reply::decode(&mut out).unwrap(), reply);
    }
}

#[test]
fn replies_that_do_not_add_up_are_malformed() {
    for (line, error) in [
        ("ok\tgroups=2\tgid=5", Malformed::Count("gid")),
        ("ok\tgroups=x\tgid=5", Malformed::Number("groups")),
        ("ok\tentries=1\tmore=0", Malformed::Count("entries")),
        ("ok\tuser=a\tuser=b", Malformed::Count("user")),
        ("ok\tuser=a", Malformed::Missing("home")),
        ("ok\tname=g", Malformed::Missing("gid")),
        ("yes", Malformed::Word),
        ("", Malformed::Word),
    ] {
        let mut bytes = format!("mailsql\t1\t{line}\n").into_bytes();
        assert_eq!(Reply::decode(&mut bytes), Err(error), "{line}");
    }
}

#[test]
fn lines_are_bounded_both_ways() {
    assert_eq!(line(b"abc", 8), Ok(None));
    assert_eq!(line(b"abc\ndef", 8), Ok(Some(4)));
    assert_eq!(line(b"abcdefg\n", 8), Ok(Some(8)));
    assert_eq!(line(b"abcdefgh", 8), Err(Malformed::TooLong));
    assert_eq!(line(b"abcdefgh\n", 8), Err(Malformed::TooLong));
    assert_eq!(line(b"", 8), Ok(None));

    let overhead = b"mailsql\t1\tuser\tname=\n".len();
    for (length, fits) in [(LINE_MAX - overhead, true), (LINE_MAX - overhead + 1, false)] {
        let mut out = Vec::new();
        let done = Request::User { name: &vec![b'x'; length] }.encode(&mut out);
        assert_eq!((done.is_ok(), out.len()), (fits, if fits { LINE_MAX } else { 0 }));
    }
    let mut out = Vec::new();
    let text = Reply::Text(vec![b'\n'; LINE_MAX]);
    assert_eq!(text.encode(LINE_MAX, &mut out), Err(Malformed::TooLong));
    assert!(out.is_empty());
    assert_eq!(text.encode(Request::Stats.reply_max(), &mut out), Ok(()));
    let full = Reply::List { accounts: vec![account(&"x".repeat(254), Some(1)); LIST_PAGE_MAX], more: true };
    assert_eq!(full.encode(BULK_LINE_MAX, &mut Vec::new()), Ok(()));
    assert_eq!(Request::decode(&mut vec![b'a'; LINE_MAX + 1]), Err(Malformed::TooLong));
}

fn bytes() -> impl Strategy<Value = Vec<u8>> {
    let byte = prop_oneof![any::<u8>(), Just(b'\\'), Just(b'\t'), Just(b'\n'), Just(b'\r'), Just(0), Just(b'=')];
    proptest::collection::vec(byte, 0..40)
}

fn accounts() -> impl Strategy<Value = Account> {
    (bytes(), bytes(), any::<u32>(), any::<u32>(), bytes(), any::<Option<u64>>())
        .prop_map(|(user, home, uid, gid, maildir, quota)| Account { user, home, uid, gid, maildir, quota })
}

proptest! {
    #[test]
    fn every_request_survives_the_wire(
        a in bytes(), b in bytes(), c in bytes(), d in bytes(), o in proptest::option::of(bytes()), id in any::<u32>(),
    ) {
        for request in [
            Request::Login { user: &a, password: Secret(&b), service: &c, rip: &d, lip: &a },
            Request::Account { user: &a, service: &b, rip: &c },
            Request::Passwd { user: &a, old: o.as_deref().map(Secret), new: Secret(&b) },
            Request::User { name: &a }, Request::Group { name: &b }, Request::Groups { name: &c },
            Request::Uid { id }, Request::Gid { id },
            Request::List { after: o.as_deref() }, Request::Flush { address: o.as_deref() },
            Request::Limits { action: LimitsAction::Explain, address: o.as_deref() },
            Request::Explain { address: &d }, Request::Stats,
        ] {
            let mut out = Vec::new();
            request.encode(&mut out).unwrap();
            prop_assert_eq!(line(&out, LINE_MAX), Ok(Some(out.len())));
            prop_assert_eq!(Request::decode(&mut out), Ok(request));
        }
    }

    #[test]
    fn every_reply_survives_the_wire(
        list in proptest::collection::vec(accounts(), 0..4), more in any::<bool>(), text in bytes(),
        gids in proptest::collection::vec(any::<u32>(), 0..5), members in proptest::collection::vec(bytes(), 0..4),
    ) {
        for reply in [
            Reply::List { accounts: list.clone(), more },
            list.first().cloned().map_or(Reply::Done, Reply::Account),
            Reply::Group(Group { name: text.clone(), gid: 1, members }),
            Reply::Groups(gids), Reply::Text(text.clone()), Reply::Unavailable { reason: text.clone() },
            Reply::Refused { reason: text },
        ] {
            let mut out = Vec::new();
            reply.encode(LINE_MAX, &mut out).unwrap();
            prop_assert_eq!(line(&out, LINE_MAX), Ok(Some(out.len())));
            prop_assert_eq!(Reply::decode(&mut out), Ok(reply));
        }
    }

    #[test]
    fn noise_is_refused_without_panic_and_what_decodes_encodes_again(noise in bytes(), word in "[a-z]{3,8}") {
        let _ = Request::decode(&mut noise.clone());
        let mut line = format!("mailsql\t1\t{word}\t").into_bytes();
        line.extend_from_slice(&noise);
        let _ = Request::decode(&mut line.clone());
        if let Ok(reply) = Reply::decode(&mut line) {
            let mut out = Vec::new();
            reply.encode(LINE_MAX, &mut out).unwrap();
            prop_assert_eq!(Reply::decode(&mut out), Ok(reply));
        }
    }
}
