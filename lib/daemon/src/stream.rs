//! A connection, by Unix socket or TCP.

use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};

/// A connection.
#[derive(Debug)]
pub enum Stream {
    /// By Unix socket.
    Unix(UnixStream),
    /// By TCP.
    Tcp(TcpStream),
}

/// Who is at the other end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Peer {
    /// A process of this host: its user, group and number, as the kernel tells them.
    Local {
        /// User.
        uid: u32,
        /// Group.
        gid: u32,
        /// Process, where the kernel knows it.
        pid: Option<i32>,
    },
    /// A TCP address.
    Remote(IpAddr),
    /// The kernel did not tell.
    Unknown,
}

impl Stream {
    /// The connection that spawn(8) and inetd leave as standard input; `None` where that is no socket.
    ///
    /// # Errors
    /// When it cannot be used on the runtime.
    pub fn from_stdin() -> io::Result<Option<Self>> {
        use nix::sys::socket::{AddressFamily, SockaddrLike, SockaddrStorage, getsockname};
        use std::os::fd::{AsFd, AsRawFd};
        let own = io::stdin().as_fd().try_clone_to_owned()?;
        let Ok(address) = getsockname::<SockaddrStorage>(own.as_raw_fd()) else { return Ok(None) };
        Ok(match address.family() {
            Some(AddressFamily::Unix) => {
                let stream = std::os::unix::net::UnixStream::from(own);
                stream.set_nonblocking(true)?;
                Some(Self::Unix(UnixStream::from_std(stream)?))
            }
            Some(AddressFamily::Inet | AddressFamily::Inet6) => {
                let stream = std::net::TcpStream::from(own);
                stream.set_nonblocking(true)?;
                Some(Self::Tcp(TcpStream::from_std(stream)?))
            }
            _ => None,
        })
    }

    /// Who is at the other end.
    #[must_use]
    pub fn peer(&self) -> Peer {
        match self {
            Self::Unix(stream) => stream.peer_cred().map_or(Peer::Unknown, |cred| Peer::Local {
                uid: cred.uid(),
                gid: cred.gid(),
                pid: cred.pid(),
            }),
            Self::Tcp(stream) => stream.peer_addr().map_or(Peer::Unknown, |address| Peer::Remote(address.ip())),
        }
    }
}

impl Stream {
    /// Takes no more from the other end: what it has sent can be read, what it sends from now on fails there. Only Unix
    /// sockets can promise this; false for others.
    #[must_use]
    pub fn finish_reading(&self) -> bool {
        match self {
            Self::Unix(stream) => socket2::SockRef::from(stream).shutdown(std::net::Shutdown::Read).is_ok(),
            Self::Tcp(_) => false,
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Unix(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Tcp(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Unix(stream) => Pin::new(stream).poll_write(cx, buf),
            Self::Tcp(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Unix(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
