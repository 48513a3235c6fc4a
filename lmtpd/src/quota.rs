//! Quota as Maildir++ keeps it: `maildirsize`, shared with Dovecot's `quota = maildir` and Courier.
//!
//! ```text
//! 10485760S,1000C      limits; 0S where only messages are limited
//! 52428 12             what was there when the file was made: bytes, messages
//! 1024 1               a delivery
//! -1024 -1             a removal
//! ```
//!
//! The sum of the lines is what the mailbox holds. A delivery appends its line before its file appears in `new/`, and takes it back
//! if it fails. The file is made anew from the file names (`,S=`, else the size) when it is missing, unreadable or longer than
//! [`MAX_FILE`], when the limits have changed, and before somebody is refused on the word of a file that may be out of date.
//!
//! Within this process a mailbox is checked and charged under a lock, and messages on their way are counted, so that any number of
//! deliveries at once cannot pass the limit together. Other programs take no lock; the format has none.
//!
//! Oddities: Dovecot's `count` and `dict` backends do not read this file, and Dovecot 2.4 has only `count`. A mailbox without
//! limits of ours whose `maildirsize` Dovecot keeps is kept up to date too.
//!
//! Source: the Maildir++ specification; Dovecot 2.3 `plugins/quota/quota-maildir.c`.

use crate::maildir::{Store, sync_dir};
use crate::name;
use crate::trouble::{Doing, Trouble};
use mailsql_core::Quota;
use std::collections::{HashMap, HashSet};
use std::fs::OpenOptions;
use std::io::{ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

/// Length from which the file is made anew, in bytes (the specification's number).
const MAX_FILE: u64 = 5120;
/// Age from which the file is not enough to refuse mail.
const TRUSTED: Duration = Duration::from_secs(15 * 60);
/// Counts of a mailbox that changes meanwhile, before the last is taken as it is.
const COUNT_TRIES: usize = 3;
const FILE: &str = "maildirsize";

/// The mailboxes that are being charged in this process.
#[derive(Debug, Default)]
pub(crate) struct Quotas {
    mailboxes: Mutex<HashMap<PathBuf, Arc<Mutex<OnTheWay>>>>,
}

/// Messages that are charged and not yet, or only just, in `new/`: name in `tmp/` and size.
type OnTheWay = HashMap<String, u64>;

/// What a mailbox holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Usage {
    bytes: i64,
    messages: i64,
}

impl Usage {
    fn exceeds(self, quota: Quota) -> bool {
        let over = |value: i64, limit: Option<u64>| {
            limit.is_some_and(|limit| limit > 0 && value.max(0).unsigned_abs() > limit)
        };
        over(self.bytes, quota.bytes) || over(self.messages, quota.messages)
    }

    fn plus(self, bytes: u64, messages: i64) -> Self {
        Self { bytes: self.bytes.saturating_add_unsigned(bytes), messages: self.messages.saturating_add(messages) }
    }
}

/// A message that counts. Dropped before it is kept, it is taken back.
#[derive(Debug)]
pub(crate) struct Charge<'a> {
    quotas: &'a Quotas,
    mailbox: &'a Path,
    name: String,
    size: u64,
    kept: bool,
}

impl Charge<'_> {
    /// The message is in `new/`.
    pub(crate) fn keep(mut self) {
        self.kept = true;
    }
}

impl Drop for Charge<'_> {
    fn drop(&mut self) {
        let shared = self.quotas.mailbox(self.mailbox);
        let mut on_the_way = lock(&shared);
        on_the_way.remove(&self.name);
        if !self.kept {
            // What cannot be taken back is put right by the next count.
            let _ = append(self.mailbox, &format!("-{} -1\n", self.size));
        }
        let idle = on_the_way.is_empty();
        drop(on_the_way);
        let mut mailboxes = lock(&self.quotas.mailboxes);
        // Two hold it: the table and we. A third may be about to charge.
        if idle && Arc::strong_count(&shared) == 2 {
            mailboxes.remove(self.mailbox);
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Quotas {
    fn mailbox(&self, mailbox: &Path) -> Arc<Mutex<OnTheWay>> {
        Arc::clone(lock(&self.mailboxes).entry(mailbox.to_owned()).or_default())
    }

    /// Counts a message of `size` bytes that lies as `name` in a `tmp` of the mailbox; `None` when it does not fit.
    pub(crate) fn charge<'a>(
        &'a self,
        store: &Store,
        mailbox: &'a Path,
        quota: Quota,
        name: &str,
        size: u64,
    ) -> Result<Option<Charge<'a>>, Trouble> {
        let shared = self.mailbox(mailbox);
        let mut on_the_way = lock(&shared);
        if !fits(store, mailbox, quota, size, &on_the_way)? {
            return Ok(None);
        }
        append(mailbox, &format!("{size} 1\n"))
            .map_err(|error| Trouble::new(Doing::Count, &mailbox.join(FILE), &error))?;
        on_the_way.insert(name.to_owned(), size);
        Ok(Some(Charge { quotas: self, mailbox, name: name.to_owned(), size, kept: false }))
    }

    /// Whether a message of `size` bytes would fit now.
    pub(crate) fn has_room(&self, store: &Store, mailbox: &Path, quota: Quota, size: u64) -> Result<bool, Trouble> {
        let shared = self.mailbox(mailbox);
        let on_the_way = lock(&shared);
        fits(store, mailbox, quota, size, &on_the_way)
    }
}

/// Tells a `maildirsize` that others keep of a delivery.
pub(crate) fn note(mailbox: &Path, size: u64) {
    let _ = append(mailbox, &format!("{size} 1\n"));
}

/// Appends to the file, if there is one.
fn append(mailbox: &Path, line: &str) -> std::io::Result<()> {
    match OpenOptions::new().append(true).open(mailbox.join(FILE)) {
        Ok(mut file) => file.write_all(line.as_bytes()),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

fn fits(store: &Store, mailbox: &Path, quota: Quota, size: u64, on_the_way: &OnTheWay) -> Result<bool, Trouble> {
    if let Some((usage, trusted)) = read(mailbox, quota) {
        let fits = !usage.plus(size, 1).exceeds(quota);
        if fits || trusted {
            return Ok(fits);
        }
    }
    let usage =
        recount(store, mailbox, quota, on_the_way).map_err(|error| Trouble::new(Doing::Count, mailbox, &error))?;
    Ok(!usage.plus(size, 1).exceeds(quota))
}

/// What the file says, and whether that is enough to refuse mail; `None` when it is of no use.
fn read(mailbox: &Path, quota: Quota) -> Option<(Usage, bool)> {
    let path = mailbox.join(FILE);
    let meta = std::fs::metadata(&path).ok().filter(|meta| meta.len() < MAX_FILE)?;
    let (usage, lines) = parse(&std::fs::read_to_string(&path).ok()?, quota)?;
    let young = meta.modified().ok().and_then(|made| SystemTime::now().duration_since(made).ok());
    Some((usage, lines == 1 && young.is_none_or(|age| age < TRUSTED)))
}

/// The sum of a file for these limits, and of how many lines; `None` when it must be made anew.
fn parse(text: &str, quota: Quota) -> Option<(Usage, usize)> {
    let mut lines = text.strip_suffix('\n')?.split('\n');
    let (mut bytes, mut messages) = (0, 0);
    for limit in lines.next()?.split(',').filter(|limit| !limit.is_empty()) {
        match limit.split_at_checked(limit.len() - 1)? {
            (number, "S") => bytes = number.parse::<u64>().ok()?,
            (number, "C") => messages = number.parse::<u64>().ok()?,
            _ => return None,
        }
    }
    if (bytes, messages) != (quota.bytes.unwrap_or(0), quota.messages.unwrap_or(0)) {
        return None;
    }
    let (mut usage, mut count) = (Usage::default(), 0);
    for line in lines {
        let (bytes, messages) = line.trim().split_once(' ')?;
        usage.bytes = usage.bytes.checked_add(bytes.parse().ok()?)?;
        usage.messages = usage.messages.checked_add(messages.trim().parse().ok()?)?;
        count += 1;
    }
    (usage.bytes >= 0 && usage.messages >= 0).then_some((usage, count))
}

/// Counts the mailbox and makes its file anew.
fn recount(store: &Store, mailbox: &Path, quota: Quota, on_the_way: &OnTheWay) -> std::io::Result<Usage> {
    if !mailbox.is_dir() {
        return Ok(Usage::default());
    }
    let mut usage = Usage::default();
    for _ in 0..COUNT_TRIES {
        let before = parts(mailbox)?;
        usage = Usage::default();
        for (dir, _) in &before {
            usage = count(dir, on_the_way, usage)?;
        }
        for size in on_the_way.values() {
            usage = usage.plus(*size, 1);
        }
        // A folder that changed meanwhile may have been counted half before and half after.
        if parts(mailbox)? == before {
            write(store, mailbox, quota, usage)?;
            return Ok(usage);
        }
    }
    Ok(usage)
}

/// The folders that hold messages, each with the time of its last change.
fn parts(mailbox: &Path) -> std::io::Result<Vec<(PathBuf, Option<SystemTime>)>> {
    let mut dirs = vec![mailbox.to_owned()];
    for entry in std::fs::read_dir(mailbox)? {
        let entry = entry?;
        if entry.file_name().as_encoded_bytes().starts_with(b".") && entry.path().join("cur").is_dir() {
            dirs.push(entry.path());
        }
    }
    dirs.sort();
    let parts = dirs.iter().flat_map(|dir| [dir.join("new"), dir.join("cur")]);
    Ok(parts.map(|part| (part.clone(), std::fs::metadata(&part).and_then(|meta| meta.modified()).ok())).collect())
}

/// Adds up the messages of one `new` or `cur`; those on their way are counted by the caller.
fn count(dir: &Path, on_the_way: &OnTheWay, mut usage: Usage) -> std::io::Result<Usage> {
    let entries = match std::fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(usage),
        Err(error) => return Err(error),
    };
    let ours: HashSet<&str> = on_the_way.keys().map(String::as_str).collect();
    for entry in entries {
        let entry = entry?;
        let file_name = entry.file_name();
        let text = file_name.to_string_lossy();
        let base = text.split_once(',').map_or(&*text, |(base, _)| base);
        if text.starts_with('.') || ours.contains(base) {
            continue;
        }
        // A message that is read away or moved under our eyes changes its folder's time: counted again.
        let size = name::size_of(&text).or_else(|| entry.metadata().ok().map(|meta| meta.len()));
        usage = size.map_or(usage, |size| usage.plus(size, 1));
    }
    Ok(usage)
}

fn write(store: &Store, mailbox: &Path, quota: Quota, usage: Usage) -> std::io::Result<()> {
    let mut text = format!("{}S", quota.bytes.unwrap_or(0));
    if let Some(messages) = quota.messages.filter(|messages| *messages > 0) {
        text.push_str(&format!(",{messages}C"));
    }
    text.push_str(&format!("\n{} {}\n", usage.bytes, usage.messages));
    let fresh = mailbox.join("tmp").join(format!("{FILE}.{}", store.names.next(SystemTime::now())));
    let made = OpenOptions::new().write(true).create_new(true).mode(store.file_mode).open(&fresh);
    let written = made.and_then(|mut file| file.write_all(text.as_bytes())).and_then(|()| {
        std::fs::rename(&fresh, mailbox.join(FILE))?;
        sync_dir(mailbox).map_err(|trouble| trouble.errno.into())
    });
    written.inspect_err(|_| {
        let _ = std::fs::remove_file(&fresh);
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::maildir::tests::store;

    const QUOTA: Quota = Quota { bytes: Some(1000), messages: Some(5) };

    fn mailbox(root: &Path) -> PathBuf {
        let mailbox = root.join("a@b");
        store(root).make(&mailbox).unwrap();
        mailbox
    }

    fn file(mailbox: &Path) -> String {
        std::fs::read_to_string(mailbox.join(FILE)).unwrap()
    }

    #[test]
    fn a_file_is_good_for_its_limits_only() {
        for (text, want) in [
            ("1000S,5C\n10 1\n", Some((10, 1, 1))),
            ("5C,1000S\n10 1\n20 1\n-10 -1\n", Some((20, 1, 3))),
            ("1000S,5C\n      10            1\n", Some((10, 1, 1))),
            ("1000S,5C\n", Some((0, 0, 0))),
            ("1000S\n10 1\n", None),
            ("1001S,5C\n10 1\n", None),
            ("1000S,5C\n10 1", None),
            ("1000S,5C\n10 1\n20", None),
            ("1000S,5C\n10 1\n\0\0\n", None),
            ("1000S,5C\n10 1\n-20 -2\n", None),
            ("1000S,5C\n99999999999999999999 1\n", None),
            ("1000X\n", None),
            ("", None),
        ] {
            let got = parse(text, QUOTA).map(|(usage, lines)| (usage.bytes, usage.messages, lines));
            assert_eq!(got, want, "{text:?}");
        }
    }

    #[test]
    fn a_mailbox_is_counted_from_its_names() {
        let root = tempfile::tempdir().unwrap();
        let mailbox = mailbox(root.path());
        store(root.path()).make(&mailbox.join(".Sub")).unwrap();
        for (name, content) in [
            ("new/1.a,S=100,W=101", ""),
            ("cur/2.a,S=200:2,S", ""),
            (".Sub/cur/3.a:2,", "12345"),
            ("tmp/4.a,S=900", ""),
        ] {
            std::fs::write(mailbox.join(name), content).unwrap();
        }
        let quotas = Quotas::default();
        quotas.charge(&store(root.path()), &mailbox, QUOTA, "5.a", 10).unwrap().unwrap().keep();
        assert_eq!(file(&mailbox), "1000S,5C\n305 3\n10 1\n");
        // Given up: taken back.
        drop(quotas.charge(&store(root.path()), &mailbox, QUOTA, "6.a", 20).unwrap().unwrap());
        assert!(file(&mailbox).ends_with("20 1\n-20 -1\n"));
        assert!(lock(&quotas.mailboxes).is_empty());
    }

    #[test]
    fn what_does_not_fit_is_refused_on_a_fresh_count() {
        let root = tempfile::tempdir().unwrap();
        let (store, mailbox) = (store(root.path()), mailbox(root.path()));
        let quotas = Quotas::default();
        let charge = |size| quotas.charge(&store, &mailbox, QUOTA, "1.a", size).unwrap();
        assert!(charge(1001).is_none());
        charge(1000).unwrap().keep();
        // The file says it is full. The mailbox is not: somebody removed the message.
        charge(1000).unwrap().keep();
        assert_eq!(file(&mailbox), "1000S,5C\n0 0\n1000 1\n");
        for name in 1..=5 {
            std::fs::write(mailbox.join(format!("cur/{name}.b")), "").unwrap();
        }
        assert!(charge(1).is_none(), "five messages are enough");
        assert!(!quotas.has_room(&store, &mailbox, QUOTA, 0).unwrap());
        std::fs::remove_file(mailbox.join("cur/1.b")).unwrap();
        std::fs::write(mailbox.join(FILE), "1000S,5C\n0 5\n0 0\n").unwrap();
        assert!(quotas.has_room(&store, &mailbox, QUOTA, 0).unwrap());
    }

    #[test]
    fn messages_on_their_way_count_once() {
        let root = tempfile::tempdir().unwrap();
        let (store, mailbox) = (store(root.path()), mailbox(root.path()));
        let quotas = Quotas::default();
        let first = quotas.charge(&store, &mailbox, QUOTA, "1.a", 600).unwrap().unwrap();
        // Somebody makes us count while the first is written, and again when it is in new/ already.
        for _ in 0..2 {
            std::fs::remove_file(mailbox.join(FILE)).unwrap();
            assert!(quotas.charge(&store, &mailbox, QUOTA, "2.a", 401).unwrap().is_none());
            assert_eq!(file(&mailbox), "1000S,5C\n600 1\n");
            std::fs::write(mailbox.join("new/1.a,S=600,W=610"), "").unwrap();
        }
        first.keep();
        assert!(quotas.charge(&store, &mailbox, QUOTA, "2.a", 400).unwrap().is_some());
    }

    #[test]
    fn the_file_is_made_anew_before_it_grows_long() {
        let root = tempfile::tempdir().unwrap();
        let (store, mailbox) = (store(root.path()), mailbox(root.path()));
        let quota = Quota { bytes: Some(1 << 40), messages: None };
        let quotas = Quotas::default();
        for name in 0..2000 {
            quotas.charge(&store, &mailbox, quota, &name.to_string(), 1).unwrap().unwrap().keep();
            assert!(std::fs::metadata(mailbox.join(FILE)).unwrap().len() < MAX_FILE + 10);
        }
        assert!(file(&mailbox).starts_with("1099511627776S\n"));
    }

    #[test]
    fn deliveries_at_once_cannot_pass_the_limit_together() {
        let root = tempfile::tempdir().unwrap();
        let (store, mailbox) = (store(root.path()), mailbox(root.path()));
        let quotas = Quotas::default();
        let kept = std::sync::atomic::AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for name in 0..8 {
                let (store, mailbox, quotas, kept) = (&store, &mailbox, &quotas, &kept);
                scope.spawn(move || {
                    let name = format!("{name}.a");
                    if let Some(charge) = quotas.charge(store, mailbox, QUOTA, &name, 300).unwrap() {
                        std::fs::write(mailbox.join("new").join(format!("{name},S=300")), "").unwrap();
                        charge.keep();
                        kept.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
                    }
                });
            }
        });
        assert_eq!(kept.into_inner(), 3);
    }

    #[test]
    fn a_file_that_others_keep_is_told() {
        let root = tempfile::tempdir().unwrap();
        let mailbox = mailbox(root.path());
        note(&mailbox, 5);
        assert!(!mailbox.join(FILE).exists());
        std::fs::write(mailbox.join(FILE), "10S\n0 0\n").unwrap();
        note(&mailbox, 5);
        assert_eq!(file(&mailbox), "10S\n0 0\n5 1\n");
    }
}
