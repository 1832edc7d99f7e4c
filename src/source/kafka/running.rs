//! One run of a source: its client, and the thread that serves the client, finds partitions and
//! writes positions back to the group.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use super::health::{Health, knows_brokers};
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
    pub(super) health: Health,
    /// Why the client cannot go on.
    broken: Mutex<Option<KafkaError>>,
    is_broken: AtomicBool,
    stopping: AtomicBool,
}

/// What the thread does beside serving the client.
pub(super) struct Duties {
    /// What to look for, and how often; nothing in a bounded source.
    pub(super) discover: Option<(Topics, Duration)>,
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
        health: Health,
    ) -> Self {
        Shared {
            consumer: Arc::new(consumer),
            cluster,
            connect_within,
            waker,
            partitions: Mutex::new(partitions),
            ends,
            committed: Mutex::default(),
            health,
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

    /// Looks for partitions, and wakes the flow if there are new ones.
    fn discover(&self, topics: &Topics) {
        match topics.list(&self.consumer, ASK_WITHIN) {
            Ok(found) => {
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
            }
            Err(error) => tracing::warn!(?error, "partitions cannot be listed now"),
        }
    }

    /// Writes committed positions back to the group, which is for those who look at it only.
    fn write_back(&self) {
        let positions = std::mem::take(&mut *lock(&self.committed));
        if positions.is_empty() {
            return;
        }
        let mut list = TopicPartitionList::with_capacity(positions.len());
        for (partition, position) in positions {
            let offset = Offset::Offset(i64::try_from(position).unwrap_or(i64::MAX));
            let _ = list.add_partition_offset(&partition.topic, partition.number, offset);
        }
        if let Err(error) = self.consumer.commit(&list, CommitMode::Sync) {
            tracing::warn!(%error, "positions are not written back to the group");
        }
    }
}

/// A run, until it is dropped.
pub(super) struct Running {
    pub(super) shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
    writer: Option<Writer>,
}

/// A thread that writes positions back to the group. IMPORTANT: it waits for the cluster, and
/// nobody waits for it for long. A client is not closed before its commits are answered, which may
/// take more than a minute: the thread holds the client meanwhile, and closes it.
struct Writer {
    stop: Sender<()>,
    done: Receiver<()>,
}

impl Writer {
    fn start(shared: Arc<Shared>) -> std::io::Result<Self> {
        let ((stop, stopped), (end, done)) = (channel(), channel());
        let write = move || {
            loop {
                let waited = stopped.recv_timeout(WRITE_BACK_EVERY);
                shared.write_back();
                if waited != Err(RecvTimeoutError::Timeout) {
                    break;
                }
            }
            drop(shared);
            let _ = end.send(());
        };
        std::thread::Builder::new().name("highwater-kafka-group".to_owned()).spawn(write)?;
        Ok(Writer { stop, done })
    }

    fn stop(self) {
        drop(self.stop);
        if self.done.recv_timeout(LAST_WRITE_WITHIN) == Err(RecvTimeoutError::Timeout) {
            tracing::warn!("the last positions may not be written back to the group: no answer");
        }
    }
}

impl Running {
    pub(super) fn start(shared: Shared, duties: Duties) -> Result<Self, Error> {
        let shared = Arc::new(shared);
        let cannot = |e| Error::new(ErrorKind::Io, "cannot start a thread").because(e);
        let served = shared.clone();
        let writer = duties.write_back.then(|| Writer::start(shared.clone()));
        let writer = writer.transpose().map_err(cannot)?;
        let thread = std::thread::Builder::new()
            .name("highwater-kafka".to_owned())
            .spawn(move || serve(&served, &duties))
            .map_err(cannot)?;
        Ok(Running { shared, thread: Some(thread), writer })
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.shared.stopping.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            // A thread that panicked has said so.
            let _ = thread.join();
        }
        if let Some(writer) = self.writer.take() {
            writer.stop();
        }
    }
}

fn serve(shared: &Shared, duties: &Duties) {
    let mut discovered = monotonic();
    while !shared.is_stopping() {
        shared.poll();
        let context = shared.consumer.context();
        if let Some(statistics) = context.take_statistics() {
            shared.health.update(&statistics, &shared.waker);
            if !knows_brokers(&statistics) {
                context.reach_again(shared.consumer.client());
            }
        }
        let now = monotonic();
        if let Some((topics, every)) = &duties.discover
            && now - discovered >= *every
        {
            shared.discover(topics);
            discovered = now;
        }
    }
}
