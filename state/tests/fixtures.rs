//! State that earlier versions wrote, kept as files: each is opened as it is, and says what it
//! said when it was written. `FIXTURES=write cargo test --test fixtures` writes them anew, which
//! is only right when a format changes and the old ones are kept beside the new.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use highwater_state::base::{Base, EachChange, Position, RocksBase, VisitRaw};
use highwater_state::files::Disk;
use highwater_state::{
    Changes, Commit, DurableStore, Error, Found, KEY_GROUPS, KeyGroup, Op, Store, snapshot,
};

const OPERATORS: [&str; 2] = ["count", "late"];
const MEMORY: u64 = 8 << 20;
const LIMIT: u64 = 1 << 20;

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")
}

fn is_writing() -> bool {
    std::env::var("FIXTURES").is_ok_and(|value| value == "write")
}

/// Puts, replaces and deletes, in groups and in that of what belongs to no key.
fn commit(number: u64) -> Commit {
    let bytes = |from: Vec<u8>| {
        move |into: &mut Vec<u8>| {
            into.extend_from_slice(&from);
            Ok(())
        }
    };
    let mut changes = OPERATORS.map(|operator| Changes::new(operator.into()));
    for n in 0..4 {
        let key = (number * 3 + n) % 17;
        let group = if key == 0 { KEY_GROUPS } else { (key * 60) as KeyGroup };
        let name = bytes(format!("key {key}").into_bytes());
        let list = &mut changes[(key % 2) as usize];
        if (number + n) % 5 == 4 {
            list.delete(group, name).unwrap();
        } else {
            let value = format!("{number}:{n}").repeat(1 + (n as usize) * 3);
            list.put(group, name, bytes(value.into_bytes())).unwrap();
        }
    }
    Commit { record: format!("record {number}").into_bytes(), changes: changes.into() }
}

/// As [`commit`], and now and then all of a group goes first, and what is put behind it stays.
fn commit_with_prefixes(number: u64) -> Commit {
    let mut commit = commit(number);
    if number % 4 == 1 {
        for list in &mut commit.changes {
            let puts = std::mem::replace(list, Changes::new(list.operator().clone()));
            for key in [number % 17, (number * 3) % 17] {
                let prefix = |into: &mut Vec<u8>| {
                    into.extend_from_slice(b"key ");
                    Ok(())
                };
                list.delete_prefix((key * 60) as KeyGroup, prefix).unwrap();
            }
            for (group, key, op) in puts.iter() {
                let bytes = |from: &[u8], into: &mut Vec<u8>| {
                    into.extend_from_slice(from);
                    Ok(())
                };
                match op {
                    Op::Put(value) => list.put(group, |b| bytes(key, b), |b| bytes(value, b)),
                    _ => list.delete(group, |b| bytes(key, b)),
                }
                .unwrap();
            }
        }
    }
    commit
}

/// All that a store holds, as text.
fn text(store: &DurableStore) -> String {
    let record = store.record().unwrap().unwrap();
    let mut text =
        format!("commit {}\n{}\n", store.last_commit(), String::from_utf8(record).unwrap());
    for operator in OPERATORS {
        let visit = &mut |group, key: &[u8], value: &[u8]| {
            let (key, value) = (String::from_utf8_lossy(key), String::from_utf8_lossy(value));
            let _ = writeln!(text, "{operator} {group} {key} = {value}");
            Ok(())
        };
        store.scan(operator, 0..KEY_GROUPS + 1, &[], visit).unwrap();
    }
    text
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap();
        let diary = name.to_str().unwrap().starts_with("LOG") || name == "LOCK";
        if path.is_dir() {
            copy(&path, &to.join(name));
        } else if !diary {
            fs::copy(&path, to.join(name)).unwrap();
        }
    }
}

/// Done once, when nothing has moved.
type Meanwhile = Arc<Mutex<Option<Box<dyn FnOnce() + Send>>>>;

/// A base into which nothing moves: what is committed meanwhile lies in a segment of its own.
struct Stuck {
    inner: RocksBase,
    meanwhile: Meanwhile,
}

impl Base for Stuck {
    fn folder(&self) -> &'static str {
        self.inner.folder()
    }

    fn position(&self) -> Result<(Position, Option<Vec<u8>>), Error> {
        self.inner.position()
    }

    fn apply(
        &self,
        position: Position,
        record: &[u8],
        changes: &mut EachChange<'_>,
    ) -> Result<(), Error> {
        if let Some(meanwhile) = self.meanwhile.lock().unwrap().take() {
            meanwhile();
            return Err(Error::Failed("on purpose".into()));
        }
        self.inner.apply(position, record, changes)
    }

    fn sync(&self) -> Result<(), Error> {
        self.inner.sync()
    }

    fn get(&self, keys: &[Vec<u8>], found: &mut Found<'_>) -> Result<(), Error> {
        self.inner.get(keys, found)
    }

    fn scan(&self, from: &[u8], visit: &mut VisitRaw<'_>) -> Result<(), Error> {
        self.inner.scan(from, visit)
    }

    fn checkpoint(&self, dir: &Path) -> Result<(Position, Option<Vec<u8>>), Error> {
        self.inner.checkpoint(dir)
    }

    fn compact(&self) -> Result<(), Error> {
        self.inner.compact()
    }
}

/// A base with ten commits, a segment of the log with four more, and one with the last four; and
/// a snapshot of the first fourteen. (Format 2 was written by the same program with commits that
/// delete nothing by prefix, and a log that cannot say so.)
fn write_format_3() {
    let commit = commit_with_prefixes;
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir_all(dir.path().join("db")).unwrap();
    let inner = RocksBase::open(&dir.path().join("db"), MEMORY).unwrap();
    let meanwhile = Arc::<Mutex<Option<Box<dyn FnOnce() + Send>>>>::default();
    let base = Box::new(Stuck { inner, meanwhile: meanwhile.clone() });
    let store = DurableStore::open(Arc::new(Disk), dir.path(), base, LIMIT).unwrap();
    let store = Arc::new(store);
    (1..=10).for_each(|number| store.commit(commit(number)).unwrap());
    while store.maintain(true).unwrap() {}
    (11..=14).for_each(|number| store.commit(commit(number)).unwrap());
    let (path, _) = snapshot::take(&store, 1).unwrap();
    let to = fixtures();
    let _ = fs::remove_dir_all(to.join("snapshot-2"));
    copy(&path, &to.join("snapshot-2"));
    fs::write(to.join("snapshot-2.txt"), text(&store)).unwrap();
    fs::remove_dir_all(dir.path().join("snapshots")).unwrap();
    let committing = store.clone();
    *meanwhile.lock().unwrap() = Some(Box::new(move || {
        (15..=18).for_each(|number| committing.commit(commit(number)).unwrap());
    }));
    store.maintain(true).unwrap_err();
    let _ = fs::remove_dir_all(to.join("state-3"));
    fs::write(to.join("state-3.txt"), text(&store)).unwrap();
    drop(store);
    copy(dir.path(), &to.join("state-3"));
}

/// As far as it matters: entries, the record under its old key, and no log.
fn write_format_1() {
    let dir = tempfile::tempdir().unwrap();
    let mut options = rocksdb::Options::default();
    options.create_if_missing(true);
    let db = rocksdb::DB::open(&options, dir.path().join("db")).unwrap();
    db.put(b"ecount\0\0\x07key", b"value").unwrap();
    db.put(b"r", b"record 1").unwrap();
    db.flush().unwrap();
    drop(db);
    // Its log of what is flushed already is no part of it.
    for entry in fs::read_dir(dir.path().join("db")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "log") {
            fs::write(path, b"").unwrap();
        }
    }
    let to = fixtures().join("state-1");
    let _ = fs::remove_dir_all(&to);
    copy(dir.path(), &to);
}

/// A copy of a fixture, which may be written to.
fn fixture(name: &str) -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(name);
    copy(&fixtures().join(name), &path);
    (dir, path)
}

fn expected(name: &str) -> String {
    fs::read_to_string(fixtures().join(name).with_extension("txt")).unwrap()
}

#[test]
fn fixtures_of_every_format_say_what_they_said() {
    if is_writing() {
        fs::create_dir_all(fixtures()).unwrap();
        write_format_3();
        write_format_1();
    }
    a_state_directory_goes_on("state-2", b"HWLOG001");
    a_state_directory_goes_on("state-3", b"HWLOG002");
    a_snapshot_is_restored("snapshot-1");
    a_snapshot_is_restored("snapshot-2");
    a_state_directory_of_format_1_is_refused_by_name();
}

fn goes_on(path: &Path, last: u64, before: &str) {
    let store = DurableStore::open_dir(path, LIMIT, MEMORY).unwrap();
    assert_eq!(text(&store), before);
    store.commit(commit(last + 1)).unwrap();
    while store.maintain(true).unwrap() {}
    let after = text(&store);
    assert_ne!(after, before);
    drop(store);
    assert_eq!(text(&DurableStore::open_dir(path, LIMIT, MEMORY).unwrap()), after);
}

fn a_state_directory_goes_on(name: &str, magic: &[u8]) {
    let (_dir, path) = fixture(name);
    let segments = fs::read_dir(path.join("log")).unwrap().map(|entry| entry.unwrap().path());
    let heads: Vec<_> = segments.map(|path| fs::read(path).unwrap()[..8].to_vec()).collect();
    assert_eq!(heads, [magic, magic]);
    let before = expected(name);
    assert_eq!(text(&DurableStore::open_dir_read_only(&path).unwrap()), before);
    goes_on(&path, 18, &before);
}

fn a_snapshot_is_restored(name: &str) {
    let (dir, path) = fixture(name);
    let before = expected(name);
    let manifest = snapshot::verify(&Disk, &path).unwrap();
    assert_eq!((manifest.generation, manifest.commit), (1, 14));
    assert_eq!(text(&DurableStore::open_dir_read_only(&path).unwrap()), before);
    let restored = dir.path().join("restored");
    snapshot::restore(&Disk, &path, &restored).unwrap();
    goes_on(&restored, 14, &before);
}

fn a_state_directory_of_format_1_is_refused_by_name() {
    let (_dir, path) = fixture("state-1");
    for opened in
        [DurableStore::open_dir_read_only(&path), DurableStore::open_dir(&path, LIMIT, MEMORY)]
    {
        let error = opened.err().unwrap().to_string();
        assert!(error.contains("written in format 1") && error.contains("state-1"), "{error}");
    }
}
