//! policyd before clients that misbehave, and before many that are idle.

#![allow(clippy::unwrap_used, reason = "a fixture that fails fails the test")]

use mailsql_rig::client::{Endpoint, Stream};
use mailsql_rig::{Daemon, MariaDb};
use mailsql_tests::Site;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

/// As Postfix 3.7 sends it.
const REQUEST: &str = "request=smtpd_access_policy\nprotocol_state=RCPT\nprotocol_name=ESMTP\nclient_address=192.0.2.7\n\
    client_name=mx.example.net\nclient_port=41234\nreverse_client_name=mx.example.net\nserver_address=198.51.100.1\n\
    server_port=25\nhelo_name=mx.example.net\nsender=a@example.net\nrecipient=b@example.org\nrecipient_count=0\nqueue_id=\n\
    instance=2d1f.65a1b2c3.1f2e.0\nsize=2048\netrn_domain=\nstress=\nsasl_method=\nsasl_username=\nsasl_sender=\n\
    ccert_subject=\nccert_issuer=\nccert_fingerprint=\nccert_pubkey_fingerprint=\nencryption_protocol=\n\
    encryption_cipher=\nencryption_keysize=0\npolicy_context=\n\n";

struct Server {
    daemon: Daemon,
    site: Site,
    _db: MariaDb,
}

impl Server {
    fn start(policy: &str) -> Self {
        let db = MariaDb::start_with_document().unwrap();
        let sections = format!("[policy]\nlisten = {}\n{policy}", Site::listen("policy.sock"));
        let site = Site::on_document(&db, &sections).unwrap();
        let daemon = site.start("policyd", "policy.sock").unwrap();
        Self { daemon, site, _db: db }
    }

    fn connect(&self) -> Stream {
        Stream::connect(&Endpoint::from(self.site.run("policy.sock"))).unwrap()
    }
}

fn ask(stream: &mut Stream, request: &str) -> String {
    stream.send(request.as_bytes()).unwrap();
    let action = stream.read_text().unwrap();
    assert_eq!(stream.read_text().unwrap(), "", "one empty line ends a reply");
    action
}

#[test]
fn a_connection_carries_any_number_of_requests_in_any_pieces() {
    let server = Server::start("");
    let mut stream = server.connect();
    for _ in 0..1000 {
        assert_eq!(ask(&mut stream, REQUEST), "action=DUNNO");
    }
    for pause_at in [1, 30, REQUEST.len() / 2, REQUEST.len() - 1] {
        let (first, rest) = REQUEST.as_bytes().split_at(pause_at);
        stream.send(first).unwrap();
        std::thread::sleep(Duration::from_millis(20));
        assert_eq!(ask(&mut stream, std::str::from_utf8(rest).unwrap()), "action=DUNNO");
    }
    // Attributes of a later Postfix, in another order, and one that comes twice.
    let newer = REQUEST.replace("request=", "later=a=b=c\nsize=1\nrequest=");
    assert_eq!(ask(&mut stream, &newer), "action=DUNNO");
    // Nothing comes that was not asked for.
    stream.set_read_timeout(Duration::from_millis(300)).unwrap();
    assert!(stream.read_exact(1).is_err());
}

#[test]
fn malformed_requests_close_their_own_connection_and_nothing_else() {
    let server = Server::start("");
    let mut good = server.connect();
    let long = format!("request=smtpd_access_policy\nx={}", "y".repeat(200_000));
    let many = format!("{}\n", "a=b\n".repeat(300));
    let bad: [&[u8]; 9] = [
        b"\n",
        b"no equals sign\n\n",
        b"=value\n\n",
        b"a=b\n\n",
        b"request=junk_policy\nprotocol_state=RCPT\n\n",
        b"request=smtpd_access_policy\nprotocol_state=QUIT\n\n",
        b"\0\xff\xfe\n\n",
        long.as_bytes(),
        many.as_bytes(),
    ];
    for number in 0..10_000 {
        let mut socket = UnixStream::connect(server.site.run("policy.sock")).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        // The daemon may have closed before all of a long one is written.
        let _ = socket.write_all(bad[number % bad.len()]);
        let mut answer = Vec::new();
        let _ = socket.read_to_end(&mut answer);
        assert!(answer.is_empty(), "{number}: {:?}", String::from_utf8_lossy(&answer));
        if number % 1000 == 0 {
            assert_eq!(ask(&mut good, REQUEST), "action=DUNNO");
        }
    }
    assert_eq!(ask(&mut good, REQUEST), "action=DUNNO");
    assert_eq!(ask(&mut server.connect(), REQUEST), "action=DUNNO");
    let log = server.daemon.log();
    assert!(log.contains("malformed request; connection closed") && !log.contains("panicked"), "{}", &log[..2000]);
}

#[test]
fn wrong_settings_are_named_at_the_start() {
    let db = MariaDb::start_with_document().unwrap();
    for (policy, want) in [
        ("checks = [\"spf\"]\n", "unknown variant `spf`"),
        ("checks = [\"rate\", \"rate\"]\n", "names Rate twice"),
        ("[policy.sender_login]\naction = \"553\"\n", "[policy.sender_login] action"),
        ("[[policy.acl.rule]]\nclient = \"here\"\naction = \"OK\"\n", "[[policy.acl.rule]] number 1"),
        ("[policy.rate]\nlimit = 1\n", "unknown key `limit`"),
    ] {
        let sections = format!("[policy]\nlisten = {}\n{policy}", Site::listen("policy.sock"));
        let site = Site::on_document(&db, &sections).unwrap();
        let error = format!("{:#}", site.start("policyd", "policy.sock").unwrap_err());
        assert!(error.contains(want), "{policy}: {error}");
    }
}

/// 2,000 smtpd processes between two mails.
#[cfg(feature = "slow")]
#[test]
fn an_idle_connection_costs_no_more_than_16_kib() {
    let mut server = Server::start("");
    let pid = server.daemon.process().unwrap().pid();
    let resident = || {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
    };
    // The first connections pay for what all share.
    let mut streams: Vec<Stream> = (0..200).map(|_| server.connect()).collect();
    streams.iter_mut().for_each(|stream| assert_eq!(ask(stream, REQUEST), "action=DUNNO"));
    let before = resident();
    let mut idle: Vec<Stream> = (0..2000).map(|_| server.connect()).collect();
    idle.iter_mut().for_each(|stream| assert_eq!(ask(stream, REQUEST), "action=DUNNO"));
    let each = resident().saturating_sub(before) / 2000;
    mailsql_rig::progress(format!("{each} bytes an idle connection"));
    assert!(each <= 16 * 1024, "{each}");
    assert_eq!(ask(&mut streams[0], REQUEST), "action=DUNNO");
}
