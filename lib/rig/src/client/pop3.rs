//! POP3 (RFC 1939): log in, list, fetch.

use anyhow::{Context, Result, bail};

use super::{Endpoint, Stream};

/// A POP3 session.
#[derive(Debug)]
pub struct Pop3 {
    stream: Stream,
}

impl Pop3 {
    /// Connects and reads the greeting.
    ///
    /// # Errors
    /// When the server does not greet with `+OK`.
    pub fn connect(endpoint: impl Into<Endpoint>) -> Result<Self> {
        let mut session = Self { stream: Stream::connect(&endpoint.into())? };
        session.ok()?;
        Ok(session)
    }

    /// Sends one line and returns the status line.
    ///
    /// # Errors
    /// When the connection ends.
    pub fn command(&mut self, line: &str) -> Result<String> {
        self.stream.send_line(line)?;
        self.stream.read_text()
    }

    /// USER and PASS; the line that refused it, or the one that let us in.
    ///
    /// # Errors
    /// When the connection ends.
    pub fn login(&mut self, user: &str, password: &str) -> Result<String> {
        let first = self.command(&format!("USER {user}"))?;
        if !first.starts_with("+OK") {
            return Ok(first);
        }
        self.command(&format!("PASS {password}"))
    }

    /// Number of messages, by STAT.
    ///
    /// # Errors
    /// When refused.
    pub fn count(&mut self) -> Result<usize> {
        let line = self.command("STAT")?;
        let number = line.strip_prefix("+OK ").and_then(|rest| rest.split(' ').next());
        number.and_then(|digits| digits.parse().ok()).with_context(|| format!("STAT: {line}"))
    }

    /// One message (numbers start at 1), dots undone, lines ending in CRLF as on the wire.
    ///
    /// # Errors
    /// When refused.
    pub fn fetch(&mut self, number: usize) -> Result<Vec<u8>> {
        self.stream.send_line(&format!("RETR {number}"))?;
        self.ok()?;
        let mut message = Vec::new();
        loop {
            let line = self.stream.read_line()?;
            if line == b"." {
                return Ok(message);
            }
            message.extend_from_slice(line.strip_prefix(b".").unwrap_or(&line));
            message.extend_from_slice(b"\r\n");
        }
    }

    /// QUIT.
    ///
    /// # Errors
    /// When refused.
    pub fn quit(mut self) -> Result<()> {
        self.stream.send_line("QUIT")?;
        self.ok().map(drop)
    }

    fn ok(&mut self) -> Result<String> {
        let line = self.stream.read_text()?;
        if line.starts_with("+OK") { Ok(line) } else { bail!("{line}") }
    }
}
