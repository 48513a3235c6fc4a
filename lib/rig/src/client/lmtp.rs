//! LMTP (RFC 2033): SMTP replies, one after DATA for each accepted recipient.

use anyhow::Result;

use super::smtp::{Reply, read_reply};
use super::{Endpoint, Stream, stuff};

/// An LMTP session.
#[derive(Debug)]
pub struct Lmtp {
    stream: Stream,
    /// What the server said on connecting.
    pub greeting: Reply,
}

impl Lmtp {
    /// Connects and reads the greeting, whatever its code.
    ///
    /// # Errors
    /// When nobody answers.
    pub fn connect(endpoint: impl Into<Endpoint>) -> Result<Self> {
        let mut stream = Stream::connect(&endpoint.into())?;
        let greeting = read_reply(&mut stream)?;
        Ok(Self { stream, greeting })
    }

    /// Connects and says LHLO.
    ///
    /// # Errors
    /// When the server does not answer 220 and 250.
    pub fn hello(endpoint: impl Into<Endpoint>) -> Result<Self> {
        let mut session = Self::connect(endpoint)?;
        session.greeting.clone().expect_code(220)?;
        session.command("LHLO client.example.net")?.expect_code(250)?;
        Ok(session)
    }

    /// Sends one line and reads one reply.
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

    /// The connection itself.
    pub fn stream(&mut self) -> &mut Stream {
        &mut self.stream
    }

    /// DATA after recipients were given: the message and one reply for each of `accepted` recipients.
    ///
    /// A refused DATA gives its single reply.
    ///
    /// # Errors
    /// When the connection ends before the last reply.
    pub fn data(&mut self, message: &str, accepted: usize) -> Result<Vec<Reply>> {
        let go = self.command("DATA")?;
        if go.code != 354 {
            return Ok(vec![go]);
        }
        let mut bytes = stuff(message);
        bytes.extend_from_slice(b".\r\n");
        self.stream.send(&bytes)?;
        (0..accepted).map(|_| self.reply()).collect()
    }

    /// A whole transaction: the reply for each recipient, from RCPT when it was refused there, else from DATA.
    ///
    /// # Errors
    /// When the connection ends, or MAIL is refused.
    pub fn deliver(&mut self, from: &str, to: &[&str], message: &str) -> Result<Vec<Reply>> {
        self.command(&format!("MAIL FROM:<{from}>"))?.expect_code(250)?;
        let mut replies = Vec::with_capacity(to.len());
        for recipient in to {
            replies.push(self.command(&format!("RCPT TO:<{recipient}>"))?);
        }
        let accepted = replies.iter().filter(|reply| reply.code / 100 == 2).count();
        if accepted == 0 {
            self.command("RSET")?;
            return Ok(replies);
        }
        let mut finals = self.data(message, accepted)?.into_iter();
        for reply in replies.iter_mut().filter(|reply| reply.code / 100 == 2) {
            if let Some(last) = finals.next() {
                *reply = last;
            }
        }
        Ok(replies)
    }

    /// QUIT.
    ///
    /// # Errors
    /// When the connection ends without a reply.
    pub fn quit(mut self) -> Result<Reply> {
        self.command("QUIT")
    }
}
