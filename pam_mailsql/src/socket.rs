//! Socket mode: a mailsql daemon is asked, which knows the schema, caches, throttles and logs.
//!
//! | answer | authenticate, account | password |
//! | --- | --- | --- |
//! | ok | SUCCESS | SUCCESS |
//! | unknown | USER_UNKNOWN | USER_UNKNOWN |
//! | wrong | AUTH_ERR | AUTH_ERR |
//! | password expired | NEW_AUTHTOK_REQD | SUCCESS (it may be changed) |
//! | disabled, expired | ACCT_EXPIRED | ACCT_EXPIRED |
//! | throttled | AUTH_ERR | AUTH_ERR |
//! | refused | PERM_DENIED | AUTHTOK_ERR, the reason shown unless PAM_SILENT |
//! | readonly | – | PERM_DENIED, said unless PAM_SILENT |
//! | unavailable, no daemon, no answer in time, anything else | AUTHINFO_UNAVAIL | the same; TRY_AGAIN in the preliminary call |
//!
//! Settings: `socket=PATH` (default [`mailsql_ask::ASK_SOCKET`]), `timeout=3s` for each question. A session is nothing to
//! the daemon: SUCCESS. PAM_DISALLOW_NULL_AUTHTOK makes the empty password wrong without asking. A host process must be
//! root or in the socket's group.

use mailsql_ask::ask::{Reply, Request, Secret as Wire};
use mailsql_ask::{ASK_SOCKET, Client, DEADLINE, Unavailable};
use pam::constants::{PAM_SILENT, PamResultCode};

use crate::args::{Settings, TIMEOUT_MAX};
use crate::host::Secret;
use crate::module::{Backend, Call, Hook, forbids_empty, only_expired};

pub(crate) struct Daemon(Client);

impl Daemon {
    pub(crate) fn new(settings: &Settings) -> Self {
        let path = settings.text("socket").unwrap_or(ASK_SOCKET);
        Self(Client::new(path, settings.duration("timeout", DEADLINE, TIMEOUT_MAX)))
    }

    fn ask(&self, call: &mut Call<'_>, request: &Request<'_>) -> Option<Reply> {
        match self.0.ask(request) {
            Ok(reply) => Some(reply),
            Err(why) => {
                self.explain(call, &why);
                None
            }
        }
    }

    fn explain(&self, call: &mut Call<'_>, why: &Unavailable) {
        call.trouble(&format_args!("{}: {why}", self.0.path().display()));
    }

    fn ask_account(&self, call: &mut Call<'_>) -> Option<Reply> {
        let (user, service, rip) = (call.user.clone(), call.host.service(), call.host.client());
        self.ask(call, &Request::Account { user: &user, service: &service, rip: &rip })
    }
}

fn code(call: &mut Call<'_>, reply: Option<Reply>) -> PamResultCode {
    match reply {
        Some(Reply::Account(_)) => PamResultCode::PAM_SUCCESS,
        Some(Reply::Unknown) => PamResultCode::PAM_USER_UNKNOWN,
        Some(Reply::Wrong | Reply::Throttled) => PamResultCode::PAM_AUTH_ERR,
        Some(Reply::PasswordExpired) => PamResultCode::PAM_NEW_AUTHTOK_REQD,
        Some(Reply::Disabled | Reply::Expired) => PamResultCode::PAM_ACCT_EXPIRED,
        Some(Reply::Refused { reason }) => {
            call.trouble(&format_args!("the daemon refuses to answer: {}", Call::shown(&reason)));
            PamResultCode::PAM_PERM_DENIED
        }
        Some(other) => {
            call.trouble(&format_args!("the daemon answered {:?} out of place", other.word()));
            PamResultCode::PAM_AUTHINFO_UNAVAIL
        }
        None => PamResultCode::PAM_AUTHINFO_UNAVAIL,
    }
}

impl Backend for Daemon {
    fn begin(&mut self, _: &mut Call<'_>) -> Result<(), PamResultCode> {
        Ok(())
    }

    fn verify(&mut self, call: &mut Call<'_>, password: Option<&Secret>, _: bool) -> PamResultCode {
        let Some(password) = password.filter(|password| !(password.is_empty() && forbids_empty(call))) else {
            return PamResultCode::PAM_AUTH_ERR;
        };
        let (user, service, rip) = (call.user.clone(), call.host.service(), call.host.client());
        let request = Request::Login { user: &user, password: Wire(password), service: &service, rip: &rip, lip: b"" };
        let reply = self.ask(call, &request);
        code(call, reply)
    }

    fn account(&mut self, call: &mut Call<'_>) -> PamResultCode {
        let reply = self.ask_account(call);
        code(call, reply)
    }

    fn session(&mut self, _: &mut Call<'_>, _: Hook) -> PamResultCode {
        PamResultCode::PAM_SUCCESS
    }

    fn preliminary(&mut self, call: &mut Call<'_>) -> PamResultCode {
        let reply = self.ask_account(call);
        match code(call, reply) {
            PamResultCode::PAM_NEW_AUTHTOK_REQD => PamResultCode::PAM_SUCCESS,
            PamResultCode::PAM_AUTHINFO_UNAVAIL => PamResultCode::PAM_TRY_AGAIN,
            code => code,
        }
    }

    fn prepare_change(&mut self, call: &mut Call<'_>) -> Result<bool, PamResultCode> {
        if only_expired(call) {
            let reply = self.ask_account(call);
            match code(call, reply) {
                PamResultCode::PAM_NEW_AUTHTOK_REQD => {}
                // SUCCESS: nothing has expired, so nothing is to be done.
                code => return Err(code),
            }
        }
        Ok(!call.host.is_root())
    }

    /// The daemon looks at both passwords at once.
    fn verify_old(&mut self, _: &mut Call<'_>, _: &Secret) -> PamResultCode {
        PamResultCode::PAM_SUCCESS
    }

    fn change(&mut self, call: &mut Call<'_>, old: Option<&Secret>, new: &Secret) -> PamResultCode {
        let user = call.user.clone();
        let request = Request::Passwd { user: &user, old: old.map(|old| Wire(old)), new: Wire(new) };
        let (code, words) = match self.ask(call, &request) {
            Some(Reply::Done) => return PamResultCode::PAM_SUCCESS,
            Some(Reply::Refused { reason }) => (
                PamResultCode::PAM_AUTHTOK_ERR,
                if reason.is_empty() { "The new password is refused.".to_owned() } else { Call::shown(&reason) },
            ),
            Some(Reply::ReadOnly) => (PamResultCode::PAM_PERM_DENIED, "Passwords cannot be changed here.".to_owned()),
            // An account is no answer to this question; what the others mean is the same as at a login.
            Some(Reply::Account(_)) => (PamResultCode::PAM_AUTHINFO_UNAVAIL, String::new()),
            reply => (code(call, reply), String::new()),
        };
        if !words.is_empty() && !call.has(PAM_SILENT) {
            call.host.tell(&words);
        }
        code
    }
}
