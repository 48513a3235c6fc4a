//! When a server that fails is left alone, and when it is tried again. Pure: time and chance are arguments.
//!
//! ```text
//!            failed                     rest is over: one caller probes
//! Closed ───────────────▶ Open(until) ─────────────────────────────────▶ Probing(until)
//!    ▲                        ▲                                             │   │
//!    │                        └──────────────── failed (twice the rest) ────┘   │
//!    └───────────────────────────────── succeeded ──────────────────────────────┘
//! ```
//!
//! The rest doubles from [`REST`] to [`MAX_REST`] with each failure in a row, and up to a quarter is added by chance,
//! so that many daemons do not come back at one moment. A server that fails again within [`CALM`] of its return goes
//! on where it was. A probe whose caller vanished is given up after [`PROBE`].

use std::time::{Duration, Instant};

/// First rest after a failure.
pub(super) const REST: Duration = Duration::from_millis(500);
/// Longest rest, before chance adds to it. A server that is back is in use again within this time and a probe's.
pub(super) const MAX_REST: Duration = Duration::from_secs(2);
/// A success that lasted this long ends the row of failures.
pub(super) const CALM: Duration = Duration::from_secs(10);
/// How long one caller may probe before another may.
pub(super) const PROBE: Duration = Duration::from_secs(3);

/// The state of one server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Breaker {
    state: State,
    /// Failures in a row.
    failures: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Closed { since: Option<Instant> },
    Open { until: Instant },
    Probing { until: Instant },
}

/// Whether a server may be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Pass {
    /// Yes.
    Free,
    /// By one caller, to see whether it is back; he takes [`Breaker::begin_probe`].
    Probe,
    /// Not before this moment.
    Shut(Instant),
}

impl Default for Breaker {
    fn default() -> Self {
        Self { state: State::Closed { since: None }, failures: 0 }
    }
}

impl Breaker {
    /// Whether the server may be asked now.
    #[must_use]
    pub(super) fn pass(&self, now: Instant) -> Pass {
        match self.state {
            State::Closed { .. } => Pass::Free,
            State::Open { until } | State::Probing { until } if now < until => Pass::Shut(until),
            State::Open { .. } | State::Probing { .. } => Pass::Probe,
        }
    }

    /// Takes the one place for a probe; false when somebody else has it, or none is due.
    pub(super) fn begin_probe(&mut self, now: Instant) -> bool {
        let due = self.pass(now) == Pass::Probe;
        if due {
            self.state = State::Probing { until: now + PROBE };
        }
        due
    }

    /// The server answered. Says whether it had been left alone before.
    pub(super) fn succeeded(&mut self, now: Instant) -> bool {
        match self.state {
            State::Closed { since: Some(since) } if now.saturating_duration_since(since) >= CALM => {
                *self = Self::default();
                false
            }
            State::Closed { .. } => false,
            State::Open { .. } | State::Probing { .. } => {
                self.state = State::Closed { since: Some(now) };
                true
            }
        }
    }

    /// The server failed. `chance` is any number. Says whether it was in use until now.
    pub(super) fn failed(&mut self, now: Instant, chance: u64) -> bool {
        let calm = |since: Instant| now.saturating_duration_since(since) >= CALM;
        let in_use = match self.state {
            // One outage is one failure, however many queries it met.
            State::Open { until } if now < until => return false,
            State::Closed { since: Some(since) } if calm(since) => {
                self.failures = 0;
                true
            }
            State::Closed { .. } => true,
            State::Open { .. } | State::Probing { .. } => false,
        };
        let rest = REST.saturating_mul(1 << self.failures.min(16)).min(MAX_REST);
        let more = rest / 4 * u32::try_from(chance % 1000).unwrap_or(0) / 1000;
        self.failures = self.failures.saturating_add(1);
        self.state = State::Open { until: now + rest + more };
        in_use
    }

    /// A word for logs and metrics: `closed`, `open` or `half-open`.
    #[must_use]
    pub(super) fn word(&self, now: Instant) -> &'static str {
        match self.pass(now) {
            Pass::Free => "closed",
            Pass::Probe => "half-open",
            Pass::Shut(_) if matches!(self.state, State::Probing { .. }) => "half-open",
            Pass::Shut(_) => "open",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn a_failure_shuts_until_the_rest_is_over_and_then_one_caller_probes() {
        let start = Instant::now();
        let mut breaker = Breaker::default();
        assert_eq!(breaker.pass(start), Pass::Free);
        assert!(breaker.failed(start, 0));
        assert_eq!(breaker.pass(start + REST - MS), Pass::Shut(start + REST));
        assert!(!breaker.begin_probe(start + REST - MS));
        assert!(breaker.begin_probe(start + REST));
        assert!(!breaker.begin_probe(start + REST), "one probes");
        assert_eq!(breaker.pass(start + REST), Pass::Shut(start + REST + PROBE));
        assert!(breaker.succeeded(start + REST + MS));
        assert_eq!(breaker.pass(start + REST + MS), Pass::Free);
        assert!(!breaker.succeeded(start + REST + 2 * MS), "told once");
    }

    #[test]
    fn rests_double_up_to_the_longest_and_chance_adds_a_quarter_at_most() {
        for (chance, factor) in [(0, 1000), (500, 1125), (999, 1250)] {
            let mut now = Instant::now();
            let mut breaker = Breaker::default();
            for expected in [500, 1000, 2000, 2000, 2000] {
                breaker.failed(now, chance);
                let Pass::Shut(until) = breaker.pass(now) else { panic!("open") };
                let rest = (until - now).as_millis();
                let longest = expected * factor / 1000;
                assert!(rest <= longest && rest + 1 >= longest - 1, "{chance}: {rest} instead of {longest}");
                now = until;
                assert!(breaker.begin_probe(now));
            }
        }
    }

    #[test]
    fn many_failures_of_one_outage_count_once() {
        let start = Instant::now();
        let mut breaker = Breaker::default();
        assert!(breaker.failed(start, 0));
        for _ in 0..50 {
            assert!(!breaker.failed(start + MS, 0));
        }
        assert_eq!(breaker.pass(start + MS), Pass::Shut(start + REST));
    }

    #[test]
    fn a_server_that_comes_and_goes_rests_longer_and_a_calm_one_begins_anew() {
        let start = Instant::now();
        let mut breaker = Breaker::default();
        breaker.failed(start, 0);
        breaker.succeeded(start + REST);
        breaker.failed(start + REST + MS, 0);
        assert_eq!(breaker.pass(start + REST + MS), Pass::Shut(start + REST + MS + 2 * REST));
        breaker.succeeded(start + 4 * REST);
        let later = start + 4 * REST + CALM;
        breaker.failed(later, 0);
        assert_eq!(breaker.pass(later), Pass::Shut(later + REST));
    }

    #[test]
    fn a_probe_that_never_ends_does_not_shut_a_server_for_ever() {
        let start = Instant::now();
        let mut breaker = Breaker::default();
        breaker.failed(start, 0);
        assert!(breaker.begin_probe(start + REST));
        assert_eq!(breaker.word(start + REST), "half-open");
        assert!(breaker.begin_probe(start + REST + PROBE));
    }
}
