//! Short temporary folders and free ports.

use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result, bail};
use nix::unistd::{Gid, Uid, User, chown};

use crate::keeper;

/// Ports are taken from below the kernel's ephemeral range (32768 and up): an outgoing connection of another test can
/// then never sit on a port that was found free a moment before.
const FIRST_PORT: u32 = 20_000;
/// How many ports above [`FIRST_PORT`] are tried.
const PORTS: u32 = 12_000;

/// Where temporary folders are made, unless the environment's `MAILSQL_TMP` names a place. tests/run gives each run one
/// of its own, to see at the end that nothing is left in it. It must be short: a Unix socket path holds 107 bytes.
const BASE: &str = "/tmp";

/// A folder `/tmp/ms-XXXXXX`, searchable by everybody (peers drop to users of their own), removed on drop.
#[derive(Debug)]
pub struct TempRoot {
    path: PathBuf,
}

impl TempRoot {
    /// Makes the folder.
    ///
    /// # Errors
    /// When /tmp, or the folder `MAILSQL_TMP` names, is not writable.
    pub fn new() -> Result<Self> {
        let base = std::env::var_os("MAILSQL_TMP").map_or_else(|| PathBuf::from(BASE), PathBuf::from);
        let folder = tempfile::Builder::new().prefix("ms-").rand_bytes(6).tempdir_in(&base);
        let path = folder.with_context(|| base.display().to_string())?.keep();
        keeper::path_made(&path);
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755))?;
        Ok(Self { path })
    }

    /// The folder itself.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A path inside the folder; nothing is created.
    #[must_use]
    pub fn join(&self, name: impl AsRef<Path>) -> PathBuf {
        self.path.join(name)
    }

    /// Writes a file inside the folder, mode 0644, and returns its path.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write(&self, name: impl AsRef<Path>, text: impl AsRef<[u8]>) -> Result<PathBuf> {
        self.write_mode(name, text, 0o644)
    }

    /// Writes a file inside the folder with the given mode.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write_mode(&self, name: impl AsRef<Path>, text: impl AsRef<[u8]>, mode: u32) -> Result<PathBuf> {
        let path = self.join(name);
        std::fs::write(&path, text).with_context(|| path.display().to_string())?;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode))?;
        Ok(path)
    }

    /// Makes a folder inside, with mode and owner (user and group by number).
    ///
    /// # Errors
    /// When it cannot be made or given away.
    pub fn folder(&self, name: impl AsRef<Path>, mode: u32, uid: u32, gid: u32) -> Result<PathBuf> {
        let path = self.join(name);
        make_folder(&path, mode, uid, gid)?;
        Ok(path)
    }
}

impl Drop for TempRoot {
    fn drop(&mut self) {
        // A peer that was just killed may still be writing: a second try then finds the folder quiet.
        for _ in 0..5 {
            if std::fs::remove_dir_all(&self.path).is_ok() || !self.path.exists() {
                keeper::path_removed(&self.path);
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
        crate::progress(format!("cannot remove {}", self.path.display()));
    }
}

pub(crate) fn make_folder(path: &Path, mode: u32, uid: u32, gid: u32) -> Result<()> {
    std::fs::create_dir_all(path).with_context(|| path.display().to_string())?;
    chown(path, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid))).with_context(|| path.display().to_string())?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).with_context(|| path.display().to_string())
}

/// User and group number of a system user that a peer's package makes.
pub(crate) fn system_user(name: &str, package: &str) -> Result<(u32, u32)> {
    match User::from_name(name)? {
        Some(user) => Ok((user.uid.as_raw(), user.gid.as_raw())),
        None => bail!("no user {name}: install the Debian package {package} (tests/run does)"),
    }
}

/// A port of 127.0.0.1 on which nobody listens, handed out once by this process.
///
/// # Errors
/// When none of 12,000 ports is free.
pub fn free_port() -> Result<u16> {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    for _ in 0..PORTS {
        let step = NEXT.fetch_add(1, Ordering::Relaxed);
        // Processes start at different places, so that two test programs side by side do not race for one port.
        let place = std::process::id().wrapping_mul(131).wrapping_add(step) % PORTS;
        let Ok(port) = u16::try_from(FIRST_PORT + place) else { continue };
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return Ok(port);
        }
    }
    bail!("no free port between {FIRST_PORT} and {}", FIRST_PORT + PORTS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_free_and_never_handed_out_twice() {
        let mut seen = std::collections::BTreeSet::new();
        for _ in 0..50 {
            let port = free_port().unwrap();
            assert!(seen.insert(port), "{port} twice");
            TcpListener::bind((Ipv4Addr::LOCALHOST, port)).unwrap();
        }
    }

    #[test]
    fn a_temporary_folder_is_short_searchable_and_gone_afterwards() {
        let root = TempRoot::new().unwrap();
        let path = root.path().to_owned();
        root.write("file", "x").unwrap();
        assert!(path.as_os_str().len() <= 30, "{}", path.display());
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o755);
        drop(root);
        assert!(!path.exists());
    }
}
