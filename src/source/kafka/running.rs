//! One run of a source: its client, and the thread that serves the client, finds partitions and
//! writes positions back to the group.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use super::reader::TopicPartition;
use super::topics::Topics;
use crate::error::{Error, ErrorKind};
use crate::kafka::{Context, failed};
use crate::source::Waker;
use crate::source::signal::lock;
use crate::time::clock::monotonic;

/// How long the thread waits for the client; a stop is heard after so long.
const POLL: Duration = Duration::from_millis(50);

/// How often positions are written back to the group.
const WRITE_BACK_EVERY: Duration = Duration::from_secs(1);

/// After an error of the client the cluster is asked whether it is there, less and less often.
const LOOK_AFTER: Duration = Duration::from_secs(1);
const LOOK_AFTER_AT_MOST: Duration = Duration::from_secs(8);

/// How long a search for partitions may take, and what is written back at the end.
const ASK_WITHIN: Duration = Duration::from_secs(5);
const LAST_WRITE_WITHIN: Duration = Duration::from_secs(2);

/// What the thread, the readers and the source share.
pub(super) struct Shared {
    pub(super) consumer: Arc<BaseConsumer<Context>>,
    pub(super) cluster: String,
    pub(super) connect_within: Duration,
    pub(super) waker: Waker,
    pub(super) partitions: Mutex<BTreeSet<TopicPartition>>,
    /// Where a bounded source stops in each partition.
    pub(super) ends: Option<BTreeMap<TopicPartition, u64>>,
    /// What was committed since it was last written back.
    pub(super) committed: Mutex<BTreeMap<TopicPartition, u64>>,
    /// Why the client cannot go on.
    broken: Mutex<Option<KafkaError>>,
    is_broken: AtomicBool,
    stopping: AtomicBool,
}

/// What the thread does beside serving the client.
pub(super) struct Duties {
    pub(super) topics: Topics,
    /// How often to look for partitions; never in a bounded source.
    pub(super) discover_every: Option<Duration>,
    pub(super) write_back: bool,
}

impl Shared {
    pub(super) fn new(
        consumer: BaseConsumer<Context>,
        cluster: String,
        connect_within: Duration,
        waker: Waker,
        partitions: BTreeSet<TopicPartition>,
        ends: Option<BTreeMap<TopicPartition, u64>>,
    ) -> Self {
        Shared {
            consumer: Arc::new(consumer),
            cluster,
            connect_within,
            waker,
            partitions: Mutex::new(partitions),
            ends,
            committed: Mutex::default(),
            broken: Mutex::default(),
            is_broken: AtomicBool::new(false),
            stopping: AtomicBool::new(false),
        }
    }

    pub(super) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }

    /// An error where the client cannot go on.
    #[inline]
    pub(super) fn check(&self) -> Result<(), Error> {
        if !self.is_broken.load(Ordering::Acquire) {
            return Ok(());
        }
        match lock(&self.broken).clone() {
            Some(error) => Err(failed("the client broke", error)),
            None => Err(Error::bug("a record came to the wrong queue of the Kafka client")),
        }
    }

    pub(super) fn end_of(&self, partition: &TopicPartition) -> Option<u64> {
        self.ends.as_ref().map(|ends| ends.get(partition).copied().unwrap_or(0))
    }

    /// Serves the client for a moment.
    fn poll(&self) {
        match self.consumer.poll(POLL) {
            None => {}
            // Every partition has a queue of its own: see `PartitionReader::open`.
            Some(Ok(_)) => {
                self.is_broken.store(true, Ordering::Release);
                self.waker.wake();
            }
            Some(Err(error)) => {
                let fatal = matches!(error, KafkaError::MessageConsumptionFatal(_));
                if fatal {
                    lock(&self.broken).get_or_insert(error);
                    self.is_broken.store(true, Ordering::Release);
                    self.waker.wake();
                }
                // The others were logged, and the client goes on: it connects again for as long
                // as it takes.
            }
        }
    }

    /// Asks for partitions, and wakes the flow if there are new ones and it wants them. Says
    /// whether there was an answer; without one the client may have forgotten whom to ask.
    fn look(&self, topics: &Topics, wanted: bool) -> bool {
        let found = topics.list(&self.consumer, ASK_WITHIN);
        match found {
            Ok(found) if wanted => {
                let mut known = lock(&self.partitions);
                let before = known.len();
                // One that is gone stays: reading it says what is wrong.
                known.extend(found);
                let new = known.len() - before;
                drop(known);
                if new > 0 {
                    tracing::info!(new, "found partitions");
                    self.waker.wake();
                }
                true
            }
            Ok(_) => true,
            Err(error) => {
                tracing::warn!(?error, "partitions cannot be listed now");
                self.consumer.context().reach_again(self.consumer.client());
                false
            }
        }
    }

    /// Writes committed positions back to the group, which is for those who look at it only.
    fn write_back(&self) -> bool {
        let positions = std::mem::take(&mut *lock(&self.committed));
        if positions.is_empty() {
            return false;
        }
        let mut list = TopicPartitionList::with_capacity(positions.len());
        for (partition, position) in positions {
            let offset = Offset::Offset(i64::try_from(position).unwrap_or(i64::MAX));
            let _ = list.add_partition_offset(&partition.topic, partition.number, offset);
        }
        if let Err(error) = self.consumer.commit(&list, CommitMode::Async) {
            tracing::warn!(%error, "positions are not written back to the group");
        }
        true
    }
}

/// A run, until it is dropped.
pub(super) struct Running {
    pub(super) shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Running {
    pub(super) fn start(shared: Shared, duties: Duties) -> Result<Self, Error> {
        let shared = Arc::new(shared);
        let served = shared.clone();
        let thread = std::thread::Builder::new()
            .name("highwater-kafka".to_owned())
            .spawn(move || serve(&served, &duties))
            .map_err(|e| Error::new(ErrorKind::Io, "cannot start a thread").because(e))?;
        Ok(Running { shared, thread: Some(thread) })
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.shared.stopping.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            // A thread that panicked has said so.
            let _ = thread.join();
        }
    }
}

/// When to ask the cluster: to find partitions, and soon after an error, whether it is there.
struct Lookout {
    every: Option<Duration>,
    due: Option<Instant>,
    /// How many errors the client had so far, and how long to wait after one.
    errors: u64,
    pause: Duration,
}

impl Lookout {
    fn new(every: Option<Duration>) -> Self {
        let due = every.map(|every| monotonic() + every);
        Lookout { every, due, errors: 0, pause: LOOK_AFTER }
    }

    fn is_due(&mut self, errors: u64) -> bool {
        let now = monotonic();
        if errors != self.errors && self.pause == LOOK_AFTER {
            self.due = self.due.into_iter().chain([now + self.pause]).min();
        }
        self.errors = errors;
        self.due.is_some_and(|due| now >= due)
    }

    fn looked(&mut self, answered: bool) {
        let now = monotonic();
        if answered {
            self.pause = LOOK_AFTER;
            self.due = self.every.map(|every| now + every);
        } else {
            self.due = Some(now + self.pause);
            self.pause = (self.pause * 2).min(LOOK_AFTER_AT_MOST);
        }
    }
}

fn serve(shared: &Shared, duties: &Duties) {
    let mut lookout = Lookout::new(duties.discover_every);
    let mut wrote = monotonic();
    while !shared.is_stopping() {
        shared.poll();
        if lookout.is_due(shared.consumer.context().errors()) {
            lookout.looked(shared.look(&duties.topics, duties.discover_every.is_some()));
        }
        let now = monotonic();
        if duties.write_back && now - wrote >= WRITE_BACK_EVERY {
            shared.write_back();
            wrote = now;
        }
    }
    if duties.write_back && shared.write_back() {
        let context = shared.consumer.context();
        let (until, before) = (monotonic() + LAST_WRITE_WITHIN, context.answered_commits());
        while monotonic() < until && context.answered_commits() == before {
            let _ = shared.consumer.poll(POLL);
        }
    }
}
