//! The job in Highwater: count and sum by key in tumbling windows, from a topic to a topic,
//! exactly once.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use highwater::prelude::*;
use highwater::source::KafkaSource;
use highwater::{sink, source};

use crate::data::{BOUND_MS, Event, Format, Row, binary_event, binary_row};
use crate::{exit, or_exit, unix_nanos};

pub(crate) struct Setup<'a> {
    pub(crate) brokers: &'a str,
    pub(crate) format: Format,
    pub(crate) directory: &'a Path,
    pub(crate) commit: Duration,
    pub(crate) window_ms: i64,
}

/// When the first event was decoded, in ns since the Unix epoch; 0 before. One job runs at a time.
static BEGUN: AtomicU64 = AtomicU64::new(0);

fn mark() {
    if BEGUN.load(Ordering::Relaxed) == 0 {
        BEGUN.store(unix_nanos(), Ordering::Relaxed);
    }
}

fn events(setup: &Setup<'_>, topic: &str) -> KafkaSource<Event> {
    let topic = source::Kafka::topic(topic).at(setup.brokers);
    match setup.format {
        Format::Json => topic.json(),
        Format::Binary => topic.decode(|record| {
            let bytes = record.value().unwrap_or_default();
            binary_event(bytes).ok_or_else(|| "an event has 24 bytes".into())
        }),
    }
}

fn flow(setup: &Setup<'_>, from: &str, to: &str) -> Flow {
    let flow = Flow::new(to);
    let rows = flow
        .source("events", events(setup, from))
        .event_time(
            |event| {
                mark();
                EventTime::from_micros(event.time * 1_000)
            },
            Disorder::at_most(millis(BOUND_MS)),
        )
        .key_by(|event| &event.key)
        .window("counts", Tumbling::of(millis(setup.window_ms)))
        .aggregate((Count, Fold::new(0u64, |sum, e: &Event| *sum += e.value, |a, b| *a += b)))
        .drop_late("there are none")
        .map(|row| {
            let (count, sum) = row.value;
            let start = row.window.start.as_micros() / 1_000;
            Row { key: row.key, start, count, sum }
        });
    let topic = sink::Kafka::to(to).at(setup.brokers).key(|row: &Row| row.key.to_be_bytes());
    match setup.format {
        Format::Json => rows.sink("out", topic),
        Format::Binary => rows.sink(
            "out",
            topic.value(|row: &Row, bytes: &mut Vec<u8>| {
                binary_row(row, bytes);
                Ok(())
            }),
        ),
    };
    flow
}

/// Runs the job for each pair of topics, one after the other, each until a line comes in.
pub(crate) fn run(setup: &Setup<'_>, topics: &[&str]) {
    for pair in topics.chunks(2) {
        let [from, to] = *pair else { exit("topics come in pairs") };
        BEGUN.store(0, Ordering::Relaxed);
        let settings =
            Settings::at(setup.directory.join(to)).workers(1).commit_interval(setup.commit);
        let handle = or_exit(flow(setup, from, to).spawn(settings));
        let mut line = String::new();
        or_exit(std::io::stdin().read_line(&mut line));
        println!("begun={}", BEGUN.load(Ordering::Relaxed));
        handle.stop();
        or_exit(handle.wait());
    }
}
