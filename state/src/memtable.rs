//! Commits that the log holds and the base does not: an index over them by key.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use hashbrown::HashTable;
use hashbrown::hash_table::Entry as Slot;

use crate::base::{Position, VisitChange, operator_prefix};
use crate::changes::{Changes, Commit, Entry, Op};
use crate::cleared::{Cleared, Order};
use crate::planted::planted;
use crate::{KEY_GROUPS, KeyGroup, hash_bytes};

/// The last change of each key, in commits that stay as they were.
#[derive(Default)]
pub(crate) struct Memtable {
    commits: Vec<Arc<Commit>>,
    /// The commit before the first one.
    before: Position,
    end: Position,
    bytes: u64,
    operators: BTreeMap<Arc<str>, Index>,
}

/// From this many keys on, an operator's index has a table for each key group.
const SPLIT_AT: usize = 1 << 14;

/// The tables of a split index: one per key group, and one for what belongs to no key.
const PARTS: usize = KEY_GROUPS as usize + 1;

/// An operator's keys: in one table, or by group, so that reading some groups costs what they
/// hold.
struct Index {
    parts: Vec<HashTable<Place>>,
    len: usize,
    cleared: Cleared,
}

impl Default for Index {
    fn default() -> Self {
        Index { parts: vec![HashTable::new()], len: 0, cleared: Cleared::default() }
    }
}

impl Index {
    fn part(&self, group: KeyGroup) -> usize {
        if self.parts.len() == 1 { 0 } else { usize::from(group).min(PARTS - 1) }
    }

    fn reserve(&mut self, commits: &[Arc<Commit>], count: usize) {
        if self.len + count >= SPLIT_AT && self.parts.len() == 1 {
            self.split(commits);
        }
        let each = count / self.parts.len();
        self.parts.iter_mut().for_each(|part| part.reserve(each, |place| place.hash));
    }

    fn split(&mut self, commits: &[Arc<Commit>]) {
        let whole = std::mem::replace(&mut self.parts, vec![HashTable::new(); PARTS]);
        for place in whole.into_iter().flatten() {
            let part = self.part(entry(commits, place).0);
            self.parts[part].insert_unique(place.hash, place, |place| place.hash);
        }
    }

    /// Puts a change in place of an earlier one of the same key.
    fn insert(&mut self, commits: &[Arc<Commit>], place: Place, group: KeyGroup, key: &[u8]) {
        if self.len >= SPLIT_AT && self.parts.len() == 1 {
            self.split(commits);
        }
        let same = |other: &Place| {
            // The hash first: the other lies elsewhere in memory.
            other.hash == place.hash && {
                let (other_group, other_key, _) = entry(commits, *other);
                other_group == group && other_key == key
            }
        };
        let part = self.part(group);
        match self.parts[part].entry(place.hash, same, |p| p.hash) {
            Slot::Occupied(mut slot) => *slot.get_mut() = place,
            Slot::Vacant(slot) => {
                slot.insert(place);
                self.len += 1;
            }
        }
    }

    /// Whether a change was made after the last deletion that would hide it.
    fn is_live(&self, order: Order, (group, key, _): &Entry<'_>) -> bool {
        let cleared = self.cleared.last(*group, key);
        cleared.is_none_or(|cleared| cleared < order) || planted("cleared-come-back")
    }

    /// The changes of some groups, and maybe of others.
    fn of_groups(&self, groups: &Range<KeyGroup>) -> impl Iterator<Item = &Place> {
        let parts = match self.parts.len() {
            1 => 0..1,
            count => {
                let first = usize::from(groups.start).min(count - 1);
                first..usize::from(groups.end).clamp(first, count)
            }
        };
        self.parts[parts].iter().flatten()
    }
}

/// Where a change lies.
#[derive(Clone, Copy)]
struct Place {
    hash: u64,
    commit: u32,
    changes: u32,
    entry: u32,
}

impl Place {
    fn order(&self) -> Order {
        (self.commit, self.changes, self.entry)
    }
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
    /// Without commits yet; the first will follow this one.
    pub(crate) fn behind(before: Position) -> Self {
        Memtable { before, end: before, ..Memtable::default() }
    }

    /// Makes room for these commits at once.
    pub(crate) fn reserve<'a>(&mut self, commits: impl Iterator<Item = &'a Arc<Commit>>) {
        let mut counts: BTreeMap<&Arc<str>, usize> = BTreeMap::new();
        for changes in commits.flat_map(|commit| &commit.changes) {
            *counts.entry(changes.operator()).or_default() += changes.len();
        }
        for (operator, count) in counts {
            let index = self.operators.entry(operator.clone()).or_default();
            index.reserve(&self.commits, count);
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
            if table.len == 0 {
                table.reserve(commits, changes.len());
            }
            for (entry_index, (group, key, op)) in changes.iter().enumerate() {
                let place = Place {
                    hash: hash(group, key),
                    commit: index,
                    changes: changes_index as u32,
                    entry: entry_index as u32,
                };
                match op {
                    Op::DeletePrefix => table.cleared.insert(group, key, place.order()),
                    Op::Put(_) | Op::Delete => table.insert(commits, place, group, key),
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

    pub(crate) fn before(&self) -> Position {
        self.before
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
        let index = self.operators.get(operator)?;
        let place = index.parts[index.part(group)].find(hash(group, key), |place| {
            let (other_group, other_key, _) = entry(&self.commits, *place);
            other_group == group && other_key == key
        });
        match place.map(|place| (place.order(), entry(&self.commits, *place))) {
            Some((order, entry)) if index.is_live(order, &entry) => Some(entry.2.value()),
            Some(_) => Some(None),
            None => index.cleared.last(group, key).map(|_| None),
        }
    }

    /// Deletions by prefix that may hide older changes than those of this table.
    pub(crate) fn cleared(
        &self,
        operator: &str,
        groups: &Range<KeyGroup>,
        prefix: &[u8],
    ) -> Cleared {
        let index = self.operators.get(operator);
        index.map_or_else(Cleared::default, |index| index.cleared.among(groups, prefix))
    }

    /// The last change of each key of an operator, in order, but for those that a deletion by
    /// prefix hides.
    pub(crate) fn sorted(
        &self,
        operator: &str,
        groups: &Range<KeyGroup>,
        prefix: &[u8],
    ) -> Vec<Entry<'_>> {
        let Some(index) = self.operators.get(operator) else { return Vec::new() };
        let entries = index
            .of_groups(groups)
            .map(|place| (place.order(), entry(&self.commits, *place)))
            .filter(|(_, (group, key, _))| groups.contains(group) && key.starts_with(prefix))
            .filter(|(order, entry)| index.is_live(*order, entry));
        in_order(entries.map(|(_, entry)| entry))
    }

    /// Gives the deletions by prefix, and then the last change of every key that none of them
    /// hides, by full key, in order. What is held at a time is what one key group has changed.
    pub(crate) fn each_change(&self, visit: &mut VisitChange<'_>) {
        let mut operators: Vec<(Vec<u8>, &Index)> =
            self.operators.iter().map(|(id, index)| (operator_prefix(id), index)).collect();
        // Ids of which one begins with the other are ordered otherwise with a zero byte behind.
        operators.sort_by(|a, b| a.0.cmp(&b.0));
        let mut full = Vec::new();
        let mut give = |operator: &[u8], (group, key, op): Entry<'_>| {
            full.clear();
            full.extend_from_slice(operator);
            full.extend_from_slice(&group.to_be_bytes());
            full.extend_from_slice(key);
            visit(&full, op);
        };
        for (operator, index) in &operators {
            for (group, prefix) in index.cleared.iter() {
                give(operator, (group, prefix, Op::DeletePrefix));
            }
        }
        for (operator, index) in &operators {
            for part in &index.parts {
                let entries = part.iter().map(|p| (p.order(), entry(&self.commits, *p)));
                let live = entries.filter(|(order, entry)| index.is_live(*order, entry));
                for entry in in_order(live.map(|(_, entry)| entry)) {
                    give(operator, entry);
                }
            }
        }
    }
}

/// Changes of one operator by group and key.
fn in_order<'a>(entries: impl Iterator<Item = Entry<'a>>) -> Vec<Entry<'a>> {
    let mut entries: Vec<(u128, Entry<'_>)> =
        entries.map(|entry| (first_bytes(&entry), entry)).collect();
    entries.sort_unstable_by(|(a_first, a), (b_first, b)| {
        a_first.cmp(b_first).then_with(|| a.1.cmp(b.1))
    });
    entries.into_iter().map(|(_, entry)| entry).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::full_key;

    fn commit(groups: std::ops::Range<u32>, value: u8) -> Arc<Commit> {
        let mut changes = Changes::new("op".into());
        for number in groups {
            let group = (number % u32::from(KEY_GROUPS + 1)) as KeyGroup;
            let key = |bytes: &mut Vec<u8>| {
                bytes.extend_from_slice(&number.to_be_bytes());
                Ok(())
            };
            let put = |bytes: &mut Vec<u8>| {
                bytes.push(value);
                Ok(())
            };
            changes.put(group, key, put).unwrap();
        }
        Arc::new(Commit { record: Vec::new(), changes: vec![changes] })
    }

    #[test]
    fn reading_some_groups_costs_what_they_hold() {
        for reserved in [false, true] {
            let mut table = Memtable::default();
            let commits = [commit(0..20_000, 1), commit(10_000..40_000, 2)];
            if reserved {
                table.reserve(commits.iter());
            }
            commits.into_iter().for_each(|commit| table.push(Position::default(), commit));
            let index = &table.operators["op"];
            assert_eq!((index.parts.len(), index.len), (PARTS, 40_000));
            let looked_at = index.of_groups(&(7..9)).count();
            assert!((70..90).contains(&looked_at), "{looked_at} for two groups of 1025");
            for (groups, prefix) in [(7..9, 0), (0..KEY_GROUPS + 1, 0), (1020..u16::MAX, 0)] {
                let found = table.sorted("op", &groups, &[prefix]);
                let mut expected: Vec<_> = (0..40_000u32)
                    .map(|n| ((n % 1025) as u16, n.to_be_bytes(), 1 + u8::from(n >= 10_000)))
                    .filter(|(group, ..)| groups.contains(group))
                    .collect();
                expected.sort_unstable();
                assert_eq!(found.len(), expected.len());
                for ((group, key, value), expected) in found.into_iter().zip(expected) {
                    assert_eq!(
                        (group, key, value),
                        (expected.0, &expected.1[..], Op::Put(&[expected.2][..]))
                    );
                }
            }
            let mut visited = Vec::new();
            let all = table.sorted("op", &(0..u16::MAX), &[]);
            let visit = &mut |full: &[u8], op: Op<'_>| {
                visited.push((full.to_vec(), op.value().map(<[u8]>::to_vec)));
            };
            table.each_change(visit);
            let full = |(group, key, value): &Entry<'_>| {
                (full_key("op", *group, key), value.value().map(<[u8]>::to_vec))
            };
            assert_eq!(visited, all.iter().map(full).collect::<Vec<_>>());
            assert!(visited.is_sorted());
            let key = 12_345u32.to_be_bytes();
            assert_eq!(table.get("op", (12_345 % 1025) as u16, &key), Some(Some(&[2][..])));
            assert_eq!(table.get("op", 1, &key), None);
        }
    }
}
