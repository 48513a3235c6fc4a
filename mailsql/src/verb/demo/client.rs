//! The other side of our sockets: what libsasl2, Postfix's lookups and lmtp(8) say.

use crate::outcome::Outcome;
use mailsql_proto::{saslauthd, socketmap};
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

/// Longest wait for an answer.
const DEADLINE: Duration = Duration::from_secs(10);

/// A connection to one of our sockets.
pub(super) struct Client {
    stream: UnixStream,
    received: Vec<u8>,
}

impl Client {
    pub(super) fn connect(path: &Path) -> Result<Self, Outcome> {
        let stream = UnixStream::connect(path)?;
        stream.set_read_timeout(Some(DEADLINE))?;
        stream.set_write_timeout(Some(DEADLINE))?;
        Ok(Self { stream, received: Vec::new() })
    }

    /// Asks a login by the saslauthd protocol; the answer's text.
    pub(super) fn login(&mut self, user: &str, realm: &str, password: &str) -> Result<String, Outcome> {
        let request = saslauthd::Request {
            login: user.as_bytes(),
            password: password.as_bytes(),
            service: b"smtp",
            realm: realm.as_bytes(),
            client: None,
        };
        let mut bytes = Vec::new();
        request.encode(&mut bytes).map_err(|error| Outcome::usage(error.to_string()))?;
        self.stream.write_all(&bytes)?;
        let mut answer = Vec::new();
        self.stream.read_to_end(&mut answer)?;
        // Two bytes of length, then the text.
        Ok(String::from_utf8_lossy(answer.get(2..).unwrap_or(b"(closed without an answer)")).into_owned())
    }

    /// Asks a map; the answer's text.
    pub(super) fn look_up(&mut self, map: &str, key: &str) -> Result<String, Outcome> {
        let mut bytes = Vec::new();
        let request = socketmap::Request { name: map.as_bytes(), key: key.as_bytes() };
        request.encode(&mut bytes).map_err(|error| Outcome::usage(error.to_string()))?;
        self.stream.write_all(&bytes)?;
        loop {
            let text = match socketmap::decode_netstring(&self.received, socketmap::MAX_REPLY) {
                Ok(Some((payload, _))) => String::from_utf8_lossy(payload).trim_end().to_owned(),
                Ok(None) => {
                    self.receive()?;
                    continue;
                }
                Err(error) => return Err(Outcome::no(error.to_string())),
            };
            return Ok(text);
        }
    }

    /// Sends an LMTP command; the last line of the reply.
    pub(super) fn command(&mut self, command: &str) -> Result<String, Outcome> {
        self.stream.write_all(format!("{command}\r\n").as_bytes())?;
        self.reply()
    }

    /// The last line of an LMTP reply.
    pub(super) fn reply(&mut self) -> Result<String, Outcome> {
        loop {
            if let Some(end) = self.received.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.received.drain(..=end).collect();
                let line = String::from_utf8_lossy(&line).trim_end().to_owned();
                if line.as_bytes().get(3) != Some(&b'-') {
                    return Ok(line);
                }
                continue;
            }
            self.receive()?;
        }
    }

    fn receive(&mut self) -> Result<(), Outcome> {
        let mut chunk = [0; 4096];
        match self.stream.read(&mut chunk)? {
            0 => Err(Outcome::temporary("the daemon closed the connection")),
            count => {
                self.received.extend_from_slice(&chunk[..count]);
                Ok(())
            }
        }
    }
}
