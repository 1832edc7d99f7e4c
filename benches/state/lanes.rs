//! What a flow has around its tables: a thread that commits, and one that fills the base.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, Sender, TryRecvError};
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use highwater_state::{
    Changes, Commit, DurableStore, Error, Store, Table, Value, encode_into, group_of, hash_key,
};
use serde::Serialize;

use crate::Result;

/// The operator that all entries are of.
pub(crate) const OPERATOR: &str = "op";
/// Entries that a table writes out between two batches, as in a flow.
const CAPTURE_ENTRIES: usize = 2048;

/// Changes that set keys to a value.
pub(crate) fn changes<V: Serialize>(
    keys: impl Iterator<Item = u64>,
    value: &V,
) -> std::result::Result<Changes, Error> {
    let mut changes = Changes::new(OPERATOR.into());
    for key in keys {
        let bytes = |bytes: &mut Vec<u8>| encode_into(&key, bytes);
        changes.put(group_of(hash_key(&key)), bytes, |bytes| encode_into(value, bytes))?;
    }
    Ok(changes)
}

/// A store in `dir` whose base holds `keys` keys with this value; filled if it is new.
pub(crate) fn filled_store<V: Serialize>(
    dir: &Path,
    (tail, memory): (u64, u64),
    keys: u64,
    value: &V,
) -> Result<DurableStore> {
    const STEP: u64 = 500_000;
    let store = DurableStore::open_dir(dir, tail, memory)?;
    if store.record()?.is_some() {
        return Ok(store);
    }
    for first in (0..keys).step_by(STEP as usize) {
        let changes = vec![changes(first..keys.min(first + STEP), value)?];
        store.commit(Commit { record: b"record".to_vec(), changes })?;
        while store.maintain(true)? {}
    }
    Ok(store)
}

type Failure = Arc<OnceLock<String>>;

/// The two threads.
pub(crate) struct Lanes {
    jobs: Sender<Commit>,
    done: Receiver<Duration>,
    writing: Arc<AtomicBool>,
    failure: Failure,
    threads: [JoinHandle<()>; 2],
}

impl Lanes {
    pub(crate) fn start(store: &Arc<DurableStore>) -> Self {
        let (jobs, commits) = mpsc::channel::<Commit>();
        let (tell, done) = mpsc::channel();
        let (wake, woken) = mpsc::channel();
        // What a process before left in the log may fill it, and then no commit would ask for this.
        let _ = wake.send(());
        let (writing, failure) = (Arc::<AtomicBool>::default(), Failure::default());
        let (base_store, base_writing, base_failure) =
            (store.clone(), writing.clone(), failure.clone());
        let base = std::thread::spawn(move || {
            highwater_state::work_in_background();
            while let Ok(()) = woken.recv() {
                base_writing.store(true, Ordering::Relaxed);
                let mut moved = Ok(true);
                while matches!(moved, Ok(true)) {
                    moved = base_store.maintain(false);
                }
                base_writing.store(false, Ordering::Relaxed);
                if let Err(error) = moved {
                    base_failure.get_or_init(|| error.to_string());
                }
            }
        });
        let (store, commit_failure) = (store.clone(), failure.clone());
        let commit = std::thread::spawn(move || {
            while let Ok(commit) = commits.recv() {
                let started = Instant::now();
                if let Err(error) = store.commit(commit) {
                    commit_failure.get_or_init(|| error.to_string());
                }
                let _ = (tell.send(started.elapsed()), wake.send(()));
            }
        });
        Lanes { jobs, done, writing, failure, threads: [commit, base] }
    }

    pub(crate) fn is_base_written(&self) -> bool {
        self.writing.load(Ordering::Relaxed)
    }

    fn finish(self) -> Result<()> {
        drop(self.jobs);
        for thread in self.threads {
            thread.join().map_err(|_| "a thread panicked")?;
        }
        self.failure.get().map_or(Ok(()), |error| Err(error.clone().into()))
    }
}

enum Phase {
    Idle,
    Capturing(Vec<Changes>),
    Committing,
}

/// What commits did while something ran.
pub(crate) struct Committed {
    /// How long the store took to make them durable, in µs.
    pub(crate) commit: Histogram<u64>,
    /// The same from the beginning of the capture on.
    pub(crate) whole: Histogram<u64>,
    pub(crate) log_bytes: u64,
    pub(crate) entries: u64,
    /// Batches before which a commit was due, and the tail was full.
    pub(crate) held: u64,
}

/// Commits a table every now and then, in steps between its batches.
pub(crate) struct Committer {
    store: Arc<DurableStore>,
    lanes: Lanes,
    every: Duration,
    began: Instant,
    phase: Phase,
    committed: Committed,
}

impl Committer {
    pub(crate) fn start(store: &Arc<DurableStore>, every: Duration) -> Result<Self> {
        let committed = Committed {
            commit: Histogram::new(3)?,
            whole: Histogram::new(3)?,
            log_bytes: 0,
            entries: 0,
            held: 0,
        };
        let (store, lanes) = (store.clone(), Lanes::start(store));
        let (began, phase) = (Instant::now(), Phase::Idle);
        Ok(Committer { store, lanes, every, began, phase, committed })
    }

    pub(crate) fn is_base_written(&self) -> bool {
        self.lanes.is_base_written()
    }

    pub(crate) fn is_idle(&self) -> bool {
        matches!(self.phase, Phase::Idle)
    }

    pub(crate) fn is_capturing(&self) -> bool {
        matches!(self.phase, Phase::Capturing(_))
    }

    /// One step, between two batches.
    pub(crate) fn step<V: Value>(&mut self, table: &mut Table<u64, V>) -> Result<()> {
        if self.is_idle() && self.began.elapsed() >= self.every {
            if self.store.tail().full {
                self.committed.held += 1;
                return Ok(());
            }
            self.began = Instant::now();
            table.begin_capture();
            self.phase = Phase::Capturing(Vec::new());
        }
        match &mut self.phase {
            Phase::Idle => Ok(()),
            Phase::Capturing(into) => {
                if table.capture(&OPERATOR.into(), &mut CAPTURE_ENTRIES.clone(), into)? {
                    let changes = std::mem::take(into);
                    self.hand_over(changes)?;
                }
                Ok(())
            }
            Phase::Committing => match self.lanes.done.try_recv() {
                Ok(took) => self.note(took, table),
                Err(TryRecvError::Empty) => Ok(()),
                Err(error) => Err(error.into()),
            },
        }
    }

    fn hand_over(&mut self, changes: Vec<Changes>) -> Result<()> {
        // The bookkeeping of an entry takes 16 bytes in memory and 10 in the log.
        let entries: usize = changes.iter().map(Changes::len).sum();
        let held: usize = changes.iter().map(Changes::size).sum();
        self.committed.entries += entries as u64;
        self.committed.log_bytes += (held - 6 * entries) as u64;
        self.phase = Phase::Committing;
        self.lanes.jobs.send(Commit { record: b"record".to_vec(), changes })?;
        Ok(())
    }

    fn note<V: Value>(&mut self, took: Duration, table: &mut Table<u64, V>) -> Result<()> {
        self.committed.commit.record(took.as_micros() as u64)?;
        self.committed.whole.record(self.began.elapsed().as_micros() as u64)?;
        table.committed();
        self.phase = Phase::Idle;
        Ok(())
    }

    /// Ends what is under way and moves everything into the base, so that a next run begins as
    /// this one did.
    pub(crate) fn finish<V: Value>(mut self, table: &mut Table<u64, V>) -> Result<Committed> {
        self.every = Duration::MAX;
        while !self.is_idle() {
            self.step(table)?;
        }
        self.lanes.finish()?;
        while self.store.maintain(true)? {}
        Ok(self.committed)
    }
}
