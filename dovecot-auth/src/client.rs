//! A connection of the client protocol: any number of exchanges, several at a time.
//!
//! Postfix keeps one for the life of an smtpd process; Exim makes one for each AUTH. Whatever is decided is decided
//! beside the connection, and answered in the order in which it is ready.
//!
//! What ends a connection: a malformed line, AUTH before CPID, an id that is open already, no CPID within
//! [`HANDSHAKE_DEADLINE`], a line that takes longer than [`LINE_DEADLINE`](crate::lines::LINE_DEADLINE), silence with
//! nothing open for [`IDLE`]; and trouble on our side, to a client that knows it in no other form (`reply`).
//!
//! Oddities:
//! - Postfix abandons an exchange whose mail client went away, without CANCEL. So exchanges that wait for CONT are
//!   dropped after [`EXCHANGE_DEADLINE`], the oldest when there are more than [`MAX_WAITING`], and in silence: Postfix
//!   would skip a FAIL for an id that it has given up.
//! - A CONT for an id that is not open gets a FAIL, as from Dovecot.
//! - Postfix keeps a connection that was closed until a write fails, and then makes a new one without a word to its
//!   client. So at shutdown a connection by Unix socket is shut for reading first: what the client had sent is answered,
//!   what it sends later fails at its end and goes to the daemon that took over.

use crate::decide::{Asked, decide, refuse};
use crate::lines::{Lines, write};
use crate::reply::fail;
use mailsql_config::{Auth, Mechanism as Offered, Outage};
use mailsql_daemon::{Shared, Shutdown, Stream};
use mailsql_proto::dovecot_auth::client::{self, Code, Hello, Mechanism, Request};
use mailsql_proto::dovecot_auth::sasl::{self, Exchange, Fault, Step};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::Instant;

/// Longest wait for CPID.
const HANDSHAKE_DEADLINE: Duration = Duration::from_secs(30);
/// The same, once the daemon is to end: who connected in the last moment has sent it by then.
const LAST_HANDSHAKE: Duration = Duration::from_secs(2);
/// Longest wait for CONT. Postfix gives its mail client 300 s.
const EXCHANGE_DEADLINE: Duration = Duration::from_secs(300);
/// Longest silence of a client with nothing open. A closed connection may cost Postfix's next mail client a 454 where
/// TCP is between us, so this only ends what nobody will ever use again.
const IDLE: Duration = Duration::from_secs(24 * 3600);
/// Logins of one connection that are decided at once; more wait unread.
const MAX_DECIDING: usize = 64;
/// Exchanges of one connection that wait for CONT; the oldest goes when there is one more.
const MAX_WAITING: usize = 32;

/// What the configuration says of client connections.
pub(crate) struct Rules {
    mechanisms: Vec<sasl::Mechanism>,
    require_secured: bool,
    failure_delay: Duration,
    outage: Outage,
}

impl Rules {
    pub(crate) fn of(section: &Auth) -> Self {
        let mechanism = |offered: &Offered| match offered {
            Offered::Plain => sasl::Mechanism::Plain,
            Offered::Login => sasl::Mechanism::Login,
        };
        let mut mechanisms: Vec<_> = section.mechanisms.iter().map(mechanism).collect();
        mechanisms.dedup();
        Self {
            mechanisms,
            require_secured: section.require_secured,
            failure_delay: section.failure_delay.0,
            outage: section.unavailable,
        }
    }

    fn hello(&self, out: &mut Vec<u8>) {
        static CONNECTIONS: AtomicU32 = AtomicU32::new(1);
        let offered: Vec<_> = self
            .mechanisms
            .iter()
            .map(|mechanism| match mechanism {
                sasl::Mechanism::Plain => Mechanism::PLAIN,
                sasl::Mechanism::Login => Mechanism::LOGIN,
            })
            .collect();
        let mut cookie = [0; 16];
        mailsql_password::os_random(&mut cookie);
        let cuid = CONNECTIONS.fetch_add(1, Ordering::Relaxed);
        Hello { mechanisms: &offered, spid: std::process::id(), cuid, cookie }.encode(out);
    }
}

/// A client that broke the protocol, in words for the log.
struct Broken(&'static str);

struct Open {
    id: u32,
    state: State,
}

enum State {
    /// Being decided, or a refusal that is held back.
    Deciding(AbortHandle),
    /// For CONT.
    Waiting { exchange: Exchange, asked: Asked, since: Instant },
}

struct Connection {
    shared: Arc<Shared>,
    rules: Arc<Rules>,
    minor: u32,
    pid: Option<u32>,
    open: Vec<Open>,
    deciding: JoinSet<Option<Vec<u8>>>,
}

/// Serves one client.
pub(crate) async fn connection(mut stream: Stream, shared: Arc<Shared>, rules: Arc<Rules>, mut shutdown: Shutdown) {
    let mut lines = Lines::new();
    let mut output = Vec::new();
    rules.hello(&mut output);
    let mut handshake = Instant::now() + HANDSHAKE_DEADLINE;
    let mut this = Connection { shared, rules, minor: 0, pid: None, open: Vec::new(), deciding: JoinSet::new() };
    let (mut ending, mut ended) = (false, false);
    loop {
        if let Err(Broken(what)) = this.take(&mut lines, &mut output) {
            tracing::warn!(peer = ?stream.peer(), what, "auth client broke the protocol; connection closed");
            return;
        }
        if !output.is_empty() && !write(&mut stream, &mut output).await {
            return;
        }
        if ended && this.deciding.is_empty() {
            return;
        }
        if ending
            && !ended
            && this.pid.is_some()
            && !this.waits()
            && !stream.finish_reading()
            && this.deciding.is_empty()
        {
            return;
        }
        let deadline = this.deadline(&lines, handshake);
        tokio::select! {
            biased;
            Some(decided) = this.deciding.join_next_with_id(), if !this.deciding.is_empty() => match decided {
                Ok((task, Some(answer))) if this.close(task) => output.extend_from_slice(&answer),
                Ok((task, None)) if this.close(task) => return,
                // Cancelled, if only just.
                Ok(_) => {}
                Err(error) if error.is_cancelled() => {}
                Err(_) => return,
            },
            read = lines.fill(&mut stream), if !ended && this.deciding.len() < MAX_DECIDING => match read {
                Ok(1..) => {}
                // Whoever has shut down one direction only may still read what was asked before.
                _ => ended = true,
            },
            () = tokio::time::sleep_until(deadline), if !ended => {
                if this.expired(&lines, handshake) {
                    return;
                }
            }
            () = shutdown.wait(), if !ending => {
                ending = true;
                handshake = handshake.min(Instant::now() + LAST_HANDSHAKE);
            }
        }
    }
}

impl Connection {
    /// Takes all whole lines, as far as there is room for what they ask.
    fn take(&mut self, lines: &mut Lines, output: &mut Vec<u8>) -> Result<(), Broken> {
        while self.deciding.len() < MAX_DECIDING {
            let used = match client::decode(lines.rest()) {
                Ok(Some((request, used))) => {
                    self.request(request, output)?;
                    used
                }
                Ok(None) => break,
                Err(error) => {
                    tracing::debug!(%error, "malformed line");
                    return Err(Broken("malformed line"));
                }
            };
            lines.take(used);
        }
        lines.tidy();
        Ok(())
    }

    fn request(&mut self, request: Request<'_>, output: &mut Vec<u8>) -> Result<(), Broken> {
        match request {
            Request::Version(minor) => self.minor = minor,
            Request::Cpid(pid) => match self.pid.replace(pid) {
                None => {}
                Some(_) => return Err(Broken("CPID twice")),
            },
            Request::Auth(auth) => {
                if self.pid.is_none() {
                    return Err(Broken("AUTH before CPID"));
                }
                if self.open.iter().any(|open| open.id == auth.id) {
                    return Err(Broken("AUTH with an id that is open"));
                }
                let asked = Asked::of(&auth, self.rules.outage);
                let known =
                    sasl::Mechanism::find(&auth.mechanism).filter(|known| self.rules.mechanisms.contains(known));
                match known {
                    None => self.refuse(auth.id, None, b"mechanism not offered"),
                    Some(_) if self.rules.require_secured && !asked.is_safe() => {
                        self.refuse(auth.id, None, b"passwords are only taken over a secured connection");
                    }
                    Some(mechanism) => {
                        let (exchange, step) = Exchange::start(mechanism, auth.initial_response(self.minor));
                        self.step(auth.id, exchange, step, asked, output);
                    }
                }
            }
            Request::Cont { id, data } => {
                let Some(at) = self.open.iter().position(|open| open.id == id) else {
                    fail(id, None, b"authentication request timed out").encode(output);
                    return Ok(());
                };
                match self.open.swap_remove(at).state {
                    State::Waiting { mut exchange, asked, .. } => {
                        let step = exchange.respond(data);
                        self.step(id, exchange, step, asked, output);
                    }
                    State::Deciding(_) => return Err(Broken("CONT for an exchange that is being decided")),
                }
            }
            Request::Cancel(id) => {
                if let Some(at) = self.open.iter().position(|open| open.id == id)
                    && let State::Deciding(deciding) = self.open.swap_remove(at).state
                {
                    deciding.abort();
                }
            }
        }
        Ok(())
    }

    fn step(&mut self, id: u32, exchange: Exchange, step: Step, asked: Asked, output: &mut Vec<u8>) {
        match step {
            Step::Challenge(challenge) => {
                client::Reply::Cont { id, data: challenge.as_bytes() }.encode(output);
                if self.waiting().count() >= MAX_WAITING
                    && let Some(oldest) = self.waiting().min_by_key(|(_, since)| *since).map(|(id, _)| id)
                {
                    self.open.retain(|open| open.id != oldest);
                }
                self.open.push(Open { id, state: State::Waiting { exchange, asked, since: Instant::now() } });
            }
            Step::Credentials(credentials) => {
                let (shared, delay) = (Arc::clone(&self.shared), self.rules.failure_delay);
                let deciding = self.deciding.spawn(decide(shared, asked, id, credentials, delay));
                self.open.push(Open { id, state: State::Deciding(deciding) });
            }
            Step::Failed(Fault::Base64) => self.refuse(id, Some(Code::InvalidBase64), b"invalid base64 data"),
            Step::Failed(fault) => {
                tracing::info!(id, %fault, "exchange failed");
                self.refuse(id, None, b"not a valid response");
            }
        }
    }

    fn refuse(&mut self, id: u32, code: Option<Code>, reason: &'static [u8]) {
        let (reply, delay) = (fail(id, code, reason), self.rules.failure_delay);
        let deciding = self.deciding.spawn(refuse(reply, delay));
        self.open.push(Open { id, state: State::Deciding(deciding) });
    }

    /// Whether the task decided an exchange that is still open; it is not any more.
    fn close(&mut self, task: tokio::task::Id) -> bool {
        let mine = |open: &Open| matches!(&open.state, State::Deciding(deciding) if deciding.id() == task);
        self.open.iter().position(mine).map(|at| self.open.swap_remove(at)).is_some()
    }

    /// Exchanges that wait for CONT, and since when.
    fn waiting(&self) -> impl Iterator<Item = (u32, Instant)> {
        self.open.iter().filter_map(|open| match &open.state {
            State::Waiting { since, .. } => Some((open.id, *since)),
            State::Deciding(_) => None,
        })
    }

    fn waits(&self) -> bool {
        self.waiting().next().is_some()
    }

    /// When there is something to end.
    fn deadline(&self, lines: &Lines, handshake: Instant) -> Instant {
        let exchange = self.waiting().map(|(_, since)| since + EXCHANGE_DEADLINE).min();
        let handshake = self.pid.is_none().then_some(handshake);
        // A line that is kept waiting by us is not late.
        let line = lines.deadline().filter(|_| self.deciding.len() < MAX_DECIDING);
        let first = [line, handshake, exchange].into_iter().flatten().min();
        first.unwrap_or_else(|| Instant::now() + IDLE)
    }

    /// Drops exchanges that took too long; whether the connection did.
    fn expired(&mut self, lines: &Lines, handshake: Instant) -> bool {
        let now = Instant::now();
        let over = |deadline: Option<Instant>| deadline.is_some_and(|deadline| deadline <= now);
        let line = lines.deadline().filter(|_| self.deciding.len() < MAX_DECIDING);
        if over(line) || (self.pid.is_none() && handshake <= now) {
            return true;
        }
        let open = self.open.len();
        self.open
            .retain(|open| !matches!(open.state, State::Waiting { since, .. } if since + EXCHANGE_DEADLINE <= now));
        // With nothing to drop it was the long silence.
        open == self.open.len() && self.deciding.is_empty()
    }
}
