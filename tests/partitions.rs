//! Partitions that are silent, return, are discovered late, are taken away, or whose rows are all
//! filtered: the watermark against an obvious model, the reasons of late events, and that nothing
//! is lost, repeated or silent where idleness strikes.

use std::collections::BTreeMap;

use highwater::prelude::*;
use highwater::testing::{Pushed, TestDriver};
use proptest::prelude::*;

/// Time in µs, and whether the row survives the filter before `event_time`.
type Event = (i64, bool);

const IDLE: i64 = 100;
const SIZE: i64 = 10;

fn flow(partitions: usize, bound: i64) -> Flow {
    flow_over(&Pushed::partitions(partitions), bound)
}

fn flow_over(source: &Pushed<Event>, bound: i64) -> Flow {
    let flow = Flow::new("partitions");
    let windows = flow
        .source("in", source.clone())
        .filter(|e| e.1)
        .event_time(
            |e| EventTime::from_micros(e.0),
            Disorder::at_most(micros(bound)).idle_after(micros(IDLE)),
        )
        .key_with(|_| 0u8)
        .window("w", Tumbling::of(micros(SIZE)))
        .aggregate(Count);
    windows.late().map(|l| (l.row.0, l.reason)).sink("late", Stdout::json());
    windows.map(|r| (r.window.start.as_micros(), r.value)).sink("out", Stdout::json());
    flow
}

#[derive(Clone, Debug)]
enum Step {
    /// Push to a partition; one beyond the first ones is discovered.
    Push(usize, i64, bool),
    Tick,
    Clock(i64),
    Crash,
    /// Take a partition away, and run a tick.
    TakeAway(usize),
    GiveBack(usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => (0usize..4, 0i64..120, prop::bool::weighted(0.85))
            .prop_map(|(p, t, k)| Step::Push(p, t, k)),
        4 => Just(Step::Tick),
        2 => (1i64..80).prop_map(Step::Clock),
        1 => Just(Step::Crash),
        1 => (0usize..4).prop_map(Step::TakeAway),
        1 => (0usize..4).prop_map(Step::GiveBack),
    ];
    prop::collection::vec(step, 1..60)
}

/// One partition as the rules describe it.
#[derive(Clone, Debug, Default)]
struct Model {
    promise: Option<i64>,
    idle: bool,
    quiet: i64,
    unread: Vec<Event>,
    /// It was read, or counted as read, in the tick before.
    read: bool,
    taken: bool,
    /// It has been taken away since it was last read.
    returned: bool,
}

/// All partitions, and the watermark that follows.
#[derive(Clone, Debug, Default)]
struct World {
    partitions: BTreeMap<usize, Model>,
    watermark: Option<i64>,
    clock: i64,
    last_tick: Option<i64>,
    used: u64,
    late: u64,
}

impl World {
    fn tick(&mut self, bound: i64) {
        let elapsed = self.last_tick.map_or(0, |last| self.clock - last);
        self.last_tick = Some(self.clock);
        let before = self.watermark;
        for partition in self.partitions.values_mut() {
            if partition.taken {
                partition.read = false;
                continue;
            }
            let new = !std::mem::replace(&mut partition.read, true);
            if new && partition.returned {
                (partition.idle, partition.returned) = (false, false);
            }
            let mut heard = false;
            for (time, kept) in std::mem::take(&mut partition.unread) {
                if !kept {
                    continue;
                }
                heard = true;
                let end = time.div_euclid(SIZE) * SIZE + SIZE;
                let closed = |w: Option<i64>| w.is_some_and(|w| end <= w);
                if closed(partition.promise) || closed(before) {
                    self.late += 1;
                } else {
                    self.used += 1;
                }
                partition.promise = partition.promise.max(Some(time - bound));
            }
            if heard {
                (partition.idle, partition.quiet) = (false, 0);
            } else if new {
                // The time before it was read does not count.
                partition.quiet = 0;
            } else {
                partition.quiet += elapsed;
                partition.idle |= partition.quiet >= IDLE;
            }
        }
        let active: Vec<_> = self.partitions.values().filter(|p| !p.idle && !p.taken).collect();
        if !active.is_empty() && active.iter().all(|p| p.promise.is_some()) {
            let least = active.iter().filter_map(|p| p.promise).min();
            self.watermark = self.watermark.max(least);
        }
    }
}

fn watermark_of(driver: &TestDriver) -> Option<i64> {
    match driver.watermark("w") {
        Watermark::At(time) => Some(time.as_micros()),
        Watermark::Unknown => None,
        Watermark::End => Some(i64::MAX),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// After every tick the watermark is the model's, late events are as many, and every input
    /// event is accounted for; at the end, results and late events make up the input.
    #[test]
    fn differential_watermark_against_partition_states(steps in steps(), bound in 0i64..20) {
        let first = 2;
        let source = Pushed::<Event>::partitions(first);
        let mut driver = TestDriver::new(flow_over(&source, bound)).unwrap();
        let mut world = World::default();
        (0..first).for_each(|p| { world.partitions.insert(p, Model::default()); });
        let mut committed = world.clone();
        let (mut pushed, mut kept_total) = (0u64, 0u64);
        for step in steps {
            match step {
                Step::Push(partition, time, kept) => {
                    // Partitions are numbered without gaps.
                    let partition = partition.min(world.partitions.len());
                    driver.push("in", partition, (time, kept)).unwrap();
                    for state in [&mut world, &mut committed] {
                        // What is pushed survives a crash; the partition is discovered again.
                        (0..=partition).for_each(|p| { state.partitions.entry(p).or_default(); });
                        state.partitions.entry(partition).or_default().unread.push((time, kept));
                    }
                    pushed += 1;
                    kept_total += u64::from(kept);
                }
                Step::Tick => {
                    // Each tick is committed, so that a crash takes back only the clock's last
                    // reading: time in which the flow was down does not make anybody idle.
                    driver.commit().unwrap();
                    world.tick(bound);
                    committed = world.clone();
                }
                Step::Clock(by) => {
                    driver.advance_clock(micros(by));
                    world.clock += by;
                    committed.clock += by;
                }
                Step::TakeAway(partition) => {
                    if !world.partitions.get(&partition).is_some_and(|p| p.read && !p.taken) {
                        continue;
                    }
                    source.take_away(partition);
                    driver.commit().unwrap();
                    if let Some(p) = world.partitions.get_mut(&partition) {
                        (p.taken, p.returned) = (true, true);
                    }
                    world.tick(bound);
                    committed = world.clone();
                }
                Step::GiveBack(partition) => {
                    source.give_back(partition);
                    for state in [&mut world, &mut committed] {
                        if let Some(p) = state.partitions.get_mut(&partition) {
                            p.taken = false;
                        }
                    }
                }
                Step::Crash => {
                    driver.crash_and_restart().unwrap();
                    world = committed.clone();
                    world.last_tick = None;
                    // Quiet time is not committed: it is counted anew.
                    world.partitions.values_mut().for_each(|p| p.quiet = 0);
                    committed = world.clone();
                }
            }
            prop_assert_eq!(watermark_of(&driver), world.watermark);
            let counters = driver.metrics().operator("w").unwrap().counters;
            prop_assert_eq!((counters.used, counters.late), (world.used, world.late));
            for operator in driver.metrics().operators {
                prop_assert!(operator.counters.balanced(), "{}", operator.id);
            }
        }
        (0..4).for_each(|partition| source.give_back(partition));
        driver.finish::<Event>("in").unwrap();
        prop_assert_eq!(driver.watermark("w"), Watermark::End);
        let results: Vec<(i64, u64)> = driver.outputs("out").unwrap();
        let late: Vec<(i64, LateReason)> = driver.outputs("late").unwrap();
        let counted: u64 = results.iter().map(|r| r.1).sum();
        prop_assert_eq!(counted + late.len() as u64, kept_total);
        let read = driver.metrics().operator("in").unwrap().counters.events_in;
        prop_assert_eq!(read, pushed);
        let mut starts: Vec<i64> = results.iter().map(|r| r.0).collect();
        starts.sort_unstable();
        starts.dedup();
        prop_assert_eq!(starts.len(), results.len(), "a window fired twice");
    }
}

fn driver(partitions: usize) -> TestDriver {
    TestDriver::new(flow(partitions, 0)).unwrap()
}

fn push(driver: &mut TestDriver, partition: usize, times: &[i64]) {
    for time in times {
        driver.push("in", partition, (*time, true)).unwrap();
    }
}

#[test]
fn an_empty_partition_holds_time_until_it_is_idle() {
    let mut driver = driver(2);
    push(&mut driver, 0, &[5, 25]);
    driver.tick().unwrap();
    assert_eq!(driver.watermark("w"), Watermark::Unknown, "partition 1 has said nothing");
    driver.advance_clock(micros(IDLE - 1));
    driver.tick().unwrap();
    assert_eq!(driver.watermark("w"), Watermark::Unknown);
    push(&mut driver, 0, &[26]);
    driver.advance_clock(micros(1));
    driver.tick().unwrap();
    assert_eq!(watermark_of(&driver), Some(26));
    assert_eq!(driver.outputs::<(i64, u64)>("out").unwrap(), [(0, 1)]);
}

#[test]
fn a_partition_that_returns_is_late_with_that_reason_and_does_not_drag_time_back() {
    let mut driver = driver(2);
    push(&mut driver, 0, &[5]);
    push(&mut driver, 1, &[5]);
    driver.tick().unwrap();
    driver.advance_clock(micros(IDLE));
    push(&mut driver, 0, &[45]);
    driver.tick().unwrap();
    assert_eq!(watermark_of(&driver), Some(45), "partition 1 is idle");
    // 8 is for a closed window; 41 is behind the watermark, but its window is open.
    push(&mut driver, 1, &[8, 41]);
    driver.tick().unwrap();
    assert_eq!(driver.outputs::<(i64, LateReason)>("late").unwrap(), [(8, LateReason::Returned)]);
    assert_eq!(watermark_of(&driver), Some(45));
    driver.finish::<Event>("in").unwrap();
    assert_eq!(driver.outputs::<(i64, u64)>("out").unwrap(), [(0, 2), (40, 2)]);
}

#[test]
fn a_partition_that_is_discovered_is_late_with_that_reason() {
    let mut driver = driver(1);
    push(&mut driver, 0, &[5, 45]);
    driver.commit().unwrap();
    push(&mut driver, 1, &[8, 46, 3]);
    driver.tick().unwrap();
    let late = [(8, LateReason::Discovered), (3, LateReason::BrokePromise)];
    assert_eq!(driver.outputs::<(i64, LateReason)>("late").unwrap(), late);
    // After a crash it is read again, and is as late as before.
    driver.crash_and_restart().unwrap();
    driver.tick().unwrap();
    assert_eq!(driver.outputs::<(i64, LateReason)>("late").unwrap(), late);
}

#[test]
fn a_partition_whose_rows_are_all_filtered_becomes_idle() {
    let mut driver = driver(2);
    push(&mut driver, 0, &[5]);
    driver.push("in", 1, (999i64, false)).unwrap();
    driver.tick().unwrap();
    driver.advance_clock(micros(IDLE));
    push(&mut driver, 0, &[25]);
    driver.push("in", 1, (999i64, false)).unwrap();
    driver.tick().unwrap();
    assert_eq!(watermark_of(&driver), Some(25), "its rows never got an event time");
}

#[test]
fn a_partition_not_yet_seen_can_become_idle_but_not_for_time_before_it() {
    let mut driver = driver(1);
    push(&mut driver, 0, &[5]);
    driver.tick().unwrap();
    // All this passes before partition 1 is there.
    driver.advance_clock(micros(10 * IDLE));
    push(&mut driver, 0, &[25]);
    driver.push("in", 1, (0i64, false)).unwrap();
    driver.tick().unwrap();
    assert_eq!(watermark_of(&driver), Some(5), "partition 1 is waited for");
    driver.advance_clock(micros(IDLE));
    push(&mut driver, 0, &[26]);
    driver.tick().unwrap();
    assert_eq!(watermark_of(&driver), Some(26));
}

#[test]
fn a_partition_that_is_taken_away_stops_holding_time_and_goes_on_where_it_was() {
    let source = Pushed::<Event>::partitions(2);
    let mut driver = TestDriver::new(flow_over(&source, 0)).unwrap();
    push(&mut driver, 0, &[5]);
    push(&mut driver, 1, &[7]);
    driver.commit().unwrap();
    assert_eq!(watermark_of(&driver), Some(5));
    source.take_away(0);
    push(&mut driver, 0, &[8]);
    push(&mut driver, 1, &[27]);
    driver.commit().unwrap();
    assert_eq!(watermark_of(&driver), Some(27), "without any timeout");
    assert_eq!(driver.outputs::<(i64, u64)>("out").unwrap(), [(0, 2)]);
    // A start without it is no error, since the commit knows that it is gone.
    driver.crash_and_restart().unwrap();
    driver.tick().unwrap();
    assert_eq!(watermark_of(&driver), Some(27));
    source.give_back(0);
    push(&mut driver, 0, &[28]);
    push(&mut driver, 1, &[41]);
    driver.commit().unwrap();
    assert_eq!(driver.outputs::<(i64, LateReason)>("late").unwrap(), [(8, LateReason::Returned)]);
    assert_eq!(watermark_of(&driver), Some(28), "it is waited for again");
    driver.finish::<Event>("in").unwrap();
    assert_eq!(driver.outputs::<(i64, u64)>("out").unwrap(), [(0, 2), (20, 2), (40, 1)]);
}

#[test]
fn when_the_last_partition_is_taken_away_time_stands_still() {
    let source = Pushed::<Event>::partitions(1);
    let mut driver = TestDriver::new(flow_over(&source, 0)).unwrap();
    push(&mut driver, 0, &[5]);
    driver.tick().unwrap();
    source.take_away(0);
    driver.tick().unwrap();
    driver.tick().unwrap();
    assert_eq!(watermark_of(&driver), Some(5));
    source.give_back(0);
    push(&mut driver, 0, &[15]);
    driver.tick().unwrap();
    assert_eq!(watermark_of(&driver), Some(15));
}

#[test]
fn while_partitions_may_be_added_those_that_have_ended_are_not_the_end_of_time() {
    let source = Pushed::<Event>::partitions(1);
    let flow = Flow::new("more may come");
    flow.source("in", source.clone())
        .event_time(|e| EventTime::from_micros(e.0), Disorder::ascending())
        .key_with(|_| 0u8)
        .window("w", Tumbling::of(micros(SIZE)))
        .aggregate(Count)
        .drop_late("none")
        .map(|r| (r.window.start.as_micros(), r.value))
        .sink("out", Stdout::json());
    let mut driver = TestDriver::new(flow).unwrap();
    push(&mut driver, 0, &[5]);
    source.finish_partition(0);
    driver.commit().unwrap();
    assert_ne!(driver.watermark("w"), Watermark::End);
    push(&mut driver, 1, &[6, 25]);
    driver.commit().unwrap();
    assert_eq!(driver.outputs::<(i64, u64)>("out").unwrap(), [(0, 2)], "6 is not late");
    driver.finish::<Event>("in").unwrap();
    assert_eq!(driver.outputs::<(i64, u64)>("out").unwrap(), [(0, 2), (20, 1)]);
}

#[test]
fn at_the_end_a_timer_still_fires_before_a_result_of_a_later_time() {
    struct Log;
    impl Process<u8, (u8, i64)> for Log {
        type State = ();
        type Output = i64;
        fn event(&self, cx: &mut ProcessCx<'_, (), i64>, _: &u8, event: (u8, i64)) {
            cx.emit(event.1);
            cx.set_timer("t", cx.time() + micros(5));
        }
        fn timer(&self, cx: &mut ProcessCx<'_, (), i64>, _: &u8, timer: &Timer) {
            cx.emit(-timer.time.as_micros());
        }
    }
    let flow = Flow::new("results at the end");
    let raw = flow
        .source("in", Pushed::<(u8, i64)>::partitions(1))
        .event_time(|e| EventTime::from_micros(e.1), Disorder::ascending());
    let windows = raw
        .key_by(|e| &e.0)
        .window("w", Tumbling::of(micros(100)))
        .aggregate(Count)
        .drop_late("none")
        .map(|r| (r.key, r.window.last_time().as_micros()));
    let both = windows.union(&[&raw]);
    let log = both.key_by(|e| &e.0).process("p", Log).unbounded().drop_late("none");
    log.sink("out", Stdout::json());
    let mut driver = TestDriver::new(flow).unwrap();
    driver.push("in", 0, (1u8, 10i64)).unwrap();
    driver.finish::<(u8, i64)>("in").unwrap();
    assert_eq!(driver.outputs::<i64>("out").unwrap(), [10, -15, 99, -104]);
}

#[test]
fn a_straggler_still_counts_in_the_hopping_windows_that_are_open() {
    let flow = Flow::new("hopping");
    let windows = flow
        .source("in", Pushed::<Event>::partitions(1))
        .event_time(|e| EventTime::from_micros(e.0), Disorder::ascending())
        .key_with(|_| 0u8)
        .window("w", Hopping::of(micros(20), micros(10)))
        .aggregate(Count);
    windows.late().map(|l| l.row.0).sink("late", Stdout::<i64>::json());
    windows.map(|r| (r.window.start.as_micros(), r.value)).sink("out", Stdout::json());
    let mut driver = TestDriver::new(flow).unwrap();
    // 5 is late for [-10, 10), which the promise 12 has closed, and in time for [0, 20).
    for time in [12, 5, 31, 5] {
        driver.push("in", 0, (i64::from(time), true)).unwrap();
    }
    driver.finish::<Event>("in").unwrap();
    assert_eq!(driver.outputs::<i64>("late").unwrap(), [5]);
    let out: Vec<(i64, u64)> = driver.outputs("out").unwrap();
    assert_eq!(out, [(0, 2), (10, 1), (20, 1), (30, 1)]);
    let counters = driver.metrics().operator("w").unwrap().counters;
    assert_eq!((counters.used, counters.late), (3, 1));
}

/// Re-arms a timer five µs after each event, and tells when it fires.
struct ReArm;

impl Process<u8, (u8, i64)> for ReArm {
    type State = i64;
    type Output = (u8, i64);

    fn event(&self, cx: &mut ProcessCx<'_, i64, (u8, i64)>, _: &u8, event: (u8, i64)) {
        if let Some(armed) = cx.state().take() {
            cx.delete_timer("t", EventTime::from_micros(armed));
        }
        cx.set_timer("t", EventTime::from_micros(event.1 + 5));
        *cx.state() = Some(event.1 + 5);
    }

    fn timer(&self, cx: &mut ProcessCx<'_, i64, (u8, i64)>, key: &u8, timer: &Timer) {
        *cx.state() = None;
        cx.emit((*key, timer.time.as_micros()));
    }
}

#[test]
fn no_alert_is_lost_when_events_come_in_one_tick() {
    let run = |ticks: bool, on_arrival: bool| {
        let flow = Flow::new("re-arm");
        let keyed = flow
            .source("in", Pushed::<(u8, i64)>::partitions(1))
            .event_time(|e| EventTime::from_micros(e.1), Disorder::ascending())
            .key_by(|e| &e.0);
        let alerts = if on_arrival {
            keyed.process_on_arrival("p", ReArm)
        } else {
            keyed.process("p", ReArm)
        };
        alerts.unbounded().drop_late("none").sink("out", Stdout::json());
        let mut driver = TestDriver::new(flow).unwrap();
        for event in [(b'a', 11i64), (b'b', 21), (b'a', 21)] {
            driver.push("in", 0, event).unwrap();
            if ticks {
                driver.tick().unwrap();
            }
        }
        driver.finish::<(u8, i64)>("in").unwrap();
        driver.outputs::<(u8, i64)>("out").unwrap()
    };
    let all = [(b'a', 16), (b'a', 26), (b'b', 26)];
    assert_eq!(run(true, false), all);
    assert_eq!(run(false, false), all);
    // In order of arrival the alert is lost: that is what the class Arrival warns of.
    assert_eq!(run(false, true), [(b'a', 26), (b'b', 26)]);
}

/// A heartbeat: each firing sets the next.
struct Heartbeat;

impl Process<u8, (u8, i64)> for Heartbeat {
    type State = ();
    type Output = i64;

    fn event(&self, cx: &mut ProcessCx<'_, (), i64>, _: &u8, _: (u8, i64)) {
        cx.set_timer("beat", cx.time() + micros(10));
    }

    fn timer(&self, cx: &mut ProcessCx<'_, (), i64>, _: &u8, timer: &Timer) {
        cx.emit(timer.time.as_micros());
        cx.set_timer("beat", timer.time + micros(10));
    }
}

#[test]
fn a_heartbeat_ends_with_its_input_whatever_key_came_last() {
    let flow = Flow::new("heartbeat");
    flow.source("in", Pushed::<(u8, i64)>::partitions(1))
        .event_time(|e| EventTime::from_micros(e.1), Disorder::ascending())
        .key_by(|e| &e.0)
        .process("p", Heartbeat)
        .unbounded()
        .drop_late("none")
        .sink("out", Stdout::json());
    let mut driver = TestDriver::new(flow).unwrap();
    driver.push("in", 0, (b'a', 0i64)).unwrap();
    driver.push("in", 0, (b'b', 35i64)).unwrap();
    driver.commit().unwrap();
    assert_eq!(driver.state::<u8, ()>("p", &b'a').unwrap(), None);
    driver.finish::<(u8, i64)>("in").unwrap();
    // Up to the largest time, 35, as ever; then once more: 40 of a and 45 of b.
    assert_eq!(driver.outputs::<i64>("out").unwrap(), [10, 20, 30, 40, 45]);
}
