//! The hot table: typed state per key in memory, the truth while a program runs.
//!
//! It knows what has changed since the last commit, is written out in small steps while it goes
//! on changing (copy on write, by epoch), and can forget entries that the store holds.

mod capture;
mod drain;
mod evict;
mod fragments;
mod shard;
mod shards;
#[cfg(test)]
mod tests;
mod tombs;

use std::collections::BTreeSet;
use std::ops::Range;

use serde::Serialize;
use serde::de::DeserializeOwned;

use self::capture::Out;
use self::fragments::Fragments;
use self::shard::{Epoch, REFERENCED, STORED};
use self::shards::{SPLIT_AT, Shards};
use self::tombs::Tombs;
use crate::planted::planted;
use crate::{Error, KeyGroup, Store, encode_into, group_of, hash_key};

/// Bytes of entries that are taken to lie in a processor's cache.
const IN_CACHE: usize = 4 << 20;

/// What a table can hold: values that know how they are stored.
pub trait Value: Sized {
    /// Appends the stored form.
    ///
    /// # Errors
    /// Where the value cannot be encoded.
    fn encode(&self, bytes: &mut Vec<u8>) -> Result<(), Error>;
}

impl<T: Serialize> Value for T {
    fn encode(&self, bytes: &mut Vec<u8>) -> Result<(), Error> {
        encode_into(self, bytes)
    }
}

/// One value per key. Whoever calls brings the key's [`hash_key`], so that it is computed once.
///
/// ```
/// use highwater_state::{Changes, Commit, MemStore, Store, Table, hash_key};
/// let mut table: Table<u64, u64> = Table::new(Vec::new());
/// *table.update(hash_key(&7u64), &7, || 0) += 1;
/// let store = MemStore::new();
/// table.begin_capture();
/// let mut changes = vec![];
/// while !table.capture(&"count".into(), &mut 1_000, &mut changes)? {}
/// store.commit(Commit { record: vec![], changes })?;
/// table.committed();
/// # Ok::<(), highwater_state::Error>(())
/// ```
pub struct Table<K, V> {
    shards: Shards<K, V>,
    /// All shards are complete.
    complete: bool,
    /// Key groups of which the store may hold more than memory does, where they are known: of a
    /// table that began cold they are not.
    forgotten: Option<BTreeSet<KeyGroup>>,
    len: usize,
    /// Entries made less entries removed: how the number of stored entries changes.
    net: i64,
    epoch: Epoch,
    out: Out<K>,
    /// Stored keys to be deleted by the next commit.
    tombstones: Tombs,
    /// Stored keys that a commit under way deletes.
    burying: Tombs,
    /// No commit under way holds changes of this table.
    settled: bool,
    /// Where the search for entries to forget goes on.
    hand: usize,
    /// How many entries a shard makes room for at first.
    first_room: usize,
    /// Entries are written out at all.
    kept: bool,
}

/// Where in its part of a table a key probably lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hint(u32);

impl Hint {
    /// Nothing is known, or the key is not there.
    pub const NONE: Hint = Hint(u32::MAX);

    #[inline]
    fn of(bucket: Option<usize>) -> Self {
        bucket.and_then(|bucket| u32::try_from(bucket).ok()).map_or(Hint::NONE, Hint)
    }
}

/// Reading a range has its price, so one that is read is not read in more parts than these.
const MOST_RANGES: usize = 8;

/// Ranges that hold these groups: the widest gaps between them are left out.
fn few_ranges(groups: &BTreeSet<KeyGroup>) -> Vec<Range<KeyGroup>> {
    let mut gaps: Vec<(KeyGroup, KeyGroup)> = groups
        .iter()
        .zip(groups.iter().skip(1))
        .filter(|(one, next)| **one + 1 < **next)
        .map(|(one, next)| (*one, *next))
        .collect();
    gaps.sort_by_key(|(one, next)| std::cmp::Reverse(next - one));
    gaps.truncate(MOST_RANGES - 1);
    gaps.sort_unstable();
    let Some((mut start, last)) = groups.first().copied().zip(groups.last()) else {
        return Vec::new();
    };
    let mut ranges = Vec::with_capacity(gaps.len() + 1);
    for (one, next) in gaps {
        ranges.push(start..one + 1);
        start = next;
    }
    ranges.push(start..last + 1);
    ranges
}

/// The hash as the tables inside use it: its upper ten bits have already chosen the shard.
/// hashbrown compares the upper seven first, and the lowest choose where it begins to look: so
/// neither may be the same throughout a shard.
#[inline]
fn inner(hash: u64) -> u64 {
    hash ^ (hash << 10)
}

impl<K: Serialize + DeserializeOwned + Eq + Clone, V: Value> Table<K, V> {
    /// An empty table of which the store holds nothing.
    #[must_use]
    pub fn new(prefix: Vec<u8>) -> Self {
        Table {
            shards: Shards::new(true),
            len: 0,
            net: 0,
            epoch: Epoch::default(),
            out: Out::new(prefix),
            complete: true,
            forgotten: Some(BTreeSet::new()),
            tombstones: Tombs::default(),
            burying: Tombs::default(),
            settled: true,
            hand: 0,
            first_room: 0,
            kept: true,
        }
    }

    /// The same table for a store that [keeps no entries](Store::keeps_entries): a capture
    /// writes nothing out, and costs nothing.
    #[must_use]
    pub fn unkept(self) -> Self {
        Table { kept: false, ..self }
    }

    /// An empty table of which the store holds nothing, and which will hold about so many
    /// entries, all of these key groups: it does not grow in many steps on the way. Memory is
    /// taken only for shards in which there is something.
    #[must_use]
    pub fn expecting(prefix: Vec<u8>, entries: usize, groups: &Range<KeyGroup>) -> Self {
        let (shards, first_room) = Shards::expecting(entries, groups.len());
        Table { shards, first_room, ..Table::new(prefix) }
    }

    /// The same table for keys of which the store may hold more than one part. What is stored
    /// under a key has the part's serial behind it, four bytes, big-endian; so nothing is
    /// [read back](Self::read_back) by key alone.
    #[must_use]
    pub fn fragmented(mut self) -> Self {
        self.out.fragments = Some(Fragments::new());
        self
    }

    /// Keys that are made from now on are parts with this serial. Of a table that is not
    /// [fragmented](Self::fragmented) nothing changes.
    pub fn begin_fragments(&mut self, serial: u32) {
        if let Some(fragments) = &mut self.out.fragments {
            fragments.begin(serial);
        }
    }

    /// The serial of the part of a key that is in memory.
    #[must_use]
    pub fn serial(&self, key: &K) -> u32 {
        self.out.fragments.as_ref().map_or(0, |fragments| fragments.of(key))
    }

    /// An empty table of which the store may hold entries.
    #[must_use]
    pub fn cold(prefix: Vec<u8>) -> Self {
        let shards = Shards::new(false);
        Table { shards, complete: false, forgotten: None, ..Table::new(prefix) }
    }

    /// Entries in memory.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether no entry is in memory.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Entries made less entries removed since the table was made.
    #[must_use]
    pub fn net(&self) -> i64 {
        self.net
    }

    /// Whether nothing is left of the table, in memory or for a commit.
    #[must_use]
    pub fn is_spent(&self) -> bool {
        self.len == 0 && self.out.capture.is_none() && self.tombstones.is_empty()
    }

    /// Whether every entry that the store holds is in memory.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.complete
    }

    /// The value of a key, made by `init` if it is not in memory, and marked as changed. Where
    /// the table is not [complete](Self::is_complete), what the store holds of the key must have
    /// been [read back](Self::read_back) before, or is replaced.
    // Always: beside a second caller it is not inlined otherwise; `make bench-instructions` shows
    // it.
    #[inline(always)]
    pub fn update(&mut self, hash: u64, key: &K, init: impl FnOnce() -> V) -> &mut V {
        let mut index = self.shards.of(hash);
        if self.shards[index].is_full() {
            index = self.make_room(hash);
        }
        let Self { shards, out, epoch, kept, len, net, .. } = self;
        let tell = |pending: Option<&Slot<K, V>>| match pending {
            Some(slot) => out.save(slot),
            None => {
                (*len, *net) = (*len + 1, *net + 1);
                if let Some(fragments) = &mut out.fragments {
                    fragments.made(key);
                }
            }
        };
        shards[index].update((inner(hash), key), kept.then_some(*epoch), init, tell)
    }

    /// As [`update`](Self::update), which it is faster than where most keys are there.
    #[inline(always)]
    pub fn update_with<R>(
        &mut self,
        hash: u64,
        key: &K,
        init: impl FnOnce() -> V,
        with: impl FnOnce(&mut V) -> R,
    ) -> R {
        let Self { shards, out, epoch, kept, .. } = self;
        let index = shards.of(hash);
        let epoch = kept.then_some(*epoch);
        let save = |slot: &Slot<K, V>| out.save(slot);
        match shards[index].update_with((inner(hash), key), epoch, save, with) {
            Ok(result) => result,
            Err(with) => with(self.make(hash, key, init)),
        }
    }

    /// Not for inlining: what is there already is what is to be fast.
    #[inline(never)]
    fn make(&mut self, hash: u64, key: &K, init: impl FnOnce() -> V) -> &mut V {
        self.update(hash, key, init)
    }

    /// The value in a bucket, marked as changed.
    #[inline]
    fn update_in(&mut self, index: usize, bucket: usize) -> &mut V {
        let Self { shards, out, epoch, .. } = self;
        shards[index].update_in(bucket, *epoch, |slot| out.save(slot))
    }

    /// As [`update`](Self::update), of a key that was looked for a moment ago. A hint that has
    /// become wrong costs time and nothing else.
    #[inline]
    pub fn update_at(&mut self, at: Hint, hash: u64, key: &K, init: impl FnOnce() -> V) -> &mut V {
        let (index, bucket) = (self.shards.of(hash), at.0 as usize);
        if at == Hint::NONE || !self.shards[index].holds(bucket, key) {
            return self.update(hash, key, init);
        }
        self.update_in(index, bucket)
    }

    /// Whether the table lies in the processor's cache, so that looking ahead gains nothing.
    #[inline]
    #[must_use]
    pub fn is_small(&self) -> bool {
        self.len * size_of::<Slot<K, V>>() <= IN_CACHE
    }

    /// Looks at where the search for a key will begin, and nothing else. See
    /// [`look_at`](Self::look_at).
    #[inline]
    #[must_use]
    pub fn look_for(&self, hash: u64) -> Hint {
        Hint::of(self.shards[self.shards.of(hash)].near(inner(hash)))
    }

    /// Looks at what an [`update_at`](Self::update_at) of this key will look at; `see` is to read
    /// of the value what will be read then. Some tens of keys that are looked at before they are
    /// updated (first [for](Self::look_for) all of them, then at them) wait for memory together
    /// instead of one after the other.
    #[inline]
    #[must_use]
    pub fn look_at<R>(&self, at: Hint, hash: u64, key: &K, see: impl FnOnce(&V) -> R) -> Hint {
        let shard = &self.shards[self.shards.of(hash)];
        let found = match at {
            Hint::NONE => None,
            Hint(bucket) if shard.holds(bucket as usize, key) => Some(bucket as usize),
            Hint(_) => shard.find(inner(hash), key),
        };
        if let Some(bucket) = found {
            std::hint::black_box((shard.flags[bucket], see(&shard.slot(bucket).value)));
        }
        Hint::of(found)
    }

    /// Makes room for an entry, which may split the table; returns its shard.
    fn make_room(&mut self, hash: u64) -> usize {
        let mut index = self.shards.of(hash);
        // More than once where all keys are of few groups, as those of one worker of many.
        while self.shards[index].len() >= SPLIT_AT && self.shards.split(index) {
            index = self.shards.of(hash);
        }
        self.shards[index].make_room(self.first_room);
        index
    }

    /// The value of a key in memory.
    #[must_use]
    pub fn get(&self, hash: u64, key: &K) -> Option<&V> {
        let shard = &self.shards[self.shards.of(hash)];
        shard.find(inner(hash), key).map(|bucket| &shard.slot(bucket).value)
    }

    /// The value of a key in memory, marked as changed.
    pub fn get_mut(&mut self, hash: u64, key: &K) -> Option<&mut V> {
        let index = self.shards.of(hash);
        let bucket = self.shards[index].find(inner(hash), key)?;
        Some(self.update_in(index, bucket))
    }

    /// Visits every entry in memory, in no order that means anything.
    pub fn for_each(&self, mut visit: impl FnMut(&K, &V)) {
        for shard in self.shards.iter() {
            shard.for_each(|slot| visit(&slot.key, &slot.value));
        }
    }

    /// Puts an entry that the store holds into memory, unless it is there.
    pub fn load(&mut self, key: K, value: V) {
        self.load_fragment(key, 0, value);
    }

    /// As [`load`](Self::load), of a part with this serial.
    pub fn load_fragment(&mut self, key: K, serial: u32, value: V) {
        let hash = hash_key(&key);
        let index = self.shards.of(hash);
        if self.shards[index].find(inner(hash), &key).is_none() {
            if let Some(fragments) = &mut self.out.fragments {
                fragments.set(&key, serial);
            }
            self.insert(hash, Slot { key, value }, STORED | REFERENCED);
            self.net -= 1;
        }
    }

    /// The key groups, of those in `all`, of which the store may hold more than memory does: as
    /// a few ranges, which may hold others in between.
    #[must_use]
    pub fn incomplete_groups(&self, all: Range<KeyGroup>) -> Vec<Range<KeyGroup>> {
        match &self.forgotten {
            _ if self.complete => Vec::new(),
            None => vec![all],
            Some(groups) => few_ranges(&groups.range(all).copied().collect()),
        }
    }

    /// Everything that the store holds has been loaded.
    pub fn completed(&mut self) {
        self.forgotten = Some(BTreeSet::new());
        self.shards.iter_mut().for_each(|shard| shard.complete = true);
        self.complete = true;
    }

    fn insert(&mut self, hash: u64, slot: Slot<K, V>, flags: u8) {
        let index = self.make_room(hash);
        self.len += 1;
        self.net += 1;
        self.shards[index].insert(inner(hash), slot, flags);
    }

    /// Removes a key from memory, and by the next commit from the store.
    pub fn remove(&mut self, hash: u64, key: &K) -> Option<V> {
        let index = self.shards.of(hash);
        let bucket = self.shards[index].find(inner(hash), key)?;
        if self.shards[index].is_pending(bucket, self.epoch) {
            self.save(index, bucket);
        }
        let (slot, flags) = self.shards[index].remove(bucket)?;
        self.bury(hash, &slot, flags);
        self.forget_serial(&slot.key);
        self.len -= 1;
        self.net -= 1;
        Some(slot.value)
    }

    /// The keys of `wanted` that are not in memory and may be in the store.
    #[inline]
    pub fn is_missing(&self, hash: u64, key: &K) -> bool {
        let shard = &self.shards[self.shards.of(hash)];
        !shard.complete && shard.find(inner(hash), key).is_none()
    }

    /// Loads what the store holds of these keys, all in one go.
    ///
    /// # Errors
    /// Where the store cannot be read, or `decode` fails.
    pub fn read_back(
        &mut self,
        store: &dyn Store,
        operator: &str,
        mut wanted: Vec<(u64, K)>,
        decode: impl Fn(&[u8]) -> Result<V, Error>,
    ) -> Result<(), Error> {
        let mut stored = Vec::with_capacity(wanted.len());
        for (hash, key) in &wanted {
            let mut bytes = self.out.prefix.clone();
            encode_into(key, &mut bytes)?;
            stored.push((group_of(*hash), bytes));
        }
        let asked: Vec<_> = stored.iter().map(|(group, key)| (*group, key.as_slice())).collect();
        let mut found = Vec::new();
        self.tombstones.make_index();
        self.burying.make_index();
        let (tombstones, burying) = (&self.tombstones, &self.burying);
        let prefix = self.out.prefix.len();
        store.get(operator, &asked, &mut |index, value| {
            let (group, key) = (asked[index].0, &asked[index].1[prefix..]);
            if !tombstones.contains(group, key)
                && (!burying.contains(group, key) || planted("tombstone-dropped-early"))
            {
                found.push((index, decode(value)?));
            }
            Ok(())
        })?;
        // From behind, so that the others keep their places.
        found.sort_by_key(|(index, _)| std::cmp::Reverse(*index));
        for (index, value) in found {
            self.load(wanted.swap_remove(index).1, value);
        }
        Ok(())
    }
}

/// An entry in memory.
pub(crate) struct Slot<K, V> {
    pub(crate) key: K,
    pub(crate) value: V,
}
