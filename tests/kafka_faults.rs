//! What goes wrong with Kafka as a source: each error of a program, and brokers that go away.

mod servers;

use std::time::{Duration, Instant};

use highwater::prelude::*;
use highwater::sink::{Received, channel};
use highwater::source::{Kafka, KafkaSource, OutOfRange, Recorded, Start};
use rdkafka::producer::Producer;
use servers::topics::{NewRecord, Topic};

/// A flow of just this source, and what it gives.
fn spawn<T: Data>(source: KafkaSource<T>, settings: Settings) -> (Handle, Received<T>) {
    let (sink, received) = channel();
    let flow = Flow::new("read");
    flow.source("in", source).sink("out", sink);
    (flow.spawn(settings).unwrap(), received)
}

fn read_all<T: Data>(source: KafkaSource<T>, settings: Settings) -> Result<Vec<T>, Error> {
    let (handle, received) = spawn(source, settings);
    let rows = received.collect();
    handle.wait()?;
    Ok(rows)
}

fn error_of<T: Data>(source: KafkaSource<T>) -> Error {
    read_all(source, Settings::in_memory()).err().expect("no error")
}

/// The error, and its causes.
fn all_of(error: &Error) -> String {
    format!("{error:?}")
}

fn next<T>(received: &mut Received<T>) -> T {
    let started = Instant::now();
    loop {
        if let Some(row) = received.try_recv() {
            return row;
        }
        assert!(started.elapsed() < Duration::from_secs(60), "no row came");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_broker_that_is_away_at_the_start_fails_it_in_time() {
    let Some(_) = servers::kafka() else { return };
    let started = Instant::now();
    let kafka = Kafka::topic("t").at("127.0.0.1:1").connect_within(Duration::from_millis(800));
    let error = error_of(kafka.text());
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
    assert_eq!((error.kind(), error.operator()), (ErrorKind::Io, Some("in")));
    let text = all_of(&error);
    assert!(text.contains("no answer from the Kafka cluster within 800ms"), "{text}");
    assert!(text.contains("127.0.0.1:1") && text.contains("Connection refused"), "{text}");
}

#[test]
fn what_the_program_cannot_mean_is_refused() {
    let plan = |kafka: Kafka, expected: &str| {
        let error = error_of(kafka.text());
        assert_eq!(error.kind(), ErrorKind::Plan, "{error}");
        assert!(all_of(&error).contains(expected), "{error:?}");
    };
    let at = || Kafka::topic("t").at("127.0.0.1:1");
    plan(Kafka::topic("t"), "no broker is named");
    plan(Kafka::topics(Vec::<String>::new()).at("127.0.0.1:1"), "no topic is named");
    plan(Kafka::topic("a/b").at("127.0.0.1:1"), "`a/b` cannot be the name of a topic");
    plan(Kafka::pattern("a[").at("127.0.0.1:1"), "no pattern");
    plan(at().property("group.id", "x"), "say `.group(..)`");
    plan(at().property("enable.auto.commit", "true"), "belong to the flow's commits");
    plan(at().from(Start::Committed), "say `.group(..)`");
    plan(at().property("no.such.property", "x"), "no.such.property");
    plan(at().property("fetch.min.bytes", "many"), "fetch.min.bytes");
}

#[test]
fn topics_that_are_unknown_or_refused_say_so() {
    let Some(broker) = servers::kafka() else { return };
    let patience = Duration::from_secs(10);
    let named = |name: &str| {
        error_of(Kafka::topic(name).at(broker.address()).connect_within(patience).text())
    };
    let error = named("there-is-no-such-topic");
    assert_eq!(error.kind(), ErrorKind::Input);
    assert!(error.to_string().contains("`there-is-no-such-topic`"), "{error}");
    assert!(error.to_string().contains("create it, or mend its name"), "{error}");

    let refused = Topic::create(broker.address(), "no-read", 1);
    let error = named(&refused.name);
    assert_eq!((error.kind(), error.operator()), (ErrorKind::Io, Some("in")));
    assert_eq!(error.partition(), Some(&*format!("{}/0", refused.name)));
    assert!(error.to_string().contains("access to the topic is refused"), "{error}");
}

#[test]
fn a_position_that_is_gone_is_an_error_or_what_the_program_says() {
    let Some(broker) = servers::kafka() else { return };
    let topic = Topic::create(broker.address(), "range", 1);
    let numbers = |range: std::ops::Range<u32>| {
        topic.write(range.map(|n| NewRecord::to(0, n.to_string())));
    };
    numbers(0..20);
    let dir = tempfile::tempdir().unwrap();
    let kafka = || Kafka::topic(&topic.name).at(broker.address());
    let states: Vec<_> = (0..3).map(|n| dir.path().join(n.to_string())).collect();
    for state in &states {
        let (handle, mut received) = spawn(kafka().text(), Settings::at(state));
        (0..20).for_each(|n| assert_eq!(next(&mut received), n.to_string()));
        handle.stop();
        handle.wait().unwrap();
    }
    // Position 20 is no longer there.
    numbers(20..40);
    topic.delete_before(0, 30);
    let error = read_all(kafka().text(), Settings::at(&states[0])).unwrap_err();
    assert_eq!((error.kind(), error.position()), (ErrorKind::Input, Some(20)));
    assert_eq!(error.partition(), Some(&*format!("{}/0", topic.name)));
    assert!(error.to_string().contains("`out_of_range`"), "{error}");
    let run = |what, state| {
        read_all(kafka().out_of_range(what).until_end().text(), Settings::at(state)).unwrap()
    };
    let from = |n: u32| (n..40).map(|n| n.to_string()).collect::<Vec<_>>();
    assert_eq!(run(OutOfRange::Earliest, &states[1]), from(30));
    assert_eq!(run(OutOfRange::Latest, &states[2]), from(40));
    // A first start has nothing to be out of range.
    let fresh = read_all(kafka().until_end().text(), Settings::in_memory()).unwrap();
    assert_eq!(fresh, from(30));
}

/// Behind the last record stands the mark of its transaction, which is no record: retention may
/// pass it, and nothing is lost.
#[test]
fn a_mark_of_a_transaction_that_is_gone_is_not_missed() {
    let Some(broker) = servers::kafka() else { return };
    let topic = Topic::create(broker.address(), "mark-gone", 1);
    let id = servers::unique("writer");
    let producer = topic.producer(&[("transactional.id", &id)]);
    let patience = Duration::from_secs(20);
    producer.init_transactions(patience).unwrap();
    let write = |value: &str, commit: bool| {
        producer.begin_transaction().unwrap();
        topic.write_with(&producer, [NewRecord::to(0, value)]);
        match commit {
            true => producer.commit_transaction(patience).unwrap(),
            false => producer.abort_transaction(patience).unwrap(),
        }
    };
    write("first", true);
    write("taken back", false);
    let dir = tempfile::tempdir().unwrap();
    let source = || Kafka::topic(&topic.name).at(broker.address()).text();
    let (handle, mut received) = spawn(source(), Settings::at(dir.path()));
    assert_eq!(next(&mut received), "first");
    // The end is heard of when the client asks again.
    let position = || {
        let commit = highwater::LastCommit::read(dir.path()).unwrap();
        commit.partitions.first().map(|partition| partition.position)
    };
    let started = Instant::now();
    while position() != Some(4) {
        assert!(started.elapsed() < Duration::from_secs(20), "{:?}", position());
        std::thread::sleep(Duration::from_millis(20));
    }
    handle.stop();
    handle.wait().unwrap();
    topic.delete_before(0, 4);
    let (handle, mut received) = spawn(source(), Settings::at(dir.path()));
    write("second", true);
    assert_eq!(next(&mut received), "second");
    handle.stop();
    handle.wait().unwrap();
}

#[test]
fn a_topic_that_was_made_anew_is_out_of_range() {
    let Some(broker) = servers::kafka() else { return };
    let topic = Topic::create(broker.address(), "anew", 1);
    topic.write((0..20).map(|n| NewRecord::to(0, n.to_string())));
    let dir = tempfile::tempdir().unwrap();
    let kafka = || Kafka::topic(&topic.name).at(broker.address());
    let (handle, mut received) = spawn(kafka().text(), Settings::at(dir.path()));
    (0..20).for_each(|_| drop(next(&mut received)));
    handle.stop();
    handle.wait().unwrap();
    topic.delete();
    let again = loop {
        // The old one may still be on its way out.
        std::thread::sleep(Duration::from_millis(200));
        let make = || Topic::create_as(broker.address(), topic.name.clone(), 1);
        if let Ok(topic) = std::panic::catch_unwind(make) {
            break topic;
        }
    };
    again.write([NewRecord::to(0, "new")]);
    let error = read_all(kafka().text(), Settings::at(dir.path())).unwrap_err();
    assert_eq!((error.kind(), error.position()), (ErrorKind::Input, Some(20)));
    assert!(error.to_string().contains("the topic was made anew"), "{error}");
}

#[test]
fn records_that_cannot_be_decoded_stop_the_flow_or_are_left_out_or_kept() {
    let Some(broker) = servers::kafka() else { return };
    let topic = Topic::create(broker.address(), "bad", 1);
    let values = ["1", "2", "three", "4", "\"5\""];
    topic.write(values.map(|value| NewRecord::to(0, value)));
    let source = || Kafka::topic(&topic.name).at(broker.address()).until_end().json::<u32>();
    let error = error_of(source());
    let partition = format!("{}/0", topic.name);
    assert_eq!((error.kind(), error.operator()), (ErrorKind::Input, Some("in")));
    assert_eq!((error.partition(), error.position()), (Some(&*partition), Some(2)));
    assert!(error.to_string().contains("column 2"), "{error}");

    let skip = source().undecodable(Undecodable::Skip);
    assert_eq!(read_all(skip, Settings::in_memory()).unwrap(), [1, 2, 4]);

    let (sink, received) = channel();
    let (dead_sink, dead) = channel();
    let flow = Flow::new("dead");
    let input = flow.source("in", source().undecodable(Undecodable::DeadLetter));
    input.dead_letters().sink("dead", dead_sink);
    input.sink("out", sink);
    let handle = flow.spawn(Settings::in_memory()).unwrap();
    assert_eq!(received.collect::<Vec<_>>(), [1, 2, 4]);
    handle.wait().unwrap();
    let dead: Vec<_> = dead.map(|d| (d.partition, d.position, d.raw)).collect();
    let letter = |position, raw: &str| (partition.clone(), position, raw.as_bytes().to_vec());
    assert_eq!(dead, [letter(2, "three"), letter(4, "\"5\"")]);
}

/// A flow that counts in windows, and says how many events it has seen, and how many were late.
fn counting(source: KafkaSource<Recorded<Option<Vec<u8>>>>, idle_after: Span) -> Handle {
    let flow = Flow::new("count");
    let (sink, _) = channel();
    flow.source("in", source)
        .event_time(|r| r.timestamp, Disorder::at_most(seconds(1)).idle_after(idle_after))
        .key_with(|_| 0u8)
        .window("w", Tumbling::of(seconds(10)))
        .aggregate(Count)
        .drop_late("they are counted")
        .sink("out", sink);
    flow.spawn(Settings::in_memory()).unwrap()
}

fn seen_and_late(handle: &Handle) -> (u64, u64) {
    let metrics = handle.metrics();
    // None is named before the first tick.
    let of = |id| metrics.operator(id).map(|operator| operator.counters).unwrap_or_default();
    (of("in").used, of("w").late)
}

fn wait_for(handle: &Handle, count: u64) {
    let started = Instant::now();
    while seen_and_late(handle).0 < count {
        assert!(started.elapsed() < Duration::from_secs(60), "{:?}", seen_and_late(handle));
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn at(partition: i32, seconds: i64, size: usize) -> NewRecord {
    let timestamp_millis = Some(seconds * 1_000);
    NewRecord { timestamp_millis, ..NewRecord::to(partition, vec![0; size]) }
}

/// Two partitions with much to read, one far behind the other, of which the client holds little.
#[test]
fn an_outage_in_the_middle_of_a_backlog_makes_nothing_late() {
    let Some(broker) = servers::private_kafka() else { return };
    let topic = Topic::create(broker.address(), "outage", 2);
    for n in 0..40 {
        let some = n * 100..n * 100 + 100;
        topic.write(some.flat_map(|n| [at(0, n + 5_000, 5_000), at(1, n + 1, 5_000)]));
    }
    let source = Kafka::topic(&topic.name)
        .at(broker.address())
        .property("queued.max.messages.kbytes", "10")
        .property("fetch.message.max.bytes", "10000")
        .property("fetch.queue.backoff.ms", "20");
    let handle = counting(source.records(), seconds(1));
    wait_for(&handle, 100);
    broker.pause();
    std::thread::sleep(Duration::from_secs(3));
    assert!(seen_and_late(&handle).0 < 7_000, "there was no backlog");
    broker.resume();
    wait_for(&handle, 8_000);
    assert_eq!(seen_and_late(&handle), (8_000, 0));
    handle.stop();
    handle.wait().unwrap();
}

/// Two partitions that were read to their ends, whose broker is away for longer than the timeout.
#[test]
fn an_outage_of_silent_partitions_does_not_make_them_idle() {
    let Some(broker) = servers::private_kafka() else { return };
    let topic = Topic::create(broker.address(), "silent", 2);
    topic.write([at(0, 100, 1), at(1, 10, 1)]);
    let source = Kafka::topic(&topic.name).at(broker.address()).records();
    let handle = counting(source, seconds(5));
    wait_for(&handle, 2);
    broker.pause();
    std::thread::sleep(Duration::from_secs(9));
    broker.resume();
    topic.write([at(0, 200, 1)]);
    wait_for(&handle, 3);
    topic.write([at(1, 11, 1)]);
    wait_for(&handle, 4);
    assert_eq!(seen_and_late(&handle), (4, 0));
    // They are idle when they are silent and their broker is there.
    std::thread::sleep(Duration::from_secs(9));
    topic.write([at(0, 300, 1)]);
    wait_for(&handle, 5);
    topic.write([at(0, 301, 1)]);
    wait_for(&handle, 6);
    topic.write([at(1, 12, 1)]);
    wait_for(&handle, 7);
    assert_eq!(seen_and_late(&handle), (7, 1));
    handle.stop();
    handle.wait().unwrap();
}

/// Positions of a group are for those who look: nobody waits for a broker that is away.
#[test]
fn a_stop_does_not_wait_for_the_group() {
    let Some(broker) = servers::private_kafka() else { return };
    let topic = Topic::create(broker.address(), "stop", 1);
    let source = || Kafka::topic(&topic.name).at(broker.address()).group(&topic.name).text();
    for (value, paused) in [("a", true), ("b", false)] {
        let (handle, mut received) = spawn(source(), Settings::in_memory());
        topic.write([NewRecord::to(0, value)]);
        assert_eq!(next(&mut received), "a");
        // By then it has found the group.
        std::thread::sleep(Duration::from_secs(2));
        topic.write([NewRecord::to(0, "more")]);
        while next(&mut received) != "more" {}
        if paused {
            broker.pause();
        } else {
            broker.kill();
        }
        std::thread::sleep(Duration::from_millis(200));
        let started = Instant::now();
        handle.stop();
        handle.wait().unwrap();
        assert!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());
        if paused {
            broker.resume();
        }
    }
}

/// Killed and started again, and stopped for a while: the flow goes on by itself. Then with a
/// broker of another cluster: that is refused.
#[test]
fn a_broker_that_goes_away_is_waited_for() {
    let Some(broker) = servers::private_kafka() else { return };
    let topic = Topic::create(broker.address(), "away", 2);
    let dir = tempfile::tempdir().unwrap();
    let kafka = || Kafka::topic(&topic.name).at(broker.address());
    let (handle, mut received) = spawn(kafka().text(), Settings::at(dir.path()));
    let mut written = 0;
    let mut write = || {
        let numbers = (written..written + 100).map(|n| NewRecord::to(n % 2, n.to_string()));
        topic.write(numbers);
        written += 100;
    };
    let mut seen = Vec::new();
    let mut read = |received: &mut Received<String>| {
        (0..100).for_each(|_| seen.push(next(received).parse::<i32>().unwrap()));
    };
    write();
    read(&mut received);
    broker.kill();
    std::thread::sleep(Duration::from_millis(1_500));
    assert!(!handle.is_finished());
    broker.start();
    write();
    read(&mut received);
    broker.pause();
    std::thread::sleep(Duration::from_secs(3));
    assert!(!handle.is_finished());
    broker.resume();
    write();
    read(&mut received);
    handle.stop();
    handle.wait().unwrap();
    seen.sort_unstable();
    assert!(seen.into_iter().eq(0..300), "records were lost or repeated");

    let Some(other) = servers::kafka() else { return };
    let same = Topic::create_as(other.address(), topic.name.clone(), 2);
    let elsewhere = Kafka::topic(&same.name).at(other.address()).text();
    let error = read_all(elsewhere, Settings::at(dir.path())).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Input);
    assert!(error.to_string().contains("the position is of the cluster"), "{error}");
}
