//! Connections from Postfix's processes: any number of questions each, one at a time. On standard input, as spawn(8)
//! leaves it, there is one connection, and the program ends with it.

use crate::maps::{Map, Maps};
use crate::reply::{reply, tcp_reply};
use anyhow::{Context, Result};
use mailsql_config::{Config, Permissions};
use mailsql_core::Unavailable;
use mailsql_daemon::program::Serving;
use mailsql_daemon::{Activation, Bound, Limits, Listener, Shared, Shutdown, Stream, listen, serve};
use mailsql_proto::{socketmap, tcp_table};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// Longest silence of a client. Postfix closes idle connections after 10 s and any after 100 s by itself.
const IDLE: Duration = Duration::from_secs(110);
/// Longest wait for a client to take its answer.
const WRITE_DEADLINE: Duration = Duration::from_secs(10);
/// Answers are written when they come to this many bytes, even while more questions are waiting.
const WRITE_AT: usize = 64 * 1024;
/// Room for a typical question; a connection's buffers grow only when it is needed, and shrink again.
const READ_SIZE: usize = 512;
/// What a buffer may keep, in bytes, while its connection waits.
const KEEP: usize = 4096;

/// What is spoken on a connection.
#[derive(Clone, Copy, Debug)]
enum Wire {
    /// Each question names its map.
    Socketmap,
    /// All questions are for this map.
    TcpTable(Map),
}

struct Service {
    connections: usize,
    maps: Arc<Maps>,
    listeners: Vec<(Wire, Vec<Listener>)>,
}

/// Binds the map sockets, if the configuration has a `[maps]` section.
///
/// # Errors
/// A line with the socket, or the map, and what to do.
pub fn bind(config: &Config, activation: &mut Activation) -> Result<Option<Box<dyn Bound>>> {
    let Some(section) = &config.maps else { return Ok(None) };
    let maps = Maps::new(section)?;
    let default = Permissions { mode: Some(0o660), group: Some("postfix".into()), ..Permissions::default() };
    let mut listeners = vec![(Wire::Socketmap, listen::bind("maps", &section.listen, &default, activation)?)];
    for (name, list) in &section.tcp {
        let map = maps.find(name.as_bytes()).with_context(|| format!("[maps.tcp] {name}: no such map"))?;
        listeners.push((Wire::TcpTable(map), listen::bind(&format!("maps.tcp.{name}"), list, &default, activation)?));
    }
    Ok(Some(Box::new(Service { connections: section.max_connections, maps: Arc::new(maps), listeners })))
}

impl Bound for Service {
    fn name(&self) -> &'static str {
        "maps"
    }

    fn serve(self: Box<Self>, shared: Arc<Shared>, shutdown: Shutdown) -> Serving {
        Box::pin(async move {
            let limits = Limits { connections: self.connections };
            let mut serving = tokio::task::JoinSet::new();
            for (wire, listeners) in self.listeners {
                let (shared, maps) = (Arc::clone(&shared), Arc::clone(&self.maps));
                let each = move |stream: Stream, shutdown: Shutdown| {
                    let (shared, maps) = (Arc::clone(&shared), Arc::clone(&maps));
                    async move { connection(wire, stream, &maps, &shared, shutdown).await }
                };
                serving.spawn(serve(listeners, limits, shutdown.clone(), each));
            }
            while let Some(ended) = serving.join_next().await {
                ended??;
            }
            Ok(())
        })
    }
}

struct Stdin {
    wire: Wire,
    maps: Maps,
}

/// Serves standard input: socketmap, or the tcp_table of one map.
///
/// # Errors
/// When there is no such map.
pub fn bind_stdin(config: &Config, tcp_table: Option<&str>) -> Result<Box<dyn Bound>> {
    let maps = Maps::new(&config.maps.clone().unwrap_or_default())?;
    let wire = match tcp_table {
        None => Wire::Socketmap,
        Some(name) => {
            let map = maps.find(name.as_bytes());
            Wire::TcpTable(map.with_context(|| format!("no map {name}; there are {}", maps.names()))?)
        }
    };
    Ok(Box::new(Stdin { wire, maps }))
}

impl Bound for Stdin {
    fn name(&self) -> &'static str {
        "maps"
    }

    fn is_all(&self) -> bool {
        true
    }

    fn serve(self: Box<Self>, shared: Arc<Shared>, shutdown: Shutdown) -> Serving {
        Box::pin(async move {
            match Stream::from_stdin()? {
                Some(stream) => connection(self.wire, stream, &self.maps, &shared, shutdown).await,
                None => {
                    let both = tokio::io::join(tokio::io::stdin(), tokio::io::stdout());
                    connection(self.wire, both, &self.maps, &shared, shutdown).await;
                }
            }
            Ok(())
        })
    }
}

async fn connection(
    wire: Wire,
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    maps: &Maps,
    shared: &Shared,
    mut shutdown: Shutdown,
) {
    let mut asked = Vec::with_capacity(READ_SIZE);
    let mut answers = Vec::with_capacity(READ_SIZE);
    loop {
        let mut taken = 0;
        let mut open = true;
        while open {
            let step = match wire {
                Wire::Socketmap => socketmap_step(&asked[taken..], maps, shared, &mut answers).await,
                Wire::TcpTable(map) => tcp_step(&asked[taken..], map, maps, shared, &mut answers).await,
            };
            match step {
                Step::Answered(used) => taken += used,
                Step::More => break,
                Step::Close => open = false,
            }
            if answers.len() >= WRITE_AT && !write(&mut stream, &mut answers).await {
                return;
            }
        }
        asked.drain(..taken);
        if (!answers.is_empty() && !write(&mut stream, &mut answers).await) || !open {
            return;
        }
        for buffer in [&mut asked, &mut answers] {
            if buffer.capacity() > KEEP && buffer.len() < READ_SIZE {
                buffer.shrink_to(READ_SIZE);
            }
        }
        let read = tokio::select! {
            biased;
            read = tokio::time::timeout(IDLE, stream.read_buf(&mut asked)) => read,
            () = shutdown.wait() => return,
        };
        if !matches!(read, Ok(Ok(1..))) {
            return;
        }
    }
}

enum Step {
    /// A question of this many bytes.
    Answered(usize),
    /// A part of one.
    More,
    /// None, nor the beginning of one.
    Close,
}

async fn socketmap_step(asked: &[u8], maps: &Maps, shared: &Shared, answers: &mut Vec<u8>) -> Step {
    match socketmap::decode(asked) {
        Ok(None) => Step::More,
        Ok(Some((request, used))) => {
            match maps.find(request.name) {
                Some(map) => reply(&look_up(map, request.key, maps, shared).await).encode(answers),
                None => {
                    tracing::warn!(map = ?String::from_utf8_lossy(request.name), "no such map");
                    let reason = format!("no such map; there are {}", maps.names());
                    socketmap::Reply::Perm(reason.as_bytes()).encode(answers);
                }
            }
            Step::Answered(used)
        }
        Err(error) => {
            tracing::warn!(%error, "malformed question; connection closed");
            Step::Close
        }
    }
}

async fn tcp_step(asked: &[u8], map: Map, maps: &Maps, shared: &Shared, answers: &mut Vec<u8>) -> Step {
    match tcp_table::decode(asked) {
        Ok(None) => Step::More,
        Ok(Some((tcp_table::Request::Get(key), used))) => {
            tcp_reply(&look_up(map, &key, maps, shared).await).encode(answers);
            Step::Answered(used)
        }
        Ok(Some((tcp_table::Request::Put(..), used))) => {
            tcp_table::Reply::NotFound(b"this table is not changed from here"[..].into()).encode(answers);
            Step::Answered(used)
        }
        Err(error) => {
            tracing::warn!(%error, "malformed question; connection closed");
            tcp_table::Reply::Temp(error.to_string().into_bytes().into()).encode(answers);
            Step::Close
        }
    }
}

async fn look_up(map: Map, key: &[u8], maps: &Maps, shared: &Shared) -> Result<Option<String>, Unavailable> {
    let found = match std::str::from_utf8(key) {
        Ok(key) => maps.look_up(map, key, shared).await,
        // Nothing of ours has a name that is not UTF-8.
        Err(_) => Ok(None),
    };
    match &found {
        Ok(found) => {
            tracing::debug!(target: "map", map = maps.name(map), key = ?String::from_utf8_lossy(key), found = found.is_some());
        }
        Err(trouble) => {
            tracing::warn!(target: "map", map = maps.name(map), key = ?String::from_utf8_lossy(key), reason = trouble.reason(), "answered TEMP");
        }
    }
    found
}

async fn write(stream: &mut (impl AsyncWrite + Unpin), answers: &mut Vec<u8>) -> bool {
    let whole = async {
        stream.write_all(answers).await?;
        stream.flush().await
    };
    let written = tokio::time::timeout(WRITE_DEADLINE, whole).await;
    answers.clear();
    matches!(written, Ok(Ok(())))
}
