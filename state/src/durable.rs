//! The durable store: a log of commits, and a base behind it that is filled in the background.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

#[cfg(feature = "rocksdb")]
use crate::base::RocksBase;
use crate::base::{Base, Position, full_key, operator_prefix};
use crate::changes::Entry;
#[cfg(feature = "rocksdb")]
use crate::files::Disk;
use crate::files::Files;
use crate::log::{Log, Recovered, recover};
use crate::memtable::Memtable;
use crate::planted::planted;
use crate::store::{Found, Tail, Visit};
use crate::{Commit, Error, KeyGroup, Store};

/// The part of `log_tail_limit` at which commits begin to move into the base.
const FILL_AT: u64 = 4;

/// How often a reader tries, beside a writer that keeps moving.
#[cfg(feature = "rocksdb")]
const READ_ATTEMPTS: u32 = 5;

/// A store whose commits are durable when they return.
///
/// A commit is appended to the log with one sync. [`maintain`](Store::maintain) moves commits
/// into the base, the last change of each key only, and cuts the log when the base has synced
/// them. Reading sees both.
pub struct DurableStore {
    files: Arc<dyn Files>,
    dir: PathBuf,
    base: Box<dyn Base>,
    log_tail_limit: u64,
    /// `None`: opened to be read only. Taken before `state`, and held while the disk syncs.
    log: Mutex<Option<Log>>,
    /// Never held while anything is written.
    state: Mutex<State>,
    /// Held by whoever works on the base: it fills, or is copied.
    base_work: Mutex<()>,
    /// The state's tail, for those who must not wait while a large commit is indexed.
    tail: AtomicU64,
}

struct State {
    /// Commits since the last freeze.
    current: Memtable,
    /// Commits on their way into the base.
    frozen: Option<Arc<Memtable>>,
    /// The record of the last commit.
    record: Option<Vec<u8>>,
    /// What went wrong; nothing is written any more.
    failed: Option<String>,
}

#[cfg(feature = "rocksdb")]
impl DurableStore {
    /// Opens the store in `dir`, or makes one there: `log` and, by RocksDB, `db`. `memory` is for
    /// RocksDB's cache and buffers, in bytes.
    ///
    /// # Errors
    /// As [`open`](Self::open), and [`Error::InUse`] where somebody has it open.
    pub fn open_dir(dir: &Path, log_tail_limit: u64, memory: u64) -> Result<Self, Error> {
        // RocksDB would make its directory, and never sync the one above.
        Disk.create_dir(&dir.join("db")).map_err(|e| Error::io(dir, &e))?;
        // First, because it locks the directory.
        let base = RocksBase::open(&dir.join("db"), memory)?;
        Self::open(Arc::new(Disk), dir, Box::new(base), log_tail_limit)
    }

    /// Opens the store in `dir` to read its last commit, beside a process that may be writing.
    ///
    /// # Errors
    /// As [`open`](Self::open), and where there is no store.
    pub fn open_dir_read_only(dir: &Path) -> Result<Self, Error> {
        let mut attempt = 0;
        loop {
            let opened = RocksBase::open_read_only(&dir.join("db"))
                .and_then(|base| Self::open_read_only(Arc::new(Disk), dir, Box::new(base)));
            // The writer may have moved commits from log to base between the two steps.
            attempt += 1;
            match opened {
                Err(Error::Corrupt(_) | Error::Io { .. }) if attempt < READ_ATTEMPTS => {}
                opened => return opened,
            }
        }
    }
}

impl DurableStore {
    /// Opens the store in `dir` on a base that lies there too; `log_tail_limit` bounds the bytes
    /// that a restart must replay.
    ///
    /// # Errors
    /// Where the directory cannot be used, or what it holds is damaged or does not belong
    /// together.
    pub fn open(
        files: Arc<dyn Files>,
        dir: &Path,
        base: Box<dyn Base>,
        log_tail_limit: u64,
    ) -> Result<Self, Error> {
        let log_dir = dir.join("log");
        files.create_dir(&log_dir).map_err(|e| Error::io(dir, &e))?;
        let (mut position, record) = base_head(&*base)?;
        let Recovered { incarnation, commits } = recover(&*files, &log_dir, position)?;
        if incarnation == 0 && position == Position::default() {
            position = beginning();
            base.apply(position, &[], &mut std::iter::empty())?;
            base.sync()?;
        }
        let tail: Vec<_> = commits.into_iter().map(|(_, commit)| commit).collect();
        let (log, positions) =
            Log::start(files.clone(), &log_dir, incarnation + 1, position, &tail)?;
        let state = State::new(record, positions.into_iter().zip(tail));
        let tail = AtomicU64::new(state.tail_bytes());
        let (dir, state, log) = (dir.to_owned(), Mutex::new(state), Mutex::new(Some(log)));
        let base_work = Mutex::new(());
        Ok(DurableStore { files, dir, base, log_tail_limit, log, state, tail, base_work })
    }

    /// Opens the store to read its last commit, beside a process that may be writing.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn open_read_only(
        files: Arc<dyn Files>,
        dir: &Path,
        base: Box<dyn Base>,
    ) -> Result<Self, Error> {
        let (position, record) = base_head(&*base)?;
        let Recovered { commits, .. } = recover(&*files, &dir.join("log"), position)?;
        let state = State::new(record, commits);
        let tail = AtomicU64::new(state.tail_bytes());
        let (state, log) = (Mutex::new(state), Mutex::new(None));
        let (dir, log_tail_limit, base_work) = (dir.to_owned(), u64::MAX, Mutex::new(()));
        Ok(DurableStore { files, dir, base, log_tail_limit, log, state, tail, base_work })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // What is changed under the lock is changed last, after everything that can fail.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock_log(&self) -> MutexGuard<'_, Option<Log>> {
        // A log that panicked halfway is a failed one, and that is remembered in the state.
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Remembers a failure: nothing is written after it.
    fn noting<T>(&self, result: Result<T, Error>) -> Result<T, Error> {
        if let Err(error) = &result {
            self.lock().failed.get_or_insert_with(|| error.to_string());
        }
        result
    }

    fn note_tail(&self, state: &State) {
        self.tail.store(state.tail_bytes(), Ordering::Release);
    }

    /// Takes the commits that are to move, and begins a new segment for those that come.
    fn freeze(&self, eager: bool) -> Result<Option<Arc<Memtable>>, Error> {
        let state = self.lock();
        state.check()?;
        let due = state.current.bytes() >= self.log_tail_limit / FILL_AT;
        if state.frozen.is_some() || state.current.is_empty() || !(due || eager) {
            return Ok(state.frozen.clone());
        }
        drop(state);
        // With the log held nothing is committed, so the new segment begins where the freeze is.
        let mut log = self.lock_log();
        if let Some(log) = &mut *log {
            self.noting(log.rotate())?;
        }
        let mut state = self.lock();
        let full = std::mem::take(&mut state.current);
        state.frozen = Some(Arc::new(full));
        Ok(state.frozen.clone())
    }

    fn fill(&self, frozen: &Memtable) -> Result<(), Error> {
        let entries = frozen.all_sorted();
        let mut entries = entries.iter().map(|(key, value)| (key.as_slice(), *value));
        let record = frozen.record().unwrap_or_default();
        self.base.apply(frozen.end(), record, &mut entries)?;
        self.base.sync()
    }

    /// Copies the base and the commits behind it, as of one moment: the base's position, and
    /// those commits.
    pub(crate) fn copy_base(&self, to: &Path) -> Result<(Position, Vec<Arc<Commit>>), Error> {
        let _working = self.base_work.lock().unwrap_or_else(PoisonError::into_inner);
        let base = self.base.checkpoint(to)?;
        let state = self.lock();
        state.check()?;
        // Nothing moves into the base meanwhile, so these are all that it lacks.
        let frozen = state.frozen.iter().flat_map(|frozen| frozen.commits());
        Ok((base, frozen.chain(state.current.commits()).cloned().collect()))
    }

    /// The folder of the base in the state directory.
    pub(crate) fn base_folder(&self) -> &'static str {
        self.base.folder()
    }

    pub(crate) fn files(&self) -> &Arc<dyn Files> {
        &self.files
    }

    /// The directory of the store.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Moves everything into the base, and gives back the space of what was deleted.
    ///
    /// # Errors
    /// Where the store cannot be written.
    pub fn compact(&self) -> Result<(), Error> {
        while self.maintain(true)? {}
        self.base.compact()
    }
}

/// Where the chain of a new store begins: base and log of two stores differ even before their
/// first commit.
fn beginning() -> Position {
    Position { seq: 0, chain: RandomState::new().build_hasher().finish() | 1 }
}

/// Position and record of a base; there is no record before the first commit.
fn base_head(base: &dyn Base) -> Result<(Position, Option<Vec<u8>>), Error> {
    let (position, record) = base.position()?;
    Ok((position, record.filter(|_| position.seq > 0)))
}

impl State {
    fn new(
        record: Option<Vec<u8>>,
        tail: impl IntoIterator<Item = (Position, Arc<Commit>)>,
    ) -> Self {
        let mut current = Memtable::default();
        let tail: Vec<_> = tail.into_iter().collect();
        current.reserve(tail.iter().map(|(_, commit)| commit));
        for (position, commit) in tail {
            current.push(position, commit);
        }
        let record = current.record().map(<[u8]>::to_vec).or(record);
        State { current, frozen: None, record, failed: None }
    }

    fn check(&self) -> Result<(), Error> {
        match &self.failed {
            Some(what) => Err(Error::Failed(what.clone())),
            None => Ok(()),
        }
    }

    fn tail_bytes(&self) -> u64 {
        self.current.bytes() + self.frozen.as_ref().map_or(0, |frozen| frozen.bytes())
    }
}

impl Store for DurableStore {
    fn record(&self) -> Result<Option<Vec<u8>>, Error> {
        Ok(self.lock().record.clone())
    }

    fn commit(&self, commit: Commit) -> Result<(), Error> {
        let mut log = self.lock_log();
        self.lock().check()?;
        let Some(log) = &mut *log else {
            return Err(Error::Failed("it was opened to be read only".into()));
        };
        let position = self.noting(log.append(&commit))?;
        let mut state = self.lock();
        state.record = Some(commit.record.clone());
        state.current.push(position, Arc::new(commit));
        self.note_tail(&state);
        Ok(())
    }

    fn get(
        &self,
        operator: &str,
        keys: &[(KeyGroup, &[u8])],
        found: &mut Found<'_>,
    ) -> Result<(), Error> {
        let (mut missing, mut indexes) = (Vec::new(), Vec::new());
        {
            let state = self.lock();
            for (index, (group, key)) in keys.iter().enumerate() {
                let frozen = || state.frozen.as_ref()?.get(operator, *group, key);
                match state.current.get(operator, *group, key).or_else(frozen) {
                    Some(Some(value)) => found(index, value)?,
                    Some(None) => {}
                    None => {
                        missing.push(full_key(operator, *group, key));
                        indexes.push(index);
                    }
                }
            }
        }
        if missing.is_empty() {
            return Ok(());
        }
        self.base.get(&missing, &mut |index, value| found(indexes[index], value))
    }

    fn scan(
        &self,
        operator: &str,
        groups: Range<KeyGroup>,
        prefix: &[u8],
        visit: &mut Visit<'_>,
    ) -> Result<(), Error> {
        let state = self.lock();
        let frozen = state.frozen.clone();
        let current = owned(state.current.sorted(operator, &groups, prefix));
        drop(state);
        let mut newer =
            frozen.as_ref().map_or(Vec::new(), |frozen| frozen.sorted(operator, &groups, prefix));
        overlay(&mut newer, current.iter().map(|(g, k, v)| (*g, k.as_slice(), v.as_deref())));
        let mut merge = Merge { newer: newer.into_iter().peekable(), visit };
        let operator = operator_prefix(operator);
        if prefix.is_empty() {
            scan_base(&*self.base, &operator, groups, prefix, &mut merge)?;
        } else {
            for group in groups {
                scan_base(&*self.base, &operator, group..group + 1, prefix, &mut merge)?;
            }
        }
        merge.rest()
    }

    fn tail(&self) -> Tail {
        let bytes = self.tail.load(Ordering::Acquire);
        Tail { bytes, full: bytes >= self.log_tail_limit }
    }

    fn maintain(&self, eager: bool) -> Result<bool, Error> {
        let _working = self.base_work.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(frozen) = self.freeze(eager)? else { return Ok(false) };
        if planted("log-cut-early")
            && let Some(log) = &mut *self.lock_log()
        {
            self.noting(log.cut(frozen.end().seq))?;
        }
        self.noting(self.fill(&frozen))?;
        let mut state = self.lock();
        state.frozen = None;
        self.note_tail(&state);
        drop(state);
        // IMPORTANT: the log is cut only now that the base has synced what it held.
        if let Some(log) = &mut *self.lock_log() {
            self.noting(log.cut(frozen.end().seq))?;
        }
        Ok(true)
    }
}

type OwnedEntry = (KeyGroup, Vec<u8>, Option<Vec<u8>>);

fn owned(entries: Vec<Entry<'_>>) -> Vec<OwnedEntry> {
    entries.into_iter().map(|(g, k, v)| (g, k.to_vec(), v.map(<[u8]>::to_vec))).collect()
}

/// Puts newer changes over older ones; both are sorted.
fn overlay<'a>(older: &mut Vec<Entry<'a>>, newer: impl Iterator<Item = Entry<'a>>) {
    let mut old = std::mem::take(older).into_iter().peekable();
    for entry in newer {
        while let Some(before) = old.next_if(|o| (o.0, o.1) < (entry.0, entry.1)) {
            older.push(before);
        }
        old.next_if(|o| (o.0, o.1) == (entry.0, entry.1));
        older.push(entry);
    }
    older.extend(old);
}

/// Merges what the base holds with newer changes.
struct Merge<'a, 'v, 'f> {
    newer: std::iter::Peekable<std::vec::IntoIter<Entry<'a>>>,
    visit: &'v mut Visit<'f>,
}

impl Merge<'_, '_, '_> {
    fn base(&mut self, group: KeyGroup, key: &[u8], value: &[u8]) -> Result<(), Error> {
        while let Some((g, k, v)) = self.newer.next_if(|n| (n.0, n.1) < (group, key)) {
            if let Some(v) = v {
                (self.visit)(g, k, v)?;
            }
        }
        match self.newer.next_if(|n| (n.0, n.1) == (group, key)) {
            Some((_, _, Some(newer))) => (self.visit)(group, key, newer),
            Some((_, _, None)) => Ok(()),
            None => (self.visit)(group, key, value),
        }
    }

    fn rest(self) -> Result<(), Error> {
        for (group, key, value) in self.newer {
            if let Some(value) = value {
                (self.visit)(group, key, value)?;
            }
        }
        Ok(())
    }
}

fn scan_base(
    base: &dyn Base,
    operator: &[u8],
    groups: Range<KeyGroup>,
    prefix: &[u8],
    merge: &mut Merge<'_, '_, '_>,
) -> Result<(), Error> {
    let mut from = operator.to_vec();
    from.extend_from_slice(&groups.start.to_be_bytes());
    from.extend_from_slice(prefix);
    base.scan(&from, &mut |full, value| {
        let Some(rest) = full.strip_prefix(operator) else { return Ok(false) };
        let Some((group, key)) = rest.split_first_chunk::<2>() else {
            return Err(Error::Corrupt("the base holds a key without a group".into()));
        };
        let group = KeyGroup::from_be_bytes(*group);
        if group >= groups.end || !key.starts_with(prefix) {
            return Ok(false);
        }
        merge.base(group, key, value)?;
        Ok(true)
    })
}
