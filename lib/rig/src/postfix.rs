//! A private Postfix: its own configuration, queue, data and log, beside no other.
//!
//! `master` is started directly, not by `postfix start`: the script behind that command needs most of a second for checks
//! that a fresh queue cannot fail. The queue folders are made here with the owners and modes `post-install` gives them.
//!
//! Two listeners on 127.0.0.1: `smtp` with main.cf's settings, and `submission`, which asks for AUTH. Postfix's own waits
//! are cut to suit a test: no sleep after errors, a queue run every second, retries after one second. Mail for domains
//! that the test does not name is discarded, never sent.
//!
//! Oddities (Postfix 3.7.11, Debian 12):
//! - `maillog_file` must lie below one of `maillog_file_prefixes` and needs the `postlog` service.
//! - master(8) insists on being a session leader.
//! - Every Postfix program reads a main.cf again and again, with 300 ms between, until the file is more than a second old,
//!   lest it read a half-written one. That made each start last two seconds, so the file is given an older time stamp.
//! - SASL configuration is read from `cyrus_sasl_config_path`, a folder; the service file is NAME.conf for
//!   `smtpd_sasl_path = NAME`. The PAM service is another parameter, `smtpd_sasl_service`.
//! - Tables named in main.cf may use `$config_directory/NAME` for files given to [`PostfixSetup::file`].
//!
//! Source: master(8), postconf(5), postlogd(8), SASL_README, the package's post-install and postfix-script.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::sys::signal::Signal;

use crate::process::{Process, Ran, peer, run};
use crate::root::{TempRoot, free_port, make_folder, system_user};
use crate::{client, progress};

const PACKAGE: &str = "postfix";
const START_TIMEOUT: Duration = Duration::from_secs(20);
/// Well past the second after which Postfix trusts a file to be complete.
const MAIN_CF_AGE: Duration = Duration::from_secs(60);
/// How long idle service processes may take to notice a reload.
const RELOAD_GRACE: Duration = Duration::from_secs(1);

const MAIN: &str = "\
compatibility_level = 3.6
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
myhostname = mail.example.test
mydomain = example.test
mydestination =
mynetworks = 127.0.0.0/8
alias_maps =
alias_database =
local_recipient_maps =
virtual_alias_maps =
biff = no
notify_classes =
default_transport = discard:the rig sends nothing out
relay_transport = discard:the rig sends nothing out
smtpd_peername_lookup = no
smtpd_error_sleep_time = 0
smtpd_client_event_limit_exceptions = 127.0.0.0/8
smtpd_relay_restrictions = permit_mynetworks, permit_sasl_authenticated, reject_unauth_destination
in_flow_delay = 0
queue_run_delay = 1s
minimal_backoff_time = 1s
maximal_backoff_time = 1s
transport_retry_time = 1s
virtual_minimum_uid = 100
";

/// Debian's master.cf services but the listeners; `%` stands for the chroot flag where Debian says `y`.
const SERVICES: &str = "\
pickup    unix  n       -       %       60      1       pickup
cleanup   unix  n       -       %       -       0       cleanup
qmgr      unix  n       -       n       300     1       qmgr
tlsmgr    unix  -       -       %       1000?   1       tlsmgr
rewrite   unix  -       -       %       -       -       trivial-rewrite
bounce    unix  -       -       %       -       0       bounce
defer     unix  -       -       %       -       0       bounce
trace     unix  -       -       %       -       0       bounce
verify    unix  -       -       %       -       1       verify
flush     unix  n       -       %       1000?   0       flush
proxymap  unix  -       -       n       -       -       proxymap
proxywrite unix -       -       n       -       1       proxymap
smtp      unix  -       -       %       -       -       smtp
relay     unix  -       -       %       -       -       smtp
showq     unix  n       -       %       -       -       showq
error     unix  -       -       %       -       -       error
retry     unix  -       -       %       -       -       error
discard   unix  -       -       %       -       -       discard
local     unix  -       n       n       -       -       local
virtual   unix  -       n       n       -       -       virtual
lmtp      unix  -       -       %       -       -       lmtp
anvil     unix  -       -       %       -       1       anvil
scache    unix  -       -       %       -       1       scache
postlog   unix-dgram n  -       n       -       1       postlogd
";

/// What to start; see [`Postfix::setup`].
#[derive(Debug)]
pub struct PostfixSetup {
    main: Vec<(String, String)>,
    submission: Vec<String>,
    services: Vec<String>,
    files: Vec<(String, String)>,
    sasl: String,
    chroot: bool,
}

impl PostfixSetup {
    /// Sets a main.cf parameter; the last setting of a name wins.
    #[must_use]
    pub fn main(mut self, name: &str, value: impl AsRef<str>) -> Self {
        self.main.push((name.to_owned(), value.as_ref().to_owned()));
        self
    }

    /// Adds a `-o NAME=VALUE` of the submission listener.
    #[must_use]
    pub fn submission(mut self, setting: &str) -> Self {
        self.submission.push(setting.to_owned());
        self
    }

    /// Adds a master.cf line.
    #[must_use]
    pub fn service(mut self, line: &str) -> Self {
        self.services.push(line.to_owned());
        self
    }

    /// Writes a file beside main.cf, which may name it as `$config_directory/NAME`.
    #[must_use]
    pub fn file(mut self, name: &str, text: impl AsRef<str>) -> Self {
        self.files.push((name.to_owned(), text.as_ref().to_owned()));
        self
    }

    /// AUTH by Cyrus SASL through the saslauthd that listens on `socket`; `service` is the PAM service it is asked for.
    #[must_use]
    pub fn saslauthd(mut self, socket: &Path, service: &str) -> Self {
        self.sasl =
            format!("pwcheck_method: saslauthd\nmech_list: PLAIN LOGIN\nsaslauthd_path: {}\n", socket.display());
        self.main("smtpd_sasl_type", "cyrus")
            .main("smtpd_sasl_path", "smtpd")
            .main("smtpd_sasl_service", service)
            .main("smtpd_sasl_auth_enable", "yes")
    }

    /// AUTH by Dovecot's client protocol on this socket.
    #[must_use]
    pub fn dovecot_auth(self, socket: &Path) -> Self {
        self.main("smtpd_sasl_type", "dovecot")
            .main("smtpd_sasl_path", socket.display().to_string())
            .main("smtpd_sasl_auth_enable", "yes")
    }

    /// Runs every service chrooted that Debian runs chrooted (smtpd, cleanup, rewrite, lmtp, ...).
    #[must_use]
    pub fn chroot(mut self) -> Self {
        self.chroot = true;
        self
    }

    /// Starts it.
    ///
    /// # Errors
    /// When Postfix is not installed, refuses the configuration, or does not listen in time.
    pub fn start(self) -> Result<Postfix> {
        let root = TempRoot::new()?;
        let (smtp, submission) = (free_port()?, free_port()?);
        let mut postfix = Postfix { process: None, root, smtp, submission };
        postfix.lay_out(&self)?;
        postfix.launch()?;
        Ok(postfix)
    }
}

/// A running Postfix.
#[derive(Debug)]
pub struct Postfix {
    process: Option<Process>,
    root: TempRoot,
    smtp: u16,
    submission: u16,
}

impl Postfix {
    /// A Postfix with the fixture's main.cf and nothing else.
    #[must_use]
    pub fn setup() -> PostfixSetup {
        PostfixSetup {
            main: Vec::new(),
            submission: vec![
                "smtpd_sasl_auth_enable=yes".to_owned(),
                "smtpd_client_restrictions=permit_sasl_authenticated,reject".to_owned(),
                "smtpd_relay_restrictions=permit_sasl_authenticated,reject".to_owned(),
            ],
            services: Vec::new(),
            files: Vec::new(),
            sasl: String::new(),
            chroot: false,
        }
    }

    fn lay_out(&self, setup: &PostfixSetup) -> Result<()> {
        let (postfix, postfix_group) = system_user("postfix", PACKAGE)?;
        let postdrop = nix::unistd::Group::from_name("postdrop")?.context("no group postdrop: install postfix")?;
        let postdrop = postdrop.gid.as_raw();
        self.root.folder("etc", 0o755, 0, 0)?;
        self.root.folder("etc/sasl", 0o755, 0, 0)?;
        self.root.folder("data", 0o700, postfix, postfix_group)?;
        self.root.folder("q", 0o755, 0, 0)?;
        self.root.folder("q/pid", 0o755, 0, 0)?;
        for name in "active bounce corrupt defer deferred flush hold incoming private saved trace".split(' ') {
            self.root.folder(format!("q/{name}"), 0o700, postfix, 0)?;
        }
        self.root.folder("q/public", 0o710, postfix, postdrop)?;
        self.root.folder("q/maildrop", 0o730, postfix, postdrop)?;
        for (name, text) in &setup.files {
            self.root.write(format!("etc/{name}"), text)?;
        }
        self.root.write("etc/sasl/smtpd.conf", &setup.sasl)?;
        self.root.write("etc/main.cf", self.main_cf(setup))?;
        self.age_main_cf()?;
        self.root.write("etc/master.cf", self.master_cf(setup))?;
        if setup.chroot {
            furnish_chroot(&self.queue())?;
        }
        Ok(())
    }

    /// Gives main.cf an old time stamp: see the oddities above.
    fn age_main_cf(&self) -> Result<()> {
        let file = std::fs::File::options().write(true).open(self.root.join("etc/main.cf"))?;
        Ok(file.set_modified(std::time::SystemTime::now() - MAIN_CF_AGE)?)
    }

    fn main_cf(&self, setup: &PostfixSetup) -> String {
        let root = self.root.path().display();
        let mut settings: Vec<(String, String)> = Vec::new();
        let defaults = MAIN.lines().filter_map(|line| line.split_once('='));
        settings.extend(defaults.map(|(name, value)| (name.trim().to_owned(), value.trim().to_owned())));
        let own = [
            ("queue_directory", format!("{root}/q")),
            ("data_directory", format!("{root}/data")),
            ("maillog_file", format!("{root}/maillog")),
            ("maillog_file_prefixes", root.to_string()),
            ("cyrus_sasl_config_path", format!("{root}/etc/sasl")),
            ("syslog_name", format!("postfix-{}", self.smtp)),
        ];
        settings.extend(own.map(|(name, value)| (name.to_owned(), value)));
        // Postfix takes the last of two settings, too, but warns about the first.
        for (name, value) in &setup.main {
            settings.retain(|(known, _)| known != name);
            settings.push((name.clone(), value.clone()));
        }
        settings.iter().map(|(name, value)| format!("{name} = {value}\n")).collect()
    }

    fn master_cf(&self, setup: &PostfixSetup) -> String {
        let flag = if setup.chroot { "y" } else { "n" };
        let mut text = format!("127.0.0.1:{} inet n - {flag} - - smtpd\n", self.smtp);
        text.push_str(&format!("127.0.0.1:{} inet n - {flag} - - smtpd\n", self.submission));
        for setting in &setup.submission {
            text.push_str(&format!("  -o {setting}\n"));
        }
        text.push_str(&SERVICES.replace('%', flag));
        for line in &setup.services {
            text.push_str(&format!("{line}\n"));
        }
        text
    }

    fn launch(&mut self) -> Result<()> {
        let started = Instant::now();
        let mut command = Command::new(peer("master", PACKAGE)?);
        command.args(["-s", "-c"]).arg(self.config());
        self.environment(&mut command);
        let mut process = Process::spawn("postfix", command, &self.root.join("master.out"))?;
        process.add_log(&self.log_path());
        let ports = [self.smtp, self.submission];
        // Listening is enough: master accepts, and starts an smtpd, when the first client is there.
        process
            .wait_ready(START_TIMEOUT, || ports.iter().all(|port| client::Stream::connect(&(*port).into()).is_ok()))?;
        progress(format!("postfix on {} in {:.2} s", self.smtp, started.elapsed().as_secs_f64()));
        self.process = Some(process);
        Ok(())
    }

    fn environment(&self, command: &mut Command) {
        command.env_clear().env("MAIL_CONFIG", self.config()).env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
    }

    /// The smtp listener's port.
    #[must_use]
    pub fn smtp_port(&self) -> u16 {
        self.smtp
    }

    /// The submission listener's port.
    #[must_use]
    pub fn submission_port(&self) -> u16 {
        self.submission
    }

    /// The folder of main.cf.
    #[must_use]
    pub fn config(&self) -> PathBuf {
        self.root.join("etc")
    }

    /// The queue folder, which is also the chroot.
    #[must_use]
    pub fn queue(&self) -> PathBuf {
        self.root.join("q")
    }

    /// The log file.
    #[must_use]
    pub fn log_path(&self) -> PathBuf {
        self.root.join("maillog")
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
        self.process.as_mut().context("postfix is stopped")
    }

    /// Ends every process; queue and log stay for [`Postfix::restart`].
    pub fn stop(&mut self) {
        self.process = None;
    }

    /// Starts it again on the same ports and queue; a running one is stopped first.
    ///
    /// # Errors
    /// As [`PostfixSetup::start`].
    pub fn restart(&mut self) -> Result<()> {
        self.stop();
        self.launch()
    }

    /// Writes or replaces a file beside main.cf.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write(&self, name: &str, text: &str) -> Result<PathBuf> {
        self.root.write(Path::new("etc").join(name), text)
    }

    /// Makes Postfix read its configuration anew (`postfix reload`) and waits until it has.
    ///
    /// Idle service processes of before are gone then. One that serves a client goes on with the old configuration until
    /// that client leaves; it takes no other.
    ///
    /// # Errors
    /// When it is stopped or does not.
    pub fn reload(&mut self) -> Result<()> {
        let reloads = |log: &str| log.matches("reload -- version").count();
        let before = reloads(&self.log());
        let process = self.process()?;
        let (master, old) = (process.pid(), process.members());
        process.signal(Signal::SIGHUP)?;
        crate::wait_until("postfix to reload", START_TIMEOUT, || reloads(&self.log()) > before)?;
        let process = self.process()?;
        // The log line comes first, the new configuration after it. Busy processes are the ones that time out here.
        let idle_gone = || !process.members().iter().any(|pid| *pid != master && old.contains(pid));
        let _ = crate::wait_until("old service processes to end", RELOAD_GRACE, idle_gone);
        Ok(())
    }

    /// `postconf` with these arguments: `["-n"]`, `["-h", "virtual_mailbox_maps"]`.
    ///
    /// # Errors
    /// When it fails.
    pub fn postconf(&self, args: &[&str]) -> Result<String> {
        self.tool("postconf", args, b"")?.ok()
    }

    /// `postconf -e NAME=VALUE`; a [`Postfix::reload`] makes it known.
    ///
    /// # Errors
    /// When it fails.
    pub fn set(&self, name: &str, value: &str) -> Result<()> {
        self.tool("postconf", &["-e", &format!("{name}={value}")], b"")?.ok()?;
        self.age_main_cf()
    }

    /// `postmap -q KEY TABLE`: exit 0 and the value, exit 1 and nothing, or exit 1 and a complaint on trouble.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn postmap(&self, table: &str, key: &str) -> Result<Ran> {
        self.tool("postmap", &["-q", key, table], b"")
    }

    /// The queue as `postqueue -j` prints it, one JSON object a message.
    ///
    /// # Errors
    /// When it fails.
    pub fn mailq(&self) -> Result<Vec<String>> {
        Ok(self.tool("postqueue", &["-j"], b"")?.ok()?.lines().map(str::to_owned).collect())
    }

    /// `postqueue -f`: tries everything in the queue now.
    ///
    /// # Errors
    /// When it fails.
    pub fn flush(&self) -> Result<()> {
        self.tool("postqueue", &["-f"], b"")?.ok().map(drop)
    }

    /// Waits until the queue is empty.
    ///
    /// # Errors
    /// When mail is left after `timeout`; the error shows it and the end of the log.
    pub fn wait_empty(&self, timeout: Duration) -> Result<()> {
        let waited = crate::wait_until("an empty mail queue", timeout, || {
            self.mailq().is_ok_and(|messages| messages.is_empty())
        });
        if waited.is_err() {
            bail!("mail left: {:#?}\n{}", self.mailq()?, crate::tail(&self.log_path(), crate::wait::TAIL_LINES));
        }
        Ok(())
    }

    /// Any of Postfix's commands (`sendmail`, `postsuper`, `postalias`, `postfix`), with this configuration.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn tool(&self, name: &str, args: &[&str], input: &[u8]) -> Result<Ran> {
        let mut command = Command::new(peer(name, PACKAGE)?);
        self.environment(&mut command);
        command.args(args);
        run(command, input)
    }
}

/// What Debian's start-up script copies into the chroot: name service files and libraries.
fn furnish_chroot(queue: &Path) -> Result<()> {
    make_folder(&queue.join("etc"), 0o755, 0, 0)?;
    for name in ["services", "hosts", "nsswitch.conf", "resolv.conf", "host.conf", "localtime"] {
        let (from, to) = (Path::new("/etc").join(name), queue.join("etc").join(name));
        if from.exists() {
            std::fs::copy(&from, &to).with_context(|| from.display().to_string())?;
            std::fs::set_permissions(&to, std::fs::Permissions::from_mode(0o644))?;
        }
    }
    let mut list = Command::new("sh");
    list.args(["-c", "ls -d /lib/*-linux-gnu/libnss_*.so.* /lib/*-linux-gnu/libresolv.so.* 2>/dev/null"]);
    for library in run(list, b"")?.stdout.lines() {
        let to = queue.join(library.trim_start_matches('/'));
        if let Some(folder) = to.parent() {
            make_folder(folder, 0o755, 0, 0)?;
        }
        std::fs::copy(library, &to).with_context(|| library.to_owned())?;
    }
    Ok(())
}
