//! One server of the url: its connections, and what is thought of it.

use super::breaker::{Breaker, Pass};
use super::choose::Candidate;
use super::counters::{HostCounters, HostReport};
use super::faults::{Class, Effect, Fault};
use super::gate::Gate;
use super::health::{self, Health, Role};
use super::{Limits, options, values};
use crate::query::{Query, Row, Trouble, Value};
use mailsql_config::{Endpoint, Tls};
use mysql_async::prelude::Queryable;
use mysql_async::{Conn, OptsBuilder, Pool};
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::{Notify, SemaphorePermit};
use tokio::time::timeout_at;

pub(super) struct Host {
    pub(super) endpoint: Endpoint,
    pub(super) counters: HostCounters,
    /// Told when the server is to be looked at now.
    pub(super) look: Arc<Notify>,
    tls: Tls,
    options: OptsBuilder,
    pool: Pool,
    gate: Gate,
    limits: Limits,
    thought: Mutex<Thought>,
}

/// What is thought of a server.
#[derive(Default)]
struct Thought {
    breaker: Breaker,
    health: Option<Health>,
    /// When that was asked for.
    asked: Option<Instant>,
    /// Why it was last given up.
    reason: Option<String>,
}

/// A connection, and the place in the gate that goes with it.
pub(super) struct Held<'a> {
    connection: Conn,
    _place: SemaphorePermit<'a>,
}

impl Host {
    pub(super) fn new(endpoint: Endpoint, tls: Tls, options: OptsBuilder, limits: Limits) -> Self {
        let pool = Pool::new(options::limited(options.clone(), limits.query));
        Self {
            endpoint,
            counters: HostCounters::default(),
            look: Arc::new(Notify::new()),
            tls,
            options,
            pool,
            gate: Gate::new(limits.pool, limits.queue),
            limits,
            thought: Mutex::new(Thought::default()),
        }
    }

    fn thought(&self) -> MutexGuard<'_, Thought> {
        self.thought.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn candidate(&self, now: Instant, failed: u8) -> Candidate {
        let thought = self.thought();
        let role = thought.health.as_ref().map(|health| health.role.clone());
        Candidate { pass: thought.breaker.pass(now), role, failed }
    }

    /// Takes the place of the one who probes, where one is due; true where the server is simply in use.
    pub(super) fn admit(&self, now: Instant) -> bool {
        let mut thought = self.thought();
        match thought.breaker.pass(now) {
            Pass::Free => true,
            Pass::Probe => thought.breaker.begin_probe(now),
            Pass::Shut(_) => false,
        }
    }

    /// When the server may be tried again, if it is left alone.
    pub(super) fn shut_until(&self, now: Instant) -> Option<Instant> {
        match self.thought().breaker.pass(now) {
            Pass::Free => None,
            Pass::Probe => Some(now),
            Pass::Shut(until) => Some(until),
        }
    }

    pub(super) fn is_galera(&self) -> bool {
        self.thought().health.as_ref().is_some_and(|health| health.galera)
    }

    pub(super) fn role(&self) -> Option<Role> {
        self.thought().health.as_ref().map(|health| health.role.clone())
    }

    /// Its role, if it was asked for that since then.
    pub(super) fn role_since(&self, then: Instant) -> Option<Role> {
        let thought = self.thought();
        let recent = thought.asked.is_some_and(|asked| asked >= then);
        thought.health.as_ref().filter(|_| recent).map(|health| health.role.clone())
    }

    /// Why the server cannot be asked for a read (or a write) now.
    pub(super) fn excuse(&self, write: bool) -> String {
        let thought = self.thought();
        match (&thought.health, &thought.reason) {
            (Some(Health { role: Role::Nothing(why), .. }), _) => format!("{}: {why}", self.endpoint),
            (Some(Health { role: Role::Reader(why), .. }), _) if write => {
                format!("{}: takes no writes: {why}", self.endpoint)
            }
            (_, Some(reason)) => reason.clone(),
            _ => format!("{}: left alone for a moment", self.endpoint),
        }
    }

    pub(super) fn report(&self, now: Instant) -> HostReport<'_> {
        let thought = self.thought();
        let role = match thought.health.as_ref().map(|health| &health.role) {
            None => "unknown",
            Some(Role::Writer) => "writer",
            Some(Role::Reader(_)) => "reader",
            Some(Role::Nothing(_)) => "nothing",
        };
        HostReport {
            endpoint: self.endpoint.to_string(),
            breaker: thought.breaker.word(now),
            role,
            open: self.pool.metrics().connection_count.load(Ordering::Relaxed),
            in_use: self.gate.in_use(),
            limit: self.gate.limit(),
            waiting: self.gate.waiting(),
            counters: &self.counters,
        }
    }

    /// The server answered.
    pub(super) fn worked(&self) {
        let mut thought = self.thought();
        if thought.breaker.succeeded(Instant::now()) {
            thought.reason = None;
            drop(thought);
            tracing::info!(host = %self.endpoint, "database server is back");
        }
    }

    /// Draws the conclusions from a failure.
    pub(super) fn blame(&self, fault: &Fault) {
        self.counters.error(fault.class);
        match fault.effect {
            Effect::None => {}
            Effect::Suspect => self.look.notify_one(),
            Effect::Away => self.give_up(&fault.trouble.to_string()),
            Effect::NotReady => self.demote(Role::Nothing(fault.trouble.to_string())),
            Effect::ReadOnly => self.demote(Role::Reader(fault.trouble.to_string())),
        }
    }

    fn give_up(&self, reason: &str) {
        let mut thought = self.thought();
        let chance = RandomState::new().hash_one(0_u8);
        let was_in_use = thought.breaker.failed(Instant::now(), chance);
        thought.reason = Some(reason.to_owned());
        // It may come back as something else.
        thought.health = None;
        drop(thought);
        if was_in_use {
            self.counters.opened.fetch_add(1, Ordering::Relaxed);
            tracing::warn!(host = %self.endpoint, %reason, "database server is left alone for a while");
        }
        self.look.notify_one();
    }

    fn demote(&self, role: Role) {
        let mut thought = self.thought();
        let galera = thought.health.as_ref().is_some_and(|health| health.galera);
        thought.health = Some(Health { role, galera });
        drop(thought);
        self.look.notify_one();
    }

    /// A connection, by `until` at the latest.
    pub(super) async fn connect(&self, until: Instant) -> Result<Held<'_>, Fault> {
        let begun = Instant::now();
        let end = until.min(begun + self.limits.connect);
        let queue = timeout_at(end.into(), self.gate.enter()).await;
        let place = match queue {
            Ok(Some(place)) => place,
            Ok(None) => return Err(Fault::crowded(&self.endpoint, "too many questions wait for a connection")),
            Err(_) => return Err(Fault::crowded(&self.endpoint, "all connections are in use")),
        };
        match timeout_at(end.into(), self.pool.get_conn()).await {
            Ok(Ok(connection)) => Ok(Held { connection, _place: place }),
            Ok(Err(error)) => Err(Fault::connecting(&self.endpoint, self.tls, &error)),
            // Much of the time may have gone by in the queue, which is no fault of the server.
            Err(_) if begun.elapsed() < self.limits.connect => {
                Err(Fault::crowded(&self.endpoint, "no connection in time"))
            }
            Err(_) => Err(Fault::no_connection(&self.endpoint, self.limits.connect)),
        }
    }

    /// Runs a statement that reads. `fresh`: what the cluster has agreed on before must be seen.
    pub(super) async fn query(
        &self,
        query: &Query,
        given: &[Value],
        until: Instant,
        fresh: bool,
    ) -> Result<Vec<Row>, Fault> {
        let Held { mut connection, _place } = self.connect(until).await?;
        let work = async {
            if !fresh {
                return connection.exec(&*query.sql, values::parameters(given)).await;
            }
            connection.query_drop("SET SESSION wsrep_sync_wait = 1").await?;
            let rows = connection.exec(&*query.sql, values::parameters(given)).await;
            connection.query_drop("SET SESSION wsrep_sync_wait = 0").await?;
            rows
        };
        let rows: Vec<mysql_async::Row> = match self.answer(work, until).await {
            Ok(rows) => rows,
            Err(fault) => {
                self.discard(connection);
                return Err(fault);
            }
        };
        values::rows(rows).map_err(Fault::broken)
    }

    /// Runs a statement that changes something, and says how many rows it met.
    pub(super) async fn execute(&self, query: &Query, given: &[Value], until: Instant) -> Result<u64, Fault> {
        let Held { mut connection, _place } = self.connect(until).await?;
        let work = connection.exec_drop(&*query.sql, values::parameters(given));
        match self.answer(work, until).await {
            Ok(()) => Ok(connection.affected_rows()),
            Err(fault) => {
                self.discard(connection);
                Err(fault)
            }
        }
    }

    async fn answer<T>(&self, work: impl Future<Output = mysql_async::Result<T>>, until: Instant) -> Result<T, Fault> {
        let begun = Instant::now();
        let end = until.min(begun + self.limits.query);
        let outcome = match timeout_at(end.into(), work).await {
            Ok(outcome) => outcome.map_err(|error| Fault::asking(&self.endpoint, &error)),
            Err(_) => Err(Fault::no_answer(&self.endpoint, end.saturating_duration_since(begun))),
        };
        // A connection from the pool proves nothing, an answer does, and be it an error of the statement's.
        if outcome.as_ref().map_or_else(|fault| fault.effect == Effect::None, |_| true) {
            self.worked();
        }
        if outcome.is_ok() {
            self.counters.answered.fetch_add(1, Ordering::Relaxed);
            self.counters.latency.count(begun.elapsed());
        }
        outcome
    }

    /// Closes a connection instead of giving it back: behind a proxy it may be tied to the server that failed.
    fn discard(&self, connection: Conn) {
        let patience = self.limits.connect;
        tokio::spawn(async move {
            // An error means that it is closed already.
            let _ = tokio::time::timeout(patience, connection.disconnect()).await;
        });
    }

    /// A connection apart from the pool and without a statement limit, for long work.
    pub(super) async fn connect_apart(&self, patience: Duration) -> Result<Conn, Fault> {
        match tokio::time::timeout(patience, Conn::new(self.options.clone())).await {
            Ok(Ok(connection)) => Ok(connection),
            Ok(Err(error)) => Err(Fault::connecting(&self.endpoint, self.tls, &error)),
            Err(_) => Err(Fault::no_connection(&self.endpoint, patience)),
        }
    }

    /// Looks at the server's state, on `kept` if that still works, and thinks of it accordingly.
    pub(super) async fn examine(&self, kept: &mut Option<Conn>) -> Result<(), Trouble> {
        let patience = self.limits.connect;
        let asked = Instant::now();
        let old = kept.take();
        let had = old.is_some();
        let mut outcome = self.ask_health(old, patience).await;
        // A connection that was idle may have died since, with the server well.
        if had && outcome.as_ref().is_err_and(|fault| fault.effect == Effect::Suspect && fault.class != Class::Timeout)
        {
            outcome = self.ask_health(None, patience).await;
        }
        match outcome {
            Ok((connection, health)) => {
                *kept = Some(connection);
                self.worked();
                let mut thought = self.thought();
                let before = thought.health.replace(health.clone());
                thought.asked = Some(asked);
                drop(thought);
                if before.as_ref().is_some_and(|before| before.role != health.role) {
                    tracing::info!(host = %self.endpoint, role = ?health.role, "database server has another role");
                }
                Ok(())
            }
            Err(fault) => {
                self.counters.error(fault.class);
                // Here no doubt is left: who does not answer this does not answer.
                match fault.effect {
                    // It is there, and too busy for us: questions find out for themselves.
                    Effect::None => self.worked(),
                    Effect::NotReady => self.demote(Role::Nothing(fault.trouble.to_string())),
                    _ => self.give_up(&fault.trouble.to_string()),
                }
                Err(fault.trouble)
            }
        }
    }

    async fn ask_health(&self, connection: Option<Conn>, patience: Duration) -> Result<(Conn, Health), Fault> {
        let mut connection = match connection {
            Some(connection) => connection,
            None => self.connect_apart(patience).await?,
        };
        let work = async {
            let mut answers: Vec<mysql_async::Row> = connection.query(health::STATUS).await?;
            answers.extend(connection.query::<mysql_async::Row, _>(health::VARIABLES).await?);
            Ok(answers)
        };
        let rows = match tokio::time::timeout(patience, work).await {
            Ok(rows) => rows.map_err(|error| Fault::asking(&self.endpoint, &error))?,
            Err(_) => return Err(Fault::no_answer(&self.endpoint, patience)),
        };
        let text = |row: &mysql_async::Row, at: usize| row.get_opt::<String, _>(at)?.ok();
        let pairs: Vec<_> = rows.iter().filter_map(|row| Some((text(row, 0)?, text(row, 1)?))).collect();
        Ok((connection, Health::judge(&pairs)))
    }
}
