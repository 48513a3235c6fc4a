//! The system calls: what std has no way to ask for (a deadline on connect, MSG_NOSIGNAL, explicit_bzero).
//!
//! Errors are `errno`.

use std::mem;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::time::Duration;

/// How a transfer went.
pub(crate) enum Done {
    /// So many bytes; 0 received is the end.
    Bytes(usize),
    /// Nothing now: wait, then try again.
    NotYet,
}

/// What to wait for.
pub(crate) enum Ready {
    Read,
    Write,
}

/// A connected Unix socket; closed when dropped.
pub(crate) struct Stream(OwnedFd);

impl Stream {
    /// Connect to the socket at `path`, waiting at most `limit` for a place in the daemon's queue. A non-blocking connect
    /// would not do: on a full queue it fails at once, and there is nothing to poll for.
    ///
    /// `EINVAL` or `ENAMETOOLONG` for a path no address can hold; `EAGAIN` when the time is over.
    pub(crate) fn connect(path: &[u8], limit: Duration) -> Result<Self, i32> {
        let mut address = libc::sockaddr_un { sun_family: libc::AF_UNIX as libc::sa_family_t, sun_path: [0; 108] };
        if path.is_empty() || path.contains(&0) {
            return Err(libc::EINVAL);
        }
        // One byte stays for the NUL.
        if path.len() >= address.sun_path.len() {
            return Err(libc::ENAMETOOLONG);
        }
        for (to, &from) in address.sun_path.iter_mut().zip(path) {
            *to = from as libc::c_char;
        }
        // SAFETY: socket(2) takes no pointers.
        let fd = unsafe { libc::socket(libc::AF_UNIX, libc::SOCK_STREAM | libc::SOCK_CLOEXEC, 0) };
        if fd < 0 {
            return Err(errno());
        }
        // SAFETY: the kernel just gave us this descriptor and nobody else knows it.
        let stream = Self(above(libc::STDERR_FILENO, unsafe { OwnedFd::from_raw_fd(fd) })?);
        // Zero would mean no limit.
        let limit = limit.max(Duration::from_millis(1));
        let timeout = libc::timeval {
            tv_sec: limit.as_secs().try_into().unwrap_or(libc::time_t::MAX),
            tv_usec: libc::suseconds_t::from(limit.subsec_micros()),
        };
        // SAFETY: the kernel reads one timeval of the length we name.
        let set = unsafe {
            libc::setsockopt(
                stream.0.as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_SNDTIMEO,
                (&raw const timeout).cast(),
                mem::size_of::<libc::timeval>() as libc::socklen_t,
            )
        };
        if set != 0 {
            return Err(errno());
        }
        // SAFETY: the kernel reads one sockaddr_un of the length we name.
        let connected = unsafe {
            libc::connect(
                stream.0.as_raw_fd(),
                (&raw const address).cast(),
                mem::size_of::<libc::sockaddr_un>() as libc::socklen_t,
            )
        };
        if connected == 0 { Ok(stream) } else { Err(errno()) }
    }

    /// Send what the kernel takes now; a closed connection is `EPIPE`, never SIGPIPE.
    pub(crate) fn send(&self, bytes: &[u8]) -> Result<Done, i32> {
        let flags = libc::MSG_NOSIGNAL | libc::MSG_DONTWAIT;
        // SAFETY: the kernel reads `bytes.len()` bytes from `bytes`, which outlives the call.
        done(unsafe { libc::send(self.0.as_raw_fd(), bytes.as_ptr().cast(), bytes.len(), flags) })
    }

    /// Append what has arrived to `buffer`, at most `step` bytes.
    pub(crate) fn receive(&self, buffer: &mut Vec<u8>, step: usize) -> Result<Done, i32> {
        buffer.reserve(step);
        // SAFETY: `reserve` made room for `step` bytes behind the length, and the kernel writes no more than that.
        let got = unsafe {
            libc::recv(self.0.as_raw_fd(), buffer.spare_capacity_mut().as_mut_ptr().cast(), step, libc::MSG_DONTWAIT)
        };
        let done = done(got)?;
        if let Done::Bytes(count) = done {
            // SAFETY: the kernel wrote these `count` bytes, at most `step`.
            unsafe { buffer.set_len(buffer.len() + count) };
        }
        Ok(done)
    }

    /// Wait until the transfer may go on, or `limit` is over, or a signal came; the caller looks at its clock.
    pub(crate) fn wait(&self, ready: Ready, limit: Duration) -> Result<(), i32> {
        let events = match ready {
            Ready::Read => libc::POLLIN,
            Ready::Write => libc::POLLOUT,
        };
        let mut fd = libc::pollfd { fd: self.0.as_raw_fd(), events, revents: 0 };
        // Rounded up, or the last millisecond would be spent spinning.
        let millis = limit.as_nanos().div_ceil(1_000_000).try_into().unwrap_or(libc::c_int::MAX);
        // SAFETY: one pollfd, ours, which outlives the call.
        let polled = unsafe { libc::poll(&raw mut fd, 1, millis) };
        match polled {
            0.. => Ok(()),
            _ => match errno() {
                libc::EINTR => Ok(()),
                errno => Err(errno),
            },
        }
    }
}

/// Overwrite all of `buffer`, its spare capacity too, in a way the compiler may not leave out.
pub(crate) fn wipe(buffer: &mut Vec<u8>) {
    buffer.clear();
    // SAFETY: the allocation is `capacity` bytes and ours alone; any byte is a valid u8.
    unsafe { libc::explicit_bzero(buffer.as_mut_ptr().cast(), buffer.capacity()) };
}

/// A host that closed stdin, stdout or stderr would get our socket in its place, and somebody's printing in our wire.
fn above(floor: i32, fd: OwnedFd) -> Result<OwnedFd, i32> {
    if fd.as_raw_fd() > floor {
        return Ok(fd);
    }
    // SAFETY: fcntl with an integer argument, on a descriptor we own.
    let higher = unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_DUPFD_CLOEXEC, floor + 1) };
    if higher < 0 {
        return Err(errno());
    }
    // SAFETY: the kernel just gave us this descriptor and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(higher) })
}

fn done(count: isize) -> Result<Done, i32> {
    match usize::try_from(count) {
        Ok(count) => Ok(Done::Bytes(count)),
        Err(_) => match errno() {
            libc::EAGAIN | libc::EINTR => Ok(Done::NotYet),
            errno => Err(errno),
        },
    }
}

fn errno() -> i32 {
    std::io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO)
}

/// What the tests need of the system and std does not offer.
#[cfg(test)]
pub(crate) mod testing {
    use super::*;
    use std::os::unix::net::UnixListener;

    /// A listener whose queue holds one connection.
    pub(crate) fn short_queue(path: &std::path::Path) -> UnixListener {
        let listener = UnixListener::bind(path).unwrap();
        // SAFETY: listen(2) takes no pointers; on a listening socket it sets the queue's length anew.
        assert_eq!(unsafe { libc::listen(listener.as_raw_fd(), 0) }, 0);
        listener
    }

    /// Let SIGPIPE kill this process, as it does in hosts that did not ask otherwise.
    pub(crate) fn deadly_sigpipe() {
        // SAFETY: SIG_DFL installs no code of ours.
        unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) };
    }

    #[test]
    fn wiping_leaves_no_byte_of_the_allocation() {
        let mut buffer = Vec::with_capacity(64);
        buffer.extend_from_slice(b"infopass");
        buffer.truncate(2);
        wipe(&mut buffer);
        // SAFETY: wiping wrote all 64 bytes, so they are initialised.
        unsafe { buffer.set_len(64) };
        assert_eq!(buffer, [0; 64]);
    }

    #[test]
    fn a_descriptor_at_stdio_is_moved_above_it_and_stays_close_on_exec() {
        let _turn = crate::tests::turn();
        let null = OwnedFd::from(std::fs::File::open("/dev/null").unwrap());
        let low = null.as_raw_fd();
        let moved = above(low, null).unwrap();
        assert!(moved.as_raw_fd() > low);
        // SAFETY: F_GETFD takes no argument.
        assert_eq!(unsafe { libc::fcntl(moved.as_raw_fd(), libc::F_GETFD) }, libc::FD_CLOEXEC);
        let same = moved.as_raw_fd();
        assert_eq!(above(low, moved).unwrap().as_raw_fd(), same);
    }
}
