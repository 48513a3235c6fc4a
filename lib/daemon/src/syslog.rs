//! Lines to syslog, for a daemon without a terminal.
//!
//! ```text
//! datagram to /dev/log = "<" priority ">" name "[" pid "]: " text
//! ```
//!
//! A line is cut at [`MAX_LINE`] bytes. Without a syslog daemon lines are lost, as they are to every program; a daemon
//! that starts later gets those that come after.

use std::io;
use std::os::unix::net::UnixDatagram;
use tracing::{Level, Metadata};
use tracing_subscriber::fmt::MakeWriter;

/// Where syslog listens.
const SOCKET: &str = "/dev/log";
/// Longest line, in bytes; what every syslog daemon takes.
const MAX_LINE: usize = 2048;
/// Facility auth.
const FACILITY: u8 = 4 << 3;

/// The way to syslog.
pub(crate) struct Syslog {
    name: &'static str,
    socket: Option<UnixDatagram>,
}

impl Syslog {
    pub(crate) fn new(name: &'static str) -> Self {
        let socket = UnixDatagram::unbound().ok();
        // A full queue costs a line and not a login.
        let socket = socket.filter(|socket| socket.set_nonblocking(true).is_ok());
        Self { name, socket }
    }

    fn line(&self, severity: u8) -> Line<'_> {
        let head = format!("<{}>{}[{}]: ", FACILITY | severity, self.name, std::process::id());
        Line { syslog: self, text: head.into_bytes() }
    }
}

/// A line that is sent when it is dropped.
pub(crate) struct Line<'a> {
    syslog: &'a Syslog,
    text: Vec<u8>,
}

impl io::Write for Line<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let room = MAX_LINE.saturating_sub(self.text.len()).min(bytes.len());
        self.text.extend_from_slice(&bytes[..room]);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Line<'_> {
    fn drop(&mut self) {
        if let Some(socket) = &self.syslog.socket {
            let _ = socket.send_to(self.text.trim_ascii_end(), SOCKET);
        }
    }
}

impl<'a> MakeWriter<'a> for Syslog {
    type Writer = Line<'a>;

    fn make_writer(&'a self) -> Line<'a> {
        self.line(severity(Level::INFO))
    }

    fn make_writer_for(&'a self, meta: &Metadata<'_>) -> Line<'a> {
        self.line(severity(*meta.level()))
    }
}

fn severity(level: Level) -> u8 {
    match level {
        Level::ERROR => 3,
        Level::WARN => 4,
        Level::INFO => 6,
        _ => 7,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn a_line_begins_with_priority_name_and_number_and_is_cut() {
        let syslog = Syslog { name: "mailsql-test", socket: None };
        let mut line = syslog.line(severity(Level::WARN));
        line.write_all(b"auth failure\n").unwrap();
        let head = format!("<36>mailsql-test[{}]: ", std::process::id());
        assert_eq!(line.text, format!("{head}auth failure\n").as_bytes());
        line.write_all(&[b'x'; 5000]).unwrap();
        assert_eq!(line.text.len(), MAX_LINE);
    }
}
