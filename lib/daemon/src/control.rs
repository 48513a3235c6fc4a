//! The control socket of a daemon, `PROGRAM.PID.sock`, for root and the daemon's own user: what the command asks for
//! after a change, and what it shows of a running daemon.

use crate::listen::{Activation, Listener, bind as bind_sockets};
use crate::privileges::Identity;
use crate::serve::{Limits, Shutdown, serve as serve_sockets};
use crate::shared::Shared;
use crate::stream::{Peer, Stream};
use anyhow::Result;
use mailsql_config::{Config, Listen, ListenList, Permissions};
use mailsql_core::{Address, Directory, resolve};
use mailsql_proto::ask::{self, BULK_LINE_MAX, LINE_MAX, LimitsAction, Reply, Request};
use nix::unistd::Uid;
use std::os::unix::fs::DirBuilderExt;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// Longest wait for a request on a control socket.
const IDLE: Duration = Duration::from_secs(30);
/// Most bytes of text in an answer to `limits`; escapes may double it.
const LIMITS_TEXT_MAX: usize = BULK_LINE_MAX / 4;
/// Control connections at once.
const CONNECTIONS: usize = 16;

/// A service that counts, and tells on the control socket what it has counted.
pub trait Limited: Send + Sync {
    /// Lines for a person, one thing a line, each `WORD key=value …`: what is counted for `who` (a login, an address, a
    /// client's IP address; `None` for all). `Reset` forgets it and tells what was forgotten.
    ///
    /// # Errors
    /// Why this cannot be told, in a line.
    fn limits(&self, action: LimitsAction, who: Option<&str>) -> Result<Vec<String>, String>;

    /// Drops what is remembered of the database; counts stay.
    fn forget(&self) {}
}

/// Makes the control socket; a daemon that cannot (run by hand, without the folder) goes on without one.
pub(crate) fn bind(program: &str, config: &Config, identity: Option<&Identity>) -> Option<Vec<Listener>> {
    let dir = &config.control.dir;
    if !dir.is_dir() {
        let _ = std::fs::DirBuilder::new().recursive(true).mode(0o755).create(dir);
    }
    let path = dir.join(format!("{program}.{}.sock", std::process::id()));
    let owner = identity.map(|identity| identity.uid.to_string());
    let group = identity.map(|identity| identity.gid.to_string());
    let permissions = Permissions { mode: Some(0o600), user: owner, group };
    let listen = ListenList(vec![Listen::Unix(path, permissions)]);
    match bind_sockets("control", &listen, &Permissions::default(), &mut Activation::default()) {
        Ok(listeners) => Some(listeners),
        Err(error) => {
            tracing::warn!(dir = %dir.display(), reason = format!("{error:#}"), "no control socket: changes made by the \
                            command are seen only after their time in the cache");
            None
        }
    }
}

/// Serves the control socket until shutdown.
pub(crate) async fn serve(listeners: Vec<Listener>, shared: Arc<Shared>, shutdown: Shutdown) -> Result<()> {
    let limits = Limits { connections: CONNECTIONS };
    serve_sockets(listeners, limits, shutdown, move |stream, shutdown| {
        connection(stream, Arc::clone(&shared), shutdown)
    })
    .await
}

async fn connection(mut stream: Stream, shared: Arc<Shared>, mut shutdown: Shutdown) {
    let own = Uid::effective().as_raw();
    if !matches!(stream.peer(), Peer::Local { uid, .. } if uid == 0 || uid == own) {
        return;
    }
    let mut buffer = Vec::new();
    loop {
        let end = loop {
            match ask::line(&buffer, LINE_MAX) {
                Ok(Some(end)) => break end,
                Ok(None) => {}
                Err(_) => return,
            }
            let read = tokio::select! {
                read = tokio::time::timeout(IDLE, stream.read_buf(&mut buffer)) => read,
                () = shutdown.wait() => return,
            };
            if !matches!(read, Ok(Ok(1..))) {
                return;
            }
        };
        let mut line: Vec<u8> = buffer.drain(..end).collect();
        let reply = match Request::decode(&mut line) {
            Ok(request) if request.is_control() => answer(&request, &shared).await,
            _ => Reply::Refused { reason: b"control sockets answer flush, limits, explain and stats".to_vec() },
        };
        let mut out = Vec::new();
        if reply.encode(BULK_LINE_MAX, &mut out).is_err() || stream.write_all(&out).await.is_err() {
            return;
        }
    }
}

async fn answer(request: &Request<'_>, shared: &Shared) -> Reply {
    match request {
        Request::Flush { address: None } => {
            shared.forget_all();
            flush_domains(shared).await
        }
        Request::Flush { address: Some(address) } => match std::str::from_utf8(address).map(str::to_owned) {
            Ok(text) => flush(&text, shared).await,
            Err(_) => Reply::Refused { reason: b"an address is UTF-8".to_vec() },
        },
        Request::Stats => Reply::Text(stats(shared).into_bytes()),
        Request::Explain { address } => explain(address, shared).await,
        Request::Limits { action, address } => limits(*action, *address, shared),
        _ => Reply::Text(Vec::new()),
    }
}

/// Forgets an address, `@domain` (the domain's catch-all and whether it exists), or a bare domain likewise.
async fn flush(text: &str, shared: &Shared) -> Reply {
    match text.strip_prefix('@').or_else(|| (!text.contains('@')).then_some(text)) {
        Some(domain) => {
            shared.store.follow_writer();
            shared.directory.forget_catch_all(domain);
            shared.directory.forget_domain(domain);
            shared.authenticator.forget_all();
            flush_domains(shared).await
        }
        None => match Address::parse(text) {
            Ok(address) => {
                shared.forget(&address);
                Reply::Done
            }
            Err(error) => Reply::Refused { reason: error.to_string().into_bytes() },
        },
    }
}

async fn flush_domains(shared: &Shared) -> Reply {
    match shared.directory.refresh_domains().await {
        Ok(()) => Reply::Done,
        Err(trouble) => Reply::Unavailable { reason: trouble.reason().as_bytes().to_vec() },
    }
}

fn stats(shared: &Shared) -> String {
    let stats = shared.directory.stats();
    let hashing = shared.authenticator.verifier().stats();
    let count = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
    let mut rows = vec![
        ("uptime_seconds", shared.started.elapsed().as_secs()),
        ("cache_hits", count(&stats.hits)),
        ("cache_negative_hits", count(&stats.negative_hits)),
        ("cache_stale_hits", count(&stats.stale_hits)),
        ("database_loads", count(&stats.loads)),
        ("database_failures", count(&stats.failures)),
        ("password_hashes", hashing.hashes),
        ("password_hashes_waiting", hashing.waiting),
        ("password_hashes_dropped", hashing.dropped),
        ("password_hashes_overloaded", hashing.overloaded),
    ];
    if let Some(notes) = shared.authenticator.notes() {
        rows.push(("passwords_upgraded", count(&notes.stats().upgraded)));
        rows.push(("passwords_to_upgrade", count(&notes.stats().would_upgrade)));
        rows.push(("app_password_uses_written", count(&notes.stats().uses)));
    }
    rows.iter().map(|(name, number)| format!("{name} {number}\n")).collect()
}

/// What all services of this daemon count, as many lines as fit into a reply.
fn limits(action: LimitsAction, address: Option<&[u8]>, shared: &Shared) -> Reply {
    let Ok(who) = address.map(std::str::from_utf8).transpose() else {
        return Reply::Refused { reason: b"a login is UTF-8".to_vec() };
    };
    let mut text = String::new();
    for service in shared.limited() {
        match service.limits(action, who) {
            Ok(lines) => {
                for line in lines {
                    if text.len() + line.len() > LIMITS_TEXT_MAX {
                        text.push_str("more\n");
                        return Reply::Text(text.into_bytes());
                    }
                    text.push_str(&line);
                    text.push('\n');
                }
            }
            Err(reason) => return Reply::Refused { reason: reason.into_bytes() },
        }
    }
    Reply::Text(text.into_bytes())
}

/// How this daemon sees an address now, cache included.
async fn explain(address: &[u8], shared: &Shared) -> Reply {
    let Some(address) = std::str::from_utf8(address).ok().and_then(|text| Address::parse(text).ok()) else {
        return Reply::Refused { reason: b"not an address".to_vec() };
    };
    let directory: &dyn Directory = &*shared.directory;
    let mut lines = Vec::new();
    match directory.domain(&address.domain().to_lowercase()).await {
        Ok(found) => lines.push(format!("domain {}", found.as_deref().unwrap_or("unknown"))),
        Err(trouble) => lines.push(format!("domain unavailable: {trouble}")),
    }
    match resolve::mailbox(directory, &address, &shared.rules).await {
        Ok(Some(found)) => {
            let state = if found.account.enabled { "enabled" } else { "disabled" };
            lines.push(format!("mailbox {} {state}", found.account.address));
        }
        Ok(None) => lines.push("mailbox unknown".to_owned()),
        Err(trouble) => lines.push(format!("mailbox unavailable: {trouble}")),
    }
    match resolve::aliases(directory, &address, &shared.rules).await {
        Ok(Some(found)) => lines.push(format!("aliases {}", found.join(","))),
        Ok(None) => lines.push("aliases none".to_owned()),
        Err(trouble) => lines.push(format!("aliases unavailable: {trouble}")),
    }
    Reply::Text(lines.join("\n").into_bytes())
}
