//! Stored keys that are to be deleted.

use crate::KeyGroup;

/// Stored keys with their groups, in order only when somebody asks.
#[derive(Default)]
pub(super) struct Tombs {
    keys: Vec<(KeyGroup, Vec<u8>)>,
    sorted: bool,
}

impl Tombs {
    pub(super) fn push(&mut self, group: KeyGroup, key: Vec<u8>) {
        self.keys.push((group, key));
        self.sorted = false;
    }

    pub(super) fn contains(&mut self, key: &(KeyGroup, Vec<u8>)) -> bool {
        if !self.sorted {
            self.keys.sort_unstable();
            self.sorted = true;
        }
        self.keys.binary_search(key).is_ok()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &(KeyGroup, Vec<u8>)> {
        self.keys.iter()
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
