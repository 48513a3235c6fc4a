//! saslauthd-rs beside saslauthd: one table of requests, libsasl2's own programs, the start script's ways, restarts
//! without a lost login, and PAM modules that hang and crash.

#![allow(clippy::unwrap_used, reason = "a fixture that fails fails the test")]

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use mailsql_rig::client::saslauthd::{self, ask_raw, encode};
use mailsql_rig::client::{Endpoint, Stream};
use mailsql_rig::{
    Daemon, MariaDb, Process, Ready, Side, TempRoot, pam, peer, program, run, testsaslauthd, wait_until,
};
use mailsql_tests::{Sasl, Site};

/// What the wire must say; reasons are each side's own where the table says so.
#[derive(Debug, PartialEq)]
enum Said {
    Ok,
    No,
    Exactly(&'static str),
    Closed,
}

impl Said {
    fn holds(&self, answer: Option<&str>) -> bool {
        match (self, answer) {
            (Self::Ok, Some("OK")) | (Self::Closed, None) => true,
            (Self::No, Some(text)) => text.starts_with("NO "),
            (Self::Exactly(expected), Some(text)) => text == *expected,
            _ => false,
        }
    }
}

fn one_table_of_requests(side: Side) {
    let db = MariaDb::start_with_document().unwrap();
    let sasl = Sasl::start(side, &db).unwrap();
    let (socket, service) = (sasl.socket(), sasl.service().as_bytes().to_vec());
    let request = |fields: &[&[u8]]| encode(fields).unwrap();
    let long = [b'x'; 257];
    let longest = [b'x'; 256];
    let whole = request(&[b"a", b"apass", &service, b"b.c"]);
    let table: Vec<(&str, Vec<u8>, Said)> = vec![
        ("right", whole.clone(), Said::Ok),
        ("unsplit, empty realm", request(&[b"a@b.c", b"apass", &service, b""]), Said::Ok),
        ("wrong password", request(&[b"a", b"wrong", &service, b"b.c"]), Said::No),
        ("unknown user", request(&[b"nobody", b"apass", &service, b"b.c"]), Said::No),
        ("another realm", request(&[b"a", b"apass", &service, b"example.org"]), Said::No),
        ("no realm where there must be one", request(&[b"a", b"apass", &service, b""]), Said::No),
        ("empty login", request(&[b"", b"apass", &service, b"b.c"]), Said::Exactly("NO NULL login received")),
        ("empty password", request(&[b"a", b"", &service, b"b.c"]), Said::Exactly("NO NULL password received")),
        ("NUL ends a field", request(&[b"a", b"apass\0x", &service, b"b.c"]), Said::Ok),
        ("a login of NUL", request(&[b"\0a", b"apass", &service, b"b.c"]), Said::Exactly("NO NULL login received")),
        ("8-bit login", request(&[b"\xe9\xff", b"apass", &service, b"b.c"]), Said::No),
        ("8-bit password", request(&[b"a", b"p\xc3\xa4ss\xff", &service, b"b.c"]), Said::No),
        ("a login of 256 bytes", request(&[&longest, b"apass", &service, b""]), Said::No),
        ("a login of 257 bytes", request(&[&long, b"apass", &service, b""]), Said::Exactly("NO ")),
        ("a password of 257 bytes", request(&[b"a", &long, &service, b"b.c"]), Said::Exactly("NO ")),
        ("a realm of 257 bytes", request(&[b"a", b"apass", &service, &long]), Said::Exactly("NO ")),
        ("a length of 65535", b"\xff\xff".to_vec(), Said::Exactly("NO ")),
        ("five fields", request(&[b"a", b"apass", &service, b"b.c", b"192.0.2.1"]), Said::Ok),
        ("four and a half fields", [&whole[..], b"\0\x0919"].concat(), Said::Ok),
        ("nothing", Vec::new(), Said::Closed),
        ("half a request", whole[..whole.len() / 2].to_vec(), Said::Closed),
        ("all but a byte", whole[..whole.len() - 1].to_vec(), Said::Closed),
    ];
    for (name, bytes, expected) in table {
        let answer = ask_raw(socket.clone(), &bytes).unwrap();
        assert!(expected.holds(answer.as_deref()), "{side:?}, {name}: {answer:?}, not {expected:?}");
    }
    // Slow, a byte at a time.
    let mut stream = Stream::connect(&Endpoint::from(socket.clone())).unwrap();
    for byte in &whole {
        stream.send(&[*byte]).unwrap();
        std::thread::sleep(Duration::from_millis(2));
    }
    assert_eq!(stream.read_exact(4).unwrap(), b"\0\x02OK");

    // libsasl2's own programs.
    let service = sasl.service();
    let told =
        |user: &str, realm: &str, password: &str| testsaslauthd(&socket, service, user, realm, password).unwrap();
    assert_eq!(told("a", "b.c", "apass"), (0, "0: OK \"Success.\"".to_owned()));
    assert_eq!(told("a", "b.c", "wrong"), (255, "0: NO \"authentication failed\"".to_owned()));
    for (user, password, expected) in
        [("a@b.c", "apass", true), ("a@b.c", "wrong", false), ("nobody@b.c", "apass", false)]
    {
        let said = sample_programs(&socket, service, user, password);
        assert_eq!(said.contains("Negotiation complete"), expected, "{side:?} {user}: {said}");
        assert_eq!(said.contains("authentication failure"), !expected, "{side:?} {user}: {said}");
    }
}

/// libsasl2's sample client makes a PLAIN message, its sample server has it checked; what the server said.
fn sample_programs(socket: &Path, service: &str, user: &str, password: &str) -> String {
    let root = TempRoot::new().unwrap();
    let settings = format!("pwcheck_method: saslauthd\nmech_list: PLAIN\nsaslauthd_path: {}\n", socket.display());
    root.write("sample.conf", settings).unwrap();
    // Without a terminal the client reads the password where it reads what the server says.
    let mut client = Command::new("setsid");
    client.arg(peer("sasl-sample-client", "sasl2-bin").unwrap());
    client.args(["-s", service, "-m", "PLAIN", "-a", user, "-u", user]);
    let client = run(client, format!("S: UExBSU4=\n{password}\n").as_bytes()).unwrap().text();
    let message = client.lines().find(|line| line.starts_with("C: ")).unwrap().to_owned();
    let mut server = Command::new(peer("sasl-sample-server", "sasl2-bin").unwrap());
    server.args(["-s", service, "-m", "PLAIN"]).env("SASL_CONF_PATH", root.path());
    run(server, format!("{message}\n").as_bytes()).unwrap().text()
}

#[test]
fn one_table_of_requests_reads_the_same_on_both_sides() {
    one_table_of_requests(Side::Ours);
    one_table_of_requests(Side::Theirs);
}

/// One login after the other, about a hundred a second; what was not answered OK.
struct Load {
    stop: std::sync::Arc<AtomicBool>,
    failed: std::sync::Arc<AtomicU32>,
    done: std::sync::Arc<AtomicU32>,
    threads: Vec<std::thread::JoinHandle<()>>,
}

impl Load {
    fn start(login: impl Fn() -> bool + Send + Sync + 'static) -> Self {
        let login = std::sync::Arc::new(login);
        let (stop, failed, done) = (std::sync::Arc::default(), std::sync::Arc::default(), std::sync::Arc::default());
        let mut load = Self { stop, failed, done, threads: Vec::new() };
        for _ in 0..4 {
            let (login, stop) = (std::sync::Arc::clone(&login), std::sync::Arc::clone(&load.stop));
            let (failed, done) = (std::sync::Arc::clone(&load.failed), std::sync::Arc::clone(&load.done));
            load.threads.push(std::thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    let count = if login() { &done } else { &failed };
                    count.fetch_add(1, Ordering::Relaxed);
                    std::thread::sleep(Duration::from_millis(30));
                }
            }));
        }
        load
    }

    /// Waits until so many more logins are through.
    fn goes_on(&self, logins: u32) {
        let from = self.done.load(Ordering::Relaxed);
        wait_until("logins to go on", Duration::from_secs(30), || self.done.load(Ordering::Relaxed) >= from + logins)
            .unwrap();
    }

    fn end(self) -> (u32, u32) {
        self.stop.store(true, Ordering::Relaxed);
        self.threads.into_iter().for_each(|thread| thread.join().unwrap());
        (self.done.load(Ordering::Relaxed), self.failed.load(Ordering::Relaxed))
    }
}

#[test]
fn a_newer_daemon_takes_the_socket_over_without_a_lost_login() {
    let db = MariaDb::start_with_document().unwrap();
    let site = Site::on_document(&db, "[saslauthd]\nlisten = \"{run}/mux\"\n").unwrap();
    let mut daemon = site.start("saslauthd-rs", "mux").unwrap();
    let socket = site.run("mux");
    let load = Load::start(move || {
        saslauthd::ask(socket.clone(), "a", "apass", "smtp", "b.c").is_ok_and(|answer| answer.as_deref() == Some("OK"))
    });
    for _ in 0..5 {
        load.goes_on(20);
        // The newer one is there before the older one is told to end; the socket accepts in any case.
        let newer = site.start("saslauthd-rs", "mux").unwrap();
        newer.wait_for_log("serving", Duration::from_secs(10)).unwrap();
        drop(daemon);
        daemon = newer;
    }
    load.goes_on(50);
    let (done, failed) = load.end();
    assert_eq!(failed, 0, "of {done}");
    drop(daemon);
    assert!(!site.run("mux").exists());
}

/// A daemon started on a socket that somebody else keeps, as systemd does.
struct Activated(Child);

impl Activated {
    fn start(listener: &std::os::unix::net::UnixListener, config: &Path) -> Self {
        let script = "exec 3<&0 0</dev/null; export LISTEN_PID=$$ LISTEN_FDS=1 LISTEN_FDNAMES=saslauthd; exec \"$@\"";
        let mut command = Command::new("sh");
        command.args(["-c", script, "sh"]).arg(program("saslauthd-rs").unwrap()).arg("--config").arg(config);
        let fd = std::os::fd::OwnedFd::from(listener.try_clone().unwrap());
        Self(command.stdin(fd).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
    }

    fn end(mut self) {
        let mut kill = Command::new("kill");
        kill.arg(self.0.id().to_string());
        run(kill, b"").unwrap().ok().unwrap();
        assert!(self.0.wait().unwrap().success());
    }
}

impl Drop for Activated {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_restart_on_a_socket_of_the_service_manager_loses_no_login() {
    let db = MariaDb::start_with_document().unwrap();
    let site = Site::on_document(&db, "[saslauthd]\nlisten = \"{run}/elsewhere\"\n").unwrap();
    let socket = site.run("mux");
    let listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    let asked = socket.clone();
    let load = Load::start(move || {
        saslauthd::ask(asked.clone(), "a", "apass", "smtp", "b.c").is_ok_and(|answer| answer.as_deref() == Some("OK"))
    });
    for _ in 0..4 {
        let daemon = Activated::start(&listener, site.config());
        load.goes_on(30);
        daemon.end();
    }
    let daemon = Activated::start(&listener, site.config());
    load.goes_on(30);
    let (done, failed) = load.end();
    assert_eq!(failed, 0, "of {done}");
    daemon.end();
    assert!(socket.exists() && !site.run("elsewhere").exists());
}

/// A daemon in the background, ended when dropped.
struct Background {
    process: Process,
    folder: PathBuf,
}

impl Background {
    fn start(arguments: &[&str], folder: &Path) -> Self {
        let mut command = Command::new(program("saslauthd-rs").unwrap());
        command.args(arguments).arg("-m").arg(folder);
        command.env_remove("NOTIFY_SOCKET").env_remove("LISTEN_FDS");
        let begun = Instant::now();
        run(command, b"").unwrap().ok().unwrap();
        assert!(begun.elapsed() < Duration::from_secs(10));
        let pid: i32 = std::fs::read_to_string(folder.join("saslauthd.pid")).unwrap().trim().parse().unwrap();
        Self { process: Process::adopt("saslauthd-rs", pid, &folder.join("no-log")), folder: folder.to_owned() }
    }

    fn mux(&self) -> PathBuf {
        self.folder.join("mux")
    }
}

#[test]
fn without_d_it_goes_into_the_background_and_is_ready_when_its_starter_ends() {
    let db = MariaDb::start_with_document().unwrap();
    let site = Site::on_document(&db, "").unwrap();
    let root = TempRoot::new().unwrap();
    let folder = root.folder("sasl", 0o777, 0, 0).unwrap();
    let config = site.config().to_str().unwrap().to_owned();
    let mut daemon = Background::start(&["-a", "mailsql", "-O", &config, "-c", "-r", "-n", "5"], &folder);
    // No waiting: it must answer now.
    assert_eq!(testsaslauthd(&daemon.mux(), "smtp", "a", "b.c", "apass").unwrap().0, 0);
    let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(daemon.mux()).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o777);
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", daemon.process.pid())).unwrap();
    let session = stat.rsplit_once(") ").unwrap().1.split(' ').nth(3).unwrap().to_owned();
    assert_eq!(session, daemon.process.pid().to_string(), "a session of its own");
    daemon.process.stop();
    assert!(!daemon.mux().exists() && !folder.join("saslauthd.pid").exists());

    // What is wrong is told on the terminal, with a status.
    let mut command = Command::new(program("saslauthd-rs").unwrap());
    command.args(["-a", "mailsql", "-O", &config, "-m", "/proc/no/such/folder"]);
    let ran = run(command, b"").unwrap();
    assert_eq!(ran.code, 2, "{}", ran.text());
    assert!(ran.stderr.contains("folder"), "{}", ran.text());
    for mechanism in ["sasldb", "getpwent", "kerberos5", "rimap", "shadow", "ldap"] {
        let mut command = Command::new(program("saslauthd-rs").unwrap());
        command.args(["-a", mechanism]);
        let ran = run(command, b"").unwrap();
        assert_eq!((ran.code, ran.stderr.contains(mechanism)), (2, true), "{}", ran.text());
    }
}

/// A PAM module in C that does what its argument says.
fn module(root: &TempRoot) -> PathBuf {
    let source = root
        .write(
            "pam_awkward.c",
            "#include <string.h>\n#include <stdlib.h>\n#include <unistd.h>\n#include <stdio.h>\n\
             #include <security/pam_modules.h>\n#include <security/pam_ext.h>\n\
             int pam_sm_authenticate(pam_handle_t *h, int f, int c, const char **v) {\n\
               const char *user, *word; pam_get_user(h, &user, 0); pam_get_authtok(h, PAM_AUTHTOK, &word, 0);\n\
               puts(\"noise on standard output\"); fflush(stdout);\n\
               if (!strncmp(user, \"hang\", 4)) for (;;) pause();\n\
               if (!strncmp(user, \"crash\", 5)) abort();\n\
               if (!strncmp(user, \"exit\", 4)) exit(0);\n\
               if (!strncmp(user, \"down\", 4)) return PAM_AUTHINFO_UNAVAIL;\n\
               if (!word || strcmp(word, \"right\")) return PAM_AUTH_ERR;\n\
               return PAM_SUCCESS; }\n\
             int pam_sm_acct_mgmt(pam_handle_t *h, int f, int c, const char **v) {\n\
               const char *user; pam_get_user(h, &user, 0);\n\
               return strncmp(user, \"ended\", 5) ? PAM_SUCCESS : PAM_ACCT_EXPIRED; }\n\
             int pam_sm_setcred(pam_handle_t *h, int f, int c, const char **v) { return PAM_SUCCESS; }\n",
        )
        .unwrap();
    let object = root.join("pam_awkward.so");
    let mut gcc = Command::new("gcc");
    gcc.args(["-shared", "-fPIC", "-o"]).arg(&object).arg(source).arg("-lpam");
    run(gcc, b"").unwrap().ok().unwrap();
    object
}

#[test]
fn a_pam_module_that_hangs_or_crashes_costs_its_own_login_only() {
    let root = TempRoot::new().unwrap();
    let module = module(&root).display().to_string();
    let service = pam::Service::new(&format!("auth required {module}\naccount required {module}\n")).unwrap();
    let folder = root.folder("sasl", 0o777, 0, 0).unwrap();
    let daemon =
        Daemon::setup("saslauthd-rs").args(["-a", "pam", "-d", "-r", "-n", "4", "-O", "timeout=3", "-m"]).arg(&folder);
    let mut daemon = daemon.ready(Ready::Socket(folder.join("mux"))).start().unwrap();
    let mux = folder.join("mux");
    let name = service.name().to_owned();
    let ask = |user: &str, password: &str| saslauthd::ask(mux.clone(), user, password, &name, "b.c").unwrap();
    for (user, password, expected) in [
        ("a", "right", Some("OK")),
        ("a", "wrong", Some("NO PAM auth error")),
        ("ended", "right", Some("NO PAM acct error")),
        ("down", "right", None),
        ("crash", "right", None),
        ("exit", "right", None),
        ("a", "right", Some("OK")),
    ] {
        assert_eq!(ask(user, password).as_deref(), expected, "{user}");
    }
    // Three of four children hang; logins go on beside them.
    let begun = Instant::now();
    std::thread::scope(|scope| {
        let hung: Vec<_> = (0..3).map(|_| scope.spawn(|| (ask("hang", "right"), begun.elapsed()))).collect();
        std::thread::sleep(Duration::from_millis(300));
        for _ in 0..20 {
            assert_eq!(ask("a", "right").as_deref(), Some("OK"));
        }
        assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
        for thread in hung {
            let (answer, after) = thread.join().unwrap();
            assert_eq!(answer, None);
            assert!((Duration::from_secs(2)..Duration::from_secs(6)).contains(&after), "{after:?}");
        }
    });
    for _ in 0..8 {
        assert_eq!(ask("a", "right").as_deref(), Some("OK"));
    }
    // A service that no file describes is not ours to name by a path.
    assert_eq!(
        saslauthd::ask(mux.clone(), "a", "right", "../pam.d/login", "").unwrap().as_deref(),
        Some("NO PAM start error")
    );
    let line = daemon.wait_for_log("do_auth         : auth failure: [user=a@b.c]", Duration::from_secs(5)).unwrap();
    assert!(line.contains("[mech=pam] [reason=PAM auth error]"), "{line}");
    assert!(!daemon.log().contains("right"), "a password in the log");
    let members = daemon.process().unwrap().members();
    assert!(members.len() <= 5, "{members:?}");
}
