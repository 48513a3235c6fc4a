//! One message's envelope, and what is known of its way here.

use crate::message::{Scan, Trace};
use crate::site::Site;
use mailsql_core::Account;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;

/// A recipient that RCPT found.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    /// As the client named it.
    pub(crate) address: String,
    /// Before aliases, where the client knows.
    pub(crate) original: Option<String>,
    pub(crate) account: Arc<Account>,
    /// The mailbox.
    pub(crate) dir: PathBuf,
    /// Folder below it that the detail names, where details name folders.
    pub(crate) folder: Option<String>,
}

impl Target {
    /// Whether a message to both needs to be stored only once.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        self.dir == other.dir && self.folder == other.folder
    }
}

/// A transaction whose message is being read or delivered.
#[derive(Debug)]
pub(crate) struct Transaction {
    pub(crate) id: String,
    /// For headers.
    pub(crate) date: String,
    /// Envelope sender, empty for the null sender.
    pub(crate) sender: String,
    pub(crate) utf8: bool,
    /// What the client called itself.
    pub(crate) client: String,
    /// Where it connected from, if by TCP.
    pub(crate) address: Option<IpAddr>,
    /// The client's queue id, where it told.
    pub(crate) ident: Option<String>,
    /// One for each reply that is owed.
    pub(crate) targets: Vec<Target>,
}

impl Transaction {
    /// What the delivery to a recipient writes before the message.
    pub(crate) fn header(&self, site: &Site, index: usize, scan: &Scan) -> Vec<u8> {
        let target = &self.targets[index];
        let trace = Trace {
            sender: &self.sender,
            recipient: &target.address,
            original: target.original.as_deref(),
            client: &self.client,
            address: self.address,
            host: &site.hostname,
            id: &self.id,
            utf8: self.utf8,
            date: &self.date,
        };
        trace.header(scan)
    }

    /// The client's queue id, from XFORWARD or else from its Received line.
    pub(crate) fn queue_id<'a>(&'a self, scan: Option<&'a Scan>) -> Option<&'a str> {
        self.ident.as_deref().or_else(|| scan.and_then(|scan| scan.queue_id.as_deref()))
    }
}
