//! What can go wrong with files, and what the administrator does about it.

use nix::errno::Errno;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// What was being done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Doing {
    /// Looking for the mail root.
    FindRoot,
    /// Making a folder.
    MakeFolder,
    /// Making a file in `tmp/`.
    Create,
    /// Writing a message.
    Write,
    /// Waiting until it is on disk.
    Sync,
    /// Moving it into `new/`.
    Publish,
    /// Reading or writing `maildirsize`.
    Count,
    /// A worker broke off.
    Work,
}

/// A failed step of a delivery. Always temporary: the message stays in the client's queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Trouble {
    pub(crate) doing: Doing,
    pub(crate) path: PathBuf,
    pub(crate) errno: Errno,
}

impl Trouble {
    pub(crate) fn new(doing: Doing, path: &Path, error: &io::Error) -> Self {
        let errno = error.raw_os_error().map_or(Errno::EIO, Errno::from_raw);
        Self { doing, path: path.to_owned(), errno }
    }

    /// A worker that broke off.
    pub(crate) fn broken(path: &Path) -> Self {
        Self { doing: Doing::Work, path: path.to_owned(), errno: Errno::ECANCELED }
    }

    /// What to do about it, for the log.
    pub(crate) fn advice(&self) -> &'static str {
        match (self.doing, self.errno) {
            (Doing::FindRoot, Errno::ENOENT) => {
                "the mail root is missing: mount its file system, or make it and give it to the user of [mail] uid"
            }
            (_, Errno::EACCES | Errno::EPERM) => {
                "lmtpd may not write here: the folder and all in it must belong to the user of [mail] uid, and the \
                 unit's ReadWritePaths must name the mail root"
            }
            (_, Errno::ENOSPC) => "the file system is full: free space or inodes; mail waits in the queue",
            (_, Errno::EDQUOT) => "the disk quota of the mail user is used up: raise it with setquota",
            (_, Errno::EROFS) => {
                "the file system is read-only: look for errors in the kernel's log, or ReadWritePaths in the unit"
            }
            (_, Errno::EMFILE | Errno::ENFILE) => "too many open files: raise LimitNOFILE, or lower [lmtp] writers",
            (_, Errno::ENOTDIR | Errno::EISDIR | Errno::ELOOP) => {
                "something else lies where the Maildir belongs: move it away"
            }
            (_, Errno::EFBIG) => "the message is larger than a file may be here: lower [lmtp] max_message_size",
            (_, Errno::EIO) => "the disk fails: look into the kernel's log",
            _ => "mail waits in the queue and is tried again",
        }
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let doing = match self.doing {
            Doing::FindRoot => "cannot open the mail root",
            Doing::MakeFolder => "cannot make the folder",
            Doing::Create => "cannot make the file",
            Doing::Write => "cannot write",
            Doing::Sync => "cannot fsync",
            Doing::Publish => "cannot move the message to",
            Doing::Count => "cannot keep the quota in",
            Doing::Work => "a delivery broke off in",
        };
        write!(f, "{doing} {}: {}", self.path.display(), self.errno.desc())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trouble_names_the_path_and_the_mend() {
        let error = io::Error::from_raw_os_error(nix::libc::ENOSPC);
        let trouble = Trouble::new(Doing::Write, Path::new("/srv/mail/a@b/tmp/1"), &error);
        assert_eq!(trouble.to_string(), "cannot write /srv/mail/a@b/tmp/1: No space left on device");
        assert!(trouble.advice().contains("full"));
        let odd = Trouble::new(Doing::Write, Path::new("/x"), &io::ErrorKind::UnexpectedEof.into());
        assert_eq!(odd.errno, Errno::EIO);
    }
}
