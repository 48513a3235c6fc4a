//! Exim's dovecot authenticator before dovecot-auth.
//!
//! Exim's package removes Postfix, so it is downloaded and unpacked instead, once, into /var/tmp/mailsql-rig. Its light
//! variant has no dovecot authenticator. A Debian Exim looks up its user by name when it starts; nss_wrapper gives it one.

#![allow(clippy::unwrap_used, reason = "a fixture that fails fails the test")]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use mailsql_rig::client::smtp::Smtp;
use mailsql_rig::{Daemon, MariaDb, Ready, TempRoot, free_port, run, wait_until};
use mailsql_tests::Site;

const FOLDER: &str = "/var/tmp/mailsql-rig/exim";
/// Exim, what nss_wrapper is in, and the libraries that the other peers do not bring.
const PACKAGES: [&str; 11] = [
    "exim4-daemon-heavy",
    "libnss-wrapper",
    "libspf2-2",
    "libidn12",
    "libgnutls-dane0",
    "libunbound8",
    "libdb5.3",
    "libldap-2.5-0",
    "libpq5",
    "libperl5.36",
    "libnsl2",
];
/// What the account Debian-exim gets: a number that nobody has.
const UID: u32 = 64_999;

fn shell(script: &str) -> String {
    let mut command = Command::new("sh");
    command.args(["-ec", script]);
    run(command, b"").unwrap().ok().unwrap()
}

/// The folder with Exim in it.
fn exim() -> PathBuf {
    let list = PACKAGES.join(" ");
    // Unpacked under another name and then renamed: a broken download leaves nothing that looks whole.
    shell(&format!(
        "mkdir -p $(dirname {FOLDER}); exec 9>{FOLDER}.lock; flock 9; test -d {FOLDER} && exit 0
         rm -rf {FOLDER}.new; mkdir {FOLDER}.new; cd {FOLDER}.new; apt-get -q download {list} >&2
         for package in *.deb; do dpkg -x $package .; done; rm *.deb; chmod u-s usr/sbin/exim4; mv {FOLDER}.new {FOLDER}"
    ));
    FOLDER.into()
}

/// Exim on a port of 127.0.0.1 that logs in through `socket`.
fn start(root: &TempRoot, socket: &Path, port: u16) -> Daemon {
    let folder = exim();
    let own = root.path().display();
    root.folder("spool", 0o750, UID, UID).unwrap();
    let accounts = [
        ("passwd", format!("Debian-exim:x:{UID}:{UID}::/:/bin/false\n")),
        ("group", format!("Debian-exim:x:{UID}:\n")),
    ];
    for (name, line) in accounts {
        let known = std::fs::read_to_string(format!("/etc/{name}")).unwrap();
        root.write(name, format!("{known}{line}")).unwrap();
    }
    let authenticator = |name: &str| {
        format!(
            "{name}:\n  driver = dovecot\n  public_name = {name}\n  server_socket = {}\n  server_set_id = $auth1\n",
            socket.display()
        )
    };
    let config = format!(
        "primary_hostname = mail.example.test\nspool_directory = {own}/spool\nlog_file_path = {own}/spool/%slog\n\
         pid_file_path = {own}/spool/pid\ndaemon_smtp_ports = {port}\nlocal_interfaces = 127.0.0.1\n\
         tls_advertise_hosts =\nauth_advertise_hosts = *\nhost_lookup =\nrfc1413_hosts =\nsmtp_accept_queue = 1\n\
         acl_smtp_rcpt = rcpt\nbegin acl\nrcpt:\n  accept authenticated = *\n  deny\nbegin authenticators\n{}{}",
        authenticator("PLAIN"),
        authenticator("LOGIN")
    );
    let config = root.write("exim.conf", config).unwrap();
    let wrapper = shell(&format!("ls {FOLDER}/usr/lib/*-linux-gnu/libnss_wrapper.so")).trim().to_owned();
    let libraries = format!("{FOLDER}/usr/lib:{}", Path::new(&wrapper).parent().unwrap().display());
    let daemon = Daemon::setup("exim").program(folder.join("usr/sbin/exim4")).args(["-bdf", "-C"]).arg(config);
    let daemon = daemon.env("LD_LIBRARY_PATH", &libraries).env("LD_PRELOAD", wrapper);
    let daemon = daemon.env("NSS_WRAPPER_PASSWD", root.join("passwd")).env("NSS_WRAPPER_GROUP", root.join("group"));
    daemon.ready(Ready::Tcp(([127, 0, 0, 1], port).into())).start().unwrap()
}

#[test]
fn exim_logs_in_refuses_and_defers() {
    let mut db = MariaDb::start_with_document().unwrap();
    let sections = format!(
        "[cache]\npositive_ttl = \"0s\"\nstale_ttl = \"0s\"\n[auth]\nfailure_delay = \"50ms\"\nlisten = {}\nuserdb = {}\n",
        Site::listen("auth"),
        Site::listen("master")
    );
    let site = Site::on_document(&db, &sections).unwrap();
    let _auth = site.start("dovecot-auth", "auth").unwrap();
    let (root, port) = (TempRoot::new().unwrap(), free_port().unwrap());
    let exim = start(&root, &site.run("auth"), port);
    let codes = |user: &str, password: &str| {
        let mut plain = Smtp::hello(port).unwrap();
        let mut login = Smtp::hello(port).unwrap();
        [plain.auth_plain(user, password).unwrap().code, login.auth_login(user, password).unwrap().code]
    };
    let log = || format!("{}\n{}", exim.log(), std::fs::read_to_string(root.join("spool/mainlog")).unwrap_or_default());
    assert_eq!(codes("a@b.c", "apass"), [235, 235], "{}", log());
    assert_eq!(codes("a@b.c", "wrong"), [535, 535], "{}", log());
    assert_eq!(codes("nobody@b.c", "apass"), [535, 535], "{}", log());
    let mut session = Smtp::hello(port).unwrap();
    assert_eq!(session.auth_plain("A@B.C", "apass").unwrap().code, 235);
    session.send("a@b.c", &["x@example.org"], "Subject: x\n\nx\n").unwrap();
    // Exim's $auth1 is the name as we spell it.
    wait_until("the login in the log", Duration::from_secs(10), || log().contains("A=PLAIN:a@b.c")).unwrap();

    db.stop();
    assert_eq!(codes("a@b.c", "apass"), [435, 435], "{}", log());
    db.restart().unwrap();
    wait_until("logins after the outage", Duration::from_secs(20), || codes("a@b.c", "apass") == [235, 235]).unwrap();
}
