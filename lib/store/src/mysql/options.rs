//! How connections are made: limits, encryption, what a new connection is told.
//!
//! TLS is rustls with ring. `required` encrypts and looks at no certificate; `verify-ca` wants a certificate from a
//! trusted authority, for whatever name; `verify-identity` wants it for the host's name as the url has it (an address
//! must stand in the certificate as an address). None of them falls back to an open connection. A Unix socket is never
//! encrypted: it does not leave the host.
//!
//! Oddities:
//! - mysql_async 0.37 skips the check of the name only where the text of rustls' error holds `NotValidForName`; rustls
//!   0.23.46 words that error otherwise, but quotes the name it was asked to check. So `verify-ca` asks for a name that
//!   is that word. Should either change, certificates are refused, never let in, and a test against a server notices.
//!   The chain is checked before the name, and no other error text holds the name.
//! - `pool_opts`: a reset at each return would drop prepared statements and double the time of a lookup.
//! - The statement limit: a query whose asker has gone would otherwise go on in the server. MariaDB counts seconds,
//!   MySQL milliseconds (and reads only). A server or proxy that takes neither is used without.

use mailsql_config::{Database, Endpoint, MysqlUrl, Pem, Tls};
use mysql_async::prelude::Queryable;
use mysql_async::{ClientIdentity, Conn, OptsBuilder, PoolConstraints, PoolOpts, SslOpts};
use std::time::Duration;

/// Idle connections beyond the first are closed after this; load balancers do so without a word after minutes.
const IDLE: Duration = Duration::from_secs(60);
/// How long a server keeps a connection that we no longer use, in seconds: twice our own limit.
const SERVER_IDLE: u64 = 120;
/// The kernel asks a silent server after this whether it is there.
const KEEPALIVE: Duration = Duration::from_secs(30);
/// Prepared statements kept on a connection.
const STATEMENTS: usize = 64;
/// Longest answer that is read, in bytes.
const MAX_PACKET: usize = 16 << 20;
/// How much longer than we wait for an answer the server works on a statement.
const STATEMENT_GRACE: Duration = Duration::from_millis(500);
/// First major version of MariaDB; MySQL and what imitates it stay below.
const MARIADB: u16 = 10;
/// The name that [`Tls::VerifyCa`] asks for: see above.
const ANY_NAME: &str = "NotValidForName.invalid";

/// Installs ring as the process's provider, unless the process has chosen before.
pub(super) fn choose_provider() {
    if rustls::crypto::CryptoProvider::get_default().is_none() {
        // Somebody else may have been first in the meantime, which is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
    }
}

/// Options for one server.
pub(super) fn options(
    database: &Database,
    url: &MysqlUrl,
    endpoint: &Endpoint,
    pem: &Pem,
    password: Option<&str>,
) -> OptsBuilder {
    let age = database.connection_max_age.0;
    let pool = PoolOpts::default()
        .with_constraints(PoolConstraints::new(1, database.pool_max.max(1)).unwrap_or_default())
        .with_reset_connection(false)
        .with_inactive_connection_ttl(IDLE)
        .with_ttl_check_interval(IDLE / 4)
        .with_abs_conn_ttl(Some(age))
        .with_abs_conn_ttl_jitter(Some(age / 5));
    let options = OptsBuilder::default()
        .user(Some(&url.user))
        .pass(password)
        .db_name(Some(&url.database))
        .prefer_socket(false)
        .tcp_nodelay(true)
        .tcp_keepalive(Some(KEEPALIVE))
        .stmt_cache_size(STATEMENTS)
        .max_allowed_packet(Some(MAX_PACKET))
        .wait_timeout(Some(usize::try_from(SERVER_IDLE).unwrap_or(usize::MAX)))
        .client_found_rows(true)
        .pool_opts(pool);
    match endpoint {
        // The name is looked up at each connection, so a name that moves is followed.
        Endpoint::Tcp { host, port } => options.ip_or_hostname(host).tcp_port(*port).ssl_opts(tls(url.tls, pem)),
        Endpoint::Unix(path) => options.socket(Some(path.to_string_lossy())),
    }
}

/// The same, with each new connection told to give up statements that we no longer wait for.
pub(super) fn limited(options: OptsBuilder, query: Duration) -> OptsBuilder {
    let limit = query + STATEMENT_GRACE;
    options.after_connect(move |connection: &mut Conn| {
        Box::pin(async move {
            let set = if connection.server_version().0 >= MARIADB {
                format!("max_statement_time = {}.{:03}", limit.as_secs(), limit.subsec_millis())
            } else {
                format!("max_execution_time = {}", limit.as_millis())
            };
            match connection.query_drop(format!("SET SESSION {set}, wait_timeout = {SERVER_IDLE}")).await {
                Err(mysql_async::Error::Server(error)) => {
                    tracing::debug!(code = error.code, reason = %error.message, "no statement limit");
                    Ok(())
                }
                outcome => outcome,
            }
        })
    })
}

fn tls(tls: Tls, pem: &Pem) -> Option<SslOpts> {
    let mut options = SslOpts::default();
    if let Some(ca) = &pem.ca {
        options = options.with_root_certs(vec![ca.clone().into()]).with_disable_built_in_roots(true);
    }
    if let (Some(cert), Some(key)) = (&pem.cert, &pem.key) {
        options = options.with_client_identity(Some(ClientIdentity::new(cert.clone().into(), key.to_vec().into())));
    }
    match tls {
        Tls::Off => None,
        Tls::Required => Some(options.with_danger_accept_invalid_certs(true)),
        Tls::VerifyCa => {
            let options = options.with_danger_skip_domain_validation(true);
            Some(options.with_danger_tls_hostname_override(Some(ANY_NAME)))
        }
        Tls::VerifyIdentity => Some(options),
    }
}
