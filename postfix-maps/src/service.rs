//! Connections from Postfix's processes: any number of questions each, one at a time.

use crate::maps::Map;
use crate::reply::{NO_SUCH_MAP, reply};
use anyhow::Result;
use mailsql_config::{Config, Maps, Permissions};
use mailsql_daemon::program::Serving;
use mailsql_daemon::{Activation, Bound, Limits, Listener, Shared, Shutdown, Stream, listen, serve};
use mailsql_proto::socketmap::{self, Request};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// Longest silence of a client. Postfix closes idle connections after 10 s and any after 100 s by itself.
const IDLE: Duration = Duration::from_secs(110);
/// Longest wait for a client to take its answer.
const WRITE_DEADLINE: Duration = Duration::from_secs(10);
/// Answers are written when they come to this many bytes, even while more questions are waiting.
const WRITE_AT: usize = 64 * 1024;
/// Room for a typical question; a connection's buffer grows only when it is needed.
const READ_SIZE: usize = 512;

struct Service {
    section: Maps,
    listeners: Vec<Listener>,
}

/// Binds the map sockets, if the configuration has a `[maps]` section.
///
/// # Errors
/// A line with the socket and what to do.
pub fn bind(config: &Config, activation: &mut Activation) -> Result<Option<Box<dyn Bound>>> {
    let Some(section) = &config.maps else { return Ok(None) };
    let default = Permissions { mode: Some(0o660), group: Some("postfix".into()), ..Permissions::default() };
    let listeners = listen::bind("maps", &section.listen, &default, activation)?;
    Ok(Some(Box::new(Service { section: section.clone(), listeners })))
}

impl Bound for Service {
    fn name(&self) -> &'static str {
        "maps"
    }

    fn serve(self: Box<Self>, shared: Arc<Shared>, shutdown: Shutdown) -> Serving {
        let limits = Limits { connections: self.section.max_connections };
        Box::pin(serve(self.listeners, limits, shutdown, move |stream, shutdown| {
            connection(stream, Arc::clone(&shared), shutdown)
        }))
    }
}

async fn connection(mut stream: Stream, shared: Arc<Shared>, mut shutdown: Shutdown) {
    let mut input = Vec::with_capacity(READ_SIZE);
    let mut output = Vec::with_capacity(READ_SIZE);
    loop {
        let mut taken = 0;
        loop {
            match socketmap::decode(&input[taken..]) {
                Ok(Some((request, used))) => {
                    answer(&request, &shared, &mut output).await;
                    taken += used;
                }
                Ok(None) => break,
                Err(error) => {
                    tracing::warn!(peer = ?stream.peer(), %error, "malformed question; connection closed");
                    return;
                }
            }
            if output.len() >= WRITE_AT && !write(&mut stream, &mut output).await {
                return;
            }
        }
        input.drain(..taken);
        if !output.is_empty() && !write(&mut stream, &mut output).await {
            return;
        }
        let read = tokio::select! {
            biased;
            read = tokio::time::timeout(IDLE, stream.read_buf(&mut input)) => read,
            () = shutdown.wait() => return,
        };
        if !matches!(read, Ok(Ok(1..))) {
            return;
        }
    }
}

async fn answer(request: &Request<'_>, shared: &Shared, output: &mut Vec<u8>) {
    let Some(map) = Map::find(request.name) else {
        tracing::warn!(map = ?String::from_utf8_lossy(request.name), "no such map");
        return NO_SUCH_MAP.encode(output);
    };
    let found = match std::str::from_utf8(request.key) {
        Ok(key) => map.look_up(key, shared).await,
        // Nothing of ours has a name that is not UTF-8.
        Err(_) => Ok(None),
    };
    match &found {
        Ok(found) => {
            tracing::debug!(target: "map", map = map.name(), key = ?String::from_utf8_lossy(request.key), found = found.is_some());
        }
        Err(trouble) => {
            tracing::warn!(target: "map", map = map.name(), key = ?String::from_utf8_lossy(request.key), reason = trouble.reason(), "answered TEMP");
        }
    }
    reply(&found).encode(output);
}

async fn write(stream: &mut Stream, output: &mut Vec<u8>) -> bool {
    let written = tokio::time::timeout(WRITE_DEADLINE, stream.write_all(output)).await;
    output.clear();
    matches!(written, Ok(Ok(())))
}
