//! A part of a table: a hash table, and a byte of flags per bucket.

use std::ops::Range;

use hashbrown::HashTable;
use hashbrown::hash_table::Entry;
use serde::Serialize;

use super::{Slot, inner};
use crate::planted::planted;
use crate::{KEY_GROUPS, KeyGroup, group_of, hash_key};

// The lowest two flags: changed in an epoch of even or odd number.

/// Counts captures, by what it means for flags.
#[derive(Clone, Copy)]
pub(super) struct Epoch {
    /// The flags of what changes now.
    marks: u8,
    /// The flag of what changed in the epoch before, and has not been written out.
    pending: u8,
}

impl Default for Epoch {
    fn default() -> Self {
        Epoch { marks: 1 | REFERENCED, pending: 2 }
    }
}

impl Epoch {
    /// The one after it.
    pub(super) fn next(self) -> Self {
        Epoch { marks: self.pending | REFERENCED, pending: self.marks & !REFERENCED }
    }
}

/// The store holds an entry for the key, or a commit under way does.
pub(super) const STORED: u8 = 4;
/// Used since the search for entries to forget last came by.
pub(super) const REFERENCED: u8 = 8;

pub(super) struct Shard<K, V> {
    slots: HashTable<Slot<K, V>>,
    /// By bucket; 0 where there is none.
    pub(super) flags: Vec<u8>,
    /// Flags that some bucket may have.
    seen: u8,
    /// All that the store holds is in memory.
    pub(super) complete: bool,
    /// What it holds.
    pub(super) groups: Range<KeyGroup>,
}

impl<K: Serialize + Eq, V> Shard<K, V> {
    /// An empty one, for keys of these groups.
    pub(super) fn new(groups: Range<KeyGroup>, complete: bool) -> Self {
        Shard { slots: HashTable::new(), flags: Vec::new(), seen: 0, complete, groups }
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

    /// The first bucket on the way of the search for a hash whose hash is alike. No slot is read.
    #[inline]
    pub(super) fn near(&self, inner: u64) -> Option<usize> {
        self.slots.find_bucket_index(inner, |_| true)
    }

    /// Whether the bucket holds this key.
    #[inline]
    pub(super) fn holds(&self, bucket: usize, key: &K) -> bool {
        self.slots.get_bucket(bucket).is_some_and(|slot| slot.key == *key)
    }

    pub(super) fn get(&self, bucket: usize) -> Option<&Slot<K, V>> {
        self.slots.get_bucket(bucket)
    }

    #[inline]
    pub(super) fn slot(&self, bucket: usize) -> &Slot<K, V> {
        match self.slots.get_bucket(bucket) {
            Some(slot) => slot,
            None => gone(),
        }
    }

    pub(super) fn for_each(&self, visit: impl FnMut(&Slot<K, V>)) {
        self.slots.iter().for_each(visit);
    }

    #[inline]
    pub(super) fn is_pending(&self, bucket: usize, epoch: Epoch) -> bool {
        self.flags[bucket] & epoch.pending != 0
    }

    /// Calls `with` for the value of a key, marked as changed, or gives it back if there is none.
    /// If the old value is pending, `save` is called before. Without an epoch nothing is marked.
    // One search and no second look at the bucket: an index and then the value at the index
    // costs a fifth more.
    #[inline]
    pub(super) fn update_with<R, F: FnOnce(&mut V) -> R>(
        &mut self,
        (inner, key): (u64, &K),
        epoch: Option<Epoch>,
        save: impl FnOnce(&Slot<K, V>),
        with: F,
    ) -> Result<R, F> {
        let Ok(entry) = self.slots.find_entry(inner, |slot| slot.key == *key) else {
            return Err(with);
        };
        let bucket = entry.bucket_index();
        let slot = entry.into_mut();
        if let Some(epoch) = epoch {
            change(&mut self.flags[bucket], &mut self.seen, epoch, || save(slot));
        }
        Ok(with(&mut slot.value))
    }

    /// The value of a key, made by `init` if it is not there, and marked as changed. `tell` is
    /// called with the old entry before if that is pending, and with `None` if there is none.
    /// There must be [room](Self::is_full), even if the key is there. Without an epoch nothing is
    /// marked as changed but what is made, which is so never taken for something that is stored.
    // What is made is written where it stays: a copy on its way there would wait until all writes
    // before it are done, and with a large table these wait for memory.
    #[inline(always)]
    pub(super) fn update(
        &mut self,
        (inner, key): (u64, &K),
        epoch: Option<Epoch>,
        init: impl FnOnce() -> V,
        tell: impl FnOnce(Option<&Slot<K, V>>),
    ) -> &mut V
    where
        K: Clone,
    {
        match self.slots.entry(inner, |slot| slot.key == *key, rehash) {
            Entry::Occupied(entry) => {
                let bucket = entry.bucket_index();
                let slot = entry.into_mut();
                if let Some(epoch) = epoch {
                    change(&mut self.flags[bucket], &mut self.seen, epoch, || tell(Some(slot)));
                }
                &mut slot.value
            }
            Entry::Vacant(entry) => {
                let entry = entry.insert(Slot { key: key.clone(), value: init() });
                let marks = epoch.unwrap_or_default().marks;
                self.flags[entry.bucket_index()] = marks;
                self.seen |= marks;
                tell(None);
                &mut entry.into_mut().value
            }
        }
    }

    /// The value in a bucket, marked as changed. If the old value is pending, `save` is called
    /// before.
    #[inline]
    pub(super) fn update_in(
        &mut self,
        bucket: usize,
        epoch: Epoch,
        save: impl FnOnce(&Slot<K, V>),
    ) -> &mut V {
        let Some(slot) = self.slots.get_bucket_mut(bucket) else { gone() };
        change(&mut self.flags[bucket], &mut self.seen, epoch, || save(slot));
        &mut slot.value
    }

    /// A pending bucket is written out.
    pub(super) fn settle(&mut self, bucket: usize, epoch: Epoch) {
        self.flags[bucket] = self.flags[bucket] & !epoch.pending | STORED;
        self.seen |= STORED;
    }

    /// Whether another entry would move those that are there.
    #[inline]
    pub(super) fn is_full(&self) -> bool {
        self.slots.len() == self.slots.capacity()
    }

    /// Makes room for another entry; for so many where this is the first one.
    pub(super) fn make_room(&mut self, first_room: usize) {
        if self.is_full() {
            let first_room = if self.slots.is_empty() { first_room } else { 0 };
            self.rebuild(first_room.max(self.slots.len() + 1));
        }
    }

    /// Buckets that changed in the epoch before and have not been written out: so many at most.
    pub(super) fn pending(&self, epoch: Epoch, most: usize) -> Vec<usize> {
        let flag = epoch.pending;
        if self.seen & flag == 0 {
            return Vec::new();
        }
        let buckets = self.flags.iter().enumerate().filter(|(_, flags)| **flags & flag != 0);
        buckets.map(|(bucket, _)| bucket).take(most).collect()
    }

    /// Buckets with keys of these groups.
    pub(super) fn of_groups(&self, groups: &Range<KeyGroup>) -> Vec<usize> {
        let is_in = |slot: &Slot<K, V>| groups.contains(&group_of(hash_key(&slot.key)));
        (0..self.flags.len()).filter(|bucket| self.get(*bucket).is_some_and(is_in)).collect()
    }

    /// How many of these buckets, or of all, hold what the store holds too, and of which groups.
    pub(super) fn stored(&self, buckets: Option<&[usize]>) -> (usize, Vec<KeyGroup>) {
        if !self.may_be_stored() {
            return (0, Vec::new());
        }
        let mut groups = [false; KEY_GROUPS as usize];
        let mut count = 0;
        let mut look = |bucket: usize| {
            if self.flags[bucket] & STORED != 0 {
                count += 1;
                let group = self.get(bucket).map(|slot| group_of(hash_key(&slot.key)));
                group.into_iter().for_each(|group| groups[usize::from(group)] = true);
            }
        };
        match buckets {
            None => (0..self.flags.len()).for_each(look),
            Some(buckets) => buckets.iter().for_each(|bucket| look(*bucket)),
        }
        (count, (0..KEY_GROUPS).filter(|group| groups[usize::from(*group)]).collect())
    }

    /// No bucket is pending any more.
    pub(super) fn written(&mut self, epoch: Epoch) {
        self.seen &= !epoch.pending;
    }

    /// Puts in a key that is not there. There must be [room](Self::make_room), so that nothing
    /// moves, and flags keep their buckets.
    pub(super) fn insert(&mut self, inner_hash: u64, slot: Slot<K, V>, flags: u8) {
        let entry = self.slots.insert_unique(inner_hash, slot, rehash);
        self.flags[entry.bucket_index()] = flags;
        self.seen |= flags;
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
                let entry = bigger.insert_unique(hash, slot, rehash);
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

    /// Whether the store may hold entries for some of the keys.
    fn may_be_stored(&self) -> bool {
        self.seen & STORED != 0
    }

    /// All entries, and what the store may hold of them: [`STORED`] is the flag that is right.
    pub(super) fn into_slots(self, mut visit: impl FnMut(Slot<K, V>, u8)) {
        if self.may_be_stored() {
            self.drain(visit);
        } else {
            self.slots.into_iter().for_each(|slot| visit(slot, 0));
        }
    }

    /// All entries and their flags.
    pub(super) fn drain(mut self, mut visit: impl FnMut(Slot<K, V>, u8)) {
        for bucket in 0..self.flags.len() {
            if let Some((slot, flags)) = self.remove(bucket) {
                visit(slot, flags);
            }
        }
    }
}

/// Marks what is about to change; what is pending is saved before.
#[inline]
fn change(flags: &mut u8, seen: &mut u8, epoch: Epoch, save: impl FnOnce()) {
    let Epoch { marks, pending } = epoch;
    // Most often it has changed since the last commit, and nothing is written here.
    if *flags & (marks | pending) != marks {
        if *flags & pending != 0 && !planted("copy-on-write-skipped") {
            *flags = *flags & !pending | STORED;
            *seen |= STORED;
            save();
        }
        *flags |= marks;
        *seen |= marks;
    }
}

fn rehash<K: Serialize, V>(slot: &Slot<K, V>) -> u64 {
    inner(hash_key(&slot.key))
}

/// A bucket that was found a moment ago is there: buckets move only when a shard is rebuilt.
#[cold]
fn gone() -> ! {
    unreachable!("a bucket of a hot table is gone")
}
