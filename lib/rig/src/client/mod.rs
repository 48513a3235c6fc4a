//! Small blocking clients, one file a wire, for tests: they send what they are told and show every byte that came back.
//!
//! All of them read and write with [`TIMEOUT`], so that a peer that hangs fails the test instead of the whole run.

pub mod imap;
pub mod lmtp;
pub mod pop3;
pub mod saslauthd;
pub mod smtp;
pub mod socketmap;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};

/// How long any single read or write may take.
pub const TIMEOUT: Duration = Duration::from_secs(30);

/// Longest line a peer may send, CRLF included.
const MAX_LINE: u64 = 1 << 20;

/// Where a peer listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Endpoint {
    /// A TCP address.
    Tcp(SocketAddr),
    /// A Unix stream socket.
    Unix(PathBuf),
}

impl From<u16> for Endpoint {
    /// A port of 127.0.0.1.
    fn from(port: u16) -> Self {
        Self::Tcp(SocketAddr::from((Ipv4Addr::LOCALHOST, port)))
    }
}

impl From<SocketAddr> for Endpoint {
    fn from(address: SocketAddr) -> Self {
        Self::Tcp(address)
    }
}

impl From<&Path> for Endpoint {
    fn from(path: &Path) -> Self {
        Self::Unix(path.to_owned())
    }
}

impl From<PathBuf> for Endpoint {
    fn from(path: PathBuf) -> Self {
        Self::Unix(path)
    }
}

#[derive(Debug)]
enum Socket {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Read for Socket {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.read(buffer),
            Self::Unix(stream) => stream.read(buffer),
        }
    }
}

/// A connected stream with line and byte reads.
#[derive(Debug)]
pub struct Stream {
    reader: BufReader<Socket>,
}

impl Stream {
    /// Connects.
    ///
    /// # Errors
    /// When nobody listens there.
    pub fn connect(endpoint: &Endpoint) -> Result<Self> {
        let socket = match endpoint {
            Endpoint::Tcp(address) => {
                let stream = TcpStream::connect_timeout(address, TIMEOUT).with_context(|| address.to_string())?;
                stream.set_nodelay(true)?;
                stream.set_read_timeout(Some(TIMEOUT))?;
                stream.set_write_timeout(Some(TIMEOUT))?;
                Socket::Tcp(stream)
            }
            Endpoint::Unix(path) => {
                let stream = UnixStream::connect(path).with_context(|| path.display().to_string())?;
                stream.set_read_timeout(Some(TIMEOUT))?;
                stream.set_write_timeout(Some(TIMEOUT))?;
                Socket::Unix(stream)
            }
        };
        Ok(Self { reader: BufReader::new(socket) })
    }

    /// Sends bytes as they are.
    ///
    /// # Errors
    /// When the peer has closed or does not read.
    pub fn send(&mut self, bytes: &[u8]) -> Result<()> {
        match self.reader.get_mut() {
            Socket::Tcp(stream) => stream.write_all(bytes)?,
            Socket::Unix(stream) => stream.write_all(bytes)?,
        }
        Ok(())
    }

    /// Sends a line and CRLF.
    ///
    /// # Errors
    /// As [`Stream::send`].
    pub fn send_line(&mut self, line: &str) -> Result<()> {
        self.send(format!("{line}\r\n").as_bytes())
    }

    /// Reads one line, without its line end.
    ///
    /// # Errors
    /// When the peer closes or says nothing in time.
    pub fn read_line(&mut self) -> Result<Vec<u8>> {
        let mut line = Vec::new();
        (&mut self.reader).take(MAX_LINE).read_until(b'\n', &mut line).context("no line in time")?;
        if line.pop() != Some(b'\n') {
            bail!("connection closed by the peer");
        }
        if line.last() == Some(&b'\r') {
            line.pop();
        }
        Ok(line)
    }

    /// Reads one line as text; bytes that are not UTF-8 are replaced.
    ///
    /// # Errors
    /// As [`Stream::read_line`].
    pub fn read_text(&mut self) -> Result<String> {
        Ok(String::from_utf8_lossy(&self.read_line()?).into_owned())
    }

    /// Reads exactly this many bytes.
    ///
    /// # Errors
    /// When the peer closes first or says nothing in time.
    pub fn read_exact(&mut self, length: usize) -> Result<Vec<u8>> {
        let mut bytes = vec![0; length];
        self.reader.read_exact(&mut bytes)?;
        Ok(bytes)
    }

    /// Reads until the peer closes.
    ///
    /// # Errors
    /// When it does not close in time.
    pub fn read_to_end(&mut self) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        match self.reader.read_to_end(&mut bytes) {
            Ok(_) => Ok(bytes),
            // A peer that closes with our bytes unread resets the connection: that is a close, too.
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => Ok(bytes),
            Err(error) => Err(error.into()),
        }
    }

    /// Sets another read timeout, for a test that expects silence.
    ///
    /// # Errors
    /// When the timeout is zero.
    pub fn set_read_timeout(&mut self, timeout: Duration) -> Result<()> {
        match self.reader.get_ref() {
            Socket::Tcp(stream) => stream.set_read_timeout(Some(timeout))?,
            Socket::Unix(stream) => stream.set_read_timeout(Some(timeout))?,
        }
        Ok(())
    }

    /// Closes our direction; the peer reads the end.
    ///
    /// # Errors
    /// When the connection is gone.
    pub fn finish(&mut self) -> Result<()> {
        match self.reader.get_ref() {
            Socket::Tcp(stream) => stream.shutdown(Shutdown::Write)?,
            Socket::Unix(stream) => stream.shutdown(Shutdown::Write)?,
        }
        Ok(())
    }
}

/// Doubles leading dots and gives every line a CRLF: what DATA wants, without the final dot.
fn stuff(message: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(message.len() + 64);
    for line in message.lines() {
        if line.starts_with('.') {
            out.push(b'.');
        }
        out.extend_from_slice(line.as_bytes());
        out.extend_from_slice(b"\r\n");
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leading_dots_are_doubled_and_lines_end_in_crlf() {
        assert_eq!(stuff("a\n.b\n\n..\n"), b"a\r\n..b\r\n\r\n...\r\n");
    }
}
