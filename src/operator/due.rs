//! When to look at which key: a queue by time for millions of keys.

use std::cmp::{Ordering, Reverse};
use std::collections::{BTreeMap, BinaryHeap};

use crate::time::{EventTime, Span};

/// A calendar. What is due far ahead lies unsorted in buckets of some width; only the bucket
/// that time has reached is in order. So an entry costs a push into a list when it is made, and
/// its share of sorting a small list before it is due.
pub(crate) struct Due<K> {
    /// The width of a bucket in µs; 0 until the first entry has said how far ahead entries lie.
    width: i64,
    buckets: BTreeMap<i64, Vec<Entry<K>>>,
    /// What is left of the bucket that was opened last, the earliest at the end.
    current: Vec<Entry<K>>,
    /// What came for that bucket, or one before it, after it was opened.
    strays: BinaryHeap<Entry<K>>,
    opened: i64,
}

/// Buckets between now and where most entries lie.
const BUCKETS: i64 = 64;

/// A key, with its hash, and when it is due.
pub(crate) struct Entry<K> {
    pub(crate) time: EventTime,
    pub(crate) hash: u64,
    pub(crate) key: K,
}

/// The heap gives the earliest first.
impl<K> Ord for Entry<K> {
    fn cmp(&self, other: &Self) -> Ordering {
        other.time.cmp(&self.time)
    }
}

impl<K> PartialOrd for Entry<K> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<K> PartialEq for Entry<K> {
    fn eq(&self, other: &Self) -> bool {
        self.time == other.time
    }
}

impl<K> Eq for Entry<K> {}

impl<K> Default for Due<K> {
    fn default() -> Self {
        let (buckets, strays) = (BTreeMap::new(), BinaryHeap::new());
        Due { width: 0, buckets, current: Vec::new(), strays, opened: i64::MIN }
    }
}

impl<K> Due<K> {
    /// Adds an entry; `ahead` is about how far ahead of time it lies.
    pub(crate) fn push(&mut self, entry: Entry<K>, ahead: Span) {
        if self.width == 0 {
            self.width = (ahead.as_micros() / BUCKETS).max(1);
        }
        let bucket = entry.time.as_micros().div_euclid(self.width);
        if bucket <= self.opened {
            self.strays.push(entry);
        } else {
            self.buckets.entry(bucket).or_default().push(entry);
        }
    }

    /// Takes out all entries that are due, in no order. `is_due` must hold for every time before
    /// one for which it holds.
    pub(crate) fn take(&mut self, is_due: impl Fn(EventTime) -> bool) -> Vec<Entry<K>> {
        let mut taken = Vec::new();
        loop {
            let later = self.current.partition_point(|entry| !is_due(entry.time));
            taken.extend(self.current.drain(later..));
            while let Some(first) = self.strays.peek()
                && is_due(first.time)
            {
                taken.extend(self.strays.pop());
            }
            let Some(next) = self.buckets.first_entry() else { break };
            let (bucket, width) = (*next.key(), self.width);
            if !self.current.is_empty() || !is_due(micros(bucket.saturating_mul(width))) {
                break;
            }
            self.opened = bucket;
            let mut entries = next.remove();
            let end = bucket.checked_add(1).and_then(|next| next.checked_mul(width));
            if is_due(micros(end.map_or(i64::MAX, |end| end - 1))) {
                // Time has passed all of it: no order is needed.
                taken.extend(entries);
            } else {
                entries.sort_unstable_by_key(|entry| Reverse(entry.time));
                self.current = entries;
            }
        }
        taken
    }
}

fn micros(micros: i64) -> EventTime {
    EventTime::from_micros(micros)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn differential_calendar_against_a_sorted_list(
            steps in prop::collection::vec((-500i64..500, any::<bool>()), 1..100),
            ends in any::<bool>(),
            ahead in 1i64..200,
        ) {
            let (mut due, mut all) = (Due::default(), Vec::new());
            for (index, (time, take)) in steps.into_iter().enumerate() {
                // Also at the very ends of time.
                let time = match (ends, time) {
                    (true, t) if t > 450 => i64::MAX - (t - 451),
                    (true, t) if t < -450 => i64::MIN + (-451 - t),
                    (_, t) => t,
                };
                if take {
                    let bound = micros(time);
                    let found = due.take(|t| t <= bound);
                    let mut taken: Vec<_> = found.iter().map(|e| e.key).collect();
                    let is_due = |e: &(i64, usize)| *e <= (time, usize::MAX);
                    let (gone, left): (Vec<_>, Vec<_>) = all.into_iter().partition(is_due);
                    all = left;
                    let mut expected: Vec<usize> = gone.iter().map(|e| e.1).collect();
                    taken.sort_unstable();
                    expected.sort_unstable();
                    prop_assert_eq!(taken, expected);
                } else {
                    all.push((time, index));
                    let entry = Entry { time: micros(time), hash: 0, key: index };
                    due.push(entry, Span::from_micros(ahead));
                }
            }
        }
    }
}
