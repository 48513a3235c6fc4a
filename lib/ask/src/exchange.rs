//! One exchange: connect, send a line, read a line, all before one deadline.

use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::{Duration, Instant};

use mailsql_proto::ask::{LINE_MAX, Reply, Request, line};

use crate::Unavailable;
use crate::ffi::{Done, Ready, Stream, wipe};

/// Bytes asked of the kernel at once.
const READ_STEP: usize = 16 * 1024;

/// A buffer that is wiped when it goes, its spare capacity too.
struct Wiped(Vec<u8>);

impl Drop for Wiped {
    fn drop(&mut self) {
        wipe(&mut self.0);
    }
}

struct Deadline(Instant);

impl Deadline {
    fn left(&self) -> Result<Duration, Unavailable> {
        let left = self.0.saturating_duration_since(Instant::now());
        if left.is_zero() { Err(Unavailable::Timeout) } else { Ok(left) }
    }
}

pub(crate) fn exchange(path: &Path, limit: Duration, request: &Request<'_>) -> Result<Reply, Unavailable> {
    let deadline = Deadline(Instant::now() + limit);
    // Encoding needs one byte more than a line; a buffer that never moves leaves no copies of a password.
    let mut out = Wiped(Vec::with_capacity(LINE_MAX + 1));
    request.encode(&mut out.0)?;
    let stream = connect(path, &deadline)?;
    send(&stream, &out.0, &deadline)?;
    let mut buffer = Wiped(Vec::with_capacity(READ_STEP));
    receive(&stream, &mut buffer.0, request.reply_max(), &deadline)?;
    Ok(Reply::decode(&mut buffer.0)?)
}

fn connect(path: &Path, deadline: &Deadline) -> Result<Stream, Unavailable> {
    let path = path.as_os_str().as_bytes();
    loop {
        // The time left goes down with every signal that interrupts.
        match Stream::connect(path, deadline.left()?) {
            Err(libc::EINTR) => {}
            Err(libc::EINVAL | libc::ENAMETOOLONG) => return Err(Unavailable::Path),
            Err(errno) => return Err(Unavailable::connecting(errno)),
            Ok(stream) => return Ok(stream),
        }
    }
}

fn send(stream: &Stream, mut bytes: &[u8], deadline: &Deadline) -> Result<(), Unavailable> {
    while !bytes.is_empty() {
        match stream.send(bytes) {
            Ok(Done::Bytes(sent)) => bytes = bytes.get(sent..).unwrap_or_default(),
            Ok(Done::NotYet) => stream.wait(Ready::Write, deadline.left()?).map_err(Unavailable::Os)?,
            // The daemon may have answered (overloaded) and closed without reading all: look for its reply.
            Err(libc::EPIPE | libc::ECONNRESET) => return Ok(()),
            Err(errno) => return Err(Unavailable::Os(errno)),
        }
    }
    Ok(())
}

/// Read one line into `buffer`, whole and with nothing behind it.
fn receive(stream: &Stream, buffer: &mut Vec<u8>, limit: usize, deadline: &Deadline) -> Result<(), Unavailable> {
    loop {
        // Checked each time, or a daemon that drips bytes could hold us for ever.
        let left = deadline.left()?;
        match stream.receive(buffer, READ_STEP) {
            Ok(Done::Bytes(0)) | Err(libc::ECONNRESET) => return Err(Unavailable::Closed),
            Ok(Done::Bytes(_)) => {}
            Ok(Done::NotYet) => {
                stream.wait(Ready::Read, left).map_err(Unavailable::Os)?;
                continue;
            }
            Err(errno) => return Err(Unavailable::Os(errno)),
        }
        match line(buffer, limit)? {
            Some(length) if length == buffer.len() => return Ok(()),
            Some(_) => return Err(Unavailable::Malformed(mailsql_proto::ask::Malformed::TooLong)),
            None => {}
        }
    }
}
