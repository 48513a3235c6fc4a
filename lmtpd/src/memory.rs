//! Deliveries that are remembered, so that a message which comes twice is stored once.
//!
//! A client that loses the connection after its message is on disk and before our 250 sends it again, minutes later. It
//! is the same message when the client's queue id (XFORWARD IDENT, or the `id` of the topmost Received line), sender,
//! recipient, header section and size are.
//!
//! ```text
//! tmp/sent-<32 hexadecimal digits of SHA-256>  →  NAME        a symbolic link
//! ```
//!
//! The link is made when `tmp/NAME` exists and before it is renamed, and the rename itself says how far the delivery
//! came: while `tmp/NAME` is there, it is not done; when it is gone, it is. So there is no second write that could be
//! lost, no further fsync (journalling file systems keep the order of changes to one folder), no file of its own that
//! grows, and it holds when the process is killed between any two steps. A delivery that fails takes its link with it,
//! before its file. [`tidy`](crate::tidy) removes links older than `[lmtp] retry_window`, which is [`MAX_WINDOW`] at most:
//! a link must not outlive the file that an unfinished delivery left behind.

use crate::maildir::sync_dir;
use crate::message::Scan;
use crate::trouble::{Doing, Trouble};
use nix::errno::Errno;
use sha2::{Digest, Sha256};
use std::fmt::Write;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Longest time that a delivery is remembered; files in `tmp/` are removed after 36 hours, by Dovecot too.
pub(crate) const MAX_WINDOW: Duration = Duration::from_secs(24 * 3600);
/// How the links' names begin.
pub(crate) const PREFIX: &str = "sent-";
/// Bytes of the hash that go into a name.
const KEY: usize = 16;
/// Tries against others that remember the same message at the same time.
const TRIES: usize = 3;

/// What makes two messages one.
#[derive(Debug)]
pub(crate) struct Key<'a> {
    pub(crate) queue_id: &'a str,
    pub(crate) sender: &'a str,
    pub(crate) recipient: &'a str,
    pub(crate) scan: &'a Scan,
    pub(crate) size: u64,
}

impl Key<'_> {
    fn link(&self) -> String {
        let mut hash = Sha256::new();
        for part in [self.queue_id, self.sender, self.recipient] {
            hash.update(part.len().to_be_bytes());
            hash.update(part);
        }
        hash.update(self.size.to_be_bytes());
        hash.update(self.scan.digest);
        let mut name = PREFIX.to_owned();
        for byte in &hash.finalize()[..KEY] {
            // Writing to a String cannot fail.
            let _ = write!(name, "{byte:02x}");
        }
        name
    }
}

/// What is known of a message.
#[derive(Debug)]
pub(crate) enum Known {
    /// Nothing: deliver it.
    New(Entry),
    /// It has been delivered.
    Delivered,
}

/// A delivery that will have been remembered. Dropped before it is kept, it is forgotten.
#[derive(Debug)]
pub(crate) struct Entry {
    link: PathBuf,
    kept: bool,
}

impl Entry {
    /// The message is in `new/`.
    pub(crate) fn keep(mut self) {
        self.kept = true;
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        if !self.kept {
            let _ = std::fs::remove_file(&self.link);
        }
    }
}

/// Remembers the message that is about to be written to `tmp/NAME` of the Maildir `dir`, unless it is known.
///
/// `started` is when this process began: an unfinished delivery of an earlier one will never be finished.
pub(crate) fn remember(
    dir: &Path,
    key: &Key<'_>,
    name: &str,
    window: Duration,
    started: SystemTime,
) -> Result<Known, Trouble> {
    let tmp = dir.join("tmp");
    let link = tmp.join(key.link());
    let trouble = |error: &std::io::Error| Trouble::new(Doing::Create, &link, error);
    for _ in 0..TRIES {
        match std::os::unix::fs::symlink(name, &link) {
            Ok(()) => return Ok(Known::New(Entry { link, kept: false })),
            Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(trouble(&error)),
            Err(_) => {}
        }
        let Ok(earlier) = std::fs::read_link(&link) else { continue };
        let unfinished = tmp.join(&earlier);
        if unfinished.symlink_metadata().is_ok() {
            if made_since(&earlier, started) {
                // The disk is that slow: the client did not wait for the first.
                return Err(trouble(&Errno::EBUSY.into()));
            }
            let _ = std::fs::remove_file(&link);
            let _ = std::fs::remove_file(&unfinished);
        } else if is_older(&link, window) {
            let _ = std::fs::remove_file(&link);
        } else {
            // Whoever stored it may have died before this.
            sync_dir(&dir.join("new"))?;
            return Ok(Known::Delivered);
        }
    }
    Err(trouble(&Errno::EBUSY.into()))
}

/// Whether a link or file was last changed more than `age` ago.
pub(crate) fn is_older(path: &Path, age: Duration) -> bool {
    let changed = path.symlink_metadata().and_then(|meta| meta.modified());
    changed.is_ok_and(|changed| SystemTime::now().duration_since(changed).is_ok_and(|since| since > age))
}

/// Whether a name in `tmp` was made after `started`.
fn made_since(name: &Path, started: SystemTime) -> bool {
    let text = name.to_string_lossy();
    let parse = || {
        let (seconds, rest) = text.split_once(".M")?;
        let (micros, _) = rest.split_once('P')?;
        Some(Duration::from_secs(seconds.parse().ok()?) + Duration::from_micros(micros.parse::<u32>().ok()?.into()))
    };
    parse().is_some_and(|made| UNIX_EPOCH + made >= started)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::maildir::tests::store;

    const WINDOW: Duration = Duration::from_secs(3600);

    fn scan(text: &str) -> Scan {
        Scan::take(&mut text.as_bytes().to_vec())
    }

    fn count(dir: &Path) -> usize {
        std::fs::read_dir(dir.join("tmp")).unwrap().count()
    }

    #[test]
    fn a_delivered_message_is_known_and_a_failed_one_is_not() {
        let root = tempfile::tempdir().unwrap();
        let (store, dir) = (store(root.path()), root.path().join("a@b"));
        let started = SystemTime::now();
        let scan = scan("Subject: x\n\n");
        let key = |queue_id| Key { queue_id, sender: "s@x", recipient: "a@b", scan: &scan, size: 10 };
        let remember = |id, name: &str| remember(&dir, &key(id), name, WINDOW, started);

        let pending = store.begin(&dir).unwrap();
        let Known::New(entry) = remember("Q1", pending.name()).unwrap() else { panic!("nothing was delivered yet") };
        let trouble = remember("Q1", "other").unwrap_err();
        assert_eq!(trouble.errno, Errno::EBUSY, "it is under way");
        drop((entry, pending));
        assert_eq!(count(&dir), 0);

        let mut pending = store.begin(&dir).unwrap();
        let Known::New(entry) = remember("Q1", pending.name()).unwrap() else { panic!("the first one failed") };
        pending.sync().unwrap();
        pending.publish().unwrap();
        entry.keep();
        assert!(matches!(remember("Q1", "3").unwrap(), Known::Delivered));
        assert!(matches!(remember("Q2", "3").unwrap(), Known::New(_)));
    }

    #[test]
    fn what_a_killed_process_left_unfinished_is_delivered_again() {
        let root = tempfile::tempdir().unwrap();
        let (store, dir) = (store(root.path()), root.path().join("a@b"));
        let scan = scan("");
        let key = Key { queue_id: "Q", sender: "", recipient: "a@b", scan: &scan, size: 0 };
        let pending = store.begin(&dir).unwrap();
        let Known::New(entry) = remember(&dir, &key, pending.name(), WINDOW, SystemTime::now()).unwrap() else {
            panic!("new")
        };
        std::mem::forget((pending, entry));
        assert_eq!(count(&dir), 2);
        let restarted = SystemTime::now() + Duration::from_secs(1);
        assert!(matches!(remember(&dir, &key, "next", WINDOW, restarted).unwrap(), Known::New(_)));
        assert_eq!(count(&dir), 0);
    }

    #[test]
    fn nothing_is_remembered_beyond_the_window() {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("a@b");
        store(root.path()).make(&dir).unwrap();
        let scan = scan("");
        let key = Key { queue_id: "Q", sender: "", recipient: "a@b", scan: &scan, size: 0 };
        let now = SystemTime::now();
        let Known::New(entry) = remember(&dir, &key, "gone", WINDOW, now).unwrap() else { panic!("new") };
        entry.keep();
        assert!(matches!(remember(&dir, &key, "gone", WINDOW, now).unwrap(), Known::Delivered));
        std::thread::sleep(Duration::from_millis(20));
        assert!(matches!(remember(&dir, &key, "gone", Duration::from_millis(1), now).unwrap(), Known::New(_)));
    }

    #[test]
    fn every_part_of_a_key_counts() {
        let (one, two) = (scan("Subject: 1\n\n"), scan("Subject: 2\n\n"));
        let key = |queue_id, sender, recipient, scan, size| Key { queue_id, sender, recipient, scan, size }.link();
        let links = [
            key("q", "s", "r", &one, 1),
            key("qs", "", "r", &one, 1),
            key("q", "sr", "", &one, 1),
            key("q", "s", "r", &two, 1),
            key("q", "s", "r", &one, 2),
        ];
        for (index, link) in links.iter().enumerate() {
            assert_eq!(link.len(), PREFIX.len() + 2 * KEY);
            assert!(!links[..index].contains(link));
        }
    }
}
