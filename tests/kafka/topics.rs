//! Topics of the broker that tests use: made, written to and read back.

// Every test binary uses some of it.
#![allow(dead_code)]

use std::time::{Duration, Instant};

use rdkafka::ClientConfig;
use rdkafka::admin::{AdminOptions, NewTopic, TopicReplication};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::{Headers, Message};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use crate::servers::topics::{admin, block_on};

/// Makes topics that are all alike.
pub fn create(address: &str, names: &[String], partitions: i32, config: &[(&str, &str)]) {
    let topics: Vec<NewTopic<'_>> = names
        .iter()
        .map(|name| {
            // The events of tests are of 1970, and a broker removes what is old.
            let topic = NewTopic::new(name, partitions, TopicReplication::Fixed(1));
            let topic = topic.set("retention.ms", "-1");
            config.iter().fold(topic, |topic, (name, value)| topic.set(name, value))
        })
        .collect();
    let made = block_on(admin(address).create_topics(&topics, &AdminOptions::new())).unwrap();
    for topic in made {
        topic.unwrap();
    }
}

pub fn create_one(address: &str, name: &str, partitions: i32) {
    create(address, &[name.to_owned()], partitions, &[]);
}

/// A record as a reader finds it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Found {
    pub partition: i32,
    pub offset: i64,
    pub key: Option<Vec<u8>>,
    pub value: Vec<u8>,
    pub time: Option<i64>,
    pub headers: Vec<(String, Vec<u8>)>,
}

impl Found {
    pub fn text(&self) -> String {
        String::from_utf8(self.value.clone()).unwrap()
    }
}

fn reader(address: &str, isolation: &str) -> BaseConsumer {
    ClientConfig::new()
        .set("bootstrap.servers", address)
        .set("group.id", "nobody")
        .set("enable.auto.commit", "false")
        .set("enable.partition.eof", "true")
        .set("fetch.wait.max.ms", "10")
        .set("isolation.level", isolation)
        .create()
        .unwrap()
}

/// Waits until no transaction is open: a commit is answered before its mark is in each partition,
/// and up to there a reader with `read_committed` finds the end of the partition.
fn wait_for_marks(committed: &BaseConsumer, address: &str, topic: &str, partitions: &[i32]) {
    let (all, started) = (reader(address, "read_uncommitted"), Instant::now());
    let end = |reader: &BaseConsumer, partition: i32| {
        reader.fetch_watermarks(topic, partition, Duration::from_secs(30)).map(|(_, end)| end)
    };
    for partition in partitions {
        loop {
            // A broker that was away may not know for a moment that it leads the partition.
            let ends = end(committed, *partition).and_then(|c| Ok((c, end(&all, *partition)?)));
            if matches!(ends, Ok((committed, all)) if committed == all) {
                break;
            }
            let waited = started.elapsed();
            assert!(waited < Duration::from_secs(60), "`{topic}` is not settled: {ends:?}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

/// All records of a topic that a reader with `read_committed` finds, by partition and offset.
pub fn read_committed(address: &str, topic: &str) -> Vec<Found> {
    let reader = reader(address, "read_committed");
    let metadata = reader.fetch_metadata(Some(topic), Duration::from_secs(30)).unwrap();
    let mut open: Vec<i32> = metadata.topics()[0].partitions().iter().map(|p| p.id()).collect();
    wait_for_marks(&reader, address, topic, &open);
    let mut all = TopicPartitionList::new();
    for partition in &open {
        all.add_partition_offset(topic, *partition, Offset::Beginning).unwrap();
    }
    reader.assign(&all).unwrap();
    let (started, mut found) = (Instant::now(), Vec::new());
    while !open.is_empty() {
        assert!(started.elapsed() < Duration::from_secs(60), "`{topic}` has no end");
        match reader.poll(Duration::from_millis(100)) {
            None => {}
            Some(Err(KafkaError::PartitionEOF(ended))) => open.retain(|p| *p != ended),
            Some(Err(error)) => panic!("{topic}: {error}"),
            Some(Ok(message)) => found.push(Found {
                partition: message.partition(),
                offset: message.offset(),
                key: message.key().map(<[u8]>::to_vec),
                value: message.payload().unwrap_or_default().to_vec(),
                time: message.timestamp().to_millis(),
                headers: message.headers().map_or(Vec::new(), |headers| {
                    let headers = headers.iter();
                    let pair = |header: rdkafka::message::Header<'_, &[u8]>| {
                        (header.key.to_owned(), header.value.unwrap_or_default().to_vec())
                    };
                    headers.map(pair).collect()
                }),
            }),
        }
    }
    found.sort();
    found
}

/// The values, as text, in any order.
pub fn sorted_texts(found: &[Found]) -> Vec<String> {
    let mut texts: Vec<String> = found.iter().map(Found::text).collect();
    texts.sort();
    texts
}
