//! Names of message files.
//!
//! ```text
//! tmp/SEC.M<usec>P<pid>Q<n>.HOST
//! new/SEC.M<usec>P<pid>Q<n>.HOST,S=<bytes>,W=<bytes with CRLF line ends>
//! ```
//!
//! The form is Dovecot's (2.3, `maildir-filename.c`), with a counter of the process so that two deliveries in one
//! microsecond differ. `S` and `W` are what Dovecot and Courier take for the size without looking: they are counted,
//! never guessed. A host name's own `/`, `:` and `,` would break the form and are written as backslash and octal digits,
//! as the Maildir specification does; Dovecot refuses to start with such a host name.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

/// Most bytes of the host name that go into a file name; a file name as a whole has 255.
const MAX_HOST: usize = 120;

/// Makes the names of one process.
#[derive(Debug)]
pub(crate) struct Names {
    pid: u32,
    host: String,
    counter: AtomicU64,
}

impl Names {
    pub(crate) fn new(host: &str, pid: u32) -> Self {
        let mut safe = String::with_capacity(host.len());
        for byte in host.bytes() {
            match byte {
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' => safe.push(char::from(byte)),
                _ => safe.push_str(&format!("\\{byte:03o}")),
            }
        }
        safe.truncate(MAX_HOST);
        if safe.is_empty() {
            safe.push_str("localhost");
        }
        Self { pid, host: safe, counter: AtomicU64::new(0) }
    }

    /// The next name, unlike any other that a process of this host makes or has made.
    pub(crate) fn next(&self, now: SystemTime) -> String {
        let now = now.duration_since(UNIX_EPOCH).unwrap_or_default();
        let count = self.counter.fetch_add(1, Ordering::Relaxed);
        format!("{}.M{}P{}Q{count}.{}", now.as_secs(), now.subsec_micros(), self.pid, self.host)
    }

    /// An identifier for a transaction, for its log lines, Received header and replies.
    pub(crate) fn id(&self, now: SystemTime) -> String {
        let now = now.duration_since(UNIX_EPOCH).unwrap_or_default();
        let count = self.counter.fetch_add(1, Ordering::Relaxed);
        format!("{:X}.{:05X}.{}.{count}", now.as_secs(), now.subsec_micros(), self.pid)
    }
}

/// The name of the finished file: `size` bytes on disk, `lines` of them line ends.
pub(crate) fn finished(name: &str, size: u64, lines: u64) -> String {
    format!("{name},S={size},W={}", size + lines)
}

/// The size that a finished file's name tells.
pub(crate) fn size_of(name: &str) -> Option<u64> {
    let rest = &name[name.find(",S=")? + 3..];
    let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    let well_ended = rest[end..].is_empty() || rest[end..].starts_with([':', ',']);
    if well_ended { rest[..end].parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn names_have_dovecots_form_and_never_repeat() {
        let names = Names::new("mx.example.jp", 42);
        let now = UNIX_EPOCH + Duration::new(1_700_000_000, 123_456_000);
        assert_eq!(names.next(now), "1700000000.M123456P42Q0.mx.example.jp");
        assert_eq!(names.next(now), "1700000000.M123456P42Q1.mx.example.jp");
        assert_eq!(names.id(now), "6553F100.1E240.42.2");
        assert_eq!(finished("n", 100, 7), "n,S=100,W=107");
    }

    #[test]
    fn a_host_name_cannot_break_the_form() {
        let now = UNIX_EPOCH;
        for (host, want) in [
            ("a/b:c,d", "0.M0P1Q0.a\\057b\\072c\\054d"),
            ("", "0.M0P1Q0.localhost"),
            ("a\nb", "0.M0P1Q0.a\\012b"),
            ("ホ", "0.M0P1Q0.\\343\\203\\233"),
        ] {
            assert_eq!(Names::new(host, 1).next(now), want);
        }
        assert!(Names::new(&"h".repeat(300), u32::MAX).next(now).len() < 200);
    }

    #[test]
    fn sizes_are_read_from_names_only_where_they_are_well_formed() {
        for (name, want) in [
            ("1.a,S=12,W=13", Some(12)),
            ("1.a,S=12:2,S", Some(12)),
            ("1.a,S=12", Some(12)),
            ("1.a,W=13,S=12:2,", Some(12)),
            ("1.a,S=12x", None),
            ("1.a,S=", None),
            ("1.a", None),
            ("1.a,S=99999999999999999999", None),
        ] {
            assert_eq!(size_of(name), want, "{name}");
        }
    }
}
