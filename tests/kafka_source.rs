//! The Kafka source against a real broker.

mod servers;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::{Duration, Instant};

use highwater::prelude::*;
use highwater::sink::channel;
use highwater::source::{Kafka, KafkaSource, Recorded, Start};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::producer::Producer;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use servers::topics::{NewRecord, Topic};

/// Runs a flow of just this source in memory to its end, and returns its rows.
fn read_all<T: Data>(source: KafkaSource<T>) -> Result<Vec<T>, Error> {
    let (sink, received) = channel();
    let flow = Flow::new("read");
    flow.source("in", source).sink("out", sink);
    let handle = flow.spawn(Settings::in_memory())?;
    let rows = received.collect();
    handle.wait()?;
    Ok(rows)
}

fn until_end(topic: &Topic, address: &str) -> Kafka {
    Kafka::topic(&topic.name).at(address).until_end()
}

/// A flow that copies what it reads to files, exactly once.
fn copying(source: KafkaSource<Recorded<String>>, out: &Path) -> Flow {
    let flow = Flow::new("copy");
    flow.source("in", source)
        .map(|r| (r.partition, r.offset, r.value))
        .sink("out", JsonLines::to(out).visible_every(Duration::ZERO));
    flow
}

/// What a copying flow has made visible: by partition, in order.
fn copied(out: &Path) -> BTreeMap<i32, Vec<(u64, String)>> {
    let mut files: Vec<_> = std::fs::read_dir(out)
        .into_iter()
        .flatten()
        .map(|file| file.unwrap().path())
        .filter(|path| path.file_name().unwrap().to_str().unwrap().starts_with("part-"))
        .collect();
    files.sort();
    let mut rows: BTreeMap<i32, Vec<(u64, String)>> = BTreeMap::new();
    for file in files {
        for line in std::fs::read_to_string(file).unwrap().lines() {
            let (partition, offset, value) = serde_json::from_str(line).unwrap();
            rows.entry(partition).or_default().push((offset, value));
        }
    }
    rows
}

fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let started = Instant::now();
    while !is_so() {
        assert!(started.elapsed() < Duration::from_secs(30), "{what} did not come");
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn numbered(partition: i32, numbers: std::ops::Range<u64>) -> impl Iterator<Item = NewRecord> {
    numbers.map(move |number| NewRecord::to(partition, format!("{partition}-{number}")))
}

fn expected(partitions: i32, count: u64) -> BTreeMap<i32, Vec<(u64, String)>> {
    let rows = |p: i32| (0..count).map(|n| (n, format!("{p}-{n}"))).collect();
    (0..partitions).map(|p| (p, rows(p))).collect()
}

#[test]
fn stopped_and_started_again_nothing_is_lost_or_repeated() {
    let Some(broker) = servers::kafka() else { return };
    let topic = Topic::create(broker.address(), "restart", 3);
    (0..3).for_each(|p| topic.write(numbered(p, 0..3_000)));
    let dir = tempfile::tempdir().unwrap();
    let (out, state) = (dir.path().join("out"), dir.path().join("state"));
    let settings = || {
        let interval = Duration::from_millis(5);
        Settings::at(&state).commit_interval(interval).tick_max_events(50).workers(2)
    };
    let source = || Kafka::topic(&topic.name).at(broker.address()).text().with_record();

    let mut runs = 0;
    // In the middle of it, again and again; with more written meanwhile.
    for written in [3_000, 4_000, 5_000] {
        if written > 3_000 {
            (0..3).for_each(|p| topic.write(numbered(p, written - 1_000..written)));
        }
        let handle = copying(source(), &out).spawn(settings()).unwrap();
        wait_until("output", || {
            let rows: usize = copied(&out).values().map(Vec::len).sum();
            rows as u64 > (written - 1_000) * 2
        });
        handle.stop();
        handle.wait().unwrap();
        runs += 1;
    }
    let bounded = Kafka::topic(&topic.name).at(broker.address()).until_end();
    copying(bounded.text().with_record(), &out).run(settings()).unwrap();
    assert_eq!(runs, 3);
    assert!(copied(&out) == expected(3, 5_000), "something was lost or repeated");
}

/// Every record must come through its partition's queue, from the first on: many partitions that
/// are full when they are opened, many times.
#[test]
fn the_first_records_of_many_partitions_are_not_lost() {
    let Some(broker) = servers::kafka() else { return };
    let topic = Topic::create(broker.address(), "first", 24);
    topic.write((0..24).flat_map(|p| numbered(p, 0..20)));
    for workers in 1..=3 {
        for _ in 0..5 {
            let (sink, received) = channel();
            let flow = Flow::new("first");
            let source = until_end(&topic, broker.address()).text();
            flow.source("in", source).sink("out", sink);
            let handle = flow.spawn(Settings::in_memory().workers(workers)).unwrap();
            let rows: Vec<String> = received.collect();
            handle.wait().unwrap();
            assert_eq!(rows.len(), 24 * 20);
        }
    }
}

#[test]
fn the_first_start_is_where_the_program_says_and_later_ones_go_on() {
    let Some(broker) = servers::kafka() else { return };
    let topic = Topic::create(broker.address(), "starts", 1);
    let at = |n: u64| NewRecord {
        timestamp_millis: Some(1_000_000 + n as i64 * 1_000),
        ..NewRecord::to(0, n.to_string())
    };
    topic.write((0..10).map(at));
    let read = |start| {
        let source = until_end(&topic, broker.address()).group(&topic.name).from(start);
        read_all(source.text()).unwrap()
    };
    let from = |n: u64| (n..10).map(|n| n.to_string()).collect::<Vec<_>>();
    assert_eq!(read(Start::Earliest), from(0));
    assert_eq!(read(Start::Latest), from(10));
    let millis = |millis| Start::Timestamp(EventTime::from_millis(millis));
    assert_eq!(read(millis(0)), from(0));
    assert_eq!(read(millis(1_003_000)), from(3));
    assert_eq!(read(millis(1_003_001)), from(4));
    let between = EventTime::from_micros(1_002_999_001);
    assert_eq!(read(Start::Timestamp(between)), from(3));
    assert_eq!(read(millis(2_000_000)), from(10));

    // The run before wrote all of it back to the group.
    assert_eq!(read(Start::Committed), from(10));
    commit(&topic, &topic.name, 6);
    assert_eq!(read(Start::Committed), from(6));

    // The position of the first start is committed at once: what is written while the flow is
    // down, before it has read anything, is read.
    let dir = tempfile::tempdir().unwrap();
    let (out, state) = (dir.path().join("out"), dir.path().join("state"));
    let latest = || Kafka::topic(&topic.name).at(broker.address()).from(Start::Latest);
    let handle = copying(latest().text().with_record(), &out).spawn(Settings::at(&state)).unwrap();
    wait_until("a start", || handle.metrics().ticks > 0);
    handle.stop();
    handle.wait().unwrap();
    topic.write((10..13).map(at));
    let again = latest().until_end().text().with_record();
    copying(again, &out).run(Settings::at(&state)).unwrap();
    let rows: Vec<u64> = copied(&out)[&0].iter().map(|(offset, _)| *offset).collect();
    assert_eq!(rows, [10, 11, 12]);
}

fn commit(topic: &Topic, group: &str, offset: i64) {
    let consumer = topic.consumer(&[("group.id", group)]);
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(&topic.name, 0, Offset::Offset(offset)).unwrap();
    consumer.commit(&list, rdkafka::consumer::CommitMode::Sync).unwrap();
}

fn group_offset(consumer: &BaseConsumer, topic: &Topic) -> Option<i64> {
    let mut list = TopicPartitionList::new();
    list.add_partition(&topic.name, 0);
    let found = consumer.committed_offsets(list, Duration::from_secs(10)).unwrap();
    found.elements()[0].offset().to_raw().filter(|&offset| offset >= 0)
}

#[test]
fn committed_positions_are_written_back_to_the_group() {
    let Some(broker) = servers::kafka() else { return };
    let topic = Topic::create(broker.address(), "group", 1);
    topic.write(numbered(0, 0..100));
    let source = Kafka::topic(&topic.name).at(broker.address()).group(&topic.name).text();
    let flow = Flow::new("group");
    let (sink, _received) = channel();
    flow.source("in", source).sink("out", sink);
    let dir = tempfile::tempdir().unwrap();
    let handle = flow.spawn(Settings::at(dir.path())).unwrap();
    let consumer = topic.consumer(&[("group.id", &topic.name)]);
    wait_until("the group's offset", || group_offset(&consumer, &topic) == Some(100));
    topic.write(numbered(0, 100..150));
    wait_until("more of it", || group_offset(&consumer, &topic) == Some(150));
    topic.write(numbered(0, 150..160));
    wait_until("the last", || handle.metrics().operator("in").unwrap().counters.used == 160);
    handle.stop();
    handle.wait().unwrap();
    // At the end too, however soon it comes.
    assert_eq!(group_offset(&consumer, &topic), Some(160));
}

#[test]
fn only_committed_transactions_are_read_and_their_marks_hold_nothing_up() {
    let Some(broker) = servers::kafka() else { return };
    let topic = Topic::create(broker.address(), "transactions", 1);
    let id = servers::unique("writer");
    let producer = topic.producer(&[("transactional.id", &id)]);
    let patience = Duration::from_secs(20);
    producer.init_transactions(patience).unwrap();
    let mut written = Vec::new();
    for transaction in 0..12u64 {
        producer.begin_transaction().unwrap();
        let records = (0..3).map(|n| NewRecord::to(0, format!("{transaction}-{n}")));
        topic.write_with(&producer, records);
        if transaction % 3 == 2 {
            producer.abort_transaction(patience).unwrap();
        } else {
            producer.commit_transaction(patience).unwrap();
            written.extend((0..3).map(|n| format!("{transaction}-{n}")));
        }
        // Whatever stands at the end: a record, a mark, or records that were taken back.
        let rows = read_all(until_end(&topic, broker.address()).text()).unwrap();
        assert_eq!(rows, written);
    }
    // A transaction that is open hides what stands behind it as well.
    producer.begin_transaction().unwrap();
    topic.write_with(&producer, [NewRecord::to(0, "open")]);
    topic.write([NewRecord::to(0, "behind")]);
    let source = || until_end(&topic, broker.address());
    assert_eq!(read_all(source().text()).unwrap(), written);
    let all = source().property("isolation.level", "read_uncommitted").text();
    assert_eq!(read_all(all).unwrap().len(), 12 * 3 + 2);

    // The position stands behind the marks, not before them.
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out");
    let state = dir.path().join("state");
    producer.abort_transaction(patience).unwrap();
    let flow = copying(source().text().with_record(), &out);
    flow.run(Settings::at(&state)).unwrap();
    let last = highwater::LastCommit::read(&state).unwrap();
    let position = last.partitions[0].position;
    // 12 transactions of 3 records and a mark, one of 1 record and a mark, and one record.
    assert_eq!(position, 12 * 4 + 2 + 1);
}

#[test]
fn partitions_and_topics_that_are_added_are_read_from_their_beginning() {
    let Some(broker) = servers::kafka() else { return };
    let base = servers::unique("added");
    let first = Topic::create_as(broker.address(), format!("{base}-a"), 1);
    first.write([NewRecord::to(0, "before")]);
    let (sink, mut received) = channel();
    let flow = Flow::new("added");
    let source = Kafka::pattern(format!("{base}-*"))
        .at(broker.address())
        .from(Start::Latest)
        .discover_every(Duration::from_millis(200))
        .text();
    flow.source("in", source).sink("out", sink);
    let handle = flow.spawn(Settings::in_memory().workers(2)).unwrap();
    wait_until("a start", || handle.metrics().ticks > 0);
    first.write([NewRecord::to(0, "after")]);
    let second = Topic::create_as(broker.address(), format!("{base}-b"), 2);
    second.write([NewRecord::to(0, "b0"), NewRecord::to(1, "b1")]);
    first.grow(2);
    first.write([NewRecord::to(1, "a1")]);
    let mut rows = BTreeSet::new();
    wait_until("all rows", || {
        rows.extend(std::iter::from_fn(|| received.try_recv()));
        rows.len() == 4
    });
    handle.stop();
    handle.wait().unwrap();
    rows.extend(received);
    let expected = ["a1", "after", "b0", "b1"].map(ToOwned::to_owned);
    assert!(rows.iter().eq(&expected), "{rows:?}");
}

/// Windows of one second over the records' own timestamps; partition 1 says nothing.
#[test]
fn a_silent_partition_holds_time_back_until_it_is_idle() {
    let Some(broker) = servers::kafka() else { return };
    let topic = Topic::create(broker.address(), "silent", 2);
    let (sink, mut received) = channel();
    let flow = Flow::new("silent");
    let source = Kafka::topic(&topic.name).at(broker.address()).records();
    flow.source("in", source)
        .event_time(|r| r.timestamp, Disorder::at_most(millis(0)).idle_after(millis(700)))
        .key_with(|_| 0u8)
        .window("w", Tumbling::of(seconds(1)))
        .aggregate(Count)
        .drop_late("not looked at here")
        .map(|r| (r.window.start.as_micros() / 1_000_000, r.value))
        .sink("out", sink);
    let handle = flow.spawn(Settings::in_memory()).unwrap();
    let at = |partition, millis| NewRecord {
        timestamp_millis: Some(millis),
        ..NewRecord::to(partition, "x")
    };
    topic.write([at(0, 100), at(0, 200), at(0, 1_500), at(1, 300)]);
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(received.try_recv(), None, "partition 1 stands at 300 ms, and is not idle yet");
    // Partition 0 goes on; partition 1 falls silent.
    let mut row = None;
    let mut now = 1_500;
    wait_until("the first window", || {
        now += 10;
        topic.write([at(0, now)]);
        row = received.try_recv();
        row.is_some()
    });
    assert_eq!(row, Some((0, 3)));
    // It is back, and counts again.
    topic.write([at(1, now)]);
    handle.stop();
    handle.wait().unwrap();
}

/// Rows of files, then the topic that goes on from them: stopped in the history, and behind it.
#[test]
fn history_then_live_is_handed_over_exactly() {
    let Some(broker) = servers::kafka() else { return };
    let topic = Topic::create(broker.address(), "then", 2);
    topic.write([NewRecord::to(0, "\"in the files too\""), NewRecord::to(1, "\"this as well\"")]);
    let dir = tempfile::tempdir().unwrap();
    let (out, state) = (dir.path().join("out"), dir.path().join("state"));
    let rows: Vec<String> = (0..2_000).map(|n| format!("\"h{n}\"\n")).collect();
    std::fs::write(dir.path().join("history.jsonl"), rows.concat()).unwrap();
    let flow = |kafka: Kafka| {
        let files = JsonLinesFiles::<String>::glob(dir.path().join("*.jsonl").to_str().unwrap());
        let live = kafka.at(broker.address()).from(Start::Latest);
        let live = live.discover_every(Duration::from_millis(200)).json::<String>();
        let flow = Flow::new("then");
        flow.source("in", highwater::source::Source::then(files, live))
            .map(|text| (0, 0u64, text))
            .sink("out", JsonLines::to(&out).visible_every(Duration::ZERO));
        flow
    };
    let settings =
        || Settings::at(&state).commit_interval(Duration::from_millis(2)).tick_max_events(20);
    let visible = || copied(&out).remove(&0).unwrap_or_default().len();
    let live = || Kafka::topic(&topic.name);
    let handle = flow(live()).spawn(settings()).unwrap();
    wait_until("some of the history", || visible() > 100);
    // The topic's positions stand since the start, not since the hand-over.
    topic.write((0..100).map(|n| NewRecord::to(n % 2, format!("\"l{n}\""))));
    handle.stop();
    handle.wait().unwrap();
    let handle = flow(live()).spawn(settings()).unwrap();
    wait_until("some live rows", || visible() > 2_050);
    handle.stop();
    handle.wait().unwrap();
    topic.write((100..200).map(|n| NewRecord::to(n % 2, format!("\"l{n}\""))));
    topic.grow(3);
    topic.write([NewRecord::to(2, "\"l200\"")]);
    // The files are not needed any more.
    std::fs::remove_file(dir.path().join("history.jsonl")).unwrap();
    flow(live().until_end()).run(settings()).unwrap();
    let mut rows: Vec<String> = copied(&out)[&0].iter().map(|(_, text)| text.clone()).collect();
    assert!(rows[..2_000].iter().all(|row| row.starts_with('h')));
    let mut expected: Vec<String> = (0..2_000).map(|n| format!("h{n}")).collect();
    expected.extend((0..201).map(|n| format!("l{n}")));
    rows.sort();
    expected.sort();
    assert!(rows == expected, "rows were lost or repeated");
}

#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
struct Order {
    customer: String,
    cents: i64,
}

fn order(customer: &str, cents: i64) -> Order {
    Order { customer: customer.to_owned(), cents }
}

#[test]
fn values_are_decoded_as_the_program_says() {
    let Some(broker) = servers::kafka() else { return };
    let address = broker.address();
    let json = Topic::create(address, "json", 1);
    let both = [order("ann", 5), order("bob", 7)];
    json.write(both.iter().map(|o| NewRecord::to(0, serde_json::to_vec(o).unwrap())));
    assert_eq!(read_all(until_end(&json, address).json::<Order>()).unwrap(), both);
    let bytes = read_all(until_end(&json, address).bytes()).unwrap();
    assert_eq!(bytes[1], serde_json::to_vec(&both[1]).unwrap());

    let csv = Topic::create(address, "csv", 1);
    csv.write(["ann,5", "\"bob\",7\n"].map(|row| NewRecord::to(0, row)));
    assert_eq!(read_all(until_end(&csv, address).csv::<Order>()).unwrap(), both);
    let lengths = until_end(&csv, address).decode(|record| {
        Ok((record.offset(), record.value().map(<[u8]>::len), record.key().is_some()))
    });
    assert_eq!(read_all(lengths).unwrap(), [(0, Some(5), false), (1, Some(8), false)]);

    let keyed = Topic::create(address, "keyed", 1);
    keyed.write([
        NewRecord {
            key: Some("k".to_owned()),
            timestamp_millis: Some(1_234),
            header: Some(("trace".to_owned(), "7".to_owned())),
            ..NewRecord::to(0, "v")
        },
        NewRecord { key: Some("k".to_owned()), ..NewRecord::default() },
    ]);
    let rows = read_all(until_end(&keyed, address).records()).unwrap();
    let row = &rows[0];
    assert_eq!(row.value.as_deref(), Some(&b"v"[..]));
    assert_eq!(row.key.as_deref(), Some(&b"k"[..]));
    assert_eq!(row.timestamp, EventTime::from_millis(1_234));
    assert_eq!(row.headers, [("trace".to_owned(), Some(b"7".to_vec()))]);
    assert_eq!((&*row.topic, row.partition, row.offset), (&*keyed.name, 0, 0));
    assert_eq!((rows[1].value.is_none(), rows[1].offset), (true, 1));
    let texts = read_all(until_end(&keyed, address).text().tombstones()).unwrap();
    assert_eq!(texts, [Some("v".to_owned()), None]);
    let error = read_all(until_end(&keyed, address).text()).unwrap_err();
    assert!(error.to_string().contains("position 1") && error.to_string().contains("tombstone"));
}

/// A flow that has read a topic to its end is finished: more records need a new state.
#[test]
fn new_records_for_a_finished_flow_are_refused() {
    let Some(broker) = servers::kafka() else { return };
    let topic = Topic::create(broker.address(), "finished", 2);
    topic.write((0..10).map(|n| NewRecord::to(n % 2, n.to_string())));
    let dir = tempfile::tempdir().unwrap();
    let run = || {
        let source = until_end(&topic, broker.address()).text().with_record();
        copying(source, &dir.path().join("out")).run(Settings::at(dir.path().join("state")))
    };
    run().unwrap();
    run().unwrap();
    topic.write([NewRecord::to(1, "more")]);
    let error = run().unwrap_err();
    assert_eq!((error.kind(), error.position()), (ErrorKind::State, Some(5)), "{error:?}");
    assert_eq!(error.partition(), Some(&*format!("{}/1", topic.name)));
}

/// With a schema of the program, and with one that the records name by a number.
#[cfg(feature = "avro")]
#[test]
fn avro_is_decoded_by_a_schema_or_its_number() {
    use apache_avro::writer::datum::GenericDatumWriter;
    use apache_avro::{Schema, to_value};

    const SCHEMA: &str = r#"{"type": "record", "name": "Order", "fields": [
        {"name": "customer", "type": "string"}, {"name": "cents", "type": "long"}]}"#;
    struct One;
    impl highwater::source::Schemas for One {
        fn schema(&self, id: u32) -> Result<Option<String>, BoxError> {
            match id {
                258 => Ok(Some(SCHEMA.to_owned())),
                260 => Err("the registry is away".into()),
                _ => Ok(None),
            }
        }
    }

    let Some(broker) = servers::kafka() else { return };
    let address = broker.address();
    let both = [order("ann", 5), order("bob", -7)];
    let schema = Schema::parse_str(SCHEMA).unwrap();
    let datum = |o: &Order| {
        let writer = GenericDatumWriter::builder(&schema).build().unwrap();
        let mut bytes = Vec::new();
        writer.write_value(&mut bytes, to_value(o).unwrap()).unwrap();
        bytes
    };
    let plain = Topic::create(address, "avro", 1);
    plain.write(both.iter().map(|o| NewRecord::to(0, datum(o))));
    let source = until_end(&plain, address).avro::<Order>(SCHEMA).unwrap();
    assert_eq!(read_all(source).unwrap(), both);
    assert!(until_end(&plain, address).avro::<Order>("{").is_err());

    let numbered = Topic::create(address, "numbered", 1);
    let behind = |id: u8, o: &Order| [&[0, 0, 0, 1, id][..], &datum(o)].concat();
    numbered.write(both.iter().map(|o| NewRecord::to(0, behind(2, o))));
    let source = || until_end(&numbered, address).avro_by::<Order>(One);
    assert_eq!(read_all(source()).unwrap(), both);
    numbered.write([NewRecord::to(0, behind(3, &both[0]))]);
    let error = read_all(source()).unwrap_err();
    assert_eq!(error.position(), Some(2));
    assert!(error.to_string().contains("no schema 259"), "{error}");
    // Not knowing is not the same, whatever becomes of what is undecodable.
    let away = Topic::create(address, "away", 1);
    away.write([NewRecord::to(0, behind(2, &both[0])), NewRecord::to(0, behind(4, &both[1]))]);
    let source = until_end(&away, address).avro_by::<Order>(One);
    let error = read_all(source.undecodable(highwater::source::Undecodable::Skip)).unwrap_err();
    assert_eq!((error.kind(), error.position()), (ErrorKind::Io, Some(1)));
    assert!(format!("{error:?}").contains("the registry is away"), "{error:?}");
    // A value that is not of the schema.
    let error = read_all(until_end(&numbered, address).avro::<Order>(SCHEMA).unwrap());
    assert_eq!(error.unwrap_err().kind(), ErrorKind::Input);
}

#[cfg(feature = "protobuf")]
#[test]
fn protocol_buffers_are_decoded() {
    use prost::Message;

    let Some(broker) = servers::kafka() else { return };
    let topic = Topic::create(broker.address(), "protobuf", 1);
    // prost's own message of one string.
    let values = ["ann".to_owned(), "bob".to_owned()];
    topic.write(values.iter().map(|value| NewRecord::to(0, value.encode_to_vec())));
    let source = until_end(&topic, broker.address()).protobuf::<String>();
    assert_eq!(read_all(source).unwrap(), values);
    topic.write([NewRecord::to(0, [10, 200])]);
    let source = until_end(&topic, broker.address()).protobuf::<String>();
    assert_eq!(read_all(source).unwrap_err().position(), Some(2));
}
