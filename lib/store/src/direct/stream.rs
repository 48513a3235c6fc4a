//! Packets on a socket, every step before a deadline.
//!
//! ```text
//! packet = length(u24, little endian) sequence(u8) bytes
//! ```
//! A packet of 2^24 - 1 bytes would be continued in the next; [`PACKET_MAX`] is far below, so none is.

use std::io;
use std::net::ToSocketAddrs;
use std::time::{Duration, Instant};

use socket2::{Domain, SockAddr, Socket, Type};

use super::{ANSWER_MAX, CONNECT_MAX, Host, PACKET_MAX, Unavailable};

const HEADER: usize = 4;

/// Bytes asked of the kernel at once: an answer of a few packets comes whole.
const READ: usize = 4096;

/// The shortest timeout set: zero would mean none.
const TIMEOUT_MIN: Duration = Duration::from_millis(1);

pub(super) struct Stream {
    socket: Socket,
    unix: bool,
    sequence: u8,
    until: Instant,
    /// Received and not yet taken: from `taken` on.
    buffer: Vec<u8>,
    taken: usize,
}

impl Drop for Stream {
    fn drop(&mut self) {
        // Stored hashes came through here.
        wipe(&mut self.buffer);
    }
}

impl Stream {
    pub(super) fn connect(host: &Host, until: Instant) -> Result<Self, Unavailable> {
        let limit = until.min(Instant::now() + CONNECT_MAX);
        let (socket, unix) = match host {
            Host::Socket(path) => (connect_unix(path, limit)?, true),
            Host::Tcp(name, port) => (connect_tcp(name, *port, limit)?, false),
        };
        Ok(Self { socket, unix, sequence: 0, until, buffer: Vec::with_capacity(READ), taken: 0 })
    }

    /// Whether the other end is on this host, so that what we say is not overheard.
    pub(super) fn is_unix(&self) -> bool {
        self.unix
    }

    /// Begin a command: packets are counted anew.
    pub(super) fn begin(&mut self) {
        self.sequence = 0;
    }

    pub(super) fn send(&mut self, payload: &[u8]) -> Result<(), Unavailable> {
        let length = u32::try_from(payload.len()).ok().filter(|_| payload.len() <= PACKET_MAX);
        let [a, b, c, _] = length.ok_or(Unavailable::Protocol("nothing: our packet is too long"))?.to_le_bytes();
        // One buffer of the final size, wiped: it may hold the database password or a new hash.
        let mut packet = Vec::with_capacity(HEADER + payload.len());
        packet.extend_from_slice(&[a, b, c, self.sequence]);
        packet.extend_from_slice(payload);
        self.sequence = self.sequence.wrapping_add(1);
        let sent = self.send_all(&packet);
        wipe(&mut packet);
        sent
    }

    fn send_all(&self, mut bytes: &[u8]) -> Result<(), Unavailable> {
        let limit = self.until.min(Instant::now() + ANSWER_MAX);
        while !bytes.is_empty() {
            self.socket.set_write_timeout(Some(left(limit)?)).map_err(broken)?;
            match self.socket.send_with_flags(bytes, NO_SIGNAL) {
                Ok(sent) => bytes = bytes.get(sent..).unwrap_or_default(),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(broken(error)),
            }
        }
        Ok(())
    }

    /// The next packet's bytes. An error packet is [`Unavailable::Server`].
    pub(super) fn receive(&mut self) -> Result<Vec<u8>, Unavailable> {
        let limit = self.until.min(Instant::now() + ANSWER_MAX);
        let mut header = [0; HEADER];
        self.receive_all(&mut header, limit)?;
        let [a, b, c, sequence] = header;
        let length = u32::from_le_bytes([a, b, c, 0]) as usize;
        if length > PACKET_MAX {
            return Err(Unavailable::Protocol("a packet that is too long"));
        }
        self.sequence = sequence.wrapping_add(1);
        let mut payload = vec![0; length];
        self.receive_all(&mut payload, limit)?;
        match payload.as_slice() {
            [0xff, low, high, message @ ..] => {
                // Before login there is no SQL state.
                let message =
                    if message.first() == Some(&b'#') { message.get(6..).unwrap_or_default() } else { message };
                let code = u16::from_le_bytes([*low, *high]);
                let shown: String = message.escape_ascii().take(MESSAGE_MAX).map(char::from).collect();
                Err(Unavailable::Server { code, message: shown })
            }
            [] => Err(Unavailable::Protocol("an empty packet")),
            _ => Ok(payload),
        }
    }

    fn receive_all(&mut self, bytes: &mut [u8], limit: Instant) -> Result<(), Unavailable> {
        let mut filled = 0;
        loop {
            let ready = self.buffer.get(self.taken..).unwrap_or_default();
            let count = ready.len().min(bytes.len() - filled);
            let (Some(to), Some(from)) = (bytes.get_mut(filled..filled + count), ready.get(..count)) else {
                return Err(Unavailable::Lost);
            };
            to.copy_from_slice(from);
            filled += count;
            self.taken += count;
            if filled == bytes.len() {
                return Ok(());
            }
            self.fill(limit)?;
        }
    }

    /// Replace the buffer, all of it taken, by what comes next.
    fn fill(&mut self, limit: Instant) -> Result<(), Unavailable> {
        self.taken = 0;
        self.buffer.resize(READ, 0);
        let read = self.read(limit);
        self.buffer.truncate(*read.as_ref().unwrap_or(&0));
        match read? {
            0 => Err(Unavailable::Lost),
            _ => Ok(()),
        }
    }

    fn read(&mut self, limit: Instant) -> Result<usize, Unavailable> {
        loop {
            // Set each time, or a server that drips bytes could hold us for ever.
            self.socket.set_read_timeout(Some(left(limit)?)).map_err(broken)?;
            match io::Read::read(&mut &self.socket, &mut self.buffer) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                read => return read.map_err(broken),
            }
        }
    }

    /// Say good-bye if that takes no time, so that the server logs no aborted connection.
    pub(super) fn quit(&self) {
        const QUIT: [u8; HEADER + 1] = [1, 0, 0, 0, 1];
        if self.socket.set_nonblocking(true).is_ok() {
            // Nobody is left to tell of an error.
            let _ = self.socket.send_with_flags(&QUIT, NO_SIGNAL);
        }
    }
}

/// Most bytes shown of a server's message.
const MESSAGE_MAX: usize = 200;

/// MSG_NOSIGNAL of Linux: a server that went away must not raise SIGPIPE in our host.
const NO_SIGNAL: i32 = 0x4000;

fn connect_unix(path: &str, limit: Instant) -> Result<Socket, Unavailable> {
    let address = SockAddr::unix(path).map_err(connecting)?;
    let socket = open(Domain::UNIX)?;
    // SO_SNDTIMEO bounds connect(2) too. Without it a stopped server whose queue is full holds us for ever.
    socket.set_write_timeout(Some(left(limit)?)).map_err(connecting)?;
    socket.connect(&address).map_err(connecting)?;
    Ok(socket)
}

fn connect_tcp(name: &str, port: u16, limit: Instant) -> Result<Socket, Unavailable> {
    let mut failed = Unavailable::Connect(io::ErrorKind::NotFound);
    for address in (name, port).to_socket_addrs().map_err(connecting)? {
        let socket = open(if address.is_ipv4() { Domain::IPV4 } else { Domain::IPV6 })?;
        match socket.connect_timeout(&address.into(), left(limit)?) {
            Ok(()) => {
                socket.set_tcp_nodelay(true).map_err(connecting)?;
                return Ok(socket);
            }
            Err(error) => failed = connecting(error),
        }
    }
    Err(failed)
}

/// A close-on-exec socket that never takes the place of a closed stdin, stdout or stderr: duplicating moves it above.
fn open(domain: Domain) -> Result<Socket, Unavailable> {
    let socket = Socket::new(domain, Type::STREAM, None).map_err(connecting)?;
    if std::os::fd::AsRawFd::as_raw_fd(&socket) > 2 { Ok(socket) } else { socket.try_clone().map_err(connecting) }
}

fn left(limit: Instant) -> Result<Duration, Unavailable> {
    let left = limit.saturating_duration_since(Instant::now());
    if left.is_zero() { Err(Unavailable::Timeout) } else { Ok(left.max(TIMEOUT_MIN)) }
}

fn connecting(error: io::Error) -> Unavailable {
    match error.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => Unavailable::Timeout,
        kind => Unavailable::Connect(kind),
    }
}

fn broken(error: io::Error) -> Unavailable {
    match error.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => Unavailable::Timeout,
        _ => Unavailable::Lost,
    }
}

/// Overwrite a buffer; the black box keeps the compiler from leaving it out.
pub(super) fn wipe(bytes: &mut [u8]) {
    bytes.fill(0);
    std::hint::black_box(bytes);
}
