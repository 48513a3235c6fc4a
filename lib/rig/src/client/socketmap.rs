//! socketmap_table(5): netstrings, `NAME SP KEY` out, `TOKEN SP DATA` back, many lookups on one connection.

use anyhow::{Result, bail};

use super::{Endpoint, Stream};

/// Longest reply Postfix 3.7 takes.
const MAX_REPLY: usize = 100_000;

/// A connection to a socketmap server.
#[derive(Debug)]
pub struct Socketmap {
    stream: Stream,
}

impl Socketmap {
    /// Connects.
    ///
    /// # Errors
    /// When nobody listens.
    pub fn connect(endpoint: impl Into<Endpoint>) -> Result<Self> {
        Ok(Self { stream: Stream::connect(&endpoint.into())? })
    }

    /// Looks a key up in a map; the whole reply: `OK value`, `NOTFOUND `, `TEMP reason`.
    ///
    /// # Errors
    /// When the connection ends or the reply is no netstring.
    pub fn find(&mut self, map: &str, key: impl AsRef<[u8]>) -> Result<String> {
        let mut payload = format!("{map} ").into_bytes();
        payload.extend_from_slice(key.as_ref());
        self.send(&payload)?;
        self.read()
    }

    /// Sends one netstring.
    ///
    /// # Errors
    /// When the connection ended.
    pub fn send(&mut self, payload: &[u8]) -> Result<()> {
        let mut bytes = format!("{}:", payload.len()).into_bytes();
        bytes.extend_from_slice(payload);
        bytes.push(b',');
        self.stream.send(&bytes)
    }

    /// Reads one netstring.
    ///
    /// # Errors
    /// When the connection ends or the reply is no netstring.
    pub fn read(&mut self) -> Result<String> {
        let mut length = 0_usize;
        loop {
            match self.stream.read_exact(1)?[0] {
                digit @ b'0'..=b'9' => length = length * 10 + usize::from(digit - b'0'),
                b':' => break,
                other => bail!("byte {other:#04x} in a netstring's length"),
            }
            if length > MAX_REPLY {
                bail!("reply of more than {MAX_REPLY} bytes");
            }
        }
        let payload = self.stream.read_exact(length)?;
        match self.stream.read_exact(1)?[0] {
            b',' => Ok(String::from_utf8_lossy(&payload).into_owned()),
            other => bail!("byte {other:#04x} after a netstring"),
        }
    }

    /// The connection itself.
    pub fn stream(&mut self) -> &mut Stream {
        &mut self.stream
    }
}
