//! IMAP4rev1 (RFC 3501), as much as fetching mail needs.

use anyhow::{Context, Result, bail};

use super::{Endpoint, Stream};

/// A server's answer to one command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Response {
    /// Untagged lines; a literal stands in [`Response::literals`] instead.
    pub lines: Vec<String>,
    /// Every literal, in order, byte for byte.
    pub literals: Vec<Vec<u8>>,
    /// The tagged line without its tag: `OK Logged in`, `NO [AUTHENTICATIONFAILED] ...`.
    pub status: String,
}

/// An IMAP session.
#[derive(Debug)]
pub struct Imap {
    stream: Stream,
    tag: u32,
}

impl Imap {
    /// Connects and reads the greeting.
    ///
    /// # Errors
    /// When the server does not greet with `* OK`.
    pub fn connect(endpoint: impl Into<Endpoint>) -> Result<Self> {
        let mut session = Self { stream: Stream::connect(&endpoint.into())?, tag: 0 };
        let greeting = session.stream.read_text()?;
        if greeting.starts_with("* OK") { Ok(session) } else { bail!("{greeting}") }
    }

    /// Sends one command and collects everything up to its tagged line.
    ///
    /// # Errors
    /// When the connection ends.
    pub fn command(&mut self, command: &str) -> Result<Response> {
        self.tag += 1;
        let tag = format!("a{} ", self.tag);
        self.stream.send_line(&format!("{tag}{command}"))?;
        let mut response = Response { lines: Vec::new(), literals: Vec::new(), status: String::new() };
        loop {
            let line = self.stream.read_text()?;
            if let Some(status) = line.strip_prefix(&tag) {
                status.clone_into(&mut response.status);
                return Ok(response);
            }
            if let Some(length) = literal_length(&line) {
                response.literals.push(self.stream.read_exact(length)?);
            }
            response.lines.push(line);
        }
    }

    /// LOGIN with quoted strings; the status line, `OK ...` or `NO ...`.
    ///
    /// # Errors
    /// When the connection ends.
    pub fn login(&mut self, user: &str, password: &str) -> Result<String> {
        Ok(self.command(&format!("LOGIN {} {}", quoted(user), quoted(password)))?.status)
    }

    /// SELECT; the number of messages.
    ///
    /// # Errors
    /// When the folder does not open.
    pub fn select(&mut self, folder: &str) -> Result<usize> {
        let response = self.ok(&format!("SELECT {}", quoted(folder)))?;
        let exists = response.lines.iter().find_map(|line| line.strip_prefix("* ")?.strip_suffix(" EXISTS"));
        Ok(exists.context("no EXISTS")?.parse()?)
    }

    /// One message of the selected folder (numbers start at 1), byte for byte, without marking it seen.
    ///
    /// # Errors
    /// When there is none.
    pub fn fetch(&mut self, number: usize) -> Result<Vec<u8>> {
        let mut response = self.ok(&format!("FETCH {number} BODY.PEEK[]"))?;
        response.literals.pop().with_context(|| format!("no message {number}"))
    }

    /// LOGOUT.
    ///
    /// # Errors
    /// When the connection ends early.
    pub fn logout(mut self) -> Result<()> {
        self.ok("LOGOUT").map(drop)
    }

    fn ok(&mut self, command: &str) -> Result<Response> {
        let response = self.command(command)?;
        if response.status.starts_with("OK") { Ok(response) } else { bail!("{command}: {}", response.status) }
    }
}

fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

/// The length in a trailing `{123}`.
fn literal_length(line: &str) -> Option<usize> {
    line.strip_suffix('}')?.rsplit_once('{')?.1.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quoting_and_literals_follow_the_grammar() {
        assert_eq!(quoted(r#"a"b\c"#), r#""a\"b\\c""#);
        assert_eq!(literal_length("* 1 FETCH (BODY[] {310}"), Some(310));
        assert_eq!(literal_length("* 1 EXISTS"), None);
    }
}
