//! The synthetic events that most workloads read.

use highwater::{EventTime, Span, millis};

pub(crate) const KEYS: u64 = 100_000;
/// How far behind the latest event of its partition an event may be.
pub(crate) const BOUND: Span = millis(100);

#[derive(Clone, Copy, Debug, serde::Serialize, serde::Deserialize)]
pub(crate) struct Event {
    pub(crate) key: u64,
    pub(crate) value: u64,
    pub(crate) time: EventTime,
}

pub(crate) fn splitmix64(index: u64) -> u64 {
    let mut z = index.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// A million events to a second of event time, of 100,000 keys.
#[inline]
pub(crate) fn event(index: u64) -> Event {
    event_of(index, KEYS)
}

/// The same with another number of keys.
#[inline]
pub(crate) fn event_of(index: u64, keys: u64) -> Event {
    let random = splitmix64(index);
    Event {
        key: (random >> 32) % keys,
        value: random & 0xffff,
        time: EventTime::from_micros(index as i64),
    }
}
