//! Time over partitions of a topic that change while the flow runs: some are added, one falls
//! silent and returns, and the broker itself stands still for a while.
//!
//! `LIVE=full` lets the broker stand still for 30 seconds in place of 5.
#![cfg(feature = "kafka")]

mod servers;
#[path = "kafka/topics.rs"]
mod topics;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use highwater::prelude::*;
use highwater::sink::{Sink, channel};

use highwater::{LateReason, Metrics, Watermark, sink, source};
use rdkafka::producer::{BaseProducer, Producer};
use servers::topics::{NewRecord, Topic};

/// Window by its start in seconds, and how many events were in it.
type Row = (i64, u64);
type LateRow = (i64, LateReason);

/// Counts per second; a partition promises nothing below its largest time less a second.
fn flow(
    topic: &Topic,
    address: &str,
    idle_after: Option<Span>,
    out: impl Sink<Row>,
    late: impl Sink<LateRow>,
) -> Flow {
    let flow = Flow::new("live");
    let input = source::Kafka::topic(&topic.name).at(address);
    let input = input.discover_every(Duration::from_millis(200)).text();
    let mut disorder = Disorder::at_most(seconds(1));
    if let Some(idle_after) = idle_after {
        disorder = disorder.idle_after(idle_after);
    }
    let counts = flow
        .source("in", input)
        .event_time(|millis| EventTime::from_micros(millis_of(millis) * 1_000), disorder)
        .key_with(|_| 0u8)
        .window("counts", Tumbling::of(seconds(1)))
        .aggregate(Count);
    counts.late().map(|late| (millis_of(&late.row), late.reason)).sink("late", late);
    counts.map(|r| (r.window.start.as_micros() / 1_000_000, r.value)).sink("out", out);
    flow
}

fn millis_of(text: &str) -> i64 {
    text.parse().unwrap()
}

fn at(partition: i32, millis: i64) -> NewRecord {
    NewRecord::to(partition, millis.to_string())
}

/// Ten events a second in each partition, from one second to another.
fn write(topic: &Topic, partitions: std::ops::Range<i32>, seconds: std::ops::Range<i64>) {
    let tenths = seconds.start * 10..seconds.end * 10;
    topic.write(tenths.flat_map(|n| partitions.clone().map(move |p| at(p, n * 100))));
}

/// The watermark of the windows in milliseconds.
fn watermark(metrics: &Metrics) -> i64 {
    let counts = metrics.operators.iter().find(|operator| operator.id == "counts");
    match counts.map(|counts| counts.watermark) {
        Some(Watermark::At(time)) => time.as_micros() / 1_000,
        Some(Watermark::End) => i64::MAX,
        // Nothing has been read yet.
        Some(Watermark::Unknown) | None => i64::MIN,
    }
}

fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let started = Instant::now();
    while !is_so() {
        assert!(started.elapsed() < Duration::from_secs(60), "{what} did not come");
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn wait_for(handle: &Handle, millis: i64) {
    let started = Instant::now();
    while watermark(&handle.metrics()) < millis {
        let in_time = started.elapsed() < Duration::from_secs(60) && !handle.is_finished();
        assert!(in_time, "the watermark {millis} did not come: {:#?}", handle.metrics());
        std::thread::sleep(Duration::from_millis(10));
    }
    assert_eq!(watermark(&handle.metrics()), millis);
}

/// What clients complain of is shown where the test fails; more of it with `RUST_LOG`.
fn show_log() {
    let filter = tracing_subscriber::EnvFilter::from_default_env();
    let _ = tracing_subscriber::fmt().with_env_filter(filter).with_test_writer().try_init();
}

/// The watermark stays where it is for a while.
fn stands(handle: &Handle, millis: i64, time: Duration) {
    let until = Instant::now() + time;
    while Instant::now() < until {
        assert_eq!(watermark(&handle.metrics()), millis);
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// The counts of each window, of which there is one result.
fn once(rows: impl IntoIterator<Item = Row>) -> BTreeMap<i64, u64> {
    let mut counts = BTreeMap::new();
    for (start, count) in rows {
        assert_eq!(counts.insert(start, count), None, "the window of {start} came twice");
    }
    counts
}

#[test]
fn partitions_that_are_added_hold_time_until_they_speak() {
    let Some(broker) = servers::kafka() else { return };
    let topic = Topic::create(broker.address(), "grown", 2);
    let ((out, rows), (late, late_rows)) = (channel(), channel());
    let flow = flow(&topic, broker.address(), None, out, late);
    let handle = flow.spawn(Settings::in_memory().workers(2)).unwrap();
    write(&topic, 0..2, 0..10);
    wait_for(&handle, 8_900);
    topic.grow(4);
    // Ten times as long as it takes to look for them; metrics name them after the next commit.
    std::thread::sleep(Duration::from_secs(2));
    // They have said nothing, and so nobody knows what they will say.
    write(&topic, 0..2, 10..20);
    stands(&handle, 8_900, Duration::from_secs(1));
    // What is closed is closed; what is not is theirs too.
    topic.write([at(2, 5_000), at(2, 7_999), at(2, 8_000), at(2, 15_000), at(3, 16_000)]);
    wait_for(&handle, 14_000);
    write(&topic, 2..4, 20..21);
    write(&topic, 0..2, 20..21);
    wait_for(&handle, 19_900);
    handle.stop();
    let counters = &handle.wait().unwrap().operators;
    let late: Vec<LateRow> = late_rows.collect();
    assert_eq!(late, [(5_000, LateReason::Discovered), (7_999, LateReason::Discovered)]);
    let mut expected: BTreeMap<i64, u64> = (0..19).map(|start| (start, 20)).collect();
    for start in [8, 15, 16] {
        *expected.get_mut(&start).unwrap() += 1;
    }
    assert_eq!(once(rows), expected);
    let counters = counters.iter().find(|operator| operator.id == "counts").unwrap().counters;
    assert_eq!(counters.late, 2);
    assert_eq!(counters.events_in, counters.used + counters.late);
}

/// With a timeout it holds time no longer, and is late for what was closed meanwhile; without one
/// it holds time for as long as it takes, and is not late.
#[test]
fn a_partition_that_falls_silent_holds_time_until_it_is_idle() {
    let Some(broker) = servers::kafka() else { return };
    for idle_after in [Some(seconds(1)), None] {
        let topic = Topic::create(broker.address(), "silent", 2);
        write(&topic, 0..2, 0..10);
        let ((out, rows), (late, late_rows)) = (channel(), channel());
        let flow = flow(&topic, broker.address(), idle_after, out, late);
        let handle = flow.spawn(Settings::in_memory().workers(2)).unwrap();
        wait_for(&handle, 8_900);
        write(&topic, 0..1, 10..20);
        let returned = [at(1, 12_000), at(1, 18_500), at(1, 21_000)];
        if idle_after.is_some() {
            wait_until("idleness", || watermark(&handle.metrics()) == 18_900);
        } else {
            stands(&handle, 8_900, Duration::from_secs(2));
        }
        topic.write(returned);
        write(&topic, 0..1, 20..22);
        wait_until("the rest", || watermark(&handle.metrics()) >= 20_000);
        handle.stop();
        handle.wait().unwrap();
        let late: Vec<LateRow> = late_rows.collect();
        let mut expected: BTreeMap<i64, u64> = (0..10).map(|start| (start, 20)).collect();
        expected.extend((10..20).map(|start| (start, 10)));
        *expected.get_mut(&18).unwrap() += 1;
        if idle_after.is_some() {
            assert_eq!(late, [(12_000, LateReason::Returned)]);
        } else {
            assert!(late.is_empty(), "{late:?}");
            *expected.get_mut(&12).unwrap() += 1;
        }
        assert_eq!(once(rows), expected, "idle after {idle_after:?}");
    }
}

/// Partitions that are some seconds apart, written to by the clock, while the broker stands still
/// and goes on: time stands still and goes on with it.
#[test]
fn a_broker_that_stands_still_loses_and_repeats_nothing_and_makes_nothing_late() {
    let Some(broker) = servers::private_kafka() else { return };
    show_log();
    let full = std::env::var("LIVE").is_ok_and(|value| value == "full");
    let still = Duration::from_secs(if full { 30 } else { 5 });
    let topic = Topic::create_as(broker.address(), "in".to_owned(), 4);
    topics::create_one(broker.address(), "out", 2);
    let dir = tempfile::tempdir().unwrap();
    let (late, late_rows) = channel();
    let out = sink::Kafka::to("out").at(broker.address());
    let flow = flow(&topic, broker.address(), None, out, late);
    let settings = Settings::at(dir.path()).commit_interval(Duration::from_millis(20));
    let handle = flow.spawn(settings).unwrap();

    let producer = topic.producer(&[("enable.idempotence", "true")]);
    let (mut clock, mut watermarks) = (Writer::new(&topic, &producer), vec![i64::MIN]);
    let look = |clock: &mut Writer<'_>, time: Duration, watermarks: &mut Vec<i64>| {
        let until = Instant::now() + time;
        while Instant::now() < until {
            clock.write();
            let now = watermark(&handle.metrics());
            assert!(now >= *watermarks.last().unwrap(), "the watermark went back");
            assert!(now <= clock.least(), "the watermark {now} is ahead of what was written");
            watermarks.push(now);
            std::thread::sleep(Duration::from_millis(10));
        }
        *watermarks.last().unwrap()
    };
    look(&mut clock, Duration::from_secs(3), &mut watermarks);
    broker.pause();
    let at_first = look(&mut clock, Duration::from_millis(500), &mut watermarks);
    let at_last = look(&mut clock, still, &mut watermarks);
    assert_eq!(at_first, at_last, "time went on while the broker stood still");
    broker.resume();
    let resumed = Instant::now();
    while look(&mut clock, Duration::from_millis(20), &mut watermarks) <= at_last {
        assert!(resumed.elapsed() < Duration::from_secs(60), "the flow does not go on");
    }
    let went_on = resumed.elapsed();
    look(&mut clock, Duration::from_secs(2), &mut watermarks);
    clock.flush();
    let end = clock.least();
    wait_for(&handle, end);
    handle.stop();
    handle.wait().unwrap();
    let late: Vec<LateRow> = late_rows.collect();
    assert!(late.is_empty(), "{late:?}");
    let found = topics::read_committed(broker.address(), "out").into_iter();
    let found = found.map(|record| serde_json::from_slice::<Row>(&record.value).unwrap());
    let expected = clock.counts.into_iter().filter(|(start, _)| (start + 1) * 1_000 <= end);
    assert_eq!(once(found), expected.collect());
    println!(
        "live: the broker stood still for {still:?}, the flow went on after {went_on:?}, 0 lost, \
         0 repeated, 0 late"
    );
}

/// Writes an event every 10 ms to one partition in turn; each is two seconds behind the one before.
struct Writer<'a> {
    topic: &'a Topic,
    producer: &'a BaseProducer,
    started: Instant,
    reached: Instant,
    next: i64,
    largest: [i64; 4],
    counts: BTreeMap<i64, u64>,
}

impl<'a> Writer<'a> {
    fn new(topic: &'a Topic, producer: &'a BaseProducer) -> Self {
        let (largest, counts) = ([i64::MIN; 4], BTreeMap::new());
        let (started, reached) = (Instant::now(), Instant::now());
        Writer { topic, producer, started, reached, next: 0, largest, counts }
    }

    fn write(&mut self) {
        while self.next * 10 < self.started.elapsed().as_millis() as i64 {
            let partition = self.next % 4;
            let millis = 100_000 + self.next * 10 - partition * 2_000;
            let value = millis.to_string();
            let record = rdkafka::producer::BaseRecord::<str, str>::to(&self.topic.name)
                .partition(partition as i32)
                .payload(&value);
            self.producer.send(record).unwrap();
            self.largest[partition as usize] = millis;
            *self.counts.entry(millis.div_euclid(1_000)).or_default() += 1;
            self.next += 1;
        }
        self.producer.poll(Duration::ZERO);
        if self.reached.elapsed() > Duration::from_secs(1) && self.producer.in_flight_count() > 50 {
            self.reach_again();
        }
    }

    fn flush(&mut self) {
        let started = Instant::now();
        while self.producer.flush(Duration::from_secs(1)).is_err() {
            assert!(started.elapsed() < Duration::from_secs(60), "the events were not written");
            self.reach_again();
        }
    }

    /// The client of the test forgets its only broker too, when that is not alive for a moment.
    fn reach_again(&mut self) {
        let list = std::ffi::CString::new(self.topic.address.as_str()).unwrap();
        let client = self.producer.client().native_ptr();
        // SAFETY: the client lives, and copies the list.
        unsafe { rdkafka::bindings::rd_kafka_brokers_add(client, list.as_ptr()) };
        self.reached = Instant::now();
    }

    /// What the watermark may be at most, and is once everything has been read.
    fn least(&self) -> i64 {
        self.largest.into_iter().min().unwrap().saturating_sub(1_000)
    }
}
