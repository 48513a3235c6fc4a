//! `/etc/mailsql/nss.conf`, readable by everybody: `key = value` lines, `#` comments.
//!
//! | key | default | meaning |
//! | --- | --- | --- |
//! | `socket` | `/run/mailsql/nss.sock` | where the daemon answers |
//! | `timeout_ms` | 200 | longest wait for it, 10 to 5,000 |
//! | `short_names` | no | whether bare names are ours, too (`[nss] short_names` in the daemon's file names their domain) |
//! | `enumerate` | no | whether all accounts are listed to `getpwent(3)` |
//!
//! A file that is missing or holds nonsense leaves the defaults: the module has nobody to complain to.

use std::path::PathBuf;
use std::time::Duration;

/// Where the file is.
pub(crate) const PATH: &str = "/etc/mailsql/nss.conf";
/// Most of it that is read, in bytes.
pub(crate) const MAX_SIZE: u64 = 16 * 1024;
/// Bounds of `timeout_ms`.
const TIMEOUT_MS: std::ops::RangeInclusive<u64> = 10..=5000;

/// The settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conf {
    /// Where the daemon answers.
    pub socket: PathBuf,
    /// Longest wait for it.
    pub timeout: Duration,
    /// Whether bare names are ours, too.
    pub short_names: bool,
    /// Whether all accounts are listed.
    pub enumerate: bool,
}

impl Default for Conf {
    fn default() -> Self {
        Self {
            socket: mailsql_ask::NSS_SOCKET.into(),
            timeout: Duration::from_millis(200),
            short_names: false,
            enumerate: false,
        }
    }
}

impl Conf {
    /// Reads the text of the file.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let mut conf = Self::default();
        for line in text.lines() {
            let line = line.split('#').next().unwrap_or("");
            let Some((key, value)) = line.split_once('=') else { continue };
            let value = value.trim().trim_matches('"');
            match key.trim() {
                "socket" if value.starts_with('/') => conf.socket = value.into(),
                "timeout_ms" => {
                    if let Some(number) = value.parse().ok().filter(|number| TIMEOUT_MS.contains(number)) {
                        conf.timeout = Duration::from_millis(number);
                    }
                }
                "short_names" => conf.short_names = is_yes(value),
                "enumerate" => conf.enumerate = is_yes(value),
                _ => {}
            }
        }
        conf
    }

    /// Reads the file at `path`.
    #[must_use]
    pub fn load(path: &std::path::Path) -> Self {
        use std::io::Read;
        let mut text = String::new();
        match std::fs::File::open(path).and_then(|file| file.take(MAX_SIZE).read_to_string(&mut text)) {
            Ok(_) => Self::parse(&text),
            Err(_) => Self::default(),
        }
    }
}

fn is_yes(value: &str) -> bool {
    matches!(value, "yes" | "true" | "on" | "1")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_read_and_nonsense_leaves_the_defaults() {
        let text = "# comment\nsocket = \"/tmp/s\" # here\ntimeout_ms=300\nshort_names = yes\nenumerate=1\nother = 5\n";
        let expected =
            Conf { socket: "/tmp/s".into(), timeout: Duration::from_millis(300), short_names: true, enumerate: true };
        assert_eq!(Conf::parse(text), expected);
        for text in ["", "socket = relative", "timeout_ms = 0", "timeout_ms = 9999999", "timeout_ms = x", "= =", "x"] {
            assert_eq!(Conf::parse(text), Conf::default(), "{text}");
        }
    }
}
