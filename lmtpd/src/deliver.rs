//! One delivery: one message, one recipient, start to `fsync(new/)`. Blocking; runs on a worker.

use crate::folder;
use crate::intake::{Body, Message};
use crate::maildir::Pending;
use crate::memory::{self, Key, Known};
use crate::quota;
use crate::reply::Outcome;
use crate::site::Site;
use crate::transaction::{Target, Transaction};
use crate::trouble::Trouble;
use mailsql_config::Detail;
use mailsql_core::Quota;
use std::path::{Path, PathBuf};

/// Delivers to the recipient at `index`.
pub(crate) fn deliver(site: &Site, transaction: &Transaction, message: &Message, index: usize) -> Outcome {
    attempt(site, transaction, message, index).unwrap_or_else(Outcome::Failed)
}

fn attempt(site: &Site, transaction: &Transaction, message: &Message, index: usize) -> Result<Outcome, Trouble> {
    let target = &transaction.targets[index];
    if site.detect_loops && message.scan.loops(&target.address) {
        return Ok(Outcome::Loop);
    }
    let dir = folder(site, target)?;
    let written = written(message, index);
    let is_written = written.is_some();
    // Declared before what depends on it, and so dropped after: see `memory`.
    let mut pending = written.map_or_else(|| site.store.begin(&dir), Ok)?;

    let entry = match known(site, transaction, message, target, pending.name(), &dir)? {
        Some(Known::Delivered) => return Ok(Outcome::Repeated),
        Some(Known::New(entry)) => Some(entry),
        None => None,
    };
    let header = if is_written { Vec::new() } else { transaction.header(site, index, &message.scan) };
    let size = if is_written { pending.size() } else { header.len() as u64 + message.size };
    let quota = target.account.quota;
    let charge = if quota == Quota::default() {
        None
    } else {
        let Some(charge) = site.quotas.charge(&site.store, &target.dir, quota, pending.name(), size)? else {
            return Ok(Outcome::Full);
        };
        Some(charge)
    };
    if !is_written {
        write(&mut pending, header, message)?;
    }
    pending.sync()?;
    let path = pending.publish()?;
    match charge {
        Some(charge) => charge.keep(),
        None => quota::note(&target.dir, size),
    }
    if let Some(entry) = entry {
        entry.keep();
    }
    Ok(Outcome::Stored(path))
}

/// What is known of this message for this recipient; `None` where nothing is remembered.
fn known(
    site: &Site,
    transaction: &Transaction,
    message: &Message,
    target: &Target,
    name: &str,
    dir: &Path,
) -> Result<Option<Known>, Trouble> {
    let Some(queue_id) = transaction.queue_id(Some(&message.scan)).filter(|_| !site.retry_window.is_zero()) else {
        return Ok(None);
    };
    let (sender, recipient, scan, size) = (&*transaction.sender, &*target.address, &message.scan, message.size);
    let key = Key { queue_id, sender, recipient, scan, size };
    memory::remember(dir, &key, name, site.retry_window, site.started).map(Some)
}

/// The file that was written while the message came in, if it was this recipient's.
fn written(message: &Message, index: usize) -> Option<Pending> {
    match &message.body {
        Body::Spool(spool) if spool.owner == index => spool.pending.lock().ok()?.take(),
        Body::Spool(_) | Body::Memory(_) => None,
    }
}

fn write(pending: &mut Pending, mut header: Vec<u8>, message: &Message) -> Result<(), Trouble> {
    match &message.body {
        Body::Memory(bytes) => {
            header.extend_from_slice(bytes);
            pending.append(&header)
        }
        Body::Spool(spool) => {
            pending.append(&header)?;
            pending.append_from(&spool.file, spool.offset, message.size, message.lines)
        }
    }
}

/// The Maildir that a recipient's mail goes to: the mailbox or a folder of it.
pub(crate) fn folder(site: &Site, target: &Target) -> Result<PathBuf, Trouble> {
    let Some(name) = &target.folder else { return Ok(target.dir.clone()) };
    let dir = target.dir.join(name);
    if dir.join("cur").is_dir() {
        return Ok(dir);
    }
    match site.detail {
        Detail::Create => {
            folder::create(&site.store, &target.dir, name)?;
            Ok(dir)
        }
        Detail::Folder | Detail::Inbox => Ok(target.dir.clone()),
    }
}
