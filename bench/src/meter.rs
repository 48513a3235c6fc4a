//! What a run cost besides time: statements and connections at the database, processor time of the processes.
//!
//! Statements are MariaDB's `Questions`: what clients sent, one for each execution of a prepared statement, none for its
//! preparation. Processor time is that of a whole session of processes, in the kernel's ticks of 10 ms, so it means
//! something for a run of a second and nothing for a single operation.

use anyhow::{Context, Result};
use mailsql_rig::MariaDb;
use nix::sys::resource::{UsageWho, getrusage};
use std::time::Duration;

/// Ticks of /proc/PID/stat in a second; a constant of Linux's interface.
const TICKS: u64 = 100;

/// The database's counters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counters {
    /// Statements.
    pub(crate) questions: u64,
    /// Connections made.
    pub(crate) connections: u64,
}

impl Counters {
    pub(crate) fn read(db: &MariaDb) -> Result<Self> {
        const ASK: &str = "SHOW GLOBAL STATUS WHERE Variable_name IN ('Questions', 'Connections')";
        let rows = db.query(ASK)?;
        let value = |name: &str| {
            let row = rows.iter().find(|row| row.first().is_some_and(|first| first == name));
            row.and_then(|row| row.get(1)).and_then(|text| text.parse().ok()).with_context(|| format!("no {name}"))
        };
        Ok(Self { questions: value("Questions")?, connections: value("Connections")? })
    }

    /// What reading the counters once adds to them.
    pub(crate) fn own(db: &MariaDb) -> Result<Self> {
        let first = Self::read(db)?;
        Ok(Self::read(db)?.since(first))
    }

    pub(crate) fn since(self, earlier: Self) -> Self {
        Self {
            questions: self.questions.saturating_sub(earlier.questions),
            connections: self.connections.saturating_sub(earlier.connections),
        }
    }
}

/// Processor time of all live processes of a session.
pub(crate) fn session_time(session: i32) -> Duration {
    let entries = std::fs::read_dir("/proc").map(|entries| entries.flatten().collect()).unwrap_or_else(|_| Vec::new());
    let ticks = entries.iter().filter_map(|entry| {
        entry.file_name().to_str()?.parse::<i32>().ok()?;
        let stat = std::fs::read_to_string(entry.path().join("stat")).ok()?;
        let (of, ticks) = session_and_ticks(&stat)?;
        (of == session).then_some(ticks)
    });
    Duration::from_millis(ticks.sum::<u64>() * 1000 / TICKS)
}

/// Fields 6 (session) and 14 + 15 (user and system time) of proc_pid_stat(5). The command name may hold anything.
fn session_and_ticks(stat: &str) -> Option<(i32, u64)> {
    let (_, rest) = stat.rsplit_once(") ")?;
    let fields: Vec<&str> = rest.split(' ').collect();
    let ticks = |index: usize| fields.get(index)?.parse::<u64>().ok();
    Some((fields.get(3)?.parse().ok()?, ticks(11)? + ticks(12)?))
}

/// Processor time of this process and of the children it has waited for: the load generators.
pub(crate) fn own_time() -> Duration {
    let spent = |who| {
        let usage = getrusage(who).ok()?;
        let parts = [usage.user_time(), usage.system_time()];
        Some(parts.iter().map(|part| micros(part.tv_sec(), part.tv_usec())).sum::<Duration>())
    };
    [UsageWho::RUSAGE_SELF, UsageWho::RUSAGE_CHILDREN].into_iter().filter_map(spent).sum()
}

fn micros(seconds: i64, micros: i64) -> Duration {
    Duration::from_micros(u64::try_from(seconds * 1_000_000 + micros).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn session_and_times_are_found_behind_any_command_name() {
        let stat = "42 (a) b (c) S 1 42 40 0 -1 4194560 100 0 0 0 70 30 5 5 20 0 1 0 100 0 0";
        assert_eq!(session_and_ticks(stat), Some((40, 100)));
        assert_eq!(session_and_ticks("42 (x"), None);
    }

    #[test]
    fn own_time_grows_while_working() {
        let before = own_time();
        let begun = std::time::Instant::now();
        while begun.elapsed() < Duration::from_millis(30) {}
        assert!(own_time() > before);
    }
}
