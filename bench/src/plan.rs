//! How many rounds, and how long each run.

use std::time::Duration;

/// Rounds of a full measurement: many short turns meet the same disturbances; a few long ones meet different ones.
const FULL_ROUNDS: usize = 11;
/// Length of a run in a full measurement.
const FULL_SLICE: Duration = Duration::from_millis(1500);
/// Rounds of a quick one.
const QUICK_ROUNDS: usize = 3;
/// Length of a run in a quick one.
const QUICK_SLICE: Duration = Duration::from_millis(800);

/// What a measurement consists of.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    /// `full`, `quick`, or `custom`.
    pub(crate) name: &'static str,
    /// Turns of each contender of a line.
    pub(crate) rounds: usize,
    /// Length of one turn.
    pub(crate) slice: Duration,
    /// Whether idle cores were kept from halting.
    pub(crate) awake: bool,
    /// Only lines of work whose name holds this.
    only: Option<String>,
}

impl Plan {
    pub(crate) fn full() -> Self {
        Self { name: "full", rounds: FULL_ROUNDS, slice: FULL_SLICE, awake: false, only: None }
    }

    pub(crate) fn quick() -> Self {
        Self { name: "quick", rounds: QUICK_ROUNDS, slice: QUICK_SLICE, awake: false, only: None }
    }

    /// Replaces what is given.
    pub(crate) fn change(&mut self, rounds: Option<usize>, slice_ms: Option<u64>, only: Option<String>) {
        if rounds.is_some() || slice_ms.is_some() || only.is_some() {
            self.name = "custom";
        }
        self.rounds = rounds.unwrap_or(self.rounds).max(1);
        self.slice = slice_ms.map_or(self.slice, Duration::from_millis);
        self.only = only;
    }

    /// Whether a line of this name is to be measured.
    pub(crate) fn wants(&self, line: &str) -> bool {
        self.only.as_ref().is_none_or(|only| line.contains(only.as_str()))
    }

    /// Length of the turn that comes before all others and is not counted.
    pub(crate) fn warm_up(&self) -> Duration {
        self.slice / 2
    }

    /// Length of a turn that only chooses between two floors.
    pub(crate) fn probe(&self) -> Duration {
        self.slice / 3
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_wants_all_lines_unless_one_is_named() {
        let mut plan = Plan::quick();
        assert!(plan.wants("cold-1"));
        plan.change(None, Some(200), Some("cold".into()));
        assert!(plan.wants("cold-1") && !plan.wants("repeated-1"));
        assert_eq!((plan.name, plan.rounds, plan.slice), ("custom", QUICK_ROUNDS, Duration::from_millis(200)));
    }
}
