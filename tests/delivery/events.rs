//! The events of the campaign, by their numbers alone, and what must come of them.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use highwater::EventTime;
use rdkafka::ClientConfig;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use serde::{Deserialize, Serialize};

pub const PARTITIONS: u64 = 8;
/// Milliseconds: the windows, what a partition promises, and by how much events are disordered.
pub const WINDOW: i64 = 500;
pub const BOUND: i64 = 150;
const DISORDER: u64 = 200;
const KEYS: u64 = 40;

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Event {
    pub number: u64,
    pub key: u32,
    pub at: EventTime,
    /// Random: a sum of them is right only if each is in it once.
    pub value: i64,
}

/// Splits well, and is the same everywhere.
pub fn random(number: u64) -> u64 {
    let mut z = number.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// The event with this number, which is of the partition `number % PARTITIONS`. One in a thousand
/// comes far too late; of the others, some by a little.
pub fn event(number: u64) -> Event {
    let random = random(number);
    let lag = random % DISORDER + if random % 1_000 == 7 { 5_000 } else { 0 };
    Event {
        number,
        key: (random / 1_000 % KEYS) as u32,
        at: EventTime::from_micros((10_000 + number as i64 - lag as i64) * 1_000),
        value: ((random >> 24) & 0xffff_ffff) as i64,
    }
}

/// What the sinks must hold, counted by plain loops.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Expected {
    /// By key and start of the window in milliseconds.
    pub sums: BTreeMap<(u32, i64), i64>,
    /// The numbers of late events.
    pub late: Vec<u64>,
}

pub fn expected(events: u64) -> Expected {
    let mut expected = Expected::default();
    for partition in 0..PARTITIONS {
        let mut largest = i64::MIN;
        for number in (partition..events).step_by(PARTITIONS as usize) {
            let Event { key, at, value, .. } = event(number);
            let at = at.as_micros() / 1_000;
            let start = at.div_euclid(WINDOW) * WINDOW;
            if largest != i64::MIN && start + WINDOW <= largest - BOUND {
                expected.late.push(number);
            } else {
                *expected.sums.entry((key, start)).or_default() += value;
            }
            largest = largest.max(at);
        }
    }
    expected.late.sort_unstable();
    expected
}

/// Sends all of them, and waits until the broker has them.
pub fn produce(address: &str, topic: &str, events: u64) {
    let producer: BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", address)
        .set("enable.idempotence", "true")
        .set("linger.ms", "20")
        .create()
        .unwrap();
    let until = Instant::now() + Duration::from_secs(300);
    for number in 0..events {
        let event = event(number);
        let (key, value) = (event.key.to_string(), serde_json::to_vec(&event).unwrap());
        let mut record =
            BaseRecord::to(topic).partition((number % PARTITIONS) as i32).key(&key).payload(&value);
        while let Err((error, back)) = producer.send(record) {
            let full = KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull);
            assert!(error == full && Instant::now() < until, "{error}");
            producer.poll(Duration::from_millis(10));
            record = back;
        }
        if number.is_multiple_of(1_000) {
            producer.poll(Duration::ZERO);
        }
    }
    producer.flush(Duration::from_secs(300)).unwrap();
}
