//! The program whose files are recorded, and what its store holds after each commit.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use highwater_state::{
    Changes, Commit, DurableStore, KEY_GROUPS, KeyGroup, Store, decode_sealed, encode_sealed,
};
use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::disk::Grants;

/// The store on trial; what is recorded and what is left after a cut are opened by this alone.
pub fn open(path: &Path) -> Result<impl Store + use<>, highwater_state::Error> {
    DurableStore::open_dir(path, LOG_TAIL_LIMIT, MEMORY)
}

/// Small, so that commits move into RocksDB, and RocksDB flushes, many times.
const LOG_TAIL_LIMIT: u64 = 60_000;
const MEMORY: u64 = 4 << 20;

/// What the store relies on beyond POSIX; each was needed, and found by its absence.
pub const GRANTS: Grants = Grants {
    // Our directories are synced with the ones above them.
    directory_brings_its_name: false,
    // RocksDB takes a manifest that is cut short anywhere, and refuses one in whose last record
    // zeros stand for bytes that were never synced ("checksum mismatch"). ext4 with ordered data,
    // xfs and btrfs grow a file only once its bytes are written.
    length_follows_bytes: &["MANIFEST-"],
};

/// Kinds of files whose syncs nothing depends on: it is no failure that their loss is not found.
pub const NEEDLESS_SYNCS: [&str; 1] = ["OPTIONS-.dbtmp"];

const OPERATORS: [&str; 3] = ["count", "counts", "join.left"];
const GROUPS: [KeyGroup; 4] = [0, 7, 512, KEY_GROUPS - 1];
/// How many commits are made between a close and the next.
const REOPEN: u64 = 37;

/// Entries by operator, group and key.
pub type Contents = BTreeMap<(usize, KeyGroup, Vec<u8>), Arc<[u8]>>;

type Change = (usize, KeyGroup, Vec<u8>, Option<Arc<[u8]>>);

/// What commit `n` changes, by `n` alone: mostly puts, over each other, and some deletes. Some
/// commits change nothing, some span blocks of any log.
fn changes(n: u64) -> Vec<Change> {
    let random = |what: u64| xxh3_64_with_seed(&n.to_le_bytes(), what) as usize;
    let count = if n.is_multiple_of(23) { 0 } else { 1 + random(0) % 12 };
    let change = |i: usize| {
        let i = i as u64 * 8;
        let key = format!("key {}", random(i + 1) % 12).into_bytes();
        let len = if i == 0 && n.is_multiple_of(31) { 90_000 } else { random(i + 2) % 700 };
        let mut value = format!("{n} by {i} ").into_bytes();
        while value.len() < len {
            value.extend_from_slice(&xxh3_64_with_seed(&value, i).to_le_bytes());
        }
        let value = (random(i + 3) % 5 > 0).then(|| Arc::from(value));
        (random(i + 4) % OPERATORS.len(), GROUPS[random(i + 5) % GROUPS.len()], key, value)
    };
    (0..count).map(change).collect()
}

fn commit(n: u64) -> Commit {
    let mut lists = OPERATORS.map(|operator| Changes::new(Arc::from(operator)));
    for (operator, group, key, value) in changes(n) {
        let write = |from: &[u8], to: &mut Vec<u8>| {
            to.extend_from_slice(from);
            Ok(())
        };
        let list = &mut lists[operator];
        match value {
            Some(value) => list.put(group, |to| write(&key, to), |to| write(&value, to)),
            None => list.delete(group, |to| write(&key, to)),
        }
        .unwrap();
    }
    Commit { record: encode_sealed(&n).unwrap(), changes: lists.into() }
}

/// The contents after each commit, from none to `last`, by a map and nothing else.
pub fn contents_until(last: u64) -> Vec<Contents> {
    let mut all = vec![Contents::new()];
    for n in 1..=last {
        let mut contents = all[all.len() - 1].clone();
        for (operator, group, key, value) in changes(n) {
            match value {
                Some(value) => contents.insert((operator, group, key), value),
                None => contents.remove(&(operator, group, key)),
            };
        }
        all.push(contents);
    }
    all
}

fn last_commit(store: &impl Store) -> Result<u64, String> {
    let record = store.record().map_err(|e| format!("the record cannot be read: {e}"))?;
    record.map_or(Ok(0), |bytes| decode_sealed(&bytes).map_err(|e| format!("the record: {e}")))
}

/// What is recorded: commits up to `until`, from where the store stands, with some closes and
/// opens between them.
pub fn run(root: &Path, until: u64) {
    let mut marks = root.as_os_str().to_owned();
    marks.push(".marks");
    let mut marks = OpenOptions::new().append(true).create(true).open(marks).unwrap();
    let tell = |marks: &mut File, what: &str, n: u64| {
        marks.write_all(format!("{what} {n}\n").as_bytes()).unwrap();
    };
    let mut store = open(&root.join("state")).unwrap();
    let mut n = last_commit(&store).unwrap();
    tell(&mut marks, "known", n);
    while n < until {
        n += 1;
        tell(&mut marks, "begun", n);
        store.commit(commit(n)).unwrap();
        if n.is_multiple_of(5) {
            while store.maintain(n.is_multiple_of(20)).unwrap() {}
        }
        tell(&mut marks, "known", n);
        if n.is_multiple_of(REOPEN) {
            drop(store);
            store = open(&root.join("state")).unwrap();
            assert_eq!(last_commit(&store).unwrap(), n);
        }
    }
}

fn check_contents(store: &impl Store, expected: &Contents) -> Result<(), String> {
    let mut found = Contents::new();
    for (index, operator) in OPERATORS.iter().enumerate() {
        let mut last = None;
        let scanned = store.scan(operator, 0..KEY_GROUPS, &[], &mut |group, key, value| {
            let place = Some((group, key.to_vec()));
            assert!(last < place, "{operator}: {place:?} comes after {last:?}");
            last = place;
            found.insert((index, group, key.to_vec()), Arc::from(value));
            Ok(())
        });
        scanned.map_err(|e| format!("{operator} cannot be read: {e}"))?;
    }
    let wrong = expected.iter().filter(|(place, value)| found.get(*place) != Some(value)).count();
    let extra = found.keys().filter(|place| !expected.contains_key(*place)).count();
    if wrong + extra > 0 {
        return Err(format!("{wrong} entries are missing or wrong, {extra} are too many"));
    }
    Ok(())
}

/// Opens the store that a cut left: it must hold exactly one of the commits from `known` to
/// `begun`, take two more, and hold them when it is opened again.
pub fn check(root: &Path, (known, begun): (u64, u64), after: &[Contents]) -> Result<(), String> {
    let path = root.join("state");
    let store = open(&path).map_err(|e| format!("it does not open: {e}"))?;
    let n = last_commit(&store)?;
    if n < known || n > begun {
        return Err(format!("commit {n} is there, not one from {known} to {begun}"));
    }
    check_contents(&store, &after[n as usize]).map_err(|e| format!("after commit {n}: {e}"))?;
    for n in n + 1..=n + 2 {
        store.commit(commit(n)).map_err(|e| format!("commit {n} cannot be made: {e}"))?;
    }
    drop(store);
    let store = open(&path).map_err(|e| format!("it does not open once more: {e}"))?;
    let last = last_commit(&store)?;
    if last != n + 2 {
        return Err(format!("commit {last} is there after commit {}", n + 2));
    }
    check_contents(&store, &after[last as usize]).map_err(|e| format!("after two more: {e}"))
}
