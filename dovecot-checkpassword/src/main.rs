//! dovecot-checkpassword: Dovecot 2.3's checkpassword interface on the mailsql daemon.
//!
//! ```text
//! dovecot-checkpassword [--socket PATH] [--timeout SECONDS] [--exec] [PROGRAM [ARGUMENT...]]
//! ```
//!
//! Dovecot appends its reply program. By default it is not run: its work, writing some fields to descriptor 4, is done
//! here, which saves an exec a login. `--exec` runs it, for a reply program of the administrator's own.
//!
//! The password never leaves memory: it is read from a pipe, sent over a socket, and wiped. The reply program gets an
//! environment made from scratch.
//!
//! Oddities:
//! - A lookup that wants the stored password (CRAM-MD5, SCRAM) ends in trouble and a line in the log: hashes are not handed
//!   out. One that wants to know of the user only (`userdb static`) is answered.
//! - `allow_nets` and the like are looked at by the daemon, which is told the client's address; they are no fields here.
//! - Dovecot waits until descriptor 4 is closed and the program has ended.
//! - Dovecot 2.4 has no checkpassword any more.

mod ffi;
mod reply;
mod request;

use mailsql_ask::{ASK_SOCKET, Client, DEADLINE, Reply, Unavailable};
use mailsql_proto::ask::{self, Secret};
use reply::{Outcome, TROUBLE};
use request::{MAX_REQUEST, Request, Task};
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};
use std::time::Duration;

const USAGE: &str = "usage: dovecot-checkpassword [--socket PATH] [--timeout SECONDS] [--exec] [PROGRAM [ARGUMENT...]]\n\
                     A checkpassword program for Dovecot 2.3: passdb { driver = checkpassword args = /usr/bin/dovecot-checkpassword }";

struct Arguments {
    client: Client,
    /// The reply program, when it is to be run.
    program: Option<Vec<OsString>>,
}

#[expect(clippy::print_stderr, reason = "Dovecot puts standard error into its log")]
fn main() -> ExitCode {
    let (input, output) = ffi::descriptors();
    let arguments = match parse(std::env::args_os().skip(1)) {
        Ok(arguments) => arguments,
        Err(what) => {
            eprintln!("dovecot-checkpassword: {what}\n{USAGE}");
            return ExitCode::from(TROUBLE);
        }
    };
    match decide(&arguments.client, input) {
        Outcome::Status(status) => ExitCode::from(status),
        Outcome::Trouble(why) => {
            eprintln!("dovecot-checkpassword: {why}");
            ExitCode::from(TROUBLE)
        }
        Outcome::Fields(account, status) => match tell(&account, status, output, arguments.program) {
            Ok(()) => ExitCode::from(status),
            Err(error) => {
                eprintln!("dovecot-checkpassword: reply: {error}");
                ExitCode::from(TROUBLE)
            }
        },
    }
}

fn parse(mut arguments: impl Iterator<Item = OsString>) -> Result<Arguments, String> {
    let (mut socket, mut deadline, mut exec) = (OsString::from(ASK_SOCKET), DEADLINE, false);
    let mut rest = Vec::new();
    while let Some(argument) = arguments.next() {
        match argument.to_str() {
            Some("--socket") => socket = arguments.next().ok_or("--socket needs a path")?,
            Some("--timeout") => {
                let text = arguments.next().unwrap_or_default();
                let seconds =
                    text.to_str().and_then(|text| text.parse().ok()).filter(|seconds| (1..=60).contains(seconds));
                deadline = Duration::from_secs(seconds.ok_or("--timeout needs a number of seconds, 1 to 60")?);
            }
            Some("--exec") => exec = true,
            Some(option) if option.starts_with('-') => return Err(format!("unknown option {option}")),
            _ => {
                rest.push(argument);
                rest.extend(arguments.by_ref());
            }
        }
    }
    if exec && rest.is_empty() {
        return Err("--exec needs the reply program, which Dovecot appends".to_owned());
    }
    Ok(Arguments { client: Client::new(socket, deadline), program: exec.then_some(rest) })
}

/// Reads the request, asks, and wipes the password.
fn decide(client: &Client, mut input: File) -> Outcome {
    // As large as any request and one byte more, so that it never moves and leaves no copy.
    let mut buffer = [0; MAX_REQUEST + 1];
    let mut length = 0;
    let outcome = loop {
        match input.read(&mut buffer[length..]) {
            Ok(0) => break answer(client, &buffer[..length]),
            Ok(count) => length += count,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => break Outcome::Trouble(format!("descriptor 3: {error}; this program is run by Dovecot")),
        }
        if length > MAX_REQUEST {
            break Outcome::Trouble(format!("the request is longer than {MAX_REQUEST} bytes"));
        }
    };
    buffer.fill(0);
    std::hint::black_box(&mut buffer);
    outcome
}

fn answer(client: &Client, bytes: &[u8]) -> Outcome {
    let Some(request) = Request::read(bytes, |name| std::env::var_os(name)) else {
        return Outcome::Trouble("descriptor 3: not user NUL password NUL NUL".to_owned());
    };
    let answer = match &request.task {
        Task::Login => client.ask(&ask::Request::Login {
            user: request.user,
            password: Secret(request.password),
            service: &request.service,
            rip: &request.remote,
            lip: &request.local,
        }),
        Task::Lookup => look_up(client, request.user),
        Task::Credentials(scheme) => {
            return Outcome::Trouble(format!(
                "{scheme} needs the stored password, which mailsql does not hand out: set auth_mechanisms = plain login"
            ));
        }
    };
    reply::outcome(&request.task, answer)
}

/// Whether mail for this user is taken, and where it is. Which services an account may use does not matter to that.
fn look_up(client: &Client, name: &[u8]) -> Result<Reply, Unavailable> {
    match client.ask(&ask::Request::Account { user: name, service: b"", rip: b"" })? {
        // There, but the answer does not say where.
        Reply::PasswordExpired => client.ask(&ask::Request::User { name }),
        answer => Ok(answer),
    }
}

/// Hands the fields over: directly, or by the reply program, which takes our place.
fn tell(account: &ask::Account, status: u8, mut output: File, program: Option<Vec<OsString>>) -> std::io::Result<()> {
    let Some(words) = program else { return output.write_all(&reply::encode(account)) };
    let [program, arguments @ ..] = &words[..] else { return Ok(()) };
    // Stays open for the program.
    std::mem::forget(output);
    let mut command = Command::new(program);
    command.args(arguments).env_clear();
    let mut extra = Vec::new();
    for (name, value) in reply::fields(account) {
        let name = match name {
            "user" => "USER",
            "userdb_home" => "HOME",
            name => {
                extra.push(name);
                name
            }
        };
        command.env(name, OsStr::from_bytes(&value));
    }
    command.env("EXTRA", extra.join(" "));
    if let Some(uid) = std::env::var_os("ORIG_UID") {
        command.env("ORIG_UID", uid);
    }
    if status != 0 {
        // Proof that we understood that there was no password; the reply program exits with 2 then.
        command.env("AUTHORIZED", "2");
    }
    Err(command.exec())
}
