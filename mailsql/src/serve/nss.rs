//! The NSS socket: lookups for everybody on this host, and nothing else.

use super::ask::connection;
use anyhow::Result;
use mailsql_config::{Config, Nss, Permissions};
use mailsql_daemon::program::Serving;
use mailsql_daemon::{Activation, Bound, Limits, Listener, Shared, Shutdown, listen, serve};
use std::sync::Arc;

struct Service {
    section: Nss,
    listeners: Vec<Listener>,
}

/// Binds the NSS socket, if the configuration has an `[nss]` section.
pub(super) fn bind(config: &Config, activation: &mut Activation) -> Result<Option<Box<dyn Bound>>> {
    let Some(section) = &config.nss else { return Ok(None) };
    let default = Permissions { mode: Some(0o666), ..Permissions::default() };
    let listeners = listen::bind("nss", &section.listen, &default, activation)?;
    Ok(Some(Box::new(Service { section: section.clone(), listeners })))
}

impl Bound for Service {
    fn name(&self) -> &'static str {
        "nss"
    }

    fn serve(self: Box<Self>, shared: Arc<Shared>, shutdown: Shutdown) -> Serving {
        let limits = Limits { connections: self.section.max_connections };
        Box::pin(serve(self.listeners, limits, shutdown, move |stream, shutdown| {
            connection(stream, Arc::clone(&shared), shutdown, true)
        }))
    }
}
