//! Postfix that asks policyd about every recipient and every complete message.

use std::time::Duration;

use anyhow::{Context, Result};
use mailsql_rig::client::smtp::{Reply, Smtp};
use mailsql_rig::{Daemon, MariaDb, Postfix, PostfixSetup, document, program, run};

use crate::Site;

/// Owner of everything: `nobody`, whom the site's daemons become.
const OWNER: u32 = 65534;

/// A small server: the document's accounts, our daemons, Postfix before them.
#[derive(Debug)]
pub struct Policed {
    /// Postfix; its submission listener wants AUTH, the other believes XCLIENT.
    pub postfix: Postfix,
    /// policyd.
    pub policyd: Daemon,
    /// `mailsql serve` with everything else.
    pub others: Daemon,
    /// Their configuration.
    pub site: Site,
    /// The database, with all tables of `mailsql db migrate`.
    pub db: MariaDb,
}

impl Policed {
    /// Starts it with these lines for `[policy]` and its checks, after these statements in the database.
    ///
    /// # Errors
    /// When something does not start.
    pub fn start(policy: &str, sql: &str) -> Result<Self> {
        Self::start_with(policy, sql, |policy| format!("check_policy_service {policy}"), |postfix| postfix)
    }

    /// As [`Policed::start`]; `asked` makes the restriction of the policy's endpoint.
    ///
    /// # Errors
    /// As [`Policed::start`].
    pub fn start_with(
        policy: &str,
        sql: &str,
        asked: impl Fn(&str) -> String,
        more: impl FnOnce(PostfixSetup) -> PostfixSetup,
    ) -> Result<Self> {
        let db = MariaDb::start_with_document()?;
        db.sql(&format!("GRANT ALL ON mail.* TO {}@localhost", document::USER))?;
        let sections = format!(
            "[cache]\npositive_ttl = \"1s\"\nnegative_ttl = \"1s\"\nstale_ttl = \"0s\"\n\
             [mail]\nroot = \"{{run}}/mail\"\nuid = {OWNER}\ngid = {OWNER}\n[saslauthd]\nlisten = \"{{run}}/mux\"\n\
             [maps]\nlisten = {}\n[lmtp]\nlisten = {}\n[policy]\nlisten = {}\n{policy}",
            Site::listen("maps.sock"),
            Site::listen("lmtp.sock"),
            Site::listen("policy.sock"),
        );
        let site = Site::on_document(&db, &sections)?;
        std::fs::create_dir(site.run("mail"))?;
        std::os::unix::fs::chown(site.run("mail"), Some(OWNER), Some(OWNER))?;
        mailsql(&site, &["db", "migrate"])?;
        db.sql(&format!("USE mail; {sql}"))?;
        let policyd = site.start("policyd", "policy.sock")?;
        let serve = Daemon::setup("mailsql").arg("--config").arg(site.config());
        let serve = serve.arg("serve").arg("--only").arg("saslauthd,maps,lmtp");
        let sockets = ["mux", "maps.sock", "lmtp.sock"];
        let others = sockets.iter().fold(serve, |serve, name| serve.ready_socket(site.run(name))).start()?;
        let map = |name: &str| format!("socketmap:unix:{}:{name}", site.run("maps.sock").display());
        let asked = asked(&format!("unix:{}", site.run("policy.sock").display()));
        let postfix = Postfix::setup()
            .saslauthd(&site.run("mux"), "smtp")
            .main("virtual_mailbox_domains", map("domains"))
            .main("virtual_mailbox_maps", map("mailboxes"))
            .main("virtual_alias_domains", "")
            .main("virtual_alias_maps", map("aliases"))
            .main("virtual_transport", format!("lmtp:unix:{}", site.run("lmtp.sock").display()))
            .main("smtpd_authorized_xclient_hosts", "127.0.0.0/8")
            .main("mynetworks", "192.0.2.0/24")
            .main("smtpd_relay_restrictions", "permit_sasl_authenticated, reject_unauth_destination")
            .main(
                "smtpd_recipient_restrictions",
                format!("{asked}, permit_sasl_authenticated, reject_unauth_destination"),
            )
            .main("smtpd_end_of_data_restrictions", &asked)
            .submission("smtpd_client_restrictions=permit_sasl_authenticated,reject");
        let postfix = more(postfix).start()?;
        Ok(Self { postfix, policyd, others, site, db })
    }

    /// A submission session of a login of the document.
    ///
    /// # Errors
    /// When Postfix does not take the login.
    pub fn submission(&self, login: &str) -> Result<Smtp> {
        let (_, password) =
            document::LOGINS.iter().find(|(user, _)| *user == login).context("no login of the document")?;
        let mut session = Smtp::hello(self.postfix.submission_port())?;
        session.auth_plain(login, password)?.expect_code(235)?;
        Ok(session)
    }

    /// A session on port 25 as if from this address.
    ///
    /// # Errors
    /// When Postfix does not take it.
    pub fn from(&self, client: &str) -> Result<Smtp> {
        let mut session = Smtp::hello(self.postfix.smtp_port())?;
        session.command(&format!("XCLIENT ADDR={client} NAME=[UNAVAILABLE]"))?.expect_code(220)?;
        session.command("EHLO client.example.net")?.expect_code(250)?;
        Ok(session)
    }

    /// The reply to one recipient of a new message; the message is then given up.
    ///
    /// # Errors
    /// When the connection ends.
    pub fn rcpt(session: &mut Smtp, sender: &str, recipient: &str) -> Result<Reply> {
        session.command("RSET")?;
        session.command(&format!("MAIL FROM:<{sender}>"))?.expect_code(250)?;
        session.command(&format!("RCPT TO:<{recipient}>"))
    }

    /// Runs the command on this configuration.
    ///
    /// # Errors
    /// When it fails.
    pub fn mailsql(&self, arguments: &[&str]) -> Result<String> {
        mailsql(&self.site, arguments)
    }

    /// Ends policyd in order and starts it again.
    ///
    /// # Errors
    /// When it does not start.
    pub fn restart_policyd(&mut self) -> Result<()> {
        let status = self.policyd.stop().context("policyd was not running")?;
        anyhow::ensure!(status.success(), "policyd ended with {status}");
        self.policyd.restart()
    }

    /// Kills policyd once all it counted so far must be written, and starts it again.
    ///
    /// # Errors
    /// When it does not start.
    pub fn kill_policyd(&mut self) -> Result<()> {
        std::thread::sleep(Duration::from_secs(1));
        self.policyd.kill();
        self.policyd.restart()
    }
}

fn mailsql(site: &Site, arguments: &[&str]) -> Result<String> {
    let mut command = std::process::Command::new(program("mailsql")?);
    command.arg("--config").arg(site.config()).args(arguments);
    run(command, b"")?.ok()
}
