//! Every store does what the reference does: the same commits, the same scans, also after it has
//! been closed and opened again.

use std::sync::Arc;

use highwater_state::{Changes, Commit, Error, KEY_GROUPS, MemStore, RocksStore, Store};
use proptest::prelude::*;

/// Operator, group, key, and the value to put; `None` deletes.
type Change = (u8, u16, Vec<u8>, Option<Vec<u8>>);

fn commits() -> impl Strategy<Value = Vec<Vec<Change>>> {
    let change = (0u8..3, 0u16..6, prop::collection::vec(0u8..3, 0..3), any::<Option<Vec<u8>>>());
    prop::collection::vec(prop::collection::vec(change, 0..20), 1..8)
}

/// Ids of which one is the beginning of another.
const OPERATORS: [&str; 3] = ["count", "counts", "count.late"];

fn build(number: usize, changes: &[Change]) -> Commit {
    let changes = OPERATORS.iter().enumerate().map(|(index, operator)| {
        let mut list = Changes::new(Arc::from(*operator));
        for (_, group, key, value) in changes.iter().filter(|c| usize::from(c.0) == index) {
            // The last group too, not only the first few.
            let group = if *group == 5 { KEY_GROUPS - 1 } else { *group };
            let write_key = |bytes: &mut Vec<u8>| {
                bytes.extend_from_slice(key);
                Ok(())
            };
            match value {
                Some(value) => list.put(group, write_key, |bytes| {
                    bytes.extend_from_slice(value);
                    Ok(())
                }),
                None => list.delete(group, write_key),
            }
            .unwrap();
        }
        list
    });
    Commit { record: number.to_string().into_bytes(), changes: changes.collect() }
}

type Entry = (u16, Vec<u8>, Vec<u8>);

fn everything(store: &dyn Store) -> (Option<Vec<u8>>, Vec<Vec<Entry>>) {
    let scans = OPERATORS.iter().flat_map(|operator| {
        [0..KEY_GROUPS, 1..3, KEY_GROUPS - 1..KEY_GROUPS].map(|groups| {
            let mut entries = Vec::new();
            store
                .scan(operator, groups, &mut |group, key, value| {
                    entries.push((group, key.to_vec(), value.to_vec()));
                    Ok(())
                })
                .unwrap();
            entries
        })
    });
    (store.record().unwrap(), scans.collect())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn differential_rocksdb_against_memory(commits in commits()) {
        let dir = tempfile::tempdir().unwrap();
        let mut rocks = RocksStore::open(dir.path()).unwrap();
        let mem = MemStore::new();
        prop_assert_eq!(everything(&rocks), everything(&mem));
        for (number, changes) in commits.iter().enumerate() {
            let commit = build(number, changes);
            rocks.commit(&commit).unwrap();
            mem.commit(&commit).unwrap();
            prop_assert_eq!(everything(&rocks), everything(&mem));
            let reader = RocksStore::open_read_only(dir.path()).unwrap();
            prop_assert_eq!(everything(&reader), everything(&mem));
            drop(rocks);
            rocks = RocksStore::open(dir.path()).unwrap();
            prop_assert_eq!(everything(&rocks), everything(&mem));
        }
    }
}

#[test]
fn a_directory_in_use_is_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let first = RocksStore::open(dir.path()).unwrap();
    let second = RocksStore::open(dir.path());
    let Err(Error::InUse { path }) = second else { panic!("two owners of one directory") };
    assert_eq!(path, dir.path());
    drop(first);
    RocksStore::open(dir.path()).unwrap();
}

#[test]
fn a_path_that_is_no_directory_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    std::fs::write(&file, "not a store").unwrap();
    assert!(matches!(RocksStore::open(&file.join("db")), Err(Error::Io { .. })));
    assert!(matches!(RocksStore::open_read_only(&dir.path().join("none")), Err(Error::Io { .. })));
}
