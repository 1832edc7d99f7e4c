//! Tables whose keys may have more than one part: where the store may hold more of a key than
//! memory does, a new part is begun instead of reading it, and whoever needs the whole puts the
//! parts together. The stored key of a part ends with a number that tells the parts of a key
//! apart; it is 0 for nearly all of them, and a slot has no room for it.

use hashbrown::HashTable;
use serde::Serialize;

use crate::hash_key;

pub(super) struct Fragments<K> {
    /// The serial of those that are begun now.
    now: u32,
    /// The serials of those in memory that have one other than 0.
    serials: HashTable<(K, u32)>,
}

impl<K: Serialize + Eq + Clone> Fragments<K> {
    pub(super) fn new() -> Self {
        Fragments { now: 0, serials: HashTable::new() }
    }

    pub(super) fn begin(&mut self, serial: u32) {
        self.now = serial;
    }

    pub(super) fn of(&self, key: &K) -> u32 {
        if self.serials.is_empty() {
            return 0;
        }
        let found = self.serials.find(hash_key(key), |(known, _)| known == key);
        found.map_or(0, |(_, serial)| *serial)
    }

    /// A fragment that is begun now.
    pub(super) fn made(&mut self, key: &K) {
        self.set(key, self.now);
    }

    /// The key must have no serial but 0.
    pub(super) fn set(&mut self, key: &K, serial: u32) {
        if serial != 0 {
            let rehash = |(key, _): &(K, u32)| hash_key(key);
            self.serials.insert_unique(hash_key(key), (key.clone(), serial), rehash);
        }
    }

    /// A fragment that is no longer in memory.
    pub(super) fn forget(&mut self, key: &K) {
        if !self.serials.is_empty()
            && let Ok(entry) = self.serials.find_entry(hash_key(key), |(known, _)| known == key)
        {
            entry.remove();
        }
    }

    pub(super) fn memory(&self) -> usize {
        self.serials.allocation_size()
    }
}
