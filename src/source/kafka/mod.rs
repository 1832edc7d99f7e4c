//! Topics of Apache Kafka, one partition per partition.

#[cfg(feature = "avro")]
mod avro;
mod formats;
mod health;
#[cfg(feature = "protobuf")]
mod protobuf;
mod reader;
mod record;
mod running;
mod start;
mod topics;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Mutex;
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::consumer::BaseConsumer;
use serde::de::DeserializeOwned;

#[cfg(feature = "avro")]
pub use avro::Schemas;
pub use record::{Record, Recorded};
pub use start::{OutOfRange, Start};

use formats::Format;
use health::Health;
use reader::{PartitionReader, TopicPartition};
use running::{Duties, Running, Shared};
use topics::Topics;

use super::signal::lock;
use super::{Reader, Replay, Resume, Source, Undecodable, Waker};
use crate::error::{BoxError, Error};
use crate::event::Data;
use crate::kafka::{Connection, Context, Inquirer, failed};

/// What the client may fetch ahead of the flow, over all partitions, in KiB.
const AHEAD_KIB: usize = 16 * 1024;

/// Which topics are read, and how. A format makes a [`source`](KafkaSource) of it.
///
/// ```no_run
/// use highwater::prelude::*;
/// use highwater::source::{Kafka, Start};
///
/// #[derive(Clone, serde::Deserialize)]
/// struct Order {
///     customer: String,
///     cents: u64,
/// }
///
/// let orders = Kafka::topic("orders")
///     .at("127.0.0.1:9092")
///     .from(Start::Latest)
///     .json::<Order>()
///     .undecodable(Undecodable::Skip);
/// # let _ = orders;
/// ```
#[derive(Clone, Debug)]
pub struct Kafka {
    topics: Topics,
    connection: Connection,
    start: Start,
    out_of_range: OutOfRange,
    discover_every: Duration,
    until_end: bool,
    group: Option<String>,
}

impl Kafka {
    /// One topic by its name.
    #[must_use]
    pub fn topic(name: impl Into<String>) -> Self {
        Self::topics([name])
    }

    /// Several topics by their names.
    #[must_use]
    pub fn topics<N: Into<String>>(names: impl IntoIterator<Item = N>) -> Self {
        Self::new(Topics::Named(names.into_iter().map(Into::into).collect()))
    }

    /// All topics whose names match a pattern, those included that are made later: `*` and `?`
    /// stand for characters, `[..]` for one of a set of them. The cluster's own topics, whose
    /// names begin with `__`, are left out.
    #[must_use]
    pub fn pattern(pattern: impl Into<String>) -> Self {
        Self::new(Topics::Matching(pattern.into()))
    }

    fn new(topics: Topics) -> Self {
        Kafka {
            topics,
            connection: Connection::default(),
            start: Start::default(),
            out_of_range: OutOfRange::default(),
            discover_every: Duration::from_secs(30),
            until_end: false,
            group: None,
        }
    }

    /// Where the cluster is: `host:port` of some of its brokers, separated by commas.
    #[must_use]
    pub fn at(mut self, brokers: impl Into<String>) -> Self {
        self.connection.at(brokers);
        self
    }

    /// Where the very first start of the flow begins to read; by default with the first record
    /// that is still there. It says nothing of partitions that are added later: they are read from
    /// their beginning, because what was written before they were found is new too.
    #[must_use]
    pub fn from(mut self, start: Start) -> Self {
        self.start = start;
        self
    }

    /// What to do where the position to go on from is not in the topic; by default the flow stops.
    ///
    /// A topic that is made anew under the same name is noticed by this, unless it has grown beyond
    /// the position by then: then the flow goes on in the middle of it. So delete the flow's state
    /// with the topic.
    #[must_use]
    pub fn out_of_range(mut self, what: OutOfRange) -> Self {
        self.out_of_range = what;
        self
    }

    /// How often new partitions and topics are looked for; every 30 seconds by default.
    #[must_use]
    pub fn discover_every(mut self, every: Duration) -> Self {
        self.discover_every = every;
        self
    }

    /// Ends each partition where it ends at the start of the flow: a bounded source, as files are.
    /// Each start looks anew where that is.
    #[must_use]
    pub fn until_end(mut self) -> Self {
        self.until_end = true;
        self
    }

    /// The consumer group that positions are written back to once they are committed, so that the
    /// cluster's tools show how far the flow is. The flow itself goes on from its own commit.
    #[must_use]
    pub fn group(mut self, name: impl Into<String>) -> Self {
        self.group = Some(name.into());
        self
    }

    /// How long a start waits for an answer of the cluster before it fails; 30 seconds by default.
    /// A flow that runs waits for a cluster that is away for as long as it takes.
    #[must_use]
    pub fn connect_within(mut self, time: Duration) -> Self {
        self.connection.connect_within = time;
        self
    }

    /// Sets a property of the client, librdkafka, by its name: for security, for example. Read
    /// `isolation.level` as `read_uncommitted` to see what transactions have not committed.
    #[must_use]
    pub fn property(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.connection.property(name, value);
        self
    }

    /// Values are JSON.
    #[must_use]
    pub fn json<T: DeserializeOwned + Data>(self) -> KafkaSource<T> {
        self.by(formats::json())
    }

    /// Each value is one row of CSV without a header: columns are the fields of `T` in order.
    #[must_use]
    pub fn csv<T: DeserializeOwned + Data>(self) -> KafkaSource<T> {
        self.by(formats::csv())
    }

    /// Values are UTF-8 text.
    #[must_use]
    pub fn text(self) -> KafkaSource<String> {
        self.by(formats::text())
    }

    /// Values are taken as they are.
    #[must_use]
    pub fn bytes(self) -> KafkaSource<Vec<u8>> {
        self.by(formats::bytes())
    }

    /// Whole records with their values as they are, tombstones included.
    #[must_use]
    pub fn records(self) -> KafkaSource<Recorded<Option<Vec<u8>>>> {
        self.bytes().tombstones().with_record()
    }

    /// Values are Avro, written with this schema (in Avro's JSON).
    ///
    /// # Errors
    /// Where the text is no schema.
    #[cfg(feature = "avro")]
    pub fn avro<T: DeserializeOwned + Data>(self, schema: &str) -> Result<KafkaSource<T>, Error> {
        Ok(self.by(avro::by_schema(schema)?))
    }

    /// Values are Avro, each behind a zero byte and the number of its schema, as a schema registry
    /// gives them.
    #[cfg(feature = "avro")]
    #[must_use]
    pub fn avro_by<T: DeserializeOwned + Data>(self, schemas: impl Schemas) -> KafkaSource<T> {
        self.by(avro::by_number(schemas))
    }

    /// Values are Protocol Buffers.
    #[cfg(feature = "protobuf")]
    #[must_use]
    pub fn protobuf<M: prost::Message + Default + Data>(self) -> KafkaSource<M> {
        self.by(protobuf::protobuf())
    }

    /// Decodes records by a function; an error makes a record undecodable. The record is lent:
    /// only what the function makes of it costs memory.
    #[must_use]
    pub fn decode<T: Data>(
        self,
        decode: impl Fn(&Record<'_>) -> Result<T, BoxError> + Send + Sync + 'static,
    ) -> KafkaSource<T> {
        self.by(formats::stateless(decode))
    }

    fn by<T>(self, format: Format<T>) -> KafkaSource<T> {
        let (undecodable, running) = (Undecodable::Fail, Mutex::new(None));
        KafkaSource { kafka: self, format, undecodable, running }
    }

    /// What the program cannot have meant.
    fn check(&self) -> Result<(), Error> {
        self.topics.check()?;
        let ours = [
            ("group.id", "say `.group(..)`"),
            ("auto.offset.reset", "say `.from(..)` and `.out_of_range(..)`"),
            ("enable.auto.commit", "positions belong to the flow's commits"),
            ("enable.auto.offset.store", "positions belong to the flow's commits"),
            ("enable.partition.eof", "the flow must know where partitions end"),
        ];
        for (name, instead) in ours {
            self.connection.reserve(name, instead)?;
        }
        if self.start == Start::Committed && self.group.is_none() {
            let message = "`Start::Committed` is what a group has committed: say `.group(..)`";
            return Err(Error::plan(message));
        }
        Ok(())
    }

    fn config(&self, partitions: usize) -> Result<ClientConfig, Error> {
        // Each partition has a queue of its own, and the limit is for each.
        let ahead = (AHEAD_KIB / partitions.max(1)).clamp(64, AHEAD_KIB);
        let at_once = (ahead * 1024).min(1024 * 1024);
        let reset = match self.out_of_range {
            OutOfRange::Fail => "error",
            OutOfRange::Earliest => "earliest",
            OutOfRange::Latest => "latest",
        };
        self.connection.config(&[
            // Partitions are assigned by hand, for which the client needs the name of a group.
            ("group.id", self.group.as_deref().unwrap_or("highwater")),
            ("auto.offset.reset", reset),
            ("enable.auto.commit", "false"),
            ("enable.auto.offset.store", "false"),
            // Only at its end a partition is known to be silent, and not just slow or away.
            ("enable.partition.eof", "true"),
            ("statistics.interval.ms", &partitions.max(1_000).to_string()),
            ("isolation.level", "read_committed"),
            ("check.crcs", "true"),
            ("queued.max.messages.kbytes", &ahead.to_string()),
            ("max.partition.fetch.bytes", &at_once.to_string()),
            // A queue that was full is filled again soon after there is room.
            ("fetch.queue.backoff.ms", "5"),
        ])
    }

    fn connect(&self, waker: Waker) -> Result<Running, Error> {
        self.check()?;
        let within = self.connection.connect_within;
        let inquirer = Inquirer::connect(&self.connection)?;
        let partitions = self.topics.list(inquirer.client(), within)?;
        let cluster = inquirer.cluster_id()?;
        let consumer: BaseConsumer<Context> = self
            .config(partitions.len())?
            .create_with_context(self.connection.context())
            .map_err(|e| failed("the Kafka client cannot be made", e))?;
        // The client knows the leaders then. It would ask for the beginning of a partition without
        // one only after half a second.
        self.topics.list(&consumer, within)?;
        let ends = if self.until_end { Some(self.ends(&inquirer, &partitions)?) } else { None };
        let bounded = ends.is_some();
        let wait = self.connection.set_to("fetch.wait.max.ms").and_then(|wait| wait.parse().ok());
        let health = Health::new(Duration::from_millis(wait.unwrap_or(500)));
        let shared = Shared::new(consumer, cluster, within, waker, partitions, ends, health);
        let discover = (!bounded).then(|| (self.topics.clone(), self.discover_every));
        Running::start(shared, Duties { discover, write_back: self.group.is_some() })
    }

    fn ends(
        &self,
        inquirer: &Inquirer,
        partitions: &BTreeSet<TopicPartition>,
    ) -> Result<BTreeMap<TopicPartition, u64>, Error> {
        let within = self.connection.connect_within;
        let end = |partition: &TopicPartition| {
            let (_, end) = start::watermarks(inquirer.client(), partition, within)?;
            Ok((partition.clone(), end))
        };
        partitions.iter().map(end).collect()
    }
}

/// A source of the records of Kafka topics, made from [`Kafka`] by a format.
///
/// Each partition of a topic is a partition of the source, named `topic/number`; a position is the
/// offset of a record. Only records of committed transactions are read. Positions belong to the
/// flow's commit. Partitions and topics that are added while the flow runs are found and read from
/// their beginning.
///
/// The client fetches ahead of the flow, up to 16 MiB over all partitions and at least 64 KiB of
/// each, and fetches no more until the flow has read some of it. (A property of the client,
/// `queued.max.messages.kbytes`, is the limit of one partition.)
///
/// A start fails if the cluster does not answer [in time](Kafka::connect_within). A flow that runs
/// waits for a cluster that is away, warns of it in its log, and goes on by itself. A partition
/// whose broker is away, or has not yet said that the partition is read to its end, holds its
/// watermark and does not become idle; it takes up to three seconds to notice that a broker is
/// away, so idle timeouts should be longer. These stop the flow: a topic that is deleted, access
/// that is refused, a position that is [out of range](Kafka::out_of_range), and a cluster that is
/// not the one that was read before.
pub struct KafkaSource<T> {
    kafka: Kafka,
    format: Format<T>,
    undecodable: Undecodable,
    running: Mutex<Option<Running>>,
}

impl<T: Data> KafkaSource<T> {
    /// What to do with records that cannot be decoded; by default the flow stops.
    #[must_use]
    pub fn undecodable(mut self, policy: Undecodable) -> Self {
        self.undecodable = policy;
        self
    }

    /// Gives key, timestamp, headers, topic, partition and offset beside the decoded value.
    #[must_use]
    pub fn with_record(self) -> KafkaSource<Recorded<T>> {
        let KafkaSource { kafka, format, undecodable, .. } = self;
        KafkaSource { undecodable, ..kafka.by(formats::with_record(format)) }
    }

    /// Makes `None` of records without a value, which are undecodable otherwise: such a tombstone
    /// says that what its key stands for is gone.
    #[must_use]
    pub fn tombstones(self) -> KafkaSource<Option<T>> {
        let KafkaSource { kafka, format, undecodable, .. } = self;
        KafkaSource { undecodable, ..kafka.by(formats::tombstones(format)) }
    }

    fn with_running<R>(
        &self,
        f: impl FnOnce(&std::sync::Arc<Shared>) -> Result<R, Error>,
    ) -> Result<R, Error> {
        let shared = lock(&self.running).as_ref().map(|running| running.shared.clone());
        match shared {
            Some(shared) => f(&shared),
            None => Err(Error::bug("a Kafka source was used before it was attached")),
        }
    }
}

impl<T> fmt::Debug for KafkaSource<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KafkaSource").field("kafka", &self.kafka).finish_non_exhaustive()
    }
}

impl<T: Data> Source for KafkaSource<T> {
    type Item = T;

    fn describe(&self) -> String {
        format!("Kafka({})", self.kafka.topics)
    }

    fn replay(&self) -> Replay {
        Replay::Exact
    }

    fn partitions(&self) -> Result<Vec<String>, Error> {
        self.with_running(|shared| {
            Ok(lock(&shared.partitions).iter().map(ToString::to_string).collect())
        })
    }

    fn is_complete(&self) -> bool {
        self.kafka.until_end
    }

    fn start(&self, partition: &str, first: bool) -> Result<Resume, Error> {
        let start = if first { self.kafka.start } else { Start::Earliest };
        let partition = TopicPartition::parse(partition)?;
        self.with_running(|shared| start::first_position(shared, &partition, start))
    }

    fn open(&self, partition: &str, resume: &Resume) -> Result<Box<dyn Reader<T>>, Error> {
        let partition = TopicPartition::parse(partition)?;
        self.with_running(|shared| {
            let begin = start::begin(shared, partition, resume, self.kafka.out_of_range)?;
            let reader = PartitionReader::open(shared, begin, (self.format)(), self.undecodable)?;
            Ok(Box::new(reader) as Box<dyn Reader<T>>)
        })
    }

    fn attach(&self, waker: Waker) -> Result<(), Error> {
        self.detach();
        *lock(&self.running) = Some(self.kafka.connect(waker)?);
        Ok(())
    }

    fn committed(&self, partition: &str, position: u64) {
        if self.kafka.group.is_none() {
            return;
        }
        let noted = TopicPartition::parse(partition).and_then(|partition| {
            self.with_running(|shared| {
                lock(&shared.committed).insert(partition, position);
                Ok(())
            })
        });
        if let Err(error) = noted {
            tracing::warn!(%error, "a position is not written back to the group");
        }
    }

    fn detach(&self) {
        lock(&self.running).take();
    }

    fn undecodable(&self) -> Undecodable {
        self.undecodable
    }
}
