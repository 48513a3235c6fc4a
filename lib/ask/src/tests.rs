//! The client against scripted daemons, good and bad.

use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::{Mutex, MutexGuard};
use std::thread;
use std::time::{Duration, Instant};

use mailsql_proto::ask::{Malformed, Reply, Request, Secret};

use crate::ffi::testing;
use crate::{Client, Unavailable};

/// Descriptors are counted, so tests that open any take turns.
pub(crate) fn turn() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

const SHORT: Duration = Duration::from_millis(200);
/// How much later than its deadline a call may return on a busy machine.
const SLACK: Duration = Duration::from_millis(1500);

const LOGIN: Request<'static> =
    Request::Login { user: b"info@example.jp", password: Secret(b"infopass"), service: b"smtp", rip: b"", lip: b"" };

fn open_files() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

/// Ask a daemon that does `script` with its one connection; the answer, and how long it took.
fn ask(deadline: Duration, script: impl FnOnce(UnixStream) + Send + 'static) -> Result<Reply, Unavailable> {
    let _turn = turn();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s");
    let listener = UnixListener::bind(&path).unwrap();
    let daemon = thread::spawn(move || script(listener.accept().unwrap().0));
    let began = Instant::now();
    let answer = Client::new(&path, deadline).ask(&LOGIN);
    assert!(began.elapsed() < deadline + SLACK, "took {:?}", began.elapsed());
    daemon.join().unwrap();
    answer
}

fn request_of(connection: &mut UnixStream) -> Vec<u8> {
    let mut line = Vec::new();
    let mut byte = [0];
    while line.last() != Some(&b'\n') && connection.read(&mut byte).unwrap() == 1 {
        line.push(byte[0]);
    }
    line
}

#[test]
fn a_daemon_reads_the_request_and_its_reply_is_returned_even_in_pieces() {
    let answer = ask(Duration::from_secs(5), |mut connection| {
        let mut line = request_of(&mut connection);
        assert_eq!(Request::decode(&mut line), Ok(LOGIN));
        for piece in ["mailsql\t1\tok\tuser=a\thome=/\tuid=1\t", "gid=2\tmaildir=/m\tquota=", "3", "\n"] {
            connection.write_all(piece.as_bytes()).unwrap();
            thread::sleep(Duration::from_millis(5));
        }
    });
    assert!(matches!(answer, Ok(Reply::Account(account)) if account.quota == Some(3)));
}

#[test]
fn every_kind_of_bad_daemon_is_unavailable_with_its_reason_and_in_time() {
    let daemon = |reply: &'static [u8]| {
        move |mut connection: UnixStream| {
            request_of(&mut connection);
            // It may hang up on the longer ones.
            let _ = connection.write_all(reply);
        }
    };
    for (reply, reason) in [
        (&b""[..], Unavailable::Closed),
        (b"mailsql\t1\tok", Unavailable::Closed),
        (b"HTTP/1.1 400 Bad Request\r\n", Unavailable::Malformed(Malformed::Magic)),
        (b"mailsql\t2\tok\n", Unavailable::Malformed(Malformed::Version)),
        (b"mailsql\t1\tunknown\nmailsql\t1\tunknown\n", Unavailable::Malformed(Malformed::TooLong)),
        (&[b'x'; 1024 * 1024], Unavailable::Malformed(Malformed::TooLong)),
        (b"mailsql\t1\tunavailable\treason=database\n", Unavailable::Daemon(b"database".to_vec())),
    ] {
        assert_eq!(ask(Duration::from_secs(5), daemon(reply)), Err(reason));
    }
    // Closes without having read.
    let answer = ask(Duration::from_secs(5), drop);
    assert_eq!(answer, Err(Unavailable::Closed));
}

#[test]
fn a_daemon_that_never_answers_or_drips_bytes_costs_the_deadline() {
    let silent = ask(SHORT, |connection| {
        thread::sleep(SHORT * 2);
        drop(connection);
    });
    assert_eq!(silent, Err(Unavailable::Timeout));
    let dripping = ask(SHORT, |mut connection| {
        while connection.write_all(b"m").is_ok() {
            thread::sleep(Duration::from_millis(2));
        }
    });
    assert_eq!(dripping, Err(Unavailable::Timeout));
}

#[test]
fn a_reply_sent_before_the_request_was_read_still_counts() {
    let answer = ask(Duration::from_secs(5), |mut connection| {
        connection.write_all(b"mailsql\t1\tthrottled\n").unwrap();
    });
    // The kernel may report the reset before the bytes; both are answers, neither is a crash.
    assert!(matches!(answer, Ok(Reply::Throttled) | Err(Unavailable::Closed)), "{answer:?}");
}

#[test]
fn a_full_queue_of_connections_costs_the_deadline() {
    let _turn = turn();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s");
    let listener = testing::short_queue(&path);
    let waiting = UnixStream::connect(&path).unwrap();
    let began = Instant::now();
    assert_eq!(Client::new(&path, SHORT).ask(&LOGIN), Err(Unavailable::Timeout));
    assert!(began.elapsed() >= SHORT && began.elapsed() < SHORT + SLACK, "{:?}", began.elapsed());
    drop((waiting, listener));
}

#[test]
fn absent_dead_and_impossible_sockets_are_told_apart() {
    let _turn = turn();
    let dir = tempfile::tempdir().unwrap();
    let dead = dir.path().join("dead");
    drop(UnixListener::bind(&dead).unwrap());
    let file = dir.path().join("file");
    std::fs::write(&file, "").unwrap();
    let long = dir.path().join("x".repeat(108));
    for (path, reason) in [
        (dir.path().join("absent").as_path(), Unavailable::NoSocket),
        (&file.join("below"), Unavailable::NoSocket),
        (&dead, Unavailable::Dead),
        (&file, Unavailable::Dead),
        (&long, Unavailable::Path),
        (Path::new(""), Unavailable::Path),
        (Path::new("/a\0b"), Unavailable::Path),
    ] {
        assert_eq!(Client::new(path, SHORT).ask(&LOGIN), Err(reason), "{}", path.display());
    }
}

#[test]
fn neither_descriptors_nor_threads_nor_sigpipe_are_left_to_the_host() {
    testing::deadly_sigpipe();
    let before = {
        let _turn = turn();
        open_files()
    };
    for _ in 0..50 {
        let _ = ask(SHORT, drop);
    }
    let _turn = turn();
    assert_eq!(open_files(), before);
}

#[test]
fn a_request_beyond_the_line_is_refused_before_connecting() {
    let long = vec![b'x'; mailsql_proto::ask::LINE_MAX];
    let answer = Client::new("/nowhere", SHORT).ask(&Request::User { name: &long });
    assert_eq!(answer, Err(Unavailable::Malformed(Malformed::TooLong)));
}

#[test]
fn reasons_are_shown_without_control_characters() {
    let shown = Unavailable::Daemon(b"gone\n\x1b[2J".to_vec()).to_string();
    assert_eq!(shown, "the mailsql daemon says: gone\\n\\x1b[2J");
}
