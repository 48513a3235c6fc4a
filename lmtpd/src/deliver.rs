//! One delivery: one message, one recipient, start to `fsync(new/)`. Blocking; runs on a worker.

use crate::folder;
use crate::intake::{Body, Message};
use crate::maildir::Pending;
use crate::reply::Outcome;
use crate::site::Site;
use crate::transaction::{Target, Transaction};
use crate::trouble::Trouble;
use mailsql_config::Detail;
use std::path::PathBuf;

/// Delivers to the recipient at `index`.
pub(crate) fn deliver(site: &Site, transaction: &Transaction, message: &Message, index: usize) -> Outcome {
    attempt(site, transaction, message, index).unwrap_or_else(Outcome::Failed)
}

fn attempt(site: &Site, transaction: &Transaction, message: &Message, index: usize) -> Result<Outcome, Trouble> {
    let target = &transaction.targets[index];
    if site.detect_loops && message.scan.loops(&target.address) {
        return Ok(Outcome::Loop);
    }
    let pending = write(site, transaction, message, index)?;
    pending.sync()?;
    pending.publish().map(Outcome::Stored)
}

/// The recipient's file in `tmp/`, complete.
fn write(site: &Site, transaction: &Transaction, message: &Message, index: usize) -> Result<Pending, Trouble> {
    if let Body::Spool(spool) = &message.body
        && spool.owner == index
        && let Some(pending) = spool.pending.lock().ok().and_then(|mut pending| pending.take())
    {
        return Ok(pending);
    }
    let mut header = transaction.header(site, index, &message.scan);
    let mut pending = site.store.begin(&folder(site, &transaction.targets[index])?)?;
    match &message.body {
        Body::Memory(bytes) => {
            header.extend_from_slice(bytes);
            pending.append(&header)?;
        }
        Body::Spool(spool) => {
            pending.append(&header)?;
            pending.append_from(&spool.file, spool.offset, message.size, message.lines)?;
        }
    }
    Ok(pending)
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
