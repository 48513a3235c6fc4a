//! Waiting with a deadline, progress lines, ends of logs.

use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// Pause between two probes: short, because most peers are up within 300 ms.
const PROBE_INTERVAL: Duration = Duration::from_millis(10);

/// Lines shown of a log when something went wrong.
pub(crate) const TAIL_LINES: usize = 40;

/// Calls `probe` every 10 ms until it is true; an error naming `what` after `timeout`.
///
/// # Errors
/// When `timeout` passes before `probe` returns true.
pub fn wait_until(what: &str, timeout: Duration, mut probe: impl FnMut() -> bool) -> Result<()> {
    let started = Instant::now();
    loop {
        if probe() {
            return Ok(());
        }
        if started.elapsed() >= timeout {
            bail!("still waiting for {what} after {timeout:?}");
        }
        std::thread::sleep(PROBE_INTERVAL);
    }
}

/// Writes one line to standard error at once, past the test harness's capture: whoever watches a run sees it move.
pub fn progress(line: impl AsRef<str>) {
    // A closed standard error is no reason to fail a test.
    let _ = writeln!(std::io::stderr(), "rig: {}", line.as_ref());
}

/// The last `lines` lines of a file, or a remark when it cannot be read.
#[must_use]
pub fn tail(path: &Path, lines: usize) -> String {
    match std::fs::read(path) {
        Ok(bytes) => {
            let text = String::from_utf8_lossy(&bytes);
            let all: Vec<&str> = text.lines().collect();
            all[all.len().saturating_sub(lines)..].join("\n")
        }
        Err(error) => format!("({}: {error})", path.display()),
    }
}

/// Waits until a log holds `text` and returns the first such line; the error holds the end of the log.
pub(crate) fn wait_for_line(log: &Path, text: &str, timeout: Duration) -> Result<String> {
    let mut line = None;
    let waited = wait_until(&format!("{text:?} in {}", log.display()), timeout, || {
        let bytes = std::fs::read(log).unwrap_or_default();
        line = String::from_utf8_lossy(&bytes).lines().find(|line| line.contains(text)).map(str::to_owned);
        line.is_some()
    });
    waited.with_context(|| tail(log, TAIL_LINES))?;
    line.context("the line vanished")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waiting_ends_with_an_error_that_names_the_thing() {
        let error = wait_until("the moon", Duration::from_millis(30), || false).unwrap_err();
        assert!(error.to_string().contains("the moon"), "{error}");
    }

    #[test]
    fn waiting_ends_as_soon_as_the_probe_is_true() {
        let mut calls = 0;
        wait_until("three calls", Duration::from_secs(5), || {
            calls += 1;
            calls == 3
        })
        .unwrap();
        assert_eq!(calls, 3);
    }

    #[test]
    fn tail_gives_the_last_lines_only() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("log");
        std::fs::write(&path, "one\ntwo\nthree\n").unwrap();
        assert_eq!(tail(&path, 2), "two\nthree");
        assert_eq!(tail(&path, 9), "one\ntwo\nthree");
    }
}
