//! A child that asks PAM: one request at a time on descriptor 0, until its parent closes it.
//!
//! ```text
//! in:  a request of the saslauthd wire, login and realm joined where they are to be
//! out: length (u16, big endian) text        "OK", "NO reason", or nothing when PAM could not find out
//! ```
//!
//! PAM's results that mean trouble are told apart from refusals here; a result that is not known is trouble.

use crate::ffi::{Login, PAM_SUCCESS, Pam, Result};
use mailsql_proto::saslauthd::{self, MAX_REQUEST, Request};
use nix::sys::prctl::{set_dumpable, set_pdeathsig};
use nix::sys::signal::Signal;
use nix::unistd::{dup2_stdin, dup2_stdout};
use std::ffi::CString;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::process::ExitCode;
use zeroize::Zeroizing;

/// PAM results that are a refusal of the user: PERM_DENIED, AUTH_ERR, USER_UNKNOWN, MAXTRIES, NEW_AUTHTOK_REQD,
/// ACCT_EXPIRED, CRED_EXPIRED, AUTHTOK_EXPIRED. All others are trouble.
const REFUSALS: [i32; 8] = [6, 7, 10, 11, 12, 13, 16, 27];

/// Serves until the parent is gone.
#[expect(clippy::print_stderr, reason = "a worker logs through its parent's standard error")]
pub(crate) fn run() -> ExitCode {
    match serve() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("saslauthd-rs: PAM worker: {error}");
            ExitCode::FAILURE
        }
    }
}

fn serve() -> std::io::Result<()> {
    // A module that never returns does not outlive the daemon.
    set_pdeathsig(Signal::SIGKILL)?;
    set_dumpable(false)?;
    let mut parent = UnixStream::from(std::io::stdin().as_fd().try_clone_to_owned()?);
    // Modules may read or write these.
    let null = File::options().read(true).write(true).open("/dev/null")?;
    dup2_stdin(&null)?;
    dup2_stdout(&null)?;
    let pam = Pam::open().map_err(std::io::Error::other)?;
    let mut buffer = Zeroizing::new(vec![0; MAX_REQUEST]);
    let mut length = 0;
    loop {
        let answer = match saslauthd::decode(&buffer[..length]) {
            Ok(Some((request, _))) => answer(&pam, &request),
            Ok(None) => {
                match parent.read(&mut buffer[length..])? {
                    0 => return Ok(()),
                    count => length += count,
                }
                continue;
            }
            Err(error) => return Err(std::io::Error::other(error)),
        };
        buffer.fill(0);
        length = 0;
        let mut out = u16::try_from(answer.len()).unwrap_or(0).to_be_bytes().to_vec();
        out.extend_from_slice(answer.as_bytes());
        parent.write_all(&out)?;
    }
}

/// The answer's text, empty for trouble.
fn answer(pam: &Pam, request: &Request<'_>) -> String {
    let text = |bytes: &[u8]| CString::new(bytes).ok();
    // The service names a file; a path would name any.
    let service = text(request.service).filter(|_| !request.service.is_empty() && !request.service.contains(&b'/'));
    let (Some(service), Some(user)) = (service, text(request.login)) else { return "NO PAM start error".to_owned() };
    // Room for the NUL before the password is there, so that no copy of it stays behind.
    let mut password = Zeroizing::new(Vec::with_capacity(request.password.len() + 1));
    password.extend(request.password.iter().copied().take_while(|byte| *byte != 0));
    password.push(0);
    let client = request.client.filter(|client| !client.is_empty()).and_then(text);
    let result = pam.log_in(&Login { service, user, password, client });
    match result {
        Result::Acct(PAM_SUCCESS) => "OK".to_owned(),
        Result::Auth(code) if REFUSALS.contains(&code) => "NO PAM auth error".to_owned(),
        Result::Acct(code) if REFUSALS.contains(&code) => "NO PAM acct error".to_owned(),
        Result::Start(code) | Result::Auth(code) | Result::Acct(code) => {
            trouble(pam, request, code);
            String::new()
        }
    }
}

#[expect(clippy::print_stderr, reason = "a worker logs through its parent's standard error")]
fn trouble(pam: &Pam, request: &Request<'_>, code: i32) {
    let service = request.service.escape_ascii();
    eprintln!("saslauthd-rs: PAM service {service}: {}; connection closed without an answer", pam.describe(code));
}
