//! Cores that do not halt.
//!
//! A core of a virtual machine that goes idle is given back to the host, and takes some 50 µs to come back: ten times the
//! cost of a lookup. Whether a core goes idle between two lookups of one client depends on where the scheduler puts the
//! two processes and on what else runs, so figures of single connections jump between two values. Programs of the
//! lowest priority that only spin keep the cores, and take nothing from whoever has work. Both sides gain alike.

use anyhow::Result;
use mailsql_rig::{Process, TempRoot, peer};
use std::process::Command;

/// The spinning programs; they end with this.
pub(crate) struct Awake {
    _processes: Vec<Process>,
    _root: TempRoot,
}

impl Awake {
    pub(crate) fn start() -> Result<Self> {
        let root = TempRoot::new()?;
        let cores = std::thread::available_parallelism()?.get();
        let processes = (0..cores).map(|_| {
            let mut command = Command::new(peer("chrt", "util-linux")?);
            // SCHED_IDLE: below every nice value.
            command.args(["--idle", "0", "sh", "-c", "while :; do :; done"]);
            Process::spawn("spinner", command, &root.join("log"))
        });
        Ok(Self { _processes: processes.collect::<Result<_>>()?, _root: root })
    }
}
