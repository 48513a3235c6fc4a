//! MySQL, MariaDB, and clusters that speak their protocol.
//!
//! Servers are preferred in the order of the url. Each has connections of its own ([`host`]), a bounded queue before
//! them ([`gate`]), a breaker that leaves it alone while it fails ([`breaker`]), and a role that it was asked for
//! ([`health`]). [`choose`] picks one from these; [`faults`] says what a failure means, and whether another server may
//! be tried. A watch looks at each server of a cluster every `health_interval`, and at once after a failure that leaves
//! doubt; a server that stands alone is looked at after failures only.
//!
//! Nothing waits without a deadline: `connect_timeout` for queue and connection, `query_timeout` for an answer, and
//! `total_timeout` over both and over all tries. While there is another server to try, the first try has half of it.
//!
//! Reads after our own changes: for [`PIN`] after a change they go to the server that made it; if it is gone, another
//! node of a Galera cluster is told to catch up first (`wsrep_sync_wait`). No other read pays for that.
//!
//! Oddities of mysql_async 0.37 that shape this: it has no deadlines of its own; a query whose future is dropped costs
//! its connection, which is what we want.

mod breaker;
mod choose;
mod counters;
mod faults;
mod gate;
mod health;
mod host;
mod options;
mod values;
mod watch;

pub use counters::{HostCounters, HostReport, LATENCY_BUCKETS, Latency};
pub use faults::Class;

use crate::query::{Query, Row, Trouble, Value};
use crate::schema::Inventory;
use faults::{Again, Fault};
use health::Role;
use host::Host;
use mailsql_config::{Database, MysqlUrl, Pem};
use mysql_async::prelude::Queryable;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How long reads follow a change of our own. Replicas and Galera nodes are behind by much less, or are broken.
pub const PIN: Duration = Duration::from_secs(10);
/// Tries of one question at most, whatever the number of servers.
const MAX_TRIES: usize = 4;
/// How long making a table or an index may take.
const DEFINE: Duration = Duration::from_secs(600);

/// Deadlines and sizes.
#[derive(Clone, Copy, Debug)]
struct Limits {
    connect: Duration,
    query: Duration,
    total: Duration,
    pool: usize,
    queue: usize,
    health: Duration,
}

/// A server or cluster.
pub struct Mysql {
    cluster: Arc<Cluster>,
    watched: AtomicBool,
}

struct Cluster {
    hosts: Vec<Host>,
    limits: Limits,
    pin: Mutex<Option<Pin>>,
}

/// Where reads go after a change of our own.
#[derive(Clone, Copy, Debug)]
struct Pin {
    /// The server that made the change; `None` when another process of ours did, by whoever is the writer.
    at: Option<usize>,
    since: Instant,
}

impl Mysql {
    /// Names the servers; connections are made when first needed.
    ///
    /// # Errors
    /// A line for the administrator when a certificate or key cannot be read.
    pub fn new(database: &Database, url: &MysqlUrl, password: Option<&str>) -> Result<Self, String> {
        options::choose_provider();
        let read = database.pem.ca.is_some() || database.pem.cert.is_some();
        let pem = if read { database.pem.clone() } else { Pem::read(url).map_err(|error| error.to_string())? };
        let limits = Limits {
            connect: database.connect_timeout.0,
            query: database.query_timeout.0,
            total: database.total_timeout.0.max(database.connect_timeout.0),
            pool: database.pool_max,
            queue: database.queue_max,
            health: database.health_interval.0.max(watch::SHORTEST),
        };
        let hosts = url.endpoints.iter().map(|endpoint| {
            let options = options::options(database, url, endpoint, &pem, password);
            Host::new(endpoint.clone(), url.tls, options, limits)
        });
        let cluster = Cluster { hosts: hosts.collect(), limits, pin: Mutex::new(None) };
        Ok(Self { cluster: Arc::new(cluster), watched: AtomicBool::new(false) })
    }

    /// Runs a statement that reads.
    ///
    /// # Errors
    /// [`Trouble`].
    pub async fn query(&self, query: &Query, values: Vec<Value>) -> Result<Vec<Row>, Trouble> {
        self.cluster().read(query, &values).await
    }

    /// Runs a statement that changes something, and says how many rows it met. It is tried a second time only where
    /// the first is known to have done nothing.
    ///
    /// # Errors
    /// [`Trouble`].
    pub async fn execute(&self, query: &Query, values: Vec<Value>) -> Result<u64, Trouble> {
        self.cluster().write(query, &values).await
    }

    /// Runs one of our own statements that make tables.
    ///
    /// # Errors
    /// [`Trouble`].
    pub async fn define(&self, sql: &str) -> Result<(), Trouble> {
        let cluster = self.cluster();
        let at = cluster.writer(&[]).await?;
        let Some(host) = cluster.hosts.get(at) else { return Err(cluster.nobody(true)) };
        let mut connection = host.connect_apart(cluster.limits.connect).await.map_err(|fault| fault.trouble)?;
        // A procedure cannot be made by a prepared statement. The text is a constant of ours.
        let outcome = match tokio::time::timeout(DEFINE, connection.query_drop(sql)).await {
            Ok(outcome) => outcome.map_err(|error| Fault::asking(&host.endpoint, &error).trouble),
            Err(_) => Err(Fault::no_answer(&host.endpoint, DEFINE).trouble),
        };
        // An error means that it is closed already.
        let _ = tokio::time::timeout(cluster.limits.connect, connection.disconnect()).await;
        cluster.follow(Some(at));
        outcome
    }

    /// The tables, columns and procedures that our account can see.
    ///
    /// # Errors
    /// [`Trouble`].
    pub async fn inventory(&self) -> Result<Inventory, Trouble> {
        const COLUMNS: &str = "SELECT table_name AS t, column_name AS c FROM information_schema.columns \
                               WHERE table_schema = DATABASE()";
        const PROCEDURES: &str = "SELECT routine_name AS t FROM information_schema.routines \
                                  WHERE routine_schema = DATABASE() AND routine_type = 'PROCEDURE'";
        let query = |sql: &str| Query { name: "inventory".into(), sql: sql.into(), parameters: Box::default() };
        let mut inventory = Inventory::new();
        for row in self.query(&query(COLUMNS), Vec::new()).await? {
            if let (Some(table), Some(column)) = (row.text("t"), row.text("c")) {
                inventory.insert(table.to_lowercase());
                inventory.insert(format!("{table}.{column}").to_lowercase());
            }
        }
        for row in self.query(&query(PROCEDURES), Vec::new()).await? {
            inventory.extend(row.text("t").map(|name| format!("procedure {}", name.to_lowercase())));
        }
        Ok(inventory)
    }

    /// Another process of ours has changed something: reads go to the writer for a while, as after a change made here.
    pub fn follow_writer(&self) {
        self.cluster.follow(None);
    }

    /// Every server as it stands now, with its counts.
    #[must_use]
    pub fn report(&self) -> Vec<HostReport<'_>> {
        let now = Instant::now();
        self.cluster.hosts.iter().map(|host| host.report(now)).collect()
    }

    /// The cluster, with its watch begun: that needs the runtime, which is there when the first question is asked.
    fn cluster(&self) -> &Cluster {
        if !self.watched.swap(true, Ordering::Relaxed) {
            watch::begin(&self.cluster);
        }
        &self.cluster
    }
}

impl Cluster {
    async fn read(&self, query: &Query, values: &[Value]) -> Result<Vec<Row>, Trouble> {
        let end = Instant::now() + self.limits.total;
        let mut failed = vec![0_u8; self.hosts.len()];
        let mut last = None;
        for _ in 0..MAX_TRIES.min(self.hosts.len() + 1) {
            let pinned = self.pinned().await;
            let now = Instant::now();
            let Some(at) = choose::reader(&self.candidates(now, &failed), pinned) else { break };
            let Some(host) = self.hosts.get(at) else { break };
            if now >= end || !host.admit(now) {
                break;
            }
            let mut without = self.candidates(now, &failed);
            without.remove(at);
            let another = choose::reader(&without, None).is_some();
            let until = if another { now + (end - now) / 2 } else { end };
            let fresh = pinned.is_some_and(|pinned| pinned != at) && host.is_galera();
            match host.query(query, values, until, fresh).await {
                Ok(rows) => return Ok(rows),
                // A latin1 column cannot hold the name that is looked for: then no row is called so, for certain.
                Err(fault) if fault.class == Class::Charset && !values.iter().all(is_ascii) => return Ok(Vec::new()),
                Err(fault) => {
                    host.blame(&fault);
                    if fault.again == Again::No {
                        return Err(fault.trouble);
                    }
                    host.counters.retried.fetch_add(1, Ordering::Relaxed);
                    if let Some(count) = failed.get_mut(at) {
                        *count += 1;
                    }
                    last = Some(fault.trouble);
                }
            }
        }
        Err(last.unwrap_or_else(|| self.nobody(false)))
    }

    async fn write(&self, query: &Query, values: &[Value]) -> Result<u64, Trouble> {
        let end = Instant::now() + self.limits.total;
        let mut failed = vec![0_u8; self.hosts.len()];
        let mut last = None;
        for _ in 0..MAX_TRIES.min(self.hosts.len() + 1) {
            let at = match self.writer(&failed).await {
                Ok(at) => at,
                Err(trouble) => return Err(last.unwrap_or(trouble)),
            };
            let now = Instant::now();
            let Some(host) = self.hosts.get(at) else { break };
            if now >= end || !host.admit(now) {
                break;
            }
            match host.execute(query, values, end).await {
                Ok(met) => {
                    self.follow(Some(at));
                    return Ok(met);
                }
                Err(fault) => {
                    host.blame(&fault);
                    if fault.again == Again::Reads {
                        // It may have been done all the same: whoever reads now looks where it would be.
                        self.follow(Some(at));
                    }
                    if fault.again != Again::Any {
                        return Err(fault.trouble);
                    }
                    host.counters.retried.fetch_add(1, Ordering::Relaxed);
                    if let Some(count) = failed.get_mut(at) {
                        *count += 1;
                    }
                    last = Some(fault.trouble);
                }
            }
        }
        Err(last.unwrap_or_else(|| self.nobody(true)))
    }

    /// The server for a write. Servers of unknown role are looked at until one is known to be a writer.
    async fn writer(&self, failed: &[u8]) -> Result<usize, Trouble> {
        for _ in 0..=self.hosts.len() {
            let candidates = self.candidates(Instant::now(), failed);
            let Some(at) = choose::writer(&candidates) else { break };
            let Some(host) = self.hosts.get(at) else { break };
            if host.role() == Some(Role::Writer) {
                return Ok(at);
            }
            // Its failure is its reason, told below if nobody else writes.
            let _ = host.examine(&mut None).await;
        }
        Err(self.nobody(true))
    }

    fn candidates(&self, now: Instant, failed: &[u8]) -> Vec<choose::Candidate> {
        let failed = failed.iter().copied().chain(std::iter::repeat(0));
        self.hosts.iter().zip(failed).map(|(host, failed)| host.candidate(now, failed)).collect()
    }

    /// The server that reads are to go to, if any. Who the writer is must be known from after the change.
    async fn pinned(&self) -> Option<usize> {
        let pin = (*self.pin.lock().unwrap_or_else(PoisonError::into_inner))?;
        if pin.since.elapsed() >= PIN {
            return None;
        }
        if pin.at.is_some() {
            return pin.at;
        }
        for _ in 0..=self.hosts.len() {
            let at = choose::writer(&self.candidates(Instant::now(), &[]))?;
            let host = self.hosts.get(at)?;
            if host.role_since(pin.since) == Some(Role::Writer) {
                return Some(at);
            }
            // Its failure only means that it is not the one.
            let _ = host.examine(&mut None).await;
        }
        None
    }

    fn follow(&self, at: Option<usize>) {
        // Where there is one server only, reads need no telling.
        if self.hosts.len() > 1 {
            *self.pin.lock().unwrap_or_else(PoisonError::into_inner) = Some(Pin { at, since: Instant::now() });
        }
    }

    /// The trouble when no server can be asked: every server's own.
    fn nobody(&self, write: bool) -> Trouble {
        let excuses: Vec<String> = self.hosts.iter().map(|host| host.excuse(write)).collect();
        Trouble::Away(if excuses.is_empty() { "no database server is named".into() } else { excuses.join("; ") })
    }
}

/// Whether every character set has the text.
fn is_ascii(value: &Value) -> bool {
    !matches!(value, Value::Text(text) if !text.is_ascii())
}
