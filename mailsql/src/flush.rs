//! After a change: every daemon on this host forgets what it knew.

use mailsql_ask::ask::{Reply, Request};
use mailsql_ask::{Client, Control};
use std::path::Path;
use std::time::Duration;

/// Longest wait for a daemon.
const DEADLINE: Duration = Duration::from_secs(2);

/// Flushes an address, a domain, or everything at every control socket, and says how many daemons did. A dead socket is
/// removed; a daemon that stays silent is warned about.
#[expect(clippy::print_stderr, reason = "a warning beside the verb's own output")]
pub(crate) fn all(dir: &Path, changed: Option<&str>, ttl: Duration) -> usize {
    let controls = match Control::find_all(dir) {
        Ok(controls) => controls,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return 0,
        Err(error) => {
            eprintln!("mailsql: {}: {error}; running daemons see the change within {ttl:?}", dir.display());
            return 0;
        }
    };
    let mut flushed = 0;
    for control in controls {
        let request = Request::Flush { address: changed.map(str::as_bytes) };
        match Client::new(&control.path, DEADLINE).ask(&request) {
            Ok(Reply::Done) => flushed += 1,
            Err(trouble) if trouble.is_dead() => {
                let _ = std::fs::remove_file(&control.path);
            }
            Ok(other) => {
                let word = other.word();
                eprintln!(
                    "mailsql: {} ({}) answered {word}; it sees the change within {ttl:?}",
                    control.program, control.pid
                );
            }
            Err(trouble) => {
                let who = &control.program;
                eprintln!(
                    "mailsql: {who} ({}) did not answer: {trouble}; it sees the change within {ttl:?}",
                    control.pid
                );
            }
        }
    }
    flushed
}
