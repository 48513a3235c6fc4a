//! A PAM transaction with scripted answers, and its numeric results.
//!
//! [`Call`] starts `rig-pam` and writes the script to it; `rig-pam` hands that to [`serve_call`] and prints what happened:
//! `result STEP CODE` and `prompt STYLE TEXT` lines, in order. The script, one item a line: `service`, `user`, `confdir`,
//! `item`, `answer`, `step`, then a TAB and the value in hexadecimal, so that any byte but NUL gets through.

use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::{code_name, ffi};
use crate::process::run;

/// One call of the application into PAM.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// `pam_authenticate`.
    Authenticate,
    /// `pam_acct_mgmt`.
    AcctMgmt,
    /// `pam_setcred` with PAM_ESTABLISH_CRED.
    Setcred,
    /// `pam_chauthtok`.
    Chauthtok,
    /// `pam_open_session`.
    OpenSession,
    /// `pam_close_session`.
    CloseSession,
}

const STEPS: [(Step, &str); 6] = [
    (Step::Authenticate, "authenticate"),
    (Step::AcctMgmt, "acct_mgmt"),
    (Step::Setcred, "setcred"),
    (Step::Chauthtok, "chauthtok"),
    (Step::OpenSession, "open_session"),
    (Step::CloseSession, "close_session"),
];

impl Step {
    fn name(self) -> &'static str {
        STEPS.iter().find(|(step, _)| *step == self).map_or("?", |(_, name)| name)
    }
}

/// A transaction to run: service, user, answers in the order of the prompts, steps in order.
#[derive(Debug, Clone)]
pub struct Call {
    script: String,
    owner: Option<(u32, u32)>,
    env: Vec<(String, String)>,
    wrapper: Vec<String>,
}

impl Call {
    /// A transaction of this service (a file in /etc/pam.d unless [`Call::confdir`] says otherwise) for this user.
    #[must_use]
    pub fn new(service: &str, user: &str) -> Self {
        let call = Self { script: String::new(), owner: None, env: Vec::new(), wrapper: Vec::new() };
        call.line("service", service.as_bytes()).line("user", user.as_bytes())
    }

    fn line(mut self, word: &str, value: &[u8]) -> Self {
        let hex: String = value.iter().map(|byte| format!("{byte:02x}")).collect();
        self.script.push_str(&format!("{word}\t{hex}\n"));
        self
    }

    /// Reads service files from this folder instead of /etc/pam.d.
    #[must_use]
    pub fn confdir(self, folder: &Path) -> Self {
        let text = folder.display().to_string();
        self.line("confdir", text.as_bytes())
    }

    /// Answers the next prompt. When the answers run out, the conversation fails with PAM_CONV_ERR.
    #[must_use]
    pub fn answer(self, answer: impl AsRef<[u8]>) -> Self {
        self.line("answer", answer.as_ref())
    }

    /// Sets an item before the first step: `rhost`, `tty`, `ruser` or `authtok_type`.
    #[must_use]
    pub fn item(self, name: &str, value: &str) -> Self {
        self.line("item", format!("{name}={value}").as_bytes())
    }

    /// Adds a step.
    #[must_use]
    pub fn step(self, step: Step) -> Self {
        self.step_with(step, 0)
    }

    /// Adds a step with flags, for instance PAM_SILENT (0x8000) or PAM_DISALLOW_NULL_AUTHTOK (1).
    #[must_use]
    pub fn step_with(self, step: Step, flags: i32) -> Self {
        self.line("step", format!("{} {flags}", step.name()).as_bytes())
    }

    /// Runs the transaction as this user and group instead of root.
    #[must_use]
    pub fn owner(mut self, uid: u32, gid: u32) -> Self {
        self.owner = Some((uid, gid));
        self
    }

    /// Sets an environment variable of the program that loads the module.
    #[must_use]
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.env.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Runs the program under another one, for instance `["strace", "-f", "-o", FILE]` or `["valgrind", "-q"]`.
    #[must_use]
    pub fn under(mut self, command: &[&str]) -> Self {
        self.wrapper = command.iter().map(|word| (*word).to_owned()).collect();
        self
    }

    /// Runs it in a child process.
    ///
    /// # Errors
    /// When `rig-pam` is not built, or ends by a signal: a module crashed it.
    pub fn run(&self) -> Result<Transcript> {
        let program = crate::daemon::program("rig-pam")?;
        let mut words: Vec<PathBuf> = self.wrapper.iter().map(PathBuf::from).collect();
        words.push(program);
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).envs(self.env.iter().map(|(name, value)| (name, value)));
        if let Some((uid, gid)) = self.owner {
            command.gid(gid).uid(uid);
        }
        let ran = run(command, self.script.as_bytes())?;
        if ran.code != 0 {
            bail!("rig-pam: exit {}: {}", ran.code, ran.text());
        }
        Transcript::parse(&ran.stdout, ran.stderr)
    }
}

/// What a transaction did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transcript {
    /// Each step that was run with its code. Every step is run, also after a failure.
    pub results: Vec<(Step, i32)>,
    /// Every prompt and message, as `off Password: ` (echo off), `on ...`, `error ...` or `info ...`.
    pub prompts: Vec<String>,
    /// What the program, or a tool it ran under, wrote to standard error.
    pub stderr: String,
}

impl Transcript {
    /// The code of the only or first run of a step.
    ///
    /// # Errors
    /// When the step was not run.
    pub fn code(&self, step: Step) -> Result<i32> {
        let found = self.results.iter().find(|(done, _)| *done == step);
        found.map(|(_, code)| *code).with_context(|| format!("no {} in {self:?}", step.name()))
    }

    /// All codes by name, in order: `["PAM_SUCCESS", "PAM_ACCT_EXPIRED"]`.
    #[must_use]
    pub fn names(&self) -> Vec<&'static str> {
        self.results.iter().map(|(_, code)| code_name(*code)).collect()
    }

    fn parse(text: &str, stderr: String) -> Result<Self> {
        let mut transcript = Self { results: Vec::new(), prompts: Vec::new(), stderr };
        for line in text.lines() {
            let mut words = line.splitn(3, ' ');
            match (words.next(), words.next(), words.next()) {
                (Some("result"), Some(name), Some(code)) => {
                    let step = STEPS.iter().find(|(_, known)| *known == name).context("unknown step")?.0;
                    transcript.results.push((step, code.parse()?));
                }
                (Some("prompt"), Some(style), text) => {
                    transcript.prompts.push(format!("{style} {}", text.unwrap_or("")));
                }
                // A module printed something of its own: worth seeing, but no part of the protocol.
                _ => transcript.prompts.push(format!("stdout {line}")),
            }
        }
        Ok(transcript)
    }
}

/// The whole of `rig-pam`: runs the script and returns what to print.
///
/// # Errors
/// When the script is malformed or PAM cannot be started.
pub fn serve_call(script: &str) -> Result<String> {
    let mut parsed = ffi::Script::default();
    let mut steps = Vec::new();
    for line in script.lines() {
        let (word, hex) = line.split_once('\t').context("no TAB in a script line")?;
        let value = bytes(hex)?;
        match word {
            "service" => parsed.service = value,
            "user" => parsed.user = value,
            "confdir" => parsed.confdir = Some(value),
            "answer" => parsed.answers.push_back(value),
            "item" => parsed.items.push(item(&String::from_utf8(value)?)?),
            "step" => {
                let text = String::from_utf8(value)?;
                let (name, flags) = text.split_once(' ').context("a step without flags")?;
                let step = STEPS.iter().find(|(_, known)| *known == name).context("unknown step")?.0;
                steps.push((step, flags.parse()?));
            }
            _ => bail!("unknown script word {word:?}"),
        }
    }
    let done = ffi::transact(parsed, &steps)?;
    let mut text = String::new();
    for prompt in done.prompts {
        text.push_str(&format!("prompt {}\n", prompt.replace('\n', "\\n")));
    }
    for (step, code) in done.results {
        text.push_str(&format!("result {} {code}\n", step.name()));
    }
    Ok(text)
}

/// Item numbers of security/_pam_types.h.
fn item(text: &str) -> Result<(i32, Vec<u8>)> {
    let (name, value) = text.split_once('=').context("an item without =")?;
    let number = match name {
        "tty" => 3,
        "rhost" => 4,
        "ruser" => 8,
        "authtok_type" => 13,
        _ => bail!("unknown item {name:?}"),
    };
    Ok((number, value.as_bytes().to_vec()))
}

fn bytes(hex: &str) -> Result<Vec<u8>> {
    if !hex.len().is_multiple_of(2) || !hex.is_ascii() {
        bail!("bad hexadecimal");
    }
    (0..hex.len()).step_by(2).map(|at| Ok(u8::from_str_radix(&hex[at..at + 2], 16)?)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_keeps_every_byte_of_an_answer() {
        let call = Call::new("s", "u").answer(b"\t\n\xff");
        assert!(call.script.ends_with("answer\t090aff\n"), "{}", call.script);
        assert_eq!(bytes("090aff").unwrap(), b"\t\n\xff");
    }

    #[test]
    fn a_service_without_modules_that_succeed_is_refused_by_code() {
        let root = tempfile::tempdir().unwrap();
        std::fs::write(root.path().join("svc"), "auth required pam_deny.so\naccount required pam_permit.so\n").unwrap();
        let call = Call::new("svc", "nobody").confdir(root.path()).step(Step::Authenticate).step(Step::AcctMgmt);
        let printed = serve_call(&call.script).unwrap();
        let transcript = Transcript::parse(&printed, String::new()).unwrap();
        assert_eq!(transcript.names(), ["PAM_AUTH_ERR", "PAM_SUCCESS"]);
        assert_eq!(transcript.code(Step::Authenticate).unwrap(), 7);
    }
}
