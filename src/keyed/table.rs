//! The hot table: state per key in memory, which knows what has changed since the last commit.

use hashbrown::HashTable;
use hashbrown::hash_table::Entry;
use highwater_state::{Changes, KeyGroup, group_of, hash_key};

use super::Key;
use crate::error::Error;

/// One value per key. Whoever calls brings the key's hash, which is computed once per event.
pub(crate) struct Table<K, V> {
    slots: HashTable<Slot<K, V>>,
    /// Hashes of the slots whose `dirty` flag is set, each flag once. Cleared by `capture`.
    dirty: Vec<u64>,
}

struct Slot<K, V> {
    key: K,
    value: V,
    /// Changed since the last commit.
    dirty: bool,
    /// The last commit holds an entry for this key.
    saved: bool,
}

/// Keys whose stored entries are to be deleted by the next commit, already encoded.
#[derive(Default)]
pub(crate) struct Tombstones {
    keys: Vec<(KeyGroup, Vec<u8>)>,
}

impl Tombstones {
    pub(crate) fn push(&mut self, group: KeyGroup, key: Vec<u8>) {
        self.keys.push((group, key));
    }

    /// Deletions come before puts: a key that died and was born again stays.
    pub(crate) fn capture(&mut self, changes: &mut Changes) -> Result<(), Error> {
        for (group, key) in self.keys.drain(..) {
            changes.delete(group, |bytes| {
                bytes.extend_from_slice(&key);
                Ok(())
            })?;
        }
        Ok(())
    }
}

/// Encodes a prefix (a window, for example) and the key.
pub(crate) fn encode_entry_key<K: Key>(
    prefix: &[u8],
    key: &K,
    bytes: &mut Vec<u8>,
) -> Result<(), highwater_state::Error> {
    bytes.extend_from_slice(prefix);
    highwater_state::encode_into(key, bytes)
}

impl<K, V> Default for Table<K, V> {
    fn default() -> Self {
        Table { slots: HashTable::new(), dirty: Vec::new() }
    }
}

impl<K: Key, V> Table<K, V> {
    pub(crate) fn len(&self) -> usize {
        self.slots.len()
    }

    /// The value of a key, made by `init` if it is new, and marked as changed.
    #[inline]
    pub(crate) fn update(&mut self, hash: u64, key: &K, init: impl FnOnce() -> V) -> &mut V {
        let slot = match self.slots.entry(hash, |s| s.key == *key, |s| hash_key(&s.key)) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(entry) => entry
                .insert(Slot { key: key.clone(), value: init(), dirty: false, saved: false })
                .into_mut(),
        };
        if !slot.dirty {
            slot.dirty = true;
            self.dirty.push(hash);
        }
        &mut slot.value
    }

    pub(crate) fn get(&self, hash: u64, key: &K) -> Option<&V> {
        self.slots.find(hash, |s| s.key == *key).map(|s| &s.value)
    }

    /// The value of a key that exists, marked as changed.
    pub(crate) fn get_mut(&mut self, hash: u64, key: &K) -> Option<&mut V> {
        let slot = self.slots.find_mut(hash, |s| s.key == *key)?;
        if !slot.dirty {
            slot.dirty = true;
            self.dirty.push(hash);
        }
        Some(&mut slot.value)
    }

    /// Puts back an entry that the last commit holds.
    pub(crate) fn restore(&mut self, key: K, value: V) {
        let slot = Slot { key, value, dirty: false, saved: true };
        let hash = hash_key(&slot.key);
        self.slots.insert_unique(hash, slot, |s| hash_key(&s.key));
    }

    /// Removes a key; what the last commit holds of it becomes a tombstone.
    pub(crate) fn remove(
        &mut self,
        prefix: &[u8],
        hash: u64,
        key: &K,
        tombstones: &mut Tombstones,
    ) -> Result<Option<V>, Error> {
        let Ok(entry) = self.slots.find_entry(hash, |s| s.key == *key) else { return Ok(None) };
        let (slot, _) = entry.remove();
        if slot.saved {
            let mut bytes = Vec::new();
            encode_entry_key(prefix, &slot.key, &mut bytes)?;
            tombstones.push(group_of(hash), bytes);
        }
        Ok(Some(slot.value))
    }

    /// Empties the table into `visit`; what the last commit holds becomes tombstones.
    pub(crate) fn drain(
        &mut self,
        prefix: &[u8],
        tombstones: &mut Tombstones,
        mut visit: impl FnMut(K, V),
    ) -> Result<(), Error> {
        self.dirty.clear();
        for slot in self.slots.drain() {
            if slot.saved {
                let mut bytes = Vec::new();
                encode_entry_key(prefix, &slot.key, &mut bytes)?;
                tombstones.push(group_of(hash_key(&slot.key)), bytes);
            }
            visit(slot.key, slot.value);
        }
        Ok(())
    }

    /// Writes every changed entry, and holds them for unchanged from now on.
    pub(crate) fn capture(
        &mut self,
        prefix: &[u8],
        changes: &mut Changes,
        mut encode: impl FnMut(&V, &mut Vec<u8>) -> Result<(), highwater_state::Error>,
    ) -> Result<(), Error> {
        for hash in self.dirty.drain(..) {
            // IMPORTANT: the table also yields slots whose hash is only similar. Each of them has
            // a hash of its own in the list, and must be stored in its own group.
            let slots = self.slots.iter_hash_mut(hash);
            for slot in slots.filter(|s| s.dirty && hash_key(&s.key) == hash) {
                changes.put(
                    group_of(hash),
                    |bytes| encode_entry_key(prefix, &slot.key, bytes),
                    |bytes| encode(&slot.value, bytes),
                )?;
                slot.dirty = false;
                slot.saved = true;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use highwater_state::{Commit, MemStore, Store};

    use super::*;

    fn commit(store: &MemStore, changes: Changes) -> Vec<(KeyGroup, u64)> {
        store.commit(&Commit { record: Vec::new(), changes: vec![changes] }).unwrap();
        let mut found = Vec::new();
        let visit = &mut |group, key: &[u8], _: &[u8]| {
            found.push((group, highwater_state::decode(key)?));
            Ok(())
        };
        store.scan("table", 0..highwater_state::KEY_GROUPS, visit).unwrap();
        found
    }

    /// Many keys share the seven bits of their hash by which a table looks for them.
    #[test]
    fn regression_every_entry_is_stored_in_the_group_of_its_key_and_deleted_from_there() {
        let (store, mut table) = (MemStore::new(), Table::default());
        for key in 0..1_000u64 {
            table.update(hash_key(&key), &key, || key);
        }
        let encode = |v: &u64, bytes: &mut Vec<u8>| highwater_state::encode_into(v, bytes);
        let mut changes = Changes::new("table".into());
        table.capture(&[], &mut changes, encode).unwrap();
        let stored = commit(&store, changes);
        assert_eq!(stored.len(), 1_000);
        for (group, key) in stored {
            assert_eq!(group, group_of(hash_key(&key)), "key {key}");
        }

        let (mut changes, mut tombstones) = (Changes::new("table".into()), Tombstones::default());
        table.drain(&[], &mut tombstones, |_, _| {}).unwrap();
        tombstones.capture(&mut changes).unwrap();
        assert_eq!(commit(&store, changes), []);
    }
}
