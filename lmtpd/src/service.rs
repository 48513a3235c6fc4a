//! The service: its listeners, and the loop that gives each client a session.

use crate::session;
use crate::site::{Site, networks};
use crate::tidy;
use anyhow::{Result, bail};
use mailsql_config::{Config, Permissions};
use mailsql_core::Directory;
use mailsql_core::resolve::Rules;
use mailsql_daemon::program::Serving;
use mailsql_daemon::{Activation, Bound, Limits, Listener, Shared, Shutdown};
use std::path::Component;
use std::sync::Arc;

/// The section this service comes from.
const NAME: &str = "lmtp";

/// LMTP with its listeners bound.
struct Lmtp {
    listeners: Vec<Listener>,
}

/// Binds the listeners of `[lmtp]`; nothing where the section is absent.
///
/// Sockets are 0660 and belong to `mailsql:postfix` unless `listen` says otherwise.
///
/// # Errors
/// A line with the setting that is wrong, or the socket that cannot be had.
pub fn bind(config: &Config, activation: &mut Activation) -> Result<Option<Box<dyn Bound>>> {
    let Some(lmtp) = &config.lmtp else { return Ok(None) };
    networks(&lmtp.xforward_from)?;
    if !config.mail.root.is_absolute() || config.mail.root.components().any(|part| part == Component::ParentDir) {
        bail!("[mail] root = {:?} must be an absolute path without ..", config.mail.root);
    }
    if !["{address}", "{local}"].iter().any(|field| config.mail.maildir.contains(field)) {
        bail!(
            "[mail] maildir = {:?} gives all accounts one mailbox; it must hold {{address}} or {{local}}",
            config.mail.maildir
        );
    }
    let default =
        Permissions { mode: Some(0o660), user: Some(config.mail.uid.to_string()), group: Some("postfix".to_owned()) };
    let listeners = mailsql_daemon::listen::bind(NAME, &lmtp.listen, &default, activation)?;
    Ok(Some(Box::new(Lmtp { listeners })))
}

impl Bound for Lmtp {
    fn name(&self) -> &'static str {
        NAME
    }

    fn serve(self: Box<Self>, shared: Arc<Shared>, shutdown: Shutdown) -> Serving {
        Box::pin(async move {
            let directory: Arc<dyn Directory> = Arc::clone(&shared.directory) as Arc<dyn Directory>;
            serve(self.listeners, &shared.config, directory, shared.rules.clone(), shutdown).await
        })
    }
}

/// Serves until shutdown, with mailboxes from any directory.
///
/// # Errors
/// When a listener cannot be used on the runtime.
pub async fn serve(
    listeners: Vec<Listener>,
    config: &Config,
    directory: Arc<dyn Directory>,
    rules: Rules,
    shutdown: Shutdown,
) -> Result<()> {
    let connections = config.lmtp.as_ref().map_or(1, |lmtp| lmtp.max_connections);
    let site = Arc::new(Site::new(config, directory, rules)?);
    let tidying = tokio::spawn(tidy::keep(Arc::clone(&site), shutdown.clone()));
    let served = mailsql_daemon::serve(listeners, Limits { connections }, shutdown, move |stream, shutdown| {
        session::serve(stream, Arc::clone(&site), shutdown)
    })
    .await;
    // It ends by itself on shutdown, unless there was none.
    tidying.abort();
    served
}
