//! Removes what crashes leave in `tmp/`: files that nobody writes to any more, and links that have served their time.
//!
//! Walks the mail root at start and every [`PERIOD`], with a pause after each folder so that mail goes before tidiness.
//! Symbolic links to folders are not followed. Dovecot does the same for the mailboxes it opens.

use crate::memory::{self, PREFIX};
use crate::site::Site;
use mailsql_daemon::Shutdown;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Age from which a file in `tmp/` is nobody's: the Maildir specification's.
const STALE: Duration = Duration::from_secs(36 * 3600);
/// Time between two walks.
const PERIOD: Duration = Duration::from_secs(2 * 3600);
/// Rest after each folder.
const PAUSE: Duration = Duration::from_millis(1);
/// Folders in folders that are gone into: root, domain, user, Maildir, folder, and some to spare.
const MAX_DEPTH: usize = 8;

/// Walks until shutdown.
pub(crate) async fn keep(site: Arc<Site>, mut shutdown: Shutdown) {
    let stop = Arc::new(AtomicBool::new(false));
    loop {
        let walk = Walk { window: site.retry_window, stop: Arc::clone(&stop), pause: PAUSE };
        let root = site.store.root.clone();
        let walking = tokio::task::spawn_blocking(move || walk.folder(&root, MAX_DEPTH));
        let wait = async {
            let removed = walking.await.unwrap_or(0);
            if removed > 0 {
                tracing::info!(removed, "removed what earlier deliveries left in tmp folders");
            }
            tokio::time::sleep(PERIOD).await;
        };
        tokio::select! {
            () = wait => {}
            () = shutdown.wait() => {
                stop.store(true, Ordering::Relaxed);
                return;
            }
        }
    }
}

struct Walk {
    window: Duration,
    stop: Arc<AtomicBool>,
    pause: Duration,
}

impl Walk {
    /// Tidies a folder and those in it; says how many files it removed. What cannot be read is passed by.
    fn folder(&self, dir: &Path, depth: usize) -> usize {
        if depth == 0 || self.stop.load(Ordering::Relaxed) {
            return 0;
        }
        std::thread::sleep(self.pause);
        let Ok(entries) = std::fs::read_dir(dir) else { return 0 };
        let is_dir = |entry: &std::fs::DirEntry| entry.file_type().is_ok_and(|kind| kind.is_dir());
        let folders: Vec<_> = entries.flatten().filter(is_dir).map(|entry| entry.file_name()).collect();
        let is_maildir = ["tmp", "new", "cur"].iter().all(|part| folders.iter().any(|folder| folder == part));
        let mut removed = if is_maildir { self.tmp(&dir.join("tmp")) } else { 0 };
        for folder in folders {
            if !is_maildir || folder.as_encoded_bytes().starts_with(b".") {
                removed += self.folder(&dir.join(folder), depth - 1);
            }
        }
        removed
    }

    fn tmp(&self, tmp: &Path) -> usize {
        let Ok(entries) = std::fs::read_dir(tmp) else { return 0 };
        let stale = |entry: &std::fs::DirEntry| {
            let age = match entry.file_type() {
                Ok(kind)
                    if kind.is_symlink() && entry.file_name().as_encoded_bytes().starts_with(PREFIX.as_bytes()) =>
                {
                    self.window
                }
                Ok(kind) if kind.is_file() => STALE,
                _ => return false,
            };
            memory::is_older(&entry.path(), age)
        };
        entries.flatten().filter(stale).filter(|entry| std::fs::remove_file(entry.path()).is_ok()).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::time::SystemTime;

    #[test]
    fn old_files_go_and_all_else_stays() {
        let root = tempfile::tempdir().unwrap();
        let store = crate::maildir::tests::store(root.path());
        let mailbox = root.path().join("example.jp/info");
        store.make(&mailbox).unwrap();
        store.make(&mailbox.join(".Sub")).unwrap();
        let old = SystemTime::now() - STALE - Duration::from_secs(60);
        let file = |path: &str, made: Option<SystemTime>| {
            let file = File::create(mailbox.join(path)).unwrap();
            made.into_iter().for_each(|made| file.set_modified(made).unwrap());
        };
        for path in ["tmp/old", ".Sub/tmp/old", "new/old", "cur/old:2,S", "maildirsize"] {
            file(path, Some(old));
        }
        file("tmp/young", None);
        for link in ["tmp/sent-00", "tmp/other"] {
            std::os::unix::fs::symlink("gone", mailbox.join(link)).unwrap();
        }
        let walk = |window| Walk { window, stop: Arc::default(), pause: Duration::ZERO };
        assert_eq!(walk(Duration::from_secs(60)).folder(root.path(), MAX_DEPTH), 2);
        std::thread::sleep(Duration::from_millis(20));
        assert_eq!(walk(Duration::from_millis(1)).folder(root.path(), MAX_DEPTH), 1);
        for path in ["new/old", "cur/old:2,S", "maildirsize", "tmp/young"] {
            assert!(mailbox.join(path).exists(), "{path}");
        }
        assert!(mailbox.join("tmp/other").is_symlink() && !mailbox.join("tmp/sent-00").is_symlink());
    }
}
