//! The head of the dataflow: opens ticks on a worker and reads its partitions.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc::Receiver;

use timely::dataflow::operators::Capability;
use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;
use timely::dataflow::{Scope, Stream};

use super::parcel::{Body, Parcel, TickEnd};
use super::pending::give;
use super::runner::Output;
use super::shared::{Control, Event, OperatorSeal, PollReport, TickOpen, WorkerShared};
use crate::error::Error;
use crate::event::{BATCH_ROWS, Batch, Origin, Partition};
use crate::flow::{AnyReader, AnySource};
use crate::operator::{Counters, Reading, user_panic};
use crate::source::{ReadState, Resume};
use crate::time::{Outcome, Summary, Watermark};

/// One source of the plan, with the partitions of it that this worker reads.
pub(super) struct IngestSource {
    pub(super) node: usize,
    pub(super) id: Arc<str>,
    pub(super) source: Arc<dyn AnySource>,
    pub(super) listened: [bool; 2],
    pub(super) partitions: Partitions,
}

/// The partitions of a source that this worker reads or has read.
#[derive(Default)]
pub(super) struct Partitions {
    open: Vec<OpenPartition>,
    /// From a partition's index to its place.
    places: hashbrown::HashMap<u32, usize>,
    /// What is to be said of partitions in the next tick, beside what is read.
    news: Vec<(usize, Outcome)>,
}

struct OpenPartition {
    partition: Arc<Partition>,
    /// `None` once the partition has ended or is gone.
    reader: Option<Box<dyn AnyReader>>,
    /// What has been read.
    resume: Resume,
    /// What was said last.
    ended: bool,
    /// When it was read last, it could not be told whether there was more.
    unknown: bool,
}

/// A tick that is being read, in turns: what is behind this operator has its turn after each, so
/// that rows go through the whole dataflow while they lie in the processor's cache.
struct Intake {
    open: TickOpen,
    /// The source that is being read.
    source: usize,
    /// The next of all orders.
    order: usize,
    /// The order before it, if it is not done.
    underway: Option<Underway>,
    /// What there is to say of the source.
    outcomes: Vec<(usize, Outcome)>,
    counters: Counters,
    reports: Vec<PollReport>,
    seals: Vec<OperatorSeal>,
}

/// An order of which something is left to be read.
struct Underway {
    place: usize,
    left: usize,
    /// It has brought something.
    brought: bool,
}

pub(super) struct Ingest {
    intake: Option<Intake>,
    sources: Vec<IngestSource>,
    control: Receiver<Control>,
    shared: Rc<WorkerShared>,
    outputs: Vec<[Output; 2]>,
    capabilities: Vec<[Capability<u64>; 2]>,
}

/// A source's rows and its dead letters.
pub(super) type SourceStreams<'s> = [Stream<'s, u64, Parcel>; 2];

/// Installs the ingest operator; returns its address and, per source, its two streams.
pub(super) fn install<'s>(
    scope: Scope<'s, u64>,
    sources: Vec<IngestSource>,
    control: Receiver<Control>,
    shared: Rc<WorkerShared>,
    first_tick: u64,
) -> (Rc<[usize]>, Vec<SourceStreams<'s>>) {
    let mut builder = OperatorBuilder::new("ingest".to_owned(), scope);
    let address = builder.operator_info().address;
    let activator = scope.activator_for(address.clone());
    let mut outputs = Vec::new();
    let mut streams = Vec::new();
    for _ in &sources {
        let (rows, row_stream) = builder.new_output::<Parcel>();
        let (dead, dead_stream) = builder.new_output::<Parcel>();
        outputs.push([Output::from(rows), Output::from(dead)]);
        streams.push([row_stream, dead_stream]);
    }
    builder.build(move |capabilities| {
        let mut capabilities = capabilities.into_iter();
        let mut pairs = Vec::new();
        while let (Some(mut rows), Some(mut dead)) = (capabilities.next(), capabilities.next()) {
            rows.downgrade(&first_tick);
            dead.downgrade(&first_tick);
            pairs.push([rows, dead]);
        }
        let (intake, capabilities) = (None, pairs);
        let mut ingest = Ingest { intake, sources, control, shared, outputs, capabilities };
        move |_frontiers| {
            if ingest.schedule() {
                activator.activate();
            }
        }
    });
    (address, streams)
}

impl Ingest {
    /// Does what it can do in one turn; returns whether it must have another.
    fn schedule(&mut self) -> bool {
        loop {
            if self.shared.poison.is_set() {
                self.intake = None;
            }
            let result = match self.intake.take() {
                Some(intake) => self.read_on(intake),
                None => match self.control.try_recv() {
                    Ok(control) => self.obey(control),
                    Err(_) => return false,
                },
            };
            if let Err(error) = result {
                self.shared.poison.fail(error);
            }
            if self.shared.stopped.get() || self.intake.is_some() {
                return self.intake.is_some();
            }
        }
    }

    fn obey(&mut self, control: Control) -> Result<(), Error> {
        match control {
            Control::Stop => self.shared.stopped.set(true),
            _ if self.shared.poison.is_set() => {}
            Control::Assign { source, partition, resume, ended } => {
                self.assign(source, partition, resume, ended)?;
            }
            Control::Release { source, partition } => self.release(source, partition),
            Control::Tick(open) => {
                self.shared.ticks.borrow_mut().insert(open.tick, open.info);
                return self.read_on(Intake::new(open));
            }
        }
        Ok(())
    }

    fn assign(
        &mut self,
        source: usize,
        partition: Arc<Partition>,
        resume: Resume,
        ended: bool,
    ) -> Result<(), Error> {
        let source = &mut self.sources[source];
        let partitions = &mut source.partitions;
        let place = *partitions.places.entry(partition.index).or_insert_with(|| {
            let (reader, ended, unknown) = (None, false, false);
            let new = OpenPartition { partition, reader, resume, ended, unknown };
            partitions.open.push(new);
            partitions.open.len() - 1
        });
        let at = &mut partitions.open[place];
        at.ended |= ended;
        // IMPORTANT: one that is there again goes on where it was read to here. What the record
        // says is older, while ticks are open.
        if !at.ended {
            let opened =
                guarded(&source.id, || source.source.open(at.partition.name(), &at.resume));
            at.reader = Some(opened.map_err(|e| e.in_partition(&at.partition))?);
        }
        let outcome = if at.ended { Outcome::Finished } else { Outcome::Waits };
        partitions.news.push((place, outcome));
        Ok(())
    }

    fn release(&mut self, source: usize, partition: u32) {
        let partitions = &mut self.sources[source].partitions;
        if let Some(&place) = partitions.places.get(&partition) {
            partitions.open[place].reader = None;
            partitions.news.push((place, Outcome::Removed));
        }
    }

    /// Reads one turn of a tick, and says that the tick has ended if that was the last.
    fn read_on(&mut self, mut intake: Intake) -> Result<(), Error> {
        let mut turn = BATCH_ROWS;
        let Self { sources, outputs, capabilities, .. } = self;
        while let Some(source) = sources.get_mut(intake.source) {
            let index = intake.source;
            let (outputs, capabilities) = (&mut outputs[index], &mut capabilities[index]);
            let listened = source.listened;
            if !intake.read(source, &mut turn, (outputs, capabilities, listened))? {
                self.intake = Some(intake);
                return Ok(());
            }
            intake.end_source(source, outputs, capabilities);
        }
        let Intake { open, reports, seals, .. } = intake;
        let _ = self.shared.events.send(Event::Polled { tick: open.tick, reports });
        for seal in seals {
            self.shared.operator_ended(open.tick, seal);
        }
        Ok(())
    }
}

impl Intake {
    fn new(open: TickOpen) -> Self {
        Intake {
            open,
            source: 0,
            order: 0,
            underway: None,
            outcomes: Vec::new(),
            counters: Counters::default(),
            reports: Vec::new(),
            seals: Vec::new(),
        }
    }

    /// The next order of the source, begun. Orders are sorted by source.
    fn next_order(&mut self, partitions: &mut Partitions) -> Option<Underway> {
        if let Some(underway) = self.underway.take() {
            return Some(underway);
        }
        loop {
            let order = self.open.reads.get(self.order).filter(|o| o.source == self.source)?;
            self.order += 1;
            // Other partitions are read by other workers.
            let Some(&place) = partitions.places.get(&order.partition) else { continue };
            if partitions.open[place].reader.is_none() {
                continue;
            }
            if order.limit == 0 {
                self.outcomes.push((place, Outcome::Waits));
                continue;
            }
            return Some(Underway { place, left: order.limit, brought: false });
        }
    }

    /// Reads what the tick asks of the source; returns whether that is all.
    fn read(
        &mut self,
        source: &mut IngestSource,
        turn: &mut usize,
        (outputs, capabilities, listened): (&mut [Output; 2], &[Capability<u64>; 2], [bool; 2]),
    ) -> Result<bool, Error> {
        while let Some(mut underway) = self.next_order(&mut source.partitions) {
            let counters = &mut self.counters;
            let mut port = Port { outputs, capabilities, listened, counters };
            let at = &mut source.partitions.open[underway.place];
            let done = guarded(&source.id, || at.read(&mut underway, turn, &mut port))
                .map_err(|e| e.in_partition(&at.partition))?;
            let Some((report, outcome)) = done else {
                self.underway = Some(underway);
                return Ok(false);
            };
            self.reports.push(PollReport { source: self.source, ..report });
            self.outcomes.push((underway.place, outcome));
        }
        Ok(true)
    }

    /// Says downstream that the source has ended the tick, and what its partitions did.
    fn end_source(
        &mut self,
        source: &mut IngestSource,
        outputs: &mut [Output; 2],
        capabilities: &mut [Capability<u64>; 2],
    ) {
        let Partitions { open, news, .. } = &mut source.partitions;
        let outcomes: BTreeMap<usize, Outcome> =
            news.drain(..).chain(self.outcomes.drain(..)).collect();
        let reading = |(place, outcome): (usize, Outcome)| Reading {
            partition: open[place].partition.clone(),
            outcome,
        };
        // While partitions may be added, those that have ended are not the end of time.
        let complete = self.open.complete[self.source];
        let summary = if complete { Summary::Absent } else { Summary::Idle };
        let readings = Some(outcomes.into_iter().map(reading).collect());
        let end = TickEnd { summary, largest: None, readings };
        for (output, capability) in outputs.iter_mut().zip(capabilities) {
            give(output, capability, 0, Body::End(end.clone()));
            capability.downgrade(&(self.open.tick + 1));
        }
        let counters = std::mem::take(&mut self.counters);
        self.seals.push(source_seal(source.node, counters, self.open.info.commit));
        self.source += 1;
    }
}

fn source_seal(node: usize, counters: Counters, commit: bool) -> OperatorSeal {
    OperatorSeal {
        node,
        watermark: Watermark::Unknown,
        counters,
        entries: 0,
        wake_at_micros: None,
        chunks: Vec::new(),
        promises: commit.then(Vec::new),
        news: Vec::new(),
    }
}

/// Where a source's rows and dead letters go.
struct Port<'a> {
    outputs: &'a mut [Output; 2],
    capabilities: &'a [Capability<u64>; 2],
    listened: [bool; 2],
    counters: &'a mut Counters,
}

impl OpenPartition {
    /// Reads on until the order is done, or the turn is over: `None`.
    fn read(
        &mut self,
        order: &mut Underway,
        turn: &mut usize,
        port: &mut Port<'_>,
    ) -> Result<Option<(PollReport, Outcome)>, Error> {
        let gone = || Error::bug("a partition without a reader is to be read");
        let reader = self.reader.as_mut().ok_or_else(gone)?;
        let mut state = ReadState::More;
        while order.left > 0 && state == ReadState::More {
            if *turn == 0 {
                return Ok(None);
            }
            let fetch = reader.read(order.left.min(BATCH_ROWS), &self.partition)?;
            let total = fetch.total as usize;
            state = fetch.state;
            order.brought |= total > 0;
            // A reader that has more, but not now, must not keep a stop from being heard.
            order.left = if total == 0 { 0 } else { order.left.saturating_sub(total) };
            *turn = turn.saturating_sub(total);
            port.counters.events_in += fetch.total;
            port.counters.dead += fetch.dead_total;
            port.counters.used += fetch.total - fetch.dead_total;
            port.counters.events_out += fetch.total - fetch.dead_total + fetch.dead.len() as u64;
            if let Some(rows) = fetch.rows.filter(|_| port.listened[0]) {
                give(&mut port.outputs[0], &port.capabilities[0], 0, Body::Rows(rows));
            }
            if !fetch.dead.is_empty() && port.listened[1] {
                let rows = Box::new(Batch::untimed(fetch.dead, Origin::Unordered));
                give(&mut port.outputs[1], &port.capabilities[1], 0, Body::Rows(rows));
            }
        }
        self.resume = reader.resume();
        self.ended = state == ReadState::End;
        if self.ended {
            self.reader = None;
        }
        Ok(Some(self.report(state, order.brought)))
    }

    fn report(&mut self, state: ReadState, brought: bool) -> (PollReport, Outcome) {
        let was_unknown = std::mem::replace(&mut self.unknown, state == ReadState::Unknown);
        // IMPORTANT: the time since the tick before does not count if nobody could tell then. So
        // one that is silent now waits once more, and counts from the next tick on.
        let unknown = self.unknown || was_unknown;
        let outcome = match state {
            ReadState::End => Outcome::Finished,
            _ if unknown => Outcome::Waits,
            _ => Outcome::Read { more: state == ReadState::More },
        };
        let report = PollReport {
            source: 0,
            partition: self.partition.index,
            brought,
            more: state == ReadState::More || was_unknown && state == ReadState::Pending,
            waits: unknown || state == ReadState::More,
            ended: self.ended,
            resume: self.resume.clone(),
        };
        (report, outcome)
    }
}

/// Calls into a source: what it returns or panics with is attributed to it.
fn guarded<R>(id: &str, f: impl FnOnce() -> Result<R, Error>) -> Result<R, Error> {
    catch_unwind(AssertUnwindSafe(f))
        .unwrap_or_else(|panic| Err(user_panic(&*panic, id)))
        .map_err(|error| error.in_operator(id))
}
