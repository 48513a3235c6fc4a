//! A bounded map whose changes can be told to the state file.
//!
//! When it is full, something goes for each new key: what is worth least among the next [`LOOK`] entries from where the last look
//! ended. Entries that are worth nothing (a full bucket, a triplet past its time) are the same as absent; [`Table::sweep`] drops them
//! a few thousand at a time, so that in a table that is not under attack nothing else ever has to go.

use mailsql_store::counters::Changes;
use std::collections::HashMap;
use std::sync::Arc;

/// Entries looked at for one that can go.
const LOOK: usize = 32;
/// Entries looked at by one sweep.
const SWEEP: usize = 4096;

/// What an entry is worth.
pub(crate) trait Worth {
    /// 0 for as good as absent; otherwise the more, the later it goes. `now` is in nanoseconds.
    fn worth(&self, now: u64) -> u64;
}

struct Slot<V> {
    key: Arc<[u8]>,
    value: V,
    changed: bool,
}

/// The map.
pub(crate) struct Table<V> {
    index: HashMap<Arc<[u8]>, u32>,
    slots: Vec<Option<Slot<V>>>,
    free: Vec<u32>,
    hand: usize,
    capacity: usize,
    changed: Vec<u32>,
    gone: Vec<Arc<[u8]>>,
    /// Everything must be told: what was told was lost, or there is too much to tell.
    all: bool,
}

impl<V: Worth> Table<V> {
    pub(crate) fn new(capacity: usize) -> Self {
        Self {
            index: HashMap::new(),
            slots: Vec::new(),
            free: Vec::new(),
            hand: 0,
            capacity: capacity.clamp(1, u32::MAX as usize),
            changed: Vec::new(),
            gone: Vec::new(),
            all: false,
        }
    }

    pub(crate) fn find(&self, key: &[u8]) -> Option<&V> {
        self.slots[*self.index.get(key)? as usize].as_ref().map(|slot| &slot.value)
    }

    pub(crate) fn set(&mut self, key: &[u8], value: V, now: u64) {
        if let Some(&at) = self.index.get(key) {
            if let Some(slot) = &mut self.slots[at as usize] {
                slot.value = value;
                if !slot.changed {
                    slot.changed = true;
                    self.changed.push(at);
                }
            }
            return;
        }
        if self.index.len() >= self.capacity {
            self.make_room(now);
        }
        let key: Arc<[u8]> = key.into();
        let slot = Some(Slot { key: Arc::clone(&key), value, changed: true });
        let at = match self.free.pop() {
            Some(at) => {
                self.slots[at as usize] = slot;
                at
            }
            None => {
                self.slots.push(slot);
                u32::try_from(self.slots.len() - 1).unwrap_or(u32::MAX)
            }
        };
        self.index.insert(key, at);
        self.changed.push(at);
    }

    pub(crate) fn remove(&mut self, key: &[u8]) -> Option<V> {
        let at = *self.index.get(key)?;
        self.drop_slot(at as usize)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&Arc<[u8]>, &V)> {
        self.slots.iter().flatten().map(|slot| (&slot.key, &slot.value))
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.index.len()
    }

    fn drop_slot(&mut self, at: usize) -> Option<V> {
        let slot = self.slots[at].take()?;
        self.index.remove(&slot.key);
        self.free.push(u32::try_from(at).unwrap_or(u32::MAX));
        if self.gone.len() < self.capacity {
            self.gone.push(slot.key);
        } else {
            self.all = true;
        }
        Some(slot.value)
    }

    fn make_room(&mut self, now: u64) {
        let mut least: Option<(u64, usize)> = None;
        for _ in 0..LOOK.min(self.slots.len()) {
            let at = self.hand;
            self.hand = (self.hand + 1) % self.slots.len();
            let Some(slot) = &self.slots[at] else { continue };
            let worth = slot.value.worth(now);
            if least.is_none_or(|(known, _)| worth < known) {
                least = Some((worth, at));
            }
            if worth == 0 {
                break;
            }
        }
        if let Some((_, at)) = least {
            self.drop_slot(at);
        }
    }

    /// Drops entries that are worth nothing, of the next [`SWEEP`].
    pub(crate) fn sweep(&mut self, now: u64) {
        for _ in 0..SWEEP.min(self.slots.len()) {
            let at = self.hand;
            self.hand = (self.hand + 1) % self.slots.len();
            if self.slots[at].as_ref().is_some_and(|slot| slot.value.worth(now) == 0) {
                self.drop_slot(at);
            }
        }
    }

    /// What has changed since the last time this was asked.
    pub(crate) fn changes(&mut self, space: &str, encode: impl Fn(&V) -> Box<[u8]>) -> Changes {
        let all = std::mem::take(&mut self.all);
        let gone = std::mem::take(&mut self.gone);
        let changed = std::mem::take(&mut self.changed);
        let mut set = Vec::new();
        if all {
            for slot in self.slots.iter_mut().flatten() {
                slot.changed = false;
                set.push((Arc::clone(&slot.key), encode(&slot.value)));
            }
            return Changes { space: space.into(), clear: true, gone: Vec::new(), set };
        }
        for at in changed {
            // The slot may be free by now, or belong to another key that is told for itself.
            if let Some(slot) = &mut self.slots[at as usize]
                && std::mem::take(&mut slot.changed)
            {
                set.push((Arc::clone(&slot.key), encode(&slot.value)));
            }
        }
        Changes { space: space.into(), clear: false, gone, set }
    }

    /// What was told last was lost: the next time, everything is told.
    pub(crate) fn lost(&mut self) {
        self.all = true;
    }

    /// Puts in what the file holds, and tells nothing of it.
    pub(crate) fn restore(&mut self, key: &[u8], value: V, now: u64) {
        if value.worth(now) == 0 {
            self.gone.push(key.into());
            return;
        }
        self.set(key, value, now);
        if let Some(at) = self.changed.pop()
            && let Some(slot) = &mut self.slots[at as usize]
        {
            slot.changed = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    /// Worth something until a moment.
    #[derive(Clone, Copy, Debug, PartialEq)]
    struct Until(u64);

    impl Worth for Until {
        fn worth(&self, now: u64) -> u64 {
            self.0.saturating_sub(now)
        }
    }

    fn encode(value: &Until) -> Box<[u8]> {
        value.0.to_be_bytes().into()
    }

    fn keys(table: &Table<Until>) -> Vec<u8> {
        let mut keys: Vec<u8> = table.iter().map(|(key, _)| key[0]).collect();
        keys.sort_unstable();
        keys
    }

    #[test]
    fn what_is_worth_nothing_goes_first_and_then_what_is_worth_least() {
        let mut table = Table::new(3);
        for (key, until) in [(1, 50), (2, 10), (3, 70)] {
            table.set(&[key], Until(until), 0);
        }
        table.set(&[4], Until(60), 20);
        assert_eq!(keys(&table), [1, 3, 4], "2 had had its time");
        table.set(&[5], Until(90), 20);
        assert_eq!(keys(&table), [3, 4, 5], "1 was worth least");
        table.sweep(75);
        assert_eq!(keys(&table), [5]);
        assert_eq!(table.find(&[5]), Some(&Until(90)));
        assert_eq!(table.find(&[3]), None);
    }

    #[test]
    fn any_number_of_keys_does_not_make_it_grow() {
        let mut table = Table::new(1000);
        for key in 0..50_000u32 {
            table.set(&key.to_be_bytes(), Until(u64::from(key) + 10), 0);
        }
        assert_eq!(table.len(), 1000);
        assert!(table.slots.len() <= 1000 && table.gone.len() <= 1000);
        let told = table.changes("x", encode);
        assert!(told.clear && told.set.len() == 1000);
    }

    #[test]
    fn what_comes_from_the_file_is_not_told_again() {
        let mut table = Table::new(10);
        table.restore(b"a", Until(5), 0);
        table.restore(b"b", Until(5), 9);
        let told = table.changes("x", encode);
        assert_eq!((told.set.len(), told.gone.len()), (0, 1), "b is dropped from the file");
        table.lost();
        assert_eq!(table.changes("x", encode).set.len(), 1);
    }

    proptest! {
        /// Whatever happens in whatever order, a file that is told the changes holds what the table holds.
        #[test]
        fn a_file_that_is_told_everything_is_the_same(
            steps in proptest::collection::vec((0..5u8, 0..12u8, 0..100u64), 0..200),
        ) {
            let mut table = Table::new(6);
            let mut file: BTreeMap<Vec<u8>, Vec<u8>> = BTreeMap::new();
            let mut now = 0;
            for (what, key, number) in steps {
                match what {
                    0 | 1 => table.set(&[key], Until(now + number), now),
                    2 => drop(table.remove(&[key])),
                    3 => { now += number; table.sweep(now); }
                    _ => {
                        let told = table.changes("x", encode);
                        if number < 20 { table.lost(); continue; }
                        if told.clear { file.clear(); }
                        for key in told.gone { file.remove(&key[..]); }
                        for (key, value) in told.set { file.insert(key.to_vec(), value.to_vec()); }
                        let held: BTreeMap<Vec<u8>, Vec<u8>> =
                            table.iter().map(|(key, value)| (key.to_vec(), encode(value).to_vec())).collect();
                        prop_assert_eq!(&file, &held);
                    }
                }
                prop_assert!(table.len() <= 6);
            }
        }
    }
}
