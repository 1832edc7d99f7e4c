//! Commits that the log holds and the base does not: an index over them by key.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use hashbrown::HashTable;
use hashbrown::hash_table::Entry as Slot;

use crate::base::{Position, full_key};
use crate::changes::{Changes, Commit, Entry};
use crate::{KeyGroup, hash_bytes};

/// The last change of each key, in commits that stay as they were.
#[derive(Default)]
pub(crate) struct Memtable {
    commits: Vec<Arc<Commit>>,
    end: Position,
    bytes: u64,
    operators: BTreeMap<Arc<str>, HashTable<Place>>,
}

/// Where a change lies.
#[derive(Clone, Copy)]
struct Place {
    hash: u64,
    commit: u32,
    changes: u32,
    entry: u32,
}

fn hash(group: KeyGroup, key: &[u8]) -> u64 {
    hash_bytes(key) ^ u64::from(group)
}

fn entry(commits: &[Arc<Commit>], place: Place) -> Entry<'_> {
    commits[place.commit as usize].changes[place.changes as usize].entry(place.entry as usize)
}

/// The group and the first bytes of the key, ordered as they are: comparing them reads nothing
/// but the list that is sorted, and seldom leaves a doubt.
fn first_bytes((group, key, _): &Entry<'_>) -> u128 {
    let mut bytes = [0; 16];
    bytes[..2].copy_from_slice(&group.to_be_bytes());
    let length = key.len().min(14);
    bytes[2..2 + length].copy_from_slice(&key[..length]);
    u128::from_be_bytes(bytes)
}

/// About what the index holds for an entry.
const INDEX_BYTES: usize = size_of::<Place>() + size_of::<Place>() / 2;

impl Memtable {
    /// Makes room for these commits at once.
    pub(crate) fn reserve<'a>(&mut self, commits: impl Iterator<Item = &'a Arc<Commit>>) {
        let mut counts: BTreeMap<&Arc<str>, usize> = BTreeMap::new();
        for changes in commits.flat_map(|commit| &commit.changes) {
            *counts.entry(changes.operator()).or_default() += changes.len();
        }
        for (operator, count) in counts {
            let table = self.operators.entry(operator.clone()).or_default();
            table.reserve(count, |place| place.hash);
        }
    }

    /// Adds the commit that follows.
    pub(crate) fn push(&mut self, end: Position, commit: Arc<Commit>) {
        self.end = end;
        let entries: usize = commit.changes.iter().map(Changes::len).sum();
        self.bytes += commit.size() + (entries * INDEX_BYTES) as u64;
        let index = self.commits.len() as u32;
        self.commits.push(commit);
        let (commits, commit) = (&self.commits, &self.commits[index as usize]);
        for (changes_index, changes) in commit.changes.iter().enumerate() {
            let table = self.operators.entry(changes.operator().clone()).or_default();
            if table.is_empty() {
                table.reserve(changes.len(), |place| place.hash);
            }
            for (entry_index, (group, key, _)) in changes.iter().enumerate() {
                let place = Place {
                    hash: hash(group, key),
                    commit: index,
                    changes: changes_index as u32,
                    entry: entry_index as u32,
                };
                let same = |other: &Place| {
                    // The hash first: the other lies elsewhere in memory.
                    other.hash == place.hash && {
                        let (other_group, other_key, _) = entry(commits, *other);
                        other_group == group && other_key == key
                    }
                };
                match table.entry(place.hash, same, |p| p.hash) {
                    Slot::Occupied(mut slot) => *slot.get_mut() = place,
                    Slot::Vacant(slot) => {
                        slot.insert(place);
                    }
                }
            }
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.commits.is_empty()
    }

    pub(crate) fn commits(&self) -> &[Arc<Commit>] {
        &self.commits
    }

    pub(crate) fn end(&self) -> Position {
        self.end
    }

    /// Bytes of the commits, with a share for the index.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(crate) fn record(&self) -> Option<&[u8]> {
        self.commits.last().map(|commit| commit.record.as_slice())
    }

    /// The last change of a key: `None` if there is none, `Some(None)` if it is a deletion.
    pub(crate) fn get(&self, operator: &str, group: KeyGroup, key: &[u8]) -> Option<Option<&[u8]>> {
        let table = self.operators.get(operator)?;
        let place = table.find(hash(group, key), |place| {
            let (other_group, other_key, _) = entry(&self.commits, *place);
            other_group == group && other_key == key
        })?;
        Some(entry(&self.commits, *place).2)
    }

    /// The last change of each key of an operator, in order.
    pub(crate) fn sorted(
        &self,
        operator: &str,
        groups: &Range<KeyGroup>,
        prefix: &[u8],
    ) -> Vec<Entry<'_>> {
        let places = self.operators.get(operator).into_iter().flat_map(HashTable::iter);
        let mut entries: Vec<(u128, Entry<'_>)> = places
            .map(|place| entry(&self.commits, *place))
            .filter(|(group, key, _)| groups.contains(group) && key.starts_with(prefix))
            .map(|entry| (first_bytes(&entry), entry))
            .collect();
        entries.sort_unstable_by(|(a_first, a), (b_first, b)| {
            a_first.cmp(b_first).then_with(|| a.1.cmp(b.1))
        });
        entries.into_iter().map(|(_, entry)| entry).collect()
    }

    /// The last change of every key, by full key, in order.
    pub(crate) fn all_sorted(&self) -> Vec<(Vec<u8>, Option<&[u8]>)> {
        let mut all = Vec::new();
        for operator in self.operators.keys() {
            let entries = self.sorted(operator, &(0..KeyGroup::MAX), &[]);
            all.extend(entries.into_iter().map(|(g, k, v)| (full_key(operator, g, k), v)));
        }
        // Ids of which one begins with the other are ordered otherwise with a zero byte behind.
        if self.operators.len() > 1 {
            all.sort_by(|a, b| a.0.cmp(&b.0));
        }
        all
    }
}
