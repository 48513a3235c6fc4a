//! What a mailbox holds, read beside whoever delivers into it: nothing is ever written here.
//!
//! `maildirsize` (Maildir++) is enough to let mail through. Before mail is refused on a file that others may not have kept up to date
//! (older than [`TRUSTED`], or with lines added), the messages are counted by their names (`,S=`, else the size).
//!
//! Limits: a file of [`MAX_FILE`] and mailboxes of [`MAX_MESSAGES`]; beyond, the file is believed.
//!
//! The service needs to look into the mailboxes: run it with lmtpd (`mailsql serve`), or give its user the group of the mail files with
//! `[lmtp] dir_mode = "0750"` and `file_mode = "0640"`.

use mailsql_core::Quota;
use std::io::{ErrorKind, Result};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// Longest `maildirsize`, in bytes: those who keep it make it anew at 5120.
const MAX_FILE: u64 = 64 * 1024;
/// Messages counted at most.
const MAX_MESSAGES: usize = 500_000;
/// Age up to which a file of one sum is enough to refuse mail.
const TRUSTED: Duration = Duration::from_secs(15 * 60);

/// Bytes and messages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Usage {
    pub(crate) bytes: u64,
    pub(crate) messages: u64,
}

impl Usage {
    /// Whether one more message of `size` bytes fits.
    pub(crate) fn has_room(self, quota: Quota, size: u64) -> bool {
        let fits = |sum: u64, limit: Option<u64>| limit.is_none_or(|limit| sum <= limit);
        fits(self.bytes.saturating_add(size), quota.bytes) && fits(self.messages.saturating_add(1), quota.messages)
    }
}

/// Whether one more message of `size` bytes fits into a mailbox now. A mailbox that is not there yet is empty.
pub(crate) fn has_room(mailbox: &Path, quota: Quota, size: u64, now: SystemTime) -> Result<bool> {
    let file = read(mailbox, now)?;
    if let Some((usage, trusted)) = file {
        let fits = usage.has_room(quota, size);
        if fits || trusted {
            return Ok(fits);
        }
    }
    match count(mailbox)? {
        Some(usage) => Ok(usage.has_room(quota, size)),
        None => Ok(file.is_none_or(|(usage, _)| usage.has_room(quota, size))),
    }
}

/// What the file says, and whether that is enough to refuse mail.
fn read(mailbox: &Path, now: SystemTime) -> Result<Option<(Usage, bool)>> {
    let path = mailbox.join("maildirsize");
    let meta = match std::fs::metadata(&path) {
        Ok(meta) if meta.len() <= MAX_FILE => meta,
        Ok(_) => return Ok(None),
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let Some((usage, sums)) = parse(&std::fs::read(&path)?) else { return Ok(None) };
    let age = meta.modified().ok().and_then(|made| now.duration_since(made).ok()).unwrap_or_default();
    Ok(Some((usage, sums == 1 && age < TRUSTED)))
}

/// The sum of a file, and of how many lines. The limits on its first line are those of whoever wrote it.
fn parse(text: &[u8]) -> Option<(Usage, usize)> {
    let text = std::str::from_utf8(text).ok()?.strip_suffix('\n')?;
    let mut lines = text.split('\n');
    lines.next().filter(|limits| limits.ends_with(['S', 'C']))?;
    let (mut bytes, mut messages, mut sums) = (0i64, 0i64, 0);
    for line in lines {
        let (size, count) = line.trim().split_once(' ')?;
        bytes = bytes.checked_add(size.parse().ok()?)?;
        messages = messages.checked_add(count.trim().parse().ok()?)?;
        sums += 1;
    }
    Some((Usage { bytes: bytes.try_into().ok()?, messages: messages.try_into().ok()? }, sums))
}

/// Adds up the messages; `None` for more than can be counted.
fn count(mailbox: &Path) -> Result<Option<Usage>> {
    let mut folders: Vec<PathBuf> = vec![mailbox.to_owned()];
    let entries = match std::fs::read_dir(mailbox) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Some(Usage::default())),
        Err(error) => return Err(error),
    };
    for entry in entries {
        let entry = entry?;
        if entry.file_name().as_encoded_bytes().starts_with(b".") && entry.path().join("cur").is_dir() {
            folders.push(entry.path());
        }
    }
    let (mut usage, mut looked) = (Usage::default(), 0);
    for folder in folders {
        for part in ["new", "cur"] {
            let entries = match std::fs::read_dir(folder.join(part)) {
                Ok(entries) => entries,
                Err(error) if error.kind() == ErrorKind::NotFound => continue,
                Err(error) => return Err(error),
            };
            for entry in entries {
                let entry = entry?;
                looked += 1;
                if looked > MAX_MESSAGES {
                    return Ok(None);
                }
                let name = entry.file_name();
                let name = name.to_string_lossy();
                if name.starts_with('.') {
                    continue;
                }
                // A message that is read away under our eyes is gone: nothing to count.
                let Some(size) = size_of(&name).or_else(|| entry.metadata().ok().map(|meta| meta.len())) else {
                    continue;
                };
                usage = Usage { bytes: usage.bytes.saturating_add(size), messages: usage.messages + 1 };
            }
        }
    }
    Ok(Some(usage))
}

/// The size that a message's name tells: `1.a.b,S=123,W=130:2,S`.
fn size_of(name: &str) -> Option<u64> {
    let base = name.split_once(':').map_or(name, |(base, _)| base);
    base.split(',').find_map(|part| part.strip_prefix("S=")?.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quota(bytes: u64, messages: u64) -> Quota {
        let limit = |limit| Some(limit).filter(|limit| *limit > 0);
        Quota { bytes: limit(bytes), messages: limit(messages) }
    }

    #[test]
    fn the_file_is_summed_up() {
        for (text, want) in [
            ("1000S,5C\n10 1\n", Some((10, 1, 1))),
            ("1000S\n10 1\n20 1\n-10 -1\n", Some((20, 1, 3))),
            ("5C\n", Some((0, 0, 0))),
            ("1000S\n      10            1\n", Some((10, 1, 1))),
            ("1000S\n10 1", None),
            ("1000S\n-10 -1\n", None),
            ("1000S\n10\n", None),
            ("", None),
            ("\n", None),
        ] {
            let got = parse(text.as_bytes()).map(|(usage, sums)| (usage.bytes, usage.messages, sums));
            assert_eq!(got, want, "{text:?}");
        }
    }

    #[test]
    fn a_mailbox_is_full_by_bytes_or_by_messages() {
        let usage = Usage { bytes: 900, messages: 4 };
        for (bytes, messages, size, want) in [
            (1000, 5, 100, true),
            (1000, 5, 101, false),
            (0, 5, 1 << 40, true),
            (1000, 4, 1, false),
            (0, 0, u64::MAX, true),
            (899, 0, 0, false),
            (900, 0, 1, false),
        ] {
            assert_eq!(usage.has_room(quota(bytes, messages), size), want, "{bytes} {messages} {size}");
        }
    }

    #[test]
    fn nobody_is_refused_on_an_old_file_alone() {
        let root = tempfile::tempdir().unwrap();
        let mailbox = root.path().join("a@b");
        let now = SystemTime::now();
        assert!(has_room(&mailbox, quota(1000, 0), 1000, now).unwrap(), "not there yet: empty");
        for folder in ["new", "cur", ".Sub/cur"] {
            std::fs::create_dir_all(mailbox.join(folder)).unwrap();
        }
        for (name, content) in [("new/1.a,S=100,W=101", ""), ("cur/2.a,S=200:2,S", ""), (".Sub/cur/3.a:2,", "12345")] {
            std::fs::write(mailbox.join(name), content).unwrap();
        }
        assert_eq!(count(&mailbox).unwrap(), Some(Usage { bytes: 305, messages: 3 }));
        let file = |text: &str| std::fs::write(mailbox.join("maildirsize"), text).unwrap();
        let mut rooms = Vec::new();
        for text in ["1S\n1000 9\n", "1S\n900 9\n100 1\n", "1S\n10 1\n", "rubbish"] {
            file(text);
            rooms.push((
                has_room(&mailbox, quota(1000, 0), 695, now).unwrap(),
                has_room(&mailbox, quota(1000, 0), 695, now + 2 * TRUSTED).unwrap(),
                has_room(&mailbox, quota(1000, 0), 696, now).unwrap(),
            ));
        }
        let fresh = (false, true, false);
        let added = (true, true, false);
        assert_eq!(rooms, [fresh, added, (true, true, true), added]);
    }
}
