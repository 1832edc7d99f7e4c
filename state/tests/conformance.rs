//! Every store does what the reference does: the same commits, the same scans, also after it has
//! been closed and opened again.

use std::path::Path;
use std::sync::Arc;

use highwater_state::base::FileBase;
use highwater_state::fault::{SimDisk, Survival};
use highwater_state::{Changes, Commit, DurableStore, Error, KEY_GROUPS, MemStore, Store};
use proptest::prelude::*;

/// Operator, group, key, and what becomes of it.
type Change = (u8, u16, Vec<u8>, What);

#[derive(Clone, Debug)]
enum What {
    Put(Vec<u8>),
    Delete,
    DeletePrefix,
}

fn what() -> impl Strategy<Value = What> {
    prop_oneof![
        5 => any::<Vec<u8>>().prop_map(What::Put),
        3 => Just(What::Delete),
        2 => Just(What::DeletePrefix),
    ]
}

fn commits() -> impl Strategy<Value = Vec<Vec<Change>>> {
    let byte = prop_oneof![0u8..3, Just(u8::MAX)];
    let change = (0u8..3, 0u16..6, prop::collection::vec(byte, 0..3), what());
    prop::collection::vec(prop::collection::vec(change, 0..20), 1..8)
}

/// Ids of which one is the beginning of another.
const OPERATORS: [&str; 3] = ["count", "counts", "count.late"];

fn build(number: usize, changes: &[Change]) -> Commit {
    let changes = OPERATORS.iter().enumerate().map(|(index, operator)| {
        let mut list = Changes::new(Arc::from(*operator));
        for (_, group, key, what) in changes.iter().filter(|c| usize::from(c.0) == index) {
            // The last group too, not only the first few.
            let group = if *group == 5 { KEY_GROUPS - 1 } else { *group };
            let write_key = |bytes: &mut Vec<u8>| {
                bytes.extend_from_slice(key);
                Ok(())
            };
            match what {
                What::Put(value) => list.put(group, write_key, |bytes| {
                    bytes.extend_from_slice(value);
                    Ok(())
                }),
                What::Delete => list.delete(group, write_key),
                What::DeletePrefix => list.delete_prefix(group, write_key),
            }
            .unwrap();
        }
        list
    });
    Commit { record: number.to_string().into_bytes(), changes: changes.collect() }
}

type Entry = (u16, Vec<u8>, Vec<u8>);
type Everything = (Option<Vec<u8>>, Vec<Vec<Entry>>, Vec<Option<Vec<u8>>>);

fn everything(store: &dyn Store) -> Everything {
    let prefixes: [&[u8]; 3] = [&[], &[1], &[2, 0]];
    let scans = OPERATORS.iter().flat_map(|operator| {
        [0..KEY_GROUPS, 1..3, KEY_GROUPS - 1..KEY_GROUPS].into_iter().flat_map(move |groups| {
            prefixes.map(|prefix| {
                let mut entries = Vec::new();
                store
                    .scan(operator, groups.clone(), prefix, &mut |group, key, value| {
                        entries.push((group, key.to_vec(), value.to_vec()));
                        Ok(())
                    })
                    .unwrap();
                entries
            })
        })
    });
    let keys: [&[u8]; 4] = [&[], &[0], &[1, 2], &[2, 2]];
    let asked: Vec<_> = (0..5).flat_map(|group| keys.map(|key| (group, key))).collect();
    let mut found = vec![None; asked.len()];
    store
        .get("counts", &asked, &mut |index, value| {
            found[index] = Some(value.to_vec());
            Ok(())
        })
        .unwrap();
    (store.record().unwrap(), scans.collect(), found)
}

/// Small enough that commits move into the base all the time.
const LIMIT: u64 = 400;

fn on_sim(disk: &SimDisk) -> DurableStore {
    let files = Arc::new(disk.clone());
    let base = FileBase::open(files.clone(), Path::new("state/base")).unwrap();
    DurableStore::open(files, Path::new("state"), Box::new(base), LIMIT).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Opened again after every commit, with what a power loss leaves.
    #[test]
    fn differential_log_and_file_against_memory(
        commits in commits(),
        restarts: [bool; 8],
        fills: [u8; 8],
    ) {
        let disk = SimDisk::new();
        let (mut store, mem) = (on_sim(&disk), MemStore::new());
        for (number, changes) in commits.iter().enumerate() {
            store.commit(build(number, changes)).unwrap();
            mem.commit(build(number, changes)).unwrap();
            prop_assert_eq!(everything(&store), everything(&mem));
            for _ in 0..fills[number] % 3 {
                store.maintain(fills[number] > 128).unwrap();
                prop_assert_eq!(everything(&store), everything(&mem));
            }
            if restarts[number] {
                drop(store);
                disk.restart(Survival::Synced);
                store = on_sim(&disk);
                prop_assert_eq!(everything(&store), everything(&mem));
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    #[test]
    fn differential_log_and_rocksdb_against_memory(commits in commits(), fills: [u8; 8]) {
        let dir = tempfile::tempdir().unwrap();
        let open = || DurableStore::open_dir(dir.path(), LIMIT, 8 << 20).unwrap();
        let (mut store, mem) = (open(), MemStore::new());
        prop_assert_eq!(everything(&store), everything(&mem));
        for (number, changes) in commits.iter().enumerate() {
            store.commit(build(number, changes)).unwrap();
            mem.commit(build(number, changes)).unwrap();
            prop_assert_eq!(everything(&store), everything(&mem));
            if fills[number] > 80 {
                store.maintain(fills[number] > 128).unwrap();
                prop_assert_eq!(everything(&store), everything(&mem));
            }
            let reader = DurableStore::open_dir_read_only(dir.path()).unwrap();
            prop_assert_eq!(everything(&reader), everything(&mem));
            drop(store);
            store = open();
            prop_assert_eq!(everything(&store), everything(&mem));
        }
    }
}

#[test]
fn a_directory_in_use_is_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let open = || DurableStore::open_dir(dir.path(), LIMIT, 8 << 20);
    let first = open().unwrap();
    let Err(Error::InUse { path }) = open() else { panic!("two owners of one directory") };
    assert_eq!(path, dir.path().join("db"));
    drop(first);
    open().unwrap();
}

#[test]
fn a_path_that_is_no_directory_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    std::fs::write(&file, "not a store").unwrap();
    let opened = DurableStore::open_dir(&file, LIMIT, 8 << 20);
    assert!(matches!(opened, Err(Error::Io { .. })));
    let opened = DurableStore::open_dir_read_only(&dir.path().join("none"));
    assert!(matches!(opened, Err(Error::Io { .. })));
}

/// Whatever RocksDB cannot do, in a directory whose name says lock or not: only a lock that
/// somebody holds is one.
#[test]
fn a_lock_that_cannot_be_made_is_not_one_that_is_held() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("deadlock/block1");
    std::fs::create_dir_all(state.join("db/LOCK")).unwrap();
    let opened = DurableStore::open_dir(&state, LIMIT, 8 << 20);
    let Err(Error::Io { message, .. }) = opened else { panic!("{:?}", opened.err()) };
    assert!(message.contains("lock"), "{message}");
}
