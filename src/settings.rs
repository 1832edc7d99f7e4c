//! The settings: data with defaults that are right for most.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// How a flow is run. Everything has a default but the place of the state.
///
/// ```
/// use std::time::Duration;
/// use highwater::Settings;
/// let settings = Settings::at("state").workers(2).commit_interval(Duration::from_millis(50));
/// assert_eq!(settings.tick_max_events, 65_536);
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Settings {
    /// The directory of the durable state. `None`: state lives in memory and dies with the
    /// process.
    #[serde(default)]
    pub state: Option<PathBuf>,
    /// Worker threads. Default: one per available core.
    #[serde(default = "default_workers")]
    pub workers: usize,
    /// The least time between two commits. Default: 100 ms.
    #[serde(default = "default_commit_interval")]
    pub commit_interval: Duration,
    /// The most events that one tick reads, over all sources. Default: 65,536.
    #[serde(default = "default_tick_max_events")]
    pub tick_max_events: usize,
    /// The most bytes of rows that one tick reads per source, counted by the size of the row
    /// type itself, without what rows point to. Default: 64 MiB.
    #[serde(default = "default_tick_max_bytes")]
    pub tick_max_bytes: usize,
    /// How many ticks may be open at once. Default: 2.
    #[serde(default = "default_ticks_in_flight")]
    pub ticks_in_flight: usize,
    /// Bytes of memory for state: hot tables, the tail of the log, RocksDB's
    /// cache. Past it, state that the store holds is forgotten and read again when needed.
    /// Default: 1 GiB.
    ///
    /// What the allocator keeps for itself comes on top. glibc's malloc keeps some for each thread
    /// that ever allocated: where memory is tight, set `MALLOC_ARENA_MAX=1` in the environment, or
    /// choose another allocator for your program. (The binary `highwater` has one: there the
    /// variable reaches RocksDB only.)
    #[serde(default = "default_memory_budget")]
    pub memory_budget: u64,
    /// Bytes of committed changes that a restart may have to replay; past it no ticks are opened
    /// until RocksDB has caught up. They are kept in memory too, with an index, so that they are an
    /// eighth of `memory_budget` at most, but may always be 1 MiB.
    /// Default: 64 MiB.
    #[serde(default = "default_log_tail_limit")]
    pub log_tail_limit: u64,
    /// How often the flow takes a snapshot into the `snapshots` folder of the state directory.
    /// Default: never.
    #[serde(default)]
    pub snapshot_interval: Option<Duration>,
    /// How many snapshots are kept. Default: 3.
    #[serde(default = "default_snapshots_kept")]
    pub snapshots_kept: usize,
}

/// However little memory there is, so much may be committed before it is moved into the base.
const LEAST_TAIL: u64 = 1 << 20;

fn default_snapshots_kept() -> usize {
    3
}

fn default_memory_budget() -> u64 {
    1 << 30
}

fn default_log_tail_limit() -> u64 {
    64 << 20
}

fn default_workers() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

fn default_commit_interval() -> Duration {
    Duration::from_millis(100)
}

fn default_tick_max_events() -> usize {
    65_536
}

fn default_tick_max_bytes() -> usize {
    64 << 20
}

fn default_ticks_in_flight() -> usize {
    2
}

impl Settings {
    /// Durable state in a directory, which is made if need be.
    #[must_use]
    pub fn at(state: impl Into<PathBuf>) -> Self {
        Settings { state: Some(state.into()), ..Self::in_memory() }
    }

    /// State in memory: for tests, and for flows that may start anew.
    #[must_use]
    pub fn in_memory() -> Self {
        Settings {
            state: None,
            workers: default_workers(),
            commit_interval: default_commit_interval(),
            tick_max_events: default_tick_max_events(),
            tick_max_bytes: default_tick_max_bytes(),
            ticks_in_flight: default_ticks_in_flight(),
            memory_budget: default_memory_budget(),
            log_tail_limit: default_log_tail_limit(),
            snapshot_interval: None,
            snapshots_kept: default_snapshots_kept(),
        }
    }

    /// Sets the number of worker threads.
    #[must_use]
    pub fn workers(mut self, workers: usize) -> Self {
        self.workers = workers;
        self
    }

    /// Sets the least time between two commits.
    #[must_use]
    pub fn commit_interval(mut self, interval: Duration) -> Self {
        self.commit_interval = interval;
        self
    }

    /// Sets the most events that one tick reads.
    #[must_use]
    pub fn tick_max_events(mut self, events: usize) -> Self {
        self.tick_max_events = events;
        self
    }

    /// Sets the memory for state, in bytes.
    #[must_use]
    pub fn memory_budget(mut self, bytes: u64) -> Self {
        self.memory_budget = bytes;
        self
    }

    /// Sets how much a restart may have to replay, in bytes.
    #[must_use]
    pub fn log_tail_limit(mut self, bytes: u64) -> Self {
        self.log_tail_limit = bytes;
        self
    }

    /// Sets how often a snapshot is taken, and how many are kept.
    #[must_use]
    pub fn snapshots(mut self, interval: Duration, kept: usize) -> Self {
        self.snapshot_interval = Some(interval);
        self.snapshots_kept = kept;
        self
    }

    /// The part of the budget for RocksDB's cache and buffers.
    pub(crate) fn base_memory(&self) -> u64 {
        self.memory_budget / 4
    }

    /// The part of the budget for hot tables.
    pub(crate) fn hot_memory(&self) -> usize {
        if self.state.is_none() {
            // Nothing can be forgotten that is nowhere else.
            return usize::MAX;
        }
        let rest = self.memory_budget - self.base_memory();
        let rest = rest.saturating_sub(2 * self.tail_limit());
        // Tables forget between two commits only, and are over their part until then.
        usize::try_from(rest / 16 * 15).unwrap_or(usize::MAX)
    }

    /// Bytes of the log that a restart may have to replay.
    pub(crate) fn tail_limit(&self) -> u64 {
        self.log_tail_limit.min((self.memory_budget / 8).max(LEAST_TAIL))
    }

    /// Refuses values that cannot work.
    pub(crate) fn check(&self) -> Result<(), String> {
        let least_one = [
            ("workers", self.workers),
            ("tick_max_events", self.tick_max_events),
            ("tick_max_bytes", self.tick_max_bytes),
            ("ticks_in_flight", self.ticks_in_flight),
            ("snapshots_kept", self.snapshots_kept),
        ];
        match least_one.iter().find(|(_, value)| *value == 0) {
            Some((name, _)) => Err(format!("the setting `{name}` is 0, and must be at least 1")),
            None if self.workers > usize::from(highwater_state::KEY_GROUPS) => {
                Err(format!("{} workers are more than there are key groups", self.workers))
            }
            None if self.log_tail_limit == 0 => {
                Err("the setting `log_tail_limit` is 0: no commit would fit".to_owned())
            }
            None => Ok(()),
        }
    }
}
