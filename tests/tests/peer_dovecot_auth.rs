//! dovecot-auth before its clients: Postfix's smtpd (unix, inet, chrooted), doveadm, dovecot-lmtp, and clients that
//! misbehave.

#![allow(clippy::unwrap_used, reason = "a fixture that fails fails the test")]

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use mailsql_rig::client::lmtp::Lmtp;
use mailsql_rig::client::smtp::{Reply, Smtp};
use mailsql_rig::client::{Endpoint, Stream};
use mailsql_rig::{Daemon, Dovecot, MariaDb, Postfix, document, free_port, wait_until};
use mailsql_tests::Site;

const MESSAGE: &str = "From: user@example.net\nTo: info@hoge.com\nSubject: test-mail\n\nhoge\n";
/// Short, so that tests of refusals are.
const DELAY: &str = "failure_delay = \"50ms\"\n";

/// dovecot-auth on the document's database.
struct Auth {
    daemon: Daemon,
    site: Site,
    db: MariaDb,
}

impl Auth {
    fn start(settings: &str) -> Self {
        let db = MariaDb::start_with_document().unwrap();
        let sections = format!(
            "[cache]\npositive_ttl = \"0s\"\nstale_ttl = \"0s\"\n[auth]\nlisten = {}\nuserdb = {}\n{DELAY}{settings}",
            Site::listen("auth"),
            Site::listen("master"),
        );
        let site = Site::on_document(&db, &sections).unwrap();
        let daemon = site.start("dovecot-auth", "auth").unwrap();
        Self { daemon, site, db }
    }

    fn connect(&self) -> Stream {
        Stream::connect(&Endpoint::from(self.site.run("auth"))).unwrap()
    }

    fn master(&self) -> Stream {
        let mut stream = Stream::connect(&Endpoint::from(self.site.run("master"))).unwrap();
        assert_eq!(stream.read_text().unwrap(), "VERSION\t1\t1");
        assert!(stream.read_text().unwrap().starts_with("SPID\t"));
        stream.send(b"VERSION\t1\t1\n").unwrap();
        stream
    }
}

/// A connection past its handshake.
fn shake(stream: &mut Stream) -> Vec<String> {
    let mut lines = Vec::new();
    loop {
        lines.push(stream.read_text().unwrap());
        if lines.last().unwrap() == "DONE" {
            break;
        }
    }
    stream.send(b"VERSION\t1\t0\nCPID\t4711\n").unwrap();
    lines
}

/// PLAIN's message in base64.
fn plain(login: &str, password: &str) -> String {
    base64(format!("\0{login}\0{password}").as_bytes())
}

fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for group in bytes.chunks(3) {
        let bits = group.iter().chain(&[0, 0]).take(3).fold(0u32, |bits, byte| bits << 8 | u32::from(*byte));
        for place in 0..4 {
            let digit = ALPHABET[(bits >> (18 - 6 * place) & 63) as usize];
            text.push(if place <= group.len() { char::from(digit) } else { '=' });
        }
    }
    text
}

/// Bytes of memory that a process holds.
fn resident(pid: i32) -> impl Fn() -> u64 {
    move || {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
    }
}

fn logins(port: u16, user: &str, password: &str) -> [Reply; 2] {
    let mut session = Smtp::hello(port).unwrap();
    let plain = session.auth_plain(user, password).unwrap();
    let mut session = Smtp::hello(port).unwrap();
    [plain, session.auth_login(user, password).unwrap()]
}

fn codes(port: u16, user: &str, password: &str) -> [u16; 2] {
    logins(port, user, password).map(|reply| reply.code)
}

fn accepts_refuses_and_defers(auth: &mut Auth, postfix: &Postfix) {
    let port = postfix.smtp_port();
    assert_eq!(codes(port, "a@b.c", "apass"), [235, 235]);
    for reply in logins(port, "a@b.c", "wrong") {
        assert_eq!((reply.code, reply.text().contains("wrong user name or password")), (535, true), "{reply:?}");
    }
    assert_eq!(codes(port, "nobody@b.c", "apass"), [535, 535]);
    // The name of the log and of policies is the account's own.
    assert_eq!(codes(port, "A@B.C", "apass"), [235, 235]);
    auth.db.stop();
    for reply in logins(port, "a@b.c", "apass").into_iter().chain(logins(port, "a@b.c", "wrong")) {
        assert_eq!(reply.code, 454, "{reply:?}");
    }
    auth.db.restart().unwrap();
    wait_until("logins after the outage", Duration::from_secs(20), || codes(port, "a@b.c", "apass") == [235, 235])
        .unwrap();
    assert_eq!(codes(port, "a@b.c", "wrong"), [535, 535]);
}

#[test]
fn postfix_logs_in_by_plain_and_login_and_defers_in_an_outage() {
    let mut auth = Auth::start("");
    let postfix = Postfix::setup().dovecot_auth(&auth.site.run("auth")).start().unwrap();
    accepts_refuses_and_defers(&mut auth, &postfix);
    let mut session = Smtp::hello(postfix.smtp_port()).unwrap();
    assert_eq!(session.auth_plain("A@b.C", "apass").unwrap().code, 235);
    session.send("a@b.c", &["x@example.org"], MESSAGE).unwrap();
    postfix.wait_for_log("sasl_username=a@b.c", Duration::from_secs(10)).unwrap();
}

#[test]
fn postfix_in_its_chroot_logs_in_through_a_socket_below_the_queue() {
    let port = free_port().unwrap();
    let mut auth = Auth::start("");
    // By TCP first: a chroot does not matter to it.
    drop(auth.daemon);
    let sections = format!("[auth]\nlisten = \"inet:127.0.0.1:{port}\"\nuserdb = {}\n{DELAY}", Site::listen("master"));
    let site = Site::on_document(&auth.db, &format!("[cache]\npositive_ttl = \"0s\"\nstale_ttl = \"0s\"\n{sections}"))
        .unwrap();
    auth.daemon = site.start("dovecot-auth", "master").unwrap();
    auth.site = site;
    let postfix = Postfix::setup()
        .chroot()
        .main("smtpd_sasl_type", "dovecot")
        .main("smtpd_sasl_path", format!("inet:127.0.0.1:{port}"))
        .main("smtpd_sasl_auth_enable", "yes")
        .start()
        .unwrap();
    accepts_refuses_and_defers(&mut auth, &postfix);

    let mut auth = auth;
    let postfix = Postfix::setup()
        .chroot()
        .main("smtpd_sasl_type", "dovecot")
        .main("smtpd_sasl_path", "auth-client")
        .main("smtpd_sasl_auth_enable", "yes")
        .start()
        .unwrap();
    let socket = postfix.queue().join("auth-client");
    let listen = format!("{{ socket = \"{}\", mode = \"0666\" }}", socket.display());
    let sections = format!("[auth]\nlisten = {listen}\nuserdb = {}\n{DELAY}", Site::listen("master"));
    let site = Site::on_document(&auth.db, &format!("[cache]\npositive_ttl = \"0s\"\nstale_ttl = \"0s\"\n{sections}"))
        .unwrap();
    auth.daemon = site.start("dovecot-auth", "master").unwrap();
    auth.site = site;
    accepts_refuses_and_defers(&mut auth, &postfix);
}

#[test]
fn the_handshake_comes_unasked_and_cpid_in_any_packets() {
    let auth = Auth::start("");
    let mut stream = auth.connect();
    let hello = shake(&mut stream);
    assert_eq!(hello[..3], ["VERSION\t1\t2", "MECH\tPLAIN\tplaintext", "MECH\tLOGIN\tplaintext"]);
    assert!(hello[3].starts_with("SPID\t") && hello[4].starts_with("CUID\t"), "{hello:?}");
    assert_eq!(hello[5].len(), "COOKIE\t".len() + 32);

    let bytes =
        format!("VERSION\t1\t0\nCPID\t1\nAUTH\t1\tPLAIN\tservice=smtp\tnologin\tresp={}\n", plain("a@b.c", "apass"));
    for size in [1, 7, 13, bytes.len()] {
        let mut stream = auth.connect();
        while stream.read_text().unwrap() != "DONE" {}
        for piece in bytes.as_bytes().chunks(size) {
            stream.send(piece).unwrap();
            std::thread::sleep(Duration::from_millis(1));
        }
        assert_eq!(stream.read_text().unwrap(), "OK\t1\tuser=a@b.c", "pieces of {size}");
    }
}

#[test]
fn what_breaks_the_protocol_ends_the_connection_and_nothing_else() {
    let auth = Auth::start("");
    let right = plain("a@b.c", "apass");
    let long = format!("AUTH\t1\tPLAIN\tservice=smtp\tresp={}\n", "A".repeat(1 << 20));
    let table: [(&str, String); 8] = [
        ("another version", "VERSION\t2\t0\n".into()),
        ("AUTH before CPID", format!("VERSION\t1\t0\nAUTH\t1\tPLAIN\tservice=smtp\tresp={right}\n")),
        ("an unknown command", "CPID\t1\nFOO\t1\n".into()),
        ("an id twice", "CPID\t1\nAUTH\t1\tLOGIN\tservice=smtp\nAUTH\t1\tLOGIN\tservice=smtp\n".into()),
        ("something behind resp=", format!("CPID\t1\nAUTH\t1\tPLAIN\tservice=smtp\tresp={right}\tnologin\n")),
        ("no service", format!("CPID\t1\nAUTH\t1\tPLAIN\tresp={right}\n")),
        ("garbage", "\0\u{1}\u{2}GET / HTTP/1.0\r\n\r\n".into()),
        ("a line of a MiB", format!("CPID\t1\n{long}")),
    ];
    let mut unharmed = auth.connect();
    shake(&mut unharmed);
    for (name, bytes) in table {
        let mut stream = auth.connect();
        while stream.read_text().unwrap() != "DONE" {}
        // The rest of a line that is too long is not read.
        let _ = stream.send(bytes.as_bytes());
        let rest = String::from_utf8(stream.read_to_end().unwrap_or_default()).unwrap();
        assert!(!rest.contains("OK"), "{name}: {rest}");
    }
    unharmed.send(format!("AUTH\t1\tPLAIN\tservice=smtp\tresp={right}\n").as_bytes()).unwrap();
    assert_eq!(unharmed.read_text().unwrap(), "OK\t1\tuser=a@b.c");
}

#[test]
fn exchanges_run_beside_each_other_and_can_be_cancelled() {
    let auth = Auth::start("");
    let mut stream = auth.connect();
    shake(&mut stream);
    let request =
        |id: u32, password: &str| format!("AUTH\t{id}\tPLAIN\tservice=smtp\tresp={}\n", plain("a@b.c", password));
    // A refusal is held back; those behind it are not.
    let sent = [request(1, "wrong"), request(2, "apass"), "AUTH\t3\tLOGIN\tservice=smtp\n".into()].concat();
    stream.send(sent.as_bytes()).unwrap();
    let mut answers: Vec<String> = (0..3).map(|_| stream.read_text().unwrap()).collect();
    assert!(answers.pop().unwrap().starts_with("FAIL\t1\t"));
    answers.sort();
    assert_eq!(answers, ["CONT\t3\tVXNlcm5hbWU6", "OK\t2\tuser=a@b.c"]);
    stream.send(format!("CONT\t3\t{}\n", base64(b"a@b.c")).as_bytes()).unwrap();
    assert_eq!(stream.read_text().unwrap(), "CONT\t3\tUGFzc3dvcmQ6");
    stream.send(format!("CONT\t3\t{}\n", base64(b"apass")).as_bytes()).unwrap();
    assert_eq!(stream.read_text().unwrap(), "OK\t3\tuser=a@b.c");

    // A cancelled id is free at once, and the answer to its first use never comes.
    let sent = [request(4, "wrong"), "CANCEL\t4\n".into(), request(4, "apass")].concat();
    stream.send(sent.as_bytes()).unwrap();
    assert_eq!(stream.read_text().unwrap(), "OK\t4\tuser=a@b.c");
    stream.send(b"CONT\t9\tAAAA\n").unwrap();
    assert_eq!(stream.read_text().unwrap(), "FAIL\t9\treason=authentication request timed out");

    for (sent, expected) in [
        ("AUTH\t5\tPLAIN\tservice=smtp\tresp=!!!\n", "FAIL\t5\tcode=invalid_base64\treason=invalid base64 data"),
        ("AUTH\t6\tCRAM-MD5\tservice=smtp\n", "FAIL\t6\treason=mechanism not offered"),
        ("AUTH\t7\tPLAIN\tservice=smtp\tresp=AAAA\n", "FAIL\t7\treason=not a valid response"),
    ] {
        stream.send(sent.as_bytes()).unwrap();
        assert_eq!(stream.read_text().unwrap(), expected);
    }
    let other = base64(b"info@hoge.com\0a@b.c\0apass");
    stream.send(format!("AUTH\t8\tplain\tservice=smtp\tresp={other}\n").as_bytes()).unwrap();
    assert_eq!(stream.read_text().unwrap(), "FAIL\t8\tcode=authz_fail\treason=not allowed to act as another user");
    let own = base64(b"A@B.C\0a@b.c\0apass");
    stream.send(format!("AUTH\t9\tPLAIN\tservice=smtp\tresp={own}\n").as_bytes()).unwrap();
    assert_eq!(stream.read_text().unwrap(), "OK\t9\tuser=a@b.c");
}

#[test]
fn trouble_closes_before_postfix_and_exim_and_has_a_code_for_dovecot() {
    let mut auth = Auth::start("");
    auth.db.stop();
    let right = plain("a@b.c", "apass");
    let mut stream = auth.connect();
    shake(&mut stream);
    stream.send(format!("AUTH\t1\tPLAIN\tservice=imap\tresp={right}\n").as_bytes()).unwrap();
    assert!(stream.read_text().unwrap().starts_with("FAIL\t1\tcode=temp_fail\t"));
    stream.send(format!("AUTH\t2\tPLAIN\tservice=smtp\tnologin\tresp={right}\n").as_bytes()).unwrap();
    assert_eq!(stream.read_to_end().unwrap(), b"");
}

#[test]
fn passwords_are_only_looked_at_over_a_secured_connection_where_that_is_asked() {
    let auth = Auth::start("require_secured = true\n");
    let mut stream = auth.connect();
    shake(&mut stream);
    let right = plain("a@b.c", "apass");
    for (id, params, answer) in [
        (1, "rip=192.0.2.1\tlip=192.0.2.2\tsecured", "OK\t1\tuser=a@b.c"),
        (2, "rip=192.0.2.2\tlip=192.0.2.2", "OK\t2\tuser=a@b.c"),
        (3, "rip=127.0.0.1\tlip=192.0.2.2", "OK\t3\tuser=a@b.c"),
        (4, "rip=192.0.2.1\tlip=192.0.2.2", "FAIL\t4\treason=passwords are only taken over a secured connection"),
        (5, "nologin", "FAIL\t5\treason=passwords are only taken over a secured connection"),
    ] {
        stream.send(format!("AUTH\t{id}\tPLAIN\tservice=smtp\t{params}\tresp={right}\n").as_bytes()).unwrap();
        assert_eq!(stream.read_text().unwrap(), answer);
    }
}

#[test]
fn users_are_looked_up_and_listed() {
    let mut auth = Auth::start("");
    let mut stream = auth.master();
    stream
        .send(b"USER\t1\tA@B.C\tservice=lmtp\nUSER\t2\tnobody@b.c\tservice=lmtp\nPASS\t3\ta@b.c\tservice=imap\n")
        .unwrap();
    let home = "/var/spool/vmail/a@b.c";
    assert_eq!(
        stream.read_text().unwrap(),
        format!("USER\t1\ta@b.c\tuid=5000\tgid=5000\thome={home}\tmail=maildir:{home}")
    );
    assert_eq!(stream.read_text().unwrap(), "NOTFOUND\t2");
    assert_eq!(stream.read_text().unwrap(), "PASS\t3\tuser=a@b.c");
    stream.send(b"LIST\t4\tuser=*@hoge.com\tservice=doveadm\nCACHE-FLUSH\t5\ta@b.c\n").unwrap();
    let mut listed = [stream.read_text().unwrap(), stream.read_text().unwrap()];
    listed.sort();
    assert_eq!(listed, ["LIST\t4\tadmin@hoge.com", "LIST\t4\tinfo@hoge.com"]);
    assert_eq!(stream.read_text().unwrap(), "DONE\t4\t");
    assert_eq!(stream.read_text().unwrap(), "OK\t5\t1");
    auth.db.stop();
    stream.send(b"USER\t6\ta@b.c\tservice=lmtp\nLIST\t7\n").unwrap();
    assert!(stream.read_text().unwrap().starts_with("FAIL\t6\tcode=temp_fail\treason="));
    assert_eq!(stream.read_text().unwrap(), "DONE\t7\tfail");
    stream.send(b"REQUEST\t8\t1\t1\tcookie\n").unwrap();
    assert_eq!(stream.read_to_end().unwrap(), b"");
}

#[test]
fn doveadm_and_dovecot_lmtp_ask_our_userdb() {
    let mut auth = Auth::start("");
    // Mail goes where the userdb says, so the root must be there.
    let socket = auth.site.run("master");
    let dovecot = Dovecot::setup()
        .userdb("driver = static\nargs = uid=1 gid=1 home=/nonexistent")
        .extra(&format!("auth_socket_path = {}", socket.display()))
        .extra(&format!("protocol lmtp {{\n  auth_socket_path = {}\n}}", socket.display()))
        .start()
        .unwrap();
    let user = dovecot.doveadm(&["user", "-f", "home", "a@b.c"]).unwrap();
    assert_eq!((user.code, user.stdout.trim()), (0, "/var/spool/vmail/a@b.c"), "{}", user.text());
    let missing = dovecot.doveadm(&["user", "nobody@b.c"]).unwrap();
    assert_eq!(missing.code, 67, "{}", missing.text());
    let mut all: Vec<String> =
        dovecot.doveadm(&["user", "*"]).unwrap().ok().unwrap().lines().map(str::to_owned).collect();
    all.sort();
    let mut expected: Vec<&str> = document::LOGINS.iter().map(|(user, _)| *user).collect();
    expected.sort_unstable();
    assert_eq!(all, expected);

    let mut lmtp = Lmtp::hello(dovecot.lmtp_socket()).unwrap();
    assert_eq!(lmtp.command("MAIL FROM:<x@example.net>").unwrap().code, 250);
    let refused = lmtp.command("RCPT TO:<nobody@b.c>").unwrap();
    assert_eq!(refused.code, 550, "{refused:?}\n{}", dovecot.log());
    auth.db.stop();
    let mut lmtp = Lmtp::hello(dovecot.lmtp_socket()).unwrap();
    assert_eq!(lmtp.command("MAIL FROM:<x@example.net>").unwrap().code, 250);
    let deferred = lmtp.command("RCPT TO:<a@b.c>").unwrap();
    assert_eq!(deferred.code, 451, "{deferred:?}\n{}", dovecot.log());
    let failed = dovecot.doveadm(&["user", "a@b.c"]).unwrap();
    assert_eq!(failed.code, 75, "{}", failed.text());
    assert!(auth.daemon.process().unwrap().running());
}

/// Logins through Postfix and by clients of their own, about a hundred a second, while a newer daemon takes the socket
/// over again and again.
#[test]
fn a_newer_daemon_takes_the_socket_over_without_a_lost_login() {
    let auth = Auth::start("");
    let postfix = Postfix::setup().dovecot_auth(&auth.site.run("auth")).start().unwrap();
    let Auth { mut daemon, site, db: _db } = auth;
    let (socket, port) = (site.run("auth"), postfix.smtp_port());
    let (stop, failed, done) = (AtomicBool::new(false), Mutex::new(Vec::new()), AtomicU32::new(0));
    // A connection for each login, as Exim; one for many, as an smtpd.
    let direct = || -> anyhow::Result<bool> {
        let mut stream = Stream::connect(&Endpoint::from(socket.clone()))?;
        while stream.read_text()? != "DONE" {}
        let request = format!("AUTH\t1\tPLAIN\tservice=smtp\tnologin\tresp={}\n", plain("a@b.c", "apass"));
        stream.send(format!("VERSION\t1\t0\nCPID\t1\n{request}").as_bytes())?;
        Ok(stream.read_text()? == "OK\t1\tuser=a@b.c")
    };
    let by_postfix = || -> anyhow::Result<bool> { Ok(Smtp::hello(port)?.auth_plain("a@b.c", "apass")?.code == 235) };
    let logins = |login: &dyn Fn() -> anyhow::Result<bool>| {
        while !stop.load(Ordering::Relaxed) {
            match login() {
                Ok(true) => drop(done.fetch_add(1, Ordering::Relaxed)),
                other => failed.lock().unwrap().push(format!("{other:?}")),
            }
            std::thread::sleep(Duration::from_millis(25));
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| logins(&direct));
            scope.spawn(|| logins(&by_postfix));
        }
        for _ in 0..6 {
            let from = done.load(Ordering::Relaxed);
            let went_on = || done.load(Ordering::Relaxed) > from + 40;
            let outcome = wait_until("logins to go on", Duration::from_secs(30), went_on);
            let newer = site.start("dovecot-auth", "auth").and_then(|newer| {
                // The socket accepts in any case; the line says that it is the newer one's.
                newer.wait_for_log("serving", Duration::from_secs(10))?;
                Ok(newer)
            });
            if outcome.is_err() || newer.is_err() {
                stop.store(true, Ordering::Relaxed);
            }
            outcome.unwrap();
            // The older one ends when the newer one serves.
            daemon = newer.unwrap();
        }
        stop.store(true, Ordering::Relaxed);
    });
    let failed = failed.into_inner().unwrap();
    assert!(failed.is_empty(), "{} of {}: {failed:?}\n{}", failed.len(), done.into_inner(), postfix.log());
    drop(daemon);
}

#[test]
fn a_thousand_idle_connections_leave_room_for_logins() {
    let mut auth = Auth::start("");
    let resident = resident(auth.daemon.process().unwrap().pid());
    let login = |stream: &mut Stream, id: usize| {
        let request = format!("AUTH\t{id}\tPLAIN\tservice=smtp\tnologin\tresp={}\n", plain("a@b.c", "apass"));
        stream.send(request.as_bytes()).unwrap();
        assert_eq!(stream.read_text().unwrap(), format!("OK\t{id}\tuser=a@b.c"));
    };
    let mut busy = auth.connect();
    shake(&mut busy);
    (1..50).for_each(|id| login(&mut busy, id));
    let before = resident();
    let idle: Vec<Stream> = (0..1000)
        .map(|_| {
            let mut stream = auth.connect();
            shake(&mut stream);
            stream
        })
        .collect();
    // A login on each makes its buffers real.
    let mut idle = idle;
    idle.iter_mut().step_by(10).for_each(|stream| login(stream, 1));
    let each = resident().saturating_sub(before) / 1000;
    mailsql_rig::progress(format!("dovecot-auth: {each} bytes an idle connection"));
    assert!(each <= 16 * 1024, "{each} bytes a connection");
    let begun = Instant::now();
    (50..250).for_each(|id| login(&mut busy, id));
    mailsql_rig::progress(format!("dovecot-auth: 200 logins in {:?} beside them", begun.elapsed()));
}

/// A thousand idle connections and 200 logins a second for a minute.
#[cfg(feature = "slow")]
#[test]
fn a_minute_of_logins_beside_a_thousand_idle_connections_fails_none_and_grows_nothing() {
    let db = MariaDb::start_with_document().unwrap();
    let (listen, userdb) = (Site::listen("auth"), Site::listen("master"));
    let site = Site::on_document(&db, &format!("[auth]\nlisten = {listen}\nuserdb = {userdb}\n{DELAY}")).unwrap();
    let mut daemon = site.start("dovecot-auth", "auth").unwrap();
    let resident = resident(daemon.process().unwrap().pid());
    let connect = || {
        let mut stream = Stream::connect(&Endpoint::from(site.run("auth"))).unwrap();
        shake(&mut stream);
        stream
    };
    let mut busy: Vec<Stream> = (0..4).map(|_| connect()).collect();
    let before = resident();
    let idle: Vec<Stream> = (0..1000).map(|_| connect()).collect();
    let begun = Instant::now();
    let mut id = 0;
    while begun.elapsed() < Duration::from_secs(60) {
        id += 1;
        for stream in &mut busy {
            let request = format!("AUTH\t{id}\tPLAIN\tservice=smtp\tnologin\tresp={}\n", plain("a@b.c", "apass"));
            stream.send(request.as_bytes()).unwrap();
        }
        for stream in &mut busy {
            assert_eq!(stream.read_text().unwrap(), format!("OK\t{id}\tuser=a@b.c"));
        }
        std::thread::sleep((begun + Duration::from_millis(20 * id)).saturating_duration_since(Instant::now()));
    }
    let each = resident().saturating_sub(before) / 1000;
    let rate = 4.0 * id as f64 / begun.elapsed().as_secs_f64();
    mailsql_rig::progress(format!("dovecot-auth: {each} bytes an idle connection, {rate:.0} logins/s for a minute"));
    assert!(each <= 16 * 1024, "{each} bytes a connection");
    assert!(rate >= 190.0, "{rate} logins/s");
    drop(idle);
}

/// Clients that stop in the middle, or never begin, are cut at the bounds; others are not.
#[cfg(feature = "slow")]
#[test]
fn silent_and_slow_clients_are_cut_after_half_a_minute() {
    let auth = Auth::start("");
    let mut patient = auth.connect();
    shake(&mut patient);
    let begun = Instant::now();
    let cut = |sent: &[u8]| {
        let mut stream = auth.connect();
        while stream.read_text().unwrap() != "DONE" {}
        stream.send(sent).unwrap();
        stream.set_read_timeout(Duration::from_secs(60)).unwrap();
        assert_eq!(stream.read_to_end().unwrap(), b"", "{}", sent.escape_ascii());
        begun.elapsed()
    };
    std::thread::scope(|scope| {
        let sent: [&[u8]; 3] = [b"", b"VERSION\t1", b"VERSION\t1\t0\nCPID\t1\nAUTH\t1\tPLAIN\tserv"];
        let waiting = sent.map(|sent| scope.spawn(move || cut(sent)));
        for thread in waiting {
            let after = thread.join().unwrap();
            assert!((Duration::from_secs(25)..Duration::from_secs(40)).contains(&after), "{after:?}");
        }
    });
    patient.send(format!("AUTH\t1\tPLAIN\tservice=smtp\tresp={}\n", plain("a@b.c", "apass")).as_bytes()).unwrap();
    assert_eq!(patient.read_text().unwrap(), "OK\t1\tuser=a@b.c");
}
