//! Strategies for property tests: event streams as they come in life, out of order, in bursts,
//! with few keys that take most, over partitions that fall silent and return.

use std::ops::RangeInclusive;

use proptest::prelude::*;
use proptest::sample::Index;
use serde::{Deserialize, Serialize};

use crate::time::{EventTime, Span, micros};

/// An event of a generated stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Sample {
    /// Its key.
    pub key: u32,
    /// Its event time.
    pub time: EventTime,
    /// Tells it from its like: rises by partition, then by position.
    pub number: u32,
}

/// What a generated stream does, step by step.
#[derive(Clone, Debug, PartialEq)]
pub enum Happening {
    /// A partition brings an event.
    Event {
        /// Which one.
        partition: usize,
        /// The event.
        event: Sample,
    },
    /// A partition is silent for long enough to become idle. It may return later.
    Silence {
        /// Which one.
        partition: usize,
    },
    /// A tick ends.
    Tick,
    /// A tick ends, and is committed.
    Commit,
    /// The process dies, and is started again.
    Crash,
}

/// The shape of event streams. Everything has a default that finds most mistakes.
///
/// ```
/// use highwater::micros;
/// use highwater::testing::generate::Streams;
/// use proptest::prelude::*;
///
/// proptest!(|(partitions in Streams::new().partitions(1..=3).disorder(micros(20)).batch())| {
///     prop_assert!((1..=3).contains(&partitions.len()));
///     for events in &partitions {
///         prop_assert!(events.windows(2).all(|pair| pair[0].number < pair[1].number));
///     }
/// });
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct Streams {
    partitions: RangeInclusive<usize>,
    events: RangeInclusive<usize>,
    keys: u32,
    pace: Span,
    disorder: Span,
    bursty: bool,
    skewed: bool,
    idle: bool,
}

impl Default for Streams {
    fn default() -> Self {
        Self::new()
    }
}

impl Streams {
    /// One to three partitions of up to 25 events, three keys, times a few µs apart and up to
    /// 15 µs out of order, bursts and skew, no idle partitions.
    pub fn new() -> Self {
        Streams {
            partitions: 1..=3,
            events: 0..=25,
            keys: 3,
            pace: micros(6),
            disorder: micros(15),
            bursty: true,
            skewed: true,
            idle: false,
        }
    }

    /// How many partitions there are.
    pub fn partitions(mut self, partitions: RangeInclusive<usize>) -> Self {
        self.partitions = partitions;
        self
    }

    /// How many events each partition has.
    pub fn events(mut self, events: RangeInclusive<usize>) -> Self {
        self.events = events;
        self
    }

    /// How many keys there are.
    pub fn keys(mut self, keys: u32) -> Self {
        self.keys = keys.max(1);
        self
    }

    /// How far apart the times of two events usually are, at most.
    pub fn pace(mut self, pace: Span) -> Self {
        self.pace = pace;
        self
    }

    /// How far an event may lie behind the one before it. A promise with a smaller bound has
    /// late events.
    pub fn disorder(mut self, disorder: Span) -> Self {
        self.disorder = disorder;
        self
    }

    /// Whether several events may have the same time, and long gaps follow.
    pub fn bursty(mut self, bursty: bool) -> Self {
        self.bursty = bursty;
        self
    }

    /// Whether the first key gets most of the events.
    pub fn skewed(mut self, skewed: bool) -> Self {
        self.skewed = skewed;
        self
    }

    /// Whether partitions fall silent and return; only [`stream`](Self::stream) can tell it.
    pub fn idle(mut self, idle: bool) -> Self {
        self.idle = idle;
        self
    }

    /// Partitions with their events, to be brought in any order: what a law speaks of.
    pub fn batch(&self) -> impl Strategy<Value = Vec<Vec<Sample>>> + use<> {
        let shape = self.clone();
        let partition = prop::collection::vec(any::<Draw>(), self.events.clone());
        prop::collection::vec((-50i64..50, partition), self.partitions.clone())
            .prop_map(move |partitions| shape.batch_of(&partitions))
    }

    /// What happens over time: events of all partitions interleaved, with ticks, commits and
    /// crashes in between, and silences if asked for. Ends without a tick.
    pub fn stream(&self) -> impl Strategy<Value = Vec<Happening>> + use<> {
        let idle = self.idle;
        let most = self.partitions.end() * (self.events.end() + 1) * 2;
        let choices = prop::collection::vec((any::<Index>(), 0u8..20), most.max(1));
        (self.batch(), choices)
            .prop_map(move |(partitions, choices)| interleave(&partitions, &choices, idle))
    }

    fn batch_of(&self, partitions: &[(i64, Vec<Draw>)]) -> Vec<Vec<Sample>> {
        let mut number = 0;
        let mut batch = Vec::new();
        for (start, draws) in partitions {
            let mut front = *start;
            let mut events = Vec::new();
            for draw in draws {
                front = front.saturating_add(self.advance(draw));
                let back = draw.back % (self.disorder.as_micros().max(0) as u64 + 1);
                // Half of the events are in order, as in life.
                let back = if draw.in_order { 0 } else { back as i64 };
                let time = EventTime::from_micros(front.saturating_sub(back));
                number += 1;
                events.push(Sample { key: self.key(draw.key), time, number });
            }
            batch.push(events);
        }
        batch
    }

    fn advance(&self, draw: &Draw) -> i64 {
        let pace = self.pace.as_micros().max(0);
        match draw.burst {
            0 | 1 if self.bursty => 0,
            2 if self.bursty => pace * 8,
            _ => (draw.step % (pace as u64 + 1)) as i64,
        }
    }

    fn key(&self, draw: u32) -> u32 {
        let key = draw % self.keys;
        if self.skewed && draw % 5 < 3 { 0 } else { key }
    }
}

/// What one event is made of. Small numbers make plain events, so shrinking leads to them.
#[derive(Clone, Debug)]
struct Draw {
    key: u32,
    step: u64,
    back: u64,
    in_order: bool,
    burst: u8,
}

impl Arbitrary for Draw {
    type Parameters = ();
    type Strategy = BoxedStrategy<Self>;

    fn arbitrary_with((): ()) -> BoxedStrategy<Self> {
        (0u32..1000, 0u64..1_000_000, 0u64..1_000_000, any::<bool>(), 0u8..12)
            .prop_map(|(key, step, back, out, burst)| Draw {
                key,
                step,
                back,
                in_order: !out,
                burst: 11 - burst,
            })
            .boxed()
    }
}

fn interleave(partitions: &[Vec<Sample>], choices: &[(Index, u8)], idle: bool) -> Vec<Happening> {
    let mut next = vec![0; partitions.len()];
    let mut happenings = Vec::new();
    for (index, die) in choices.iter().cycle() {
        let waiting: Vec<usize> =
            (0..partitions.len()).filter(|p| next[*p] < partitions[*p].len()).collect();
        if waiting.is_empty() {
            break;
        }
        let partition = *index.get(&waiting);
        match die {
            0 | 1 => happenings.push(Happening::Tick),
            2 => happenings.push(Happening::Commit),
            3 => happenings.push(Happening::Crash),
            4 if idle => happenings.push(Happening::Silence { partition }),
            _ => {}
        }
        let event = partitions[partition][next[partition]];
        next[partition] += 1;
        happenings.push(Happening::Event { partition, event });
    }
    happenings
}

#[cfg(test)]
mod tests {
    use super::*;

    proptest! {
        #[test]
        fn disorder_stays_within_what_was_asked(
            batch in Streams::new().disorder(micros(4)).batch(),
        ) {
            for events in batch {
                let mut largest = EventTime::MIN;
                for event in events {
                    prop_assert!(event.time >= largest - micros(4), "{event:?} after {largest}");
                    largest = largest.max(event.time);
                    prop_assert!(event.key < 3);
                }
            }
        }

        #[test]
        fn a_stream_brings_each_event_once_and_in_order(
            stream in Streams::new().idle(true).partitions(2..=4).stream(),
        ) {
            let mut last = std::collections::BTreeMap::new();
            let mut numbers = std::collections::BTreeSet::new();
            for happening in stream {
                if let Happening::Event { partition, event } = happening {
                    let before = last.insert(partition, event.number);
                    prop_assert!(before < Some(event.number));
                    prop_assert!(numbers.insert(event.number));
                }
            }
            prop_assert_eq!(numbers.len() as u32, numbers.last().copied().unwrap_or(0));
        }
    }
}
