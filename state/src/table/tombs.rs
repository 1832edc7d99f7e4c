//! Stored keys that are to be deleted.

use std::collections::BTreeSet;
use std::ops::Range;

use hashbrown::HashTable;
use hashbrown::hash_table::Entry;

use crate::{Error, KeyGroup, hash_bytes};

/// Stored keys, without what all of them begin with, and their groups; behind each other in one
/// buffer, in the order in which they came. An index is made only when somebody asks for one. And
/// groups of which all is to be deleted.
#[derive(Default)]
pub(super) struct Tombs {
    /// IMPORTANT: what is put into such a group later is not to be deleted, and has not been stored
    /// before a commit that deletes the group.
    groups: BTreeSet<KeyGroup>,
    bytes: Vec<u8>,
    keys: Vec<Tomb>,
    /// Places in `keys` by the key's hash, of the first `indexed` keys.
    index: HashTable<usize>,
    indexed: usize,
    /// Some of them lie among keys that a scan of the store may still meet.
    pub(super) may_be_met: bool,
}

#[derive(Clone, Copy)]
struct Tomb {
    /// Where the key ends; it begins where the one before does.
    end: u32,
    group: KeyGroup,
}

fn range(keys: &[Tomb], place: usize) -> Range<usize> {
    let start = place.checked_sub(1).map_or(0, |before| keys[before].end);
    start as usize..keys[place].end as usize
}

fn hash(group: KeyGroup, key: &[u8]) -> u64 {
    hash_bytes(key) ^ u64::from(group)
}

impl Tombs {
    /// Adds a key, whose bytes `write` appends; after an error it is left out. All of them have
    /// 4 GiB at most, as what a commit changes.
    pub(super) fn push(
        &mut self,
        group: KeyGroup,
        write: impl FnOnce(&mut Vec<u8>) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let start = self.bytes.len();
        let end = write(&mut self.bytes).and_then(|()| {
            let end = u32::try_from(self.bytes.len());
            end.map_err(|_| Error::Encode("more than 4 GiB of keys to delete in a commit".into()))
        });
        match end {
            Ok(end) => self.keys.push(Tomb { end, group }),
            Err(_) => self.bytes.truncate(start),
        }
        end.map(|_| ())
    }

    /// Adds all that is stored of a group.
    pub(super) fn push_group(&mut self, group: KeyGroup) {
        self.groups.insert(group);
    }

    /// The groups of which all is to be deleted.
    pub(super) fn groups(&self) -> impl Iterator<Item = KeyGroup> {
        self.groups.iter().copied()
    }

    /// Makes ready for [`contains`](Self::contains).
    pub(super) fn make_index(&mut self) {
        let Self { bytes, keys, index, indexed, .. } = self;
        let of = |place: usize| (keys[place].group, &bytes[range(keys, place)]);
        for place in *indexed..keys.len() {
            let (group, key) = of(place);
            let same = |other: &usize| of(*other) == (group, key);
            let rehash = |other: &usize| hash(of(*other).0, of(*other).1);
            if let Entry::Vacant(slot) = index.entry(hash(group, key), same, rehash) {
                slot.insert(place);
            }
        }
        *indexed = keys.len();
    }

    /// Whether a key is among those of the last [`make_index`](Self::make_index).
    pub(super) fn contains(&self, group: KeyGroup, key: &[u8]) -> bool {
        let same = |place: &usize| self.get(*place) == Some((group, key));
        self.groups.contains(&group) || self.index.find(hash(group, key), same).is_some()
    }

    /// The key at a place, counted from the first that came.
    pub(super) fn get(&self, place: usize) -> Option<(KeyGroup, &[u8])> {
        let group = self.keys.get(place)?.group;
        Some((group, &self.bytes[range(&self.keys, place)]))
    }

    /// Bytes that they take.
    pub(super) fn memory(&self) -> usize {
        let keys = self.keys.capacity() * size_of::<Tomb>();
        self.bytes.capacity() + keys + self.index.allocation_size()
    }

    pub(super) fn len(&self) -> usize {
        self.keys.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.keys.is_empty() && self.groups.is_empty()
    }

    pub(super) fn clear(&mut self) {
        *self = Tombs::default();
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn differential_tombs_against_a_list(
            steps in prop::collection::vec((0..3u16, prop::collection::vec(0..3u8, 0..4)), 1..60),
            group in prop::option::of(0..4u16),
            indexed in prop::collection::vec(any::<bool>(), 60),
        ) {
            let (mut tombs, mut list) = (Tombs::default(), Vec::new());
            for ((group, key), make_index) in steps.into_iter().zip(indexed) {
                let failed = tombs.push(9, |bytes| {
                    bytes.push(1);
                    Err(Error::Encode("half of a key".into()))
                });
                prop_assert!(failed.is_err());
                let write = |bytes: &mut Vec<u8>| { bytes.extend_from_slice(&key); Ok(()) };
                tombs.push(group, write).unwrap();
                if make_index {
                    tombs.make_index();
                }
                list.push((group, key));
            }
            tombs.make_index();
            if let Some(group) = group {
                tombs.push_group(group);
            }
            prop_assert_eq!(tombs.groups().collect::<Vec<_>>(), Vec::from_iter(group));
            for (place, (of, key)) in list.iter().enumerate() {
                prop_assert_eq!(tombs.get(place), Some((*of, key.as_slice())));
                for of in 0..4 {
                    let listed = group == Some(of) || list.contains(&(of, key.clone()));
                    prop_assert_eq!(tombs.contains(of, key), listed);
                }
            }
            prop_assert_eq!(tombs.len(), list.len());
        }
    }
}
