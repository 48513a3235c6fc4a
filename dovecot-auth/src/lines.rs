//! Lines from a client: the buffer they arrive in, and how long one may take.
//!
//! Requests carry passwords. What was read is wiped as soon as it has been answered, a buffer that grows is wiped where
//! it was, and an idle connection holds [`READ_SIZE`] bytes.

use mailsql_daemon::Stream;
use mailsql_proto::dovecot_auth::MAX_LINE;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::Instant;
use zeroize::Zeroizing;

/// Longest time from a line's first byte to its last.
pub(crate) const LINE_DEADLINE: Duration = Duration::from_secs(30);
/// Longest wait for a client to take its answer.
const WRITE_DEADLINE: Duration = Duration::from_secs(10);
/// Room for a typical request, in bytes; a longer one gets [`MAX_LINE`] for the time it needs it.
const READ_SIZE: usize = 1024;

/// What came and is not answered yet.
pub(crate) struct Lines {
    buffer: Zeroizing<Vec<u8>>,
    taken: usize,
    begun: Option<Instant>,
}

impl Lines {
    pub(crate) fn new() -> Self {
        Self { buffer: Zeroizing::new(Vec::with_capacity(READ_SIZE)), taken: 0, begun: None }
    }

    /// What is not yet taken.
    pub(crate) fn rest(&self) -> &[u8] {
        self.buffer.get(self.taken..).unwrap_or_default()
    }

    /// Counts bytes as answered.
    pub(crate) fn take(&mut self, bytes: usize) {
        self.taken += bytes;
        self.begun = None;
    }

    /// Wipes what was answered, and notes when the line that is not complete began.
    pub(crate) fn tidy(&mut self) {
        let left = self.buffer.len().saturating_sub(self.taken);
        if self.taken > 0 {
            self.buffer.copy_within(self.taken.., 0);
            self.buffer[left..].fill(0);
            self.buffer.truncate(left);
            self.taken = 0;
        }
        if left == 0 {
            self.begun = None;
            if self.buffer.capacity() > READ_SIZE {
                self.buffer = Zeroizing::new(Vec::with_capacity(READ_SIZE));
            }
        } else if self.begun.is_none() {
            self.begun = Some(Instant::now());
        }
    }

    /// When a line that has begun must be complete.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.begun.map(|begun| begun + LINE_DEADLINE)
    }

    /// Reads what there is; 0 is the end. May be broken off without a loss.
    pub(crate) async fn fill(&mut self, stream: &mut Stream) -> std::io::Result<usize> {
        // A buffer that grows leaves a copy of what it held; so it grows once, to all it can need.
        if self.buffer.len() == self.buffer.capacity() {
            let mut larger = Zeroizing::new(Vec::with_capacity(MAX_LINE + 1));
            larger.extend_from_slice(&self.buffer);
            self.buffer = larger;
        }
        stream.read_buf(&mut *self.buffer).await
    }
}

/// Writes and empties `output`; whether the client took it.
pub(crate) async fn write(stream: &mut Stream, output: &mut Vec<u8>) -> bool {
    let written = tokio::time::timeout(WRITE_DEADLINE, stream.write_all(output)).await;
    // A long answer (a list of users) does not stay with an idle connection.
    if output.capacity() > READ_SIZE {
        *output = Vec::new();
    }
    output.clear();
    matches!(written, Ok(Ok(())))
}
