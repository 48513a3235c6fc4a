//! Roles that our program and the one it stands in for can both play.

use std::path::PathBuf;

use anyhow::Result;
use mailsql_rig::{Daemon, MariaDb, PostfixSetup, Saslauthd, Side, document, module, pam};

use crate::Site;

/// The PAM module that answers the document's arguments.
#[derive(Debug)]
pub struct Module {
    path: String,
    host_port: String,
}

impl Module {
    /// `pam_mysql.so`, or ours by its path in the target folder.
    ///
    /// # Errors
    /// When ours is not built.
    pub fn of(side: Side, db: &MariaDb) -> Result<Self> {
        let path = match side {
            Side::Theirs => "pam_mysql.so".to_owned(),
            Side::Ours => module("pam_mailsql")?.display().to_string(),
        };
        Ok(Self { path, host_port: db.host_port() })
    }

    /// The document's service file with this module and these further arguments.
    ///
    /// # Errors
    /// When /etc/pam.d cannot be written.
    pub fn service(&self, further: &str) -> Result<pam::Service> {
        let arguments = format!("{} {further}", document::pam_arguments(&self.host_port));
        pam::Service::new(&document::pam_service(&self.path, &arguments))
    }
}

/// Whoever answers libsasl2's password checks.
#[derive(Debug)]
pub enum Sasl {
    /// saslauthd-rs on a configuration of its own.
    Ours {
        /// The daemon.
        daemon: Daemon,
        /// Its configuration.
        site: Site,
    },
    /// Debian's saslauthd over pam_mysql.so.
    Theirs {
        /// The daemon.
        daemon: Saslauthd,
        /// Its PAM service.
        service: pam::Service,
    },
}

impl Sasl {
    /// Starts one on the document's database.
    ///
    /// # Errors
    /// When it does not start.
    pub fn start(side: Side, db: &MariaDb) -> Result<Self> {
        match side {
            Side::Ours => {
                let site = Site::on_document(db, "[saslauthd]\nlisten = \"{run}/mux\"\n")?;
                let daemon = site.start("saslauthd-rs", "mux")?;
                Ok(Self::Ours { daemon, site })
            }
            Side::Theirs => {
                let service = Module::of(side, db)?.service("")?;
                Ok(Self::Theirs { daemon: Saslauthd::setup().start()?, service })
            }
        }
    }

    /// The socket.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        match self {
            Self::Ours { site, .. } => site.run("mux"),
            Self::Theirs { daemon, .. } => daemon.socket(),
        }
    }

    /// The service to ask for: the PAM service on their side.
    #[must_use]
    pub fn service(&self) -> &str {
        match self {
            Self::Ours { .. } => "smtp",
            Self::Theirs { service, .. } => service.name(),
        }
    }

    /// Postfix that asks it.
    #[must_use]
    pub fn serve(&self, postfix: PostfixSetup) -> PostfixSetup {
        postfix.saslauthd(&self.socket(), self.service())
    }

    /// Ends it in order.
    pub fn stop(&mut self) {
        match self {
            Self::Ours { daemon, .. } => drop(daemon.stop()),
            Self::Theirs { daemon, .. } => daemon.stop(),
        }
    }
}

/// Postfix's tables of virtual domains and mailboxes.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "a test holds one of them")]
pub enum Maps {
    /// postfix-maps on a configuration of its own.
    Ours {
        /// The daemon.
        daemon: Daemon,
        /// Its configuration.
        site: Site,
    },
    /// The document's two `mysql:` tables.
    Theirs {
        /// `127.0.0.1:PORT` of the database.
        host_port: String,
    },
}

impl Maps {
    /// Starts them on the document's database.
    ///
    /// # Errors
    /// When postfix-maps does not start.
    pub fn start(side: Side, db: &MariaDb) -> Result<Self> {
        match side {
            Side::Ours => {
                let listen = Site::listen("maps.sock");
                let site = Site::on_document(db, &format!("[maps]\nlisten = {listen}\n"))?;
                let daemon = site.start("postfix-maps", "maps.sock")?;
                Ok(Self::Ours { daemon, site })
            }
            Side::Theirs => Ok(Self::Theirs { host_port: db.host_port() }),
        }
    }

    /// The table, `domains` or `mailboxes`, as main.cf names it.
    #[must_use]
    pub fn table(&self, name: &str) -> String {
        match self {
            Self::Ours { site, .. } => format!("socketmap:unix:{}:{name}", site.run("maps.sock").display()),
            Self::Theirs { .. } => format!("mysql:$config_directory/{name}.cf"),
        }
    }

    /// Postfix with these tables. Who delivers is the test's choice: virtual(8) takes theirs only.
    #[must_use]
    pub fn serve(&self, postfix: PostfixSetup) -> PostfixSetup {
        let postfix = match self {
            Self::Ours { .. } => postfix,
            Self::Theirs { host_port } => postfix
                .file("domains.cf", document::domains_map(host_port))
                .file("mailboxes.cf", document::mailboxes_map(host_port)),
        };
        postfix
            .main("virtual_mailbox_domains", self.table("domains"))
            .main("virtual_mailbox_maps", self.table("mailboxes"))
    }
}
