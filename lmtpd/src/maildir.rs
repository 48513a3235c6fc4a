//! Maildir, durably.
//!
//! ```text
//! create tmp/NAME (exclusive)  →  write  →  fsync(file)  →  rename to new/NAME,S=…,W=… (never over another)
//!                              →  fsync(new/)  →  only now may a client hear 250
//! ```
//!
//! What a crash leaves: before the rename a file in `tmp/`, which nobody reads and [`tidy`](crate::tidy) removes; after
//! it a whole message in `new/`, acknowledged or not. Folders that are missing are made, each of them fsynced into its
//! parent before anything is put into it; the mail root itself is never made, because a root that is missing is most
//! often a file system that is not mounted.
//!
//! Where `renameat2(RENAME_NOREPLACE)` is not to be had (NFS), link and unlink do the same.
//!
//! Source: the Maildir specification; Dovecot 2.3 `maildir-save.c`; Postfix 3.7 `virtual/maildir.c`.

use crate::name::{self, Names};
use crate::trouble::{Doing, Trouble};
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, RenameFlags, copy_file_range, renameat2};
use std::fs::{DirBuilder, File, OpenOptions, Permissions};
use std::io::{ErrorKind, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// Tries to find a name that is not taken. Names do not repeat, so more than one is a sign of a copied clock or pid.
const NAME_TRIES: usize = 5;
/// Bytes copied at once where the kernel does not copy by itself.
const COPY_BUFFER: usize = 64 << 10;

/// How files and folders are made.
#[derive(Debug)]
pub(crate) struct Store {
    /// Nothing is made outside, and this is never made.
    pub(crate) root: PathBuf,
    pub(crate) file_mode: u32,
    pub(crate) dir_mode: u32,
    pub(crate) names: Names,
}

/// A message that is being written. Dropped before it is published, it is gone.
#[derive(Debug)]
pub(crate) struct Pending {
    file: File,
    dir: PathBuf,
    name: String,
    tmp: PathBuf,
    size: u64,
    lines: u64,
    published: bool,
}

impl Store {
    /// A new file in the `tmp` of the Maildir `dir`, which is made where it is missing.
    pub(crate) fn begin(&self, dir: &Path) -> Result<Pending, Trouble> {
        let mut made = false;
        let mut tries = 0;
        loop {
            let name = self.names.next(SystemTime::now());
            let tmp = dir.join("tmp").join(&name);
            match OpenOptions::new().read(true).write(true).create_new(true).mode(self.file_mode).open(&tmp) {
                Ok(file) => {
                    let pending = Pending { file, dir: dir.to_owned(), name, tmp, size: 0, lines: 0, published: false };
                    self.widen(&pending.file, &pending.tmp)?;
                    return Ok(pending);
                }
                Err(error) if error.kind() == ErrorKind::NotFound && !made => {
                    self.make(dir)?;
                    made = true;
                }
                Err(error) if error.kind() == ErrorKind::AlreadyExists && tries < NAME_TRIES => tries += 1,
                Err(error) => return Err(Trouble::new(Doing::Create, &tmp, &error)),
            }
        }
    }

    /// The umask may have narrowed a mode that is meant to let a group in.
    fn widen(&self, file: &File, path: &Path) -> Result<(), Trouble> {
        if self.file_mode & 0o077 == 0 {
            return Ok(());
        }
        file.set_permissions(Permissions::from_mode(self.file_mode))
            .map_err(|error| Trouble::new(Doing::Create, path, &error))
    }

    /// Makes the Maildir `dir` and what is missing above it, up to the root, durably.
    ///
    /// `tmp` comes last and every parent is fsynced whoever made the folder: another delivery, which may be at the
    /// same place at the same time, finds a `tmp` to write to only when all that it relies on is on disk.
    pub(crate) fn make(&self, dir: &Path) -> Result<(), Trouble> {
        let relative = dir.strip_prefix(&self.root).unwrap_or(dir);
        std::fs::read_dir(&self.root).map_err(|error| Trouble::new(Doing::FindRoot, &self.root, &error))?;
        let mut parent = self.root.clone();
        for part in relative.components() {
            let child = parent.join(part);
            self.make_one(&child)?;
            sync_dir(&parent)?;
            parent = child;
        }
        self.make_one(&dir.join("new"))?;
        self.make_one(&dir.join("cur"))?;
        sync_dir(dir)?;
        self.make_one(&dir.join("tmp"))
    }

    /// Makes one folder, if it is missing.
    fn make_one(&self, path: &Path) -> Result<(), Trouble> {
        match DirBuilder::new().mode(self.dir_mode).create(path) {
            Ok(()) => {
                if self.dir_mode & 0o7077 != 0 {
                    std::fs::set_permissions(path, Permissions::from_mode(self.dir_mode))
                        .map_err(|error| Trouble::new(Doing::MakeFolder, path, &error))?;
                }
                Ok(())
            }
            Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
            Err(error) => Err(Trouble::new(Doing::MakeFolder, path, &error)),
        }
    }
}

impl Pending {
    /// Appends a piece of the message.
    pub(crate) fn append(&mut self, bytes: &[u8]) -> Result<(), Trouble> {
        self.file.write_all(bytes).map_err(|error| Trouble::new(Doing::Write, &self.tmp, &error))?;
        self.size += bytes.len() as u64;
        self.lines += count_lines(bytes);
        Ok(())
    }

    /// Appends `length` bytes from `offset` of another file, which hold `lines` line ends.
    pub(crate) fn append_from(&mut self, from: &File, offset: u64, length: u64, lines: u64) -> Result<(), Trouble> {
        let copied = self.copy(from, offset, length);
        copied.map_err(|error| Trouble::new(Doing::Write, &self.tmp, &error))?;
        self.size += length;
        self.lines += lines;
        Ok(())
    }

    fn copy(&mut self, from: &File, offset: u64, length: u64) -> std::io::Result<()> {
        let mut at = i64::try_from(offset).map_err(std::io::Error::other)?;
        let mut left = length;
        while left > 0 {
            let want = usize::try_from(left).unwrap_or(usize::MAX).min(1 << 30);
            match copy_file_range(from, Some(&mut at), &self.file, None, want) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(copied) => left -= copied as u64,
                Err(Errno::EINTR) => {}
                Err(Errno::EXDEV | Errno::EINVAL | Errno::ENOSYS | Errno::EOPNOTSUPP) => break,
                Err(errno) => return Err(errno.into()),
            }
        }
        // Across file systems, or on one that cannot: by hand. pread, for others may read the same file.
        let mut buffer = vec![0; COPY_BUFFER];
        while left > 0 {
            let want = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
            let read = std::os::unix::fs::FileExt::read_at(from, &mut buffer[..want], at.unsigned_abs())?;
            if read == 0 {
                return Err(ErrorKind::UnexpectedEof.into());
            }
            self.file.write_all(&buffer[..read])?;
            at += read as i64;
            left -= read as u64;
        }
        Ok(())
    }

    /// Bytes so far.
    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    /// Line ends so far.
    pub(crate) fn lines(&self) -> u64 {
        self.lines
    }

    /// Name in `tmp`.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Another handle on the file, for copies; it stays good when the message is published or given up.
    pub(crate) fn handle(&self) -> Result<File, Trouble> {
        self.file.try_clone().map_err(|error| Trouble::new(Doing::Create, &self.tmp, &error))
    }

    /// Ends the last line where the client did not.
    pub(crate) fn end_line(&mut self) -> Result<(), Trouble> {
        let mut last = [b'\n'];
        if self.size > 0 {
            let read = self.file.seek(SeekFrom::End(-1)).and_then(|_| self.file.read_exact(&mut last));
            read.map_err(|error| Trouble::new(Doing::Write, &self.tmp, &error))?;
        }
        if last == *b"\n" { Ok(()) } else { self.append(b"\n") }
    }

    /// First half of a delivery: the bytes are on disk.
    pub(crate) fn sync(&self) -> Result<(), Trouble> {
        self.file.sync_all().map_err(|error| Trouble::new(Doing::Sync, &self.tmp, &error))
    }

    /// Second half, after [`Self::sync`]: the message is in `new/`, and stays there. Gives its path.
    ///
    /// On failure it is back in `tmp/`, where dropping removes it: the caller may have to undo something before.
    pub(crate) fn publish(&mut self) -> Result<PathBuf, Trouble> {
        let new = self.dir.join("new");
        let path = new.join(name::finished(&self.name, self.size, self.lines));
        rename_new(&self.tmp, &path).map_err(|error| Trouble::new(Doing::Publish, &path, &error))?;
        self.published = true;
        if let Err(trouble) = sync_dir(&new) {
            // The client will hear that it failed and come again: left there, it would be there twice.
            self.published = rename_new(&path, &self.tmp).is_err();
            return Err(trouble);
        }
        Ok(path)
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        if !self.published {
            let _ = std::fs::remove_file(&self.tmp);
        }
    }
}

/// Renames, but never over something.
fn rename_new(from: &Path, to: &Path) -> std::io::Result<()> {
    match renameat2(AT_FDCWD, from, AT_FDCWD, to, RenameFlags::RENAME_NOREPLACE) {
        Ok(()) => Ok(()),
        Err(Errno::EINVAL | Errno::ENOSYS | Errno::EOPNOTSUPP) => {
            std::fs::hard_link(from, to)?;
            let _ = std::fs::remove_file(from);
            Ok(())
        }
        Err(errno) => Err(errno.into()),
    }
}

/// Makes what happened in a folder last.
pub(crate) fn sync_dir(dir: &Path) -> Result<(), Trouble> {
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(|error| Trouble::new(Doing::Sync, dir, &error))
}

/// Line ends in a piece.
pub(crate) fn count_lines(bytes: &[u8]) -> u64 {
    bytes.iter().map(|byte| u64::from(*byte == b'\n')).sum()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt;

    pub(crate) fn store(root: &Path) -> Store {
        Store { root: root.to_owned(), file_mode: 0o600, dir_mode: 0o700, names: Names::new("mx.example.jp", 7) }
    }

    fn entries(dir: &Path) -> Vec<String> {
        let mut names: Vec<_> =
            std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_message_goes_from_tmp_to_new_under_its_sizes() {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("example.jp/info");
        let mut pending = store(root.path()).begin(&dir).unwrap();
        pending.append(b"a\nb\n").unwrap();
        pending.append(b"c").unwrap();
        pending.end_line().unwrap();
        assert_eq!((entries(&dir.join("tmp")).len(), entries(&dir.join("new")).len()), (1, 0));
        pending.sync().unwrap();
        let path = pending.publish().unwrap();
        assert!(path.to_str().unwrap().ends_with(".mx.example.jp,S=6,W=9"), "{path:?}");
        assert_eq!(std::fs::read(&path).unwrap(), b"a\nb\nc\n");
        assert_eq!(entries(&dir.join("tmp")), [""; 0]);
        assert_eq!(entries(&dir), ["cur", "new", "tmp"]);
        assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o7777, 0o600);
        for made in [&dir, &dir.join("new"), &root.path().join("example.jp")] {
            assert_eq!(std::fs::metadata(made).unwrap().mode() & 0o7777, 0o700);
        }
    }

    #[test]
    fn modes_are_kept_whatever_the_umask() {
        let root = tempfile::tempdir().unwrap();
        let store = Store { file_mode: 0o664, dir_mode: 0o2775, ..store(root.path()) };
        let dir = root.path().join("a@b");
        let mut pending = store.begin(&dir).unwrap();
        pending.sync().unwrap();
        let path = pending.publish().unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o7777, 0o664);
        assert_eq!(std::fs::metadata(&dir).unwrap().mode() & 0o7777, 0o2775);
    }

    #[test]
    fn what_is_given_up_leaves_nothing() {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("a@b");
        let mut pending = store(root.path()).begin(&dir).unwrap();
        pending.append(b"half").unwrap();
        drop(pending);
        assert_eq!((entries(&dir.join("tmp")).len(), entries(&dir.join("new")).len()), (0, 0));
    }

    #[test]
    fn a_file_is_copied_behind_a_header_of_its_own() {
        let root = tempfile::tempdir().unwrap();
        let store = store(root.path());
        let mut first = store.begin(&root.path().join("a@b")).unwrap();
        first.append(b"X: 1\n").unwrap();
        let body = b"0123456789\n".repeat(20_000);
        first.append(&body).unwrap();
        let handle = first.handle().unwrap();
        drop(first);
        let mut second = store.begin(&root.path().join("b@b")).unwrap();
        second.append(b"Long: header\n").unwrap();
        second.append_from(&handle, 5, body.len() as u64, 20_000).unwrap();
        assert_eq!((second.size(), second.lines()), (13 + 220_000, 20_001));
        assert_eq!(std::fs::read(&second.tmp).unwrap(), [&b"Long: header\n"[..], &body].concat());
        let error = second.append_from(&handle, 5, body.len() as u64 + 1, 0);
        assert!(error.is_err(), "a short source is no success");
    }

    #[test]
    fn nothing_is_ever_renamed_over() {
        let root = tempfile::tempdir().unwrap();
        let (from, to) = (root.path().join("from"), root.path().join("to"));
        std::fs::write(&from, "new").unwrap();
        std::fs::write(&to, "old").unwrap();
        assert_eq!(rename_new(&from, &to).unwrap_err().kind(), ErrorKind::AlreadyExists);
        assert_eq!(std::fs::read(&to).unwrap(), b"old");
    }

    #[test]
    fn a_missing_root_is_not_made() {
        let root = tempfile::tempdir().unwrap();
        let gone = root.path().join("not-mounted");
        let trouble = store(&gone).begin(&gone.join("a@b")).unwrap_err();
        assert_eq!(trouble.doing, Doing::FindRoot);
        assert!(!gone.exists());
    }

    #[test]
    fn only_what_is_missing_is_made() {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("a@b");
        std::fs::create_dir_all(dir.join("new")).unwrap();
        drop(store(root.path()).begin(&dir).unwrap());
        assert_eq!(entries(&dir), ["cur", "new", "tmp"]);
    }
}
