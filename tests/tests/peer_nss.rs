//! glibc asks the NSS module: getent, id, enumeration, small buffers, and a daemon that hangs.

#![allow(clippy::unwrap_used, reason = "a fixture that fails fails the test")]

use mailsql_rig::{Daemon, Ran, TempRoot, module, program, run};
use nix::sys::signal::Signal;
use std::process::Command;
use std::time::{Duration, Instant};

const OWNER: u32 = 65534;

/// `mailsql serve` with an NSS socket, and a host whose nsswitch.conf names the module (in a mount namespace of its own).
struct Host {
    root: TempRoot,
    daemon: Daemon,
}

impl Host {
    fn start(nss: &str, conf: &str) -> Self {
        let root = TempRoot::new().unwrap();
        let path = root.path().display().to_string();
        root.folder("db", 0o2770, OWNER, OWNER).unwrap();
        root.folder("lib", 0o755, 0, 0).unwrap();
        let text = format!(
            "[database]\nurl = \"sqlite:{path}/db/mail.db\"\n[mail]\nroot = \"{path}/mail\"\nuid = 5000\ngid = 5000\n[serve]\nuser = \"nobody\"\n\
             group = \"nogroup\"\n[control]\ndir = \"{path}\"\n[state]\ndir = \"{path}/db\"\n[nss]\nlisten = \"{path}/nss.sock\"\n{nss}"
        );
        let config = root.write_mode("mailsql.toml", text, 0o640).unwrap();
        let mailsql = |arguments: &[&str], input: &str| {
            let mut command = Command::new(program("mailsql").unwrap());
            command.arg("--config").arg(&config).args(arguments);
            run(command, input.as_bytes()).unwrap().ok().unwrap();
        };
        mailsql(&["init", "--database", &format!("sqlite:{path}/db/mail.db")], "");
        std::os::unix::fs::chown(root.join("db/mail.db"), Some(OWNER), Some(OWNER)).unwrap();
        mailsql(&["domain", "add", "example.jp"], "");
        for user in ["info", "daemon", "a", "b"] {
            mailsql(&["user", "add", &format!("{user}@example.jp"), "--password-stdin"], "apass");
        }
        std::fs::copy(module("nss_mailsql").unwrap(), root.join("lib/libnss_mailsql.so.2")).unwrap();
        root.write("nss.conf", format!("socket = {path}/nss.sock\n{conf}")).unwrap();
        let system = std::fs::read_to_string("/etc/nsswitch.conf").unwrap_or_default();
        let others = system.lines().filter(|line| !line.starts_with("passwd:") && !line.starts_with("group:"));
        let mut lines: Vec<&str> = others.collect();
        lines.extend(["passwd: files mailsql", "group: files mailsql"]);
        root.write("nsswitch.conf", lines.join("\n") + "\n").unwrap();
        let daemon = Daemon::setup("mailsql").arg("--config").arg(&config).arg("serve");
        let daemon = daemon.ready_socket(root.join("nss.sock")).start().unwrap();
        Self { root, daemon }
    }

    /// Runs a command that sees this host's nsswitch.conf.
    fn run(&self, command: &str) -> Ran {
        let mut shell = Command::new("unshare");
        let path = self.root.path().display();
        let script = format!("mount --bind {path}/nsswitch.conf /etc/nsswitch.conf && exec {command}");
        shell.args(["-m", "sh", "-c", &script]);
        shell.env("LD_LIBRARY_PATH", self.root.join("lib")).env("MAILSQL_NSS_CONF", self.root.join("nss.conf"));
        run(shell, b"").unwrap()
    }

    fn line(&self, name: &str, home: &str) -> String {
        format!("{name}:*:5000:5000::{}/mail/{home}:/usr/sbin/nologin\n", self.root.path().display())
    }
}

#[test]
fn accounts_are_users_by_their_whole_address() {
    let host = Host::start("", "");
    for (name, expected) in [("info@example.jp", 0), ("INFO@EXAMPLE.JP", 0), ("nobody@example.jp", 2), ("info", 2)] {
        let ran = host.run(&format!("getent passwd {name}"));
        assert_eq!(ran.code, expected, "{name}: {}", ran.text());
        if expected == 0 {
            assert_eq!(ran.stdout, host.line("info@example.jp", "info@example.jp"));
        }
    }
    let ran = host.run("id info@example.jp");
    assert!(ran.text().contains("uid=5000(") || ran.text().contains("uid=5000 "), "{}", ran.text());
    // The host's own users come from its files, and numbers are theirs.
    assert!(host.run("getent passwd root").text().starts_with("root:"));
    assert_eq!(host.run("getent passwd 5999").code, 2);
    assert_eq!(host.run("getent group nobody@example.jp").code, 2);
    assert!(!host.run("getent passwd").text().contains("example.jp"), "enumeration is off");
}

#[test]
fn bare_names_are_ours_when_they_are_configured_and_not_the_hosts() {
    let host = Host::start("short_names = \"example.jp\"\n", "short_names = yes\n");
    assert_eq!(host.run("getent passwd info").stdout, host.line("info", "info@example.jp"));
    // Debian has a user `daemon`: its files answer, and were they silent, we would be, too.
    assert!(host.run("getent passwd daemon").text().starts_with("daemon:x:1:"));
    assert_eq!(host.run("getent -s mailsql passwd daemon").code, 2);
    assert_eq!(host.run("getent passwd stranger").code, 2);
}

#[test]
fn accounts_are_listed_when_both_sides_say_so() {
    let host = Host::start("enumerate = true\n", "enumerate = yes\n");
    let text = host.run("getent passwd").text();
    for user in ["a", "b", "info", "daemon"] {
        assert!(text.contains(&format!("\n{user}@example.jp:*:5000:")), "{user}: {text}");
    }
    assert_eq!(text.matches("@example.jp:*:").count(), 4, "{text}");
}

#[test]
fn a_buffer_that_is_too_small_is_asked_for_again() {
    let host = Host::start("", "");
    let source = "#include <pwd.h>\n#include <errno.h>\n#include <stdio.h>\nint main(void) { struct passwd p, *r; char b[4096];
        for (int n = 0; n < 4096; n++) { int e = getpwnam_r(\"info@example.jp\", &p, b, n, &r);
            if (e == ERANGE) continue; if (e || !r) return 1; printf(\"%d %s\\n\", n, p.pw_name); return 0; } return 2; }";
    let file = host.root.write("small.c", source).unwrap();
    let mut gcc = Command::new("gcc");
    gcc.args(["-o"]).arg(host.root.join("small")).arg(file);
    run(gcc, b"").unwrap().ok().unwrap();
    let ran = host.run(&host.root.join("small").display().to_string());
    let expected = host.line("info@example.jp", "info@example.jp");
    // The strings and their NULs: the line without its numbers and colons. The host's files want some room before us.
    let strings = expected.len() - "5000:5000:".len();
    let (size, name) = ran.stdout.trim_end().split_once(' ').unwrap();
    assert_eq!(name, "info@example.jp");
    assert!((strings..1024).contains(&size.parse().unwrap()), "{size} bytes, {strings} of strings");
}

#[test]
fn a_daemon_that_hangs_delays_nobody_for_long_and_is_never_an_absence() {
    let mut host = Host::start("", "");
    host.daemon.process().unwrap().signal(Signal::SIGSTOP).unwrap();
    for (command, code) in [("getent passwd root", 0), ("ls -l /", 0), ("getent passwd stranger", 2)] {
        let begun = Instant::now();
        let ran = host.run(command);
        assert_eq!(ran.code, code, "{command}: {}", ran.text());
        assert!(begun.elapsed() < Duration::from_millis(1500), "{command}: {:?}", begun.elapsed());
    }
    // perl tells errno: an absence would leave it at 0 or ENOENT, trouble is EAGAIN.
    let ran = host.run("perl -e '$! = 0; my @p = getpwnam(q(info@example.jp)); print scalar(@p), q( ), $!+0'");
    assert_eq!(ran.text(), format!("0 {}", nix::errno::Errno::EAGAIN as i32));
    host.daemon.process().unwrap().signal(Signal::SIGCONT).unwrap();
    host.daemon.stop();
    let ran = host.run("perl -e '$! = 0; my @p = getpwnam(q(info@example.jp)); print scalar(@p), q( ), $!+0'");
    assert_eq!(ran.text(), format!("0 {}", nix::errno::Errno::EAGAIN as i32));
}
