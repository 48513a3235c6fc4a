//! SMTP, line by line (RFC 5321), with AUTH PLAIN and LOGIN (RFC 4954).

use anyhow::{Context, Result, bail};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::{Endpoint, Stream, stuff};

/// A server's reply: all lines of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// The three-digit code.
    pub code: u16,
    /// The text behind the code, one entry a line.
    pub lines: Vec<String>,
}

impl Reply {
    /// The text, lines joined by a newline.
    #[must_use]
    pub fn text(&self) -> String {
        self.lines.join("\n")
    }

    /// The reply when its code is the one wanted.
    ///
    /// # Errors
    /// When it is another one; the error shows the reply.
    pub fn expect_code(self, code: u16) -> Result<Self> {
        if self.code == code { Ok(self) } else { bail!("wanted {code}, got {} {}", self.code, self.text()) }
    }
}

/// An SMTP session.
#[derive(Debug)]
pub struct Smtp {
    stream: Stream,
    /// What the server said on connecting.
    pub greeting: Reply,
}

impl Smtp {
    /// Connects and reads the greeting, whatever its code.
    ///
    /// # Errors
    /// When nobody answers.
    pub fn connect(endpoint: impl Into<Endpoint>) -> Result<Self> {
        let mut stream = Stream::connect(&endpoint.into())?;
        let greeting = read_reply(&mut stream)?;
        Ok(Self { stream, greeting })
    }

    /// Connects and says EHLO.
    ///
    /// # Errors
    /// When the server does not answer 220 and 250.
    pub fn hello(endpoint: impl Into<Endpoint>) -> Result<Self> {
        let mut session = Self::connect(endpoint)?;
        session.greeting.clone().expect_code(220)?;
        session.command("EHLO client.example.net")?.expect_code(250)?;
        Ok(session)
    }

    /// Sends one line and reads the reply.
    ///
    /// # Errors
    /// When the connection ends.
    pub fn command(&mut self, line: &str) -> Result<Reply> {
        self.stream.send_line(line)?;
        self.reply()
    }

    /// Reads one more reply.
    ///
    /// # Errors
    /// When the connection ends.
    pub fn reply(&mut self) -> Result<Reply> {
        read_reply(&mut self.stream)
    }

    /// The connection itself, for what the methods here do not do.
    pub fn stream(&mut self) -> &mut Stream {
        &mut self.stream
    }

    /// AUTH PLAIN with an initial response, authorization identity empty.
    ///
    /// # Errors
    /// When the connection ends.
    pub fn auth_plain(&mut self, user: &str, password: &str) -> Result<Reply> {
        let response = STANDARD.encode(format!("\0{user}\0{password}"));
        self.command(&format!("AUTH PLAIN {response}"))
    }

    /// AUTH LOGIN, one prompt at a time.
    ///
    /// # Errors
    /// When the connection ends.
    pub fn auth_login(&mut self, user: &str, password: &str) -> Result<Reply> {
        let first = self.command("AUTH LOGIN")?;
        if first.code != 334 {
            return Ok(first);
        }
        let second = self.command(&STANDARD.encode(user))?;
        if second.code != 334 {
            return Ok(second);
        }
        self.command(&STANDARD.encode(password))
    }

    /// MAIL, RCPT for each recipient, DATA, message, and the final reply. Any refusal on the way is the reply returned.
    ///
    /// # Errors
    /// When the connection ends.
    pub fn send(&mut self, from: &str, to: &[&str], message: &str) -> Result<Reply> {
        let mut commands = vec![format!("MAIL FROM:<{from}>")];
        commands.extend(to.iter().map(|recipient| format!("RCPT TO:<{recipient}>")));
        for command in commands {
            let reply = self.command(&command)?;
            if reply.code / 100 != 2 {
                return Ok(reply);
            }
        }
        let go = self.command("DATA")?;
        if go.code != 354 {
            return Ok(go);
        }
        let mut bytes = stuff(message);
        bytes.extend_from_slice(b".\r\n");
        self.stream.send(&bytes)?;
        self.reply()
    }

    /// QUIT.
    ///
    /// # Errors
    /// When the connection ends without a reply.
    pub fn quit(mut self) -> Result<Reply> {
        self.command("QUIT")
    }
}

/// Reads a reply of one or more lines.
pub(super) fn read_reply(stream: &mut Stream) -> Result<Reply> {
    let mut lines = Vec::new();
    loop {
        let line = stream.read_text()?;
        let code =
            line.get(..3).and_then(|digits| digits.parse().ok()).with_context(|| format!("no code in {line:?}"))?;
        lines.push(line.get(4..).unwrap_or("").to_owned());
        if line.as_bytes().get(3) != Some(&b'-') {
            return Ok(Reply { code, lines });
        }
    }
}
