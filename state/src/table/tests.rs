use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::prelude::*;

use super::drain::FEW;
use super::shard::Shard;
use super::*;
use crate::{Changes, Commit, KEY_GROUPS, MemStore, decode};

#[derive(Clone, Debug)]
enum Step {
    /// Looks ahead: what is found is used whenever the key is updated, however stale.
    Look(u64),
    Update(u64),
    Change(u64),
    Remove(u64),
    /// Empties the key groups of a range.
    Drain(KeyGroup, KeyGroup),
    BeginCommit,
    CaptureSome,
    FinishCommit,
    Evict,
    Reopen,
}

/// Some keys of few groups, so that many of a group can be deleted at once.
fn keys() -> impl Strategy<Value = u64> + Clone {
    let keys = (0..).filter(|key: &u64| group_of(hash_key(key)) < GROUPS).take(150);
    prop::sample::select(keys.collect::<Vec<_>>())
}

const GROUPS: KeyGroup = 24;

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        12 => keys().prop_map(Step::Look),
        12 => keys().prop_map(Step::Update),
        4 => keys().prop_map(Step::Change),
        4 => keys().prop_map(Step::Remove),
        1 => (0..GROUPS, 0..=GROUPS).prop_map(|(a, b)| Step::Drain(a.min(b), a.max(b))),
        1 => Just(Step::BeginCommit),
        2 => Just(Step::CaptureSome),
        1 => Just(Step::FinishCommit),
        1 => Just(Step::Evict),
        1 => Just(Step::Reopen),
    ];
    prop::collection::vec(step, 1..400)
}

/// A table beside a store, and what both should hold.
struct World {
    table: Table<u64, u64>,
    hints: BTreeMap<u64, Hint>,
    store: MemStore,
    model: BTreeMap<u64, u64>,
    /// The model when the capture under way began.
    captured: Option<BTreeMap<u64, u64>>,
    committed: BTreeMap<u64, u64>,
    changes: Vec<Changes>,
}

impl World {
    fn new(expected: usize) -> Self {
        World {
            table: Table::expecting(b"p".to_vec(), expected, &(0..KEY_GROUPS)),
            hints: BTreeMap::new(),
            store: MemStore::new(),
            model: BTreeMap::new(),
            captured: None,
            committed: BTreeMap::new(),
            changes: Vec::new(),
        }
    }

    fn read_back(&mut self, key: u64) {
        if self.table.is_missing(hash_key(&key), &key) {
            let wanted = vec![(hash_key(&key), key)];
            self.table.read_back(&self.store, "op", wanted, decode).unwrap();
        }
    }

    fn finish(&mut self) {
        let Some(captured) = self.captured.take() else { return };
        while !self.table.capture(&"op".into(), &mut 1, &mut self.changes).unwrap() {}
        let changes = std::mem::take(&mut self.changes);
        self.store.commit(Commit { record: Vec::new(), changes }).unwrap();
        self.table.committed();
        self.committed = captured;
        let mut stored = BTreeMap::new();
        let visit = &mut |group, key: &[u8], value: &[u8]| {
            let key: u64 = decode(&key[1..])?;
            assert_eq!(group, group_of(hash_key(&key)), "the group of {key}");
            assert_eq!(stored.insert(key, decode(value)?), None);
            Ok(())
        };
        self.store.scan("op", 0..KEY_GROUPS, b"p", visit).unwrap();
        assert_eq!(stored, self.committed);
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Look(key) => {
                let hint = self.table.look_for(hash_key(&key));
                let found = self.table.look_at(hint, hash_key(&key), &key, |value| *value);
                let known = self.table.get(hash_key(&key), &key).is_some();
                assert!(known || found == Hint::NONE, "{key}");
                self.hints.insert(key, if key.is_multiple_of(2) { hint } else { found });
            }
            Step::Update(key) => {
                self.read_back(key);
                let hash = hash_key(&key);
                if key.is_multiple_of(3) {
                    self.table.update_with(hash, &key, || 0, |value| *value += 1);
                } else {
                    let hint = self.hints.get(&key).copied().unwrap_or(Hint::NONE);
                    *self.table.update_at(hint, hash, &key, || 0) += 1;
                }
                *self.model.entry(key).or_insert(0) += 1;
            }
            Step::Change(key) => {
                self.read_back(key);
                if let Some(value) = self.table.get_mut(hash_key(&key), &key) {
                    *value += 2;
                }
                if let Some(value) = self.model.get_mut(&key) {
                    *value += 2;
                }
            }
            Step::Remove(key) => {
                self.read_back(key);
                let removed = self.table.remove(hash_key(&key), &key);
                assert_eq!(removed, self.model.remove(&key), "{key}");
            }
            Step::Drain(from, to) => {
                let within = |key: &u64| (from..to).contains(&group_of(hash_key(key)));
                let keys: Vec<u64> = self.model.keys().copied().filter(within).collect();
                keys.iter().for_each(|key| self.read_back(*key));
                let mut drained = BTreeMap::new();
                self.table.drain_groups(from..to, |key, value| {
                    assert_eq!(drained.insert(key, value), None);
                });
                let expected = keys.into_iter().map(|key| (key, self.model.remove(&key).unwrap()));
                assert_eq!(drained, expected.collect());
            }
            Step::BeginCommit => {
                self.finish();
                self.table.begin_capture();
                self.captured = Some(self.model.clone());
            }
            Step::CaptureSome if self.captured.is_some() && self.changes.is_empty() => {
                self.table.capture(&"op".into(), &mut 3, &mut self.changes).unwrap();
            }
            Step::CaptureSome => {}
            Step::FinishCommit => self.finish(),
            Step::Evict => {
                self.table.evict(usize::MAX);
            }
            Step::Reopen => {
                self.finish();
                self.table = Table::cold(b"p".to_vec());
                self.model = self.committed.clone();
            }
        }
    }
}

proptest! {
    /// Whatever is evicted, read back and written out in steps, table and store together hold
    /// what a map holds, and a commit what the map held when its capture began.
    #[test]
    fn differential_against_a_map(
        steps in steps(),
        expected in prop::sample::select(vec![0, 7, 90, SPLIT_AT, 9 * SPLIT_AT, 99 * SPLIT_AT]),
    ) {
        let mut world = World::new(expected);
        for step in steps {
            world.step(step);
        }
        world.step(Step::BeginCommit);
        world.finish();
        prop_assert_eq!(&world.committed, &world.model);
    }
}

#[test]
fn a_table_splits_while_it_is_written_out() {
    let mut world = World::new(0);
    for key in 0..SPLIT_AT as u64 - 1 {
        world.step(Step::Update(key));
    }
    world.step(Step::BeginCommit);
    for key in 0..200 {
        world.step(Step::Update(SPLIT_AT as u64 - 100 + key));
    }
    assert_eq!(world.table.shards.len(), 2);
    world.finish();
    world.step(Step::BeginCommit);
    world.finish();
    assert_eq!(world.committed, world.model);
}

/// The keys of one worker of many are of few groups: its table is in small parts all the same.
#[test]
fn a_table_of_few_groups_is_split_as_far_as_it_takes() {
    let mut table: Table<u64, u64> = Table::new(b"p".to_vec());
    let keys = (0u64..).filter(|key| group_of(hash_key(key)) < KEY_GROUPS / 16);
    for key in keys.take(3 * SPLIT_AT) {
        *table.update(hash_key(&key), &key, || 0) += 1;
        let largest = table.shards.iter().map(Shard::len).max();
        assert!(largest <= Some(SPLIT_AT), "{largest:?} entries in a part");
    }
}

/// What is forgotten is not made room for again.
#[test]
fn a_table_that_was_larger_than_memory_expects_nothing() {
    let mut world = World::new(2 * SPLIT_AT);
    (0..1_000).for_each(|key| world.step(Step::Update(key)));
    world.step(Step::BeginCommit);
    world.finish();
    world.table.evict(usize::MAX);
    world.step(Step::Update(0));
    assert!(world.table.memory() < 1_000, "{} bytes for one entry", world.table.memory());
}

/// As long as it holds no more than was expected, what is in a shard never moves.
#[test]
fn a_table_that_expects_its_entries_does_not_grow() {
    let mut world = World::new(500);
    (0..1).for_each(|key| world.step(Step::Update(key)));
    let before = world.table.memory();
    (1..500).for_each(|key| world.step(Step::Update(key)));
    assert_eq!(world.table.memory(), before);
    assert_eq!(
        Table::<u64, u64>::expecting(Vec::new(), 500, &(0..9)).memory(),
        0,
        "nothing is in it"
    );
}

#[test]
fn what_is_evicted_frees_memory_and_comes_back() {
    let mut world = World::new(SPLIT_AT);
    (0..50_000).for_each(|key| world.step(Step::Update(key)));
    assert_eq!(world.table.evict(usize::MAX), 0, "nothing is stored yet");
    world.step(Step::BeginCommit);
    assert_eq!(world.table.evict(usize::MAX), 0, "the commit is under way");
    world.finish();
    let before = world.table.memory();
    world.table.evict(before);
    assert!(world.table.is_empty());
    assert!(world.table.memory() < before / 4, "{} of {before}", world.table.memory());
    (0..50_000).for_each(|key| world.step(Step::Update(key)));
    world.step(Step::BeginCommit);
    world.finish();
    assert_eq!(world.committed.values().sum::<u64>(), 100_000);
}

#[test]
fn keys_of_a_shard_are_looked_for_in_different_places() {
    let of_shard = (0..100_000u64).map(|key| hash_key(&key)).filter(|hash| group_of(*hash) == 7);
    let hashes: Vec<u64> = of_shard.map(inner).collect();
    let different = |part: fn(&u64) -> u64| {
        hashes.iter().map(part).collect::<std::collections::BTreeSet<_>>().len()
    };
    assert!(hashes.len() > 50);
    assert!(different(|hash| hash % 1024) > hashes.len() / 2, "where to begin");
    assert!(different(|hash| hash >> 57) > hashes.len() / 4, "what to compare first");
}

#[test]
fn deletions_are_written_out_in_steps_too() {
    // Too few of a group for them to be deleted at once.
    let mut world = World::new(0);
    (0..3_000).for_each(|key| world.step(Step::Update(key)));
    world.step(Step::BeginCommit);
    world.finish();
    world.table.drain(|_, _| {});
    world.model.clear();
    world.step(Step::Update(7));
    world.table.begin_capture();
    // Changed while it is on its way out: written before the deletions are.
    let (hash, key) = (hash_key(&7u64), 7u64);
    *world.table.get_mut(hash, &key).unwrap() += 1;
    let (mut steps, mut changes, op) = (0, Vec::new(), Arc::from("op"));
    loop {
        let mut budget = 100;
        let done = world.table.capture(&op, &mut budget, &mut changes).unwrap();
        steps += 1;
        if done {
            break;
        }
        assert_eq!(budget, 0, "it stopped early");
    }
    assert!(steps >= 30, "{steps} steps for 3,000 deletions");
    world.store.commit(Commit { record: Vec::new(), changes }).unwrap();
    world.table.committed();
    let mut left = Vec::new();
    let visit = &mut |_, _: &[u8], value: &[u8]| {
        left.push(value.to_vec());
        Ok(())
    };
    world.store.scan("op", 0..KEY_GROUPS, &[], visit).unwrap();
    assert_eq!(left, [1u64.to_le_bytes()], "the key that was born again");
}

/// What was merged into another entry is in the store until a commit has deleted it, and no longer
/// counts.
#[test]
fn a_stored_entry_that_was_merged_is_passed_over() {
    let mut table: Table<u64, u64> = Table::cold(b"p".to_vec());
    for in_capture in [false, true] {
        table.bury_stored(7, b"pmerged");
        if in_capture {
            table.begin_capture();
        }
        assert!(table.is_buried(7, b"pmerged"), "in a capture: {in_capture}");
        assert!(!table.is_buried(7, b"pother") && !table.is_buried(8, b"pmerged"));
    }
    while !table.capture(&"op".into(), &mut 9, &mut Vec::new()).unwrap() {}
    table.committed();
    assert!(!table.is_buried(7, b"pmerged"), "the store no longer has it");
}

/// A window of many keys that closes is no longer a list of changes than there are groups.
#[test]
fn many_keys_are_deleted_by_group() {
    for (expected, keys) in [(0, SPLIT_AT as u64 - 1), (SPLIT_AT, 50_000)] {
        let mut world = World::new(expected);
        (0..keys).for_each(|key| world.step(Step::Update(key)));
        world.step(Step::BeginCommit);
        world.finish();
        // Some are in the store only, and one was changed since.
        world.table.evict(world.table.memory() / 2);
        world.step(Step::Update(0));
        (0..keys).for_each(|key| world.read_back(key));
        world.table.drain(|_, _| {});
        world.model.clear();
        (0..10).for_each(|key| world.step(Step::Update(key)));
        world.step(Step::BeginCommit);
        (5..15).for_each(|key| world.step(Step::Update(key)));
        while !world.table.capture(&"op".into(), &mut 9, &mut world.changes).unwrap() {}
        let changes: usize = world.changes.iter().map(Changes::len).sum();
        assert!(changes <= usize::from(KEY_GROUPS) * FEW + 10, "{changes} changes");
        world.finish();
        world.step(Step::BeginCommit);
        world.finish();
        assert_eq!((world.committed.len(), &world.committed), (15, &world.model));
    }
}

#[test]
fn groups_are_read_in_few_ranges() {
    let ranges = |groups: &[u16]| few_ranges(&groups.iter().copied().collect());
    let bounds = |groups: &[u16]| {
        ranges(groups).into_iter().map(|range| (range.start, range.end)).collect::<Vec<_>>()
    };
    assert_eq!(bounds(&[]), []);
    assert_eq!(bounds(&[5]), [(5, 6)]);
    assert_eq!(bounds(&[1, 2, 3, 7]), [(1, 4), (7, 8)]);
    assert_eq!(bounds(&(0..1024).collect::<Vec<_>>()), [(0, 1024)]);
    let scattered: Vec<u16> = (0..1024).filter(|group| group % 3 == 0 || *group == 512).collect();
    let found = ranges(&scattered);
    assert!(found.len() <= MOST_RANGES && found.len() > 1, "{found:?}");
    assert!(scattered.iter().all(|group| found.iter().any(|range| range.contains(group))));
}

#[test]
fn nothing_of_an_unkept_table_is_written_out() {
    let mut table: Table<u64, u64> =
        Table::expecting(Vec::new(), 20_000, &(0..KEY_GROUPS)).unkept();
    for round in 0..3 {
        for key in 0..20_000u64 {
            *table.update(hash_key(&key), &key, || 0) += 1;
        }
        table.begin_capture();
        let (mut changes, mut budget) = (Vec::new(), 1);
        assert!(table.capture(&"op".into(), &mut budget, &mut changes).unwrap());
        table.committed();
        assert!(changes.is_empty());
        table.remove(hash_key(&round), &round);
    }
    assert_eq!((table.len(), table.net()), (19_999, 19_999));
    assert!(table.is_complete());
}

/// Commits what has changed, and returns all that is stored: key, serial and value.
fn stored_fragments(
    table: &mut Table<u64, u64>,
    store: &MemStore,
) -> std::collections::BTreeSet<(u64, u32, u64)> {
    table.begin_capture();
    let mut changes = Vec::new();
    while !table.capture(&"op".into(), &mut 1_000, &mut changes).unwrap() {}
    store.commit(Commit { record: Vec::new(), changes }).unwrap();
    table.committed();
    all_stored(store)
}

fn all_stored(store: &MemStore) -> std::collections::BTreeSet<(u64, u32, u64)> {
    let mut stored = std::collections::BTreeSet::new();
    let visit = &mut |_, key: &[u8], value: &[u8]| {
        let (key, serial) = key[1..].split_last_chunk::<4>().unwrap();
        stored.insert((decode(key)?, u32::from_be_bytes(*serial), decode(value)?));
        Ok(())
    };
    store.scan("op", 0..KEY_GROUPS, b"p", visit).unwrap();
    stored
}

#[test]
fn parts_of_a_key_are_stored_beside_each_other_until_they_are_drained() {
    let store = MemStore::new();
    let mut table: Table<u64, u64> = Table::new(b"p".to_vec()).fragmented();
    for key in 0..3u64 {
        *table.update(hash_key(&key), &key, || 0) += 1;
    }
    assert_eq!(stored_fragments(&mut table, &store), [(0, 0, 1), (1, 0, 1), (2, 0, 1)].into());
    // Used since the hand came by, so they are passed over once.
    table.evict(usize::MAX);
    table.evict(usize::MAX);
    assert_eq!((table.len(), table.is_complete()), (0, false));
    table.begin_fragments(7);
    table.update_with(hash_key(&1u64), &1, || 10, |value| *value += 1);
    table.begin_fragments(8);
    // It has begun before, and 2 has not.
    table.update_with(hash_key(&1u64), &1, || 0, |value| *value += 1);
    *table.update(hash_key(&2u64), &2, || 0) += 5;
    assert_eq!((table.serial(&0), table.serial(&1), table.serial(&2)), (0, 7, 8));
    let parts = [(0, 0, 1), (1, 0, 1), (1, 7, 12), (2, 0, 1), (2, 8, 5)];
    assert_eq!(stored_fragments(&mut table, &store), parts.into());
    table.evict(usize::MAX);
    table.evict(usize::MAX);
    assert_eq!((table.len(), table.serial(&1)), (0, 0), "nothing of it is in memory");
    for (key, serial, value) in [(0, 0, 1), (1, 7, 12), (2, 8, 5)] {
        table.load_fragment(key, serial, value);
    }
    let mut drained = BTreeMap::new();
    table.drain(|key, value| assert_eq!(drained.insert(key, value), None));
    assert_eq!(drained, [(0, 1), (1, 12), (2, 5)].into());
    assert_eq!(table.serial(&1), 0, "nothing of it is in memory");
    assert_eq!(stored_fragments(&mut table, &store), [(1, 0, 1), (2, 0, 1)].into());
}

#[test]
fn a_part_that_goes_while_it_is_written_out_is_stored_under_its_serial() {
    let store = MemStore::new();
    let mut table: Table<u64, u64> = Table::new(b"p".to_vec()).fragmented();
    table.begin_fragments(7);
    for key in 0..4u64 {
        table.update_with(hash_key(&key), &key, || key, |_| ());
    }
    table.begin_capture();
    // All are pending. One changes, one goes, one goes and comes again as another part.
    *table.get_mut(hash_key(&1u64), &1).unwrap() = 100;
    assert_eq!(table.remove(hash_key(&2u64), &2), Some(2));
    assert_eq!(table.remove(hash_key(&3u64), &3), Some(3));
    table.begin_fragments(8);
    *table.update(hash_key(&3u64), &3, || 0) += 300;
    assert_eq!((table.serial(&1), table.serial(&2), table.serial(&3)), (7, 0, 8));
    let mut changes = Vec::new();
    while !table.capture(&"op".into(), &mut 1, &mut changes).unwrap() {}
    store.commit(Commit { record: Vec::new(), changes }).unwrap();
    table.committed();
    let as_it_was = (0..4).map(|key| (key, 7, key)).collect();
    assert_eq!(all_stored(&store), as_it_was);
    let now = [(0, 7, 0), (1, 7, 100), (3, 8, 300)];
    assert_eq!(stored_fragments(&mut table, &store), now.into());
}
