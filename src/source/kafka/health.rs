//! Which partitions' brokers answer: one that does not says nothing of what it has.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rdkafka::statistics::Statistics;

use super::reader::TopicPartition;
use crate::source::Waker;
use crate::source::signal::lock;

/// What a broker may take in addition before it counts as one that does not answer; and how long
/// one that is back is given to say what it has.
const GRACE: Duration = Duration::from_secs(1);

/// The partitions that are read.
pub(super) struct Health {
    /// Partitions whose brokers do not answer.
    away: Mutex<BTreeMap<TopicPartition, Arc<AtomicBool>>>,
    /// A broker that has nothing new says so this often.
    answers_every: Duration,
}

impl Health {
    pub(super) fn new(answers_every: Duration) -> Self {
        Health { away: Mutex::default(), answers_every }
    }

    /// Says from now on whether the partition's broker does not answer.
    pub(super) fn watch(&self, partition: &TopicPartition) -> Arc<AtomicBool> {
        lock(&self.away).entry(partition.clone()).or_default().clone()
    }

    pub(super) fn forget(&self, partition: &TopicPartition) {
        lock(&self.away).remove(partition);
    }

    /// Wakes the flow for partitions that have changed.
    pub(super) fn update(&self, statistics: &Statistics, waker: &Waker) {
        let longest = micros(self.answers_every + GRACE);
        let answering: BTreeSet<i32> = statistics
            .brokers
            .values()
            .filter(|broker| broker.state == "UP" && broker.stateage >= micros(GRACE))
            .filter(|broker| (0..=longest).contains(&broker.rxidle))
            .map(|broker| broker.nodeid)
            .collect();
        let mut changed = Vec::new();
        for (partition, away) in &*lock(&self.away) {
            let topic = statistics.topics.get(&partition.topic);
            let found = topic.and_then(|topic| topic.partitions.get(&partition.number));
            let now = !found.is_some_and(|found| answering.contains(&found.broker));
            if away.swap(now, Ordering::AcqRel) != now {
                changed.push(partition.to_string());
            }
        }
        for partition in changed {
            waker.wake_partition(&partition);
        }
    }
}

/// Whether the client has anybody whom it can ask.
pub(super) fn knows_brokers(statistics: &Statistics) -> bool {
    statistics.brokers.values().any(|b| matches!(&*b.source, "learned" | "configured"))
}

fn micros(span: Duration) -> i64 {
    i64::try_from(span.as_micros()).unwrap_or(i64::MAX)
}
