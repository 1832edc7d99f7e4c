//! A long replay from the start of a topic, by a process with little memory: its resident memory
//! is to stay within the budget and a constant, however much there is to read.
//!
//! `REPLAY_GB` says how much that is: 0.1 GB without it.
#![cfg(all(feature = "kafka", target_os = "linux"))]

mod servers;

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use highwater::prelude::*;
use highwater::source;
use rdkafka::ClientConfig;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use servers::topics::Topic;

const PARTITIONS: u64 = 8;
const RECORD: usize = 1_000;
const MIB: u64 = 1 << 20;
const BUDGET: u64 = 64 * MIB;
/// What the client fetches ahead over all partitions, by the source's documentation, and one
/// answer of the broker for each partition that may come on top.
const FETCHED_AHEAD: u64 = 16 * MIB + PARTITIONS * MIB;
/// What the allocator keeps of what it was given back, what is on its way in open ticks and in
/// commits, and what RocksDB takes to move and to compact.
const IN_PASSING: u64 = 96 * MIB;

#[derive(Clone, serde::Serialize, serde::Deserialize)]
struct Event {
    key: u32,
    millis: i64,
}

/// A record is an event, and bytes that nobody reads. Of a million keys, nearly half are in each
/// window of ten minutes, with an event every millisecond.
fn write_record(number: u64, record: &mut [u8; RECORD]) {
    let random = (number + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let random = (random ^ (random >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let key = ((random >> 32) % 1_000_000) as u32;
    record[..4].copy_from_slice(&key.to_le_bytes());
    record[4..12].copy_from_slice(&(number as i64).to_le_bytes());
    record[12..20].copy_from_slice(&random.to_le_bytes());
}

fn produce(address: &str, topic: &str, records: u64) {
    let producer: BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", address)
        .set("linger.ms", "20")
        .set("batch.size", "1000000")
        .set("compression.type", "none")
        .create()
        .unwrap();
    let mut record: [u8; RECORD] = std::array::from_fn(|n| (n * 131) as u8);
    for number in 0..records {
        write_record(number, &mut record);
        let partition = (number % PARTITIONS) as i32;
        let mut sent = BaseRecord::<[u8], [u8]>::to(topic).partition(partition).payload(&record);
        while let Err((error, back)) = producer.send(sent) {
            assert_eq!(error, KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull));
            producer.poll(Duration::from_millis(5));
            sent = back;
        }
        if number.is_multiple_of(1_000) {
            producer.poll(Duration::ZERO);
        }
    }
    producer.flush(Duration::from_secs(300)).unwrap();
}

fn flow(address: &str, topic: &str, out: &Path, until_end: bool) -> Flow {
    let flow = Flow::new("replay");
    let input = source::Kafka::topic(topic).at(address);
    let input = if until_end { input.until_end() } else { input };
    let decoded = input.decode(|record| {
        let value = record.value().unwrap_or_default();
        let (key, rest) = value.split_first_chunk::<4>().ok_or("no key")?;
        let (millis, _) = rest.split_first_chunk::<8>().ok_or("no time")?;
        Ok(Event { key: u32::from_le_bytes(*key), millis: i64::from_le_bytes(*millis) })
    });
    let disorder = || Disorder::at_most(seconds(1));
    flow.source("events", decoded)
        .event_time(|e| EventTime::from_micros(e.millis * 1_000), disorder())
        .key_by(|e| &e.key)
        .window("by-key", Tumbling::of(minutes(10)))
        .aggregate(Count)
        .drop_late("there are none")
        .key_with(|r| r.key % 16)
        .window("in-all", Tumbling::of(minutes(10)))
        .aggregate(Sum::of(|r: &WindowResult<u32, u64>| r.value as i64))
        .drop_late("results are not late")
        .map(|r| r.value)
        .sink("out", JsonLines::to(out));
    flow
}

/// The process whose memory is measured.
#[test]
#[ignore = "it is the program, not a test"]
fn run_program() {
    let get = |name: &str| std::env::var(name).unwrap_or_default();
    let dir = get("REPLAY_DIR");
    if dir.is_empty() {
        return;
    }
    let until_end = get("REPLAY_UNTIL_END") == "yes";
    let dir = Path::new(&dir);
    let flow = flow(&get("REPLAY_BROKER"), &get("REPLAY_TOPIC"), &dir.join("out"), until_end);
    let settings = Settings::at(dir.join("state")).workers(2).memory_budget(BUDGET);
    flow.run(settings.log_tail_limit(BUDGET / 4)).unwrap();
}

fn start(address: &str, topic: &str, dir: &Path, until_end: bool) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "run_program", "--ignored", "--nocapture"])
        .env("REPLAY_BROKER", address)
        .env("REPLAY_TOPIC", topic)
        .env("REPLAY_DIR", dir)
        .env("REPLAY_UNTIL_END", if until_end { "yes" } else { "no" })
        // As the documentation of `memory_budget` says for where memory is tight.
        .env("MALLOC_ARENA_MAX", "1")
        .stdout(Stdio::null())
        .spawn()
        .unwrap()
}

/// The resident memory of a process, in bytes; `None` once it has ended.
fn resident(child: &Child) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{}/status", child.id())).ok()?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:"))?;
    Some(line.split_whitespace().nth(1)?.parse::<u64>().ok()? * 1_024)
}

/// The process on an empty topic: what it takes before there is anything to do.
fn baseline(address: &str, topic: &str, dir: &Path) -> u64 {
    let mut child = start(address, topic, dir, false);
    std::thread::sleep(Duration::from_secs(2));
    let baseline = resident(&child).expect("the program ended");
    child.kill().unwrap();
    child.wait().unwrap();
    baseline
}

#[test]
fn memory_does_not_grow_with_what_is_replayed() {
    let gb: Option<f64> = std::env::var("REPLAY_GB").ok().map(|gb| gb.parse().unwrap());
    let broker = if gb.is_some() { servers::private_kafka() } else { servers::kafka() };
    let Some(broker) = broker else { return };
    let address = broker.address();
    let records = (gb.unwrap_or(0.1) * 1e9) as u64 / RECORD as u64;
    let [topic, empty] =
        ["replay", "empty"].map(|name| Topic::create(address, name, PARTITIONS as i32));
    let dir = tempfile::tempdir().unwrap();
    let baseline = baseline(address, &empty.name, &dir.path().join("empty"));
    let produced = Instant::now();
    produce(address, &topic.name, records);
    println!("{records} records written in {:?}", produced.elapsed());

    let started = Instant::now();
    let mut child = start(address, &topic.name, dir.path(), true);
    let (mut most, mut samples, mut seconds) = (0, 0u64, Vec::new());
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        if let Some(resident) = resident(&child) {
            most = most.max(resident);
            if samples.is_multiple_of(50) {
                seconds.push(resident / MIB);
            }
            samples += 1;
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    let took = started.elapsed();
    assert!(status.success(), "{status}");
    let mut events = 0;
    for file in std::fs::read_dir(dir.path().join("out")).unwrap() {
        let text = std::fs::read_to_string(file.unwrap().path()).unwrap();
        events += text.lines().map(|line| line.parse::<u64>().unwrap()).sum::<u64>();
    }
    assert_eq!(events, records, "something was lost or repeated");
    println!("resident memory second by second, in MiB: {seconds:?}");
    let limit = BUDGET + baseline + FETCHED_AHEAD + IN_PASSING;
    println!(
        "replay: {:.1} GB in {:.0} s, at most {} MiB resident; allowed are {} MiB: {} of budget, \
         {} of the process at rest, {} fetched ahead, {} in passing",
        (records * RECORD as u64) as f64 / 1e9,
        took.as_secs_f64(),
        most / MIB,
        limit / MIB,
        BUDGET / MIB,
        baseline / MIB,
        FETCHED_AHEAD / MIB,
        IN_PASSING / MIB,
    );
    topic.delete();
    assert!(most <= limit);
}
