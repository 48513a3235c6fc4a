//! Accept loops: a slot a client, and an end for each.

use crate::Stream;
use crate::listen::Listener;
use anyhow::Result;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};

/// Pause after an accept that failed for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// How long a daemon that ends still accepts. Its sockets have been given up by then, so this is for clients that had
/// them open already: those in the backlog, and those that looked a path up in the moment before another daemon took it.
const LAST_CALL: Duration = Duration::from_millis(100);

/// What a service gives its clients.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Connections at once; more wait in the kernel's backlog.
    pub connections: usize,
}

/// Tells tasks that the daemon is about to end, and waits for them.
#[derive(Clone)]
pub struct Shutdown {
    flag: watch::Receiver<bool>,
    _alive: mpsc::Sender<()>,
}

/// The other end of [`Shutdown`].
pub struct ShutdownControl {
    flag: watch::Sender<bool>,
    finished: mpsc::Receiver<()>,
}

impl Shutdown {
    /// A pair: tasks hold the first, the main task the second.
    #[must_use]
    pub fn new() -> (Self, ShutdownControl) {
        let (flag, observed) = watch::channel(false);
        let (alive, finished) = mpsc::channel(1);
        (Self { flag: observed, _alive: alive }, ShutdownControl { flag, finished })
    }

    /// Whether the daemon is about to end.
    #[must_use]
    pub fn begun(&self) -> bool {
        *self.flag.borrow()
    }

    /// Comes back when the daemon is about to end.
    pub async fn wait(&mut self) {
        // An error means that the control is gone, which is an end too.
        let _ = self.flag.wait_for(|begun| *begun).await;
    }
}

impl ShutdownControl {
    /// Tells all tasks, and waits for them up to `patience`. Says whether all have finished.
    pub async fn finish(mut self, patience: Duration) -> bool {
        let _ = self.flag.send(true);
        tokio::time::timeout(patience, self.finished.recv()).await.is_ok()
    }
}

/// Accepts on all listeners and gives each connection to `connection`, until shutdown.
///
/// # Errors
/// When a listener cannot be used on the runtime.
pub async fn serve<C, F>(listeners: Vec<Listener>, limits: Limits, shutdown: Shutdown, connection: C) -> Result<()>
where
    C: Fn(Stream, Shutdown) -> F + Send + Sync + 'static,
    F: Future<Output = ()> + Send + 'static,
{
    let slots = Arc::new(Semaphore::new(limits.connections.max(1)));
    let connection = Arc::new(connection);
    let mut loops = tokio::task::JoinSet::new();
    for listener in listeners {
        let name = listener.name.clone();
        let accepting = listener.start()?;
        let (slots, connection, mut shutdown) = (Arc::clone(&slots), Arc::clone(&connection), shutdown.clone());
        loops.spawn(async move {
            let mut last_call = None;
            loop {
                let accepted = tokio::select! {
                    biased;
                    () = shutdown.wait(), if last_call.is_none() => {
                        accepting.give_up();
                        last_call = Some(tokio::time::Instant::now() + LAST_CALL);
                        continue;
                    }
                    () = until(last_call) => break,
                    accepted = slot_and_client(&slots, &accepting) => accepted,
                };
                match accepted {
                    Ok((slot, stream)) => {
                        let (connection, shutdown) = (Arc::clone(&connection), shutdown.clone());
                        tokio::spawn(async move {
                            // Held here too: the end waits for every client, also of a service that does not ask for it.
                            let _alive = shutdown.clone();
                            connection(stream, shutdown).await;
                            drop(slot);
                        });
                    }
                    Err(error) => {
                        tracing::warn!(listen = %name, %error, "cannot accept");
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                    }
                }
            }
        });
    }
    while loops.join_next().await.is_some() {}
    Ok(())
}

/// The end of the last call; never before it has begun.
async fn until(last_call: Option<tokio::time::Instant>) {
    match last_call {
        Some(end) => tokio::time::sleep_until(end).await,
        None => std::future::pending().await,
    }
}

/// A slot first, then a client: a client beyond the cap stays in the backlog and is not accepted only to be ignored.
async fn slot_and_client(
    slots: &Arc<Semaphore>,
    accepting: &crate::listen::Accepting,
) -> std::io::Result<(OwnedSemaphorePermit, Stream)> {
    let slot = Arc::clone(slots).acquire_owned().await.map_err(std::io::Error::other)?;
    Ok((slot, accepting.accept().await?))
}
