//! Direct mode: pam_mysql's settings, its queries and its codes, for a host without a daemon. Chosen by `user=`, `db=` or
//! `config_file=`.
//!
//! | situation | authenticate | account | password | session |
//! | --- | --- | --- | --- | --- |
//! | all is well | SUCCESS | SUCCESS | SUCCESS | SUCCESS |
//! | no row | USER_UNKNOWN | USER_UNKNOWN | PERM_DENIED | – |
//! | wrong password | AUTH_ERR | – | AUTH_ERR | – |
//! | NULL password | AUTH_ERR; with `nullok`, unless PAM_DISALLOW_NULL_AUTHTOK, SUCCESS without a prompt | as its status | no old password asked, with `nullok` | – |
//! | status 1, or NULL | – | ACCT_EXPIRED | AUTHTOK_LOCK_BUSY, unless PAM_CHANGE_EXPIRED_AUTHTOK | – |
//! | status 2 | – | AUTHTOK_EXPIRED, with a NULL password NEW_AUTHTOK_REQD | – | – |
//! | more than one row; `user`, `db`, `table` … missing; bad `crypt` | SERVICE_ERR | SERVICE_ERR | PERM_DENIED; TRY_AGAIN in the preliminary call | SERVICE_ERR |
//! | the server cannot be asked, or says an error | AUTHINFO_UNAVAIL | AUTHINFO_UNAVAIL | AUTHINFO_UNAVAIL, AUTHTOK_ERR when writing fails; TRY_AGAIN in the preliminary call | – |
//! | not root (effective user) | – | – | PERM_DENIED | – |
//!
//! # Differences from pam_mysql 0.8.2
//! - An SQL error is trouble (AUTHINFO_UNAVAIL), not SERVICE_ERR: it may be a table that is being rebuilt.
//! - Three rows or more are as bad as two; pam_mysql takes the first.
//! - An empty stored password matches nothing. An empty new one is refused. The NULL password of somebody else can be
//!   replaced without the old one only with `nullok`.
//! - crypt=1 writes `$6$` unless `md5=1`, `sha256`, `blowfish` ask otherwise; crypt 5 and 7 write what they verify instead
//!   of an empty string.
//! - A session connects only for `sqllog`.
//! - Connections end at deadlines (see [`mailsql_store::direct`]); `disconnect_every_op` is always so. `update_table` is
//!   accepted and, as there, not used. `ssl_mode` of `required` or more is refused, for this mode has no TLS.
//! - An unknown user costs a hash as well.

use std::net::ToSocketAddrs;

use mailsql_password::pam_mysql::{self, Crypt, NewCrypt};
use mailsql_password::{NewHash, os_random};
use mailsql_store::direct::{Host as Server, Log, Lookup, Rows, Session, Source, Unavailable};
use pam::constants::{PAM_SILENT, PamResultCode};
use zeroize::Zeroizing;

use crate::args::Settings;
use crate::host::{Level, Secret};
use crate::module::{Backend, Call, Hook, forbids_empty, only_expired};

/// What pam_mysql puts where it knows nothing.
const UNKNOWN: &str = "(unknown)";

/// The database, so that tests need none.
pub(crate) trait Accounts {
    fn find(&mut self, source: &Source<'_>, lookup: &Lookup<'_>, user: &[u8]) -> Result<Rows, Unavailable>;
    fn reach(&mut self, source: &Source<'_>) -> Result<(), Unavailable>;
    fn update(&mut self, source: &Source<'_>, lookup: &Lookup<'_>, user: &[u8], hash: &[u8])
    -> Result<(), Unavailable>;
    fn log(&mut self, source: &Source<'_>, log: &Log<'_>) -> Result<(), Unavailable>;
}

/// A server that speaks MySQL's protocol; one connection a question.
pub(crate) struct Mysql;

impl Accounts for Mysql {
    fn find(&mut self, source: &Source<'_>, lookup: &Lookup<'_>, user: &[u8]) -> Result<Rows, Unavailable> {
        Session::open(source)?.find(lookup, user)
    }

    fn reach(&mut self, source: &Source<'_>) -> Result<(), Unavailable> {
        Session::open(source).map(drop)
    }

    fn update(
        &mut self,
        source: &Source<'_>,
        lookup: &Lookup<'_>,
        user: &[u8],
        hash: &[u8],
    ) -> Result<(), Unavailable> {
        Session::open(source)?.update(lookup, user, hash)
    }

    fn log(&mut self, source: &Source<'_>, log: &Log<'_>) -> Result<(), Unavailable> {
        Session::open(source)?.log(log)
    }
}

/// What is known of the user.
enum Found {
    Nobody,
    Account { password: Option<Secret>, status: i64 },
}

pub(crate) struct Database<A> {
    accounts: A,
    found: Option<Found>,
}

/// The settings, checked.
struct Target<'a> {
    settings: &'a Settings,
    server: Server,
    crypt: Crypt,
}

impl<'a> Target<'a> {
    fn parse(call: &mut Call<'a>) -> Result<Self, PamResultCode> {
        let settings = call.settings;
        let mut needed = vec!["user", "db"];
        if settings.text("select").is_none() {
            needed.extend(["table", "usercolumn", "passwdcolumn"]);
        }
        let wrong = match needed.into_iter().find(|name| settings.text(name).is_none()) {
            Some(name) => format!("required option {name} is not set"),
            None => match (settings.text("crypt").unwrap_or("0").parse(), settings.text("ssl_mode")) {
                (Err(why), _) => format!("{why}"),
                (_, Some(mode)) if !["disabled", "preferred"].iter().any(|ok| mode.eq_ignore_ascii_case(ok)) => {
                    "ssl_mode asks for TLS, which only a daemon has (socket=)".to_owned()
                }
                (Ok(crypt), _) => return Ok(Self { settings, server: Server::parse(settings.text("host")), crypt }),
            },
        };
        call.host.log(Level::Error, &wrong);
        Err(PamResultCode::PAM_SERVICE_ERR)
    }

    fn source(&self) -> Source<'_> {
        let text = |name| self.settings.text(name).unwrap_or_default();
        Source { host: &self.server, user: text("user"), password: text("passwd"), database: text("db") }
    }

    fn lookup(&self) -> Lookup<'_> {
        let text = |name| self.settings.text(name).unwrap_or_default();
        Lookup {
            table: text("table"),
            user_column: text("usercolumn"),
            password_column: text("passwdcolumn"),
            status_column: self.settings.text("statcolumn").unwrap_or("0"),
            condition: text("where"),
            select: text("select"),
        }
    }

    fn new_crypt(&self) -> NewCrypt {
        let flag = |name| self.settings.flag(name, false);
        let rounds = |default: u32| self.settings.text("rounds").and_then(|text| text.parse().ok()).unwrap_or(default);
        if flag("blowfish") {
            NewCrypt::Hash(NewHash::Bcrypt { cost: rounds(12) })
        } else if flag("sha512") {
            NewCrypt::Hash(NewHash::Sha512Crypt { rounds: rounds(5000) })
        } else if flag("sha256") {
            NewCrypt::Sha256Crypt { rounds: rounds(5000) }
        } else if flag("md5") {
            NewCrypt::Md5Crypt
        } else {
            NewCrypt::default()
        }
    }
}

impl<A: Accounts> Database<A> {
    pub(crate) fn new(accounts: A) -> Self {
        Self { accounts, found: None }
    }

    fn find(&mut self, call: &mut Call<'_>, target: &Target<'_>) -> Result<Found, PamResultCode> {
        match self.accounts.find(&target.source(), &target.lookup(), &call.user) {
            Ok(Rows::None) => Ok(Found::Nobody),
            Ok(Rows::One(row, base_tables)) => {
                if base_tables {
                    call.debug("table=emails is the document's view: its base tables were asked, by their keys");
                }
                let password = row.password.map(Zeroizing::new);
                let null = if password.is_none() { STATUS_NULL } else { 0 };
                let status = row.status.map_or(STATUS_EXPIRED, |text| number(&text)) & !STATUS_NULL | null;
                Ok(Found::Account { password, status })
            }
            Ok(Rows::Many) => {
                call.trouble(&"more than one row has this name: the settings must tell one account");
                Err(PamResultCode::PAM_SERVICE_ERR)
            }
            Err(why) => {
                call.trouble(&why);
                Err(PamResultCode::PAM_AUTHINFO_UNAVAIL)
            }
        }
    }

    fn sqllog(&mut self, call: &mut Call<'_>, target: &Target<'_>, message: &str) {
        let text = |name| target.settings.text(name);
        if !target.settings.flag("sqllog", false) {
            return;
        }
        let columns = ["logtable", "logmsgcolumn", "logusercolumn", "loghostcolumn", "logtimecolumn"].map(text);
        let [Some(table), Some(msg), Some(user), Some(host), Some(time)] = columns else {
            call.host
                .log(Level::Error, "sqllog needs logtable, logmsgcolumn, logusercolumn, loghostcolumn, logtimecolumn");
            return;
        };
        let (address, pid, client) = (local_address(), std::process::id().to_string(), call.host.client());
        let client = if client.is_empty() { UNKNOWN.as_bytes() } else { &client };
        let mut values: Vec<(&str, &[u8])> =
            vec![(msg, message.as_bytes()), (user, &call.user), (host, address.as_bytes())];
        values.extend(text("logrhostcolumn").map(|column| (column, client)));
        values.extend(text("logpidcolumn").map(|column| (column, pid.as_bytes())));
        let log = Log { table, values: &values, time_column: time };
        if let Err(why) = self.accounts.log(&target.source(), &log) {
            call.host.log(Level::Error, &format!("sqllog: {why}"));
        }
    }

    fn matches(&self, target: &Target<'_>, password: &[u8]) -> bool {
        let use_323 = target.settings.flag("use_323_passwd", false);
        let verify = |stored: &str| pam_mysql::verify(password, stored, target.crypt, use_323);
        match &self.found {
            Some(Found::Account { password: Some(stored), .. }) => std::str::from_utf8(stored).is_ok_and(verify),
            _ => {
                // So that a stranger takes as long as a wrong password.
                std::hint::black_box(verify(dummy(target.crypt)));
                false
            }
        }
    }

    /// Whether the user has no password and needs none.
    fn needs_none(&self, call: &Call<'_>) -> bool {
        matches!(self.found, Some(Found::Account { password: None, .. }))
            && call.settings.flag("nullok", false)
            && !forbids_empty(call)
    }
}

impl<A: Accounts> Backend for Database<A> {
    fn begin(&mut self, call: &mut Call<'_>) -> Result<(), PamResultCode> {
        let target = Target::parse(call)?;
        self.found = Some(self.find(call, &target)?);
        Ok(())
    }

    fn verify(&mut self, call: &mut Call<'_>, password: Option<&Secret>, first: bool) -> PamResultCode {
        let target = match Target::parse(call) {
            Ok(target) => target,
            Err(code) => return code,
        };
        let code = if self.needs_none(call) || password.is_some_and(|password| self.matches(&target, password)) {
            PamResultCode::PAM_SUCCESS
        } else if matches!(self.found, Some(Found::Account { .. })) {
            PamResultCode::PAM_AUTH_ERR
        } else {
            PamResultCode::PAM_USER_UNKNOWN
        };
        let message = match (&code, first) {
            (PamResultCode::PAM_SUCCESS, false) => "AUTHENTICATION SUCCESS",
            (PamResultCode::PAM_SUCCESS, true) => "AUTHENTICATION SUCCESS (FIRST_PASS)",
            (_, false) => "AUTHENTICATION FAILURE",
            // Their spelling: reports look for it.
            (_, true) => "AUTHENTICATION FALURE (FIRST_PASS)",
        };
        if password.is_some() || code == PamResultCode::PAM_SUCCESS {
            self.sqllog(call, &target, message);
        }
        code
    }

    fn account(&mut self, call: &mut Call<'_>) -> PamResultCode {
        let found = match Target::parse(call) {
            Ok(target) => {
                let found = self.find(call, &target);
                self.sqllog(call, &target, if found.is_ok() { "QUERYING SUCCESS" } else { "QUERYING FAILURE" });
                found
            }
            Err(code) => return code,
        };
        match found {
            Err(code) => code,
            Ok(Found::Nobody) => PamResultCode::PAM_USER_UNKNOWN,
            Ok(Found::Account { status, .. }) if status & STATUS_EXPIRED != 0 => PamResultCode::PAM_ACCT_EXPIRED,
            Ok(Found::Account { status, .. }) if status & STATUS_CHANGE != 0 => {
                if status & STATUS_NULL != 0 {
                    PamResultCode::PAM_NEW_AUTHTOK_REQD
                } else {
                    PamResultCode::PAM_AUTHTOK_EXPIRED
                }
            }
            Ok(Found::Account { .. }) => PamResultCode::PAM_SUCCESS,
        }
    }

    fn session(&mut self, call: &mut Call<'_>, hook: Hook) -> PamResultCode {
        match Target::parse(call) {
            Ok(target) => {
                let message = if hook == Hook::OpenSession { "OPEN SESSION" } else { "CLOSE SESSION" };
                self.sqllog(call, &target, message);
                PamResultCode::PAM_SUCCESS
            }
            Err(code) => code,
        }
    }

    fn preliminary(&mut self, call: &mut Call<'_>) -> PamResultCode {
        let reached = Target::parse(call).and_then(|target| {
            self.accounts.reach(&target.source()).map_err(|why| {
                call.trouble(&why);
                PamResultCode::PAM_AUTHINFO_UNAVAIL
            })
        });
        if reached.is_ok() { PamResultCode::PAM_SUCCESS } else { PamResultCode::PAM_TRY_AGAIN }
    }

    fn prepare_change(&mut self, call: &mut Call<'_>) -> Result<bool, PamResultCode> {
        if !call.host.is_privileged() {
            call.host.log(Level::Error, "passwords are changed by programs that run as root only");
            return Err(PamResultCode::PAM_PERM_DENIED);
        }
        let found = Target::parse(call).and_then(|target| {
            let found = self.find(call, &target);
            self.sqllog(call, &target, if found.is_ok() { "QUERYING SUCCESS" } else { "QUERYING FAILURE" });
            found
        });
        match found {
            Ok(Found::Account { status, .. }) if status & STATUS_EXPIRED != 0 && !only_expired(call) => {
                return Err(PamResultCode::PAM_AUTHTOK_LOCK_BUSY);
            }
            Err(PamResultCode::PAM_AUTHINFO_UNAVAIL) => return Err(PamResultCode::PAM_AUTHINFO_UNAVAIL),
            Ok(Found::Nobody) | Err(_) => return Err(PamResultCode::PAM_PERM_DENIED),
            Ok(account) => self.found = Some(account),
        }
        Ok(!call.host.is_root() && !self.needs_none(call))
    }

    fn verify_old(&mut self, call: &mut Call<'_>, old: &Secret) -> PamResultCode {
        match Target::parse(call) {
            Ok(target) if self.matches(&target, old) => PamResultCode::PAM_SUCCESS,
            Ok(_) => PamResultCode::PAM_AUTH_ERR,
            Err(code) => code,
        }
    }

    fn change(&mut self, call: &mut Call<'_>, _: Option<&Secret>, new: &Secret) -> PamResultCode {
        let target = match Target::parse(call) {
            Ok(target) => target,
            Err(_) => return PamResultCode::PAM_PERM_DENIED,
        };
        let use_323 = target.settings.flag("use_323_passwd", false);
        let hash = pam_mysql::create(new, target.crypt, use_323, &target.new_crypt(), &mut os_random);
        let hash = match hash {
            Ok(hash) => Zeroizing::new(hash),
            Err(why) => {
                call.host.log(Level::Error, &format!("no hash for the new password: {why}"));
                if !call.has(PAM_SILENT) {
                    call.host.tell(&format!("The new password is refused: {why}."));
                }
                return PamResultCode::PAM_AUTHTOK_ERR;
            }
        };
        let updated = self.accounts.update(&target.source(), &target.lookup(), &call.user, hash.as_bytes());
        let message = if updated.is_ok() { "ALTERATION SUCCESS" } else { "ALTERATION FAILURE" };
        self.sqllog(call, &target, message);
        match updated {
            Ok(()) => PamResultCode::PAM_SUCCESS,
            Err(why) => {
                call.trouble(&why);
                PamResultCode::PAM_AUTHTOK_ERR
            }
        }
    }
}

/// The account has ended.
const STATUS_EXPIRED: i64 = 1;
/// The password must be changed.
const STATUS_CHANGE: i64 = 2;
/// There is no password; set by what the password column says, never by the status column.
const STATUS_NULL: i64 = 4;

/// strtol(3), base 10: what is no number is 0.
fn number(text: &[u8]) -> i64 {
    let text = String::from_utf8_lossy(text.trim_ascii_start());
    let (sign, digits) = match text.strip_prefix('-') {
        Some(digits) => (-1, digits),
        None => (1, text.strip_prefix('+').unwrap_or(&text)),
    };
    let digits = digits.bytes().take_while(u8::is_ascii_digit);
    sign * digits.fold(0_i64, |value, digit| value.saturating_mul(10).saturating_add(i64::from(digit - b'0')))
}

/// A stored password that nobody has, of the usual cost.
fn dummy(crypt: Crypt) -> &'static str {
    match crypt {
        Crypt::Y => concat!(
            "$6$mailsqlmailsqlma$",
            "..........................................",
            "............................................"
        ),
        Crypt::Drupal7 => "$S$Dmailsqlm...........................................",
        _ => "-",
    }
}

/// The address of this host's name, for `loghostcolumn`.
fn local_address() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let address = (name.trim(), 0).to_socket_addrs().ok().and_then(|mut addresses| addresses.next());
    address.map_or_else(|| UNKNOWN.to_owned(), |address| address.ip().to_string())
}

#[cfg(test)]
#[path = "direct_tests.rs"]
mod tests;
