//! Encryption to the database: who is let in and who is refused, with the reason, at every level of `tls=`.

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "a fixture that fails fails the test")]

use mailsql_rig::client::saslauthd;
use mailsql_rig::{MariaDb, Ran, TempRoot, document, program, run};
use mailsql_tests::Site;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;

/// Certificates made for the test: two authorities, and servers and a client certified by them.
struct Certificates {
    root: TempRoot,
}

impl Certificates {
    fn make() -> Self {
        let this = Self { root: TempRoot::new().unwrap() };
        // Debian's own configuration would make every self-made certificate an authority.
        this.root.write("plain.cnf", "[req]\ndistinguished_name = name\n[name]\n").unwrap();
        for authority in ["ca", "other-ca"] {
            let subject = format!("/CN={authority}");
            let extension = "basicConstraints=critical,CA:TRUE";
            this.openssl(&subject, extension, &[], authority);
        }
        for (name, authority, names) in [
            ("right", "ca", "subjectAltName=DNS:localhost,IP:127.0.0.1"),
            ("wrong-name", "ca", "subjectAltName=DNS:db.example.org"),
            ("no-name", "ca", "basicConstraints=CA:FALSE"),
            ("wrong-ca", "other-ca", "subjectAltName=DNS:localhost,IP:127.0.0.1"),
            ("client", "ca", "extendedKeyUsage=clientAuth"),
        ] {
            let (ca, key) = (this.path(authority, "pem"), this.path(authority, "key"));
            let signed = ["-CA", &ca, "-CAkey", &key];
            let subject = format!("/CN={name}");
            this.openssl(&subject, names, &signed, name);
        }
        this
    }

    fn openssl(&self, subject: &str, extension: &str, more: &[&str], name: &str) {
        let (key, certificate) = (self.path(name, "key"), self.path(name, "pem"));
        let fresh = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-noenc"];
        let config = self.path("plain", "cnf");
        let mut command = Command::new("openssl");
        command.args(["req", "-x509", "-days", "2", "-config", &config, "-subj", subject, "-addext", extension]);
        command.args(fresh).args(more).args(["-keyout", &key, "-out", &certificate]);
        run(command, b"").unwrap().ok().unwrap();
        let readable = if name == "client" { 0o600 } else { 0o644 };
        std::fs::set_permissions(&key, std::fs::Permissions::from_mode(readable)).unwrap();
    }

    fn path(&self, name: &str, kind: &str) -> String {
        self.root.join(format!("{name}.{kind}")).display().to_string()
    }

    /// Gives a running server another certificate.
    fn give(&self, db: &MariaDb, name: &str) {
        for kind in ["pem", "key"] {
            std::fs::copy(self.path(name, kind), self.path("server", kind)).unwrap();
        }
        db.sql("FLUSH SSL").unwrap();
    }

    fn server(&self) -> MariaDb {
        for kind in ["pem", "key"] {
            std::fs::copy(self.path("right", kind), self.path("server", kind)).unwrap();
        }
        let flags = [
            "--ssl".to_owned(),
            format!("--ssl-cert={}", self.path("server", "pem")),
            format!("--ssl-key={}", self.path("server", "key")),
            format!("--ssl-ca={}", self.path("ca", "pem")),
        ];
        let db = MariaDb::start_with(&flags.each_ref().map(String::as_str)).unwrap();
        db.load_document().unwrap();
        db
    }
}

/// `mailsql check` of a right login against this url.
fn check(url: &str) -> Ran {
    let site = Site::with_database(&format!("url = \"{url}\""), "").unwrap();
    let mut command = Command::new(program("mailsql").unwrap());
    command.arg("--config").arg(site.config()).args(["check", "info@hoge.com", "--password-stdin"]);
    run(command, b"infopass").unwrap()
}

fn url(db: &MariaDb, host: &str, account: &str, parameters: &str) -> String {
    format!("mysql://{account}@{host}:{}/{}?{parameters}", db.port(), document::DATABASE)
}

#[test]
fn each_level_of_tls_lets_in_whom_it_should_and_names_host_and_reason_for_the_others() {
    let certificates = Certificates::make();
    let db = certificates.server();
    // From here on, a login without encryption is refused by the server: who gets in is encrypted.
    db.sql("ALTER USER mail@localhost REQUIRE SSL").unwrap();
    let ca = format!("&ca={}", certificates.path("ca", "pem"));
    let name = "not valid for name";
    let issuer = "authority that is not trusted";
    let mut current = "right";
    for (certificate, host, tls, with_ca, refused) in [
        ("right", "127.0.0.1", "off", false, Some("Access denied")),
        ("right", "127.0.0.1", "required", false, None),
        ("right", "127.0.0.1", "verify-ca", true, None),
        ("right", "127.0.0.1", "verify-identity", true, None),
        ("right", "localhost", "verify-identity", true, None),
        ("right", "127.0.0.1", "verify-ca", false, Some(issuer)),
        ("right", "127.0.0.1", "verify-identity", false, Some(issuer)),
        ("wrong-name", "127.0.0.1", "required", false, None),
        ("wrong-name", "127.0.0.1", "verify-ca", true, None),
        ("wrong-name", "127.0.0.1", "verify-identity", true, Some(name)),
        ("wrong-name", "localhost", "verify-identity", true, Some(name)),
        ("no-name", "127.0.0.1", "verify-ca", true, None),
        ("no-name", "localhost", "verify-identity", true, Some(name)),
        ("wrong-ca", "127.0.0.1", "required", false, None),
        ("wrong-ca", "127.0.0.1", "verify-ca", true, Some(issuer)),
        ("wrong-ca", "127.0.0.1", "verify-identity", true, Some(issuer)),
    ] {
        if certificate != current {
            certificates.give(&db, certificate);
            current = certificate;
        }
        let parameters = format!("tls={tls}{}", if with_ca { &ca } else { "" });
        let ran = check(&url(&db, host, "mail:mailpass", &parameters));
        let case = format!("{certificate} at {host} with tls={tls}, our ca {with_ca}");
        println!("{case}: exit {} {}", ran.code, ran.stderr.trim());
        match refused {
            None => assert_eq!(ran.code, 0, "{case}: {}", ran.text()),
            Some(reason) => {
                assert_eq!(ran.code, 75, "{case}: {}", ran.text());
                assert!(ran.stderr.contains(reason), "{case}: {}", ran.stderr);
                assert!(ran.stderr.contains(&format!("{host}:{}", db.port())), "{case}: {}", ran.stderr);
                assert!(!ran.stderr.contains("mailpass"), "{case}");
            }
        }
    }
}

#[test]
fn a_server_without_tls_is_refused_wherever_tls_is_asked_for() {
    let db = MariaDb::start_with_document().unwrap();
    for (tls, code) in [("off", 0), ("required", 75), ("verify-ca", 75), ("verify-identity", 75)] {
        let ran = check(&url(&db, "127.0.0.1", "mail:mailpass", &format!("tls={tls}")));
        assert_eq!(ran.code, code, "{tls}: {}", ran.text());
        let reason = format!("{}: the server offers no TLS, and the url says tls={tls}", db.host_port());
        assert_eq!(ran.stderr.contains(&reason), code == 75, "{tls}: {}", ran.stderr);
    }
}

#[test]
fn a_client_certificate_whose_key_only_root_reads_serves_a_daemon_that_is_not_root() {
    let certificates = Certificates::make();
    let db = certificates.server();
    db.sql("ALTER USER mail@localhost REQUIRE X509").unwrap();
    let path = |name: &str, kind: &str| certificates.path(name, kind);
    let encrypted = format!("tls=verify-identity&ca={}", path("ca", "pem"));
    let ran = check(&url(&db, "127.0.0.1", "mail:mailpass", &encrypted));
    assert_eq!(ran.code, 75, "{}", ran.text());
    assert!(ran.stderr.contains("Access denied"), "{}", ran.stderr);

    let with = format!("{encrypted}&cert={}&key={}", path("client", "pem"), path("client", "key"));
    let address = url(&db, "127.0.0.1", "mail:mailpass", &with);
    assert_eq!(check(&address).code, 0);
    let site = Site::with_database(&format!("url = \"{address}\""), "[saslauthd]\nlisten = \"{run}/mux\"\n").unwrap();
    let mut daemon = site.start("saslauthd-rs", "mux").unwrap();
    let answer = saslauthd::ask(site.run("mux"), "info@hoge.com", "infopass", "smtp", "").unwrap();
    assert_eq!(answer.as_deref(), Some("OK"), "{}", daemon.log());
    let status = format!("/proc/{}/status", daemon.process().unwrap().pid());
    assert!(!std::fs::read_to_string(status).unwrap().contains("Uid:\t0\t"), "the daemon is not root");

    // A key that everybody may read is no key; a missing file is named.
    std::fs::set_permissions(path("client", "key"), std::fs::Permissions::from_mode(0o644)).unwrap();
    let ran = check(&address);
    assert_eq!(ran.code, 2, "{}", ran.text());
    assert!(ran.stderr.contains("everybody may read it"), "{}", ran.stderr);
    std::fs::remove_file(path("client", "key")).unwrap();
    let ran = check(&address);
    assert!(ran.code == 2 && ran.stderr.contains("client.key"), "{}", ran.text());
}

#[test]
fn ed25519_accounts_unix_sockets_and_password_files_work() {
    let db = MariaDb::start_with_document().unwrap();
    db.sql(
        "INSTALL SONAME 'auth_ed25519'; \
         CREATE USER ed@localhost IDENTIFIED VIA ed25519 USING PASSWORD('edpass'); \
         GRANT SELECT ON mail.* TO ed@localhost",
    )
    .unwrap();
    let socket = format!("socket={}", db.socket().display());
    for (account, host, parameters, code) in [
        ("ed:edpass", "127.0.0.1", "", 0),
        ("ed:wrong", "127.0.0.1", "", 75),
        ("ed:edpass", "localhost", socket.as_str(), 0),
        ("mail:mailpass", "localhost", &socket, 0),
        ("mail:wrong", "localhost", &socket, 75),
    ] {
        let ran = check(&url(&db, host, account, parameters));
        assert_eq!(ran.code, code, "{account} {parameters}: {}", ran.text());
        assert!(code == 0 || ran.stderr.contains("Access denied"), "{}", ran.stderr);
    }

    let root = TempRoot::new().unwrap();
    for (text, mode, code) in [("edpass\n", 0o600, 0), ("wrong\n", 0o600, 75), ("edpass\n", 0o644, 2)] {
        let file: PathBuf = root.write_mode("password", text, mode).unwrap();
        let database = format!("url = \"{}\"\npassword_file = \"{}\"", url(&db, "127.0.0.1", "ed", ""), file.display());
        let site = Site::with_database(&database, "").unwrap();
        let mut command = Command::new(program("mailsql").unwrap());
        command.arg("--config").arg(site.config()).args(["check", "info@hoge.com", "--password-stdin"]);
        let ran = run(command, b"infopass").unwrap();
        assert_eq!(ran.code, code, "{text} {mode:o}: {}", ran.text());
    }
}
