//! How a test driver is set up.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use highwater_state::base::FileBase;
use highwater_state::fault::SimDisk;
use highwater_state::{DurableStore, MemStore, Store};

use super::TestDriver;
use crate::engine::manual::Collected;
use crate::error::Error;
use crate::flow::Flow;
use crate::settings::Settings;

/// Sets a [`TestDriver`] up: see [`TestDriver::builder`].
#[must_use = "nothing runs before `start`"]
pub struct DriverBuilder {
    pub(super) flow: Flow,
    pub(super) workers: usize,
    pub(super) seed: u64,
    pub(super) tick_limit: usize,
    pub(super) memory: usize,
    pub(super) disk: Option<SimDisk>,
    pub(super) found: Option<PathBuf>,
}

/// Where the state of a driven flow is kept.
pub(super) enum Ground {
    Memory(Arc<MemStore>),
    Disk(SimDisk),
}

impl Ground {
    pub(super) fn open(&self) -> Result<Arc<dyn Store>, Error> {
        match self {
            Ground::Memory(store) => Ok(store.clone()),
            Ground::Disk(disk) => open_on(disk),
        }
    }
}

/// Small, so that little state is enough to move commits from the log into the base.
const SIM_TAIL_LIMIT: u64 = 4 << 10;

fn open_on(disk: &SimDisk) -> Result<Arc<dyn Store>, Error> {
    let (files, dir) = (Arc::new(disk.clone()), Path::new("state"));
    let base = FileBase::open(files.clone(), &dir.join("base"))?;
    Ok(Arc::new(DurableStore::open(files, dir, Box::new(base), SIM_TAIL_LIMIT)?))
}

impl DriverBuilder {
    pub(super) fn new(flow: Flow) -> Self {
        let (workers, seed, tick_limit, memory) = (1, 0, usize::MAX, usize::MAX);
        DriverBuilder { flow, workers, seed, tick_limit, memory, disk: None, found: None }
    }

    /// How many workers the flow has. They are stepped one at a time, in an order that follows
    /// from the seed. Default: 1.
    pub fn workers(mut self, workers: usize) -> Self {
        self.workers = workers;
        self
    }

    /// What decides which worker goes next. Default: 0.
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// The most events that one tick reads. Default: whatever is there.
    pub fn tick_limit(mut self, events: usize) -> Self {
        self.tick_limit = events;
        self
    }

    /// Bytes of state that may stay in memory over a commit; with 0, all that can be forgotten
    /// is, and read again. Default: everything stays.
    pub fn memory(mut self, bytes: usize) -> Self {
        self.memory = bytes;
        self
    }

    /// Puts the state on a simulated disk, where the file sinks should be too
    /// ([`JsonLines::on`](crate::sink::JsonLines::on)). Rows go to the sinks then, not to
    /// [`TestDriver::outputs`].
    pub fn disk(mut self, disk: &SimDisk) -> Self {
        self.disk = Some(disk.clone());
        self
    }

    /// Begins with the state in a directory or a snapshot, as of its last commit. It is read
    /// once, and not changed. Sources go on where they were: a [`Pushed`](super::Pushed) source
    /// in place of the real one must have partitions of the same names, and as many events
    /// before the first new one as were read.
    pub fn state(mut self, dir: impl Into<PathBuf>) -> Self {
        self.found = Some(dir.into());
        self
    }

    /// Starts the flow.
    ///
    /// # Errors
    /// A flow that does not build, settings that cannot work, state that does not fit, or
    /// sources that do not start.
    pub fn start(self) -> Result<TestDriver, Error> {
        let settings = Settings::in_memory().workers(self.workers).tick_max_events(self.tick_limit);
        let settings = Settings { tick_max_bytes: usize::MAX, ..settings };
        settings.check().map_err(Error::plan)?;
        let collected = self.disk.is_none().then(Collected::default);
        let ground = match (self.disk, self.found) {
            (Some(disk), _) => Ground::Disk(disk),
            (None, Some(dir)) => Ground::Memory(Arc::new(crate::tick::copy_to_memory(&dir)?)),
            (None, None) => Ground::Memory(Arc::new(MemStore::new())),
        };
        let plan = Arc::new(self.flow.into_plan()?);
        TestDriver::start(plan, settings, ground, collected, self.memory, self.seed)
    }
}
