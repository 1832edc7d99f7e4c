//! Tables whose keys may have more than one part: where the store may hold more of a key than
//! memory does, a new part is begun instead of reading it, and whoever needs the whole puts the
//! parts together. The stored key of a part ends with a number that tells the parts of a key
//! apart. It is 0 as long as all that is stored is in memory too, so a slot has no room for it.

use hashbrown::HashTable;
use serde::Serialize;

use super::inner;
use crate::hash_key;

/// Serials stand in so many tables, so that each of them grows in a small step.
const PARTS: u64 = 64;

pub(super) struct Fragments<K> {
    /// The serial of those that are begun now.
    now: u32,
    /// The serials of those in memory that have one other than 0, by the upper bits of the hash;
    /// no tables at all until there is one.
    parts: Vec<HashTable<(K, u32)>>,
}

impl<K: Serialize + Eq + Clone> Fragments<K> {
    pub(super) fn new() -> Self {
        Fragments { now: 0, parts: Vec::new() }
    }

    pub(super) fn begin(&mut self, serial: u32) {
        self.now = serial;
    }

    pub(super) fn of(&self, key: &K) -> u32 {
        if self.parts.is_empty() {
            return 0;
        }
        let hash = hash_key(key);
        let found = self.parts[part(hash)].find(inner(hash), |(known, _)| known == key);
        found.map_or(0, |(_, serial)| *serial)
    }

    /// A fragment that is begun now.
    pub(super) fn made(&mut self, key: &K) {
        self.set(key, self.now);
    }

    /// The key must have no serial but 0.
    pub(super) fn set(&mut self, key: &K, serial: u32) {
        if serial == 0 {
            return;
        }
        if self.parts.is_empty() {
            self.parts.resize_with(PARTS as usize, HashTable::new);
        }
        let hash = hash_key(key);
        let rehash = |(key, _): &(K, u32)| inner(hash_key(key));
        self.parts[part(hash)].insert_unique(inner(hash), (key.clone(), serial), rehash);
    }

    /// A fragment that is no longer in memory.
    pub(super) fn forget(&mut self, key: &K) {
        if self.parts.is_empty() {
            return;
        }
        let hash = hash_key(key);
        let found = self.parts[part(hash)].find_entry(inner(hash), |(known, _)| known == key);
        if let Ok(entry) = found {
            entry.remove();
        }
    }

    /// Gives memory back that most of the serials have left.
    pub(super) fn shrink(&mut self) {
        let rehash = |(key, _): &(K, u32)| inner(hash_key(key));
        for part in self.parts.iter_mut().filter(|part| part.len() < part.capacity() / 4) {
            part.shrink_to_fit(rehash);
        }
    }

    /// Bytes of the tables, and about what so many bytes outside of each key add up to.
    pub(super) fn memory(&self, outside: usize) -> usize {
        self.parts.iter().map(|part| part.allocation_size() + part.len() * outside).sum()
    }
}

fn part(hash: u64) -> usize {
    (hash / (u64::MAX / PARTS + 1)) as usize
}
