//! The NSS socket: lookups for everybody on this host, and nothing else.
//!
//! With `short_names = "example.jp"` a bare name stands for the user of that domain, unless /etc/passwd has it: an account
//! of the host is never shadowed.

use super::ask::{Public, connection};
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
        let public = Arc::new(Public {
            short_names: self.section.short_names.map(|domain| domain.to_lowercase()),
            enumerate: self.section.enumerate,
        });
        Box::pin(serve(self.listeners, limits, shutdown, move |stream, shutdown| {
            connection(stream, Arc::clone(&shared), shutdown, Some(Arc::clone(&public)))
        }))
    }
}

/// Whether the host has a user of this name. The file is read, not NSS: this daemon must never ask itself.
pub(super) fn is_local(name: &str) -> bool {
    let text = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    text.lines().any(|line| line.split(':').next() == Some(name))
}
