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
use super::shared::{Control, Event, OperatorSeal, PollReport, ReadOrder, TickOpen, WorkerShared};
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

pub(super) struct Ingest {
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
        let mut ingest = Ingest { sources, control, shared, outputs, capabilities: pairs };
        move |_frontiers| ingest.schedule()
    });
    (address, streams)
}

impl Ingest {
    fn schedule(&mut self) {
        while let Ok(control) = self.control.try_recv() {
            let result = match control {
                Control::Stop => {
                    self.shared.stopped.set(true);
                    return;
                }
                _ if self.shared.poison.is_set() => continue,
                Control::Assign { source, partition, resume, ended } => {
                    self.assign(source, partition, resume, ended)
                }
                Control::Release { source, partition } => {
                    self.release(source, partition);
                    Ok(())
                }
                Control::Tick(open) => self.tick(&open),
            };
            if let Err(error) = result {
                self.shared.poison.fail(error);
            }
        }
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

    fn tick(&mut self, open: &TickOpen) -> Result<(), Error> {
        self.shared.ticks.borrow_mut().insert(open.tick, open.info);
        let mut reports = Vec::new();
        let mut seals = Vec::new();
        let Self { sources, outputs, capabilities, .. } = self;
        let mut reads = &open.reads[..];
        for (index, source) in sources.iter_mut().enumerate() {
            let mut counters = Counters::default();
            // Orders are sorted by source.
            let of_source = reads.partition_point(|r| r.source <= index);
            let (own, rest) = reads.split_at(of_source);
            reads = rest;
            let mut port = Port {
                outputs: &mut outputs[index],
                capabilities: &capabilities[index],
                listened: source.listened,
                counters: &mut counters,
            };
            let readings = source.read(index, own, &mut port, &mut reports)?;
            // While partitions may be added, those that have ended are not the end of time.
            let summary = if open.complete[index] { Summary::Absent } else { Summary::Idle };
            let end = TickEnd { summary, largest: None, readings: Some(readings) };
            for port in 0..2 {
                let cap = &mut capabilities[index][port];
                give(&mut outputs[index][port], cap, 0, Body::End(end.clone()));
                cap.downgrade(&(open.tick + 1));
            }
            seals.push(source_seal(source.node, counters, open.info.commit));
        }
        let _ = self.shared.events.send(Event::Polled { tick: open.tick, reports });
        for seal in seals {
            self.shared.operator_ended(open.tick, seal);
        }
        Ok(())
    }
}

impl IngestSource {
    /// Reads what a tick asks of the source, and says what there is to say of its partitions.
    fn read(
        &mut self,
        index: usize,
        orders: &[ReadOrder],
        port: &mut Port<'_>,
        reports: &mut Vec<PollReport>,
    ) -> Result<Arc<[Reading]>, Error> {
        let Partitions { open, places, news } = &mut self.partitions;
        let id = &self.id;
        let mut outcomes: BTreeMap<usize, Outcome> = news.drain(..).collect();
        for order in orders {
            // Other partitions are read by other workers.
            let Some(&place) = places.get(&order.partition) else { continue };
            let at = &mut open[place];
            let outcome = if order.limit == 0 {
                at.reader.is_some().then_some(Outcome::Waits)
            } else {
                let report = guarded(id, || at.read(order.limit, port))
                    .map_err(|e| e.in_partition(&at.partition))?;
                report.map(|(report, outcome)| {
                    reports.push(PollReport { source: index, ..report });
                    outcome
                })
            };
            if let Some(outcome) = outcome {
                outcomes.insert(place, outcome);
            }
        }
        let reading = |(place, outcome): (usize, Outcome)| Reading {
            partition: open[place].partition.clone(),
            outcome,
        };
        Ok(outcomes.into_iter().map(reading).collect())
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
    /// Reads up to `left` events; `None` where the partition has ended or is gone.
    fn read(
        &mut self,
        mut left: usize,
        port: &mut Port<'_>,
    ) -> Result<Option<(PollReport, Outcome)>, Error> {
        let Some(reader) = self.reader.as_mut() else { return Ok(None) };
        let (mut state, mut brought) = (ReadState::More, false);
        while left > 0 && state == ReadState::More {
            let fetch = reader.read(left.min(BATCH_ROWS), &self.partition)?;
            state = fetch.state;
            brought |= fetch.total > 0;
            // A reader that has more, but not now, must not keep a stop from being heard.
            left = if fetch.total == 0 { 0 } else { left.saturating_sub(fetch.total as usize) };
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
        Ok(Some(self.report(state, brought)))
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
