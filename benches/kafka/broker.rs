//! Topics, and the clients that write and read them.

use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::BorrowedMessage;
use rdkafka::producer::{BaseProducer, BaseRecord, DefaultProducerContext, Producer};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use crate::data::{Event, Format};
use crate::{exit, or_exit};

/// Makes a topic that keeps what it is given.
pub(crate) fn create(brokers: &str, name: &str, partitions: i32) {
    let mut config = ClientConfig::new();
    let client: Result<AdminClient<DefaultClientContext>, _> =
        config.set("bootstrap.servers", brokers).create();
    let client = or_exit(client);
    let topic = NewTopic::new(name, partitions, TopicReplication::Fixed(1));
    let topic = topic.set("retention.ms", "-1");
    let runtime = or_exit(tokio::runtime::Builder::new_current_thread().build());
    let made = runtime.block_on(client.create_topics([&topic], &AdminOptions::new()));
    for made in or_exit(made) {
        if let Err((name, code)) = made {
            exit(format!("the topic `{name}` cannot be made: {code}"));
        }
    }
}

/// Sends events, each to the partition of its key.
pub(crate) struct Sender {
    producer: BaseProducer,
    topic: String,
    format: Format,
    bytes: Vec<u8>,
}

impl Sender {
    /// A batch waits for more for up to so long.
    pub(crate) fn new(brokers: &str, topic: &str, format: Format, linger: Duration) -> Self {
        let mut config = ClientConfig::new();
        let producer = config
            .set("bootstrap.servers", brokers)
            .set("linger.ms", linger.as_millis().to_string())
            .set("batch.size", "262144")
            .set("enable.idempotence", "true")
            .set("queue.buffering.max.messages", "1000000")
            .set("queue.buffering.max.kbytes", "262144")
            .create_with_context(DefaultProducerContext);
        Sender { producer: or_exit(producer), topic: topic.to_owned(), format, bytes: vec![] }
    }

    pub(crate) fn send(&mut self, event: &Event, partition: i32) {
        self.format.event(event, &mut self.bytes);
        let key = event.key.to_be_bytes();
        loop {
            let record = BaseRecord::<[u8], [u8]>::to(&self.topic)
                .partition(partition)
                .timestamp(event.time)
                .key(&key[..])
                .payload(&self.bytes);
            match self.producer.send(record) {
                Ok(()) => return,
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), _)) => {
                    self.producer.poll(Duration::from_millis(1));
                }
                Err((error, _)) => exit(error),
            }
        }
    }

    /// Lets go of what has arrived.
    pub(crate) fn poll(&self) {
        self.producer.poll(Duration::ZERO);
    }

    pub(crate) fn flush(&self) {
        or_exit(self.producer.flush(Duration::from_secs(60)));
    }
}

/// A record, if there is one soon. A broker that is away for a moment is waited for.
pub(crate) fn next(reader: &BaseConsumer) -> Option<BorrowedMessage<'_>> {
    match reader.poll(Duration::from_millis(10))? {
        Ok(message) => Some(message),
        Err(KafkaError::MessageConsumption(
            RDKafkaErrorCode::AllBrokersDown | RDKafkaErrorCode::BrokerTransportFailure,
        )) => None,
        Err(error) => exit(error),
    }
}

/// Reads what transactions have committed, from the beginning.
pub(crate) fn reader(brokers: &str, topic: &str) -> BaseConsumer {
    let mut config = ClientConfig::new();
    let reader: Result<BaseConsumer, _> = config
        .set("bootstrap.servers", brokers)
        .set("group.id", "reader")
        .set("enable.auto.commit", "false")
        .set("isolation.level", "read_committed")
        .set("fetch.wait.max.ms", "100")
        .create();
    let reader = or_exit(reader);
    let mut all = TopicPartitionList::new();
    let known = or_exit(reader.fetch_metadata(Some(topic), Duration::from_secs(30)));
    for partition in known.topics().iter().flat_map(|topic| topic.partitions()) {
        let partition = partition.id();
        or_exit(all.add_partition_offset(topic, partition, Offset::Beginning));
    }
    or_exit(reader.assign(&all));
    reader
}
