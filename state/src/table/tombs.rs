//! Stored keys that are to be deleted.

use hashbrown::HashTable;
use hashbrown::hash_table::Entry;

use crate::{Error, KeyGroup, hash_bytes};

/// Stored keys with their groups, behind each other in one buffer, in the order in which they
/// came. A window that closes brings as many as it has keys, and nobody asks for one of them: so
/// an index is made only when somebody does.
#[derive(Default)]
pub(super) struct Tombs {
    bytes: Vec<u8>,
    keys: Vec<Tomb>,
    /// Places in `keys` by the key's hash, of the first `indexed` keys.
    index: HashTable<usize>,
    indexed: usize,
}

#[derive(Clone, Copy)]
struct Tomb {
    start: usize,
    end: usize,
    group: KeyGroup,
}

fn hash(group: KeyGroup, key: &[u8]) -> u64 {
    hash_bytes(key) ^ u64::from(group)
}

impl Tombs {
    /// Adds a key, whose bytes `write` appends; after an error it is left out.
    pub(super) fn push(
        &mut self,
        group: KeyGroup,
        write: impl FnOnce(&mut Vec<u8>) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let start = self.bytes.len();
        if let Err(error) = write(&mut self.bytes) {
            self.bytes.truncate(start);
            return Err(error);
        }
        self.keys.push(Tomb { start, end: self.bytes.len(), group });
        Ok(())
    }

    /// Makes ready for [`contains`](Self::contains).
    pub(super) fn make_index(&mut self) {
        let Self { bytes, keys, index, indexed } = self;
        let of = |place: usize| (keys[place].group, &bytes[keys[place].start..keys[place].end]);
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
        self.index.find(hash(group, key), same).is_some()
    }

    /// The key at a place, counted from the first that came.
    pub(super) fn get(&self, place: usize) -> Option<(KeyGroup, &[u8])> {
        let tomb = self.keys.get(place)?;
        Some((tomb.group, &self.bytes[tomb.start..tomb.end]))
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn differential_tombs_against_a_list(
            steps in prop::collection::vec((0..3u16, prop::collection::vec(0..3u8, 0..4)), 1..60),
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
            for (place, (group, key)) in list.iter().enumerate() {
                prop_assert_eq!(tombs.get(place), Some((*group, key.as_slice())));
                for group in 0..4 {
                    let listed = list.contains(&(group, key.clone()));
                    prop_assert_eq!(tombs.contains(group, key), listed);
                }
            }
            prop_assert_eq!(tombs.len(), list.len());
        }
    }
}
