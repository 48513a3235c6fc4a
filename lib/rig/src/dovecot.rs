//! A private Dovecot: IMAP, POP3 and LMTP, its own base folder and log.
//!
//! The configuration is a template per generation, chosen by the installed version; 2.3 is the one there is. `passdb` and
//! `userdb` come from the test as the inside of their block.
//!
//! Oddities (Dovecot 2.3.19):
//! - Login processes chroot into the base folder's `login`.
//! - `auth_failure_delay` holds back a refusal for 2 s unless it is 0, and anvil's penalty holds back every later login
//!   from the address, a right one too, unless its socket has mode 0. The fixture sets both; a test that wants a delay
//!   sets it again through [`DovecotSetup::extra`].
//! - `passdb pam` runs in an auth worker, which is root's unless told otherwise.
//!
//! Source: dovecot(1), doveconf(1), doveadm(1) of 2.3.19.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::sys::signal::Signal;

use crate::process::{Process, Ran, peer, run};
use crate::root::{TempRoot, free_port, system_user};
use crate::{client, progress};

const PACKAGE: &str = "dovecot-imapd and dovecot-pop3d";
const START_TIMEOUT: Duration = Duration::from_secs(20);
/// Owner of the mail, as in the document's `useradd -u 5000 vmail`.
const MAIL_UID: u32 = 5000;

/// What to start; see [`Dovecot::setup`].
#[derive(Debug)]
pub struct DovecotSetup {
    passdbs: Vec<String>,
    userdbs: Vec<String>,
    mail_location: Option<String>,
    extra: String,
    files: Vec<(String, String)>,
}

impl DovecotSetup {
    /// Adds a `passdb { ... }` with these lines inside.
    #[must_use]
    pub fn passdb(mut self, lines: &str) -> Self {
        self.passdbs.push(lines.to_owned());
        self
    }

    /// `passdb { driver = pam  args = SERVICE }`.
    #[must_use]
    pub fn passdb_pam(self, service: &str) -> Self {
        self.passdb(&format!("driver = pam\nargs = {service}"))
    }

    /// Adds a `userdb { ... }` with these lines inside. Without any, a static one serves every user from the mail root.
    #[must_use]
    pub fn userdb(mut self, lines: &str) -> Self {
        self.userdbs.push(lines.to_owned());
        self
    }

    /// Reads mail from this `mail_location` instead of `maildir:FIXTURE/mail/%u`.
    #[must_use]
    pub fn mail_location(mut self, location: &str) -> Self {
        self.mail_location = Some(location.to_owned());
        self
    }

    /// Adds lines at the end of dovecot.conf.
    #[must_use]
    pub fn extra(mut self, lines: &str) -> Self {
        self.extra.push_str(lines);
        self.extra.push('\n');
        self
    }

    /// Writes a file beside dovecot.conf.
    #[must_use]
    pub fn file(mut self, name: &str, text: impl AsRef<str>) -> Self {
        self.files.push((name.to_owned(), text.as_ref().to_owned()));
        self
    }

    /// Starts it.
    ///
    /// # Errors
    /// When Dovecot is not installed, of a generation without a template, refuses the configuration, or is not ready in
    /// time.
    pub fn start(self) -> Result<Dovecot> {
        let root = TempRoot::new()?;
        system_user("dovecot", PACKAGE)?;
        root.folder("mail", 0o755, MAIL_UID, MAIL_UID)?;
        let mut dovecot = Dovecot { process: None, root, imap: free_port()?, pop3: free_port()? };
        for (name, text) in &self.files {
            dovecot.root.write(name, text)?;
        }
        let text = match version()?.as_str() {
            old if old.starts_with("2.3.") => dovecot.config_2_3(&self),
            other => bail!("no configuration template for Dovecot {other}: add one beside config_2_3"),
        };
        dovecot.root.write("dovecot.conf", text)?;
        dovecot.launch()?;
        Ok(dovecot)
    }
}

/// The installed version, for instance `2.3.19.1`.
fn version() -> Result<String> {
    let mut command = Command::new(peer("dovecot", PACKAGE)?);
    command.arg("--version");
    let text = run(command, b"")?.ok()?;
    Ok(text.split_whitespace().next().unwrap_or_default().to_owned())
}

/// A running Dovecot.
#[derive(Debug)]
pub struct Dovecot {
    process: Option<Process>,
    root: TempRoot,
    imap: u16,
    pop3: u16,
}

impl Dovecot {
    /// A Dovecot without a passdb: nobody can log in until one is added.
    #[must_use]
    pub fn setup() -> DovecotSetup {
        DovecotSetup {
            passdbs: Vec::new(),
            userdbs: Vec::new(),
            mail_location: None,
            extra: String::new(),
            files: Vec::new(),
        }
    }

    fn config_2_3(&self, setup: &DovecotSetup) -> String {
        let root = self.root.path().display();
        let location = match &setup.mail_location {
            Some(location) => location.clone(),
            None => format!("maildir:{root}/mail/%u"),
        };
        let mut text = format!(
            "base_dir = {root}/run
state_dir = {root}/run
instance_name = rig-{imap}
log_path = {root}/log
protocols = imap pop3 lmtp
listen = 127.0.0.1
ssl = no
disable_plaintext_auth = no
auth_mechanisms = plain login
auth_verbose = yes
auth_failure_delay = 0
auth_username_format = %u
mail_location = {location}
mail_max_userip_connections = 1000
mail_fsync = never
first_valid_uid = 100
first_valid_gid = 100
default_process_limit = 500
service imap-login {{
  inet_listener imap {{
    port = {imap}
  }}
  inet_listener imaps {{
    port = 0
  }}
}}
service pop3-login {{
  inet_listener pop3 {{
    port = {pop3}
  }}
  inet_listener pop3s {{
    port = 0
  }}
}}
service lmtp {{
  unix_listener lmtp {{
    mode = 0666
  }}
}}
service auth {{
  unix_listener auth-client {{
    mode = 0666
  }}
  unix_listener auth-userdb {{
    mode = 0666
  }}
}}
service anvil {{
  unix_listener anvil-auth-penalty {{
    mode = 0
  }}
}}
",
            imap = self.imap,
            pop3 = self.pop3,
        );
        for passdb in &setup.passdbs {
            text.push_str(&format!("passdb {{\n{passdb}\n}}\n"));
        }
        for userdb in &setup.userdbs {
            text.push_str(&format!("userdb {{\n{userdb}\n}}\n"));
        }
        if setup.userdbs.is_empty() {
            text.push_str(&format!(
                "userdb {{\ndriver = static\nargs = uid={MAIL_UID} gid={MAIL_UID} home={root}/mail/%u\n}}\n"
            ));
        }
        text.push_str(&setup.extra);
        text
    }

    fn launch(&mut self) -> Result<()> {
        let started = Instant::now();
        let mut command = Command::new(peer("dovecot", PACKAGE)?);
        command.args(["-F", "-c"]).arg(self.config());
        let mut process = Process::spawn("dovecot", command, &self.root.join("out"))?;
        process.add_log(&self.log_path());
        let ports = [self.imap, self.pop3];
        process.wait_ready(START_TIMEOUT, || {
            ports.iter().all(|port| {
                let greeting = client::Stream::connect(&(*port).into()).and_then(|mut stream| stream.read_text());
                greeting.is_ok()
            })
        })?;
        progress(format!("dovecot on {} in {:.2} s", self.imap, started.elapsed().as_secs_f64()));
        self.process = Some(process);
        Ok(())
    }

    /// The IMAP port.
    #[must_use]
    pub fn imap_port(&self) -> u16 {
        self.imap
    }

    /// The POP3 port.
    #[must_use]
    pub fn pop3_port(&self) -> u16 {
        self.pop3
    }

    /// The LMTP socket.
    #[must_use]
    pub fn lmtp_socket(&self) -> PathBuf {
        self.root.join("run/lmtp")
    }

    /// The auth client socket, for `smtpd_sasl_type = dovecot`.
    #[must_use]
    pub fn auth_client_socket(&self) -> PathBuf {
        self.root.join("run/auth-client")
    }

    /// dovecot.conf.
    #[must_use]
    pub fn config(&self) -> PathBuf {
        self.root.join("dovecot.conf")
    }

    /// Where mail lies unless the test chose another `mail_location`: one folder an address, owned by 5000:5000.
    #[must_use]
    pub fn mail_root(&self) -> PathBuf {
        self.root.join("mail")
    }

    /// The log file.
    #[must_use]
    pub fn log_path(&self) -> PathBuf {
        self.root.join("log")
    }

    /// The log so far.
    #[must_use]
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(self.log_path()).unwrap_or_default()).into_owned()
    }

    /// Waits until the log holds `text` and returns the first such line.
    ///
    /// # Errors
    /// When it does not in time; the error holds the end of the log.
    pub fn wait_for_log(&self, text: &str, timeout: Duration) -> Result<String> {
        crate::wait::wait_for_line(&self.log_path(), text, timeout)
    }

    /// Its first process.
    ///
    /// # Errors
    /// When it is stopped.
    pub fn process(&mut self) -> Result<&mut Process> {
        self.process.as_mut().context("dovecot is stopped")
    }

    /// Ends every process.
    pub fn stop(&mut self) {
        self.process = None;
    }

    /// Starts it again on the same ports; a running one is stopped first.
    ///
    /// # Errors
    /// As [`DovecotSetup::start`].
    pub fn restart(&mut self) -> Result<()> {
        self.stop();
        self.launch()
    }

    /// Makes it read its configuration anew; sessions that run go on with the old one.
    ///
    /// # Errors
    /// When it is stopped.
    pub fn reload(&mut self) -> Result<()> {
        self.process()?.signal(Signal::SIGHUP)
    }

    /// Writes or replaces a file beside dovecot.conf.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write(&self, name: impl AsRef<Path>, text: &str) -> Result<PathBuf> {
        self.root.write(name, text)
    }

    /// `doveadm` with these arguments: `["auth", "test", USER, PASSWORD]`, `["user", USER]`.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn doveadm(&self, args: &[&str]) -> Result<Ran> {
        let mut command = Command::new(peer("doveadm", PACKAGE)?);
        command.arg("-c").arg(self.config()).args(args);
        run(command, b"")
    }
}
