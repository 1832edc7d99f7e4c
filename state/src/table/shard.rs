//! A part of a table: a hash table, and a byte of flags per bucket.

use hashbrown::HashTable;
use serde::Serialize;

use super::{Slot, inner};
use crate::hash_key;

/// Changed in an epoch of even or odd number.
const DIRTY: [u8; 2] = [1, 2];
/// The store holds an entry for the key, or a commit under way does.
pub(super) const STORED: u8 = 4;
/// Used since the search for entries to forget last came by.
pub(super) const REFERENCED: u8 = 8;

/// The flag of what changed in this epoch.
#[inline]
pub(super) fn dirty(epoch: u8) -> u8 {
    DIRTY[usize::from(epoch & 1)]
}

/// The flag of what changed in the epoch before, and has not been written out.
#[inline]
pub(super) fn pending(epoch: u8) -> u8 {
    DIRTY[usize::from(!epoch & 1)]
}

pub(super) struct Shard<K, V> {
    slots: HashTable<Slot<K, V>>,
    /// By bucket; 0 where there is none.
    pub(super) flags: Vec<u8>,
    /// Flags that some bucket may have.
    seen: u8,
    /// All that the store holds is in memory.
    pub(super) complete: bool,
}

impl<K: Serialize + Eq, V> Shard<K, V> {
    pub(super) fn new(complete: bool) -> Self {
        Shard { slots: HashTable::new(), flags: Vec::new(), seen: 0, complete }
    }

    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }

    /// Bytes of the table itself, without what keys and values point to.
    pub(super) fn allocated(&self) -> usize {
        self.slots.allocation_size() + self.flags.capacity()
    }

    #[inline]
    pub(super) fn find(&self, inner: u64, key: &K) -> Option<usize> {
        self.slots.find_bucket_index(inner, |slot| slot.key == *key)
    }

    #[inline]
    pub(super) fn slot(&self, bucket: usize) -> &Slot<K, V> {
        match self.slots.get_bucket(bucket) {
            Some(slot) => slot,
            None => gone(),
        }
    }

    #[inline]
    pub(super) fn is_pending(&self, bucket: usize, epoch: u8) -> bool {
        self.flags[bucket] & pending(epoch) != 0
    }

    /// The value in a bucket, which is being changed.
    #[inline]
    pub(super) fn touch(&mut self, bucket: usize, dirty: u8) -> &mut V {
        self.flags[bucket] |= dirty | REFERENCED;
        self.seen |= dirty;
        match self.slots.get_bucket_mut(bucket) {
            Some(slot) => &mut slot.value,
            None => gone(),
        }
    }

    pub(super) fn note(&mut self, flags: u8) {
        self.seen |= flags;
    }

    /// Buckets that changed in the epoch before and have not been written out.
    pub(super) fn pending(&self, epoch: u8) -> Vec<usize> {
        let flag = pending(epoch);
        if self.seen & flag == 0 {
            return Vec::new();
        }
        let buckets = self.flags.iter().enumerate();
        buckets.filter(|(_, flags)| **flags & flag != 0).map(|(bucket, _)| bucket).collect()
    }

    /// No bucket is pending any more.
    pub(super) fn written(&mut self, epoch: u8) {
        self.seen &= !pending(epoch);
    }

    pub(super) fn insert(&mut self, inner_hash: u64, slot: Slot<K, V>) -> usize {
        if self.slots.len() == self.slots.capacity() {
            self.rebuild(self.slots.len() + 1);
        }
        // There is room, so nothing moves, and flags keep their buckets.
        let entry = self.slots.insert_unique(inner_hash, slot, |s| inner(hash_key(&s.key)));
        let bucket = entry.bucket_index();
        self.flags[bucket] = 0;
        bucket
    }

    /// Makes the table anew with room for `capacity` entries.
    pub(super) fn rebuild(&mut self, capacity: usize) {
        let mut bigger = HashTable::with_capacity(capacity.max(self.slots.len()));
        let mut flags = vec![0; bigger.num_buckets()];
        let old_flags = std::mem::take(&mut self.flags);
        let mut old = std::mem::take(&mut self.slots);
        for (bucket, old_flag) in old_flags.into_iter().enumerate() {
            if let Ok(entry) = old.get_bucket_entry(bucket) {
                let (slot, _) = entry.remove();
                let hash = inner(hash_key(&slot.key));
                let entry = bigger.insert_unique(hash, slot, |s| inner(hash_key(&s.key)));
                flags[entry.bucket_index()] = old_flag;
            }
        }
        self.slots = bigger;
        self.flags = flags;
    }

    pub(super) fn remove(&mut self, bucket: usize) -> Option<(Slot<K, V>, u8)> {
        let entry = self.slots.get_bucket_entry(bucket).ok()?;
        let (slot, _) = entry.remove();
        Some((slot, std::mem::take(&mut self.flags[bucket])))
    }

    pub(super) fn drain(&mut self, mut visit: impl FnMut(Slot<K, V>, u8)) {
        for bucket in 0..self.flags.len() {
            if let Some((slot, flags)) = self.remove(bucket) {
                visit(slot, flags);
            }
        }
        *self = Shard::new(self.complete);
    }
}

/// A bucket that was found a moment ago is there: buckets move only when a shard is rebuilt.
#[cold]
fn gone() -> ! {
    unreachable!("a bucket of a hot table is gone")
}
