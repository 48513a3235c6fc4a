//! `-a pam`: saslauthd's own mechanism, with children that may fail.
//!
//! Unlike the stock daemon an outage is no refusal: PAM's trouble, a module that crashes and one that hangs close the
//! connection without an answer, and Postfix says 454.

mod pool;
mod worker;

use anyhow::Result;
use mailsql_config::Saslauthd;
use mailsql_daemon::program::Serving;
use mailsql_daemon::{Activation, Limits, Shutdown, Stream, serve};
use mailsql_proto::saslauthd::{Reply, Request};
use pool::{Answer, Pool};
use saslauthd_rs::log::failure;
use saslauthd_rs::wire::{answer, receive};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The argument that makes this program a child; not for people.
pub(crate) const WORKER: &str = "--pam-worker";
/// What a login may take unless `-O timeout=` says otherwise. Postfix's smtpd watches itself for 1000 s, mail clients
/// give up after one or two minutes.
pub(crate) const DEADLINE: Duration = Duration::from_secs(30);

pub(crate) use worker::run as run_worker;

/// Binds the mux; what it gives back serves it.
pub(crate) fn bind(
    section: Saslauthd,
    deadline: Duration,
    activation: &mut Activation,
) -> Result<impl FnOnce(Shutdown) -> Serving + use<>> {
    let listeners = saslauthd_rs::listeners(&section, activation)?;
    let limits = Limits { connections: section.max_connections };
    let pool = Arc::new(Pool::new(section.concurrency, deadline));
    let combine_realm = section.combine_realm;
    Ok(move |shutdown| -> Serving {
        Box::pin(serve(listeners, limits, shutdown, move |stream, _| {
            connection(stream, Arc::clone(&pool), combine_realm)
        }))
    })
}

async fn connection(mut stream: Stream, pool: Arc<Pool>, combine_realm: bool) {
    let Some(received) = receive(&mut stream).await else { return };
    let Some(request) = received.request() else { return };
    let user = request.user(combine_realm);
    let asked = Request { login: &user, ..request };
    let begun = Instant::now();
    let outcome = pool.ask(&asked).await;
    let micros = u64::try_from(begun.elapsed().as_micros()).unwrap_or(u64::MAX);
    let (login, service) = (String::from_utf8_lossy(&user), String::from_utf8_lossy(request.service));
    match outcome {
        Answer::Text(text) if text.starts_with(b"OK") => {
            tracing::info!(target: "login", protocol = "saslauthd", login = ?login, service = ?service, result = "ok", micros);
            answer(&mut stream, &Reply::Ok(None)).await;
        }
        Answer::Text(text) => {
            let reason = text.strip_prefix(b"NO ").unwrap_or_default();
            let line = failure(&user, request.service, request.realm, "pam", &String::from_utf8_lossy(reason));
            tracing::info!(target: "do_auth", "{line}");
            answer(&mut stream, &Reply::No(Some(reason))).await;
        }
        Answer::Trouble => {
            tracing::warn!(target: "login", protocol = "saslauthd", login = ?login, service = ?service, result = "unavailable", micros);
        }
        Answer::Lost(reason) => {
            tracing::warn!(target: "login", protocol = "saslauthd", login = ?login, service = ?service, result = "unavailable", reason, micros);
        }
    }
}
