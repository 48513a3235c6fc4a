//! Debian's pam_mysql.so and ours on the same MariaDB, case by case: the same code and the same prompts, but where the
//! table says that we differ, and then exactly so.
//!
//! Needs root, mariadb-server and libpam-mysql, and `cargo build -p pam_mailsql -p mailsql-rig` before.
//! pam_mysql is libpam-mysql 0.8.2-2+deb12u1 (its NULL passwords and `nullok` changed with that security update).
#![cfg(feature = "direct")]

use anyhow::{Context, Result};
use mailsql_rig::pam::Step::{AcctMgmt, Authenticate, Chauthtok, OpenSession};
use mailsql_rig::pam::{Call, Step};
use mailsql_rig::{MariaDb, document, module};

const THEIRS: &str = "pam_mysql.so";
/// PAM_DISALLOW_NULL_AUTHTOK.
const NO_NULL: i32 = 1;
/// PAM_CHANGE_EXPIRED_AUTHTOK.
const EXPIRED: i32 = 0x20;
/// PAM_SILENT.
const SILENT: i32 = 0x8000;

const ROWS: &str = "
USE mail;
CREATE TABLE acc (name VARCHAR(100), pw VARCHAR(255) NULL, st VARCHAR(40) NULL);
INSERT INTO acc VALUES
  ('good', ENCRYPT('pass', '$6$saltsalt'), '0'), ('null', NULL, '0'), ('empty', '', '0'), ('star', '*', '0'),
  ('st1', ENCRYPT('pass', '$6$saltsalt'), '1'), ('st2', 'x', '2'), ('st3', 'x', '3'), ('st4', 'x', '4'),
  ('st8', 'x', '8'), ('stnull', 'x', NULL), ('stword', 'x', 'abc'), ('st2word', 'x', ' 2abc'),
  ('null1', NULL, '1'), ('null2', NULL, '2'), ('null6', NULL, '6'),
  ('twice', ENCRYPT('pass', '$6$saltsalt'), '0'), ('twice', 'x', '0'),
  ('thrice', ENCRYPT('pass', '$6$saltsalt'), '0'), ('thrice', 'x', '0'), ('thrice', 'x', '0'),
  ('plain', 'pass', '0'), ('md5', MD5('pass'), '0'), ('mysql', PASSWORD('pass'), '0'), ('sha1', SHA1('pass'), '0'),
  ('md5crypt', ENCRYPT('pass', '$1$saltsalt'), '0'), ('des', ENCRYPT('pass', 'ab'), '0');
GRANT ALL ON mail.* TO writer@localhost IDENTIFIED BY 'writerpass';
";

/// What both are asked, and what they answer: code and number of prompts.
struct Case {
    arguments: &'static str,
    user: &'static str,
    answers: &'static [&'static str],
    step: Step,
    flags: i32,
    theirs: (&'static str, usize),
    ours: (&'static str, usize),
}

impl Case {
    const fn same(
        step: Step,
        arguments: &'static str,
        user: &'static str,
        answers: &'static [&'static str],
        code: &'static str,
        prompts: usize,
    ) -> Self {
        Self { arguments, user, answers, step, flags: 0, theirs: (code, prompts), ours: (code, prompts) }
    }

    const fn flags(self, flags: i32) -> Self {
        Self { flags, ..self }
    }

    const fn ours(self, code: &'static str, prompts: usize) -> Self {
        Self { ours: (code, prompts), ..self }
    }
}

/// The arguments of the table `acc`, `{}` where the server's address goes.
const ACC: &str =
    "user=writer passwd=writerpass host={} db=mail table=acc usercolumn=name passwdcolumn=pw statcolumn=st";

struct Bench {
    server: MariaDb,
    folder: tempfile::TempDir,
    ours: String,
}

impl Bench {
    fn start() -> Result<Self> {
        let server = MariaDb::start_with_document()?;
        server.sql(ROWS)?;
        let folder = tempfile::tempdir()?;
        Ok(Self { server, folder, ours: module("pam_mailsql")?.display().to_string() })
    }

    /// The code and the number of password prompts.
    fn call(&self, module: &str, arguments: &str, case: &Case) -> Result<(&'static str, usize)> {
        let arguments = arguments.replace("{}", &self.server.socket().display().to_string());
        let line = |kind: &str| format!("{kind} required {module} {arguments} {}\n", case.arguments);
        let lines = ["auth", "account", "password", "session"].map(line).concat();
        std::fs::write(self.folder.path().join("svc"), lines)?;
        let call = Call::new("svc", case.user).confdir(self.folder.path()).item("rhost", "192.0.2.7");
        let call = case.answers.iter().fold(call, |call, answer| call.answer(answer));
        let transcript = call.step_with(case.step, case.flags).run()?;
        let code = *transcript.names().first().context("no result")?;
        Ok((code, transcript.prompts.iter().filter(|prompt| prompt.starts_with("off ")).count()))
    }

    fn compare(&self, common: &str, cases: &[Case]) -> Result<()> {
        for (number, case) in cases.iter().enumerate() {
            for (module, expected) in [(THEIRS, case.theirs), (&self.ours, case.ours)] {
                if case.step == Chauthtok {
                    self.server.sql(
                        "USE mail; UPDATE acc SET pw = ENCRYPT('pass', '$6$saltsalt') WHERE name IN ('good', 'st1')",
                    )?;
                }
                let found = self.call(module, common, case)?;
                assert_eq!(found, expected, "case {number}: {module} {} for {:?}", case.arguments, case.user);
            }
        }
        Ok(())
    }
}

#[test]
fn the_documents_line_answers_as_pam_mysql_does() -> Result<()> {
    let bench = Bench::start()?;
    let auth = |user, answers, code| Case::same(Authenticate, "", user, answers, code, 1);
    bench.compare(
        &document::pam_arguments(&bench.server.host_port()),
        &[
            auth("info@hoge.com", &["infopass"], "PAM_SUCCESS"),
            auth("INFO@HOGE.COM", &["infopass"], "PAM_SUCCESS"),
            auth("info@hoge.com ", &["infopass"], "PAM_SUCCESS"),
            auth("info @hoge.com", &["infopass"], "PAM_USER_UNKNOWN"),
            auth("info@hoge.com", &["bad"], "PAM_AUTH_ERR"),
            auth("info@hoge.com", &[""], "PAM_AUTH_ERR"),
            auth("nobody@hoge.com", &["infopass"], "PAM_USER_UNKNOWN"),
            auth("info", &["infopass"], "PAM_USER_UNKNOWN"),
            auth("x' OR '1'='1", &["infopass"], "PAM_USER_UNKNOWN"),
            Case::same(AcctMgmt, "", "a@b.c", &[], "PAM_SUCCESS", 0),
            Case::same(AcctMgmt, "", "b@b.c", &[], "PAM_USER_UNKNOWN", 0),
        ],
    )
}

#[test]
fn a_view_that_leaves_accounts_out_is_believed() -> Result<()> {
    let bench = Bench::start()?;
    let line = document::pam_arguments(&bench.server.host_port());
    let in_view = [Case::same(Authenticate, "", "a@b.c", &["apass"], "PAM_SUCCESS", 1)];
    let left_out = [Case::same(Authenticate, "", "a@b.c", &["apass"], "PAM_USER_UNKNOWN", 1)];
    let view = "CREATE OR REPLACE VIEW emails AS SELECT CONCAT(users.name, '@', domains.name) AS name, password \
         FROM users JOIN domains ON domains.id = users.domain_id WHERE";
    bench.compare(&line, &in_view)?;
    // By a further column: our account may not read how the view is made, but it sees the column.
    bench.server.sql(&format!(
        "USE mail; ALTER TABLE users ADD enabled INT NOT NULL DEFAULT 1; UPDATE users SET enabled = name <> 'a'; {view} enabled"
    ))?;
    bench.compare(&line, &left_out)?;
    // By a condition on the document's own columns: seen when the account may read how the view is made.
    bench.server.sql(&format!(
        "USE mail; {view} users.name <> 'a'; ALTER TABLE users DROP enabled; GRANT SHOW VIEW ON mail.* TO mail@localhost"
    ))?;
    bench.compare(&line, &left_out)
}

#[test]
fn passwords_and_null_are_judged_as_pam_mysql_does() -> Result<()> {
    let bench = Bench::start()?;
    let auth =
        |arguments, user, answers, code, prompts| Case::same(Authenticate, arguments, user, answers, code, prompts);
    bench.compare(
        ACC,
        &[
            auth("crypt=1", "good", &["pass"], "PAM_SUCCESS", 1),
            auth("crypt=Y", "good", &["Pass"], "PAM_AUTH_ERR", 1),
            auth("crypt=1", "good", &[""], "PAM_AUTH_ERR", 1),
            auth("crypt=1", "md5crypt", &["pass"], "PAM_SUCCESS", 1),
            auth("crypt=1", "des", &["pass"], "PAM_SUCCESS", 1),
            auth("crypt=1", "star", &["pass"], "PAM_AUTH_ERR", 1),
            auth("crypt=1", "st1", &["pass"], "PAM_SUCCESS", 1),
            auth("crypt=1", "nobody", &["pass"], "PAM_USER_UNKNOWN", 1),
            auth("crypt=1", "null", &["pass"], "PAM_AUTH_ERR", 1),
            auth("crypt=1", "null", &[""], "PAM_AUTH_ERR", 1),
            auth("crypt=1 nullok", "null", &[], "PAM_SUCCESS", 0),
            auth("crypt=1 nullok=0", "null", &[""], "PAM_AUTH_ERR", 1),
            auth("crypt=1 nullok", "null", &[""], "PAM_AUTH_ERR", 1).flags(NO_NULL),
            auth("crypt=1", "null", &[""], "PAM_AUTH_ERR", 1).flags(NO_NULL),
            auth("crypt=1", "empty", &[""], "PAM_AUTH_ERR", 1),
            auth("crypt=1 nullok", "empty", &[""], "PAM_AUTH_ERR", 1),
            auth("crypt=0", "plain", &["pass"], "PAM_SUCCESS", 1),
            auth("", "plain", &["Pass"], "PAM_AUTH_ERR", 1),
            auth("crypt=mysql", "mysql", &["pass"], "PAM_SUCCESS", 1),
            auth("crypt=3", "md5", &["pass"], "PAM_SUCCESS", 1),
            auth("crypt=SHA1", "sha1", &["pass"], "PAM_SUCCESS", 1),
            auth("crypt=17", "good", &[], "PAM_SERVICE_ERR", 0),
            auth("crypt=1", "twice", &[], "PAM_SERVICE_ERR", 0),
            auth("crypt=1 [where=st = 0]", "good", &["pass"], "PAM_SUCCESS", 1),
            auth("crypt=1 [where=st = 0]", "st1", &["pass"], "PAM_USER_UNKNOWN", 1),
            auth("crypt=1 try_first_pass=0", "good", &["pass"], "PAM_SUCCESS", 1),
            auth("crypt=1 use_first_pass", "good", &[], "PAM_AUTH_ERR", 0),
            auth("crypt=1 use_first_pass", "nobody", &[], "PAM_USER_UNKNOWN", 0),
            // Ours on purpose: nobody knows which of three is meant, and an empty value is nobody's password.
            auth("crypt=1", "thrice", &["pass"], "PAM_SUCCESS", 1).ours("PAM_SERVICE_ERR", 0),
            auth("crypt=0", "empty", &[""], "PAM_SUCCESS", 1).ours("PAM_AUTH_ERR", 1),
        ],
    )
}

#[test]
fn trouble_is_told_as_pam_mysql_tells_it_or_as_temporary() -> Result<()> {
    let bench = Bench::start()?;
    let auth = |arguments, code| Case::same(Authenticate, arguments, "good", &["pass"], code, 0);
    bench.compare(
        &format!("{ACC} crypt=1"),
        &[
            auth("host=/nonexistent", "PAM_AUTHINFO_UNAVAIL"),
            auth("passwd=wrong", "PAM_AUTHINFO_UNAVAIL"),
            auth("db=none", "PAM_AUTHINFO_UNAVAIL"),
            Case::same(AcctMgmt, "host=/nonexistent", "good", &[], "PAM_AUTHINFO_UNAVAIL", 0),
            Case::same(Chauthtok, "host=/nonexistent", "good", &[], "PAM_TRY_AGAIN", 0),
            // A table that is being rebuilt is trouble, not a service that is set up wrongly.
            auth("table=none", "PAM_SERVICE_ERR").ours("PAM_AUTHINFO_UNAVAIL", 0),
            // Nothing to log, so nobody to ask.
            Case::same(OpenSession, "host=/nonexistent", "good", &[], "PAM_AUTHINFO_UNAVAIL", 0).ours("PAM_SUCCESS", 0),
        ],
    )?;
    bench.compare(
        "user=mail",
        &[
            auth("", "PAM_SERVICE_ERR"),
            Case::same(AcctMgmt, "", "good", &[], "PAM_SERVICE_ERR", 0),
            Case::same(OpenSession, "", "good", &[], "PAM_SERVICE_ERR", 0),
        ],
    )
}

#[test]
fn status_bits_are_read_as_pam_mysql_reads_them() -> Result<()> {
    let bench = Bench::start()?;
    let account = |user, code| Case::same(AcctMgmt, "crypt=1", user, &[], code, 0);
    bench.compare(
        ACC,
        &[
            account("good", "PAM_SUCCESS"),
            account("null", "PAM_SUCCESS"),
            account("st1", "PAM_ACCT_EXPIRED"),
            account("st2", "PAM_AUTHTOK_EXPIRED"),
            account("st3", "PAM_ACCT_EXPIRED"),
            account("st4", "PAM_SUCCESS"),
            account("st8", "PAM_SUCCESS"),
            account("stnull", "PAM_ACCT_EXPIRED"),
            account("stword", "PAM_SUCCESS"),
            account("st2word", "PAM_AUTHTOK_EXPIRED"),
            account("null1", "PAM_ACCT_EXPIRED"),
            account("null2", "PAM_NEW_AUTHTOK_REQD"),
            account("null6", "PAM_NEW_AUTHTOK_REQD"),
            account("twice", "PAM_SERVICE_ERR"),
            account("nobody", "PAM_USER_UNKNOWN"),
        ],
    )
}

#[test]
fn passwords_are_changed_as_pam_mysql_changes_them() -> Result<()> {
    let bench = Bench::start()?;
    let change = |user, answers, code, prompts| Case::same(Chauthtok, "crypt=1", user, answers, code, prompts);
    bench.compare(
        ACC,
        &[
            change("good", &["new", "new"], "PAM_SUCCESS", 2),
            change("good", &["new", "now"], "PAM_AUTHTOK_RECOVERY_ERR", 2),
            change("good", &[], "PAM_AUTHTOK_RECOVERY_ERR", 0).flags(SILENT),
            change("st1", &[], "PAM_AUTHTOK_LOCK_BUSY", 0),
            change("st1", &["new", "new"], "PAM_SUCCESS", 2).flags(EXPIRED),
            change("nobody", &[], "PAM_PERM_DENIED", 0),
            change("twice", &[], "PAM_PERM_DENIED", 0),
            Case::same(Chauthtok, "use_first_pass", "good", &[], "PAM_AUTHTOK_RECOVERY_ERR", 0),
            // The document's account may only read.
            Case::same(Chauthtok, "user=mail passwd=mailpass", "good", &["new", "new"], "PAM_AUTHTOK_ERR", 2),
            // An empty password is none.
            change("good", &["", ""], "PAM_SUCCESS", 2).ours("PAM_AUTHTOK_ERR", 2),
        ],
    )?;
    // What one wrote the other reads.
    let old = Case::same(Chauthtok, "", "good", &["new", "new"], "PAM_SUCCESS", 2);
    let new = Case::same(Authenticate, "", "good", &["new"], "PAM_SUCCESS", 1);
    for (writer, reader) in [(THEIRS, bench.ours.as_str()), (&bench.ours, THEIRS)] {
        for crypt in ["crypt=0", "crypt=1", "crypt=2", "crypt=3", "crypt=4", "crypt=6"] {
            let arguments = format!("{ACC} {crypt}");
            assert_eq!(bench.call(writer, &arguments, &old)?, old.ours, "{writer} {crypt}");
            assert_eq!(bench.call(reader, &arguments, &new)?, new.ours, "{writer} {crypt}");
        }
    }
    Ok(())
}

#[test]
fn a_frozen_server_costs_a_login_three_seconds_at_most() -> Result<()> {
    let mut bench = Bench::start()?;
    bench.server.sigstop()?;
    let case = Case::same(Authenticate, "", "good", &["pass"], "PAM_AUTHINFO_UNAVAIL", 0);
    let tcp = document::pam_arguments(&bench.server.host_port());
    for arguments in [ACC, &tcp] {
        let began = std::time::Instant::now();
        assert_eq!(bench.call(&bench.ours, arguments, &case)?, case.ours);
        // The module's own bound is 2.9 s; the rest is for a loaded machine to start a process in.
        assert!(began.elapsed() < std::time::Duration::from_secs(4), "{:?}", began.elapsed());
    }
    bench.server.sigcont()
}
