//! One request a connection: read, decide, answer, close.

use crate::reply::reply;
use anyhow::Result;
use mailsql_config::{Config, Permissions, Saslauthd};
use mailsql_core::Login;
use mailsql_daemon::program::Serving;
use mailsql_daemon::{Activation, Bound, Limits, Listener, Shared, Shutdown, Stream, listen, serve};
use mailsql_proto::saslauthd::{self, FIELD_TOO_LONG_REPLY, MAX_REQUEST, Reply, Request};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::Semaphore;
use zeroize::Zeroizing;

/// Longest wait for a whole request.
const READ_DEADLINE: Duration = Duration::from_secs(30);
/// Longest wait for the client to take the answer.
const WRITE_DEADLINE: Duration = Duration::from_secs(5);
/// Bytes of a refused request that are read and thrown away, so that the client can read the refusal.
const MAX_DRAIN: usize = 64 * 1024;

struct Service {
    section: Saslauthd,
    listeners: Vec<Listener>,
}

/// Binds the mux, if the configuration has a `[saslauthd]` section.
///
/// # Errors
/// A line with the socket and what to do.
pub fn bind(config: &Config, activation: &mut Activation) -> Result<Option<Box<dyn Bound>>> {
    let Some(section) = &config.saslauthd else { return Ok(None) };
    // As Debian has it: the socket is open to all, its folder (root:sasl 0710) is not.
    let default = Permissions { mode: Some(0o777), ..Permissions::default() };
    let listeners = listen::bind("saslauthd", &section.listen, &default, activation)?;
    Ok(Some(Box::new(Service { section: section.clone(), listeners })))
}

impl Bound for Service {
    fn name(&self) -> &'static str {
        "saslauthd"
    }

    fn serve(self: Box<Self>, shared: Arc<Shared>, shutdown: Shutdown) -> Serving {
        let limits = Limits { connections: self.section.max_connections };
        let working = Arc::new(Semaphore::new(self.section.concurrency.max(1)));
        let combine_realm = self.section.combine_realm;
        Box::pin(serve(self.listeners, limits, shutdown, move |stream, _| {
            connection(stream, Arc::clone(&shared), Arc::clone(&working), combine_realm)
        }))
    }
}

async fn connection(mut stream: Stream, shared: Arc<Shared>, working: Arc<Semaphore>, combine_realm: bool) {
    let mut buffer = Zeroizing::new(Vec::with_capacity(MAX_REQUEST));
    let request = match tokio::time::timeout(READ_DEADLINE, read(&mut stream, &mut buffer)).await {
        Ok(Ok(request)) => request,
        Ok(Err(Unread::TooLong)) => return refuse(stream, FIELD_TOO_LONG_REPLY).await,
        // A request that does not end gets no answer, as from the stock daemon.
        Ok(Err(Unread::Closed)) | Err(_) => return,
    };
    if let Some(refusal) = request.refusal() {
        return write(&mut stream, &refusal).await;
    }
    let Ok(_turn) = working.acquire().await else { return };
    if let Some(reply) = decide(&request, &shared, combine_realm).await {
        write(&mut stream, &reply).await;
    }
}

async fn decide(request: &Request<'_>, shared: &Shared, combine_realm: bool) -> Option<Reply<'static>> {
    let begun = Instant::now();
    let user = request.user(combine_realm);
    let user = String::from_utf8_lossy(&user);
    let service = String::from_utf8_lossy(request.service);
    let client = request.client.and_then(|text| std::str::from_utf8(text).ok()?.parse().ok());
    let login = Login { user: &user, password: request.password, service: &service, client };
    let decision = shared.authenticator.login(&login).await;
    mailsql_daemon::log::login("saslauthd", &login, &decision, begun);
    reply(&decision)
}

enum Unread {
    Closed,
    TooLong,
}

async fn read<'a>(stream: &mut Stream, buffer: &'a mut Vec<u8>) -> Result<Request<'a>, Unread> {
    loop {
        match saslauthd::decode(buffer) {
            Ok(Some(_)) => break,
            Ok(None) => {}
            Err(_) => return Err(Unread::TooLong),
        }
        // The buffer holds a whole request and is never full here, so it does not grow and leaves no copy behind.
        let read = stream.read_buf(buffer).await;
        if !matches!(read, Ok(1..)) {
            return Err(Unread::Closed);
        }
    }
    match saslauthd::decode(buffer) {
        Ok(Some((request, _))) => Ok(request),
        _ => Err(Unread::Closed),
    }
}

async fn write(stream: &mut Stream, reply: &Reply<'_>) {
    let mut bytes = Vec::with_capacity(32);
    reply.encode(&mut bytes);
    let _ = tokio::time::timeout(WRITE_DEADLINE, stream.write_all(&bytes)).await;
}

/// Answers, and reads on for a moment: a socket closed on unread bytes would reset the connection before the client
/// has read the answer.
async fn refuse(mut stream: Stream, reply: Reply<'_>) {
    write(&mut stream, &reply).await;
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
