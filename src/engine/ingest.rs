//! The head of the dataflow: opens ticks on a worker and reads its partitions.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc::Receiver;

use timely::dataflow::operators::Capability;
use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;
use timely::dataflow::{Scope, Stream};

use super::parcel::{Body, Parcel, TickEnd};
use super::runner::{Output, give};
use super::shared::{Control, Event, OperatorSeal, PollReport, TickOpen, WorkerShared};
use crate::error::Error;
use crate::event::{Batch, Origin, Partition};
use crate::flow::{AnyReader, AnySource};
use crate::operator::{Counters, Outcome, Reading, user_panic};
use crate::source::{ReadState, Resume};
use crate::time::{Summary, Watermark};

/// Rows per batch: enough to pay for a batch, few enough to stay in the cache.
const BATCH_ROWS: usize = 4096;

/// One source of the plan, with the partitions of it that this worker reads.
pub(super) struct IngestSource {
    pub(super) node: usize,
    pub(super) id: Arc<str>,
    pub(super) source: Arc<dyn AnySource>,
    pub(super) listened: [bool; 2],
    pub(super) partitions: Vec<OpenPartition>,
}

pub(super) struct OpenPartition {
    partition: Arc<Partition>,
    /// `None` once the partition has ended.
    reader: Option<Box<dyn AnyReader>>,
    /// Where it ended.
    resume: Resume,
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
        let reader = if ended {
            None
        } else {
            let opened = guarded(&source.id, || source.source.open(partition.name(), &resume));
            Some(opened.map_err(|e| e.in_partition(&partition))?)
        };
        source.partitions.push(OpenPartition { partition, reader, resume });
        Ok(())
    }

    fn tick(&mut self, open: &TickOpen) -> Result<(), Error> {
        self.shared.ticks.borrow_mut().insert(open.tick, open.info);
        let mut reports = Vec::new();
        let mut seals = Vec::new();
        let Self { sources, outputs, capabilities, .. } = self;
        for (index, source) in sources.iter_mut().enumerate() {
            let mut counters = Counters::default();
            let mut readings = Vec::with_capacity(source.partitions.len());
            let mut reads = open.reads.iter().filter(|r| r.source == index).peekable();
            let id = source.id.clone();
            let listened = source.listened;
            for partition in &mut source.partitions {
                // Orders and partitions are both sorted by index.
                while reads.next_if(|r| r.partition < partition.partition.index).is_some() {}
                let limit = reads.next_if(|r| r.partition == partition.partition.index);
                let limit = limit.map(|r| r.limit);
                let mut port = Port {
                    outputs: &mut outputs[index],
                    capabilities: &capabilities[index],
                    listened,
                    counters: &mut counters,
                };
                let report = guarded(&id, || partition.read(limit, &mut port))
                    .map_err(|e| e.in_partition(&partition.partition))?;
                if let Some(report) = report {
                    reports.push(PollReport { source: index, ..report });
                }
                readings.push(partition.reading(limit.is_some()));
            }
            // While partitions may be added, those that have ended are not the end of time.
            let summary = if open.complete[index] { Summary::Absent } else { Summary::Idle };
            let end = TickEnd { summary, largest: None, readings: Some(readings.into()) };
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

fn source_seal(node: usize, counters: Counters, commit: bool) -> OperatorSeal {
    OperatorSeal {
        node,
        watermark: Watermark::Unknown,
        counters,
        entries: 0,
        wake_at_micros: None,
        chunks: Vec::new(),
        promises: commit.then(Vec::new),
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
    /// Reads what the tick asks for; `None` where nothing new can be said.
    fn read(
        &mut self,
        limit: Option<usize>,
        port: &mut Port<'_>,
    ) -> Result<Option<PollReport>, Error> {
        let (Some(mut left), Some(reader)) = (limit, self.reader.as_mut()) else { return Ok(None) };
        if left == 0 {
            return Ok(None);
        }
        let mut state = ReadState::More;
        while left > 0 && state == ReadState::More {
            let fetch = reader.read(left.min(BATCH_ROWS), &self.partition)?;
            state = fetch.state;
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
        let ended = state == ReadState::End;
        if ended {
            self.reader = None;
        }
        Ok(Some(PollReport {
            source: 0,
            partition: self.partition.index,
            more: state == ReadState::More,
            ended,
            resume: self.resume.clone(),
        }))
    }

    fn reading(&self, asked: bool) -> Reading {
        let outcome = match (&self.reader, asked) {
            (None, _) => Outcome::Finished,
            (Some(_), true) => Outcome::Read,
            (Some(_), false) => Outcome::NotRead,
        };
        Reading { partition: self.partition.clone(), outcome }
    }
}

/// Calls into a source: what it returns or panics with is attributed to it.
fn guarded<R>(id: &str, f: impl FnOnce() -> Result<R, Error>) -> Result<R, Error> {
    catch_unwind(AssertUnwindSafe(f))
        .unwrap_or_else(|panic| Err(user_panic(&*panic, id)))
        .map_err(|error| error.in_operator(id))
}
