//! The order in which partitions are read: a lead limit bounds how far one runs ahead of the
//! slowest, changes no result, and never waits for silence.

use std::collections::BTreeMap;
use std::time::Duration;

use highwater::prelude::*;
use highwater::sink::Sink;
use highwater::testing::{Pushed, TestDriver};
use proptest::prelude::*;

/// Key and time in µs.
type Event = (u8, i64);

const SIZE: i64 = 50;

fn disorder(bound: i64, lead: Option<i64>) -> Disorder<Event> {
    let disorder = Disorder::at_most(micros(bound));
    match lead {
        Some(limit) => disorder.lead_limit(micros(limit)),
        None => disorder,
    }
}

/// Windows over one source; the late stream too.
fn windows<S>(
    flow: &Flow,
    source: S,
    bound: i64,
    lead: Option<i64>,
    late: impl Sink<Event>,
) -> Stream<(u8, i64, u64), Timed>
where
    S: highwater::source::Source<Item = Event>,
{
    let windows = flow
        .source("in", source)
        .event_time(|e| EventTime::from_micros(e.1), disorder(bound, lead))
        .key_by(|e| &e.0)
        .window("w", Tumbling::of(micros(SIZE)))
        .aggregate(Count);
    windows.late().map(|l| l.row).sink("late", late);
    windows.map(|r| (r.key, r.window.start.as_micros(), r.value))
}

fn pushed_flow(partitions: usize, bound: i64, lead: Option<i64>) -> Flow {
    let flow = Flow::new("alignment");
    windows(&flow, Pushed::partitions(partitions), bound, lead, Stdout::json())
        .sink("out", Stdout::json());
    flow
}

/// Partitions of very different density: some cross the time of others in a few events.
fn partitions() -> impl Strategy<Value = Vec<Vec<Event>>> {
    let event = (0u8..3, 0i64..30);
    let partition = (1i64..40, prop::collection::vec(event, 0..40)).prop_map(|(step, events)| {
        let at = |(index, (key, jitter)): (usize, Event)| (key, index as i64 * step + jitter);
        events.into_iter().enumerate().map(at).collect()
    });
    prop::collection::vec(partition, 1..5)
}

type Outputs = (Vec<(u8, i64, u64)>, Vec<Event>);

fn sorted(mut results: Vec<(u8, i64, u64)>, mut late: Vec<Event>) -> Outputs {
    results.sort_unstable();
    late.sort_unstable();
    (results, late)
}

/// Window by window, from the partitions alone.
fn oracle(partitions: &[Vec<Event>], bound: i64) -> Outputs {
    let (mut windows, mut late) = (BTreeMap::new(), Vec::new());
    for partition in partitions {
        let mut promise = i64::MIN;
        for &(key, time) in partition {
            let start = time.div_euclid(SIZE) * SIZE;
            if start + SIZE <= promise {
                late.push((key, time));
            } else {
                *windows.entry((key, start)).or_insert(0) += 1;
            }
            promise = promise.max(time - bound);
        }
    }
    sorted(windows.into_iter().map(|((key, start), n)| (key, start, n)).collect(), late)
}

fn push(driver: &mut TestDriver, source: &str, partition: usize, event: Event) {
    driver.push(source, partition, event).unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn oracle_no_lead_limit_changes_a_result(
        input in partitions(),
        bound in 0i64..20,
        lead in prop::option::of(1i64..100),
        limit in 1usize..12,
        crash_after in prop::option::of(1usize..20),
    ) {
        let flow = pushed_flow(input.len(), bound, lead);
        let mut driver = TestDriver::with_tick_limit(flow, limit).unwrap();
        for (partition, events) in input.iter().enumerate() {
            events.iter().for_each(|e| push(&mut driver, "in", partition, *e));
        }
        let total: usize = input.iter().map(Vec::len).sum();
        // Ticks with unread input read some of it, whatever waits for what: each partition that
        // is found empty may cost one.
        let (mut read, mut empty) = (0, 0);
        for tick in 0.. {
            if read == total as u64 {
                break;
            }
            if tick % 3 == 0 { driver.commit().unwrap() } else { driver.tick().unwrap() }
            let now = driver.metrics().operator("in").unwrap().counters.events_in;
            empty = if now > read { 0 } else { empty + 1 };
            prop_assert!(empty <= input.len(), "tick {} read nothing", tick);
            read = now;
            if crash_after == Some(tick) {
                driver.crash_and_restart().unwrap();
                read = driver.metrics().operator("in").unwrap().counters.events_in;
            }
        }
        driver.finish::<Event>("in").unwrap();
        while !driver.is_finished() {
            driver.tick().unwrap();
        }
        let outputs = sorted(driver.outputs("out").unwrap(), driver.outputs("late").unwrap());
        prop_assert_eq!(outputs, oracle(&input, bound));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn oracle_no_lead_limit_changes_a_live_result(
        input in partitions(),
        bound in 0i64..20,
        lead in prop::option::of(1i64..100),
        workers in 1usize..4,
    ) {
        let flow = Flow::new("alignment");
        let (sink, results) = highwater::sink::channel();
        let (late_sink, late) = highwater::sink::channel();
        windows(&flow, Memory::partitions(input.clone()), bound, lead, late_sink)
            .sink("out", sink);
        let settings = Settings::in_memory()
            .workers(workers)
            .tick_max_events(5)
            .commit_interval(Duration::from_millis(2));
        flow.run(settings).unwrap();
        let outputs = sorted(results.collect(), late.collect());
        prop_assert_eq!(outputs, oracle(&input, bound));
    }
}

fn promises(driver: &TestDriver) -> Vec<Option<i64>> {
    let promise = |p: &PartitionMetrics| match p.promise {
        Watermark::At(time) => Some(time.as_micros()),
        _ => None,
    };
    driver.metrics().partitions.iter().map(promise).collect()
}

/// A dense partition and one that crosses the same time in a few events; how far the fast one was
/// ahead at most while the slow one had something unread.
fn largest_lead(lead: Option<i64>) -> i64 {
    let mut driver = TestDriver::with_tick_limit(pushed_flow(2, 0, lead), 20).unwrap();
    (0..2_000).for_each(|i| push(&mut driver, "in", 0, (0, i)));
    (0..200).for_each(|i| push(&mut driver, "in", 1, (1, i * 10)));
    let mut largest = 0;
    while promises(&driver).first() != Some(&Some(1_999)) {
        driver.commit().unwrap();
        if let [Some(slow), Some(fast)] = promises(&driver)[..]
            && slow < 1_999
        {
            largest = largest.max(fast - slow);
        }
    }
    largest
}

#[test]
fn a_lead_limit_bounds_how_far_a_partition_runs_ahead() {
    // A tick reads 20 events: one that starts at the limit may bring 10 or 20 of them.
    let largest = largest_lead(Some(100));
    assert!(largest <= 100 + 20 * 10, "it was {largest}");
    let smaller = largest_lead(Some(1));
    assert!(smaller <= 1 + 20 * 10, "it was {smaller}");
}

#[test]
fn without_a_limit_the_slow_partition_is_read_more() {
    // Equal shares would let the fast one come to its end, 1,800 ahead.
    let largest = largest_lead(None);
    assert!((100..700).contains(&largest), "it was {largest}");
}

#[test]
fn a_silent_partition_holds_nobody_up() {
    let mut driver = TestDriver::with_tick_limit(pushed_flow(3, 0, Some(5)), 4).unwrap();
    push(&mut driver, "in", 0, (0, 1));
    (0..40).for_each(|i| push(&mut driver, "in", 1, (1, i * 100)));
    // Partition 2 never says a word.
    for _ in 0..20 {
        driver.commit().unwrap();
    }
    assert_eq!(driver.metrics().operator("in").unwrap().counters.events_in, 41);
    assert_eq!(promises(&driver), [Some(1), Some(3_900), None]);
    // Nor does a burst of wakes for nothing: they all go to a source as a whole.
    (0..10).for_each(|i| push(&mut driver, "in", 1, (1, 4_000 + i * 100)));
    for i in 0..10 {
        push(&mut driver, "in", 0, (0, 2 + i));
        driver.commit().unwrap();
    }
    assert_eq!(driver.metrics().operator("in").unwrap().counters.events_in, 61);
}

/// More partitions than a tick reads: half of those it reads are chosen for holding time back,
/// and half in turn, so that none is forgotten.
#[test]
fn hundreds_of_partitions_are_all_read_whoever_holds_time_back() {
    const MANY: usize = 300;
    let flow = Flow::new("many");
    // Rows of the first hundred never get a time: they hold time back to their end.
    flow.source("in", Pushed::<Event>::partitions(MANY))
        .filter(|e| e.0 != 0)
        .event_time(|e| EventTime::from_micros(e.1), disorder(0, Some(1_000)))
        .sink("out", Stdout::<Event>::json());
    let mut driver = TestDriver::with_tick_limit(flow, 128).unwrap();
    for partition in 0..MANY {
        for at in 0..10 {
            push(&mut driver, "in", partition, (u8::from(partition >= 100), at));
        }
    }
    let mut ticks = 0;
    while driver.metrics().operator("in").unwrap().counters.events_in < 10 * MANY as u64 {
        driver.tick().unwrap();
        ticks += 1;
        assert!(ticks < 100, "some are forgotten");
    }
    let out: Vec<Event> = driver.outputs("out").unwrap();
    assert_eq!(out.len(), 2_000);
    // 3,000 events in ticks of 128, of which some were not filled at the ends of partitions.
    assert!(ticks >= 24, "{ticks} ticks");
}

#[test]
fn a_partition_that_waits_does_not_become_idle() {
    let flow = Flow::new("waits");
    flow.source("in", Pushed::<Event>::partitions(2))
        .event_time(|e| EventTime::from_micros(e.1), disorder(0, Some(10)).idle_after(micros(100)))
        .sink("out", Stdout::json());
    let mut driver = TestDriver::with_tick_limit(flow, 2).unwrap();
    (0..20).for_each(|i| push(&mut driver, "in", 0, (0, i)));
    (0..3).for_each(|i| push(&mut driver, "in", 1, (1, i * 1_000)));
    let idle = |driver: &TestDriver| {
        driver.metrics().partitions.iter().filter(|p| p.state == PartitionState::Idle).count()
    };
    for _ in 0..8 {
        driver.advance_clock(micros(90));
        driver.commit().unwrap();
        assert_eq!(idle(&driver), 0);
    }
    let read = driver.metrics().operator("in").unwrap().counters.events_in;
    assert!(read < 20, "partition 1 still waits, after {read} events");
    while driver.metrics().operator("in").unwrap().counters.events_in < 23 {
        driver.commit().unwrap();
    }
    driver.advance_clock(micros(100));
    driver.commit().unwrap();
    assert_eq!(idle(&driver), 2, "now it is silence");
}

#[test]
fn rows_without_a_time_hold_others_up_only_while_there_are_more() {
    let flow = Flow::new("filtered");
    flow.source("in", Pushed::<Event>::partitions(2))
        .filter(|e| e.0 != 0)
        .event_time(|e| EventTime::from_micros(e.1), disorder(0, Some(10)))
        .sink("out", Stdout::<Event>::json());
    let mut driver = TestDriver::with_tick_limit(flow, 4).unwrap();
    (0..20).for_each(|i| push(&mut driver, "in", 0, (0, i)));
    (0..20).for_each(|i| push(&mut driver, "in", 1, (1, i * 100)));
    for _ in 0..20 {
        driver.tick().unwrap();
    }
    assert_eq!(driver.outputs::<Event>("out").unwrap().len(), 20);
}

/// Two sources of which the second runs far ahead; how much of it was read when half of the
/// first was.
fn read_of_the_fast_source(meet: bool) -> u64 {
    let flow = Flow::new("two sources");
    let timed = |id: &str| {
        flow.source(id, Pushed::<Event>::partitions(1))
            .event_time(|e| EventTime::from_micros(e.1), disorder(0, Some(10)))
    };
    let (slow, fast) = (timed("slow"), timed("fast"));
    let count = |stream: &Stream<Event, Timed>, id: &str| {
        let counts = stream.key_by(|e| &e.0).window(id, Tumbling::of(micros(SIZE)));
        counts
            .aggregate(Count)
            .drop_late("none")
            .map(|r| r.value)
            .sink(&format!("{id} out"), Stdout::json());
    };
    if meet {
        count(&slow.union(&[&fast]), "both");
    } else {
        count(&slow, "one");
        count(&fast, "other");
    }
    let mut driver = TestDriver::with_tick_limit(flow, 10).unwrap();
    (0..100).for_each(|i| push(&mut driver, "slow", 0, (0, i)));
    (0..100).for_each(|i| push(&mut driver, "fast", 0, (1, i * 100)));
    let read =
        |driver: &TestDriver, id: &str| driver.metrics().operator(id).unwrap().counters.events_in;
    while read(&driver, "slow") < 50 {
        driver.tick().unwrap();
    }
    read(&driver, "fast")
}

#[test]
fn sources_wait_for_each_other_only_where_their_events_meet() {
    assert!(read_of_the_fast_source(true) <= 10);
    assert!(read_of_the_fast_source(false) >= 40);
}

#[test]
fn the_plan_prints_the_limit_and_state_is_found_again_under_another() {
    let plan = pushed_flow(1, 0, Some(1_000)).plan().unwrap();
    assert!(plan.contains("no partition read more than 1ms ahead"), "{plan}");
    let dir = tempfile::tempdir().unwrap();
    for lead in [Some(5), Some(500), None] {
        let flow = Flow::new("alignment");
        let (sink, _results) = highwater::sink::channel();
        let (sender, source) = highwater::source::channel::<Event>(10);
        let (late, _) = highwater::sink::channel();
        windows(&flow, source, 0, lead, late).sink("out", sink);
        let handle = flow.spawn(Settings::at(dir.path()).workers(1)).unwrap();
        drop(sender.blocking_send((1, 1)).unwrap());
        handle.stop();
        handle.wait().unwrap();
    }
}
