//! The parts of a table, each of a range of key groups. One that is full is split in two: so
//! growing, writing out and forgetting go in small steps, and a table has no more parts than it
//! needs (extendible hashing; Fagin, Nievergelt, Pippenger and Strong, 1979).

use std::ops::{Index, IndexMut, Range};

use serde::Serialize;

use super::inner;
use super::shard::Shard;
use crate::{KEY_GROUPS, KeyGroup, group_of, hash_key};

/// With so many entries a part is split. It is what 2^14 buckets hold: where it would grow.
pub(super) const SPLIT_AT: usize = (1 << 14) / 8 * 7;

pub(super) struct Shards<K, V> {
    list: Vec<Shard<K, V>>,
    /// The shard of each range of groups that is as wide as the narrowest shard.
    directory: Vec<u16>,
    /// How wide that is, as a power of two.
    width: u32,
}

impl<K: Serialize + Eq, V> Shards<K, V> {
    /// One shard.
    pub(super) fn new(complete: bool) -> Self {
        let list = vec![Shard::new(0..KEY_GROUPS, complete)];
        Shards { list, directory: vec![0], width: KEY_GROUPS.ilog2() }
    }

    /// As many as so many entries in so many groups need, and how many entries each of them will
    /// have. They are empty, and complete.
    pub(super) fn expecting(entries: usize, groups: usize) -> (Self, usize) {
        let mut shards = Shards::new(true);
        // As many as there would be in all groups.
        let entries = entries.saturating_mul(usize::from(KEY_GROUPS)) / groups.max(1);
        // Groups have not all the same number of keys.
        while shards.width > 0 && entries / shards.list.len() >= SPLIT_AT / 8 * 7 {
            (0..shards.list.len()).for_each(|index| {
                shards.split(index);
            });
        }
        let each = entries / shards.list.len();
        (shards, each)
    }

    /// The shard of a key.
    #[inline]
    pub(super) fn of(&self, hash: u64) -> usize {
        usize::from(self.directory[usize::from(group_of(hash) >> self.width)])
    }

    pub(super) fn len(&self) -> usize {
        self.list.len()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Shard<K, V>> {
        self.list.iter()
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Shard<K, V>> {
        self.list.iter_mut()
    }

    /// The shards that hold something of these groups, by group.
    pub(super) fn within(&self, groups: &Range<KeyGroup>) -> Vec<usize> {
        if groups.is_empty() {
            return Vec::new();
        }
        let places = usize::from(groups.start >> self.width)
            ..=usize::from((groups.end - 1).min(KEY_GROUPS - 1) >> self.width);
        let mut shards: Vec<usize> =
            self.directory[places].iter().map(|index| usize::from(*index)).collect();
        shards.dedup();
        shards
    }

    /// Splits a shard in two: the upper half of its groups goes into a new one behind all others.
    /// A shard of one group stays as it is, and the answer is no.
    pub(super) fn split(&mut self, index: usize) -> bool {
        let groups = self.list[index].groups.clone();
        let middle = groups.start + (groups.end - groups.start) / 2;
        if middle == groups.start {
            return false;
        }
        let complete = self.list[index].complete;
        let lower = Shard::new(groups.start..middle, complete);
        let whole = std::mem::replace(&mut self.list[index], lower);
        let mut upper = Shard::new(middle..groups.end, complete);
        let half = whole.len() / 2;
        whole.drain(|slot, flags| {
            let hash = hash_key(&slot.key);
            let lower = &mut self.list[index];
            let shard = if group_of(hash) < middle { lower } else { &mut upper };
            shard.make_room(half);
            shard.insert(inner(hash), slot, flags);
        });
        if usize::from(groups.end - groups.start) == 1 << self.width {
            self.directory = self.directory.iter().flat_map(|index| [*index; 2]).collect();
            self.width -= 1;
        }
        let (from, to) = (middle >> self.width, groups.end >> self.width);
        self.directory[usize::from(from)..usize::from(to)].fill(self.list.len() as u16);
        self.list.push(upper);
        true
    }
}

impl<K, V> Index<usize> for Shards<K, V> {
    type Output = Shard<K, V>;

    #[inline]
    fn index(&self, index: usize) -> &Shard<K, V> {
        &self.list[index]
    }
}

impl<K, V> IndexMut<usize> for Shards<K, V> {
    #[inline]
    fn index_mut(&mut self, index: usize) -> &mut Shard<K, V> {
        &mut self.list[index]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::Slot;

    /// Whatever was split, every group has one shard, and every key is in that of its group.
    fn check(shards: &Shards<u64, ()>, keys: usize) {
        let mut owners = vec![None; usize::from(KEY_GROUPS)];
        let mut found = 0;
        for (index, shard) in shards.iter().enumerate() {
            for group in shard.groups.clone() {
                assert_eq!(owners[usize::from(group)].replace(index), None, "group {group}");
            }
            shard.for_each(|slot| {
                assert!(shard.groups.contains(&group_of(hash_key(&slot.key))));
                assert_eq!(shards.of(hash_key(&slot.key)), index);
                found += 1;
            });
        }
        assert_eq!(found, keys);
        let owners: Vec<usize> = owners.into_iter().map(Option::unwrap).collect();
        for groups in [0..0, 0..1, 7..9, 500..530, 1_000..KEY_GROUPS, 0..KEY_GROUPS] {
            let mut expected = owners[usize::from(groups.start)..usize::from(groups.end)].to_vec();
            expected.dedup();
            assert_eq!(shards.within(&groups), expected, "{groups:?}");
        }
    }

    #[test]
    fn every_group_has_one_shard_whatever_was_split() {
        let mut shards = Shards::new(true);
        let keys = 20_000;
        for key in 0..keys {
            let hash = hash_key(&key);
            let index = shards.of(hash);
            shards[index].make_room(0);
            shards[index].insert(inner(hash), Slot { key, value: () }, 0);
        }
        check(&shards, keys as usize);
        let mut random = 1u64;
        for _ in 0..60 {
            random = hash_key(&random);
            let _ = shards.split(shards.of(random));
            check(&shards, keys as usize);
        }
        // Down to single groups, which stay whole.
        while shards.len() < usize::from(KEY_GROUPS) {
            (0..shards.len()).for_each(|index| {
                shards.split(index);
            });
        }
        assert!(!shards.split(0));
        assert_eq!(shards.len(), usize::from(KEY_GROUPS));
        check(&shards, keys as usize);
    }

    #[test]
    fn there_are_as_many_shards_as_the_entries_need() {
        for (entries, count) in [(0, 1), (10_000, 1), (SPLIT_AT, 2), (100_000, 8), (1 << 30, 1_024)]
        {
            let (shards, each) = Shards::<u64, ()>::expecting(entries, 1_024);
            assert_eq!((shards.len(), each), (count, entries / count), "{entries}");
            check(&shards, 0);
        }
    }
}
