//! Listeners: bound before privileges are dropped, used after.
//!
//! A Unix socket is made under another name beside its path, given its mode and owner there, and then renamed into
//! place: nobody ever meets it with the wrong ones, and a daemon that takes over from an older one leaves no moment
//! without a socket. On the way out the socket is removed if it is still ours.
//!
//! Sockets passed by systemd (`FileDescriptorName=` equal to the service's section) are taken instead.

use crate::ffi;
use crate::stream::Stream;
use anyhow::{Context, Result, bail};
use mailsql_config::{Listen, ListenList, Permissions};
use nix::sys::socket::{AddressFamily, SockaddrLike, SockaddrStorage, getsockname};
use nix::unistd::{Gid, Group, Uid, User};
use std::net::TcpListener;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

/// Connections that wait to be accepted at most.
const BACKLOG: i32 = 1024;

/// The sockets that systemd passed and nobody took yet.
#[derive(Default)]
pub struct Activation(Vec<(RawFd, String)>);

impl Activation {
    /// Reads what systemd left in the environment, if anything.
    #[must_use]
    pub fn from_environment() -> Self {
        Self(sd_notify::listen_fds_with_names().map(Iterator::collect).unwrap_or_default())
    }

    fn take(&mut self, service: &str) -> Vec<OwnedFd> {
        let (mine, others) = std::mem::take(&mut self.0).into_iter().partition(|(_, name)| name == service);
        self.0 = others;
        mine.into_iter().map(|(fd, _)| ffi::own(fd)).collect()
    }
}

/// A bound socket that does not accept yet.
pub struct Listener {
    kind: Kind,
    /// For logs.
    pub name: String,
    cleanup: Option<Cleanup>,
}

enum Kind {
    Unix(UnixListener),
    Tcp(TcpListener),
}

/// Removes a socket's path when dropped, unless somebody else has put theirs there.
pub(crate) struct Cleanup {
    path: PathBuf,
    inode: u64,
}

impl Cleanup {
    fn remove(&self) {
        if std::fs::symlink_metadata(&self.path).is_ok_and(|meta| meta.ino() == self.inode) {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

impl Drop for Cleanup {
    fn drop(&mut self) {
        self.remove();
    }
}

/// Binds what a service's section names, or takes what systemd passed for it.
///
/// # Errors
/// A line with the socket and what to do.
pub fn bind(
    service: &str,
    listen: &ListenList,
    default: &Permissions,
    activation: &mut Activation,
) -> Result<Vec<Listener>> {
    let passed = activation.take(service);
    if !passed.is_empty() {
        return passed.into_iter().map(|fd| adopt(service, fd)).collect();
    }
    listen.0.iter().map(|listen| bind_one(listen, default).with_context(|| format!("[{service}] {listen}"))).collect()
}

fn adopt(service: &str, fd: OwnedFd) -> Result<Listener> {
    let address: SockaddrStorage = getsockname(fd.as_raw_fd()).context("a socket passed by systemd")?;
    let kind = match address.family() {
        Some(AddressFamily::Unix) => Kind::Unix(UnixListener::from(fd)),
        Some(AddressFamily::Inet | AddressFamily::Inet6) => Kind::Tcp(TcpListener::from(fd)),
        _ => bail!("the socket that systemd passed for [{service}] is neither unix nor inet"),
    };
    Ok(Listener { kind, name: format!("systemd:{service}"), cleanup: None })
}

fn bind_one(listen: &Listen, default: &Permissions) -> Result<Listener> {
    match listen {
        Listen::Tcp(host_port) => {
            let listener = TcpListener::bind(host_port.as_str()).context("cannot listen")?;
            Ok(Listener { kind: Kind::Tcp(listener), name: listen.to_string(), cleanup: None })
        }
        Listen::Unix(path, permissions) => {
            let (listener, cleanup) = bind_unix(path, permissions, default)?;
            Ok(Listener { kind: Kind::Unix(listener), name: listen.to_string(), cleanup: Some(cleanup) })
        }
    }
}

fn bind_unix(path: &Path, permissions: &Permissions, default: &Permissions) -> Result<(UnixListener, Cleanup)> {
    let dir = path.parent().filter(|dir| dir.is_dir());
    let Some(dir) = dir else { bail!("the folder of the socket does not exist; make it, or correct listen") };
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let fresh = dir.join(format!(".{name}.{}", std::process::id()));
    let _ = std::fs::remove_file(&fresh);
    let socket = socket2::Socket::new(socket2::Domain::UNIX, socket2::Type::STREAM, None)?;
    socket.bind(&socket2::SockAddr::unix(&fresh)?).context("cannot make the socket")?;
    let ready = || -> Result<()> {
        let mode = permissions.mode.or(default.mode).unwrap_or(0o660);
        std::fs::set_permissions(&fresh, std::fs::Permissions::from_mode(mode))?;
        let owner = |name: &Option<String>, fallback: &Option<String>| name.clone().or_else(|| fallback.clone());
        if Uid::effective().is_root() {
            let explicit = permissions.user.is_some() || permissions.group.is_some();
            let uid = owner(&permissions.user, &default.user).map(|name| user(&name)).transpose();
            let gid = owner(&permissions.group, &default.group).map(|name| group(&name)).transpose();
            match (uid, gid) {
                (Ok(uid), Ok(gid)) => std::os::unix::fs::chown(&fresh, uid.map(Uid::as_raw), gid.map(Gid::as_raw))?,
                (Err(error), _) | (_, Err(error)) if explicit => return Err(error),
                // A group that only a packaged system has (postfix, say): the socket stays ours.
                (Err(error), _) | (_, Err(error)) => {
                    tracing::warn!(socket = %path.display(), reason = %error, "socket keeps its owner");
                }
            }
        }
        socket.listen(BACKLOG)?;
        std::fs::rename(&fresh, path)?;
        Ok(())
    };
    if let Err(error) = ready() {
        let _ = std::fs::remove_file(&fresh);
        return Err(error);
    }
    let inode = std::fs::symlink_metadata(path)?.ino();
    Ok((UnixListener::from(OwnedFd::from(socket)), Cleanup { path: path.to_owned(), inode }))
}

/// A user by name or number.
///
/// # Errors
/// A line that names it when it does not exist.
pub fn user(name: &str) -> Result<Uid> {
    if let Ok(number) = name.parse() {
        return Ok(Uid::from_raw(number));
    }
    let found = User::from_name(name).with_context(|| format!("user {name}"))?;
    found.map(|user| user.uid).with_context(|| format!("there is no user {name} on this host"))
}

/// A group by name or number.
///
/// # Errors
/// A line that names it when it does not exist.
pub fn group(name: &str) -> Result<Gid> {
    if let Ok(number) = name.parse() {
        return Ok(Gid::from_raw(number));
    }
    let found = Group::from_name(name).with_context(|| format!("group {name}"))?;
    found.map(|group| group.gid).with_context(|| format!("there is no group {name} on this host"))
}

/// A listener on the runtime.
pub(crate) enum Accepting {
    Unix { listener: tokio::net::UnixListener, cleanup: Option<Cleanup> },
    Tcp(tokio::net::TcpListener),
}

impl Listener {
    /// A listener that accepts; needs the runtime.
    pub(crate) fn start(self) -> Result<Accepting> {
        match self.kind {
            Kind::Unix(listener) => {
                listener.set_nonblocking(true)?;
                let listener = tokio::net::UnixListener::from_std(listener)?;
                Ok(Accepting::Unix { listener, cleanup: self.cleanup })
            }
            Kind::Tcp(listener) => {
                listener.set_nonblocking(true)?;
                Ok(Accepting::Tcp(tokio::net::TcpListener::from_std(listener)?))
            }
        }
    }
}

impl Accepting {
    /// Removes the path, if it is still ours: nobody new comes, who is there can still be accepted.
    pub(crate) fn give_up(&self) {
        if let Self::Unix { cleanup: Some(cleanup), .. } = self {
            cleanup.remove();
        }
    }

    pub(crate) async fn accept(&self) -> std::io::Result<Stream> {
        match self {
            Self::Unix { listener, .. } => listener.accept().await.map(|(stream, _)| Stream::Unix(stream)),
            Self::Tcp(listener) => {
                let (stream, _) = listener.accept().await?;
                let _ = stream.set_nodelay(true);
                Ok(Stream::Tcp(stream))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bind(path: &Path, permissions: Permissions) -> Result<Listener> {
        bind_one(&Listen::Unix(path.to_owned(), permissions), &Permissions::default())
    }

    #[test]
    fn a_socket_has_its_mode_and_goes_with_its_listener() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        let listener = bind(&path, Permissions { mode: Some(0o600), ..Permissions::default() }).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        assert!(std::os::unix::net::UnixStream::connect(&path).is_ok());
        drop(listener);
        assert!(!path.exists());
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_newer_listener_takes_the_path_over_and_the_older_leaves_it_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        let older = bind(&path, Permissions::default()).unwrap();
        let newer = bind(&path, Permissions::default()).unwrap();
        drop(older);
        assert!(std::os::unix::net::UnixStream::connect(&path).is_ok());
        drop(newer);
        assert!(!path.exists());
    }

    #[test]
    fn a_missing_folder_and_a_missing_user_are_named() {
        let error = bind(Path::new("/nonexistent/s"), Permissions::default()).err().unwrap();
        assert!(error.to_string().contains("folder"), "{error}");
        assert!(user("no-such-user-here").unwrap_err().to_string().contains("no-such-user-here"));
    }
}
