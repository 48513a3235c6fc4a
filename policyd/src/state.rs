//! Counters that outlive a restart: `[state] dir`/policy.db, the same for policyd and `mailsql serve`.
//!
//! Requests change memory alone. A task writes what has changed every [`EVERY`], in one transaction, and once more when the last
//! connection has ended: after a clean stop nothing is missing, after kill -9 at most what came within [`EVERY`] and one write.
//!
//! A folder that is not there or may not be written: the service runs, counts in memory, and says so. A file that another process
//! has is waited for ([`HANDOVER`]), since that process may be the one we take over from; then it is an error.

use crate::check::Check;
use anyhow::{Context, Result};
use mailsql_store::counters::{Changes, Counters, CountersError};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// How often changes are written.
const EVERY: Duration = Duration::from_millis(400);
/// How long another process may take to end.
const HANDOVER: Duration = Duration::from_secs(15);
/// How often trouble with writing is logged.
const COMPLAIN: Duration = Duration::from_secs(60);

/// What of a check is kept.
pub trait Kept: Send + Sync {
    /// The names under which it is kept.
    fn spaces(&self) -> Vec<String>;

    /// Takes back what was kept under a name. What cannot be read is skipped.
    fn restore(&self, space: &str, key: &[u8], value: &[u8], now: u64);

    /// What has changed since it was asked last; `stopping` when it is asked the last time.
    fn changes(&self, now: u64, stopping: bool) -> Vec<Changes>;

    /// The changes told last could not be written.
    fn lost(&self);
}

/// Nanoseconds since 1970.
#[must_use]
pub fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |age| u64::try_from(age.as_nanos()).unwrap_or(u64::MAX))
}

/// The file, or nothing where counters are kept in memory alone.
pub(crate) struct State {
    counters: Option<Counters>,
    complained: Option<Instant>,
}

pub(crate) type Checks = Arc<[Box<dyn Check>]>;

/// Opens the file and gives the checks what is in it.
pub(crate) async fn open(dir: &Path, checks: &Checks) -> Result<State> {
    let path = dir.join("policy.db");
    let begun = Instant::now();
    let counters = loop {
        let path = path.clone();
        match tokio::task::spawn_blocking(move || Counters::open(&path)).await? {
            Ok(counters) => break counters,
            Err(error @ CountersError::InUse(_)) if begun.elapsed() > HANDOVER => {
                return Err(error).context("only one process may run the policy service on one [state] dir");
            }
            Err(CountersError::InUse(_)) => tokio::time::sleep(Duration::from_millis(100)).await,
            Err(error) => {
                tracing::error!(%error, "no state file: counters are kept in memory and lost at the end; correct [state] dir");
                return Ok(State { counters: None, complained: None });
            }
        }
    };
    let checks = Arc::clone(checks);
    let loaded = tokio::task::spawn_blocking(move || {
        let now = now();
        for check in checks.iter() {
            let Some(kept) = check.kept() else { continue };
            for space in kept.spaces() {
                for (key, value) in counters.load(&space)? {
                    kept.restore(&space, &key, &value, now);
                }
            }
        }
        Ok::<_, CountersError>(counters)
    });
    match loaded.await? {
        Ok(counters) => Ok(State { counters: Some(counters), complained: None }),
        Err(error) => {
            tracing::error!(%error, "the state file cannot be read: counters are kept in memory and lost at the end; remove it");
            Ok(State { counters: None, complained: None })
        }
    }
}

impl State {
    /// Writes changes until `end`, and then once more.
    pub(crate) async fn keep(mut self, checks: Checks, end: impl Future<Output = ()>) {
        let mut ticks = tokio::time::interval(EVERY);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut end = std::pin::pin!(end);
        loop {
            tokio::select! {
                biased;
                () = &mut end => break,
                _ = ticks.tick() => {}
            }
            self.save(&checks, false).await;
        }
        self.save(&checks, true).await;
    }

    /// Writes what has changed.
    async fn save(&mut self, checks: &Checks, stopping: bool) {
        let now = now();
        let kept = || checks.iter().filter_map(|check| check.kept());
        let changes: Vec<Changes> = kept().flat_map(|kept| kept.changes(now, stopping)).collect();
        let Some(mut counters) = self.counters.take() else { return };
        let written = tokio::task::spawn_blocking(move || {
            let outcome = counters.save(&changes);
            (counters, outcome)
        });
        let Ok((counters, outcome)) = written.await else { return };
        self.counters = Some(counters);
        if let Err(error) = outcome {
            kept().for_each(Kept::lost);
            if self.complained.is_none_or(|at| at.elapsed() > COMPLAIN) {
                self.complained = Some(Instant::now());
                tracing::error!(%error, "counters not saved; tried again every {EVERY:?}");
            }
        }
    }
}
