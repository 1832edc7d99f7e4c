//! Stored keys that are to be deleted.

use hashbrown::HashTable;
use hashbrown::hash_table::Entry;

use crate::{KeyGroup, hash_bytes};

/// Stored keys with their groups, each once, in the order in which they came.
#[derive(Default)]
pub(super) struct Tombs {
    keys: Vec<(KeyGroup, Vec<u8>)>,
    /// Places in `keys` by the key's hash.
    index: HashTable<u32>,
}

fn hash(group: KeyGroup, key: &[u8]) -> u64 {
    hash_bytes(key) ^ u64::from(group)
}

impl Tombs {
    pub(super) fn push(&mut self, group: KeyGroup, key: Vec<u8>) {
        let Self { keys, index } = self;
        let of = |place: &u32| &keys[*place as usize];
        let same = |place: &u32| (group, &key) == (of(place).0, &of(place).1);
        let rehash = |place: &u32| hash(of(place).0, &of(place).1);
        if let Entry::Vacant(slot) = index.entry(hash(group, &key), same, rehash) {
            // More than 2^32 keys of more than 32 bytes do not fit into memory.
            slot.insert(keys.len() as u32);
            keys.push((group, key));
        }
    }

    pub(super) fn contains(&self, (group, key): &(KeyGroup, Vec<u8>)) -> bool {
        let same = |place: &u32| {
            let other = &self.keys[*place as usize];
            (*group, key) == (other.0, &other.1)
        };
        self.index.find(hash(*group, key), same).is_some()
    }

    /// The key at a place, counted from the first that came.
    pub(super) fn get(&self, place: usize) -> Option<&(KeyGroup, Vec<u8>)> {
        self.keys.get(place)
    }

    pub(super) fn len(&self) -> usize {
        self.keys.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    pub(super) fn clear(&mut self) {
        *self = Tombs::default();
    }
}
