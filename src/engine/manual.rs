//! The same engine, one worker, stepped by hand on the calling thread: for test drivers.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::mpsc::{self, Receiver};
use std::sync::{Arc, Mutex, PoisonError};

use timely::communication::Allocator;
use timely::communication::allocator::Thread;

use highwater_state::Store;

use super::assembly::CommitLane;
use super::coordinator::{Coordinator, Parts};
use super::shared::{Event, Poison, Progress};
use super::start;
use super::worker::{RunningWorker, WorkerStart};
use crate::error::Error;
use crate::flow::Plan;
use crate::handle::Reply;
use crate::metrics::Metrics;
use crate::settings::Settings;
use crate::sink::Chunk;
use crate::tick::{CommitDone, CommitJob, Committer};
use crate::time::clock::Clock;
use crate::time::{Span, Tick};

/// A clock that moves when it is told to.
#[derive(Default)]
pub(crate) struct ManualClock(AtomicI64);

impl ManualClock {
    pub(crate) fn advance(&self, span: Span) {
        self.0.fetch_add(span.as_micros(), Ordering::SeqCst);
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

    fn snapshot(&mut self, _: Option<Reply>) {}
}

/// A flow between two crashes.
pub(crate) struct ManualEngine {
    worker: RunningWorker,
    coordinator: Coordinator,
    inbox: Receiver<Event>,
}

impl ManualEngine {
    pub(crate) fn start(
        plan: Arc<Plan>,
        settings: Settings,
        store: Arc<dyn Store>,
        clock: Arc<dyn Clock>,
        collected: Option<Collected>,
    ) -> Result<Self, Error> {
        let (events, inbox) = mpsc::channel();
        let (mut record, resumed) = start::read_record(&*store, &plan)?;
        let sources = start::list_sources(&plan, &record, resumed, &events)?;
        let sinks = match &collected {
            Some(_) => BTreeMap::new(),
            None => start::open_sinks(&plan, &record)?,
        };
        start::commit_start(&*store, &plan, &mut record, &sources)?;
        // What was sent after the last commit died with the process.
        if let Some(collected) = &collected {
            let mut collected = collected.lock().unwrap_or_else(PoisonError::into_inner);
            for chunks in collected.values_mut() {
                chunks.retain(|(tick, _)| *tick <= record.tick);
            }
        }
        let poison = Poison::new(events.clone());
        let progress = Arc::new(Progress::default());
        let (control_sender, control) = mpsc::channel();
        let worker_start = WorkerStart {
            plan: plan.clone(),
            store: store.clone(),
            record: Arc::new(record.clone()),
            control,
            events,
            poison: poison.clone(),
            progress: progress.clone(),
            memory_limit: settings.hot_memory(),
            collect: collected.is_some(),
        };
        let worker = RunningWorker::build(Allocator::Thread(Thread::default()), worker_start)?;
        let committer = Committer::new(store.clone(), sinks, progress.committed.clone());
        let coordinator = Coordinator::new(Parts {
            plan,
            store: store.clone(),
            settings,
            clock,
            lane: Box::new(InlineLane { committer, collected, store }),
            poison,
            controls: vec![control_sender],
            sources,
            record,
            resumed,
        });
        let mut engine = ManualEngine { worker, coordinator, inbox };
        engine.hear()?;
        Ok(engine)
    }

    fn hear(&mut self) -> Result<(), Error> {
        while let Ok(event) = self.inbox.try_recv() {
            self.coordinator.handle(event)?;
        }
        Ok(())
    }

    /// Runs one tick to its end, and the last one too if the input has ended.
    pub(crate) fn tick(&mut self, commit: bool) -> Result<(), Error> {
        self.hear()?;
        if self.coordinator.poison.is_set() {
            let message = "the flow has failed: `crash_and_restart` goes on from the last commit";
            return Err(Error::plan(message));
        }
        if self.coordinator.is_done() {
            return Ok(());
        }
        self.coordinator.open_tick(commit, false);
        self.finish_open()?;
        if self.coordinator.open_closing_tick() {
            self.finish_open()?;
        }
        Ok(())
    }

    fn finish_open(&mut self) -> Result<(), Error> {
        while !self.coordinator.is_quiet() {
            self.worker.step(false);
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
}
