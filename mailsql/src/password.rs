//! Passwords, from the terminal or standard input.

use crate::outcome::Outcome;
use mailsql_core::authenticator::MAX_PASSWORD;
use std::io::{BufRead, IsTerminal, Read};
use zeroize::Zeroizing;

/// Reads a password once, to be compared with a stored one.
pub(crate) fn read(from_stdin: bool) -> Result<Zeroizing<String>, Outcome> {
    if from_stdin { from_standard_input() } else { prompt("Password: ") }
}

/// Reads a new password: twice from a terminal.
pub(crate) fn read_new(from_stdin: bool) -> Result<Zeroizing<String>, Outcome> {
    let password = if from_stdin {
        from_standard_input()?
    } else {
        let first = prompt("New password: ")?;
        let again = prompt("New password again: ")?;
        if *first != *again {
            return Err(Outcome::usage("the two passwords differ; nothing was changed"));
        }
        first
    };
    if password.is_empty() {
        return Err(Outcome::usage("an empty password lets nobody in; nothing was changed"));
    }
    Ok(password)
}

fn from_standard_input() -> Result<Zeroizing<String>, Outcome> {
    let mut line = Zeroizing::new(String::with_capacity(MAX_PASSWORD + 2));
    std::io::stdin().lock().take(MAX_PASSWORD as u64 + 2).read_line(&mut line)?;
    let kept = line.trim_end_matches('\n').trim_end_matches('\r').len();
    line.truncate(kept);
    if line.len() > MAX_PASSWORD {
        return Err(Outcome::usage(format!("a password has at most {MAX_PASSWORD} bytes")));
    }
    Ok(line)
}

fn prompt(text: &str) -> Result<Zeroizing<String>, Outcome> {
    if !std::io::stdin().is_terminal() {
        return Err(Outcome::usage("no terminal to ask on; use --password-stdin"));
    }
    Ok(Zeroizing::new(rpassword::prompt_password(text)?))
}

/// Asks before something is lost.
#[expect(clippy::print_stderr, reason = "a question on the terminal")]
pub(crate) fn confirm(question: &str, yes: bool) -> Result<(), Outcome> {
    if yes {
        return Ok(());
    }
    if !std::io::stdin().is_terminal() {
        return Err(Outcome::usage(format!("{question} Say --yes to go on")));
    }
    eprint!("{question} [y/N] ");
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer)?;
    if matches!(answer.trim(), "y" | "Y" | "yes") { Ok(()) } else { Err(Outcome::no("nothing was changed")) }
}
