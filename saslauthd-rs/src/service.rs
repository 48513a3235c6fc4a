//! Requests decided by the account database.

use crate::log::failure;
use crate::reply::reply;
use crate::wire::{answer, receive};
use anyhow::Result;
use mailsql_config::{Config, Permissions, Saslauthd};
use mailsql_core::{Login, Verdict};
use mailsql_daemon::program::Serving;
use mailsql_daemon::{Activation, Bound, Limits, Listener, Shared, Shutdown, Stream, listen, serve};
use mailsql_proto::saslauthd::{Reply, Request};
use std::sync::Arc;
use std::time::Instant;
use tokio::sync::Semaphore;

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
    let listeners = listeners(section, activation)?;
    Ok(Some(Box::new(Service { section: section.clone(), listeners })))
}

/// Binds the mux, or takes what systemd passed as `saslauthd`.
///
/// # Errors
/// A line with the socket and what to do.
pub fn listeners(section: &Saslauthd, activation: &mut Activation) -> Result<Vec<Listener>> {
    // As Debian has it: the socket is open to all, its folder (root:sasl 0710) is not.
    let default = Permissions { mode: Some(0o777), ..Permissions::default() };
    listen::bind("saslauthd", &section.listen, &default, activation)
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
    let Some(received) = receive(&mut stream).await else { return };
    let Some(request) = received.request() else { return };
    let Ok(_turn) = working.acquire().await else { return };
    if let Some(reply) = decide(&request, &shared, combine_realm).await {
        answer(&mut stream, &reply).await;
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
    if let Ok(decision) = &decision
        && !matches!(decision.verdict, Verdict::Yes(_))
    {
        let line = failure(user.as_bytes(), request.service, request.realm, "mailsql", decision.verdict.word());
        tracing::info!(target: "do_auth", "{line}");
    }
    reply(&decision)
}
