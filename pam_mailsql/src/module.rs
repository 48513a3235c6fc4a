//! The PAM functions over either way of asking, tested with no PAM and no root.
//!
//! # Passwords
//! | setting | authenticate |
//! | --- | --- |
//! | `try_first_pass` (default) | the password an earlier module left; if it is wrong or there is none, `Password:` is asked |
//! | `try_first_pass=0` | always asked |
//! | `use_first_pass` | never asked |
//!
//! A password that was asked for is left in PAM_AUTHTOK. Passwords longer than [`PASSWORD_MAX`] are wrong without further
//! ado.
//!
//! # Failures
//! `fail_delay=2s` asks libpam to wait when the stack fails (default: none, as with pam_mysql: libpam waits inside
//! pam_authenticate, which would hold a worker of saslauthd for as long, and the daemon throttles better).
//!
//! # Differences from pam_mysql
//! With `try_first_pass` and no password yet, pam_mysql looks the account up with an empty hand, logs a failure that none
//! was, then asks and looks it up again; we look once. The order of prompts and the codes are its own.

use pam::constants::{PAM_CHANGE_EXPIRED_AUTHTOK, PAM_DISALLOW_NULL_AUTHTOK, PAM_SILENT, PamFlag, PamResultCode};

use crate::args::{FAIL_DELAY_MAX, Settings};
use crate::host::{Host, Level, Secret};

/// Longest password looked at, in bytes.
pub(crate) const PASSWORD_MAX: usize = 4096;
/// Longest user name looked at, in bytes.
pub(crate) const USER_MAX: usize = 1024;
/// Most bytes of a user name in a log line.
const SHOWN_MAX: usize = 128;

/// The first of the two calls that change a password: can it be done?
pub(crate) const PAM_PRELIM_CHECK: PamFlag = 0x4000;
/// The second: do it.
pub(crate) const PAM_UPDATE_AUTHTOK: PamFlag = 0x2000;

/// Which PAM function was called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hook {
    Authenticate,
    Account,
    Password,
    OpenSession,
    CloseSession,
}

/// One call: who asks about whom, under which settings.
pub(crate) struct Call<'a> {
    pub(crate) host: &'a mut dyn Host,
    pub(crate) settings: &'a Settings,
    pub(crate) user: Vec<u8>,
    pub(crate) flags: PamFlag,
}

impl Call<'_> {
    pub(crate) fn has(&self, flag: PamFlag) -> bool {
        self.flags & flag != 0
    }

    /// A user name, client or service fit for a log line.
    pub(crate) fn shown(text: &[u8]) -> String {
        if text.is_empty() { "-".to_owned() } else { text.escape_ascii().take(SHOWN_MAX).map(char::from).collect() }
    }

    pub(crate) fn trouble(&mut self, why: &dyn std::fmt::Display) {
        let user = Self::shown(&self.user);
        self.host.log(Level::Error, &format!("result=unavailable user={user}: {why}"));
    }

    /// Say something only to those who asked for it with `verbose`.
    pub(crate) fn debug(&mut self, text: &str) {
        if self.settings.flag("verbose", false) {
            self.host.log(Level::Debug, text);
        }
    }
}

/// A way of asking: the daemon's socket, or the database itself.
pub(crate) trait Backend {
    /// Look before anybody is asked for a password; an error ends the call.
    fn begin(&mut self, call: &mut Call<'_>) -> Result<(), PamResultCode>;
    /// Is this the password? `None` when there is none.
    fn verify(&mut self, call: &mut Call<'_>, password: Option<&Secret>, first: bool) -> PamResultCode;
    /// May the account be used?
    fn account(&mut self, call: &mut Call<'_>) -> PamResultCode;
    /// A session begins or ends.
    fn session(&mut self, call: &mut Call<'_>, hook: Hook) -> PamResultCode;
    /// Could the password be changed?
    fn preliminary(&mut self, call: &mut Call<'_>) -> PamResultCode;
    /// May it be changed, and must the present one be given? An error ends the call, with SUCCESS when there is nothing
    /// to do.
    fn prepare_change(&mut self, call: &mut Call<'_>) -> Result<bool, PamResultCode>;
    /// Is this the present password, if that can be told before the change?
    fn verify_old(&mut self, call: &mut Call<'_>, old: &Secret) -> PamResultCode;
    /// Change it.
    fn change(&mut self, call: &mut Call<'_>, old: Option<&Secret>, new: &Secret) -> PamResultCode;
}

/// Run one PAM function.
pub(crate) fn run(host: &mut dyn Host, hook: Hook, arguments: &[&[u8]], flags: PamFlag) -> PamResultCode {
    let settings = Settings::find(host, arguments);
    if settings.is_direct() {
        return run_direct(host, hook, &settings, flags);
    }
    run_with(&mut crate::socket::Daemon::new(&settings), host, hook, &settings, flags)
}

#[cfg(feature = "direct")]
fn run_direct(host: &mut dyn Host, hook: Hook, settings: &Settings, flags: PamFlag) -> PamResultCode {
    run_with(&mut crate::direct::Database::new(crate::direct::Mysql), host, hook, settings, flags)
}

#[cfg(not(feature = "direct"))]
fn run_direct(host: &mut dyn Host, _: Hook, _: &Settings, _: PamFlag) -> PamResultCode {
    let what = "this module was built without direct mode: remove user=, db= and config_file=, or install the full one";
    host.log(Level::Error, what);
    PamResultCode::PAM_AUTHINFO_UNAVAIL
}

pub(crate) fn run_with(
    backend: &mut dyn Backend,
    host: &mut dyn Host,
    hook: Hook,
    settings: &Settings,
    flags: PamFlag,
) -> PamResultCode {
    let user = match host.user() {
        Ok(user) if !user.is_empty() && user.len() <= USER_MAX => user,
        Ok(_) => return PamResultCode::PAM_USER_UNKNOWN,
        Err(PamResultCode::PAM_CONV_AGAIN) => return PamResultCode::PAM_INCOMPLETE,
        Err(_) => return PamResultCode::PAM_USER_UNKNOWN,
    };
    let mut call = Call { host, settings, user, flags };
    let code = match hook {
        Hook::Authenticate => authenticate(backend, &mut call),
        Hook::Account => backend.account(&mut call),
        Hook::Password => change(backend, &mut call),
        Hook::OpenSession | Hook::CloseSession => backend.session(&mut call, hook),
    };
    report(&mut call, hook, &code);
    code
}

/// One line a decision: refusals always, successes with `verbose`; trouble was told where it was met.
fn report(call: &mut Call<'_>, hook: Hook, code: &PamResultCode) {
    let result = match code {
        PamResultCode::PAM_SUCCESS => "ok",
        PamResultCode::PAM_AUTH_ERR => "wrong",
        PamResultCode::PAM_USER_UNKNOWN => "unknown",
        PamResultCode::PAM_NEW_AUTHTOK_REQD | PamResultCode::PAM_AUTHTOK_EXPIRED => "password_expired",
        PamResultCode::PAM_ACCT_EXPIRED => "expired",
        _ => "refused",
    };
    let what = match hook {
        Hook::Authenticate => "authenticate",
        Hook::Account => "account",
        Hook::Password => "password",
        Hook::OpenSession => "open_session",
        Hook::CloseSession => "close_session",
    };
    let [user, service, client] = [&call.user, &call.host.service(), &call.host.client()].map(|text| Call::shown(text));
    let line = format!("{what} result={result} user={user} service={service} client={client}");
    match result {
        "ok" => call.debug(&line),
        "refused" => call.debug(&format!("{line} code={code:?}")),
        _ => call.host.log(Level::Notice, &line),
    }
    if hook == Hook::Authenticate
        && ["wrong", "unknown"].contains(&result)
        && call.settings.text("fail_delay").is_some()
    {
        let delay = call.settings.duration("fail_delay", FAIL_DELAY_MAX, FAIL_DELAY_MAX);
        call.host.fail_delay(delay);
    }
}

fn authenticate(backend: &mut dyn Backend, call: &mut Call<'_>) -> PamResultCode {
    if let Err(code) = backend.begin(call) {
        return code;
    }
    let only_first = call.settings.flag("use_first_pass", false);
    if only_first || call.settings.flag("try_first_pass", true) {
        let password = call.host.password();
        let code = verify(backend, call, password.as_ref(), true);
        let ask = matches!(code, PamResultCode::PAM_AUTH_ERR | PamResultCode::PAM_USER_UNKNOWN);
        if only_first || !ask {
            return code;
        }
    }
    let password = match call.host.prompt("Password:") {
        Ok(Some(password)) => password,
        Ok(None) => return PamResultCode::PAM_AUTH_ERR,
        Err(PamResultCode::PAM_CONV_AGAIN) => return PamResultCode::PAM_INCOMPLETE,
        Err(_) => return PamResultCode::PAM_SERVICE_ERR,
    };
    call.host.keep_password(&password);
    verify(backend, call, Some(&password), false)
}

fn verify(backend: &mut dyn Backend, call: &mut Call<'_>, password: Option<&Secret>, first: bool) -> PamResultCode {
    if password.is_some_and(|password| password.len() > PASSWORD_MAX) {
        return PamResultCode::PAM_AUTH_ERR;
    }
    backend.verify(call, password, first)
}

fn change(backend: &mut dyn Backend, call: &mut Call<'_>) -> PamResultCode {
    if call.has(PAM_PRELIM_CHECK) {
        return backend.preliminary(call);
    }
    if !call.has(PAM_UPDATE_AUTHTOK) {
        return PamResultCode::PAM_SERVICE_ERR;
    }
    match change_now(backend, call) {
        Ok(()) => PamResultCode::PAM_SUCCESS,
        Err(code) => code,
    }
}

fn change_now(backend: &mut dyn Backend, call: &mut Call<'_>) -> Result<(), PamResultCode> {
    let old = if backend.prepare_change(call)? { Some(present_password(backend, call)?) } else { None };
    let new = new_password(call)?;
    match backend.change(call, old.as_ref(), &new) {
        PamResultCode::PAM_SUCCESS => Ok(()),
        code => Err(code),
    }
}

fn present_password(backend: &mut dyn Backend, call: &mut Call<'_>) -> Result<Secret, PamResultCode> {
    let only_first = call.settings.flag("use_first_pass", false);
    let mut code = PamResultCode::PAM_AUTH_ERR;
    if (only_first || call.settings.flag("try_first_pass", true))
        && let Some(old) = call.host.old_password()
    {
        code = backend.verify_old(call, &old);
        if code == PamResultCode::PAM_SUCCESS {
            return Ok(old);
        }
        if code != PamResultCode::PAM_AUTH_ERR {
            return Err(code);
        }
    }
    if only_first {
        return Err(code);
    }
    let old = ask(call, "Current Password:")?;
    match backend.verify_old(call, &old) {
        PamResultCode::PAM_SUCCESS => {
            call.host.keep_old_password(&old);
            Ok(old)
        }
        code => Err(code),
    }
}

fn new_password(call: &mut Call<'_>) -> Result<Secret, PamResultCode> {
    let only_first = call.settings.flag("use_first_pass", false) || call.settings.flag("use_authtok", false);
    if only_first || call.settings.flag("try_first_pass", true) {
        match call.host.password() {
            Some(new) => return Ok(new),
            None if only_first => return Err(PamResultCode::PAM_AUTHTOK_RECOVERY_ERR),
            None => {}
        }
    }
    if call.has(PAM_SILENT) {
        return Err(PamResultCode::PAM_AUTHTOK_RECOVERY_ERR);
    }
    let new = ask(call, "New Password:")?;
    if ask(call, "Retype New Password:")? != new {
        call.host.tell("The passwords are not the same; nothing was changed.");
        return Err(PamResultCode::PAM_AUTHTOK_RECOVERY_ERR);
    }
    call.host.keep_password(&new);
    Ok(new)
}

fn ask(call: &mut Call<'_>, text: &str) -> Result<Secret, PamResultCode> {
    match call.host.prompt(text) {
        Ok(Some(answer)) if answer.len() <= PASSWORD_MAX => Ok(answer),
        Ok(_) => Err(PamResultCode::PAM_AUTHTOK_RECOVERY_ERR),
        Err(PamResultCode::PAM_CONV_AGAIN) => Err(PamResultCode::PAM_INCOMPLETE),
        Err(_) => Err(PamResultCode::PAM_SERVICE_ERR),
    }
}

/// Whether an empty password must not do, whoever's it is.
pub(crate) fn forbids_empty(call: &Call<'_>) -> bool {
    call.has(PAM_DISALLOW_NULL_AUTHTOK)
}

/// Whether only a password that has expired is to be changed.
pub(crate) fn only_expired(call: &Call<'_>) -> bool {
    call.has(PAM_CHANGE_EXPIRED_AUTHTOK)
}
