//! Accounts in the document's schema, and configurations of ours on them.
//!
//! Account number N is `uNNNNN@dMM.jp` with the password `passNNNNN`. Names are short on purpose: Debian's saslauthd does
//! not cache a login whose name, realm and service come to more than 60 bytes.
//!
//! A sha512-crypt hash takes a millisecond and more to make, so of many accounts only some have one of their own; these
//! lie evenly among the others and are the ones that log in. No two share a hash: several logins with one hash and one
//! password at the same time cost ours a single verification.

use crate::meter::Counters;
use anyhow::{Context, Result};
use mailsql_rig::{Daemon, MariaDb, TempRoot, document};
use std::path::PathBuf;
use std::process::Command;

/// Domains the accounts are spread over.
const DOMAINS: usize = 50;
/// Room for all accounts in memory: the peer's slow query must not be slow for want of a buffer.
const BUFFER_POOL: &str = "--innodb-buffer-pool-size=1G";
/// The account our daemons change to.
const USER: (&str, &str) = ("nobody", "nogroup");
/// Its number, and its group's.
const NOBODY: u32 = 65_534;

/// What `mailsql db migrate` adds for aliases.
const ALIASES: &str = "\
CREATE TABLE aliases (
  id INT NOT NULL AUTO_INCREMENT, name VARCHAR(255) NOT NULL, domain_id INT NOT NULL,
  destination VARCHAR(255) NOT NULL, enabled TINYINT NULL,
  PRIMARY KEY(id), UNIQUE KEY (name, domain_id, destination),
  FOREIGN KEY (domain_id) REFERENCES domains(id) ON DELETE CASCADE);
";

/// An account that can log in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Account {
    pub(crate) local: String,
    pub(crate) domain: String,
    pub(crate) password: String,
}

impl Account {
    fn number(number: usize) -> Self {
        let (local, domain) = (format!("u{number:05}"), format!("d{:02}.jp", number % DOMAINS));
        Self { local, domain, password: format!("pass{number:05}") }
    }

    pub(crate) fn address(&self) -> String {
        format!("{}@{}", self.local, self.domain)
    }

    /// The alias whose mail goes to it.
    pub(crate) fn alias(&self) -> String {
        format!("a{}@{}", &self.local[1..], self.domain)
    }
}

/// A database with accounts.
pub(crate) struct Accounts {
    db: MariaDb,
    session: i32,
    reading: Counters,
    total: usize,
    logins: Vec<Account>,
}

impl Accounts {
    /// A server with `total` accounts, `logins` of which can log in, and an alias for each.
    pub(crate) fn make(total: usize, logins: usize) -> Result<Self> {
        let mut db = MariaDb::start_with(&[BUFFER_POOL])?;
        let step = (total / logins.max(1)).max(1);
        let last = total.saturating_sub(1);
        db.sql(document::SCHEMA)?;
        db.sql(&format!(
            "USE mail; {ALIASES}
            INSERT INTO domains(id, name) SELECT seq + 1, CONCAT('d', LPAD(seq, 2, '0'), '.jp')
              FROM seq_0_to_{};
            INSERT INTO users(id, name, password, domain_id)
              SELECT seq + 1, CONCAT('u', LPAD(seq, GREATEST(5, LENGTH(seq)), '0')), ENCRYPT('nobody', '$6$fillfillfillfill'),
              1 + seq MOD {DOMAINS} FROM seq_0_to_{last} WHERE seq = 0;
            INSERT INTO users(id, name, password, domain_id)
              SELECT seq + 1, CONCAT('u', LPAD(seq, GREATEST(5, LENGTH(seq)), '0')), (SELECT password FROM users WHERE id = 1),
              1 + seq MOD {DOMAINS} FROM seq_0_to_{last} WHERE seq > 0;
            UPDATE users SET password =
              ENCRYPT(CONCAT('pass', LPAD(id - 1, GREATEST(5, LENGTH(id - 1)), '0')), CONCAT('$6$', LEFT(SHA(id), 16)))
              WHERE (id - 1) MOD {step} = 0;
            INSERT INTO aliases(name, domain_id, destination)
              SELECT CONCAT('a', SUBSTRING(u.name, 2)), u.domain_id, CONCAT(u.name, '@', d.name)
              FROM users u JOIN domains d ON d.id = u.domain_id;
            ANALYZE TABLE domains, users, aliases;",
            DOMAINS - 1
        ))
        .with_context(|| format!("making {total} accounts"))?;
        let logins = (0..total).step_by(step).take(logins).map(Account::number).collect();
        let session = db.process()?.pid();
        let reading = Counters::own(&db)?;
        Ok(Self { db, session, reading, total, logins })
    }

    pub(crate) fn db(&self) -> &MariaDb {
        &self.db
    }

    /// The server's session of processes.
    pub(crate) fn session(&self) -> i32 {
        self.session
    }

    /// What reading its counters once adds to them.
    pub(crate) fn reading(&self) -> Counters {
        self.reading
    }

    /// The accounts that can log in.
    pub(crate) fn logins(&self) -> &[Account] {
        &self.logins
    }

    /// `count` accounts spread over all.
    pub(crate) fn spread(&self, count: usize) -> Vec<Account> {
        let step = (self.total / count.max(1)).max(1);
        (0..self.total).step_by(step).take(count).map(Account::number).collect()
    }
}

/// Accounts on SQLite, with a configuration of ours.
pub(crate) struct Embedded {
    pub(crate) site: Site,
    /// Accounts spread over all.
    pub(crate) spread: Vec<Account>,
    /// The accounts that can log in.
    pub(crate) logins: Vec<Account>,
}

impl Embedded {
    /// A database made by `mailsql init` and filled by the sqlite3 program.
    pub(crate) fn make(total: usize, logins: usize, spread: usize, sections: &str) -> Result<Self> {
        let root = TempRoot::new()?;
        root.folder("db", 0o777, NOBODY, NOBODY)?;
        let file = root.join("db").join("mail.db");
        let url = format!("sqlite:{}", file.display());
        let site = Site::with(root, &format!("url = \"{url}\""), sections)?;
        let mut init = Command::new(mailsql_rig::program("mailsql")?);
        init.arg("--config").arg(&site.config).args(["init", "--database", &url]);
        mailsql_rig::run(init, b"")?.ok()?;
        let step = |count: usize| (total / count.max(1)).max(1);
        let logins: Vec<Account> = (0..total).step_by(step(logins)).take(logins).map(Account::number).collect();
        let mut sql = format!(
            "PRAGMA synchronous = OFF; BEGIN;
             WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < {DOMAINS} - 1)
               INSERT INTO domains(id, name) SELECT i + 1, printf('d%02d.jp', i) FROM n;
             WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < {total} - 1)
               INSERT INTO users(name, password, domain_id)
               SELECT printf('u%05d', i), '$6$fillfillfillfill${}', 1 + i % {DOMAINS} FROM n;\n",
            "x".repeat(86)
        );
        for (number, account) in logins.iter().enumerate() {
            let hash = mailsql_password::host_crypt(account.password.as_bytes(), &format!("$6$salt{number:012}$"));
            let hash = hash.context("no libcrypt")?;
            let name = &account.local;
            sql.push_str(&format!("UPDATE users SET password = '{hash}' WHERE name = '{name}';\n"));
        }
        sql.push_str("COMMIT; ANALYZE;");
        let mut sqlite = Command::new("sqlite3");
        sqlite.arg(&file);
        mailsql_rig::run(sqlite, sql.as_bytes())?.ok().with_context(|| format!("making {total} accounts"))?;
        for name in ["mail.db", "mail.db-wal", "mail.db-shm"] {
            let file = file.with_file_name(name);
            if file.exists() {
                std::os::unix::fs::chown(file, Some(NOBODY), Some(NOBODY))?;
            }
        }
        let spread = (0..total).step_by(step(spread)).take(spread).map(Account::number).collect();
        Ok(Self { site, spread, logins })
    }
}

/// A configuration of ours in a temporary folder.
pub(crate) struct Site {
    root: TempRoot,
    config: PathBuf,
}

impl Site {
    /// Reads the accounts with the document's SELECT-only user. `{run}` in `sections` is the folder of sockets.
    pub(crate) fn on(accounts: &Accounts, sections: &str) -> Result<Self> {
        let root = TempRoot::new()?;
        let password = root.write_mode("db.password", document::PASSWORD, 0o600)?;
        let database = format!("url = \"{}\"\npassword_file = \"{}\"", accounts.db().url(), password.display());
        Self::with(root, &database, sections)
    }

    fn with(root: TempRoot, database: &str, sections: &str) -> Result<Self> {
        for folder in ["run", "state", "control"] {
            root.folder(folder, 0o777, 0, 0)?;
        }
        let text = format!(
            "[database]\n{database}\n\n[serve]\nuser = \"{}\"\ngroup = \"{}\"\n\n\
             [state]\ndir = \"{}\"\n\n[control]\ndir = \"{}\"\n\n{}",
            USER.0,
            USER.1,
            root.join("state").display(),
            root.join("control").display(),
            sections.replace("{run}", &root.join("run").display().to_string()),
        );
        let config = root.write_mode("mailsql.toml", text, 0o640)?;
        Ok(Self { root, config })
    }

    /// A path in the folder of sockets.
    pub(crate) fn run(&self, name: &str) -> PathBuf {
        self.root.join("run").join(name)
    }

    /// Starts one of our daemons; it is up when `socket` accepts.
    pub(crate) fn start(&self, program: &str, arguments: &[&str], socket: &str) -> Result<Daemon> {
        let setup = Daemon::setup(program).arg("--config").arg(&self.config).args(arguments);
        setup.ready_socket(self.run(socket)).start()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_debians_saslauthd_would_cache_fits_its_limit() {
        let account = Account::number(99_999);
        let service = format!("{}4194304-10", mailsql_rig::pam::SERVICE_PREFIX);
        let bytes = account.address().len() + account.domain.len() + service.len() + 3;
        assert!(bytes <= 60, "{bytes}");
        assert_eq!(account.alias(), "a99999@d49.jp");
    }
}
