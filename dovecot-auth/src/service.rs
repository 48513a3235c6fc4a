//! The two kinds of sockets.

use crate::client::{self, Rules};
use crate::master;
use anyhow::{Result, bail};
use mailsql_config::{Auth, Config, Permissions};
use mailsql_daemon::program::Serving;
use mailsql_daemon::{Activation, Bound, Limits, Listener, Shared, Shutdown, listen, serve};
use std::sync::Arc;

struct Service {
    section: Auth,
    clients: Vec<Listener>,
    masters: Vec<Listener>,
}

/// Binds the auth sockets, if the configuration has an `[auth]` section. systemd passes them as `auth` and `userdb`.
///
/// # Errors
/// A line with the socket or setting and what to do.
pub fn bind(config: &Config, activation: &mut Activation) -> Result<Option<Box<dyn Bound>>> {
    let Some(section) = &config.auth else { return Ok(None) };
    if section.mechanisms.is_empty() {
        bail!("[auth] mechanisms: name at least one of PLAIN and LOGIN");
    }
    let clients =
        Permissions { mode: Some(0o660), user: Some(config.serve.user.clone()), group: Some("postfix".into()) };
    // Root passes every mode, so this opens the socket to root and Dovecot, and to nobody else.
    let masters = Permissions { mode: Some(0o600), user: Some("dovecot".into()), group: None };
    Ok(Some(Box::new(Service {
        section: section.clone(),
        clients: listen::bind("auth", &section.listen, &clients, activation)?,
        masters: listen::bind("userdb", &section.userdb, &masters, activation)?,
    })))
}

impl Bound for Service {
    fn name(&self) -> &'static str {
        "auth"
    }

    fn serve(self: Box<Self>, shared: Arc<Shared>, shutdown: Shutdown) -> Serving {
        let limits = Limits { connections: self.section.max_connections };
        let rules = Arc::new(Rules::of(&self.section));
        let answering = Arc::clone(&shared);
        let clients = serve(self.clients, limits, shutdown.clone(), move |stream, shutdown| {
            client::connection(stream, Arc::clone(&answering), Arc::clone(&rules), shutdown)
        });
        let masters = serve(self.masters, limits, shutdown, move |stream, shutdown| {
            master::connection(stream, Arc::clone(&shared), shutdown)
        });
        Box::pin(async move { tokio::try_join!(clients, masters).map(|_| ()) })
    }
}
