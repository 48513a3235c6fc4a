//! Direct mode with a scripted database.

use std::cell::RefCell;
use std::io::ErrorKind;

use mailsql_store::direct::Row;
use pam::constants::{PAM_CHANGE_EXPIRED_AUTHTOK, PAM_DISALLOW_NULL_AUTHTOK, PamFlag};

use super::*;
use crate::module::{PAM_PRELIM_CHECK, PAM_UPDATE_AUTHTOK, run_with};
use crate::script::Script;

const LINE: [&str; 6] =
    ["user=mail", "passwd=mailpass", "db=mail", "table=emails", "usercolumn=name", "passwdcolumn=password"];
const LOG: [&str; 7] = [
    "sqllog",
    "logtable=log",
    "logmsgcolumn=msg",
    "logusercolumn=user",
    "loghostcolumn=host",
    "logrhostcolumn=rhost",
    "logtimecolumn=t",
];

/// A database that answers the same each time and remembers what was written.
struct Book {
    rows: Result<Rows, Unavailable>,
    written: RefCell<Vec<String>>,
}

impl Book {
    fn one(password: Option<&str>, status: Option<&str>) -> Self {
        let bytes = |text: &str| text.as_bytes().to_vec();
        Self::rows(Ok(Rows::One(Row { password: password.map(bytes), status: status.map(bytes) }, false)))
    }

    fn rows(rows: Result<Rows, Unavailable>) -> Self {
        Self { rows, written: RefCell::new(Vec::new()) }
    }

    fn call(&self, host: &mut Script, hook: Hook, more: &[&str], flags: PamFlag) -> PamResultCode {
        let arguments: Vec<&[u8]> = LINE.iter().chain(more).map(|a| a.as_bytes()).collect();
        let settings = Settings::find(host, &arguments);
        run_with(&mut Database::new(self), host, hook, &settings, flags)
    }
}

impl Accounts for &Book {
    fn find(&mut self, source: &Source<'_>, lookup: &Lookup<'_>, user: &[u8]) -> Result<Rows, Unavailable> {
        assert_eq!((source.user, source.password, source.database), ("mail", "mailpass", "mail"));
        assert_eq!((lookup.table, lookup.user_column, lookup.password_column), ("emails", "name", "password"));
        assert_eq!(user, b"info@example.jp");
        self.rows.clone()
    }

    fn reach(&mut self, _: &Source<'_>) -> Result<(), Unavailable> {
        self.rows.clone().map(drop)
    }

    fn update(&mut self, _: &Source<'_>, _: &Lookup<'_>, _: &[u8], hash: &[u8]) -> Result<(), Unavailable> {
        self.written.borrow_mut().push(String::from_utf8(hash.to_vec()).unwrap());
        Ok(())
    }

    fn log(&mut self, _: &Source<'_>, log: &Log<'_>) -> Result<(), Unavailable> {
        assert_eq!((log.table, log.time_column), ("log", "t"));
        let values = log.values.iter().filter(|(column, _)| *column != "host");
        let line: Vec<String> = values.map(|(c, v)| format!("{c}={}", String::from_utf8_lossy(v))).collect();
        self.written.borrow_mut().push(line.join(" "));
        Ok(())
    }
}

#[test]
fn rows_become_codes_as_pam_mysql_has_them() {
    use PamResultCode::*;
    let down = || Err(Unavailable::Connect(ErrorKind::ConnectionRefused));
    for (book, password, flags, nullok, code) in [
        (Book::one(Some("secret"), Some("0")), Some("secret"), 0, false, PAM_SUCCESS),
        (Book::one(Some("secret"), Some("1")), Some("secret"), 0, false, PAM_SUCCESS),
        (Book::one(Some("secret"), Some("0")), Some("Secret"), 0, false, PAM_AUTH_ERR),
        (Book::one(Some("secret"), Some("0")), Some(""), 0, false, PAM_AUTH_ERR),
        (Book::one(Some(""), Some("0")), Some(""), 0, true, PAM_AUTH_ERR),
        (Book::one(None, Some("0")), Some("x"), 0, false, PAM_AUTH_ERR),
        (Book::one(None, Some("0")), Some(""), PAM_DISALLOW_NULL_AUTHTOK, false, PAM_AUTH_ERR),
        (Book::one(None, Some("0")), Some(""), PAM_DISALLOW_NULL_AUTHTOK, true, PAM_AUTH_ERR),
        // No prompt at all.
        (Book::one(None, Some("0")), None, 0, true, PAM_SUCCESS),
        (Book::rows(Ok(Rows::None)), Some("secret"), 0, true, PAM_USER_UNKNOWN),
        (Book::rows(Ok(Rows::Many)), None, 0, false, PAM_SERVICE_ERR),
        (Book::rows(down()), None, 0, false, PAM_AUTHINFO_UNAVAIL),
    ] {
        let mut host = Script::new();
        if let Some(password) = password {
            host = host.answer("Password:", Some(password));
        }
        let more: &[&str] = if nullok { &["nullok"] } else { &[] };
        assert_eq!(book.call(&mut host, Hook::Authenticate, more, flags), code, "{password:?} {flags} {nullok}");
        for secret in ["mailpass", "secret"] {
            assert!(!host.logged().contains(secret), "{}", host.logged());
        }
    }
}

#[test]
fn status_bits_become_codes_as_pam_mysql_has_them() {
    use PamResultCode::*;
    for (status, with_password, without) in [
        (Some("0"), PAM_SUCCESS, PAM_SUCCESS),
        (Some("1"), PAM_ACCT_EXPIRED, PAM_ACCT_EXPIRED),
        (Some("2"), PAM_AUTHTOK_EXPIRED, PAM_NEW_AUTHTOK_REQD),
        (Some("3"), PAM_ACCT_EXPIRED, PAM_ACCT_EXPIRED),
        (Some("4"), PAM_SUCCESS, PAM_SUCCESS),
        (Some("6"), PAM_AUTHTOK_EXPIRED, PAM_NEW_AUTHTOK_REQD),
        (Some(" 2x"), PAM_AUTHTOK_EXPIRED, PAM_NEW_AUTHTOK_REQD),
        (Some("-2"), PAM_AUTHTOK_EXPIRED, PAM_NEW_AUTHTOK_REQD),
        (Some("no"), PAM_SUCCESS, PAM_SUCCESS),
        (Some(""), PAM_SUCCESS, PAM_SUCCESS),
        (Some("99999999999999999999999"), PAM_ACCT_EXPIRED, PAM_ACCT_EXPIRED),
        (None, PAM_ACCT_EXPIRED, PAM_ACCT_EXPIRED),
    ] {
        for (password, code) in [(Some("x"), with_password), (None, without)] {
            let answer = Book::one(password, status).call(&mut Script::new(), Hook::Account, &[], 0);
            assert_eq!(answer, code, "{status:?} {password:?}");
        }
    }
    let unknown = Book::rows(Ok(Rows::None)).call(&mut Script::new(), Hook::Account, &[], 0);
    assert_eq!(unknown, PAM_USER_UNKNOWN);
    let broken = Book::rows(Err(Unavailable::Timeout)).call(&mut Script::new(), Hook::Account, &[], 0);
    assert_eq!(broken, PAM_AUTHINFO_UNAVAIL);
}

#[test]
fn settings_that_cannot_work_are_a_service_error_and_said() {
    for (more, words) in [
        (&["table="][..], "required option table is not set"),
        (&["db="], "required option db is not set"),
        (&["crypt=17"], "crypt=\"17\" is not one of"),
        (&["ssl_mode=REQUIRED"], "only a daemon has"),
    ] {
        let mut host = Script::new();
        let code = Book::one(Some("x"), Some("0")).call(&mut host, Hook::Authenticate, more, 0);
        assert_eq!(code, PamResultCode::PAM_SERVICE_ERR, "{more:?}");
        assert!(host.logged().contains(words), "{}", host.logged());
    }
    let mut host = Script::new().token("x");
    let select = ["table=", "usercolumn=", "passwdcolumn=", "select=SELECT p FROM t WHERE n = ?"];
    let settings: Vec<&[u8]> = LINE.iter().chain(&select).map(|a| a.as_bytes()).collect();
    let settings = Settings::find(&mut host, &settings);
    let mut call = Call { host: &mut host, settings: &settings, user: vec![], flags: 0 };
    assert!(Target::parse(&mut call).is_ok_and(|target| target.lookup().select.starts_with("SELECT")));
}

#[test]
fn a_password_is_changed_by_root_or_with_the_old_one() {
    use PamResultCode::*;
    let new = |host: Script| host.answer("New Password:", Some("new1")).answer("Retype New Password:", Some("new1"));
    let old = |host: Script, old| host.mortal().answer("Current Password:", Some(old));
    let active = || Book::one(Some("old"), Some("0"));
    let ended = || Book::one(Some("old"), Some("1"));
    let update = PAM_UPDATE_AUTHTOK;
    for (book, mut host, flags, code) in [
        (active(), new(Script::new()), update, PAM_SUCCESS),
        (active(), new(old(Script::new(), "old")), update, PAM_SUCCESS),
        (active(), new(Script::new().mortal().old_token("old")), update, PAM_SUCCESS),
        (active(), old(Script::new(), "bad"), update, PAM_AUTH_ERR),
        (active(), Script::new().unprivileged(), update, PAM_PERM_DENIED),
        (Book::one(None, Some("0")), old(Script::new(), ""), update, PAM_AUTH_ERR),
        (ended(), Script::new(), update, PAM_AUTHTOK_LOCK_BUSY),
        (ended(), new(Script::new()), update | PAM_CHANGE_EXPIRED_AUTHTOK, PAM_SUCCESS),
        (Book::rows(Ok(Rows::None)), Script::new(), update, PAM_PERM_DENIED),
        (Book::rows(Ok(Rows::Many)), Script::new(), update, PAM_PERM_DENIED),
        (Book::rows(Err(Unavailable::Lost)), Script::new(), update, PAM_AUTHINFO_UNAVAIL),
        (active(), Script::new(), PAM_PRELIM_CHECK, PAM_SUCCESS),
        (Book::rows(Err(Unavailable::Lost)), Script::new(), PAM_PRELIM_CHECK, PAM_TRY_AGAIN),
    ] {
        assert_eq!(book.call(&mut host, Hook::Password, &[], flags), code, "{flags:#x}");
        let wrote = book.written.borrow();
        let expected: &[&str] = if code == PAM_SUCCESS && flags & update != 0 { &["new1"] } else { &[] };
        assert_eq!(*wrote, expected);
    }
}

#[test]
fn new_hashes_are_of_the_kind_asked_for_and_never_empty() {
    for (more, prefix) in [
        (&["crypt=1"][..], "$6$"),
        (&["crypt=Y", "md5=0"], "$6$"),
        (&["crypt=1", "md5"], "$1$"),
        (&["crypt=1", "sha256", "rounds=1000"], "$5$rounds=1000$"),
        (&["crypt=1", "sha512", "rounds=1000"], "$6$rounds=1000$"),
        (&["crypt=1", "blowfish", "rounds=4"], "$2"),
        (&["crypt=2"], "*"),
        (&["crypt=drupal7"], "$S$"),
    ] {
        let book = Book::one(Some("x"), Some("0"));
        let code = book.call(&mut Script::new().token("new1"), Hook::Password, more, PAM_UPDATE_AUTHTOK);
        assert_eq!(code, PamResultCode::PAM_SUCCESS, "{more:?}");
        assert!(book.written.borrow()[0].starts_with(prefix), "{more:?} {:?}", book.written.borrow());
    }
    let book = Book::one(Some("x"), Some("0"));
    let mut host = Script::new().token("");
    assert_eq!(book.call(&mut host, Hook::Password, &["crypt=7"], PAM_UPDATE_AUTHTOK), PamResultCode::PAM_AUTHTOK_ERR);
    assert_eq!((book.written.borrow().len(), host.told().len()), (0, 1));
}

#[test]
fn sqllog_writes_what_reports_of_pam_mysql_look_for() {
    let book = Book::one(Some("secret"), Some("0"));
    let host = || Script::new().token("early").answer("Password:", Some("secret"));
    book.call(&mut host(), Hook::Authenticate, &LOG, 0);
    book.call(&mut Script::new(), Hook::OpenSession, &LOG, 0);
    book.call(&mut Script::new(), Hook::Account, &LOG, 0);
    let line = |message| format!("msg={message} user=info@example.jp rhost=192.0.2.7");
    let expected =
        ["AUTHENTICATION FALURE (FIRST_PASS)", "AUTHENTICATION SUCCESS", "OPEN SESSION", "QUERYING SUCCESS"].map(line);
    assert_eq!(*book.written.borrow(), expected);
    book.call(&mut host(), Hook::Authenticate, &["sqllog", "logtable=log"], 0);
    assert_eq!(book.written.borrow().len(), 4);
}

#[test]
fn a_stranger_costs_a_hash_too() {
    for crypt in [Crypt::Y, Crypt::Drupal7] {
        let began = std::time::Instant::now();
        assert!(!pam_mysql::verify(b"x", "-", crypt, false));
        let nothing = began.elapsed();
        assert!(!pam_mysql::verify(b"x", dummy(crypt), crypt, false));
        assert!(began.elapsed() - nothing > nothing * 10, "{crypt}");
    }
}
