//! A state directory from outside: what it holds, whether it is whole, snapshots of it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use highwater_state::files::{Disk, Files, write_whole};
use highwater_state::snapshot::{self, Manifest};
use highwater_state::{Changes, Commit, DurableStore, KEY_GROUPS, Store};

use super::TickRecord;
use crate::error::Error;
use crate::flow::{Plan, StateCheck};

/// RocksDB's memory while a tool works on a directory.
const MEMORY: u64 = 64 << 20;

/// One stored entry, as bytes: a state directory does not know the types of a program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredEntry {
    /// The key group; 1,024 for what belongs to no key.
    pub group: u16,
    /// The stored key: see `docs/FORMAT.md` for each kind of operator.
    pub key: Vec<u8>,
    /// The stored value.
    pub value: Vec<u8>,
}

/// How two states differ in one operator.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Difference {
    /// The operator's id.
    pub operator: String,
    /// Keys that only the first has.
    pub removed: Vec<(u16, Vec<u8>)>,
    /// Keys that only the second has.
    pub added: Vec<(u16, Vec<u8>)>,
    /// Keys whose values differ.
    pub changed: Vec<(u16, Vec<u8>)>,
}

impl Difference {
    /// Whether nothing differs.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.removed.is_empty() && self.added.is_empty() && self.changed.is_empty()
    }
}

/// A state directory or a snapshot, as of its last commit. It can be read while a flow runs.
pub struct StateDir {
    path: PathBuf,
    store: DurableStore,
    record: TickRecord,
}

impl StateDir {
    /// Opens a state directory or a snapshot to be read.
    ///
    /// # Errors
    /// Where there is no readable state.
    pub fn open(path: impl Into<PathBuf>) -> Result<Self, Error> {
        let path = path.into();
        let store = DurableStore::open_dir_read_only(&path)?;
        let record = read_record(&store, &path)?;
        Ok(StateDir { path, store, record })
    }

    pub(super) fn record(&self) -> &TickRecord {
        &self.record
    }

    /// The operators that may hold state, with their kinds.
    pub fn operators(&self) -> impl Iterator<Item = (&str, &str)> {
        self.record.signatures.iter().map(|s| (s.id.as_str(), s.kind.as_str()))
    }

    /// Visits the entries of an operator, by group and key.
    ///
    /// # Errors
    /// Where the state is damaged.
    pub fn entries(&self, operator: &str, mut visit: impl FnMut(StoredEntry)) -> Result<(), Error> {
        let all = 0..KEY_GROUPS + 1;
        self.store.scan(operator, all, &[], &mut |group, key, value| {
            visit(StoredEntry { group, key: key.to_vec(), value: value.to_vec() });
            Ok(())
        })?;
        Ok(())
    }

    /// Reads everything, so that every checksum is verified; returns how many entries each
    /// operator has.
    ///
    /// # Errors
    /// What is damaged, by name.
    pub fn verify(&self) -> Result<BTreeMap<String, u64>, Error> {
        let disk = Disk;
        let names = disk.list(&self.path).map_err(|e| Error::io("cannot read the directory", e))?;
        if names.contains_key("MANIFEST") {
            snapshot::verify(&disk, &self.path)?;
        }
        let mut counts = BTreeMap::new();
        for (operator, _) in self.operators() {
            let count: &mut u64 = counts.entry(operator.to_owned()).or_default();
            self.entries(operator, |_| *count += 1).map_err(|e| e.in_operator(operator))?;
        }
        Ok(counts)
    }

    /// How another state differs from this one, by operator.
    ///
    /// # Errors
    /// Where either is damaged.
    pub fn diff(&self, other: &StateDir) -> Result<Vec<Difference>, Error> {
        let mut operators: Vec<&str> = self.operators().map(|(id, _)| id).collect();
        operators.extend(other.operators().map(|(id, _)| id));
        operators.sort_unstable();
        operators.dedup();
        let mut differences = Vec::new();
        for operator in operators {
            let mut before = BTreeMap::new();
            self.entries(operator, |e| drop(before.insert((e.group, e.key), e.value)))?;
            let mut difference =
                Difference { operator: operator.to_owned(), ..Difference::default() };
            other.entries(operator, |e| match before.remove(&(e.group, e.key.clone())) {
                None => difference.added.push((e.group, e.key)),
                Some(value) if value != e.value => difference.changed.push((e.group, e.key)),
                Some(_) => {}
            })?;
            difference.removed = before.into_keys().collect();
            differences.push(difference);
        }
        Ok(differences)
    }
}

pub(super) fn read_record(store: &dyn Store, path: &Path) -> Result<TickRecord, Error> {
    let Some(bytes) = store.record()? else {
        return Err(Error::state(format!("{} holds no commit", path.display())));
    };
    TickRecord::decode(&bytes)
}

/// All that a state directory or snapshot holds, in memory: what goes on from there changes
/// nothing on disk.
#[cfg(feature = "testing")]
pub(crate) fn copy_to_memory(path: &Path) -> Result<highwater_state::MemStore, Error> {
    let dir = StateDir::open(path)?;
    let store = highwater_state::MemStore::new();
    let mut all = Vec::new();
    for (operator, _) in dir.operators() {
        let mut changes = Changes::new(Arc::from(operator));
        dir.store.scan(operator, 0..KEY_GROUPS + 1, &[], &mut |group, key, value| {
            let copy = |from: &[u8], into: &mut Vec<u8>| {
                into.extend_from_slice(from);
                Ok(())
            };
            changes.put(group, |bytes| copy(key, bytes), |bytes| copy(value, bytes))
        })?;
        all.push(changes);
    }
    store.commit(Commit { record: dir.record.encode()?, changes: all })?;
    Ok(store)
}

/// Compares a plan with a state directory or snapshot.
pub(crate) fn check_state(path: &Path, plan: &Plan) -> Result<StateCheck, Error> {
    let dir = StateDir::open(path)?;
    dir.record.check_name(&plan.name)?;
    Ok(StateCheck::new(&dir.record.signatures, &plan.signatures(), &plan.forgotten))
}

/// The deletion of all that a store holds of an operator.
pub(crate) fn delete_all(store: &dyn Store, operator: &str) -> Result<Changes, Error> {
    let mut changes = Changes::new(Arc::from(operator));
    store.scan(operator, 0..KEY_GROUPS + 1, &[], &mut |group, key, _| {
        changes.delete(group, |bytes| {
            bytes.extend_from_slice(key);
            Ok(())
        })
    })?;
    Ok(changes)
}

pub(super) fn open(path: &Path) -> Result<DurableStore, Error> {
    // Not to be made by a mistyped path.
    StateDir::open(path)?;
    Ok(DurableStore::open_dir(path, u64::MAX, MEMORY)?)
}

/// A file of this name in a state directory asks the flow that runs on it for a snapshot, and
/// says how many are to be kept; the flow renames it, and removes it when it is done.
pub(crate) const SNAPSHOT_REQUEST: &str = "snapshot.request";

/// The request while the flow is at it.
pub(crate) const SNAPSHOT_TAKING: &str = "snapshot.taking";

/// How long a running flow has to accept a request, and then to take the snapshot.
const PATIENCE: [Duration; 2] = [Duration::from_secs(30), Duration::from_secs(3600)];

/// Takes a snapshot of a state directory, and keeps the last `keep` (`None`: what the running
/// flow keeps, or three). If a flow runs on the directory it is asked to take it; from inside
/// its program there is [`Handle::snapshot`](crate::Handle::snapshot). Blocks the thread.
///
/// # Errors
/// Where the directory cannot be written, or the running flow does not answer within 30 s, or
/// could not take a snapshot.
pub fn take_snapshot(state: &Path, keep: Option<usize>) -> Result<PathBuf, Error> {
    // Not to be made by a mistyped path.
    StateDir::open(state)?;
    match DurableStore::open_dir(state, u64::MAX, MEMORY) {
        Ok(store) => Ok(snapshot::take(&store, keep.unwrap_or(3))?.0),
        Err(highwater_state::Error::InUse { .. }) => ask_for_snapshot(state, keep),
        Err(error) => Err(error.into()),
    }
}

fn ask_for_snapshot(state: &Path, keep: Option<usize>) -> Result<PathBuf, Error> {
    let newest = || Ok::<_, Error>(snapshot::list(&Disk, state)?.pop());
    let before = newest()?.map_or(0, |(generation, _)| generation);
    let text = keep.map_or(String::new(), |keep| keep.to_string());
    write_whole(&Disk, state, SNAPSHOT_REQUEST, text.as_bytes())
        .map_err(|e| Error::io("cannot ask the running flow for a snapshot", e))?;
    let [request, taking] = [SNAPSHOT_REQUEST, SNAPSHOT_TAKING].map(|name| state.join(name));
    if !is_gone(&request, PATIENCE[0]) {
        // It must not take one when nobody waits for it any more.
        let _ = Disk.remove(&request);
        return Err(Error::state("the running flow does not take requests for a snapshot"));
    }
    if !is_gone(&taking, PATIENCE[1]) {
        return Err(Error::state("the running flow has not finished the snapshot in an hour"));
    }
    match newest()? {
        Some((generation, path)) if generation > before => Ok(path),
        _ => Err(Error::state("the running flow could not take a snapshot: its log says why")),
    }
}

/// Waits until a file is gone.
fn is_gone(path: &Path, patience: Duration) -> bool {
    let step = Duration::from_millis(20);
    let steps = patience.as_millis() / step.as_millis();
    (0..steps).any(|_| {
        let gone = !path.exists();
        if !gone {
            std::thread::sleep(step);
        }
        gone
    })
}

/// The snapshots of a state directory, oldest first.
///
/// # Errors
/// Where the directory cannot be read.
pub fn list_snapshots(state: &Path) -> Result<Vec<PathBuf>, Error> {
    Ok(snapshot::list(&Disk, state)?.into_iter().map(|(_, path)| path).collect())
}

/// Makes a state directory of a snapshot, or of the last whole snapshot of a state directory.
/// What was damaged and passed over is returned, and logged as an error.
///
/// # Errors
/// Where no snapshot is whole, or `state` holds something already.
pub fn restore_snapshot(from: &Path, state: &Path) -> Result<(u64, Vec<Error>), Error> {
    let disk: Arc<dyn Files> = Arc::new(Disk);
    let names = disk.list(from).map_err(|e| Error::io("cannot read the snapshot", e))?;
    let (manifest, damaged): (Manifest, _) = if names.contains_key("MANIFEST") {
        (snapshot::restore(&*disk, from, state)?, Vec::new())
    } else {
        snapshot::restore_latest(&disk, from, state)?
    };
    let record = TickRecord::decode(&manifest.record)?;
    Ok((record.tick.0, damaged.into_iter().map(Error::from).collect()))
}

/// Removes an operator's state from a directory that no flow uses; returns how many entries.
///
/// # Errors
/// Where the directory is in use, or has no such operator.
pub fn remove_operator(state: &Path, operator: &str) -> Result<usize, Error> {
    let store = open(state)?;
    let mut record = read_record(&store, state)?;
    if !record.signatures.iter().any(|s| s.id == operator) {
        let message = format!("{} holds no state of `{operator}`", state.display());
        return Err(Error::state(message));
    }
    record.signatures.retain(|s| s.id != operator);
    record.operators.remove(operator);
    let changes = delete_all(&store, operator)?;
    let count = changes.len();
    store.commit(Commit { record: record.encode()?, changes: vec![changes] })?;
    Ok(count)
}

/// Gives back the disk space of state that is gone, in a directory that no flow uses.
///
/// # Errors
/// Where the directory is in use, or cannot be written.
pub fn compact(state: &Path) -> Result<(), Error> {
    Ok(open(state)?.compact()?)
}
