//! A connection of the master protocol: USER and PASS look one user up, LIST names them all.
//!
//! doveadm and dovecot-lmtp keep a connection for a while and send one request at a time, so requests are answered in
//! their order. A service that is limited to some accounts is no matter here: delivery and administration are none.
//!
//! A name that is told apart is the account's own address; alias addresses are for Postfix to expand before delivery.

use crate::lines::{Lines, write};
use crate::mask::fits;
use crate::place::Place;
use crate::reply;
use mailsql_core::Unavailable;
use mailsql_daemon::{Shared, Shutdown, Stream};
use mailsql_proto::dovecot_auth::Fields;
use mailsql_proto::dovecot_auth::master::{self, Lookup, Reply, Request};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::time::Instant;

/// Longest silence of a client. Dovecot's own clients close after a minute.
const IDLE: Duration = Duration::from_secs(300);
/// Answers are written when they come to this many bytes: a list of users is not held in memory twice.
const WRITE_AT: usize = 64 * 1024;

/// Serves one client.
pub(crate) async fn connection(mut stream: Stream, shared: Arc<Shared>, mut shutdown: Shutdown) {
    let mut lines = Lines::new();
    let mut output = Vec::new();
    master::encode_hello(std::process::id(), &mut output);
    let mut active = Instant::now();
    loop {
        loop {
            let used = match master::decode(lines.rest()) {
                Ok(Some((request, used))) => {
                    if !answer(request, &shared, &mut stream, &mut output).await {
                        return;
                    }
                    used
                }
                Ok(None) => break,
                Err(error) => {
                    tracing::warn!(peer = ?stream.peer(), %error, "auth master client broke the protocol; closed");
                    return;
                }
            };
            lines.take(used);
            active = Instant::now();
        }
        lines.tidy();
        if !output.is_empty() && !write(&mut stream, &mut output).await {
            return;
        }
        let deadline = lines.deadline().unwrap_or(active + IDLE);
        let read = tokio::select! {
            biased;
            read = lines.fill(&mut stream) => read,
            () = tokio::time::sleep_until(deadline) => return,
            () = shutdown.wait() => return,
        };
        if !matches!(read, Ok(1..)) {
            return;
        }
    }
}

/// Appends the answer; false when the client did not take the first part of a long one.
async fn answer(request: Request<'_>, shared: &Shared, stream: &mut Stream, output: &mut Vec<u8>) -> bool {
    match request {
        Request::Version(_) => {}
        Request::User(lookup) => {
            let outcome = shared.authenticator.account(&name(&lookup), "").await;
            log("user", &lookup, &outcome);
            output.extend(reply::user(lookup.id, &outcome, |account| Place::of(account, &shared.config.mail)));
        }
        Request::Pass(lookup) => {
            let service = lookup.params.find_text("service").unwrap_or_default();
            let outcome = shared.authenticator.account(&name(&lookup), service).await;
            log("pass", &lookup, &outcome);
            output.extend(reply::pass(lookup.id, &outcome));
        }
        Request::List { id, params } => return list(id, &params, shared, stream, output).await,
        Request::CacheFlush { id, users } => {
            let addresses: Vec<_> =
                users.iter().filter_map(|user| shared.authenticator.address(std::str::from_utf8(user).ok()?)).collect();
            if users.is_empty() {
                shared.forget_all();
            }
            addresses.iter().for_each(|address| shared.forget(address));
            Reply::Ok { id, count: addresses.len() as u64 }.encode(output);
        }
    }
    true
}

fn name(lookup: &Lookup<'_>) -> String {
    String::from_utf8_lossy(&lookup.user).into_owned()
}

fn log(what: &'static str, lookup: &Lookup<'_>, outcome: &Result<mailsql_core::Verdict, Unavailable>) {
    let service = lookup.params.find_text("service").unwrap_or_default();
    match outcome {
        Ok(verdict) => {
            tracing::debug!(target: "userdb", what, user = ?name(lookup), service, result = verdict.word());
        }
        Err(trouble) => {
            tracing::warn!(target: "userdb", what, user = ?name(lookup), service, reason = trouble.reason(), "lookup failed");
        }
    }
}

/// All accounts that take mail, as far as their names fit the mask.
async fn list(id: u32, params: &Fields<'_>, shared: &Shared, stream: &mut Stream, output: &mut Vec<u8>) -> bool {
    let mask = params.find("user").unwrap_or(b"*");
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |age| age.as_secs());
    let now = i64::try_from(now).unwrap_or(i64::MAX);
    let accounts = match shared.store.list_users().await {
        Ok(accounts) => accounts,
        Err(trouble) => {
            tracing::warn!(target: "userdb", what = "list", reason = trouble.reason(), "lookup failed");
            Reply::Done { id, complete: false }.encode(output);
            return true;
        }
    };
    for account in accounts.iter().filter(|account| !account.closed(now)) {
        let user = account.address.as_str().as_bytes();
        if fits(mask, user) {
            Reply::List { id, user: user.into() }.encode(output);
        }
        if output.len() >= WRITE_AT && !write(stream, output).await {
            return false;
        }
    }
    Reply::Done { id, complete: true }.encode(output);
    true
}
