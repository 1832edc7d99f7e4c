//! The same engine, stepped by hand: for test drivers.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::mpsc::{self, Receiver};
use std::sync::{Arc, Mutex, PoisonError};

use highwater_state::Store;

use super::align::Wanted;
use super::assembly::CommitLane;
use super::coordinator::{Coordinator, Parts};
use super::dice::Dice;
use super::shared::{Event, Poison, Progress};
use super::start;
use super::stepped::Workers;
use super::worker::WorkerStart;
use crate::error::Error;
use crate::flow::Plan;
use crate::handle::Reply;
use crate::metrics::Metrics;
use crate::settings::Settings;
use crate::sink::Chunk;
use crate::tick::outbox::Outbox;
use crate::tick::{CommitDone, CommitJob, Committer};
use crate::time::clock::Clock;
use crate::time::{EventTime, Span, Tick};

/// A clock that moves when it is told to.
#[derive(Default)]
pub(crate) struct ManualClock(AtomicI64);

impl ManualClock {
    pub(crate) fn advance(&self, span: Span) {
        self.0.fetch_add(span.as_micros(), Ordering::SeqCst);
    }

    pub(crate) fn now(&self) -> EventTime {
        EventTime::from_micros(self.now_micros())
    }
}

impl Clock for ManualClock {
    fn now_micros(&self) -> i64 {
        self.0.load(Ordering::SeqCst)
    }
}

/// By sink id, what was sent in which tick.
pub(crate) type Collected = Arc<Mutex<BTreeMap<String, Vec<(Tick, Chunk)>>>>;

struct InlineLane {
    committer: Committer,
    /// Where rows go as they are, instead of to the sinks.
    collected: Option<Collected>,
    store: Arc<dyn Store>,
}

impl CommitLane for InlineLane {
    fn output(&mut self, sink: &str, tick: Tick, chunk: Chunk) -> Result<(), Error> {
        let Some(collected) = &self.collected else {
            return self.committer.output(sink, tick, chunk);
        };
        let mut collected = collected.lock().unwrap_or_else(PoisonError::into_inner);
        collected.entry(sink.to_owned()).or_default().push((tick, chunk));
        Ok(())
    }

    fn commit(&mut self, job: CommitJob) -> Result<Option<CommitDone>, Error> {
        let done = self.committer.commit(job)?;
        while self.store.maintain(false)? {}
        Ok(Some(done))
    }

    fn snapshot(&mut self, _: Reply) {}
}

/// A flow between two crashes.
pub(crate) struct ManualEngine {
    // Dropped first: a crash is the end of the workers.
    workers: Workers,
    coordinator: Coordinator,
    inbox: Receiver<Event>,
}

/// What a flow is started with.
pub(crate) struct Ground {
    pub(crate) plan: Arc<Plan>,
    pub(crate) settings: Settings,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) clock: Arc<dyn Clock>,
    /// Where rows go as they are; without it the sinks are opened.
    pub(crate) collected: Option<Collected>,
    /// Bytes of state that may be in memory.
    pub(crate) memory_limit: usize,
}

impl ManualEngine {
    pub(crate) fn start(ground: Ground) -> Result<Self, Error> {
        let Ground { plan, settings, store, clock, collected, memory_limit } = ground;
        let (events, inbox) = mpsc::channel();
        let (mut record, resumed) = start::read_record(&*store, &plan)?;
        let sources = start::list_sources(&plan, &record, resumed, &events)?;
        let mut outbox = Outbox::default();
        let sinks = match &collected {
            Some(_) => BTreeMap::new(),
            None => start::open_sinks(&*store, &plan, &record, &mut outbox)?,
        };
        start::commit_start(&*store, &plan, &mut record, &sources, &mut outbox)?;
        // What was sent after the last commit died with the process.
        if let Some(collected) = &collected {
            let mut collected = collected.lock().unwrap_or_else(PoisonError::into_inner);
            for chunks in collected.values_mut() {
                chunks.retain(|(tick, _)| *tick <= record.tick);
            }
        }
        let poison = Poison::new(events.clone());
        let progress = Arc::new(Progress::default());
        let (mut controls, mut starts) = (Vec::new(), Vec::new());
        let shared_record = Arc::new(record.clone());
        for _ in 0..settings.workers {
            let (sender, control) = mpsc::channel();
            controls.push(sender);
            starts.push(WorkerStart {
                plan: plan.clone(),
                store: store.clone(),
                record: shared_record.clone(),
                control,
                events: events.clone(),
                poison: poison.clone(),
                progress: progress.clone(),
                memory_limit,
                collect: collected.is_some(),
            });
        }
        let workers = Workers::build(starts)?;
        let committer = Committer::new(store.clone(), sinks, progress.committed.clone());
        let sinks_due_micros = committer.sinks_due_micros()?;
        let coordinator = Coordinator::new(Parts {
            plan,
            store: store.clone(),
            settings,
            clock,
            lane: Box::new(InlineLane { committer, collected, store }),
            poison,
            controls,
            sources,
            record,
            resumed,
            sinks_due_micros,
        });
        let mut engine = ManualEngine { workers, coordinator, inbox };
        engine.hear()?;
        Ok(engine)
    }

    fn hear(&mut self) -> Result<(), Error> {
        while let Ok(event) = self.inbox.try_recv() {
            self.coordinator.handle(event)?;
        }
        Ok(())
    }

    /// Whether a tick may be opened: not in a flow that has finished.
    fn may_open(&mut self) -> Result<bool, Error> {
        self.hear()?;
        if self.coordinator.poison.is_set() {
            let message = "the flow has failed: `crash_and_restart` goes on from the last commit";
            return Err(Error::plan(message));
        }
        Ok(!self.coordinator.is_done())
    }

    /// Runs one tick to its end, and the last one too if the input has ended. Without
    /// `partitions`, all are read.
    pub(crate) fn tick(
        &mut self,
        commit: bool,
        partitions: Option<Wanted<'_>>,
        dice: &mut Dice,
    ) -> Result<(), Error> {
        if !self.may_open()? {
            return Ok(());
        }
        self.coordinator.open_tick(commit, false, partitions);
        self.finish_open(dice)?;
        if self.coordinator.open_closing_tick() {
            self.finish_open(dice)?;
        }
        Ok(())
    }

    /// Opens a tick and lets the workers take so many steps in it: what a crash in the middle
    /// of a tick finds.
    pub(crate) fn begin_tick(
        &mut self,
        commit: bool,
        steps: usize,
        dice: &mut Dice,
    ) -> Result<(), Error> {
        if !self.may_open()? {
            return Ok(());
        }
        self.coordinator.open_tick(commit, false, None);
        for _ in 0..steps {
            if self.coordinator.is_quiet() {
                return Ok(());
            }
            self.workers.step(dice)?;
            self.hear()?;
        }
        Ok(())
    }

    fn finish_open(&mut self, dice: &mut Dice) -> Result<(), Error> {
        while !self.coordinator.is_quiet() {
            self.workers.step(dice)?;
            self.hear()?;
        }
        Ok(())
    }

    pub(crate) fn is_done(&self) -> bool {
        self.coordinator.is_done()
    }

    pub(crate) fn metrics(&self) -> Metrics {
        self.coordinator.metrics()
    }

    /// The metrics without those of partitions.
    pub(crate) fn progress(&self) -> Metrics {
        self.coordinator.totals.progress(&self.coordinator.plan)
    }
}
