//! Deletions of all keys that begin with a prefix, as they hide what is older.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use crate::KeyGroup;

/// When a change was made: later ones are larger.
pub(crate) type Order = (u32, u32, u32);

/// The newest deletion of each prefix.
#[derive(Clone, Default)]
pub(crate) struct Cleared {
    groups: BTreeMap<KeyGroup, BTreeMap<Vec<u8>, Order>>,
    /// The lengths that there are: mostly one.
    lengths: BTreeSet<usize>,
}

impl Cleared {
    /// Adds one that is newer than all before.
    pub(crate) fn insert(&mut self, group: KeyGroup, prefix: &[u8], order: Order) {
        self.lengths.insert(prefix.len());
        self.groups.entry(group).or_default().insert(prefix.to_vec(), order);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.groups.is_empty()
    }

    /// When the key was deleted last by a prefix.
    pub(crate) fn last(&self, group: KeyGroup, key: &[u8]) -> Option<Order> {
        if self.is_empty() {
            return None;
        }
        let prefixes = self.groups.get(&group)?;
        let lengths = self.lengths.range(..=key.len());
        lengths.filter_map(|length| prefixes.get(&key[..*length])).max().copied()
    }

    /// Those that may hide keys of these groups that begin with `prefix`.
    pub(crate) fn among(&self, groups: &Range<KeyGroup>, prefix: &[u8]) -> Self {
        let mut among = Cleared::default();
        for (group, prefixes) in self.groups.range(groups.clone()) {
            for (cleared, order) in prefixes {
                if cleared.starts_with(prefix) || prefix.starts_with(cleared) {
                    among.insert(*group, cleared, *order);
                }
            }
        }
        among
    }

    /// By group, then by prefix.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (KeyGroup, &[u8])> {
        self.groups
            .iter()
            .flat_map(|(group, prefixes)| prefixes.keys().map(|prefix| (*group, prefix.as_slice())))
    }
}
