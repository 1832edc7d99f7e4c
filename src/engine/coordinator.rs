//! The coordinator: opens ticks, gathers seals, makes commits. It does no I/O of its own and
//! never blocks: live flows and test drivers drive the same one.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender};

use highwater_state::Changes;
use highwater_state::planted::planted;
use timely::scheduling::SyncActivator;

use super::align::{Alignment, Wanted};
use super::assembly::{Assembly, CommitLane};
pub(super) use super::parts::Parts;
use super::pressure::Pressure;
use super::shared::{
    Control, Event, OperatorSeal, Poison, PollReport, ReadOrder, TickInfo, TickOpen, WorkerSeal,
};
use super::sources::{Change, SourceState, any_more};
use super::totals::Totals;
use crate::error::Error;
use crate::flow::{Body, Plan};
use crate::metrics::Metrics;
use crate::settings::Settings;
use crate::tick::{CommitDone, TickRecord};
use crate::time::Tick;
use crate::time::clock::Clock;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Running,
    /// No tick will read any more; the last one is opened when all others are sealed.
    Closing {
        finished: bool,
    },
    /// The last tick is open, or its commit is under way.
    Last,
    Done,
}

pub(super) struct Coordinator {
    pub(super) plan: Arc<Plan>,
    settings: Settings,
    clock: Arc<dyn Clock>,
    lane: Box<dyn CommitLane>,
    pub(super) poison: Poison,
    controls: Vec<Sender<Control>>,
    activators: Vec<Option<SyncActivator>>,
    sources: Vec<SourceState>,
    alignment: Alignment,
    /// The record of the last commit, with what belongs to the whole flow.
    record: TickRecord,
    next_tick: u64,
    open: BTreeMap<u64, OpenTick>,
    /// A tick since the last commit tick changed something.
    dirty: bool,
    commit_in_flight: bool,
    /// The commit that is being put together, if one is.
    assembly: Assembly,
    last_commit_micros: i64,
    /// The last tick that was opened to be committed.
    last_commit_tick: u64,
    /// When a sink has output to make visible, on the tick clock.
    sinks_due_micros: Option<i64>,
    /// When an operator asked for a tick, on the tick clock.
    wake_at_micros: Option<i64>,
    phase: Phase,
    /// The last tick closes a flow whose input has ended.
    phase_finished: bool,
    pub(super) totals: Totals,
    /// How many operators each worker has that write out what they changed.
    operators: usize,
    pressure: Pressure,
}

struct OpenTick {
    clock_micros: i64,
    commit: bool,
    last: bool,
    polls_missing: usize,
    reports: Vec<PollReport>,
    seals: Vec<WorkerSeal>,
}

impl Coordinator {
    pub(super) fn new(parts: Parts) -> Self {
        let Parts { plan, store, settings, clock, sinks_due_micros, .. } = parts;
        let Parts { lane, poison, controls, mut sources, record, resumed, .. } = parts;
        let alignment = Alignment::new(&plan, &mut sources);
        let is_source = |node: &&crate::flow::Node| matches!(node.body, Body::Source(_));
        let operators = plan.nodes.len() - plan.nodes.iter().filter(is_source).count();
        let totals = Totals::new(&plan, &record, resumed);
        let pressure = Pressure::new(store, settings.commit_interval);
        let mut coordinator = Coordinator {
            activators: controls.iter().map(|_| None).collect(),
            next_tick: record.tick.0 + 1,
            last_commit_micros: clock.now_micros(),
            last_commit_tick: record.tick.0,
            sinks_due_micros,
            plan,
            settings,
            clock,
            lane,
            poison,
            controls,
            sources,
            alignment,
            record,
            open: BTreeMap::new(),
            dirty: false,
            commit_in_flight: false,
            assembly: Assembly::default(),
            wake_at_micros: None,
            phase: Phase::Running,
            phase_finished: false,
            totals,
            operators,
            pressure,
        };
        for source in 0..coordinator.sources.len() {
            for index in 0..coordinator.sources[source].partitions.len() {
                if !coordinator.sources[source].partitions[index].record.removed {
                    coordinator.assign(source, index);
                }
            }
        }
        // Everything may have been read before the start, and only the end not committed.
        coordinator.react();
        coordinator
    }

    /// Gives a partition to the worker that reads it.
    fn assign(&self, source: usize, index: usize) {
        let info = &self.sources[source].partitions[index];
        let control = Control::Assign {
            source,
            partition: info.partition.clone(),
            resume: info.record.resume.clone(),
            ended: info.record.ended,
        };
        // A worker that is gone has said so, or will.
        let _ = self.controls[index % self.controls.len()].send(control);
    }

    pub(super) fn handle(&mut self, event: Event) -> Result<(), Error> {
        match event {
            Event::Ready { worker, activator } => {
                let _ = activator.activate();
                self.activators[worker] = Some(activator);
            }
            Event::Polled { tick, reports } => self.polled(tick, reports),
            Event::Sealed(seal) => self.sealed(*seal)?,
            Event::Captured { tick, changes } => self.captured(tick, changes)?,
            Event::Woken { source, partition } => self.woken(source, partition.as_deref())?,
            Event::Committed(done) => self.committed(&done),
            Event::Failed(error) => return Err(error),
            // That ticks may be opened is looked at after every event.
            Event::TailMoved => {}
            Event::Snapshot(reply) => self.lane.snapshot(reply),
            Event::Shutdown => self.stop(),
        }
        Ok(())
    }

    fn polled(&mut self, tick: u64, reports: Vec<PollReport>) {
        for report in &reports {
            self.sources[report.source].polled(tick, report);
        }
        if let Some(open) = self.open.get_mut(&tick) {
            open.polls_missing -= 1;
            open.reports.extend(reports);
        }
    }

    fn woken(&mut self, source: usize, partition: Option<&str>) -> Result<(), Error> {
        let last_opened = self.next_tick - 1;
        let state = &mut self.sources[source];
        if let Some(name) = partition
            && state.partition_woken(name, last_opened)
        {
            return Ok(());
        }
        state.woken(last_opened);
        let Some(listed) = state.list()? else { return Ok(()) };
        for change in state.relist(listed)? {
            match change {
                Change::Assign(index) => self.assign(source, index),
                Change::Release(index) => {
                    let control = Control::Release { source, partition: index as u32 };
                    let _ = self.controls[index % self.controls.len()].send(control);
                }
            }
        }
        // Perhaps all that was missing is the word that no partition will be added.
        self.react();
        Ok(())
    }

    fn sealed(&mut self, seal: WorkerSeal) -> Result<(), Error> {
        let tick = seal.tick;
        let Some(open) = self.open.get_mut(&tick) else {
            return Err(Error::bug(format!("tick {tick} was sealed without being open")));
        };
        for operator in seal.operators.iter().filter(|o| !o.news.is_empty()) {
            self.alignment.hear(&mut self.sources, operator.node, &operator.news);
        }
        open.seals.push(seal);
        if open.seals.len() < self.controls.len() {
            return Ok(());
        }
        let Some(mut open) = self.open.remove(&tick) else { return Ok(()) };
        open.seals.sort_by_key(|seal| seal.worker);
        for report in std::mem::take(&mut open.reports) {
            // It may move without an event.
            let moved = self.sources[report.source].sealed(report);
            self.dirty |= moved && tick > self.last_commit_tick;
        }
        self.seal(tick, open)
    }

    /// Every worker has sealed the tick.
    fn seal(&mut self, tick: u64, open: OpenTick) -> Result<(), Error> {
        let mut changed = false;
        self.totals.begin_tick(Tick(tick), open.clock_micros);
        self.wake_at_micros = None;
        for operator in open.seals.into_iter().flat_map(|seal| seal.operators) {
            let OperatorSeal { node, wake_at_micros, .. } = &operator;
            self.wake_at_micros = match (self.wake_at_micros, *wake_at_micros) {
                (Some(a), Some(b)) => Some(a.min(b)),
                (a, b) => a.or(b),
            };
            changed |= self.totals.add(&operator);
            let id = self.plan.nodes[*node].id.clone();
            if operator.promises.is_some() != open.commit {
                return Err(Error::bug("an operator captured in the wrong tick"));
            }
            for chunk in operator.chunks {
                let lane = &mut *self.lane;
                self.assembly.output(lane, &id, Tick(tick), chunk)?;
                self.pressure.output();
            }
            if let Some(list) = operator.promises {
                self.totals.note_promises(&id, list);
            }
        }
        // A tick before the last commit tick is covered by it.
        self.dirty |= changed && tick > self.last_commit_tick;
        if open.commit {
            self.record.tick = Tick(tick);
            self.record.clock_micros = open.clock_micros;
            self.record.commits += 1;
            self.record.finished = open.last && self.phase_finished;
            self.record.sources = self.sources.iter().map(SourceState::record).collect();
            self.sources.iter_mut().for_each(SourceState::commit_begins);
            self.record.operators = self.totals.records();
            self.assembly.sealed(self.record.clone(), open.last);
            self.commit_if_whole()?;
        }
        self.react();
        Ok(())
    }

    fn captured(&mut self, tick: u64, changes: Vec<Changes>) -> Result<(), Error> {
        self.assembly.captured(tick, changes)?;
        self.commit_if_whole()
    }

    /// Makes the commit once its tick is sealed and everything it changed is written out.
    fn commit_if_whole(&mut self) -> Result<(), Error> {
        // Looked at after the last seal: a commit needs every seal and no poison.
        if self.poison.is_set() {
            return Ok(());
        }
        let Some((job, held_back)) = self.assembly.take_whole() else { return Ok(()) };
        let changes = job.changes.len();
        tracing::debug!(tick = job.record.tick.0, changes, last = job.last, "committing");
        let now = self.clock.now_micros();
        self.totals.commit_started(now);
        self.pressure.commit_begins(now);
        let done = self.lane.commit(job)?;
        for (sink, tick, chunk) in held_back {
            self.lane.output(&sink, tick, chunk)?;
            self.pressure.output();
        }
        if let Some(done) = done {
            self.committed(&done);
        }
        Ok(())
    }

    fn committed(&mut self, done: &CommitDone) {
        self.commit_in_flight = false;
        self.pressure.commit_ends();
        self.sinks_due_micros = done.sinks_due_micros;
        tracing::debug!(tick = done.tick.0, "committed");
        self.totals.commit_done(done.tick, self.clock.now_micros());
        for source in &self.sources {
            // The record is not touched again before the next commit, so it still says what this
            // one made durable.
            if let Some(list) = self.record.sources.get(&*source.id) {
                source.committed(list);
            }
        }
        if done.last {
            self.totals.finished = self.record.finished;
            self.phase = Phase::Done;
        }
    }

    /// The input has ended: nothing is left but to commit it.
    fn react(&mut self) {
        let ended = self.sources.iter().all(SourceState::has_ended);
        if self.phase == Phase::Running && ended && self.open.is_empty() {
            self.phase = Phase::Closing { finished: true };
        }
    }

    /// Stops cleanly: what is open is sealed and committed, windows are not flushed.
    pub(super) fn stop(&mut self) {
        if self.phase == Phase::Running {
            self.phase = Phase::Closing { finished: planted("stop-flushes-windows") };
        }
    }

    pub(super) fn is_done(&self) -> bool {
        self.phase == Phase::Done
    }

    /// No tick is open, and no commit waits for anything.
    #[cfg(feature = "testing")]
    pub(super) fn is_quiet(&self) -> bool {
        self.open.is_empty() && (!self.assembly.is_begun() || self.poison.is_set())
    }

    pub(super) fn all_ready(&self) -> bool {
        self.activators.iter().all(Option::is_some)
    }

    /// When the next commit is due, on the tick clock.
    fn commit_due_micros(&self) -> Option<i64> {
        if self.commit_in_flight {
            return None;
        }
        let interval = i64::try_from(self.settings.commit_interval.as_micros()).unwrap_or(i64::MAX);
        let earliest = self.last_commit_micros.saturating_add(interval);
        let sinks = self.sinks_due_micros.map(|due| due.max(earliest));
        if self.dirty { Some(earliest) } else { sinks }
    }

    /// Opens every tick that is due now.
    pub(super) fn open_due_ticks(&mut self) {
        while self.open_due_tick() {}
    }

    fn open_due_tick(&mut self) -> bool {
        if !self.all_ready() || self.open.values().any(|open| open.polls_missing > 0) {
            return false;
        }
        if self.phase != Phase::Running {
            return self.open_closing_tick();
        }
        // A log that is full holds everything up: what a restart must replay stays bounded.
        let now = self.clock.now_micros();
        if self.open.len() >= self.settings.ticks_in_flight || self.pressure.holds_up(now) {
            return false;
        }
        let commit = self.commit_due_micros().is_some_and(|due| now >= due);
        let wake = self.wake_at_micros.is_some_and(|at| now >= at) && self.open.is_empty();
        if commit || wake || any_more(&self.sources) {
            self.open_tick(commit, false, None);
            return true;
        }
        false
    }

    /// Opens the last tick, once all others are sealed and committed.
    pub(super) fn open_closing_tick(&mut self) -> bool {
        let Phase::Closing { finished } = self.phase else { return false };
        if !self.open.is_empty() || self.commit_in_flight {
            return false;
        }
        self.phase_finished = finished;
        self.phase = Phase::Last;
        self.open_tick(true, true, None);
        true
    }

    /// When the next tick is due without data, on the tick clock.
    pub(super) fn next_due_micros(&self) -> Option<i64> {
        // Where no tick may be opened now, an event will say when it may.
        let full = self.open.len() >= self.settings.ticks_in_flight
            || self.open.values().any(|open| open.polls_missing > 0);
        let full = full || self.pressure.is_on(self.clock.now_micros());
        if full || self.phase != Phase::Running || !self.all_ready() {
            return None;
        }
        let wake = self.wake_at_micros.filter(|_| self.open.is_empty());
        self.commit_due_micros().into_iter().chain(wake).min()
    }

    /// Opens a tick on every worker. Partitions that `wanted` refuses, by source id and name, are
    /// not read.
    pub(super) fn open_tick(&mut self, commit: bool, last: bool, wanted: Option<Wanted<'_>>) {
        let tick = self.next_tick;
        self.next_tick += 1;
        let clock_micros = self.clock.now_micros();
        let reads: Arc<[ReadOrder]> = if last {
            Arc::new([])
        } else {
            let Settings { tick_max_events, tick_max_bytes, .. } = self.settings;
            self.alignment.divide(&mut self.sources, tick_max_events, tick_max_bytes, wanted)
        };
        if commit {
            self.commit_in_flight = true;
            self.assembly.begin(tick, self.operators * self.controls.len());
            self.dirty = false;
            self.last_commit_micros = clock_micros;
            self.last_commit_tick = tick;
        }
        let complete: Arc<[bool]> = self.sources.iter().map(|s| s.complete).collect();
        tracing::trace!(tick, commit, partitions = reads.len(), "opening a tick");
        let info = TickInfo { clock_micros, commit };
        for (control, activator) in self.controls.iter().zip(&self.activators) {
            let open = TickOpen { tick, info, reads: reads.clone(), complete: complete.clone() };
            // A worker that is gone has said so, or will.
            let _ = control.send(Control::Tick(open));
            if let Some(activator) = activator {
                let _ = activator.activate();
            }
        }
        let open = OpenTick {
            clock_micros,
            commit,
            last,
            polls_missing: self.controls.len(),
            reports: Vec::new(),
            seals: Vec::new(),
        };
        self.open.insert(tick, open);
    }

    /// Tells the sources that nothing more will be committed.
    pub(super) fn detach_sources(&self) {
        self.sources.iter().for_each(SourceState::detach);
    }

    /// Tells every worker to tear its dataflow down.
    pub(super) fn stop_workers(&mut self, inbox: &Receiver<Event>) {
        for control in &self.controls {
            let _ = control.send(Control::Stop);
        }
        // IMPORTANT: only now. A worker says that it is ready before it looks for messages the
        // first time, so it either finds the one above or is found here, and cannot sleep on.
        while let Ok(event) = inbox.try_recv() {
            if let Event::Ready { worker, activator } = event {
                self.activators[worker] = Some(activator);
            }
        }
        for activator in self.activators.iter().flatten() {
            let _ = activator.activate();
        }
    }

    pub(super) fn metrics(&self) -> Metrics {
        let mut metrics = self.totals.metrics(&self.plan);
        self.pressure.tell(self.clock.now_micros(), &mut metrics);
        metrics
    }
}
