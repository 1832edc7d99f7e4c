//! A small flow of windows into a topic, and what a recomputation makes of its input.

#![allow(dead_code)]

use std::collections::BTreeMap;

use highwater::prelude::*;
use highwater::sink::{Kafka, Sink};
use highwater::testing::{Pushed, SimDisk, TestDriver};
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Event {
    pub key: u8,
    pub at: EventTime,
}

pub type Row = WindowResult<u8, u64>;

/// The n-th event: out of order, but never late.
pub fn event(n: i64) -> Event {
    Event { key: (n * 5 % 4) as u8, at: EventTime::from_seconds(n * 2 - n % 3) }
}

/// Counts of each key in windows of ten seconds.
pub fn flow(name: &str, source: Pushed<Event>, sink: impl Sink<Row>) -> Flow {
    let flow = Flow::new(name);
    flow.source("events", source)
        .event_time(|e| e.at, Disorder::at_most(seconds(6)))
        .key_by(|e| &e.key)
        .window("counts", Tumbling::of(seconds(10)))
        .aggregate(Count)
        .drop_late("there are none")
        .sink("out", sink);
    flow
}

pub fn line(row: &Row) -> String {
    format!("{} {} {}", row.key, row.window.start.as_micros() / 1_000_000, row.value)
}

/// The topic, keys and values as text.
pub fn lines(topic: &str, address: &str) -> Kafka<Row, impl highwater::sink::KafkaValue<Row>> {
    Kafka::to(topic).at(address).transactional_id(topic).key(|row: &Row| row.key.to_string()).value(
        |row: &Row, bytes: &mut Vec<u8>| {
            bytes.extend_from_slice(line(row).as_bytes());
            Ok(())
        },
    )
}

/// What the windows of the first events must be, counted again.
pub fn expected(events: i64) -> Vec<String> {
    let mut counts: BTreeMap<(u8, i64), u64> = BTreeMap::new();
    for n in 0..events {
        let Event { key, at } = event(n);
        *counts.entry((key, at.as_micros().div_euclid(10_000_000) * 10)).or_default() += 1;
    }
    let lines = counts.iter().map(|((key, start), count)| format!("{key} {start} {count}"));
    let mut lines: Vec<String> = lines.collect();
    lines.sort();
    lines
}

pub fn source(events: std::ops::Range<i64>) -> Pushed<Event> {
    let source = Pushed::partitions(2);
    for n in events {
        source.push((n % 2) as usize, event(n));
    }
    source
}

/// Runs to the end of the input, or to an error, with a commit every third tick.
pub fn run_to_end(flow: Flow, disk: &SimDisk) -> Result<(), Error> {
    let mut driver = TestDriver::on_disk(flow, disk, 4)?;
    for tick in 0..30 {
        if tick % 3 == 2 {
            driver.commit()?;
        } else {
            driver.tick()?;
        }
    }
    driver.commit()
}
