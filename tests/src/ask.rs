//! The ask socket and the control socket, by the line.

use anyhow::{Context, Result};
use mailsql_ask::ask::{Reply, Request};
use mailsql_ask::{Client, Control};
use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

/// Longest wait for an answer.
const DEADLINE: Duration = Duration::from_secs(60);

/// A connection that is asked again and again.
#[derive(Debug)]
pub struct Ask(BufReader<UnixStream>);

impl Ask {
    /// Connects.
    ///
    /// # Errors
    /// When nobody listens.
    pub fn connect(socket: &Path) -> Result<Self> {
        let stream = UnixStream::connect(socket).with_context(|| socket.display().to_string())?;
        stream.set_read_timeout(Some(DEADLINE))?;
        Ok(Self(BufReader::new(stream)))
    }

    /// The word that answers a login.
    ///
    /// # Errors
    /// When no answer comes.
    pub fn login(&mut self, user: &str, password: &str, service: &str, rip: &str) -> Result<String> {
        let user = user.replace('\\', "\\\\");
        let line = format!("mailsql\t1\tlogin\tuser={user}\tpassword={password}\tservice={service}\trip={rip}\n");
        Ok(self.line(&line)?.split('\t').nth(2).unwrap_or_default().trim_end().to_owned())
    }

    /// The line that answers a line.
    ///
    /// # Errors
    /// When no answer comes.
    pub fn line(&mut self, line: &str) -> Result<String> {
        self.0.get_mut().write_all(line.as_bytes())?;
        let mut answer = String::new();
        self.0.read_line(&mut answer)?;
        anyhow::ensure!(answer.ends_with('\n'), "closed without an answer");
        Ok(answer)
    }
}

/// What the one daemon with a control socket in `dir` counts.
///
/// # Errors
/// When there is none, or it does not answer.
pub fn stats(dir: &Path) -> Result<HashMap<String, u64>> {
    let control = Control::find_all(dir)?.pop().context("no control socket")?;
    match Client::new(&control.path, DEADLINE).ask(&Request::Stats) {
        Ok(Reply::Text(text)) => {
            let text = String::from_utf8_lossy(&text).into_owned();
            let row = |line: &str| Some((line.split_once(' ')?.0.to_owned(), line.split_once(' ')?.1.parse().ok()?));
            Ok(text.lines().filter_map(row).collect())
        }
        other => anyhow::bail!("stats: {other:?}"),
    }
}
