//! One worker: instantiates the plan as a timely dataflow, and steps it until it is stopped.

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender};

use timely::WorkerConfig;
use timely::communication::Allocator;
use timely::dataflow::{Scope, Stream};
use timely::worker::Worker;

use highwater_state::planted::planted;
use highwater_state::{Store, groups_of_worker};

use super::ingest::{self, IngestSource};
use super::parcel::Parcel;
use super::runner::{Restored, Runner, Wiring};
use super::shared::{Control, Event, Poison, Progress, WorkerShared};
use crate::error::{Error, ErrorKind, panic_message};
use crate::flow::{Body, BuildCx, Plan, PortRef};
use crate::keyed::Backing;
use crate::operator::Logic;
use crate::tick::TickRecord;

/// What a worker is started with.
pub(super) struct WorkerStart {
    pub(super) plan: Arc<Plan>,
    pub(super) store: Arc<dyn Store>,
    pub(super) record: Arc<TickRecord>,
    pub(super) control: Receiver<Control>,
    pub(super) events: Sender<Event>,
    pub(super) poison: Poison,
    pub(super) progress: Arc<Progress>,
    pub(super) memory_limit: usize,
    /// Sinks hand rows over as they are: for test drivers.
    pub(super) collect: bool,
}

/// A worker that can be stepped.
pub(super) struct RunningWorker {
    worker: Worker,
    dataflow: usize,
    shared: Rc<WorkerShared>,
}

impl RunningWorker {
    /// Builds this worker's share of the dataflow.
    pub(super) fn build(allocator: Allocator, start: WorkerStart) -> Result<Self, Error> {
        // IMPORTANT: without a timer a timely worker never parks.
        let timer = Some(crate::time::clock::monotonic());
        let mut worker = Worker::new(WorkerConfig::default(), allocator, timer);
        let (index, peers) = (worker.index(), worker.peers());
        let shared = WorkerShared::new(index, peers, &start, start.plan.nodes.len());
        let WorkerStart { plan, store, record, control, events, collect, .. } = start;
        let logics = build_logics(&plan, (&store, &record), index, peers, collect)?;
        let dataflow = worker.next_dataflow_index();
        let address = worker
            .dataflow::<u64, _, _>(|scope| wire(scope, &plan, logics, &record, control, &shared));
        let activator = worker.sync_activator_for(address.to_vec());
        let _ = events.send(Event::Ready { worker: index, activator });
        // The first step looks for messages, whoever else may have asked for it.
        worker.activator_for(address).activate();
        Ok(RunningWorker { worker, dataflow, shared })
    }

    /// Steps once, parking if there is nothing to do and `park` allows it.
    pub(super) fn step(&mut self, park: bool) {
        let timeout = if park { None } else { Some(std::time::Duration::ZERO) };
        let worker = &mut self.worker;
        let step = catch_unwind(AssertUnwindSafe(|| worker.step_or_park(timeout)));
        if let Err(panic) = step {
            let message = format!("a worker panicked: {}", panic_message(&*panic));
            self.shared.poison.fail(Error::bug(message));
            self.shared.stopped.set(true);
        }
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.shared.stopped.get()
    }
}

impl Drop for RunningWorker {
    /// Tears the dataflow down with whatever ticks are open: nothing is concluded from it.
    fn drop(&mut self) {
        let (worker, dataflow) = (&mut self.worker, self.dataflow);
        // User code may panic when it is dropped, and that must not take the process down.
        let _ = catch_unwind(AssertUnwindSafe(|| worker.drop_dataflow(dataflow)));
    }
}

/// The life of a worker thread.
pub(super) fn run(allocator: Allocator, start: WorkerStart) {
    let poison = start.poison.clone();
    let run = AssertUnwindSafe(|| -> Result<(), Error> {
        let mut worker = RunningWorker::build(allocator, start)?;
        while !worker.is_stopped() {
            worker.step(true);
        }
        Ok(())
    });
    let result = catch_unwind(run).unwrap_or_else(|panic| {
        let message = format!("a worker thread panicked: {}", panic_message(&*panic));
        Err(Error::new(ErrorKind::Bug, message))
    });
    if let Err(error) = result {
        poison.fail(error);
    }
}

fn build_logics(
    plan: &Plan,
    (store, record): (&Arc<dyn Store>, &TickRecord),
    index: usize,
    peers: usize,
    collect: bool,
) -> Result<Vec<Option<Box<dyn Logic>>>, Error> {
    let mut logics = Vec::new();
    for (node, n) in plan.nodes.iter().enumerate() {
        let cx = BuildCx {
            workers: peers,
            ordered_by: plan.order_needed_behind(node).then_some(node as u32),
            ttl: n.ttl,
            backing: Backing {
                store: store.clone(),
                id: n.id.clone(),
                groups: groups_of_worker(index, peers),
                fresh: !record.operators.contains_key(&*n.id),
            },
        };
        logics.push(match &n.body {
            Body::Source(_) => None,
            Body::Operator(factory) => Some(factory(&cx).map_err(|e| e.in_operator(&n.id))?),
            Body::Sink(sink) => Some(sink.logic(collect)),
        });
    }
    Ok(logics)
}

/// Turns the plan into operators and edges; returns the address of the ingest operator.
fn wire<'s>(
    scope: Scope<'s, u64>,
    plan: &Arc<Plan>,
    logics: Vec<Option<Box<dyn Logic>>>,
    record: &TickRecord,
    control: Receiver<Control>,
    shared: &Rc<WorkerShared>,
) -> Rc<[usize]> {
    let first_tick = record.tick.0 + 1;
    let heard = |node: usize, port: usize| plan.consumers(PortRef { node, port }).next().is_some();
    let mut sources = Vec::new();
    for (node, n) in plan.nodes.iter().enumerate() {
        if let Body::Source(source) = &n.body {
            sources.push(IngestSource {
                node,
                id: n.id.clone(),
                source: source.clone(),
                listened: [heard(node, 0), heard(node, 1)],
                partitions: Default::default(),
            });
        }
    }
    let source_nodes: Vec<usize> = sources.iter().map(|s| s.node).collect();
    let (address, source_streams) =
        ingest::install(scope, sources, control, shared.clone(), first_tick);
    let streams = Streams::new(plan);
    for (node, [rows, dead]) in source_nodes.into_iter().zip(source_streams) {
        streams.put(PortRef { node, port: 0 }, rows);
        streams.put(PortRef { node, port: 1 }, dead);
    }
    for (node, logic) in logics.into_iter().enumerate() {
        let Some(logic) = logic else { continue };
        let n = &plan.nodes[node];
        let known = record.operators.get(&*n.id).filter(|_| !planted("watermark-not-restored"));
        let restored = Restored {
            open: first_tick,
            watermark: known.map(|k| k.watermark).unwrap_or_default(),
            stateful: n.stateful,
        };
        let runner = Runner::new(node, n.id.clone(), logic, shared.clone(), restored);
        let exchange = |port: &PortRef| plan.nodes[port.node].outputs[port.port].exchange;
        let inputs = n.inputs.iter().filter_map(|p| Some((streams.take(*p)?, exchange(p))));
        let outputs = n.outputs.iter().enumerate();
        let wiring = Wiring {
            inputs: inputs.collect(),
            outputs: outputs.map(|(port, o)| (o.exchange, heard(node, port))).collect(),
        };
        for (port, stream) in runner.install(scope, wiring).into_iter().enumerate() {
            streams.put(PortRef { node, port }, stream);
        }
    }
    address
}

/// One stream, as often as it has consumers.
type Copies<'s> = Vec<Stream<'s, u64, Parcel>>;

/// Output streams on their way to their consumers: the last one gets the stream itself, so that
/// only a real fan-out copies rows.
struct Streams<'s, 'p> {
    plan: &'p Plan,
    waiting: RefCell<Vec<(PortRef, Copies<'s>)>>,
}

impl<'s, 'p> Streams<'s, 'p> {
    fn new(plan: &'p Plan) -> Self {
        Streams { plan, waiting: RefCell::default() }
    }

    fn put(&self, port: PortRef, stream: Stream<'s, u64, Parcel>) {
        let consumers = self.plan.consumers(port).count();
        let mut copies: Vec<_> = (1..consumers).map(|_| stream.clone()).collect();
        if consumers > 0 {
            copies.push(stream);
        }
        self.waiting.borrow_mut().push((port, copies));
    }

    fn take(&self, port: PortRef) -> Option<Stream<'s, u64, Parcel>> {
        let mut waiting = self.waiting.borrow_mut();
        waiting.iter_mut().find(|(p, _)| *p == port)?.1.pop()
    }
}
