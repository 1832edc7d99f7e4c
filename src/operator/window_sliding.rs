//! What windows that overlap hold together, from the slices that they share.
//!
//! Merging all slices of each window anew would cost as many merges per key and window as a
//! window has slices. Instead, slices stand on two stacks (Tangwongsan, Hirzel, Schneider and Wu,
//! "General incremental sliding-window aggregation", PVLDB 2015): of the slices up to some time,
//! the merged states of all suffixes; of those after it, the merged state of all. A window is one
//! of each. When the first stack is used up, it is built anew from the slices of the window. So a
//! window costs about three merges per key, however many slices it has.

use std::collections::BTreeMap;

use hashbrown::HashTable;
use hashbrown::hash_table::Entry;
use highwater_state::hash_key;
use serde::Serialize;

use super::window_tables::{Slice, Slices};
use crate::error::Error;
use crate::keyed::Key;
use crate::time::EventTime;
use crate::window::Window;

/// A state per key, merged from several tables.
#[derive(Clone)]
pub(super) struct Merged<K, S> {
    entries: HashTable<(u64, K, S)>,
}

/// The upper bits have chosen the worker: the table looks at others.
fn mixed(hash: u64) -> u64 {
    hash.rotate_left(20)
}

impl<K: Key, S> Merged<K, S> {
    pub(super) fn new() -> Self {
        Merged { entries: HashTable::new() }
    }

    pub(super) fn add(&mut self, hash: u64, key: K, state: S, merge: impl FnOnce(&mut S, S)) {
        let same = |entry: &(u64, K, S)| entry.0 == hash && entry.1 == key;
        match self.entries.entry(mixed(hash), same, |entry| mixed(entry.0)) {
            Entry::Occupied(mut entry) => merge(&mut entry.get_mut().2, state),
            Entry::Vacant(entry) => {
                entry.insert((hash, key, state));
            }
        }
    }

    pub(super) fn into_entries(self) -> impl Iterator<Item = (K, S)> {
        self.entries.into_iter().map(|(_, key, state)| (key, state))
    }
}

impl<K: Key, S: Clone> Merged<K, S> {
    fn add_slice(&mut self, slice: &Slice<K, S>, merge: impl Fn(&mut S, S))
    where
        S: Serialize,
    {
        slice.table.for_each(|key, state| {
            self.add(hash_key(key), key.clone(), state.clone(), &merge);
        });
    }

    fn add_all(&mut self, other: &Self, merge: impl Fn(&mut S, S)) {
        for (hash, key, state) in &other.entries {
            self.add(*hash, key.clone(), state.clone(), &merge);
        }
    }
}

/// The two stacks. They hold nothing that the slices do not, and may be dropped at any time.
///
/// IMPORTANT: a slice must not change once a window that contains it has been asked for.
pub(super) struct Sliding<K, S> {
    /// By the start of a slice: it and all slices behind it, up to `middle`.
    front: BTreeMap<EventTime, Merged<K, S>>,
    middle: EventTime,
    /// All slices from `middle` up to `until`.
    back: Merged<K, S>,
    until: EventTime,
}

impl<K: Key, S: Serialize + Clone> Sliding<K, S> {
    pub(super) fn new() -> Self {
        let (front, back) = (BTreeMap::new(), Merged::new());
        Sliding { front, middle: EventTime::MIN, back, until: EventTime::MIN }
    }

    /// What a window holds. Windows must be asked for in order of end, and so of start.
    pub(super) fn window(
        &mut self,
        window: Window,
        slices: &mut Slices<K, S>,
        mut gather: impl FnMut(&mut Slice<K, S>) -> Result<(), Error>,
        merge: impl Fn(&mut S, S),
    ) -> Result<Merged<K, S>, Error> {
        if self.front.is_empty() || window.start >= self.middle {
            self.clear();
            let mut suffix = Merged::new();
            for slice in slices.within(window.start, window.end).iter_mut().rev() {
                gather(slice)?;
                suffix.add_slice(slice, &merge);
                self.front.insert(slice.window.start, suffix.clone());
            }
            (self.middle, self.until) = (window.end, window.end);
        } else if self.until < window.end {
            for slice in slices.within(self.until, window.end) {
                gather(slice)?;
                self.back.add_slice(slice, &merge);
            }
            self.until = window.end;
        }
        self.front = self.front.split_off(&window.start);
        let front = self.front.first_key_value().map(|(_, suffix)| suffix);
        let mut whole = front.cloned().unwrap_or_else(Merged::new);
        whole.add_all(&self.back, merge);
        Ok(whole)
    }

    /// Gives the memory back; the next window is merged from its slices.
    pub(super) fn clear(&mut self) {
        self.front.clear();
        self.back = Merged::new();
    }

    /// Bytes in memory, without what keys and states point to.
    pub(super) fn memory(&self) -> usize {
        let tables = self.front.values().chain([&self.back]);
        tables.map(|table| table.entries.allocation_size()).sum()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use highwater_state::{KEY_GROUPS, RecordOnly};
    use proptest::prelude::*;

    use super::*;
    use crate::keyed::Backing;
    use crate::micros;
    use crate::window::{Cumulate, FixedWindows, Hopping};

    type States = BTreeMap<u8, Vec<i64>>;

    /// The simple version: merge all slices of the window.
    fn merge_all(window: Window, slices: &mut Slices<u8, Vec<i64>>) -> States {
        let mut all = States::new();
        for slice in slices.within(window.start, window.end) {
            slice.table.for_each(|key, times| {
                all.entry(*key).or_default().extend(times);
            });
        }
        all
    }

    fn sorted(entries: impl Iterator<Item = (u8, Vec<i64>)>) -> States {
        entries
            .map(|(key, mut times)| {
                times.sort_unstable();
                (key, times)
            })
            .collect()
    }

    /// Fires every window in order of end, with and without the stacks.
    fn check(kind: &impl FixedWindows, events: &[(u8, i64)], cleared: usize) {
        let (store, id) = (Arc::new(RecordOnly::default()), "windows".into());
        let backing = Backing { store, id, groups: 0..KEY_GROUPS, fresh: true };
        let mut slices: Slices<u8, Vec<i64>> = Slices::restore(&backing, &[], true);
        let (mut opened, mut windows) = (BTreeMap::new(), Vec::new());
        for (key, time) in events {
            let at = EventTime::from_micros(*time);
            let Some(slice) = kind.slice(at) else { return };
            kind.for_each(at, |w| windows.push((w.end, w.start)));
            let (index, _) = slices.find(slice, &mut opened);
            let table = &mut slices.list[index].table;
            table.update(hash_key(key), key, Vec::new).push(*time);
        }
        windows.sort_unstable();
        windows.dedup();
        let mut sliding = Sliding::new();
        for (count, (end, start)) in windows.into_iter().enumerate() {
            if count == cleared {
                sliding.clear();
            }
            let window = Window { start, end };
            let merge = |into: &mut Vec<i64>, from: Vec<i64>| into.extend(from);
            let whole = sliding.window(window, &mut slices, |_| Ok(()), merge).unwrap();
            let expected = merge_all(window, &mut slices);
            assert_eq!(sorted(whole.into_entries()), sorted(expected.into_iter()), "{window:?}");
        }
    }

    proptest! {
        #[test]
        fn differential_two_stacks_against_merging_all_slices(
            events in prop::collection::vec((0u8..4, -90i64..90), 0..60),
            size in 1i64..40, slide in 1i64..20, step in 1i64..10, steps in 1i64..8,
            cleared in 0usize..40,
        ) {
            check(&Hopping::of(micros(size), micros(slide)), &events, cleared);
            check(&Cumulate::of(micros(step), micros(step * steps)), &events, cleared);
        }
    }
}
