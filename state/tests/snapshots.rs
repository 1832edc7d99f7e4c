//! Snapshots hold one commit exactly, say what they hold, and are refused when damaged.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use highwater_state::base::FileBase;
use highwater_state::fault::{Fault, SimDisk, Survival};
use highwater_state::files::Files;
use highwater_state::{Changes, Commit, DurableStore, Error, KEY_GROUPS, Store, snapshot};

const STATE: &str = "state";

fn open(disk: &SimDisk, dir: &str) -> Result<DurableStore, Error> {
    let files = Arc::new(disk.clone());
    let base = FileBase::open(files.clone(), &Path::new(dir).join("base"))?;
    DurableStore::open(files, Path::new(dir), Box::new(base), 2_000)
}

fn commit(store: &DurableStore, number: u64) -> Result<(), Error> {
    let mut changes = Changes::new("op".into());
    for key in number * 3..number * 3 + 6 {
        let (key, value) = ((key % 40).to_le_bytes(), number.to_le_bytes());
        let put = |bytes: &mut Vec<u8>, from: &[u8]| {
            bytes.extend_from_slice(from);
            Ok(())
        };
        changes.put((key[0] % 7).into(), |b| put(b, &key), |b| put(b, &value))?;
    }
    store.commit(Commit { record: number.to_le_bytes().to_vec(), changes: vec![changes] })
}

type Content = (u64, BTreeMap<Vec<u8>, Vec<u8>>);

fn content(store: &DurableStore) -> Content {
    let mut entries = BTreeMap::new();
    let visit = &mut |_, key: &[u8], value: &[u8]| {
        entries.insert(key.to_vec(), value.to_vec());
        Ok(())
    };
    store.scan("op", 0..KEY_GROUPS, &[], visit).unwrap();
    let record = store.record().unwrap().map_or(0, |r| u64::from_le_bytes(r.try_into().unwrap()));
    (record, entries)
}

/// Commits and snapshots, with what each snapshot should hold.
fn run(disk: &SimDisk) -> Result<Vec<Content>, Error> {
    let store = open(disk, STATE)?;
    let mut taken = Vec::new();
    for number in 1..=30 {
        commit(&store, number)?;
        if number % 4 == 0 {
            store.maintain(number % 8 == 0)?;
        }
        if number % 7 == 0 {
            snapshot::take(&store, 3)?;
            taken.push(content(&store));
        }
    }
    Ok(taken)
}

/// What a snapshot holds, once it is restored.
fn restored(disk: &SimDisk, path: &Path) -> Result<Content, Error> {
    let disk = disk.copy();
    let manifest = snapshot::restore(&disk, path, Path::new("restored"))?;
    let store = open(&disk, "restored")?;
    let content = content(&store);
    assert_eq!(manifest.record, content.0.to_le_bytes(), "{}", path.display());
    assert_eq!(manifest.commit, content.0);
    // It goes on from there.
    commit(&store, content.0 + 1).unwrap();
    Ok(content)
}

#[test]
fn each_snapshot_holds_its_commit_and_the_last_three_are_kept() {
    let disk = SimDisk::new();
    let taken = run(&disk).unwrap();
    let listed = snapshot::list(&disk, Path::new(STATE)).unwrap();
    assert_eq!(listed.iter().map(|(generation, _)| *generation).collect::<Vec<_>>(), [2, 3, 4]);
    for ((_, path), expected) in listed.iter().zip(&taken[1..]) {
        assert_eq!(restored(&disk, path).unwrap(), *expected);
    }
}

#[test]
fn a_damaged_snapshot_is_refused_and_the_one_before_taken() {
    let disk = SimDisk::new();
    let taken = run(&disk).unwrap();
    let listed = snapshot::list(&disk, Path::new(STATE)).unwrap();
    let (_, last) = listed.last().unwrap();
    let files: Vec<_> = disk.contents().into_keys().filter(|p| p.starts_with(last)).collect();
    assert!(files.len() >= 3);
    for path in &files {
        for at in 0..disk.contents()[path].len() {
            let damaged = disk.copy();
            damaged.damage(path, |bytes| bytes[at] ^= 1 << (at % 8));
            let error = snapshot::verify(&damaged, last).unwrap_err().to_string();
            assert!(error.contains("damaged") || error.contains("manifest"), "{error}");
            if at % 40 == 0 {
                let files: Arc<dyn Files> = Arc::new(damaged.clone());
                let into = Path::new("restored");
                let (_, passed_over) =
                    snapshot::restore_latest(&files, Path::new(STATE), into).unwrap();
                assert_eq!(passed_over.len(), 1);
                assert_eq!(content(&open(&damaged, "restored").unwrap()), taken[2]);
            }
        }
        let damaged = disk.copy();
        damaged.remove(path).unwrap();
        assert!(snapshot::verify(&damaged, last).is_err());
    }
    let foreign = disk.copy();
    foreign.open(&last.join("base/other"), None).unwrap().append(b"x").unwrap();
    assert!(snapshot::verify(&foreign, last).unwrap_err().to_string().contains("not part of it"));
}

#[test]
fn a_crash_at_any_operation_leaves_only_whole_snapshots() {
    let disk = SimDisk::new();
    run(&disk).unwrap();
    let operations = disk.operations().len();
    for at in (0..operations).step_by(3) {
        let fault = [Fault::CrashBefore, Fault::CrashTorn, Fault::CrashAfter][at % 3];
        let disk = SimDisk::new();
        disk.fault_at(at, fault);
        let _ = run(&disk);
        for survival in [Survival::Synced, Survival::Some(3)] {
            let disk = disk.copy();
            disk.restart(survival);
            for (_, path) in snapshot::list(&disk, Path::new(STATE)).unwrap() {
                let (record, entries) = restored(&disk, &path).unwrap();
                assert!(record % 7 == 0 && !entries.is_empty());
            }
            let store = open(&disk, STATE).unwrap();
            snapshot::take(&store, 2).unwrap();
            assert!(snapshot::list(&disk, Path::new(STATE)).unwrap().len() <= 2);
        }
    }
}

/// A snapshot of a store of which nothing has moved into the base, or some.
fn small_snapshot(moves: bool) -> (SimDisk, std::path::PathBuf, Content) {
    let disk = SimDisk::new();
    let store = open(&disk, STATE).unwrap();
    for number in 1..=6 {
        commit(&store, number).unwrap();
        if moves && number == 3 {
            store.maintain(true).unwrap();
        }
    }
    let (path, _) = snapshot::take(&store, 1).unwrap();
    let content = content(&store);
    drop(store);
    disk.restart(Survival::Synced);
    (disk, path, content)
}

#[test]
fn a_restore_that_is_killed_is_refused_or_whole_and_can_be_done_again() {
    let into = Path::new("restored");
    let (mut refused, mut whole) = (0, 0);
    for moves in [false, true] {
        let (disk, path, expected) = small_snapshot(moves);
        let probe = disk.copy();
        snapshot::restore(&probe, &path, into).unwrap();
        let faults = [Fault::CrashBefore, Fault::CrashTorn, Fault::CrashAfter];
        for (at, fault) in (0..probe.operations().len()).flat_map(|at| faults.map(|f| (at, f))) {
            for survival in [Survival::Synced, Survival::Everything, Survival::Some(at as u64)] {
                let left = disk.copy();
                left.fault_at(at, fault);
                snapshot::restore(&left, &path, into).unwrap_err();
                left.restart(survival);
                let files = left.contents();
                let begun = |folder| files.keys().any(|path| path.starts_with(into.join(folder)));
                let again = left.copy();
                match open(&left, "restored") {
                    Ok(store) if begun("base") || begun("log") => {
                        assert_eq!(content(&store), expected, "{at} {fault:?} {survival:?}");
                        whole += 1;
                    }
                    other => {
                        refused += usize::from(other.is_err());
                        snapshot::restore(&again, &path, into).unwrap();
                        assert_eq!(content(&open(&again, "restored").unwrap()), expected);
                    }
                }
            }
        }
    }
    assert!(refused > 50 && whole > 5, "{refused} refused, {whole} whole");
}

#[test]
fn nothing_writes_into_a_snapshot() {
    let (disk, path, expected) = small_snapshot(true);
    let error = open(&disk, path.to_str().unwrap()).err().unwrap().to_string();
    assert!(error.contains("it is a snapshot") && error.contains("00000001"), "{error}");
    snapshot::verify(&disk, &path).unwrap();
    let base = FileBase::open(Arc::new(disk.clone()), &path.join("base")).unwrap();
    let reader = DurableStore::open_read_only(Arc::new(disk.clone()), &path, Box::new(base));
    assert_eq!(content(&reader.unwrap()), expected);
}

#[test]
fn a_copy_of_a_real_snapshot_is_a_state_directory() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("state");
    let store = DurableStore::open_dir(&state, 4_000, 8 << 20).unwrap();
    for number in 1..=50 {
        commit(&store, number).unwrap();
        if number % 20 == 0 {
            store.maintain(true).unwrap();
        }
    }
    let expected = content(&store);
    let (path, manifest) = snapshot::take(&store, 2).unwrap();
    assert_eq!(manifest.commit, 50);
    commit(&store, 51).unwrap();
    // As one tree, elsewhere.
    let moved = dir.path().join("moved");
    std::fs::rename(&path, &moved).unwrap();
    assert_eq!(content(&DurableStore::open_dir_read_only(&moved).unwrap()), expected);
    let disk = highwater_state::files::Disk;
    let again = dir.path().join("again");
    snapshot::restore(&disk, &moved, &again).unwrap();
    assert!(snapshot::restore(&disk, &moved, &again).is_err(), "it is not empty any more");
    assert_eq!(content(&DurableStore::open_dir(&again, 4_000, 8 << 20).unwrap()), expected);
}
