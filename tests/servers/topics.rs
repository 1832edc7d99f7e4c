//! Topics of a Kafka broker, and records in them.

use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewPartitions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::OwnedHeaders;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

const PATIENCE: Duration = Duration::from_secs(20);

/// A record to be written.
#[derive(Clone, Debug, Default)]
pub struct NewRecord {
    pub partition: i32,
    pub key: Option<String>,
    pub value: Option<Vec<u8>>,
    pub timestamp_millis: Option<i64>,
    pub header: Option<(String, String)>,
}

impl NewRecord {
    pub fn to(partition: i32, value: impl Into<Vec<u8>>) -> Self {
        NewRecord { partition, value: Some(value.into()), ..NewRecord::default() }
    }
}

/// A topic of a broker, made for a test.
pub struct Topic {
    pub name: String,
    pub address: String,
}

pub fn block_on<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
}

pub fn admin(address: &str) -> AdminClient<DefaultClientContext> {
    ClientConfig::new().set("bootstrap.servers", address).create().unwrap()
}

impl Topic {
    /// Makes a topic with a name that nobody else uses; it begins as it is said.
    pub fn create(address: &str, name: &str, partitions: i32) -> Self {
        Self::create_as(address, super::unique(name), partitions)
    }

    pub fn create_as(address: &str, name: String, partitions: i32) -> Self {
        let new = NewTopic::new(&name, partitions, TopicReplication::Fixed(1));
        let options = AdminOptions::new().operation_timeout(Some(PATIENCE));
        let made = block_on(admin(address).create_topics([&new], &options)).unwrap();
        assert!(made.iter().all(Result::is_ok), "{made:?}");
        let topic = Topic { name, address: address.to_owned() };
        topic.wait_for(partitions);
        topic
    }

    /// Until everyone is told of the partitions, and each has a leader.
    fn wait_for(&self, partitions: i32) {
        let consumer = self.consumer(&[]);
        for _ in 0..200 {
            let metadata = consumer.fetch_metadata(Some(&self.name), PATIENCE).unwrap();
            let found = metadata.topics()[0].partitions();
            if found.len() == partitions as usize && found.iter().all(|p| p.leader() >= 0) {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        panic!("`{}` does not get {partitions} partitions", self.name);
    }

    pub fn delete(&self) {
        let options = AdminOptions::new().operation_timeout(Some(PATIENCE));
        let gone = block_on(admin(&self.address).delete_topics(&[&self.name], &options)).unwrap();
        assert!(gone.iter().all(Result::is_ok), "{gone:?}");
    }

    /// Gives the topic this many partitions in all.
    pub fn grow(&self, partitions: i32) {
        let new = NewPartitions::new(&self.name, partitions as usize);
        let options = AdminOptions::new().operation_timeout(Some(PATIENCE));
        let made = block_on(admin(&self.address).create_partitions([&new], &options)).unwrap();
        assert!(made.iter().all(Result::is_ok), "{made:?}");
        self.wait_for(partitions);
    }

    /// Deletes everything before an offset.
    pub fn delete_before(&self, partition: i32, offset: i64) {
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(&self.name, partition, Offset::Offset(offset)).unwrap();
        let options = AdminOptions::new().operation_timeout(Some(PATIENCE));
        block_on(admin(&self.address).delete_records(&list, &options)).unwrap();
    }

    pub fn producer(&self, properties: &[(&str, &str)]) -> BaseProducer {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &self.address).set("linger.ms", "1");
        for (name, value) in properties {
            config.set(*name, *value);
        }
        config.create().unwrap()
    }

    pub fn consumer(&self, properties: &[(&str, &str)]) -> BaseConsumer {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &self.address);
        for (name, value) in properties {
            config.set(*name, *value);
        }
        config.create().unwrap()
    }

    /// Writes records, and waits until they are all there.
    pub fn write(&self, records: impl IntoIterator<Item = NewRecord>) {
        let producer = self.producer(&[]);
        self.write_with(&producer, records);
    }

    pub fn write_with(
        &self,
        producer: &BaseProducer,
        records: impl IntoIterator<Item = NewRecord>,
    ) {
        for record in records {
            let NewRecord { partition, key, value, timestamp_millis, header } = record;
            let mut sent = BaseRecord::<str, [u8]>::to(&self.name).partition(partition);
            if let Some(key) = &key {
                sent = sent.key(key);
            }
            if let Some(value) = &value {
                sent = sent.payload(value);
            }
            if let Some(millis) = timestamp_millis {
                sent = sent.timestamp(millis);
            }
            if let Some((name, value)) = &header {
                let header = rdkafka::message::Header { key: name, value: Some(value) };
                sent = sent.headers(OwnedHeaders::new().insert(header));
            }
            let mut waiting = Some(sent);
            while let Some(record) = waiting.take() {
                if let Err((error, record)) = producer.send(record) {
                    let full = rdkafka::error::RDKafkaErrorCode::QueueFull;
                    assert_eq!(error.rdkafka_error_code(), Some(full), "{error}");
                    producer.poll(Duration::from_millis(10));
                    waiting = Some(record);
                }
            }
        }
        producer.flush(PATIENCE).unwrap();
    }
}
