//! The Kafka sink on a real broker: what it writes, and what it refuses.
#![cfg(feature = "kafka")]

#[path = "kafka/flows.rs"]
mod flows;
mod servers;
#[path = "kafka/topics.rs"]
mod topics;

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use flows::{Row, expected, flow, line, lines, source};
use highwater::prelude::*;
use highwater::sink::{Kafka, KafkaDelivery, KafkaPoint};
use highwater::testing::{Pushed, SimDisk, Survival, TestDriver};
use servers::unique;
use topics::{create, create_one, read_committed, sorted_texts};

/// Java's hash of keys, by which its clients choose the partition.
fn murmur2(key: &[u8]) -> u32 {
    const M: u32 = 0x5bd1_e995;
    let mut hash = 0x9747_b28c_u32 ^ key.len() as u32;
    let mut chunks = key.chunks_exact(4);
    for chunk in &mut chunks {
        let mut k = u32::from_le_bytes(chunk.try_into().unwrap()).wrapping_mul(M);
        k = (k ^ (k >> 24)).wrapping_mul(M);
        hash = hash.wrapping_mul(M) ^ k;
    }
    let rest = chunks.remainder();
    for (index, byte) in rest.iter().enumerate().rev() {
        hash ^= u32::from(*byte) << (8 * index);
    }
    if !rest.is_empty() {
        hash = hash.wrapping_mul(M);
    }
    hash = (hash ^ (hash >> 13)).wrapping_mul(M);
    (hash ^ (hash >> 15)) & 0x7fff_ffff
}

fn finished(events: i64) -> Pushed<flows::Event> {
    let source = source(0..events);
    source.finish();
    source
}

#[test]
fn records_have_key_value_time_headers_and_their_partition() {
    let Some(broker) = servers::kafka() else { return };
    let topic = unique("rows");
    create_one(broker.address(), &topic, 5);
    let sink = Kafka::to(&topic)
        .at(broker.address())
        .transactional_id(&topic)
        .key(|row: &Row| format!("key-{}", row.key))
        .headers(|row: &Row| vec![("count".to_owned(), vec![row.value as u8])]);
    let (dir, flow) = (tempfile::tempdir().unwrap(), flow("rows", finished(80), sink));
    let plan = flow.plan().unwrap();
    assert!(plan.contains("exactly once"), "{plan}");
    flow.run(Settings::at(dir.path())).unwrap();
    let found = read_committed(broker.address(), &topic);
    let mut texts = Vec::new();
    for record in &found {
        let row: Row = serde_json::from_slice(&record.value).unwrap();
        let key = format!("key-{}", row.key);
        assert_eq!(record.key.as_deref(), Some(key.as_bytes()));
        assert_eq!(record.partition as u32, murmur2(key.as_bytes()) % 5, "{key}");
        let last = row.window.end.as_micros() - 1;
        assert_eq!(record.time, Some(last.div_euclid(1_000)));
        assert_eq!(record.headers, [("count".to_owned(), vec![row.value as u8])]);
        texts.push(line(&row));
    }
    texts.sort();
    assert_eq!(texts, expected(80));
}

#[test]
fn idempotent_and_at_least_once_bring_everything() {
    let Some(broker) = servers::kafka() else { return };
    for delivery in [KafkaDelivery::Idempotent, KafkaDelivery::AtLeastOnce] {
        let topic = unique("least");
        create_one(broker.address(), &topic, 2);
        let sink = lines(&topic, broker.address()).delivery(delivery);
        let disk = SimDisk::new();
        flows::run_to_end(flow("least", finished(80), sink), &disk).unwrap();
        let found = sorted_texts(&read_committed(broker.address(), &topic));
        assert_eq!(found, expected(80), "{delivery:?}");
    }
}

/// Runs a flow into the sink, and returns the error at its start or later.
fn error_of(sink: Kafka<Row, impl highwater::sink::KafkaValue<Row>>) -> Error {
    flows::run_to_end(flow("refused", finished(40), sink), &SimDisk::new()).unwrap_err()
}

fn assert_says(error: &Error, kind: ErrorKind, words: &[&str]) {
    let text = format!("{error:?}");
    assert_eq!((error.kind(), error.operator()), (kind, Some("out")), "{text}");
    for word in words {
        assert!(text.contains(word), "`{word}` is not in: {text}");
    }
}

#[test]
fn what_the_cluster_refuses_is_said_clearly() {
    let Some(broker) = servers::kafka() else { return };
    let address = broker.address();
    let started = Instant::now();

    let error = error_of(lines(&unique("missing"), address));
    assert_says(&error, ErrorKind::Input, &["there is no such topic", "missing"]);

    for delivery in [KafkaDelivery::ExactlyOnce, KafkaDelivery::Idempotent] {
        let topic = unique("no-write");
        create_one(address, &topic, 1);
        let error = error_of(lines(&topic, address).delivery(delivery));
        assert_says(&error, ErrorKind::Io, &["access to the topic is refused"]);
    }

    let topic = unique("refusals");
    create_one(address, &topic, 1);
    let error = error_of(lines(&topic, address).transactional_id(unique("no-transaction")));
    assert_says(&error, ErrorKind::Io, &["access to the transactional id is refused"]);
    let error = error_of(lines(&topic, address).transactional_id(unique("no-group")));
    assert_says(&error, ErrorKind::Io, &["access to the group is refused", "no-group"]);

    let hour = Duration::from_secs(3_600);
    let error = error_of(lines(&topic, address).transaction_timeout(hour));
    let words = ["3600000 ms", "transaction.max.timeout.ms", "900000 ms"];
    assert_says(&error, ErrorKind::Plan, &words);

    let compacted = unique("compacted");
    create(address, std::slice::from_ref(&compacted), 1, &[("cleanup.policy", "compact")]);
    for delivery in [KafkaDelivery::ExactlyOnce, KafkaDelivery::Idempotent] {
        let error = error_of(Kafka::<Row>::to(&compacted).at(address).delivery(delivery));
        assert_says(&error, ErrorKind::Plan, &[&compacted, "is compacted", "`.key(..)`"]);
    }

    let error = error_of(lines(&topic, address).property("no.such.property", "1"));
    assert_says(&error, ErrorKind::Plan, &["no.such.property"]);
    assert_eq!(read_committed(address, &topic), []);
    assert!(started.elapsed() < Duration::from_secs(40), "{:?}", started.elapsed());
}

#[test]
fn a_record_that_is_too_large_stops_the_flow_before_anything_is_sent() {
    let Some(broker) = servers::kafka() else { return };
    let topic = unique("small");
    create(broker.address(), std::slice::from_ref(&topic), 1, &[("max.message.bytes", "2000")]);
    let sink = |size: fn(u8) -> usize| {
        Kafka::to(&topic).at(broker.address()).transactional_id(&topic).value(
            move |row: &Row, bytes: &mut Vec<u8>| {
                bytes.resize(size(row.key), b'x');
                Ok(())
            },
        )
    };
    let error = error_of(sink(|key| if key == 3 { 2_001 } else { 10 }));
    let words = ["2101 bytes", "takes 2000", "max.message.bytes"];
    assert_says(&error, ErrorKind::UserCode, &words);
    assert_eq!(read_committed(broker.address(), &topic), []);
    // What just fits is taken, many at once too.
    flows::run_to_end(flow("small", finished(100), sink(|_| 1_900)), &SimDisk::new()).unwrap();
    assert_eq!(read_committed(broker.address(), &topic).len(), expected(100).len());
}

#[test]
fn times_that_the_topic_does_not_take_are_said() {
    let Some(broker) = servers::kafka() else { return };
    let topic = unique("times");
    let config = [("message.timestamp.before.max.ms", "3600000")];
    create(broker.address(), std::slice::from_ref(&topic), 1, &config);
    let error = error_of(lines(&topic, broker.address()));
    assert_says(&error, ErrorKind::Io, &["message.timestamp.type", "LogAppendTime"]);
}

#[test]
fn a_broker_that_is_away_at_the_start_is_waited_for_as_long_as_said() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    drop(listener);
    let started = Instant::now();
    let error = error_of(lines("any", &address).patience(Duration::from_secs(2)));
    assert_says(&error, ErrorKind::Io, &["no answer from the Kafka cluster", "refused"]);
    let waited = started.elapsed().as_secs_f64();
    assert!((1.5..10.0).contains(&waited), "{waited} s");
    let error = error_of(Kafka::to("any").value(|_: &Row, _: &mut Vec<u8>| Ok(())));
    assert_says(&error, ErrorKind::Plan, &["no broker is named"]);
}

/// A flow on a disk that goes on while the test looks.
struct Running {
    driver: TestDriver,
    source: Pushed<flows::Event>,
    next: i64,
}

impl Running {
    fn start(address: &str, topic: &str, disk: &SimDisk, from: i64) -> Result<Self, Error> {
        Self::with(lines(topic, address), disk, from)
    }

    fn with(
        sink: Kafka<Row, impl highwater::sink::KafkaValue<Row>>,
        disk: &SimDisk,
        from: i64,
    ) -> Result<Self, Error> {
        let source = source(0..from);
        let driver = TestDriver::on_disk(flow("copies", source.clone(), sink), disk, 100)?;
        Ok(Running { driver, source, next: from })
    }

    /// Some events, whose windows are in the commit that is made.
    fn go_on(&mut self) -> Result<(), Error> {
        for _ in 0..20 {
            self.source.push((self.next % 2) as usize, flows::event(self.next));
            self.next += 1;
        }
        self.driver.tick()?;
        self.driver.commit()
    }
}

#[test]
fn a_second_copy_shuts_out_the_first_one() {
    let Some(broker) = servers::kafka() else { return };
    let (address, topic) = (broker.address(), unique("copies"));
    create_one(address, &topic, 2);
    let disk = SimDisk::new();
    let mut first = Running::start(address, &topic, &disk, 0).unwrap();
    first.go_on().unwrap();
    first.go_on().unwrap();

    let copied = disk.copy();
    copied.restart(Survival::Everything);
    let mut second = Running::start(address, &topic, &copied, 40).unwrap();
    let error = first.go_on().unwrap_err();
    assert_says(&error, ErrorKind::State, &["another start of the flow has taken over"]);
    drop(first);
    second.go_on().unwrap();
    second.go_on().unwrap();

    // The first one knows nothing of what the second one has sent.
    disk.restart(Survival::Synced);
    let error = Running::start(address, &topic, &disk, 60).err().unwrap();
    assert_says(&error, ErrorKind::State, &["a run that this state knows nothing of"]);
    second.go_on().unwrap();
    second.source.finish();
    let end = second.next;
    for _ in 0..3 {
        second.driver.tick().unwrap();
    }
    second.driver.commit().unwrap();
    assert_eq!(sorted_texts(&read_committed(address, &topic)), expected(end));
}

#[test]
fn an_older_copy_is_refused_until_the_sink_adopts_the_topic() {
    let Some(broker) = servers::kafka() else { return };
    let (address, topic) = (broker.address(), unique("older"));
    create_one(address, &topic, 2);
    let disk = SimDisk::new();
    let mut first = Running::start(address, &topic, &disk, 0).unwrap();
    first.go_on().unwrap();
    let older = disk.copy();
    older.restart(Survival::Everything);
    first.go_on().unwrap();
    drop(first);

    let error = Running::start(address, &topic, &older, 20).err().unwrap();
    assert_says(&error, ErrorKind::State, &["commits that this state does not have", "adopt"]);
    older.restart(Survival::Synced);
    let adopting = lines(&topic, address).adopt();
    let mut adopted = Running::with(adopting, &older, 20).unwrap();
    adopted.go_on().unwrap();
    let found = sorted_texts(&read_committed(address, &topic));
    let once: std::collections::BTreeSet<_> = found.iter().collect();
    assert!(found.len() > once.len(), "what came after the older copy is there twice");
    // From then on it is the owner.
    drop(adopted);
    older.restart(Survival::Synced);
    Running::start(address, &topic, &older, 40).unwrap().go_on().unwrap();
}

/// What was claimed at a start is durable though nothing comes: a crash does not take it back.
#[test]
fn a_start_without_input_commits_its_claim() {
    let Some(broker) = servers::kafka() else { return };
    let (address, topic) = (broker.address(), unique("claimed"));
    create_one(address, &topic, 1);
    let dir = tempfile::tempdir().unwrap();
    for _ in 0..2 {
        let quiet = flow("claimed", source(0..0), lines(&topic, address));
        let handle = quiet.spawn(Settings::at(dir.path())).unwrap();
        let started = Instant::now();
        while handle.metrics().commits == 0 {
            assert!(started.elapsed() < Duration::from_secs(60), "no commit was made");
            std::thread::sleep(Duration::from_millis(10));
        }
        handle.stop();
        handle.wait().unwrap();
    }
}

#[test]
fn a_mark_is_renewed_before_the_broker_forgets_it() {
    let Some(broker) = servers::kafka() else { return };
    let (address, topic) = (broker.address(), unique("renewed"));
    create_one(address, &topic, 1);
    let claims = Arc::new(Mutex::new(0));
    let sink = lines(&topic, address).strike({
        let claims = claims.clone();
        move |point| {
            *claims.lock().unwrap() += usize::from(point == KafkaPoint::Claimed);
            false
        }
    });
    let mut running = Running::with(sink, &SimDisk::new(), 0).unwrap();
    running.go_on().unwrap();
    running.go_on().unwrap();
    assert_eq!(*claims.lock().unwrap(), 1);
    running.driver.advance_clock(hours(25));
    running.driver.commit().unwrap();
    running.driver.commit().unwrap();
    assert_eq!(*claims.lock().unwrap(), 2);
    running.go_on().unwrap();
}

#[test]
fn a_broker_that_is_killed_or_silent_in_the_middle_is_waited_for() {
    let Some(broker) = servers::private_kafka().map(Arc::new) else { return };
    let (address, topic) = (broker.address(), unique("killed"));
    create_one(address, &topic, 2);
    let disk = SimDisk::new();
    let mut running = Running::start(address, &topic, &disk, 0).unwrap();
    running.go_on().unwrap();
    drop(running);
    disk.restart(Survival::Synced);

    // The broker is killed at one point of a transaction after another.
    let (killed_at, next_point) = (Arc::new(Mutex::new(None)), Arc::new(Mutex::new(None)));
    let sink = lines(&topic, address).strike({
        let (killed_at, next_point) = (killed_at.clone(), next_point.clone());
        let broker = broker.clone();
        move |point| {
            let mut next = next_point.lock().unwrap();
            if *next == Some(point) {
                *next = None;
                *killed_at.lock().unwrap() = Some(Instant::now());
                broker.kill();
                let broker = broker.clone();
                std::thread::spawn(move || broker.start());
            }
            false
        }
    });
    let mut running = Running::with(sink, &disk, 20).unwrap();
    use KafkaPoint::{Begun, Committed, Flushed, Letter, Marked, Produced};
    for point in [Letter, Begun, Produced(1), Marked, Flushed, Committed] {
        *next_point.lock().unwrap() = Some(point);
        running.go_on().unwrap();
        let waited = killed_at.lock().unwrap().take().expect("it was killed").elapsed();
        println!("killed at {point:?}: resumed after {waited:?}");
        assert!(waited < Duration::from_secs(30), "{point:?}: {waited:?}");
        running.go_on().unwrap();
    }
    broker.pause();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            std::thread::sleep(Duration::from_secs(5));
            broker.resume();
        });
        running.go_on().unwrap();
    });

    // One that stays away stops the flow, which goes on when it is back.
    let next = running.next;
    drop(running);
    disk.restart(Survival::Synced);
    let patient = lines(&topic, address).patience(Duration::from_secs(3));
    let mut running = Running::with(patient, &disk, next).unwrap();
    broker.kill();
    let error = running.go_on().unwrap_err();
    assert_says(&error, ErrorKind::Io, &["within 3s", "Nothing is lost"]);
    let next = running.next;
    drop(running);
    disk.restart(Survival::Synced);
    broker.start();
    let mut running = Running::start(address, &topic, &disk, next).unwrap();
    running.source.finish();
    for _ in 0..3 {
        running.driver.tick().unwrap();
    }
    running.driver.commit().unwrap();
    assert_eq!(sorted_texts(&read_committed(address, &topic)), expected(next));
}
