//! Counts since the start, one set a server. Plain atomics: whoever renders metrics reads them when asked.

use super::faults::Class;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Upper bounds of the latency buckets, in microseconds; one more bucket holds what took longer.
pub const LATENCY_BUCKETS: [u64; 12] =
    [250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 1_000_000, 2_500_000];

/// How long answers took, as counts by bucket (not cumulative).
#[derive(Debug, Default)]
pub struct Latency {
    /// As many as [`LATENCY_BUCKETS`], and one for the rest.
    pub buckets: [AtomicU64; LATENCY_BUCKETS.len() + 1],
    /// Sum of all, in microseconds.
    pub sum: AtomicU64,
}

impl Latency {
    pub(super) fn count(&self, took: Duration) {
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let at = LATENCY_BUCKETS.iter().position(|bound| micros <= *bound).unwrap_or(LATENCY_BUCKETS.len());
        if let Some(bucket) = self.buckets.get(at) {
            bucket.fetch_add(1, Ordering::Relaxed);
        }
        self.sum.fetch_add(micros, Ordering::Relaxed);
    }
}

/// Counts of one server.
#[derive(Debug, Default)]
pub struct HostCounters {
    /// Statements that were answered, reads and writes.
    pub answered: AtomicU64,
    /// How long they took, from the moment a connection was there.
    pub latency: Latency,
    /// Failures, in the order of [`Class::ALL`].
    pub errors: [AtomicU64; Class::ALL.len()],
    /// Times that the breaker opened.
    pub opened: AtomicU64,
    /// Questions that were asked of another server after this one failed.
    pub retried: AtomicU64,
}

impl HostCounters {
    pub(super) fn error(&self, class: Class) {
        let at = Class::ALL.iter().position(|known| *known == class).unwrap_or(Class::ALL.len() - 1);
        if let Some(counter) = self.errors.get(at) {
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Failures of a class.
    #[must_use]
    pub fn errors(&self, class: Class) -> u64 {
        let at = Class::ALL.iter().position(|known| *known == class);
        at.and_then(|at| self.errors.get(at)).map_or(0, |counter| counter.load(Ordering::Relaxed))
    }
}

/// One server as it stands now, with its counts.
#[derive(Debug)]
pub struct HostReport<'a> {
    /// `host:port` or the path of its socket.
    pub endpoint: String,
    /// `closed`, `open` or `half-open`.
    pub breaker: &'static str,
    /// `writer`, `reader`, `nothing` or `unknown`.
    pub role: &'static str,
    /// Connections that are open, in use or not.
    pub open: usize,
    /// Connections in use.
    pub in_use: usize,
    /// Connections at most.
    pub limit: usize,
    /// Questions that wait for one.
    pub waiting: usize,
    /// Counts since the start.
    pub counters: &'a HostCounters,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn latencies_fall_into_their_buckets() {
        let latency = Latency::default();
        for (micros, bucket) in [(0, 0), (250, 0), (251, 1), (999, 2), (2_500_000, 11), (2_500_001, 12)] {
            let before = latency.buckets[bucket].load(Ordering::Relaxed);
            latency.count(Duration::from_micros(micros));
            assert_eq!(latency.buckets[bucket].load(Ordering::Relaxed), before + 1, "{micros}");
        }
        assert_eq!(latency.sum.load(Ordering::Relaxed), 250 + 251 + 999 + 2_500_000 + 2_500_001);
    }

    #[test]
    fn errors_are_counted_by_class() {
        let counters = HostCounters::default();
        for class in Class::ALL {
            counters.error(class);
            assert_eq!(counters.errors(class), 1, "{class:?}");
        }
    }
}
