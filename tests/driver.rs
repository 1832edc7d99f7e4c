//! The test driver: it is deterministic, tells what it sees, and its workers, crashes and clocks
//! do what they are told.

use highwater::prelude::*;
use highwater::testing::{Pushed, TestDriver, assert_restores};
use highwater::{Process, ProcessCx, Timer};

/// Key, time in µs, number.
type Event = (u8, i64, u32);

/// Collects numbers, and lets a silence of 7 µs end the collection.
struct Silence;

impl Process<u8, Event> for Silence {
    type State = (i64, Vec<u32>);
    type Output = (u8, Vec<u32>);

    fn event(&self, cx: &mut ProcessCx<'_, Self::State, Self::Output>, _: &u8, event: Event) {
        let (armed, mut numbers) = cx.state().take().unwrap_or_default();
        if !numbers.is_empty() {
            cx.delete_timer("silence", EventTime::from_micros(armed));
        }
        numbers.push(event.2);
        let at = event.1 + 7;
        cx.set_timer("silence", EventTime::from_micros(at));
        *cx.state() = Some((at, numbers));
    }

    fn timer(&self, cx: &mut ProcessCx<'_, Self::State, Self::Output>, key: &u8, _: &Timer) {
        let (_, numbers) = cx.state().take().unwrap_or_default();
        cx.emit((*key, numbers));
    }
}

fn flow(source: &Pushed<Event>) -> Flow {
    let flow = Flow::new("driven");
    let timed = flow
        .source("events", source.clone())
        .event_time(|e| EventTime::from_micros(e.1), Disorder::at_most(micros(3)));
    let keyed = timed.key_by(|e| &e.0);
    let windows = keyed.window("windows", Hopping::of(micros(12), micros(5))).aggregate(Collect);
    windows.late().map(|late| late.row).sink("late", Stdout::json());
    windows.map(|r| (r.key, r.window.start, r.value)).sink("out", Stdout::json());
    let silent = keyed.process("silence", Silence).unbounded();
    silent.drop_late("told by the windows").sink("silent", Stdout::json());
    keyed.running("totals", Count).unbounded().sink("totals-out", Stdout::json());
    flow
}

fn event(n: u32) -> (usize, Event) {
    let time = i64::from(n) - i64::from(n * 7 % 23);
    ((n % 3) as usize, ((n * n % 11) as u8, time, n))
}

/// Everything that can be seen of a run: rows in order, the log, the clock, a number.
#[derive(Debug, PartialEq)]
struct Seen {
    out: Vec<(u8, EventTime, Vec<Event>)>,
    silent: Vec<(u8, Vec<u32>)>,
    totals: Vec<(u8, u64)>,
    late: Vec<Event>,
    log: Vec<String>,
    clock: EventTime,
    random: u64,
}

fn run(workers: usize, seed: u64) -> Seen {
    let source = Pushed::partitions(3);
    let builder = TestDriver::builder(flow(&source)).workers(workers).seed(seed);
    let mut driver = builder.tick_limit(7).memory(0).start().unwrap();
    for n in 0..120 {
        let (partition, event) = event(n);
        driver.push("events", partition, event).unwrap();
        // What is done is drawn from the same numbers as the turns of the workers.
        match driver.random() % 8 {
            0 => driver.tick().unwrap(),
            1 => driver.commit().unwrap(),
            2 => driver.advance_clock(micros(5)),
            3 if n % 4 == 0 => driver.crash_and_restart().unwrap(),
            4 if n % 8 == 0 => driver.rescale(workers % 3 + 1).unwrap(),
            5 if n % 4 == 0 => {
                driver.crash_in_tick(n % 8 == 0, n as usize).unwrap();
                driver.restart().unwrap();
            }
            _ => {}
        }
    }
    driver.finish::<Event>("events").unwrap();
    while !driver.is_finished() {
        driver.tick().unwrap();
    }
    Seen {
        out: driver.outputs("out").unwrap(),
        silent: driver.outputs("silent").unwrap(),
        totals: driver.outputs("totals-out").unwrap(),
        late: driver.outputs("late").unwrap(),
        log: driver.log().to_vec(),
        clock: driver.clock(),
        random: driver.random(),
    }
}

/// A tick of many rows is read in turns, and is one tick all the same: it shows everything or
/// nothing, wherever it is cut off.
#[test]
fn a_tick_that_is_read_in_turns_is_one_tick() {
    /// More than two turns take.
    const ROWS: u32 = 10_000;
    for workers in [1, 2] {
        for steps in 0..24 {
            let source = Pushed::<u32>::partitions(2);
            let flow = Flow::new("turns");
            flow.source("events", source.clone()).sink("out", Stdout::json());
            let mut driver = TestDriver::builder(flow).workers(workers).start().unwrap();
            let push = |driver: &mut TestDriver, from: u32| {
                for n in from..from + ROWS {
                    driver.push("events", (n % 7 / 6) as usize, n).unwrap();
                }
            };
            push(&mut driver, 0);
            driver.commit().unwrap();
            assert_eq!(driver.outputs::<u32>("out").unwrap().len(), ROWS as usize, "one tick");
            push(&mut driver, ROWS);
            driver.crash_in_tick(steps % 2 == 0, steps).unwrap();
            driver.restart().unwrap();
            driver.finish::<u32>("events").unwrap();
            let mut rows: Vec<u32> = driver.outputs("out").unwrap();
            rows.sort_unstable();
            let all: Vec<u32> = (0..2 * ROWS).collect();
            assert!(rows == all, "{} rows after {steps} steps, {workers} workers", rows.len());
        }
    }
}

#[test]
fn the_same_seed_twice_is_the_same_run() {
    let mut different = 0;
    for seed in 0..6 {
        for workers in 1..=3 {
            let (first, second) = (run(workers, seed), run(workers, seed));
            assert_eq!(first, second, "seed {seed}, {workers} workers");
            assert!(first.out.len() > 100 && first.log.len() > 100, "{first:?}");
            different += usize::from(run(workers, seed + 100).totals != first.totals);
        }
    }
    assert!(different > 12, "other seeds make hardly any difference: {different}");
}

#[test]
fn what_is_of_class_input_does_not_depend_on_the_seed() {
    let sorted = |seen: Seen| {
        let (mut out, mut silent, mut late) = (seen.out, seen.silent, seen.late);
        out.sort();
        silent.sort();
        late.sort();
        (out, silent, late)
    };
    let first = sorted(run(1, 0));
    assert!(!first.2.is_empty(), "nothing is late");
    for seed in 1..12 {
        assert_eq!(sorted(run(seed as usize % 3 + 1, seed)), first, "seed {seed}");
    }
}

#[test]
fn a_log_can_be_compared_with_a_snapshot() {
    let source = Pushed::partitions(1);
    let mut driver = TestDriver::builder(flow(&source)).workers(2).start().unwrap();
    driver.push("events", 0, (7u8, 1i64, 0u32)).unwrap();
    driver.tick().unwrap();
    driver.push("events", 0, (7u8, 12i64, 1u32)).unwrap();
    driver.push("events", 0, (7u8, -10i64, 2u32)).unwrap();
    driver.commit().unwrap();
    driver.crash();
    driver.restart().unwrap();
    let log = driver.log().join("\n");
    for line in [
        "start\ntick 1\n  events: in 1 used 1 out 1",
        "tick 2, committed",
        "  windows: in 2 used 1 late 1 out 3 \
         watermark 1969-12-31T23:59:59.999998Z -> 1970-01-01T00:00:00.000009Z",
        "  silence: in 2 used 1 late 1 out 2",
        "crash\nrestart",
    ] {
        assert!(log.contains(line), "no `{line}` in\n{log}");
    }
}

#[test]
fn state_timers_and_counters_can_be_looked_at() {
    let source = Pushed::partitions(1);
    let mut driver = TestDriver::builder(flow(&source)).workers(3).start().unwrap();
    driver.push("events", 0, (7u8, 1i64, 0u32)).unwrap();
    driver.push("events", 0, (7u8, 6i64, 1u32)).unwrap();
    driver.commit().unwrap();
    let state = driver.state::<u8, (i64, Vec<u32>)>("silence", &7).unwrap();
    assert_eq!(state, Some((8, vec![0])));
    let timers = driver.timers("silence", &7u8).unwrap();
    assert_eq!(timers, [Timer { time: EventTime::from_micros(8), name: "silence".into() }]);
    assert_eq!(driver.timers("silence", &8u8).unwrap(), []);
    assert_eq!(driver.counters("silence").held, 1);
    assert_eq!(driver.watermark("silence"), Watermark::At(EventTime::from_micros(3)));
    assert_eq!(driver.late("windows"), 0);
    driver.push("events", 0, (7u8, -10i64, 2u32)).unwrap();
    driver.tick().unwrap();
    assert_eq!((driver.late("windows"), driver.late("silence")), (1, 1));
    assert_eq!(driver.entries("totals"), 1);
}

#[test]
fn a_flow_that_is_down_takes_events_and_nothing_else() {
    let source = Pushed::partitions(1);
    let mut driver = TestDriver::new(flow(&source)).unwrap();
    driver.push("events", 0, (1u8, 1i64, 0u32)).unwrap();
    driver.commit().unwrap();
    driver.crash();
    driver.push("events", 0, (1u8, 2i64, 1u32)).unwrap();
    let error = driver.tick().unwrap_err().to_string();
    assert!(error.contains("`restart`"), "{error}");
    assert_eq!(driver.counters("events").events_in, 1, "as of the crash");
    driver.restart().unwrap();
    driver.tick().unwrap();
    assert_eq!(driver.counters("events").events_in, 2);
}

#[test]
fn a_restored_snapshot_is_an_older_commit() {
    let source = Pushed::partitions(1);
    let mut driver = TestDriver::new(flow(&source)).unwrap();
    assert!(driver.restore_snapshot().is_err());
    for (n, snapshot) in [(0u32, true), (1, false), (2, false)] {
        driver.push("events", 0, (1u8, i64::from(n), n)).unwrap();
        match snapshot {
            true => driver.snapshot().unwrap(),
            false => driver.commit().unwrap(),
        }
    }
    assert_eq!(driver.outputs::<(u8, u64)>("totals-out").unwrap(), [(1, 1), (1, 2), (1, 3)]);
    driver.restore_snapshot().unwrap();
    assert_eq!(driver.outputs::<(u8, u64)>("totals-out").unwrap(), [(1, 1)]);
    driver.tick().unwrap();
    assert_eq!(driver.outputs::<(u8, u64)>("totals-out").unwrap(), [(1, 1), (1, 3)]);
}

#[test]
fn paused_partitions_are_not_read_and_not_idle() {
    let flow = Flow::new("paused");
    flow.source("events", Pushed::<i64>::partitions(2))
        .event_time(|t| EventTime::from_micros(*t), Disorder::ascending().idle_after(micros(10)))
        .sink("out", Stdout::json());
    let mut driver = TestDriver::new(flow).unwrap();
    let id = "events.event_time";
    driver.push("events", 0, 50i64).unwrap();
    driver.push("events", 1, 5i64).unwrap();
    driver.tick().unwrap();
    assert_eq!(driver.watermark(id), Watermark::At(EventTime::from_micros(5)));
    driver.pause("events", "1");
    driver.push("events", 1, 60i64).unwrap();
    driver.push("events", 0, 55i64).unwrap();
    driver.advance_clock(micros(100));
    driver.tick().unwrap();
    assert_eq!(driver.watermark(id), Watermark::At(EventTime::from_micros(5)));
    assert_eq!(driver.outputs::<i64>("out").unwrap(), [50, 5, 55]);
    driver.resume("events", "1");
    driver.tick().unwrap();
    assert_eq!(driver.watermark(id), Watermark::At(EventTime::from_micros(55)));
    driver.go_idle("events", "0", micros(10)).unwrap();
    assert_eq!(driver.watermark(id), Watermark::At(EventTime::from_micros(60)));
}

#[test]
fn state_on_disk_is_restored_into_a_driver() {
    let dir = tempfile::tempdir().unwrap();
    let source = Pushed::partitions(3);
    (0..40).map(event).for_each(|(partition, event)| source.push(partition, event));
    let settings = Settings::at(dir.path().join("state")).workers(2);
    let handle = quiet(&source).spawn(settings).unwrap();
    while handle.metrics().operator("events").is_none_or(|o| o.counters.events_in < 40) {
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
    handle.stop();
    let metrics = handle.wait().unwrap();
    let totals = metrics.operator("totals").unwrap().entries;
    assert!(totals > 3, "{totals}");
    let mut found = 0;
    assert_restores!(quiet(&source), dir.path().join("state"), entries { "totals": totals },
        |driver| {
            driver.finish::<Event>("events").unwrap();
            assert!(driver.is_finished());
            found = driver.outputs::<(u8, EventTime, Vec<Event>)>("out").unwrap().len();
        }
    );
    assert!(found > 0, "the windows that were open have fired");
    // The directory is as it was.
    assert_restores!(quiet(&source), dir.path().join("state"), entries { "totals": totals });
}

/// The flow with sinks that a live engine may have.
fn quiet(source: &Pushed<Event>) -> Flow {
    let flow = Flow::new("driven");
    let keyed = flow
        .source("events", source.clone())
        .event_time(|e| EventTime::from_micros(e.1), Disorder::at_most(micros(3)))
        .key_by(|e| &e.0);
    let windows = keyed.window("windows", Tumbling::of(micros(12))).aggregate(Collect);
    let (sink, _) = highwater::sink::channel();
    windows.drop_late("not under test").map(|r| (r.key, r.window.start, r.value)).sink("out", sink);
    let (sink, _) = highwater::sink::channel();
    keyed.running("totals", Count).unbounded().sink("totals-out", sink);
    flow
}
