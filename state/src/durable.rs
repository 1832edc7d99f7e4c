//! The durable store: a log of commits, and a base behind it that is filled in the background.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

#[cfg(feature = "rocksdb")]
use crate::base::RocksBase;
use crate::base::{Base, Position, full_key, operator_prefix};
#[cfg(feature = "rocksdb")]
use crate::files::Disk;
use crate::files::Files;
use crate::log::{Log, Recovered, recover};
use crate::memtable::Memtable;
use crate::merge::{Merge, Newer, OwnedNewer, overlay, scan_base};
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
        crate::snapshot::check_writable(&Disk, dir)?;
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

/// A copy of a base, and what was committed behind it.
pub(crate) struct Copied {
    /// The position of the copy.
    pub(crate) base: Position,
    pub(crate) tail: Vec<Arc<Commit>>,
    /// The record of the last commit.
    pub(crate) record: Vec<u8>,
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
        crate::snapshot::check_writable(&*files, dir)?;
        let log_dir = dir.join("log");
        files.create_dir(&log_dir).map_err(|e| Error::io(dir, &e))?;
        let BaseHead { mut position, record, started } = BaseHead::of(&*base)?;
        let Recovered { incarnation, commits } = recover(&*files, &log_dir, position, started)?;
        if incarnation == 0 && position == Position::default() {
            position = beginning();
            base.apply(position, &[], &mut |_| ())?;
            base.sync()?;
        }
        let before = position;
        let tail: Vec<_> = commits.into_iter().map(|(_, commit)| commit).collect();
        let (log, positions) =
            Log::start(files.clone(), &log_dir, incarnation + 1, position, &tail)?;
        if !started && !planted("log-never-missed") {
            // From now on there is a log; until the base holds commits nothing else says so.
            base.apply(position, STARTED, &mut |_| ())?;
            base.sync()?;
        }
        let state = State::new(before, record, positions.into_iter().zip(tail));
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
        crate::snapshot::check_restored(&*files, dir)?;
        let BaseHead { position, record, started } = BaseHead::of(&*base)?;
        let Recovered { commits, .. } = recover(&*files, &dir.join("log"), position, started)?;
        let state = State::new(position, record, commits);
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
        // A commit may have failed while the log was waited for: then it writes nothing more.
        let mut log = self.lock_log();
        if let Some(log) = &mut *log {
            self.noting(log.rotate())?;
        }
        let mut state = self.lock();
        let next = Memtable::behind(state.current.end());
        let full = std::mem::replace(&mut state.current, next);
        state.frozen = Some(Arc::new(full));
        Ok(state.frozen.clone())
    }

    fn fill(&self, frozen: &Memtable) -> Result<(), Error> {
        let record = frozen.record().unwrap_or_default();
        self.base.apply(frozen.end(), record, &mut |visit| frozen.each_change(visit))?;
        self.base.sync()
    }

    /// Copies the base and the commits behind it, as of one moment.
    pub(crate) fn copy_base(&self, to: &Path) -> Result<Copied, Error> {
        let _working = self.base_work.lock().unwrap_or_else(PoisonError::into_inner);
        let (base, record) = self.base.checkpoint(to)?;
        let state = self.lock();
        state.check()?;
        // Nothing moves into the base meanwhile, so these are all that it lacks.
        let frozen = state.frozen.as_deref();
        let behind = frozen.unwrap_or(&state.current).before();
        if behind != base {
            let copied = base.seq;
            return Err(Error::Corrupt(format!(
                "the copy of the base in {} holds commit {copied}, and the log goes on behind \
                 commit {}",
                to.display(),
                behind.seq
            )));
        }
        let tail = frozen.into_iter().chain([&state.current]).flat_map(Memtable::commits);
        let tail: Vec<_> = tail.cloned().collect();
        drop(state);
        // Without a commit behind the base, the base's is the last.
        let record = match tail.last() {
            Some(commit) => commit.record.clone(),
            None => record.filter(|_| base.seq > 0).unwrap_or_default(),
        };
        Ok(Copied { base, tail, record })
    }

    /// The number of the last commit; 0 before the first.
    #[must_use]
    pub fn last_commit(&self) -> u64 {
        self.lock().current.end().seq
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

/// What a base holds in place of a record, before its first commit: a log was begun.
const STARTED: &[u8] = b"started";

/// What a base says of itself.
struct BaseHead {
    position: Position,
    /// There is none before the first commit.
    record: Option<Vec<u8>>,
    /// There has been a log.
    started: bool,
}

impl BaseHead {
    fn of(base: &dyn Base) -> Result<Self, Error> {
        let (position, record) = base.position()?;
        let started = position.seq > 0 || record.as_deref() == Some(STARTED);
        Ok(BaseHead { position, record: record.filter(|_| position.seq > 0), started })
    }
}

impl State {
    fn new(
        before: Position,
        record: Option<Vec<u8>>,
        tail: impl IntoIterator<Item = (Position, Arc<Commit>)>,
    ) -> Self {
        let mut current = Memtable::behind(before);
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
        let number = log.end().seq + 1;
        let appended = log.append(&commit).map_err(|error| match error {
            Error::Io { message, .. } => Error::Doubtful { commit: number, cause: message },
            other => other,
        });
        let position = self.noting(appended)?;
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
        let (mut bytes, mut values) = (Vec::new(), Vec::new());
        {
            let state = self.lock();
            for (index, (group, key)) in keys.iter().enumerate() {
                let frozen = || state.frozen.as_ref()?.get(operator, *group, key);
                match state.current.get(operator, *group, key).or_else(frozen) {
                    Some(Some(value)) => {
                        let start = bytes.len();
                        bytes.extend_from_slice(value);
                        values.push((index, start..bytes.len()));
                    }
                    Some(None) => {}
                    None => {
                        missing.push(full_key(operator, *group, key));
                        indexes.push(index);
                    }
                }
            }
        }
        // What a user's types do with the bytes is not done under the lock.
        for (index, range) in values {
            found(index, &bytes[range])?;
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
        let current = state.current.cleared(operator, &groups, prefix);
        let current = OwnedNewer::new(state.current.sorted(operator, &groups, prefix), current);
        drop(state);
        let mut newer = Newer { entries: Vec::new(), cleared: Vec::new() };
        if let Some(frozen) = &frozen {
            newer.entries = frozen.sorted(operator, &groups, prefix);
            newer.cleared.push(frozen.cleared(operator, &groups, prefix));
        }
        overlay(&mut newer, &current);
        let mut merge = Merge::new(newer, visit);
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
