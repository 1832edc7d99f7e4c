//! Events and results: what they are, and as bytes. The Java side has the same in `Codec`.

use hashbrown::HashMap;
use serde::{Deserialize, Serialize};

use crate::exit;

pub(crate) const PARTITIONS: i32 = 4;
/// Events are less than this out of order, ms.
pub(crate) const BOUND_MS: i64 = 100;

pub(crate) fn splitmix64(index: u64) -> u64 {
    let mut z = index.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Event {
    pub(crate) key: u64,
    pub(crate) value: u64,
    /// ms since the Unix epoch, as in records of Kafka.
    pub(crate) time: i64,
}

impl Event {
    /// All events of a key are in one partition.
    pub(crate) fn partition(&self) -> i32 {
        (splitmix64(self.key) % PARTITIONS as u64) as i32
    }
}

/// One window of one key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Row {
    pub(crate) key: u64,
    /// ms since the Unix epoch.
    pub(crate) start: i64,
    pub(crate) count: u64,
    pub(crate) sum: u64,
}

/// The events of a topic, in the order in which they are sent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Job {
    pub(crate) keys: u64,
    pub(crate) window_ms: i64,
    /// Event time from one event to the next, before they are put out of order.
    pub(crate) step_micros: u64,
    /// The time of event 0, ms since the Unix epoch, where a window begins.
    pub(crate) base_ms: i64,
}

impl Job {
    /// A million events to a second, windows of a second.
    pub(crate) fn throughput(keys: u64, base_ms: i64) -> Self {
        Job { keys, window_ms: 1_000, step_micros: 1, base_ms }
    }

    pub(crate) fn event(&self, index: u64) -> Event {
        let random = splitmix64(index);
        let behind = (splitmix64(!index) % BOUND_MS as u64) as i64;
        let time = (index * self.step_micros / 1_000) as i64 - behind;
        Event {
            key: (random >> 32) % self.keys,
            value: random & 0xffff,
            time: self.base_ms + time.max(0),
        }
    }

    /// When the last window of so many events ends.
    pub(crate) fn end(&self, events: u64) -> i64 {
        let last = (0..events).map(|index| self.event(index).time).max();
        self.window(last.unwrap_or(self.base_ms)) + self.window_ms
    }

    pub(crate) fn window(&self, time: i64) -> i64 {
        time.div_euclid(self.window_ms) * self.window_ms
    }
}

/// Number and order-independent sum of results: as in `benches/workloads`, with times from the
/// start of the job, so that they do not depend on when it ran.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Check {
    pub(crate) results: u64,
    pub(crate) sum: u64,
}

impl Check {
    pub(crate) fn add(&mut self, row: &Row, base_ms: i64) {
        let start = (row.start - base_ms) as u64;
        let mixed = splitmix64(row.key ^ start.rotate_left(32)).wrapping_mul(row.count);
        self.results += 1;
        self.sum = self.sum.wrapping_add(mixed ^ row.sum.rotate_left(17));
    }
}

/// What the results must be, by a hash table.
#[derive(Default)]
pub(crate) struct Expected {
    windows: HashMap<(i64, u64), (u64, u64)>,
}

impl Expected {
    pub(crate) fn event(&mut self, job: &Job, event: &Event) {
        let window = self.windows.entry((job.window(event.time), event.key)).or_default();
        window.0 += 1;
        window.1 += event.value;
    }

    /// Of windows that end no later than at this time.
    pub(crate) fn check(&self, job: &Job, until_ms: i64) -> Check {
        let mut check = Check::default();
        for (&(start, key), &(count, sum)) in &self.windows {
            if start + job.window_ms <= until_ms {
                check.add(&Row { key, start, count, sum }, job.base_ms);
            }
        }
        check
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    Json,
    /// Numbers of eight bytes, little end first.
    Binary,
}

fn word(bytes: &[u8], at: usize) -> Option<u64> {
    let word = bytes.get(at * 8..at * 8 + 8)?;
    word.try_into().ok().map(u64::from_le_bytes)
}

impl Format {
    pub(crate) fn named(name: &str) -> Self {
        match name {
            "json" => Format::Json,
            "binary" => Format::Binary,
            _ => exit(format!("`{name}` is neither json nor binary")),
        }
    }

    pub(crate) fn event(self, event: &Event, bytes: &mut Vec<u8>) {
        bytes.clear();
        match self {
            Format::Json => {
                // Writing to memory cannot fail.
                let _ = serde_json::to_writer(bytes, event);
            }
            Format::Binary => {
                bytes.extend_from_slice(&event.key.to_le_bytes());
                bytes.extend_from_slice(&event.value.to_le_bytes());
                bytes.extend_from_slice(&event.time.to_le_bytes());
            }
        }
    }

    pub(crate) fn row(self, bytes: &[u8]) -> Option<Row> {
        match self {
            Format::Json => serde_json::from_slice(bytes).ok(),
            Format::Binary if bytes.len() == 32 => Some(Row {
                key: word(bytes, 0)?,
                start: word(bytes, 1)? as i64,
                count: word(bytes, 2)?,
                sum: word(bytes, 3)?,
            }),
            Format::Binary => None,
        }
    }
}

pub(crate) fn binary_event(bytes: &[u8]) -> Option<Event> {
    if bytes.len() != 24 {
        return None;
    }
    Some(Event { key: word(bytes, 0)?, value: word(bytes, 1)?, time: word(bytes, 2)? as i64 })
}

pub(crate) fn binary_row(row: &Row, bytes: &mut Vec<u8>) {
    for word in [row.key, row.start as u64, row.count, row.sum] {
        bytes.extend_from_slice(&word.to_le_bytes());
    }
}
