//! Answers of one kind, bounded in number and in bytes.

use super::flights::Flights;
use super::keep::{Keep, Key};
use super::{CacheStats, CacheTimes, RETRY};
use crate::{Lookup, Unavailable};
use quick_cache::OptionsBuilder;
use quick_cache::sync::{Cache, DefaultLifecycle};
use std::hash::RandomState;
use std::time::{Duration, Instant};

/// What the cache itself needs for an entry, in bytes: links, hash table, allocator.
const OVERHEAD: usize = 64;
/// Places for keys that were dropped, in parts of the number of entries: a key that comes back soon is taken seriously.
const GHOSTS: f64 = 0.1;

/// What is remembered of one key. Times are milliseconds since the table was made: half the size of two `Instant`s.
#[derive(Clone)]
struct Entry<T> {
    answer: Answer<T>,
    /// Until then it is given out as it is.
    fresh: u64,
    /// By how much that was put off because the database could not be asked.
    late: u32,
}

#[derive(Clone)]
enum Answer<T> {
    There(T),
    Nothing,
    Trouble(Unavailable),
}

#[derive(Clone)]
struct Weigher {
    least: u64,
}

impl<K: Key, V: Keep<K>> quick_cache::Weighter<K, Held<K, V>> for Weigher {
    fn weight(&self, key: &K, held: &Held<K, V>) -> u64 {
        let value = match &held.0.answer {
            Answer::There(kept) => V::weight(kept),
            Answer::Nothing => 0,
            // Shared by all who met the same trouble.
            Answer::Trouble(_) => 0,
        };
        let bytes = size_of::<K>() + size_of::<Held<K, V>>() + key.weight() + value + OVERHEAD;
        u64::try_from(bytes).unwrap_or(u64::MAX).max(self.least)
    }
}

/// An entry that knows of what it is one.
struct Held<K, V: Keep<K>>(Entry<V::Kept>);

impl<K, V: Keep<K>> Clone for Held<K, V> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

type Entries<K, V> = Cache<K, Held<K, V>, Weigher, RandomState, DefaultLifecycle<K, Held<K, V>>>;

pub(super) struct Table<K: Key, V: Keep<K>> {
    entries: Entries<K, V>,
    flights: Flights<K, Held<K, V>>,
    start: Instant,
}

impl<K: Key, V: Keep<K>> Table<K, V> {
    /// A table for answers of a kind of which few are expected.
    pub(super) fn new(times: &CacheTimes) -> Self {
        Self::with_share(times, 24)
    }

    /// A table that may have this part of all bytes: 2 for a half, and so on.
    pub(super) fn with_share(times: &CacheTimes, part: u64) -> Self {
        let bytes = (times.bytes / part).max(1);
        let entries = times.entries.max(1);
        // No entry weighs less than its share of the bytes, so that there are never more entries than allowed either.
        let least = bytes / u64::try_from(entries).unwrap_or(u64::MAX);
        let mut options = OptionsBuilder::new();
        options.estimated_items_capacity(entries).weight_capacity(bytes).ghost_allocation(GHOSTS);
        let weigher = Weigher { least };
        let entries = match options.build() {
            Ok(options) => Cache::with_options(options, weigher, RandomState::new(), DefaultLifecycle::default()),
            // Both capacities are given, so this does not happen.
            Err(_) => Cache::with(entries, bytes, weigher, RandomState::new(), DefaultLifecycle::default()),
        };
        Self { entries, flights: Flights::new(), start: Instant::now() }
    }

    /// The answer from memory, or by `load` where that is not fresh.
    pub(super) async fn find<'a>(
        &self,
        key: &K,
        now: Instant,
        times: &CacheTimes,
        stats: &CacheStats,
        load: impl FnOnce() -> Lookup<'a, Option<V>>,
    ) -> Result<Option<V>, Unavailable> {
        let now = millis(now.saturating_duration_since(self.start));
        let held = self.entries.get(key).map(|held| held.0);
        if let Some(entry) = held.as_ref().filter(|entry| entry.fresh > now)
            && let Some(answer) = answer(entry, key)
        {
            match &answer {
                Ok(_) if entry.late > 0 => CacheStats::count(&stats.stale_hits),
                Ok(Some(_)) => CacheStats::count(&stats.hits),
                Ok(None) => CacheStats::count(&stats.negative_hits),
                Err(_) => CacheStats::count(&stats.failures),
            }
            return answer;
        }
        let retry = now + millis(RETRY);
        let loading = async {
            CacheStats::count(&stats.loads);
            let entry = match load().await {
                Ok(Some(value)) => {
                    Entry { answer: Answer::There(value.keep(key)), fresh: now + millis(times.positive), late: 0 }
                }
                Ok(None) => Entry { answer: Answer::Nothing, fresh: now + millis(times.negative), late: 0 },
                Err(trouble) => match held {
                    Some(old) if old.serves(now, times.stale) => {
                        CacheStats::count(&stats.stale_hits);
                        let late = retry.saturating_sub(old.fresh - u64::from(old.late));
                        Entry { fresh: retry, late: u32::try_from(late).unwrap_or(u32::MAX).max(1), ..old }
                    }
                    _ => {
                        CacheStats::count(&stats.failures);
                        Entry { answer: Answer::Trouble(trouble), fresh: retry, late: 0 }
                    }
                },
            };
            Held(entry)
        };
        let Held(entry) = self.flights.run(key, loading, |held| self.entries.insert(key.clone(), held.clone())).await;
        answer(&entry, key).unwrap_or_else(|| Err(Unavailable::new("a remembered answer is broken")))
    }

    pub(super) fn forget(&self, key: &K) {
        self.flights.forget(key);
        self.entries.remove(key);
    }

    pub(super) fn forget_all(&self) {
        self.flights.forget_all();
        self.entries.clear();
    }

    pub(super) fn forget_where(&self, matches: impl Fn(&K) -> bool) {
        self.flights.forget_all();
        self.entries.retain(|key, _| !matches(key));
    }

    /// Entries, and what they weigh in bytes.
    pub(super) fn size(&self) -> (u64, u64) {
        (self.entries.len() as u64, self.entries.weight())
    }
}

impl<T> Entry<T> {
    /// Whether it still serves while the database cannot be asked.
    fn serves(&self, now: u64, stale: Duration) -> bool {
        let first = self.fresh - u64::from(self.late);
        !matches!(self.answer, Answer::Trouble(_)) && first.saturating_add(millis(stale)) > now
    }
}

/// What an entry answers; `None` when it cannot be read.
fn answer<K, V: Keep<K>>(entry: &Entry<V::Kept>, key: &K) -> Option<Result<Option<V>, Unavailable>> {
    match &entry.answer {
        Answer::There(kept) => V::give(kept, key).map(|value| Ok(Some(value))),
        Answer::Nothing => Some(Ok(None)),
        Answer::Trouble(trouble) => Some(Err(trouble.clone())),
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX / 4)
}
