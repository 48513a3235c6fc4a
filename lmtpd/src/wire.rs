//! A connection's bytes: what was read and not yet used, what is to be sent, and the deadline on both.

use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;

/// Bytes asked of the kernel at once while commands are read.
pub(crate) const COMMAND_ROOM: usize = 4 << 10;
/// Bytes asked of the kernel at once while a message is read.
pub(crate) const DATA_ROOM: usize = 32 << 10;
/// Largest buffer that an idle connection keeps, in bytes.
const KEPT: usize = 8 << 10;
/// Replies are sent at the latest when so many bytes of them wait.
const OUTPUT_MAX: usize = 16 << 10;

/// Why a connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Gone {
    /// The client closed, or the connection broke.
    Closed,
    /// The client was silent, or did not take our replies, for too long.
    Idle,
    /// We are done with it.
    Done,
}

/// A stream with its buffers.
#[derive(Debug)]
pub(crate) struct Wire<S> {
    stream: S,
    input: Vec<u8>,
    used: usize,
    pub(crate) output: Vec<u8>,
    patience: Duration,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Wire<S> {
    pub(crate) fn new(stream: S, patience: Duration) -> Self {
        Self { stream, input: Vec::new(), used: 0, output: Vec::new(), patience }
    }

    /// What was read and not yet used.
    pub(crate) fn unread(&self) -> &[u8] {
        &self.input[self.used..]
    }

    /// Marks the first bytes of [`Self::unread`] as used.
    pub(crate) fn consume(&mut self, count: usize) {
        self.used = (self.used + count).min(self.input.len());
    }

    /// Reads more, at most `room` bytes. May be dropped while it waits: no byte is lost.
    pub(crate) async fn fill(&mut self, room: usize) -> Result<(), Gone> {
        self.input.drain(..self.used);
        self.used = 0;
        if self.input.is_empty() && self.input.capacity() > KEPT && room <= KEPT {
            self.input = Vec::new();
        }
        self.input.reserve(room);
        match timeout(self.patience, self.stream.read_buf(&mut self.input)).await {
            Ok(Ok(1..)) => Ok(()),
            Ok(_) => Err(Gone::Closed),
            Err(_) => Err(Gone::Idle),
        }
    }

    /// Sends what is to be sent.
    pub(crate) async fn flush(&mut self) -> Result<(), Gone> {
        if self.output.is_empty() {
            return Ok(());
        }
        let sent = timeout(self.patience, self.stream.write_all(&self.output)).await;
        self.output.clear();
        self.output.shrink_to(KEPT);
        match sent {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(Gone::Closed),
            Err(_) => Err(Gone::Idle),
        }
    }

    /// Sends when much waits, so that a client which asks without end and never reads is felt.
    pub(crate) async fn relieve(&mut self) -> Result<(), Gone> {
        if self.output.len() < OUTPUT_MAX { Ok(()) } else { self.flush().await }
    }
}
