//! The children that ask PAM.
//!
//! PAM modules are other people's code: they block without bound, leak, crash, and call exit(3). So each login goes to a
//! child of its own, which is used again if it comes through. One that does not answer in time is killed, one that dies
//! is replaced; either login ends without an answer, which libsasl2 takes for an outage, and costs nobody else's.

use mailsql_proto::saslauthd::{MAX_REPLY_TEXT, Request};
use std::os::fd::OwnedFd;
use std::process::Stdio;
use std::sync::Mutex;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::process::{Child, Command};
use tokio::sync::Semaphore;
use zeroize::Zeroizing;

/// Logins after which a child is let go: what its modules leak goes with it.
const MAX_SERVED: u32 = 1000;

/// What a child answered, or why there is no answer.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// The text of a reply.
    Text(Vec<u8>),
    /// PAM could not find out; the child's own log line tells more.
    Trouble,
    /// No answer, and why.
    Lost(&'static str),
}

struct Worker {
    child: Child,
    stream: UnixStream,
    served: u32,
}

/// Children, and turns for them.
pub(crate) struct Pool {
    turns: Semaphore,
    idle: Mutex<Vec<Worker>>,
    deadline: Duration,
}

impl Pool {
    /// At most `size` children at once; each login takes `deadline` at most, its wait for a turn included.
    pub(crate) fn new(size: usize, deadline: Duration) -> Self {
        Self { turns: Semaphore::new(size.max(1)), idle: Mutex::default(), deadline }
    }

    /// Asks PAM.
    pub(crate) async fn ask(&self, request: &Request<'_>) -> Answer {
        let end = tokio::time::Instant::now() + self.deadline;
        let Ok(Ok(_turn)) = tokio::time::timeout_at(end, self.turns.acquire()).await else {
            return Answer::Lost("all children are busy; -n says how many there may be");
        };
        let mut worker = match self.take() {
            Some(worker) => worker,
            None => match start() {
                Ok(worker) => worker,
                Err(error) => {
                    tracing::error!(%error, "cannot start a PAM child");
                    return Answer::Lost("a PAM child could not be started");
                }
            },
        };
        let answer = match tokio::time::timeout_at(end, exchange(&mut worker.stream, request)).await {
            Ok(Ok(text)) => text,
            Ok(Err(_)) => {
                let status = worker.child.wait().await.map(|status| status.to_string()).unwrap_or_default();
                tracing::error!(status, "a PAM module ended its process");
                return Answer::Lost("a PAM module ended its process");
            }
            // Dropping the child kills it.
            Err(_) => return Answer::Lost("a PAM module did not answer in time and was killed"),
        };
        worker.served += 1;
        if worker.served < MAX_SERVED
            && let Ok(mut idle) = self.idle.lock()
        {
            idle.push(worker);
        }
        if answer.is_empty() { Answer::Trouble } else { Answer::Text(answer) }
    }

    /// A child that lives and waits.
    fn take(&self) -> Option<Worker> {
        let mut idle = self.idle.lock().ok()?;
        while let Some(mut worker) = idle.pop() {
            if matches!(worker.child.try_wait(), Ok(None)) {
                return Some(worker);
            }
        }
        None
    }
}

/// Starts this program anew: a child by fork alone would hold the daemon's memory and sockets.
fn start() -> std::io::Result<Worker> {
    let (ours, theirs) = std::os::unix::net::UnixStream::pair()?;
    ours.set_nonblocking(true)?;
    // What runs now, not what an upgrade has put in its place since.
    let mut command = Command::new("/proc/self/exe");
    command.arg0("saslauthd-rs").arg(super::WORKER).stdin(OwnedFd::from(theirs)).stdout(Stdio::null());
    command.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").kill_on_drop(true);
    Ok(Worker { child: command.spawn()?, stream: UnixStream::from_std(ours)?, served: 0 })
}

async fn exchange(stream: &mut UnixStream, request: &Request<'_>) -> std::io::Result<Vec<u8>> {
    let mut bytes = Zeroizing::new(Vec::with_capacity(mailsql_proto::saslauthd::MAX_REQUEST));
    request.encode(&mut bytes).map_err(std::io::Error::other)?;
    stream.write_all(&bytes).await?;
    let length = usize::from(stream.read_u16().await?);
    let mut text = vec![0; length.min(MAX_REPLY_TEXT)];
    stream.read_exact(&mut text).await?;
    Ok(text)
}
