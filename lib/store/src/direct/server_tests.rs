//! The client against scripted servers: logins no server of ours does, and servers that misbehave.

use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::thread;
use std::time::{Duration, Instant};

use super::*;

/// How much later than its limit a call may return on a busy machine.
const SLACK: Duration = Duration::from_millis(1500);
const OK: &[u8] = &[0, 0, 0, 2, 0, 0, 0];
const END: &[u8] = &[0xfe, 0, 0, 2, 0];

struct Peer {
    connection: UnixStream,
    sequence: u8,
}

impl Peer {
    fn send(&mut self, payload: &[u8]) {
        let length = (payload.len() as u32).to_le_bytes();
        let packet = [&length[..3], &[self.sequence], payload].concat();
        // The client may have hung up already.
        let _ = self.connection.write_all(&packet);
        self.sequence += 1;
    }

    fn receive(&mut self) -> Vec<u8> {
        let mut header = [0; 4];
        if self.connection.read_exact(&mut header).is_err() {
            return Vec::new();
        }
        self.sequence = header[3] + 1;
        let mut payload = vec![0; u32::from_le_bytes([header[0], header[1], header[2], 0]) as usize];
        self.connection.read_exact(&mut payload).unwrap();
        payload
    }

    fn greet(&mut self, plugin: &str) {
        let mut packet = b"\x0a8.0.36\0\x01\0\0\0abcdefgh\0".to_vec();
        packet.extend_from_slice(&[0xff, 0xf7, 45, 2, 0, 0xff, 0x81, 21]);
        packet.extend_from_slice(&[0; 10]);
        packet.extend_from_slice(b"ijklmnopqrst\0");
        packet.extend_from_slice(plugin.as_bytes());
        packet.push(0);
        self.send(&packet);
    }

    fn log_in(&mut self) {
        self.greet("mysql_native_password");
        self.receive();
        self.send(OK);
    }
}

/// What the client found at a server that does `script` with its one connection, and how long it took.
fn find(script: impl FnOnce(&mut Peer) + Send + 'static) -> (Result<Rows, Unavailable>, Duration) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s");
    let listener = UnixListener::bind(&path).unwrap();
    let server = thread::spawn(move || script(&mut Peer { connection: listener.accept().unwrap().0, sequence: 0 }));
    let host = Host::Socket(path.to_str().unwrap().into());
    let source = Source { host: &host, user: "mail", password: "mailpass", database: "mail" };
    let lookup = Lookup {
        table: "acc",
        user_column: "name",
        password_column: "pw",
        status_column: "0",
        condition: "",
        select: "",
    };
    let began = Instant::now();
    let found = Session::open(&source).and_then(|mut session| session.find(&lookup, b"x' OR '1"));
    let took = began.elapsed();
    server.join().unwrap();
    (found, took)
}

fn column(kind: u8) -> Vec<u8> {
    [&b"\x03def\0\0\0\x01p\0\x0c\x2d\0\xff\0\0\0"[..], &[kind, 0, 0, 0, 0, 0]].concat()
}

#[test]
fn a_name_is_bound_and_a_row_read() {
    let (found, _) = find(|peer| {
        peer.log_in();
        assert_eq!(peer.receive(), b"\x16SELECT `pw`, 0 FROM `acc` WHERE `name` = ? LIMIT 2");
        peer.send(&[0, 7, 0, 0, 0, 2, 0, 1, 0, 0, 0, 0]);
        for packet in [&column(253), END, &column(253), &column(3), END] {
            peer.send(packet);
        }
        let execute = peer.receive();
        assert!(execute.starts_with(&[0x17, 7, 0, 0, 0]) && execute.ends_with(b"\x08x' OR '1"), "{execute:?}");
        for packet in [&[2][..], &column(253), &column(3), END, b"\0\0\x04$6$x\x02\0\0\0", END] {
            peer.send(packet);
        }
        assert_eq!(peer.receive(), [1], "says good-bye");
    });
    let row = Row { password: Some(b"$6$x".to_vec()), status: Some(b"2".to_vec()) };
    assert!(found == Ok(Rows::One(row, false)));
}

#[test]
fn caching_sha2_sends_the_password_itself_over_a_unix_socket_only_when_asked() {
    for ask in [false, true] {
        let (found, _) = find(move |peer| {
            peer.greet("caching_sha2_password");
            let response = peer.receive();
            assert!(!response.windows(8).any(|part| part == b"mailpass"));
            if ask {
                peer.send(&[1, 4]);
                assert_eq!(peer.receive(), b"mailpass\0");
            } else {
                peer.send(&[1, 3]);
            }
            peer.send(OK);
            peer.receive();
            peer.send(b"\xff\x7a\x04#42S02Table 'mail.acc' doesn't exist\n");
        });
        let message = "Table \\'mail.acc\\' doesn\\'t exist\\n".to_owned();
        assert_eq!(found.err(), Some(Unavailable::Server { code: 1146, message }));
    }
}

#[test]
fn a_server_that_asks_for_what_its_login_has_no_use_for_gets_nothing() {
    for (plugin, question) in [
        ("mysql_native_password", &[1, 4][..]),
        ("mysql_native_password", b"\xfemysql_clear_password\0"),
        ("caching_sha2_password", b"\xfemysql_old_password\0abcdefgh"),
        ("caching_sha2_password", b"\xfemysql_native_password\0short"),
        ("caching_sha2_password", b"\xfe"),
        ("caching_sha2_password", b"\xfb/etc/passwd"),
    ] {
        let (found, _) = find(move |peer| {
            peer.greet(plugin);
            peer.receive();
            peer.send(question);
            let rest = peer.receive();
            assert!(rest.is_empty() || rest == [1], "{rest:?}");
        });
        assert!(matches!(found.err(), Some(Unavailable::Protocol(_))), "{plugin} {question:?}");
    }
}

#[test]
fn a_switch_of_logins_is_followed() {
    let (found, _) = find(|peer| {
        peer.greet("caching_sha2_password");
        peer.receive();
        peer.send(b"\xfemysql_native_password\0tsrqponmlkjihgfedcba\0");
        assert_eq!(peer.receive().len(), 20);
        peer.send(b"\xff\x15\x04#28000Access denied for user 'mail'@'localhost'");
    });
    assert!(matches!(found.err(), Some(Unavailable::Server { code: 1045, .. })));
}

#[test]
fn broken_servers_are_unavailable_with_a_reason() {
    let lost = |found: Result<Rows, Unavailable>| found.err();
    assert_eq!(lost(find(|_| {}).0), Some(Unavailable::Lost));
    let (found, _) = find(|peer| peer.send(b"\xff\x10\x04Too many connections"));
    assert_eq!(lost(found), Some(Unavailable::Server { code: 1040, message: "Too many connections".into() }));
    for noise in [&b"220 mail ESMTP\r\n"[..], b"\0\0\0\0", b"\xff\xff\xff\0", b"\x01\0\0\0\x09", b"\x05\0\0\0\x0a5.5\0"]
    {
        let (found, _) = find(move |peer| {
            let _ = peer.connection.write_all(noise);
        });
        assert!(matches!(found, Err(Unavailable::Protocol(_) | Unavailable::Lost)), "{noise:?}");
    }
    // After login: cut definitions, too many columns, a cut answer.
    const ANSWERS: [&[&[u8]]; 3] =
        [&[b"\0\x07\0\0\0\x01\0\0\0\0\0\0", b"\x03def"], &[b"\0\x07\0\0\0\xff\xff\0\0\0\0\0"], &[b"\0"]];
    for answer in ANSWERS {
        let (found, _) = find(move |peer| {
            peer.log_in();
            peer.receive();
            answer.iter().for_each(|packet| peer.send(packet));
        });
        assert!(matches!(found, Err(Unavailable::Protocol(_))), "{answer:?}");
    }
}

#[test]
fn silent_and_dripping_servers_end_at_the_limit_of_an_answer() {
    let (found, took) = find(|peer| {
        peer.receive();
    });
    assert!(found == Err(Unavailable::Timeout) && took >= ANSWER_MAX && took < ANSWER_MAX + SLACK, "{took:?}");
    let (found, took) = find(|peer| {
        peer.log_in();
        peer.receive();
        // A packet of a thousand bytes, one at a time.
        let _ = peer.connection.write_all(&[0xe8, 3, 0, 1]);
        while peer.connection.write_all(&[0]).is_ok() {
            thread::sleep(Duration::from_millis(20));
        }
    });
    assert!(found == Err(Unavailable::Timeout) && took < ANSWER_MAX + SLACK, "{took:?}");
}

#[test]
fn no_server_is_unavailable_at_once() {
    let nowhere = Host::Socket("/nonexistent/sock".into());
    let long = Host::Socket(format!("/{}", "x".repeat(200)));
    let closed = Host::Tcp("127.0.0.1".into(), 1);
    for host in [nowhere, long, closed] {
        let source = Source { host: &host, user: "mail", password: "", database: "mail" };
        let opened = Session::open(&source).map(drop);
        assert!(matches!(opened, Err(Unavailable::Connect(_))), "{host:?} {opened:?}");
    }
}
