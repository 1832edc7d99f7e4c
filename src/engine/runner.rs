//! Runs one operator's logic inside timely: keeps input by tick, ends ticks by counting the
//! senders that have said so, and sends what the logic put into its outbox.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use timely::container::NoopBuilder;
use timely::dataflow::channels::pact::{DistributorPact, Pipeline};
use timely::dataflow::operators::generic::OutputBuilder;
use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;
use timely::dataflow::operators::{Capability, InputCapability};
use timely::dataflow::{Scope, Stream};
use timely::progress::operate::FrontierInterest;

use highwater_state::Changes;
use highwater_state::planted::planted;

use super::parcel::{Body, ByTarget, Parcel, TickEnd};
use super::pending::{Pending, Right};
use super::shared::{Event, OperatorSeal, WorkerShared};
use crate::error::Error;
use crate::event::Rows;
use crate::operator::{Cx, Logic, user_panic};
use crate::time::{Span, Tick, Watermark};

/// Entries that are written out between two batches: about 100 µs of work.
const CAPTURE_ENTRIES: usize = 2048;

/// Rows after which an operator looks at the memory of its state.
const MEMORY_ROWS: usize = 16_384;

pub(super) type Output = OutputBuilder<u64, NoopBuilder<Parcel>>;

/// How an operator is wired: its inputs with their senders, its outputs with their receivers.
pub(super) struct Wiring<'s> {
    pub(super) inputs: Vec<(Stream<'s, u64, Parcel>, bool)>,
    /// Per output port: whether batches name their worker, and whether anybody listens.
    pub(super) outputs: Vec<(bool, bool)>,
}

pub(super) struct Runner {
    node: usize,
    id: Arc<str>,
    logic: Box<dyn Logic>,
    shared: Rc<WorkerShared>,
    cx: Cx,
    /// How many ends make the end of a tick: one per sender of each input.
    senders: usize,
    /// The lowest tick that has not ended here: state is touched for this one only.
    open: u64,
    watermark: Watermark,
    /// Its watermark is its own: committed, and never behind what it said before.
    stateful: bool,
    ticks: BTreeMap<u64, Pending>,
    /// The lowest tick, whose end takes the operator more than one turn.
    ending: Option<Pending>,
    exchanges: Vec<bool>,
    /// The last tick that was captured, until its commit is known to be durable.
    uncommitted: Option<u64>,
    /// What has been written out of the tick that is being captured.
    capturing: Option<(u64, Vec<Changes>)>,
    /// Rows since memory was last looked at, and what was found then.
    rows_since: usize,
    memory: usize,
    /// It failed: everything that still comes is thrown away.
    failed: bool,
}

/// What is restored of an operator before its first tick.
pub(super) struct Restored {
    pub(super) open: u64,
    pub(super) watermark: Watermark,
    pub(super) stateful: bool,
}

impl Runner {
    pub(super) fn new(
        node: usize,
        id: Arc<str>,
        logic: Box<dyn Logic>,
        shared: Rc<WorkerShared>,
        restored: Restored,
    ) -> Self {
        Runner {
            node,
            id,
            logic,
            shared,
            cx: Cx::new(Vec::new()),
            senders: 0,
            open: restored.open,
            watermark: restored.watermark,
            stateful: restored.stateful,
            ticks: BTreeMap::new(),
            ending: None,
            exchanges: Vec::new(),
            uncommitted: None,
            capturing: None,
            rows_since: 0,
            memory: 0,
            failed: false,
        }
    }

    /// Builds the timely operator around this runner and returns its output streams.
    pub(super) fn install<'s>(
        mut self,
        scope: Scope<'s, u64>,
        wiring: Wiring<'s>,
    ) -> Vec<Stream<'s, u64, Parcel>> {
        let mut builder = OperatorBuilder::new(self.id.to_string(), scope);
        let mut local = Vec::new();
        let mut exchanged = Vec::new();
        for (index, (stream, exchange)) in wiring.inputs.into_iter().enumerate() {
            if exchange {
                self.senders += self.shared.peers;
                exchanged.push((index, builder.new_input(stream, DistributorPact(|_| ByTarget))));
            } else {
                self.senders += 1;
                local.push((index, builder.new_input(stream, Pipeline)));
            }
            builder.set_notify_for(index, FrontierInterest::Never);
        }
        let mut outputs = Vec::new();
        let mut streams = Vec::new();
        for (exchange, listened) in wiring.outputs {
            let (output, stream) = builder.new_output::<Parcel>();
            outputs.push(Output::from(output));
            streams.push(stream);
            self.exchanges.push(exchange);
            self.cx.listened.push(listened);
        }
        let address = builder.operator_info().address;
        let wake = scope.worker().sync_activator_for(address.to_vec());
        self.logic.attach(Arc::new(move || {
            // A worker that is gone has nothing left to look at.
            let _ = wake.activate();
        }));
        let activator = scope.activator_for(address);
        builder.build(move |capabilities| {
            drop(capabilities);
            move |_frontiers| {
                let ending = self.ending.is_some();
                self.capture_more();
                for (index, input) in &mut local {
                    input.for_each(|cap, parcel| self.receive(*index, &cap, parcel, &mut outputs));
                }
                for (index, input) in &mut exchanged {
                    input.for_each(|cap, parcel| self.receive(*index, &cap, parcel, &mut outputs));
                }
                self.resume(ending, &mut outputs);
                if self.is_busy() {
                    activator.activate();
                }
            }
        });
        streams
    }

    fn receive(
        &mut self,
        input: usize,
        cap: &InputCapability<u64>,
        parcel: &mut Parcel,
        outputs: &mut [Output],
    ) {
        let Some(&tick) = cap.least() else { return };
        let body = std::mem::take(&mut parcel.body);
        if self.failed || self.shared.poison.is_set() {
            return;
        }
        if let Err(error) = self.handle(input, tick, cap, body, outputs)
            && !planted("error-swallowed")
        {
            self.failed = true;
            self.shared.poison.fail(error.in_operator(&self.id));
        }
    }

    fn handle(
        &mut self,
        input: usize,
        tick: u64,
        cap: &InputCapability<u64>,
        body: Body,
        outputs: &mut [Output],
    ) -> Result<(), Error> {
        match body {
            Body::Taken => Err(Error::bug("an empty parcel was sent")),
            Body::Rows(rows) if tick == self.open => {
                self.batch(input, rows)?;
                self.send(&Right::Input(cap), outputs);
                Ok(())
            }
            Body::Rows(rows) => {
                let pending = self.ticks.entry(tick).or_default();
                pending.keep(cap, outputs.len());
                pending.early.push((input, rows));
                Ok(())
            }
            Body::End(end) => {
                let pending = self.ticks.entry(tick).or_default();
                pending.hear(end);
                if pending.ends < self.senders {
                    return Ok(());
                }
                if tick == self.open && self.is_ready()? {
                    self.end_tick(&Right::Input(cap), outputs)?;
                    if let Some(ending) = &mut self.ending {
                        ending.keep(cap, outputs.len());
                    }
                    return Ok(());
                }
                // It waits for the operator itself, or for a tick that does.
                self.ticks.entry(tick).or_default().keep(cap, outputs.len());
                Ok(())
            }
        }
    }

    /// Whether it has to have another turn.
    fn is_busy(&self) -> bool {
        let busy = self.capturing.is_some() || self.ending.is_some();
        busy && !self.failed && !self.shared.poison.is_set()
    }

    /// Goes on with a tick that was `ending` before this turn, and ends those that have waited for
    /// the operator, if it is ready now.
    fn resume(&mut self, ending: bool, outputs: &mut [Output]) {
        if self.failed || self.shared.poison.is_set() {
            return;
        }
        if let Err(error) = self.end_ready(ending, outputs) {
            self.failed = true;
            self.shared.poison.fail(error.in_operator(&self.id));
        }
    }

    fn end_ready(&mut self, ending: bool, outputs: &mut [Output]) -> Result<(), Error> {
        if let Some(pending) = self.ending.as_mut().filter(|_| ending) {
            let kept = std::mem::take(&mut pending.capabilities);
            self.go_on_ending(&Right::Kept(&kept), outputs)?;
            self.keep_ending(kept);
        }
        let senders = self.senders;
        while self.ticks.get(&self.open).is_some_and(|pending| pending.ends == senders)
            && self.is_ready()?
        {
            let pending = self.ticks.get_mut(&self.open);
            let kept = pending.map(|p| std::mem::take(&mut p.capabilities)).unwrap_or_default();
            self.end_tick(&Right::Kept(&kept), outputs)?;
            self.keep_ending(kept);
        }
        Ok(())
    }

    /// A tick that has not ended needs the right to send in it.
    fn keep_ending(&mut self, kept: Vec<Capability<u64>>) {
        if let Some(ending) = &mut self.ending {
            ending.capabilities = kept;
        }
    }

    /// Whether the operator can end its lowest tick, of which all input is in.
    fn is_ready(&mut self) -> Result<bool, Error> {
        self.cx.tick = Tick(self.open);
        self.cx.clock_micros = self.shared.info(self.open).clock_micros;
        let (logic, cx) = (&mut self.logic, &self.cx);
        catch_unwind(AssertUnwindSafe(|| logic.is_ready(cx)))
            .unwrap_or_else(|panic| Err(user_panic(&*panic, &self.id)))
    }

    fn batch(&mut self, input: usize, rows: Box<dyn Rows>) -> Result<(), Error> {
        self.cx.tick = Tick(self.open);
        self.cx.before = self.watermark;
        self.cx.now = self.watermark;
        self.cx.clock_micros = self.shared.info(self.open).clock_micros;
        self.rows_since += rows.row_count();
        self.note_commit();
        let (logic, cx) = (&mut self.logic, &mut self.cx);
        catch_unwind(AssertUnwindSafe(|| logic.batch(input, rows, cx)))
            .unwrap_or_else(|panic| Err(user_panic(&*panic, &self.id)))
    }

    /// All senders have ended the tick.
    fn end_tick(&mut self, right: &Right<'_>, outputs: &mut [Output]) -> Result<(), Error> {
        let tick = self.open;
        let pending = self.ticks.remove(&tick).unwrap_or_default();
        let info = self.shared.info(tick);
        self.cx.tick = Tick(tick);
        self.cx.clock_micros = info.clock_micros;
        self.cx.before = self.watermark;
        self.watermark = pending.summary.advance(self.watermark);
        self.cx.now = self.watermark;
        self.cx.readings = pending.readings.clone();
        self.cx.summary = None;
        self.cx.behind = Span::ZERO;
        self.cx.largest = pending.largest;
        self.cx.wake_at_micros = None;
        self.note_commit();
        self.ending = Some(pending);
        self.go_on_ending(right, outputs)
    }

    /// Ends the tick, or a part of it: what is behind the operator is to have its turn then.
    fn go_on_ending(&mut self, right: &Right<'_>, outputs: &mut [Output]) -> Result<(), Error> {
        let (logic, cx) = (&mut self.logic, &mut self.cx);
        catch_unwind(AssertUnwindSafe(|| logic.tick_end(cx)))
            .unwrap_or_else(|panic| Err(user_panic(&*panic, &self.id)))?;
        if std::mem::take(&mut self.cx.again) {
            self.send(right, outputs);
            return Ok(());
        }
        let Some(pending) = self.ending.take() else { return Ok(()) };
        let (tick, commit) = (self.open, self.shared.info(self.open).commit);
        // What was heard of the source itself counts beside what its partitions promise.
        self.cx.summary = self.cx.summary.map(|summary| summary.merge(pending.summary));
        self.send(right, outputs);
        let end = TickEnd {
            summary: match self.cx.summary {
                Some(summary) => summary,
                None if self.stateful => {
                    pending.summary.downstream(self.watermark).behind(self.cx.behind)
                }
                // Nothing is held back here, so nothing is to be said but what was heard.
                None => pending.summary,
            },
            largest: self.cx.largest,
            // Only what leads up to `event_time` passes on what the source read.
            readings: pending.readings.filter(|_| self.cx.summary.is_none()),
        };
        self.send_end(right, outputs, &end);
        if commit {
            self.begin_capture(tick)?;
        }
        self.seal(tick, commit);
        self.mind_memory();
        self.open = tick + 1;
        self.take_early(outputs)
    }

    fn seal(&mut self, tick: u64, commit: bool) {
        let mut counters = std::mem::take(&mut self.cx.counters);
        counters.held = self.logic.held();
        let watermark = match self.cx.summary {
            // The watermark of `event_time` is what it says downstream.
            Some(summary) => summary.advance(Watermark::Unknown),
            None => self.watermark,
        };
        let seal = OperatorSeal {
            node: self.node,
            watermark,
            counters,
            entries: self.logic.entries(),
            wake_at_micros: self.cx.wake_at_micros,
            chunks: std::mem::take(&mut self.cx.chunks),
            promises: commit.then(|| self.logic.promises()),
            news: self.logic.news(),
        };
        self.shared.operator_ended(tick, seal);
    }

    /// The tick that has just ended is committed: what it changed is written out from now on.
    fn begin_capture(&mut self, tick: u64) -> Result<(), Error> {
        if self.capturing.is_some() || self.uncommitted.is_some() {
            return Err(Error::bug("a capture began before the commit of the last one"));
        }
        self.logic.begin_capture();
        self.capturing = Some((tick, Vec::new()));
        self.capture()
    }

    /// Goes on with a capture between two batches.
    fn capture_more(&mut self) {
        if self.capturing.is_none() || self.failed || self.shared.poison.is_set() {
            return;
        }
        if let Err(error) = self.capture() {
            self.failed = true;
            self.shared.poison.fail(error.in_operator(&self.id));
        }
    }

    fn capture(&mut self) -> Result<(), Error> {
        let Some((tick, changes)) = &mut self.capturing else { return Ok(()) };
        let (logic, id, mut budget) = (&mut self.logic, &self.id, CAPTURE_ENTRIES);
        let done = catch_unwind(AssertUnwindSafe(|| logic.capture(id, &mut budget, changes)))
            .unwrap_or_else(|panic| Err(user_panic(&*panic, &self.id)))?;
        if done {
            let tick = *tick;
            let changes = self.capturing.take().map(|(_, changes)| changes).unwrap_or_default();
            self.uncommitted = Some(tick);
            let _ = self.shared.events.send(Event::Captured { tick, changes });
        }
        Ok(())
    }

    /// Tells the logic when what it wrote out has become durable.
    fn note_commit(&mut self) {
        let committed = self.shared.progress.committed.load(Ordering::Acquire);
        if self.uncommitted.is_some_and(|tick| tick <= committed) {
            self.uncommitted = None;
            self.logic.committed();
            // Now much may be forgotten.
            self.rows_since = MEMORY_ROWS;
        }
    }

    /// Forgets state that the store holds, if there is too much in memory: in proportion to
    /// this operator's part of it.
    fn mind_memory(&mut self) {
        // While a commit is under way nothing can be forgotten.
        let busy = self.capturing.is_some() || self.uncommitted.is_some();
        if busy || self.rows_since < MEMORY_ROWS {
            return;
        }
        self.rows_since = 0;
        let progress = &self.shared.progress;
        let now = self.logic.memory();
        progress.memory.fetch_sub(std::mem::replace(&mut self.memory, now), Ordering::Relaxed);
        let total = progress.memory.fetch_add(now, Ordering::Relaxed) + now;
        let excess = total.saturating_sub(self.shared.memory_limit);
        if excess > 0 {
            let part = excess as f64 * (now as f64 / total as f64);
            self.logic.evict(part as usize + 1);
        }
    }

    /// Takes in what came of the tick that is now the lowest, before its turn.
    fn take_early(&mut self, outputs: &mut [Output]) -> Result<(), Error> {
        let Some(pending) = self.ticks.get_mut(&self.open) else { return Ok(()) };
        let early = std::mem::take(&mut pending.early);
        let kept = std::mem::take(&mut pending.capabilities);
        for (input, rows) in early {
            self.batch(input, rows)?;
            self.send(&Right::Kept(&kept), outputs);
        }
        // The tick's end may have come already, where the tick before had to wait.
        if let Some(pending) = self.ticks.get_mut(&self.open)
            && pending.ends == self.senders
        {
            pending.capabilities = kept;
        }
        Ok(())
    }

    fn send(&mut self, right: &Right<'_>, outputs: &mut [Output]) {
        for parcel in self.cx.outbox.drain(..) {
            right.give(outputs, parcel.port, parcel.target, Body::Rows(parcel.rows));
        }
    }

    fn send_end(&self, right: &Right<'_>, outputs: &mut [Output], end: &TickEnd) {
        for port in 0..outputs.len() {
            let receivers = if self.exchanges[port] { self.shared.peers } else { 1 };
            for target in 0..receivers {
                right.give(outputs, port, target, Body::End(end.clone()));
            }
        }
    }
}
