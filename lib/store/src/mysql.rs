//! MySQL, MariaDB, and clusters that speak their protocol.
//!
//! Servers are tried in the order of the url. One that fails is left alone for [`REST`] (with jitter, so that many
//! daemons do not come back at one moment); when all rest, the one that has rested longest is tried. A read that fails
//! because of the server is asked once more, of another server if there is one. Nothing waits without a deadline: for
//! a connection, for an answer, and for both together.
//!
//! Oddities of mysql_async 0.37 that shape this: it has no deadlines of its own; a query whose future is dropped costs
//! its connection, which is what we want; `reset_connection` would drop the prepared statements at every return.

use crate::query::{Query, Row, Trouble, Value};
use crate::schema::Inventory;
use mailsql_config::{Endpoint, MysqlUrl, Tls};
use mysql_async::prelude::Queryable;
use mysql_async::{Conn, OptsBuilder, Params, Pool, PoolConstraints, PoolOpts, SslOpts, Value as Native};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How long a server that failed is left alone.
const REST: Duration = Duration::from_secs(1);
/// Idle connections are closed after this; servers close them after 8 hours by themselves, load balancers earlier.
const IDLE: Duration = Duration::from_secs(60);
/// Connections are replaced at this age, so that a server that came back gets its share.
const MAX_AGE: Duration = Duration::from_secs(300);
/// Prepared statements kept on a connection.
const STATEMENTS: usize = 64;
/// Longest answer that is read, in bytes.
const MAX_PACKET: usize = 16 << 20;

/// How long things may take.
#[derive(Clone, Copy, Debug)]
pub struct Deadlines {
    /// For a connection to come about, waiting for a free one included.
    pub connect: Duration,
    /// For an answer.
    pub query: Duration,
}

/// A server or cluster.
pub struct Mysql {
    hosts: Vec<Host>,
    deadlines: Deadlines,
}

struct Host {
    endpoint: Endpoint,
    pool: Pool,
    resting_until: Mutex<Option<Instant>>,
}

impl Host {
    fn rests(&self, now: Instant) -> Option<Instant> {
        self.resting_until.lock().unwrap_or_else(PoisonError::into_inner).filter(|until| *until > now)
    }

    fn rest(&self, now: Instant) {
        // Jitter from the address of the lock: no randomness is needed, only difference.
        let jitter = Duration::from_millis((std::ptr::from_ref(self) as usize as u64 >> 4) % 250);
        *self.resting_until.lock().unwrap_or_else(PoisonError::into_inner) = Some(now + REST + jitter);
    }

    fn work(&self) {
        *self.resting_until.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

impl Mysql {
    /// Names the servers; connections are made when first needed.
    #[must_use]
    pub fn new(url: &MysqlUrl, password: Option<&str>, pool_max: usize, deadlines: Deadlines) -> Self {
        let hosts = url.endpoints.iter().map(|endpoint| Host {
            endpoint: endpoint.clone(),
            pool: Pool::new(options(url, endpoint, password, pool_max)),
            resting_until: Mutex::new(None),
        });
        Self { hosts: hosts.collect(), deadlines }
    }

    /// Runs a statement that reads.
    ///
    /// # Errors
    /// [`Trouble`].
    pub async fn query(&self, query: &Query, values: Vec<Value>) -> Result<Vec<Row>, Trouble> {
        let mut last = Trouble::Away("no database server is named".into());
        for (attempt, host) in self.order(Instant::now()).into_iter().cycle().take(2).enumerate() {
            match self.query_host(host, query, values.clone()).await {
                Err(trouble @ Trouble::Away(_)) => {
                    if attempt == 0 && self.hosts.len() == 1 && host.rests(Instant::now()).is_some() {
                        // It could not even be reached; asking again at once would only double the wait.
                        return Err(trouble);
                    }
                    last = trouble;
                }
                outcome => return outcome,
            }
        }
        Err(last)
    }

    /// Runs a statement that changes something, once, and says how many rows it met.
    ///
    /// # Errors
    /// [`Trouble`].
    pub async fn execute(&self, query: &Query, values: Vec<Value>) -> Result<u64, Trouble> {
        let host = self.first()?;
        let mut connection = self.connect(host).await?;
        let done = connection.exec_drop(&*query.sql, parameters(values));
        self.answer(host, done).await?;
        Ok(connection.affected_rows())
    }

    /// Runs one of our own statements that make tables.
    ///
    /// # Errors
    /// [`Trouble`].
    pub async fn define(&self, sql: &str) -> Result<(), Trouble> {
        let host = self.first()?;
        let mut connection = self.connect(host).await?;
        // A procedure cannot be made by a prepared statement. The text is a constant of ours.
        let done = connection.query_drop(sql);
        tokio::time::timeout(Duration::from_secs(600), done)
            .await
            .map_err(|_| Trouble::Away(format!("{}: no answer", host.endpoint)))?
            .map_err(|error| trouble(&host.endpoint, &error))
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

    /// Servers in the order in which they are to be asked: those at work as configured, then those at rest.
    fn order(&self, now: Instant) -> Vec<&Host> {
        let mut order: Vec<&Host> = self.hosts.iter().collect();
        order.sort_by_key(|host| host.rests(now));
        order
    }

    fn first(&self) -> Result<&Host, Trouble> {
        let order = self.order(Instant::now());
        order.first().copied().ok_or_else(|| Trouble::Away("no database server is named".into()))
    }

    async fn query_host(&self, host: &Host, query: &Query, values: Vec<Value>) -> Result<Vec<Row>, Trouble> {
        let mut connection = self.connect(host).await?;
        let rows: Vec<mysql_async::Row> = self.answer(host, connection.exec(&*query.sql, parameters(values))).await?;
        let Some(first) = rows.first() else { return Ok(Vec::new()) };
        let columns: Arc<[Box<str>]> =
            first.columns_ref().iter().map(|column| Box::from(&*column.name_str())).collect();
        rows.into_iter()
            .map(|row| {
                let values = row.unwrap_raw().into_iter().map(|value| plain(value.unwrap_or(Native::NULL)));
                let values = values.collect::<Result<_, Trouble>>()?;
                Ok(Row { columns: Arc::clone(&columns), values })
            })
            .collect()
    }

    async fn connect(&self, host: &Host) -> Result<Conn, Trouble> {
        match tokio::time::timeout(self.deadlines.connect, host.pool.get_conn()).await {
            Ok(Ok(connection)) => {
                host.work();
                Ok(connection)
            }
            Ok(Err(error)) => {
                host.rest(Instant::now());
                // Whatever keeps us out is trouble, not an answer: even a wrong password of ours.
                let text = trouble(&host.endpoint, &error).to_string();
                Err(Trouble::Away(text))
            }
            Err(_) => {
                host.rest(Instant::now());
                Err(Trouble::Away(format!("{}: no connection within {:?}", host.endpoint, self.deadlines.connect)))
            }
        }
    }

    async fn answer<T>(&self, host: &Host, work: impl Future<Output = mysql_async::Result<T>>) -> Result<T, Trouble> {
        match tokio::time::timeout(self.deadlines.query, work).await {
            Ok(outcome) => outcome.map_err(|error| trouble(&host.endpoint, &error)),
            Err(_) => {
                host.rest(Instant::now());
                Err(Trouble::Away(format!("{}: no answer within {:?}", host.endpoint, self.deadlines.query)))
            }
        }
    }
}

fn options(url: &MysqlUrl, endpoint: &Endpoint, password: Option<&str>, pool_max: usize) -> OptsBuilder {
    let constraints = PoolConstraints::new(1, pool_max.max(1)).unwrap_or_default();
    let pool = PoolOpts::default()
        .with_constraints(constraints)
        .with_reset_connection(false)
        .with_inactive_connection_ttl(IDLE)
        .with_abs_conn_ttl(Some(MAX_AGE))
        .with_abs_conn_ttl_jitter(Some(MAX_AGE / 5));
    let options = OptsBuilder::default()
        .user(Some(&url.user))
        .pass(password)
        .db_name(Some(&url.database))
        .prefer_socket(false)
        .tcp_nodelay(true)
        .stmt_cache_size(STATEMENTS)
        .max_allowed_packet(Some(MAX_PACKET))
        .wait_timeout(Some(28_800))
        .client_found_rows(true)
        .pool_opts(pool);
    match endpoint {
        Endpoint::Tcp { host, port } => options.ip_or_hostname(host).tcp_port(*port).ssl_opts(tls(url)),
        Endpoint::Unix(path) => options.socket(Some(path.to_string_lossy())),
    }
}

fn tls(url: &MysqlUrl) -> Option<SslOpts> {
    let mut options = SslOpts::default();
    if let Some(ca) = &url.ca {
        options = options.with_root_certs(vec![ca.clone().into()]).with_disable_built_in_roots(true);
    }
    match url.tls {
        Tls::Off => None,
        Tls::Required => Some(options.with_danger_accept_invalid_certs(true).with_danger_skip_domain_validation(true)),
        Tls::VerifyCa => Some(options.with_danger_skip_domain_validation(true)),
        Tls::VerifyIdentity => Some(options),
    }
}

fn parameters(values: Vec<Value>) -> Params {
    if values.is_empty() {
        return Params::Empty;
    }
    let native = |value| match value {
        Value::Null => Native::NULL,
        Value::Int(number) => Native::Int(number),
        Value::Text(text) => Native::Bytes(text.into_string().into_bytes()),
    };
    Params::Positional(values.into_iter().map(native).collect())
}

fn plain(value: Native) -> Result<Value, Trouble> {
    Ok(match value {
        Native::NULL => Value::Null,
        Native::Int(number) => Value::Int(number),
        Native::UInt(number) => Value::Int(i64::try_from(number).unwrap_or(i64::MAX)),
        Native::Bytes(bytes) => match String::from_utf8(bytes) {
            Ok(text) => Value::Text(text.into()),
            Err(_) => return Err(Trouble::Broken("a column holds bytes that are not UTF-8".into())),
        },
        other => Value::Text(other.as_sql(true).trim_matches('\'').into()),
    })
}

/// What a server's error means for us. Numbers are those of the servers' error lists.
fn trouble(endpoint: &Endpoint, error: &mysql_async::Error) -> Trouble {
    let mysql_async::Error::Server(server) = error else {
        return Trouble::Away(format!("{endpoint}: {error}"));
    };
    let text = format!("{endpoint}: {} ({})", server.message, server.code);
    match server.code {
        // Duplicate key.
        1062 | 1586 => Trouble::Duplicate,
        // Access denied to database, table, column or routine; server is read-only; command denied.
        1044 | 1142 | 1143 | 1227 | 1290 | 1370 | 1792 | 1836 => Trouble::Denied(text),
        // No such table, column or routine.
        1051 | 1054 | 1146 | 1305 => Trouble::Schema(text),
        // Syntax and the like: the statement itself is at fault.
        1064 | 1149 | 1210 => Trouble::Broken(text),
        _ => Trouble::Away(text),
    }
}
