//! A configuration of ours in a temporary folder.

use std::path::{Path, PathBuf};

use anyhow::Result;
use mailsql_rig::{Daemon, MariaDb, Ran, TempRoot, document, program, run};
use std::process::Command;

/// The account our daemons change to; every Debian has it, and it owns nothing.
const USER: (&str, &str) = ("nobody", "nogroup");

/// Modes: everybody may use the sockets, since Postfix and the test are different users.
const SOCKET_MODE: &str = "0666";

/// A `mailsql.toml` with its secrets, and the folders for sockets, state and control sockets beside it.
#[derive(Debug)]
pub struct Site {
    root: TempRoot,
    config: PathBuf,
}

impl Site {
    /// Configuration on the document's database, read with the document's SELECT-only account.
    ///
    /// `sections` is the rest of the file; `{run}` in it stands for the folder of sockets.
    ///
    /// # Errors
    /// When nothing can be written.
    pub fn on_document(db: &MariaDb, sections: &str) -> Result<Self> {
        let root = TempRoot::new()?;
        // Owner and group only: a password that everybody may read is refused.
        let password = root.write_mode("db.password", document::PASSWORD, 0o600)?;
        let database = format!("url = \"{}\"\npassword_file = \"{}\"\n", db.url(), password.display());
        Self::write(root, &database, sections)
    }

    /// Configuration with any `[database]` lines.
    ///
    /// # Errors
    /// When nothing can be written.
    pub fn with_database(database: &str, sections: &str) -> Result<Self> {
        Self::write(TempRoot::new()?, database, sections)
    }

    fn write(root: TempRoot, database: &str, sections: &str) -> Result<Self> {
        for folder in ["run", "state", "control"] {
            root.folder(folder, 0o777, 0, 0)?;
        }
        let text = format!(
            "[database]\n{database}\n[serve]\nuser = \"{}\"\ngroup = \"{}\"\n\n[state]\ndir = \"{}\"\n\n\
             [control]\ndir = \"{}\"\n\n{}",
            USER.0,
            USER.1,
            root.join("state").display(),
            root.join("control").display(),
            sections.replace("{run}", &root.join("run").display().to_string()),
        );
        let config = root.write_mode("mailsql.toml", text, 0o640)?;
        Ok(Self { root, config })
    }

    /// The configuration file.
    #[must_use]
    pub fn config(&self) -> &Path {
        &self.config
    }

    /// A path in the folder of sockets.
    #[must_use]
    pub fn run(&self, name: &str) -> PathBuf {
        self.root.join("run").join(name)
    }

    /// The folder of control sockets.
    #[must_use]
    pub fn control(&self) -> PathBuf {
        self.root.join("control")
    }

    /// Runs the command on this configuration.
    ///
    /// # Errors
    /// When it is not built.
    pub fn mailsql(&self, arguments: &[&str], input: &str) -> Result<Ran> {
        let mut command = Command::new(program("mailsql")?);
        command.arg("--config").arg(&self.config).args(arguments);
        run(command, input.as_bytes())
    }

    /// Starts `mailsql serve` on this configuration and waits until `socket` accepts.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub fn serve(&self, socket: &str) -> Result<Daemon> {
        let daemon = Daemon::setup("mailsql").arg("--config").arg(&self.config).arg("serve");
        daemon.ready_socket(self.run(socket)).start()
    }

    /// A `listen` value for a socket in that folder that everybody may use.
    #[must_use]
    pub fn listen(name: &str) -> String {
        format!("{{ socket = \"{{run}}/{name}\", mode = \"{SOCKET_MODE}\" }}")
    }

    /// Starts one of our daemons on this configuration and waits until `socket` accepts.
    ///
    /// # Errors
    /// When it is not built or does not start; the error holds the end of its log.
    pub fn start(&self, program: &str, socket: &str) -> Result<Daemon> {
        // As saslauthd, it goes into the background unless told otherwise.
        let foreground: &[&str] = if program == "saslauthd-rs" { &["--foreground"] } else { &[] };
        let daemon = Daemon::setup(program).arg("--config").arg(&self.config).args(foreground);
        daemon.ready_socket(self.run(socket)).start()
    }
}
