//! Folders: what `detail` of `user+detail@domain` names below a mailbox (Maildir++).
//!
//! ```text
//! detail "Lists.Rust"  →  ROOT/ADDRESS/.Lists.Rust/{tmp,new,cur}
//! ```
//!
//! Names are in modified UTF-7 on disk (RFC 3501 §5.1.3), as Dovecot's `maildir` layout has them; a dot in the detail
//! parts parent and child. `INBOX` in any case is the inbox. A detail that makes no good folder name (slashes, control
//! characters, empty levels, too long) goes to the inbox too: a stranger chooses details, and must get neither a bounce
//! nor a file outside the mailbox out of it.

use crate::maildir::{Store, sync_dir};
use crate::trouble::{Doing, Trouble};
use std::fmt::Write;
use std::fs::OpenOptions;
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Duration;

/// Longest name of a folder's directory, in bytes. File systems take 255; Dovecot wants room for suffixes of its own.
const MAX_NAME: usize = 200;
/// Most levels of folders in folders.
const MAX_LEVELS: usize = 16;
/// Tries for the lock on `subscriptions`, and the pause between two.
const LOCK_TRIES: usize = 50;
const LOCK_PAUSE: Duration = Duration::from_millis(10);

/// The directory that a detail names, with its leading dot; `None` for the inbox.
pub(crate) fn directory(detail: &str) -> Option<String> {
    if detail.eq_ignore_ascii_case("INBOX") || detail.starts_with('~') {
        return None;
    }
    if detail.split('.').any(str::is_empty) || detail.split('.').count() > MAX_LEVELS {
        return None;
    }
    if detail.contains(|c: char| c == '/' || c.is_control()) {
        return None;
    }
    let name = format!(".{}", encode(detail));
    (name.len() <= MAX_NAME).then_some(name)
}

/// Makes the folder `name` of a mailbox and subscribes to it.
pub(crate) fn create(store: &Store, mailbox: &Path, name: &str) -> Result<(), Trouble> {
    // The mailbox first: a folder in a mailbox that is none would not be found.
    if !mailbox.join("cur").is_dir() {
        store.make(mailbox)?;
    }
    let dir = mailbox.join(name);
    store.make(&dir)?;
    // Courier tells folders from mailboxes by this file.
    let marker = dir.join("maildirfolder");
    match OpenOptions::new().write(true).create_new(true).mode(store.file_mode).open(&marker) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => {
            return Err(Trouble::new(Doing::Create, &marker, &error));
        }
        _ => {}
    }
    if let Err(error) = subscribe(store, mailbox, name.trim_start_matches('.')) {
        tracing::warn!(mailbox = %mailbox.display(), folder = name, %error, "folder made but not subscribed to");
    }
    Ok(())
}

/// Adds a folder to `subscriptions`, under Dovecot's own lock (`subscriptions.lock`, renamed over the file).
///
/// Both forms are kept: one name a line, and Dovecot's newer one that begins `V TAB 2` and parts levels with TAB.
fn subscribe(store: &Store, mailbox: &Path, folder: &str) -> std::io::Result<()> {
    let (file, lock) = (mailbox.join("subscriptions"), mailbox.join("subscriptions.lock"));
    let mut tries = 0;
    let mut locked = loop {
        match OpenOptions::new().write(true).create_new(true).mode(store.file_mode).open(&lock) {
            Ok(locked) => break locked,
            Err(error) if error.kind() == ErrorKind::AlreadyExists && tries < LOCK_TRIES => {
                tries += 1;
                std::thread::sleep(LOCK_PAUSE);
            }
            Err(error) => return Err(error),
        }
    };
    let mut write = || {
        let mut text = match std::fs::read(&file) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(error),
        };
        let line = if text.starts_with(b"V\t2\n") { folder.replace('.', "\t") } else { folder.to_owned() };
        if text.split(|byte| *byte == b'\n').any(|known| known == line.as_bytes()) {
            return std::fs::remove_file(&lock);
        }
        if text.last().is_some_and(|last| *last != b'\n') {
            text.push(b'\n');
        }
        text.extend_from_slice(line.as_bytes());
        text.push(b'\n');
        locked.write_all(&text)?;
        locked.sync_all()?;
        std::fs::rename(&lock, &file)
    };
    write().inspect_err(|_| {
        let _ = std::fs::remove_file(&lock);
    })?;
    sync_dir(mailbox).map_err(|trouble| trouble.errno.into())
}

/// Modified UTF-7: printable ASCII as it is, `&` as `&-`, the rest as base64 of UTF-16 with `,` for `/`.
fn encode(name: &str) -> String {
    let mut out = String::with_capacity(name.len());
    let mut wide: Vec<u16> = Vec::new();
    for c in name.chars() {
        if matches!(c, ' '..='~') {
            flush(&mut wide, &mut out);
            out.push(c);
            if c == '&' {
                out.push('-');
            }
        } else {
            wide.extend_from_slice(c.encode_utf16(&mut [0; 2]));
        }
    }
    flush(&mut wide, &mut out);
    out
}

fn flush(wide: &mut Vec<u16>, out: &mut String) {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+,";
    if wide.is_empty() {
        return;
    }
    out.push('&');
    let bytes: Vec<u8> = wide.drain(..).flat_map(u16::to_be_bytes).collect();
    for group in bytes.chunks(3) {
        let bits = group.iter().fold(0u32, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - group.len()));
        for digit in 0..=group.len() {
            let index = (bits >> (18 - 6 * digit)) & 63;
            // Writing to a String cannot fail.
            let _ = out.write_char(char::from(DIGITS[index as usize]));
        }
    }
    out.push('-');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_detail_names_a_folder_or_the_inbox() {
        let long = "x".repeat(MAX_NAME);
        for (detail, want) in [
            ("Lists", Some(".Lists")),
            ("Lists.Rust", Some(".Lists.Rust")),
            ("lists", Some(".lists")),
            ("a b", Some(".a b")),
            ("R&D", Some(".R&-D")),
            ("日本語", Some(".&ZeVnLIqe-")),
            ("台北", Some(".&U,BTFw-")),
            ("x😀y", Some(".x&2D3eAA-y")),
            ("inbox", None),
            ("INBOX", None),
            ("INBOX.x", Some(".INBOX.x")),
            ("", None),
            (".", None),
            ("..", None),
            (".x", None),
            ("x.", None),
            ("a..b", None),
            ("../../etc", None),
            ("a/b", None),
            ("/etc", None),
            ("a\0b", None),
            ("a\nb", None),
            ("~root", None),
            (&long, None),
            (&"a.".repeat(20), None),
        ] {
            assert_eq!(directory(detail).as_deref(), want, "{detail:?}");
        }
    }

    #[test]
    fn a_new_folder_is_subscribed_to_once() {
        let root = tempfile::tempdir().unwrap();
        let store = crate::maildir::tests::store(root.path());
        let mailbox = root.path().join("a@b");
        create(&store, &mailbox, ".Lists.Rust").unwrap();
        create(&store, &mailbox, ".Lists.Rust").unwrap();
        create(&store, &mailbox, ".Other").unwrap();
        assert!(mailbox.join(".Lists.Rust/cur").is_dir() && mailbox.join(".Lists.Rust/maildirfolder").is_file());
        assert!(mailbox.join("cur").is_dir());
        let subscriptions = || std::fs::read_to_string(mailbox.join("subscriptions")).unwrap();
        assert_eq!(subscriptions(), "Lists.Rust\nOther\n");
        std::fs::write(mailbox.join("subscriptions"), "V\t2\n\nOther\n").unwrap();
        create(&store, &mailbox, ".Lists.Rust").unwrap();
        create(&store, &mailbox, ".Lists.Rust").unwrap();
        assert_eq!(subscriptions(), "V\t2\n\nOther\nLists\tRust\n");
        assert!(!mailbox.join("subscriptions.lock").exists());
    }
}
