//! One request a connection: read it, answer, close.

use mailsql_daemon::Stream;
use mailsql_proto::saslauthd::{self, FIELD_TOO_LONG_REPLY, MAX_REQUEST, Reply, Request};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use zeroize::Zeroizing;

/// Longest wait for a whole request.
const READ_DEADLINE: Duration = Duration::from_secs(30);
/// Longest wait for the client to take the answer.
const WRITE_DEADLINE: Duration = Duration::from_secs(5);
/// Bytes of a refused request that are read and thrown away, so that the client can read the refusal.
const MAX_DRAIN: usize = 64 * 1024;

/// A request in the buffer it came in, which is wiped when it goes.
pub struct Received(Zeroizing<Vec<u8>>);

impl Received {
    /// The request.
    #[must_use]
    pub fn request(&self) -> Option<Request<'_>> {
        saslauthd::decode(&self.0).ok()?.map(|(request, _)| request)
    }
}

enum Unread {
    Closed,
    TooLong,
}

/// Reads a request. `None` when there is nothing left to do: the client left or was too slow and gets no answer, as from
/// the stock daemon, or what it sent needs no deciding and was answered here.
pub async fn receive(stream: &mut Stream) -> Option<Received> {
    let mut buffer = Zeroizing::new(Vec::with_capacity(MAX_REQUEST));
    match tokio::time::timeout(READ_DEADLINE, read(stream, &mut buffer)).await {
        Ok(Ok(())) => {}
        Ok(Err(Unread::TooLong)) => {
            refuse(stream, FIELD_TOO_LONG_REPLY).await;
            return None;
        }
        Ok(Err(Unread::Closed)) | Err(_) => return None,
    }
    let received = Received(buffer);
    if let Some(refusal) = received.request()?.refusal() {
        answer(stream, &refusal).await;
        return None;
    }
    Some(received)
}

async fn read(stream: &mut Stream, buffer: &mut Vec<u8>) -> Result<(), Unread> {
    loop {
        match saslauthd::decode(buffer) {
            Ok(Some(_)) => return Ok(()),
            Ok(None) => {}
            Err(_) => return Err(Unread::TooLong),
        }
        // The buffer holds a whole request and is never full here, so it does not grow and leaves no copy behind.
        let read = stream.read_buf(buffer).await;
        if !matches!(read, Ok(1..)) {
            return Err(Unread::Closed);
        }
    }
}

/// Sends an answer.
pub async fn answer(stream: &mut Stream, reply: &Reply<'_>) {
    let mut bytes = Vec::with_capacity(32);
    reply.encode(&mut bytes);
    let _ = tokio::time::timeout(WRITE_DEADLINE, stream.write_all(&bytes)).await;
}

/// Answers, and reads on for a moment: a socket closed on unread bytes would reset the connection before the client
/// has read the answer.
async fn refuse(stream: &mut Stream, reply: Reply<'_>) {
    answer(stream, &reply).await;
    let _ = stream.shutdown().await;
    let drain = async {
        let mut sink = [0; 4096];
        let mut left = MAX_DRAIN;
        while let Ok(count @ 1..) = stream.read(&mut sink).await {
            left = left.saturating_sub(count);
            if left == 0 {
                break;
            }
        }
    };
    let _ = tokio::time::timeout(WRITE_DEADLINE, drain).await;
}
