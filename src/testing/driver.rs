//! The test driver: a flow on the real engine, moved tick by tick.

use std::path::Path;
use std::sync::{Arc, PoisonError};

use highwater_state::base::FileBase;
use highwater_state::fault::{SimDisk, Survival};
use highwater_state::{DurableStore, MemStore, Store, group_of, hash_key};
use serde::de::DeserializeOwned;

use super::Pushed;
use crate::engine::manual::{Collected, ManualClock, ManualEngine};
use crate::error::Error;
use crate::event::Data;
use crate::flow::{Body, Flow, Plan};
use crate::keyed::Key;
use crate::metrics::Metrics;
use crate::settings::Settings;
use crate::time::{Span, Watermark};

/// Runs a flow on the calling thread, with ticks, commits, time and crashes under the test's
/// control. It is the engine itself, with one worker; only the sinks are replaced: what they
/// would have written is kept, and read with [`outputs`](Self::outputs).
///
/// ```
/// use highwater::prelude::*;
/// use highwater::testing::{Pushed, TestDriver};
///
/// let flow = Flow::new("count");
/// flow.source("events", Pushed::<(u32, EventTime)>::partitions(1))
///     .event_time(|e| e.1, Disorder::ascending())
///     .key_by(|e| &e.0)
///     .window("counts", Tumbling::of(seconds(10)))
///     .aggregate(Count)
///     .drop_late("not under test")
///     .map(|result| (result.key, result.value))
///     .sink("out", Stdout::json());
///
/// let mut driver = TestDriver::new(flow)?;
/// driver.push("events", 0, (7u32, EventTime::from_seconds(1)))?;
/// driver.commit()?;
/// driver.push("events", 0, (7u32, EventTime::from_seconds(2)))?;
/// driver.tick()?;
/// driver.crash_and_restart()?;
/// driver.push("events", 0, (7u32, EventTime::from_seconds(11)))?;
/// driver.tick()?;
/// assert_eq!(driver.outputs::<(u32, u64)>("out")?, [(7, 2)]);
/// # Ok::<(), highwater::Error>(())
/// ```
pub struct TestDriver {
    plan: Arc<Plan>,
    settings: Settings,
    store: Arc<dyn Store>,
    /// Where state and sinks are, if not in memory.
    disk: Option<SimDisk>,
    clock: Arc<ManualClock>,
    collected: Collected,
    engine: ManualEngine,
}

/// Small, so that little state is enough to move commits from the log into the base.
const SIM_TAIL_LIMIT: u64 = 4 << 10;

fn open_on(disk: &SimDisk) -> Result<Arc<dyn Store>, Error> {
    let (files, dir) = (Arc::new(disk.clone()), Path::new("state"));
    let base = FileBase::open(files.clone(), &dir.join("base"))?;
    Ok(Arc::new(DurableStore::open(files, dir, Box::new(base), SIM_TAIL_LIMIT)?))
}

impl TestDriver {
    /// Starts a flow. Ticks read whatever is there; see [`with_tick_limit`](Self::with_tick_limit).
    ///
    /// # Errors
    /// A flow that does not build, or sources that do not start.
    pub fn new(flow: Flow) -> Result<Self, Error> {
        Self::with_tick_limit(flow, usize::MAX)
    }

    /// Starts a flow whose ticks read at most so many events.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn with_tick_limit(flow: Flow, tick_max_events: usize) -> Result<Self, Error> {
        Self::build(flow, tick_max_events, None)
    }

    /// Starts a flow with its state on a simulated disk, where its file sinks should be too
    /// ([`JsonLines::on`](crate::sink::JsonLines::on)). Rows go to the sinks, not to
    /// [`outputs`](Self::outputs). A driver that is dropped at any moment is a process that has
    /// died; [`SimDisk::restart`] says what that leaves for the next one.
    ///
    /// # Errors
    /// As [`new`](Self::new), and where what is on the disk does not fit.
    pub fn on_disk(flow: Flow, disk: &SimDisk, tick_max_events: usize) -> Result<Self, Error> {
        Self::build(flow, tick_max_events, Some(disk.clone()))
    }

    fn build(flow: Flow, tick_max_events: usize, disk: Option<SimDisk>) -> Result<Self, Error> {
        let plan = Arc::new(flow.into_plan()?);
        let settings = Settings::in_memory().workers(1).tick_max_events(tick_max_events);
        let settings = Settings { tick_max_bytes: usize::MAX, ..settings };
        let store = match &disk {
            Some(disk) => open_on(disk)?,
            None => Arc::new(MemStore::new()),
        };
        let clock = Arc::new(ManualClock::default());
        let collected = Collected::default();
        let collect = disk.is_none().then(|| collected.clone());
        let engine = ManualEngine::start(
            plan.clone(),
            settings.clone(),
            store.clone(),
            clock.clone(),
            collect,
        )?;
        Ok(TestDriver { plan, settings, store, disk, clock, collected, engine })
    }

    fn pushed<T: Data>(&self, source: &str) -> Result<&Pushed<T>, Error> {
        let node = self.plan.nodes.iter().find(|n| &*n.id == source);
        let found = node.and_then(|n| match &n.body {
            Body::Source(source) => source.as_any().downcast_ref::<Pushed<T>>(),
            _ => None,
        });
        found.ok_or_else(|| {
            let row = std::any::type_name::<T>();
            Error::plan(format!("`{source}` is not a `Pushed` source of {row}"))
        })
    }

    /// Appends an event to a partition of a [`Pushed`] source, for the next tick to read.
    ///
    /// # Errors
    /// Where there is no such source with such events.
    pub fn push<T: Data>(&mut self, source: &str, partition: usize, event: T) -> Result<(), Error> {
        self.pushed(source)?.push(partition, event);
        Ok(())
    }

    /// Ends every partition of a [`Pushed`] source of events of type `T`, and runs a tick. When
    /// all sources have ended, windows close and the flow finishes.
    ///
    /// # Errors
    /// As [`push`](Self::push) and [`tick`](Self::tick).
    pub fn finish<T: Data>(&mut self, source: &str) -> Result<(), Error> {
        self.pushed::<T>(source)?.finish();
        self.tick()
    }

    /// Runs one tick: reads what there is, moves the watermark, fires windows and timers.
    ///
    /// # Errors
    /// Whatever stops the flow.
    pub fn tick(&mut self) -> Result<(), Error> {
        self.engine.tick(false)
    }

    /// Runs one tick and commits it: a crash afterwards loses nothing.
    ///
    /// # Errors
    /// Whatever stops the flow.
    pub fn commit(&mut self) -> Result<(), Error> {
        self.engine.tick(true)
    }

    /// Moves the tick clock; ticks see it when they open.
    pub fn advance_clock(&mut self, span: Span) {
        self.clock.advance(span);
    }

    /// Drops everything since the last commit, as a crash would, and starts again from there.
    ///
    /// # Errors
    /// Whatever a start may say.
    pub fn crash_and_restart(&mut self) -> Result<(), Error> {
        if let Some(disk) = &self.disk {
            disk.restart(Survival::Synced);
            self.store = open_on(disk)?;
        }
        self.engine = ManualEngine::start(
            self.plan.clone(),
            self.settings.clone(),
            self.store.clone(),
            self.clock.clone(),
            self.disk.is_none().then(|| self.collected.clone()),
        )?;
        Ok(())
    }

    /// What the sink was sent, in order: since the beginning, less what crashes took back.
    ///
    /// # Errors
    /// Where the sink's rows are not of type `T`.
    pub fn outputs<T: Data>(&self, sink: &str) -> Result<Vec<T>, Error> {
        let collected = self.collected.lock().unwrap_or_else(PoisonError::into_inner);
        let mut rows = Vec::new();
        for (_, chunk) in collected.get(sink).into_iter().flatten() {
            let chunk = chunk.downcast_ref::<Vec<T>>().ok_or_else(|| {
                let row = std::any::type_name::<T>();
                Error::plan(format!("the rows of `{sink}` are not of type {row}"))
            })?;
            rows.extend(chunk.iter().cloned());
        }
        Ok(rows)
    }

    /// The state of a key in a process operator, as of the last commit.
    ///
    /// # Errors
    /// Where the state is not of type `S`.
    pub fn state<K: Key, S: DeserializeOwned>(
        &self,
        operator: &str,
        key: &K,
    ) -> Result<Option<S>, Error> {
        let group = group_of(hash_key(key));
        let mut wanted = vec![crate::operator::process::STATE];
        highwater_state::encode_into(key, &mut wanted)?;
        let mut found = None;
        self.store.scan(operator, group..group + 1, &[], &mut |_, key, value| {
            if key == wanted {
                let (_, _, state) = crate::keyed::split(value)?;
                found = state.map(highwater_state::decode).transpose()?;
            }
            Ok(())
        })?;
        Ok(found)
    }

    /// The watermark of an operator.
    #[must_use]
    pub fn watermark(&self, operator: &str) -> Watermark {
        self.metrics().operator(operator).map(|o| o.watermark).unwrap_or_default()
    }

    /// Whether all input has ended and is committed.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.engine.is_done()
    }

    /// The metrics as of the last tick.
    #[must_use]
    pub fn metrics(&self) -> Metrics {
        self.engine.metrics()
    }
}
