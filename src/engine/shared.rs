//! What the parts of one worker, and the workers and the coordinator, say to each other.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::Sender;

use highwater_state::Changes;
use timely::scheduling::SyncActivator;

use super::worker::WorkerStart;
use crate::error::Error;
use crate::event::Partition;
use crate::operator::{Counters, PartitionNews};
use crate::sink::Chunk;
use crate::source::Resume;
use crate::time::{TimeState, Watermark};

/// From the coordinator to a worker, in order.
pub(super) enum Control {
    /// A partition to read from now on.
    Assign { source: usize, partition: Arc<Partition>, resume: Resume, ended: bool },
    /// A partition is gone from its source, and is not to be read any more.
    Release { source: usize, partition: u32 },
    /// Open the next tick.
    Tick(TickOpen),
    /// Tear the dataflow down.
    Stop,
}

/// A tick as the coordinator opens it, the same for every worker.
#[derive(Clone)]
pub(super) struct TickOpen {
    pub(super) tick: u64,
    pub(super) info: TickInfo,
    /// What to read, by source and partition. A partition that is not named goes on as it was
    /// last heard of: at rest, and then it counts as read, or with unread events.
    pub(super) reads: Arc<[ReadOrder]>,
    /// By source: no partition will be added any more.
    pub(super) complete: Arc<[bool]>,
}

#[derive(Clone, Copy, Default)]
pub(super) struct TickInfo {
    pub(super) clock_micros: i64,
    /// Operators write down what changed since the last commit.
    pub(super) commit: bool,
}

#[derive(Clone, Copy)]
pub(super) struct ReadOrder {
    pub(super) source: usize,
    pub(super) partition: u32,
    /// Up to so many events; 0 for one that may have some but is not read from now on.
    pub(super) limit: usize,
}

/// To the coordinator, from anywhere.
pub(super) enum Event {
    Ready {
        worker: usize,
        activator: SyncActivator,
    },
    /// A worker has read what the tick asked for.
    Polled {
        tick: u64,
        reports: Vec<PollReport>,
    },
    /// Every operator of a worker has ended a tick.
    Sealed(Box<WorkerSeal>),
    /// One operator on one worker has written out what it changed up to a tick.
    Captured {
        tick: u64,
        changes: Vec<Changes>,
    },
    /// A source has data, in this partition if one is named, or a new partition.
    Woken {
        source: usize,
        partition: Option<String>,
    },
    Committed(crate::tick::CommitDone),
    /// The log's tail is no longer full.
    TailMoved,
    /// Somebody wants a snapshot.
    Snapshot(crate::handle::Reply),
    Failed(Error),
    Shutdown,
}

pub(super) struct PollReport {
    pub(super) source: usize,
    pub(super) partition: u32,
    /// It brought something, events without a time included.
    pub(super) brought: bool,
    pub(super) more: bool,
    /// Its worker takes it for one whose time does not count.
    pub(super) waits: bool,
    pub(super) ended: bool,
    pub(super) resume: Resume,
}

/// A worker's positive word that a tick is done.
pub(super) struct WorkerSeal {
    pub(super) worker: usize,
    pub(super) tick: u64,
    pub(super) operators: Vec<OperatorSeal>,
}

/// What one operator on one worker has to say about a tick.
pub(super) struct OperatorSeal {
    pub(super) node: usize,
    pub(super) watermark: Watermark,
    /// What was counted in this tick; `held` is how many are held now.
    pub(super) counters: Counters,
    /// State entries made less those removed since the start.
    pub(super) entries: i64,
    pub(super) wake_at_micros: Option<i64>,
    pub(super) chunks: Vec<Chunk>,
    /// Set in a tick that is committed: what changed since the last one.
    pub(super) promises: Option<Vec<(Arc<Partition>, TimeState)>>,
    /// Partitions whose time moved, for those who divide the reading.
    pub(super) news: Vec<PartitionNews>,
}

/// What a flow's threads know of each other without a message.
#[derive(Default)]
pub(crate) struct Progress {
    /// The last tick whose commit is durable.
    pub(crate) committed: Arc<AtomicU64>,
    /// Bytes of state in memory, over all workers.
    pub(super) memory: AtomicUsize,
}

/// Set once, looked at before anything is made durable.
#[derive(Clone)]
pub(super) struct Poison {
    flag: Arc<AtomicBool>,
    events: Sender<Event>,
}

impl Poison {
    pub(super) fn new(events: Sender<Event>) -> Self {
        Poison { flag: Arc::new(AtomicBool::new(false)), events }
    }

    pub(super) fn is_set(&self) -> bool {
        self.flag.load(Ordering::SeqCst)
    }

    /// Stops the flow with this error, unless it has already failed with another.
    pub(super) fn fail(&self, error: Error) {
        self.flag.store(true, Ordering::SeqCst);
        // Nobody listens any more only when the flow has ended.
        let _ = self.events.send(Event::Failed(error));
    }
}

/// What the operators of one worker share.
pub(super) struct WorkerShared {
    pub(super) index: usize,
    pub(super) peers: usize,
    pub(super) poison: Poison,
    pub(super) events: Sender<Event>,
    pub(super) progress: Arc<Progress>,
    /// Bytes of state that may be in memory, over all workers.
    pub(super) memory_limit: usize,
    /// Ticks that this worker has opened and not sealed.
    pub(super) ticks: RefCell<BTreeMap<u64, TickInfo>>,
    seals: RefCell<BTreeMap<u64, Vec<OperatorSeal>>>,
    /// How many operators must speak before a tick is sealed.
    nodes: usize,
    pub(super) stopped: Cell<bool>,
}

impl WorkerShared {
    pub(super) fn new(index: usize, peers: usize, start: &WorkerStart, nodes: usize) -> Rc<Self> {
        Rc::new(WorkerShared {
            index,
            peers,
            poison: start.poison.clone(),
            events: start.events.clone(),
            progress: start.progress.clone(),
            memory_limit: start.memory_limit,
            ticks: RefCell::default(),
            seals: RefCell::default(),
            nodes,
            stopped: Cell::new(false),
        })
    }

    pub(super) fn info(&self, tick: u64) -> TickInfo {
        self.ticks.borrow().get(&tick).copied().unwrap_or_default()
    }

    /// An operator has ended a tick; the last one seals it.
    pub(super) fn operator_ended(&self, tick: u64, seal: OperatorSeal) {
        let mut seals = self.seals.borrow_mut();
        let operators = seals.entry(tick).or_default();
        operators.push(seal);
        if operators.len() < self.nodes || self.poison.is_set() {
            return;
        }
        if let Some(operators) = seals.remove(&tick) {
            self.ticks.borrow_mut().remove(&tick);
            let seal = WorkerSeal { worker: self.index, tick, operators };
            let _ = self.events.send(Event::Sealed(Box::new(seal)));
        }
    }
}
