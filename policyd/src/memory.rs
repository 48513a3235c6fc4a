//! Answers of the database that are remembered for a while: limits, switches.

use crate::table::{Table, Worth};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Answers remembered at most.
const ENTRIES: usize = 50_000;

/// A lock that outlives a panic elsewhere: what it guards is changed in single steps.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Entry<T> {
    answer: T,
    fresh_until: u64,
    stale_until: u64,
}

impl<T> Worth for Entry<T> {
    fn worth(&self, now: u64) -> u64 {
        self.stale_until.saturating_sub(now)
    }
}

/// A memory of answers.
pub(crate) struct Memory<T>(Mutex<Table<Entry<T>>>);

impl<T: Copy> Memory<T> {
    pub(crate) fn new() -> Self {
        Self(Mutex::new(Table::new(ENTRIES)))
    }

    /// An answer that is still good.
    pub(crate) fn fresh(&self, key: &[u8], now: u64) -> Option<T> {
        lock(&self.0).find(key).filter(|entry| entry.fresh_until > now).map(|entry| entry.answer)
    }

    /// An answer for the time without a database.
    pub(crate) fn stale(&self, key: &[u8], now: u64) -> Option<T> {
        lock(&self.0).find(key).filter(|entry| entry.stale_until > now).map(|entry| entry.answer)
    }

    pub(crate) fn put(&self, key: &[u8], answer: T, now: u64, good: Duration, stale: Duration) {
        let nanos = |span: Duration| u64::try_from(span.as_nanos()).unwrap_or(u64::MAX);
        let fresh_until = now.saturating_add(nanos(good));
        let entry = Entry { answer, fresh_until, stale_until: fresh_until.saturating_add(nanos(stale)) };
        let mut table = lock(&self.0);
        table.set(key, entry, now);
        // This table is not kept; nobody asks what has changed.
        drop(table.changes("", |_| Box::default()));
    }

    pub(crate) fn forget(&self) {
        *lock(&self.0) = Table::new(ENTRIES);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_good_for_its_time_and_serves_longer_in_need() {
        let memory = Memory::new();
        memory.put(b"a", 7, 100, Duration::from_nanos(10), Duration::from_nanos(20));
        for (now, fresh, stale) in [(100, Some(7), Some(7)), (110, None, Some(7)), (130, None, None)] {
            assert_eq!((memory.fresh(b"a", now), memory.stale(b"a", now)), (fresh, stale), "{now}");
        }
        memory.forget();
        assert_eq!(memory.fresh(b"a", 100), None);
    }
}
