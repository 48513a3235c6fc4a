//! The PAM functions in socket mode: a scripted application on one side, a scripted daemon on the other.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use mailsql_ask::ask::Request;
use pam::constants::{PAM_CHANGE_EXPIRED_AUTHTOK, PAM_DISALLOW_NULL_AUTHTOK, PAM_SILENT, PamFlag, PamResultCode};

use crate::module::{Hook, PAM_PRELIM_CHECK, PAM_UPDATE_AUTHTOK, PASSWORD_MAX, run};
use crate::script::Script;

const OK: &str = "ok\tuser=info@example.jp\thome=/v\tuid=5000\tgid=5000\tmaildir=/v/m";

/// A daemon that answers so many requests and hands back what it was asked.
struct Daemon {
    path: PathBuf,
    thread: JoinHandle<Vec<String>>,
    _dir: tempfile::TempDir,
}

impl Daemon {
    fn answers(replies: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        let listener = UnixListener::bind(&path).unwrap();
        let replies: Vec<String> = replies.iter().map(|reply| format!("mailsql\t1\t{reply}\n")).collect();
        let thread = thread::spawn(move || {
            let serve = |reply: String| {
                let mut connection = BufReader::new(listener.accept().unwrap().0);
                let mut line = Vec::new();
                connection.read_until(b'\n', &mut line).unwrap();
                connection.get_mut().write_all(reply.as_bytes()).unwrap();
                match Request::decode(&mut line).unwrap() {
                    // Passwords are not shown by Debug, and these tests want to see them.
                    Request::Login { user, password, service, rip, .. } => {
                        [&b"login"[..], user, password.0, service, rip].map(String::from_utf8_lossy).join(" ")
                    }
                    Request::Passwd { user, old, new } => {
                        let old = old.map_or("-".into(), |old| String::from_utf8_lossy(old.0));
                        format!("passwd {} {old} {}", String::from_utf8_lossy(user), String::from_utf8_lossy(new.0))
                    }
                    other => other.verb().to_owned(),
                }
            };
            replies.into_iter().map(serve).collect()
        });
        Self { path, thread, _dir: dir }
    }

    fn call(&self, host: &mut Script, hook: Hook, arguments: &[&str], flags: PamFlag) -> PamResultCode {
        let socket = format!("socket={}", self.path.display());
        let arguments: Vec<&[u8]> =
            [socket.as_str(), "timeout=5s"].iter().chain(arguments).map(|a| a.as_bytes()).collect();
        run(host, hook, &arguments, flags)
    }

    /// What it was asked, once all its answers are used up.
    fn asked(self) -> Vec<String> {
        self.thread.join().unwrap()
    }
}

#[test]
fn answers_become_codes_as_the_table_of_verdicts_says() {
    use PamResultCode::*;
    for (reply, authenticate, account) in [
        (OK, PAM_SUCCESS, PAM_SUCCESS),
        ("unknown", PAM_USER_UNKNOWN, PAM_USER_UNKNOWN),
        ("wrong", PAM_AUTH_ERR, PAM_AUTH_ERR),
        ("password_expired", PAM_NEW_AUTHTOK_REQD, PAM_NEW_AUTHTOK_REQD),
        ("disabled", PAM_ACCT_EXPIRED, PAM_ACCT_EXPIRED),
        ("expired", PAM_ACCT_EXPIRED, PAM_ACCT_EXPIRED),
        ("throttled", PAM_AUTH_ERR, PAM_AUTH_ERR),
        ("unavailable\treason=database", PAM_AUTHINFO_UNAVAIL, PAM_AUTHINFO_UNAVAIL),
        ("refused\treason=peer", PAM_PERM_DENIED, PAM_PERM_DENIED),
        ("readonly", PAM_AUTHINFO_UNAVAIL, PAM_AUTHINFO_UNAVAIL),
        ("ok", PAM_AUTHINFO_UNAVAIL, PAM_AUTHINFO_UNAVAIL),
        ("nonsense", PAM_AUTHINFO_UNAVAIL, PAM_AUTHINFO_UNAVAIL),
    ] {
        let daemon = Daemon::answers(&[reply, reply]);
        let mut host = Script::new().answer("Password:", Some("infopass"));
        assert_eq!(daemon.call(&mut host, Hook::Authenticate, &[], 0), authenticate, "{reply}");
        assert_eq!(host.kept(), Some(&b"infopass"[..]));
        assert_eq!(daemon.call(&mut host, Hook::Account, &[], 0), account, "{reply}");
        assert!(!host.logged().contains("infopass"));
        assert_eq!(daemon.asked(), ["login info@example.jp infopass smtp 192.0.2.7", "account"]);
    }
}

#[test]
fn no_daemon_and_a_silent_one_are_unavailable_never_wrong() {
    let mut host = Script::new().token("infopass");
    let code = run(&mut host, Hook::Authenticate, &[b"socket=/nonexistent/ask.sock"], 0);
    assert_eq!(code, PamResultCode::PAM_AUTHINFO_UNAVAIL);
    assert!(host.logged().contains("/nonexistent/ask.sock: no socket"), "{}", host.logged());

    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s");
    let _silent = UnixListener::bind(&path).unwrap();
    let socket = format!("socket={}", path.display());
    for hook in [Hook::Authenticate, Hook::Account] {
        let mut host = Script::new().token("infopass");
        let code = run(&mut host, hook, &[socket.as_bytes(), b"timeout=50ms"], 0);
        assert_eq!(code, PamResultCode::PAM_AUTHINFO_UNAVAIL);
        assert!(host.logged().contains("no answer in time"), "{}", host.logged());
    }
}

#[test]
fn an_earlier_password_is_tried_first_and_asked_for_only_when_wrong() {
    use PamResultCode::*;
    let prompt = || Script::new().token("early").answer("Password:", Some("late"));
    for (mut host, arguments, replies, code, asked) in [
        (Script::new().token("early"), &[][..], &[OK][..], PAM_SUCCESS, &["early"][..]),
        (prompt(), &[], &["wrong", OK], PAM_SUCCESS, &["early", "late"]),
        (prompt(), &[], &["unknown", "unknown"], PAM_USER_UNKNOWN, &["early", "late"]),
        (prompt(), &["try_first_pass=no"], &[OK], PAM_SUCCESS, &["late"]),
        (Script::new().token("early"), &["use_first_pass"], &["wrong"], PAM_AUTH_ERR, &["early"]),
        (Script::new(), &["use_first_pass"], &[], PAM_AUTH_ERR, &[]),
        (Script::new().token("early"), &[], &["unavailable"], PAM_AUTHINFO_UNAVAIL, &["early"]),
        (Script::new().token("early"), &[], &["disabled"], PAM_ACCT_EXPIRED, &["early"]),
    ] {
        let daemon = Daemon::answers(replies);
        assert_eq!(daemon.call(&mut host, Hook::Authenticate, arguments, 0), code, "{arguments:?} {replies:?}");
        let expected: Vec<String> =
            asked.iter().map(|password| format!("login info@example.jp {password} smtp 192.0.2.7")).collect();
        assert_eq!(daemon.asked(), expected);
    }
}

#[test]
fn conversations_that_fail_and_passwords_that_cannot_be_ask_nobody() {
    use PamResultCode::*;
    let long = "x".repeat(PASSWORD_MAX + 1);
    for (mut host, flags, code) in [
        (Script::new().answer("Password:", None), 0, PAM_AUTH_ERR),
        (Script::new().answer("Password:", Some("<error>")), 0, PAM_SERVICE_ERR),
        (Script::new().answer("Password:", Some("")), PAM_DISALLOW_NULL_AUTHTOK, PAM_AUTH_ERR),
        (Script::new().token(&long).answer("Password:", None), 0, PAM_AUTH_ERR),
        (Script::new().no_user(), 0, PAM_USER_UNKNOWN),
        (Script::new().user(""), 0, PAM_USER_UNKNOWN),
        (Script::new().user(&long), 0, PAM_USER_UNKNOWN),
    ] {
        assert_eq!(Daemon::answers(&[]).call(&mut host, Hook::Authenticate, &[], flags), code);
    }
    // Without the flag an empty password is the daemon's to judge.
    let daemon = Daemon::answers(&["wrong"]);
    let mut host = Script::new().answer("Password:", Some(""));
    assert_eq!(daemon.call(&mut host, Hook::Authenticate, &[], 0), PAM_AUTH_ERR);
    assert_eq!(daemon.asked(), ["login info@example.jp  smtp 192.0.2.7"]);
}

#[test]
fn a_failure_delay_is_asked_for_on_request_and_only_for_refusals() {
    for (reply, arguments, delay) in [
        ("wrong", &["fail_delay=1500ms"][..], Some(Duration::from_millis(1500))),
        ("wrong", &["fail_delay=1000s"], Some(Duration::from_secs(10))),
        ("wrong", &[], None),
        (OK, &["fail_delay=2s"], None),
        ("unavailable", &["fail_delay=2s"], None),
    ] {
        let daemon = Daemon::answers(&[reply]);
        let mut host = Script::new().token("x");
        let arguments = [arguments, &["use_first_pass"]].concat();
        daemon.call(&mut host, Hook::Authenticate, &arguments, 0);
        assert_eq!(host.delay(), delay, "{reply} {arguments:?}");
    }
}

#[test]
fn refusals_are_logged_once_with_what_a_person_needs_and_no_control_characters() {
    let daemon = Daemon::answers(&["wrong", OK]);
    let mut host = Script::new().user("bad\nuser\x1b").token("s3cret");
    daemon.call(&mut host, Hook::Authenticate, &["use_first_pass"], 0);
    let line = "Notice: authenticate result=wrong user=bad\\nuser\\x1b service=smtp client=192.0.2.7\n";
    assert_eq!(host.logged(), line);
    daemon.call(&mut host, Hook::Authenticate, &["use_first_pass", "verbose"], 0);
    assert_eq!(host.logged(), format!("{line}{}", line.replace("Notice", "Debug").replace("wrong", "ok")));
}

#[test]
fn a_password_is_changed_in_two_calls() {
    use PamResultCode::*;
    let new = |host: Script| host.answer("New Password:", Some("new1")).answer("Retype New Password:", Some("new1"));
    let expired = PAM_CHANGE_EXPIRED_AUTHTOK;
    for (mut host, flags, replies, code, asked) in [
        (new(Script::new()), 0, &["ok"][..], PAM_SUCCESS, &["passwd info@example.jp - new1"][..]),
        (
            new(Script::new().mortal().answer("Current Password:", Some("old"))),
            0,
            &["ok"],
            PAM_SUCCESS,
            &["passwd info@example.jp old new1"],
        ),
        (
            new(Script::new().mortal().old_token("old")),
            0,
            &["wrong"],
            PAM_AUTH_ERR,
            &["passwd info@example.jp old new1"],
        ),
        (Script::new().token("new2"), PAM_SILENT, &["ok"], PAM_SUCCESS, &["passwd info@example.jp - new2"]),
        (Script::new(), PAM_SILENT, &[], PAM_AUTHTOK_RECOVERY_ERR, &[]),
        (
            Script::new().answer("New Password:", Some("a")).answer("Retype New Password:", Some("b")),
            0,
            &[],
            PAM_AUTHTOK_RECOVERY_ERR,
            &[],
        ),
        (new(Script::new()), 0, &["refused\treason=too short"], PAM_AUTHTOK_ERR, &["passwd info@example.jp - new1"]),
        (new(Script::new()), 0, &["readonly"], PAM_PERM_DENIED, &["passwd info@example.jp - new1"]),
        (new(Script::new()), 0, &["unavailable"], PAM_AUTHINFO_UNAVAIL, &["passwd info@example.jp - new1"]),
        (Script::new(), expired, &[OK], PAM_SUCCESS, &["account"]),
        (
            new(Script::new()),
            expired,
            &["password_expired", "ok"],
            PAM_SUCCESS,
            &["account", "passwd info@example.jp - new1"],
        ),
        (Script::new(), expired, &["disabled"], PAM_ACCT_EXPIRED, &["account"]),
    ] {
        let daemon = Daemon::answers(replies);
        assert_eq!(daemon.call(&mut host, Hook::Password, &[], flags | PAM_UPDATE_AUTHTOK), code, "{replies:?}");
        assert_eq!(daemon.asked(), asked);
        if replies == ["refused\treason=too short"] {
            assert_eq!(host.told(), ["too short"]);
        }
    }
}

#[test]
fn the_preliminary_call_changes_nothing_and_says_try_again_when_nobody_can_be_asked() {
    use PamResultCode::*;
    for (reply, code) in [
        (OK, PAM_SUCCESS),
        ("password_expired", PAM_SUCCESS),
        ("unknown", PAM_USER_UNKNOWN),
        ("disabled", PAM_ACCT_EXPIRED),
        ("unavailable", PAM_TRY_AGAIN),
    ] {
        let daemon = Daemon::answers(&[reply]);
        assert_eq!(daemon.call(&mut Script::new(), Hook::Password, &[], PAM_PRELIM_CHECK), code, "{reply}");
        assert_eq!(daemon.asked(), ["account"]);
    }
}

#[test]
fn sessions_ask_nobody() {
    for hook in [Hook::OpenSession, Hook::CloseSession] {
        let code = run(&mut Script::new(), hook, &[b"socket=/nonexistent"], 0);
        assert_eq!(code, PamResultCode::PAM_SUCCESS);
    }
}

#[cfg(not(feature = "direct"))]
#[test]
fn the_small_build_says_that_it_has_no_direct_mode() {
    let mut host = Script::new();
    let code = run(&mut host, Hook::Authenticate, &[b"user=mail", b"db=mail"], 0);
    assert_eq!(code, PamResultCode::PAM_AUTHINFO_UNAVAIL);
    assert!(host.logged().contains("without direct mode"));
}
