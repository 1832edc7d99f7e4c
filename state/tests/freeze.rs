//! A commit that fails while the thread of the base waits for the log: nothing is written behind
//! it, and the directory opens again.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use highwater_state::base::FileBase;
use highwater_state::fault::{Fault, SimDisk, Survival};
use highwater_state::files::{AppendFile, Files};
use highwater_state::{Commit, DurableStore, Error, Store};

/// A disk on which one append or sync of the log says that it has begun, and waits.
#[derive(Clone)]
struct Held {
    disk: SimDisk,
    gate: Arc<Mutex<Option<Gate>>>,
}

struct Gate {
    /// Which operation: an append or a sync.
    sync: bool,
    begun: Sender<()>,
    go: Receiver<()>,
}

impl Held {
    fn pass(&self, sync: bool) {
        let gate = self.gate.lock().unwrap().take_if(|gate| gate.sync == sync);
        if let Some(gate) = gate {
            gate.begun.send(()).unwrap();
            gate.go.recv().unwrap();
        }
    }

    fn arm(&self, sync: bool) -> (Receiver<()>, Sender<()>) {
        let ((begun, heard), (told, go)) = (channel(), channel());
        *self.gate.lock().unwrap() = Some(Gate { sync, begun, go });
        (heard, told)
    }

    fn open(&self) -> Result<DurableStore, Error> {
        let files = Arc::new(self.clone());
        let base = FileBase::open(files.clone(), Path::new("state/base"))?;
        DurableStore::open(files, Path::new("state"), Box::new(base), 1 << 20)
    }
}

struct HeldFile {
    inner: Box<dyn AppendFile>,
    held: Held,
}

impl AppendFile for HeldFile {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.held.pass(false);
        self.inner.append(bytes)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.held.pass(true);
        self.inner.sync()
    }
}

impl Files for Held {
    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        self.disk.create_dir(dir)
    }

    fn list(&self, dir: &Path) -> io::Result<BTreeMap<String, u64>> {
        self.disk.list(dir)
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        self.disk.read(path)
    }

    fn open(&self, path: &Path, cut_to: Option<u64>) -> io::Result<Box<dyn AppendFile>> {
        let inner = self.disk.open(path, cut_to)?;
        Ok(Box::new(HeldFile { inner, held: self.clone() }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.disk.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.disk.remove(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.disk.sync_dir(dir)
    }

    fn list_dirs(&self, dir: &Path) -> io::Result<Vec<String>> {
        self.disk.list_dirs(dir)
    }

    fn remove_dir(&self, dir: &Path) -> io::Result<()> {
        self.disk.remove_dir(dir)
    }
}

fn commit(number: u64) -> Commit {
    Commit { record: number.to_le_bytes().to_vec(), changes: Vec::new() }
}

fn number(store: &DurableStore) -> u64 {
    u64::from_le_bytes(store.record().unwrap().unwrap().try_into().unwrap())
}

/// One thread commits and is held in an append or a sync that will fail; another begins to move
/// commits into the base meanwhile.
fn failed_commit_beside_a_fill(sync: bool, fault: Fault) {
    let held = Held { disk: SimDisk::new(), gate: Arc::default() };
    let store = Arc::new(held.open().unwrap());
    (1..=3).for_each(|number| store.commit(commit(number)).unwrap());
    let (begun, go) = held.arm(sync);
    let committing = store.clone();
    let commits = thread::spawn(move || committing.commit(commit(4)));
    begun.recv().unwrap();
    let filling = store.clone();
    let fills = thread::spawn(move || filling.maintain(true));
    // The other thread has passed its first check by then, and waits for the log. If it has not,
    // this shows nothing, but does not fail either.
    thread::sleep(Duration::from_millis(200));
    let done = held.disk.operations().len();
    held.disk.fault_at(done, fault);
    go.send(()).unwrap();
    let error = commits.join().unwrap().unwrap_err();
    assert!(matches!(error, Error::Doubtful { commit: 4, .. }), "{error}");
    assert!(error.to_string().contains("whether commit 4 took place is unknown"), "{error}");
    assert!(matches!(fills.join().unwrap(), Err(Error::Failed(_))));
    assert!(matches!(store.commit(commit(5)), Err(Error::Failed(_))));
    let after = held.disk.operations();
    assert_eq!(after.len(), done + 1, "written after the failure: {:?}", &after[done + 1..]);
    drop(store);
    for survival in [Survival::Everything, Survival::Synced, Survival::Some(7)] {
        let left = Held { disk: held.disk.copy(), gate: Arc::default() };
        left.disk.restart(survival);
        let store = left.open().unwrap();
        assert!([3, 4].contains(&number(&store)), "{survival:?}");
        store.commit(commit(9)).unwrap();
        while store.maintain(true).unwrap() {}
        drop(store);
        left.disk.restart(Survival::Synced);
        assert_eq!(number(&left.open().unwrap()), 9);
    }
}

#[test]
fn a_torn_commit_beside_a_fill() {
    failed_commit_beside_a_fill(false, Fault::Full);
}

#[test]
fn a_commit_that_is_not_synced_beside_a_fill() {
    failed_commit_beside_a_fill(true, Fault::Fail);
}

#[test]
fn a_commit_that_happened_though_it_failed_beside_a_fill() {
    failed_commit_beside_a_fill(true, Fault::FailAfter);
}

/// The log of a young store is missing: that is no new store.
#[test]
fn a_missing_log_is_refused_before_anything_has_moved() {
    let held = Held { disk: SimDisk::new(), gate: Arc::default() };
    let store = held.open().unwrap();
    store.commit(commit(1)).unwrap();
    drop(store);
    held.disk.restart(Survival::Synced);
    let without = Held { disk: held.disk.copy(), gate: Arc::default() };
    without.disk.remove_dir(Path::new("state/log")).unwrap();
    let error = without.open().err().unwrap().to_string();
    assert!(error.contains("the log is missing in state/log"), "{error}");
    // Without base and log it is a new one, whatever stands beside them.
    without.disk.remove_dir(Path::new("state/base")).unwrap();
    assert_eq!(without.open().unwrap().record().unwrap(), None);
    assert_eq!(number(&held.open().unwrap()), 1);
}
