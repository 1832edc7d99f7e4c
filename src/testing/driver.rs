//! The test driver: a flow on the real engine, moved tick by tick.

use std::collections::BTreeSet;
use std::sync::Arc;

use highwater_state::fault::{SimDisk, Survival};
use highwater_state::{MemStore, Store};

use super::Pushed;
use super::builder::{DriverBuilder, Ground};
use super::log::Log;
use crate::engine::dice::Dice;
use crate::engine::manual::{self, Collected, ManualClock, ManualEngine};
use crate::error::Error;
use crate::event::Data;
use crate::flow::{Body, Flow, Plan};
use crate::metrics::Metrics;
use crate::settings::Settings;
use crate::time::Span;

/// Runs a flow with ticks, commits, time, workers and crashes under the test's control. It is
/// the engine itself; only the sinks are replaced: what they would have written is kept, and
/// read with [`outputs`](Self::outputs).
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
///
/// Several workers take turns, one at a time, in an order that follows from a seed: the same
/// seed and the same calls give the same run, to the last row.
pub struct TestDriver {
    plan: Arc<Plan>,
    settings: Settings,
    ground: Ground,
    pub(super) store: Arc<dyn Store>,
    pub(super) clock: Arc<ManualClock>,
    pub(super) collected: Option<Collected>,
    memory: usize,
    /// `None` while the flow is down.
    pub(super) engine: Option<ManualEngine>,
    pub(super) dice: Dice,
    pub(super) log: Log,
    /// As of the last tick.
    pub(super) last_metrics: Metrics,
    /// Partitions that are not read, by source id and name.
    paused: BTreeSet<(String, String)>,
    snapshot: Option<MemStore>,
}

impl TestDriver {
    /// Starts a flow with one worker. Ticks read whatever is there.
    ///
    /// # Errors
    /// A flow that does not build, or sources that do not start.
    pub fn new(flow: Flow) -> Result<Self, Error> {
        Self::builder(flow).start()
    }

    /// A driver with more to choose than [`new`](Self::new):
    ///
    /// ```
    /// use highwater::prelude::*;
    /// use highwater::testing::{Pushed, TestDriver};
    /// # fn flow() -> Flow {
    /// #     let flow = Flow::new("rows");
    /// #     flow.source("events", Pushed::<u32>::partitions(2)).sink("out", Stdout::json());
    /// #     flow
    /// # }
    /// let mut driver = TestDriver::builder(flow()).workers(3).seed(7).tick_limit(100).start()?;
    /// driver.push("events", 1, 5u32)?;
    /// driver.commit()?;
    /// driver.rescale(2)?;
    /// assert_eq!(driver.outputs::<u32>("out")?, [5]);
    /// # Ok::<(), highwater::Error>(())
    /// ```
    pub fn builder(flow: Flow) -> DriverBuilder {
        DriverBuilder::new(flow)
    }

    /// Starts a flow whose ticks read at most so many events.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn with_tick_limit(flow: Flow, tick_max_events: usize) -> Result<Self, Error> {
        Self::builder(flow).tick_limit(tick_max_events).start()
    }

    /// Starts a flow with its state on a simulated disk, where its file sinks should be too
    /// ([`JsonLines::on`](crate::sink::JsonLines::on)). Rows go to the sinks, not to
    /// [`outputs`](Self::outputs). A driver that is dropped at any moment is a process that has
    /// died; [`SimDisk::restart`] says what that leaves for the next one.
    ///
    /// # Errors
    /// As [`new`](Self::new), and where what is on the disk does not fit.
    pub fn on_disk(flow: Flow, disk: &SimDisk, tick_max_events: usize) -> Result<Self, Error> {
        Self::builder(flow).tick_limit(tick_max_events).disk(disk).start()
    }

    pub(super) fn start(
        plan: Arc<Plan>,
        settings: Settings,
        ground: Ground,
        collected: Option<Collected>,
        memory: usize,
        seed: u64,
    ) -> Result<Self, Error> {
        let mut driver = TestDriver {
            plan,
            settings,
            store: ground.open()?,
            ground,
            clock: Arc::default(),
            collected,
            memory,
            engine: None,
            dice: Dice::new(seed),
            log: Log::default(),
            last_metrics: Metrics::default(),
            paused: BTreeSet::new(),
            snapshot: None,
        };
        driver.launch("start")?;
        Ok(driver)
    }

    fn launch(&mut self, what: &str) -> Result<(), Error> {
        self.engine = Some(ManualEngine::start(manual::Ground {
            plan: self.plan.clone(),
            settings: self.settings.clone(),
            store: self.store.clone(),
            clock: self.clock.clone(),
            collected: self.collected.clone(),
            memory_limit: self.memory,
        })?);
        self.last_metrics = self.metrics();
        self.log.note(what.to_owned());
        Ok(())
    }

    pub(super) fn pushed<T: Data>(&self, source: &str) -> Result<&Pushed<T>, Error> {
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

    /// Appends an event to a partition of a [`Pushed`] source, for the next tick to read. A flow
    /// that is down finds it when it is started again.
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

    /// Ends one partition of a [`Pushed`] source of events of type `T`; the next tick finds it
    /// ended.
    ///
    /// # Errors
    /// As [`push`](Self::push).
    pub fn finish_partition<T: Data>(
        &mut self,
        source: &str,
        partition: usize,
    ) -> Result<(), Error> {
        self.pushed::<T>(source)?.finish_partition(partition);
        Ok(())
    }

    /// Runs one tick: reads what there is, moves the watermark, fires windows and timers.
    ///
    /// # Errors
    /// Whatever stops the flow.
    pub fn tick(&mut self) -> Result<(), Error> {
        self.run_tick(false)
    }

    /// Runs one tick and commits it: a crash afterwards loses nothing.
    ///
    /// # Errors
    /// Whatever stops the flow.
    pub fn commit(&mut self) -> Result<(), Error> {
        self.run_tick(true)
    }

    fn run_tick(&mut self, commit: bool) -> Result<(), Error> {
        let paused = &self.paused;
        let wanted =
            |source: &str, name: &str| !paused.contains(&(source.to_owned(), name.to_owned()));
        let wanted = (!paused.is_empty()).then_some(&wanted as &dyn Fn(&str, &str) -> bool);
        let Some(engine) = &mut self.engine else {
            return Err(Error::plan("the flow is down: `restart` goes on from the last commit"));
        };
        engine.tick(commit, wanted, &mut self.dice)?;
        let progress = engine.progress();
        self.log.tick(&self.last_metrics, &progress, commit);
        self.last_metrics = progress;
        Ok(())
    }

    /// Moves the tick clock; ticks see it when they open.
    pub fn advance_clock(&mut self, span: Span) {
        self.clock.advance(span);
    }

    /// From now on the partition is not read, as if others had taken all the room in a tick: it
    /// cannot become idle, and holds time where it is. `partition` is its name.
    pub fn pause(&mut self, source: &str, partition: &str) {
        self.paused.insert((source.to_owned(), partition.to_owned()));
    }

    /// The partition is read again.
    pub fn resume(&mut self, source: &str, partition: &str) {
        self.paused.remove(&(source.to_owned(), partition.to_owned()));
    }

    /// Lets one partition be silent for so long, with two ticks in which only it is read: if
    /// that is its idle timeout, it is idle then, and no other is. What it has unread comes
    /// first.
    ///
    /// # Errors
    /// As [`tick`](Self::tick).
    pub fn go_idle(&mut self, source: &str, partition: &str, silence: Span) -> Result<(), Error> {
        let mut others = BTreeSet::new();
        for node in &self.plan.nodes {
            let Body::Source(any) = &node.body else { continue };
            for name in any.partitions()? {
                if &*node.id != source || name != partition {
                    others.insert((node.id.to_string(), name));
                }
            }
        }
        let paused = std::mem::replace(&mut self.paused, others);
        // The first tick reads the clock, the second one notices how much later it is.
        let ticks = self.tick().and_then(|()| {
            self.advance_clock(silence);
            self.tick()
        });
        self.paused = paused;
        ticks
    }

    /// The process dies: everything since the last commit is gone, and the flow is down.
    pub fn crash(&mut self) {
        self.last_metrics = self.metrics();
        if self.engine.take().is_some() {
            self.log.note("crash".to_owned());
        }
        if let Ground::Disk(disk) = &self.ground {
            disk.restart(Survival::Synced);
        }
    }

    /// As [`crash`](Self::crash), in the middle of a tick: after so many steps of workers.
    ///
    /// # Errors
    /// Whatever stopped the flow before.
    pub fn crash_in_tick(&mut self, commit: bool, steps: usize) -> Result<(), Error> {
        let Some(engine) = &mut self.engine else { return Ok(()) };
        let result = engine.begin_tick(commit, steps, &mut self.dice);
        self.crash();
        result
    }

    /// Starts a flow that is down, from its last commit.
    ///
    /// # Errors
    /// Whatever a start may say.
    pub fn restart(&mut self) -> Result<(), Error> {
        self.crash();
        self.store = self.ground.open()?;
        self.launch("restart")
    }

    /// Drops everything since the last commit, as a crash would, and starts again from there.
    ///
    /// # Errors
    /// Whatever a start may say.
    pub fn crash_and_restart(&mut self) -> Result<(), Error> {
        self.crash();
        self.restart()
    }

    /// Crashes, and goes on from the last commit with another number of workers.
    ///
    /// # Errors
    /// As [`restart`](Self::restart), and for no workers or too many.
    pub fn rescale(&mut self, workers: usize) -> Result<(), Error> {
        self.settings.workers = workers;
        self.settings.check().map_err(Error::plan)?;
        self.crash_and_restart()
    }

    /// Runs a tick, commits it and keeps a copy of the state: see
    /// [`restore_snapshot`](Self::restore_snapshot).
    ///
    /// # Errors
    /// As [`commit`](Self::commit), and for a driver on a disk.
    pub fn snapshot(&mut self) -> Result<(), Error> {
        self.commit()?;
        let Ground::Memory(store) = &self.ground else {
            return Err(Error::plan("a driver on a disk takes no snapshots"));
        };
        self.snapshot = Some(store.fork());
        self.log.note("snapshot".to_owned());
        Ok(())
    }

    /// Crashes, and goes on from the last [`snapshot`](Self::snapshot), which may be older than
    /// the last commit: what sinks were sent after it is taken back.
    ///
    /// # Errors
    /// As [`restart`](Self::restart), and where no snapshot was taken.
    pub fn restore_snapshot(&mut self) -> Result<(), Error> {
        let Some(snapshot) = &self.snapshot else {
            return Err(Error::plan("there is no snapshot"));
        };
        self.ground = Ground::Memory(Arc::new(snapshot.fork()));
        self.crash();
        self.store = self.ground.open()?;
        self.launch("restart from the snapshot")
    }
}
