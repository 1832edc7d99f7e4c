//! `check_law` over keyed functions: the same results for any ticks, workers, interleavings and
//! crashes where the plan says class Input, and nothing lost or repeated where it says Clock.

use std::fmt::Debug;

use highwater::prelude::*;
use highwater::testing::generate::{Sample, Streams};
use highwater::testing::{LawInput, Pushed, check_law};
use highwater::{Data, Stream, Timed};
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::TestRunner;

fn full() -> bool {
    std::env::var("LAW").is_ok_and(|value| value == "full")
}

fn input() -> Vec<Vec<Vec<Sample>>> {
    let strategy = Streams::new().partitions(3..=3).events(14..=14).keys(3).batch();
    let mut runner = TestRunner::deterministic();
    let draw = |_| strategy.new_tree(&mut runner).unwrap().current();
    (0..if full() { 4 } else { 2 }).map(draw).collect()
}

type Rows = Stream<Sample, Timed>;

/// Results and late events as text, so that every operator can be compared in the same way.
fn end<O: Data + Debug>(results: WithLate<O, Sample>) {
    results.late().map(|late| late.row.number).sink("late", Stdout::json());
    results.map(|row| format!("{row:?}")).sink("out", Stdout::json());
}

fn flow(name: &str, operator: Operator) -> Flow {
    let flow = Flow::new(name);
    let rows = flow
        .source("events", Pushed::<Sample>::partitions(3))
        .event_time(|e| e.time, Disorder::at_most(micros(9)));
    operator(&rows);
    flow
}

/// Remembers what was broadcast, and tells it with each event.
struct Remember;

impl BroadcastProcess<u32, Sample, Sample> for Remember {
    type State = u64;
    type Shared = Vec<u32>;
    type Output = (u32, u64, Vec<u32>);

    fn broadcast(&self, shared: &mut Vec<u32>, row: Sample, _: EventTime) {
        shared.push(row.number);
    }

    fn event(
        &self,
        cx: &mut ProcessCx<'_, u64, Self::Output>,
        shared: &Vec<u32>,
        _: &u32,
        event: Sample,
    ) {
        let seen = cx.state().unwrap_or(0) + 1;
        *cx.state() = Some(seen);
        cx.emit((event.number, seen, shared.clone()));
    }
}

/// Each left row waits 5 µs for right ones of its key.
struct Wait;

impl Process2<u32, Sample, Sample> for Wait {
    type State = Vec<u32>;
    type Output = (u32, EventTime, Vec<u32>);

    fn left(&self, cx: &mut ProcessCx<'_, Vec<u32>, Self::Output>, _: &u32, event: Sample) {
        cx.set_timer("over", event.time + micros(5));
    }

    fn right(&self, cx: &mut ProcessCx<'_, Vec<u32>, Self::Output>, _: &u32, event: Sample) {
        cx.state().get_or_insert_default().push(event.number);
    }

    fn timer(&self, cx: &mut ProcessCx<'_, Vec<u32>, Self::Output>, key: &u32, timer: &Timer) {
        let rows = cx.state().take().unwrap_or_default();
        cx.emit((*key, timer.time, rows));
    }
}

/// What a flow does with its rows.
type Operator = fn(&Rows);

const INPUT: &[(&str, Operator)] = &[
    ("dedup", |rows| end(rows.key_by(|e| &e.key).dedup("k", micros(8)))),
    ("count windows", |rows| {
        end(rows.key_by(|e| &e.key).count_window("k", 3).aggregate(Collect).unbounded());
    }),
    ("sliding count windows", |rows| {
        let windows = rows.key_by(|e| &e.key).count_window("k", 6).every(4).with_incomplete();
        end(windows.aggregate(Collect).unbounded());
    }),
    ("over", |rows| {
        end(rows.key_by(|e| &e.key).over("k", micros(6)).aggregate(Collect));
    }),
    ("triggered", |rows| {
        let trigger = GlobalTrigger::every(micros(7)).accumulating();
        end(rows.key_by(|e| &e.key).global("k", trigger).aggregate(Collect).unbounded());
    }),
    ("map with state", |rows| {
        let pairs = rows.key_by(|e| &e.key).map_with_state("k", |_, last, e: Sample| {
            let number = e.number;
            last.replace(number).map(|before| (before, number))
        });
        end(pairs.ttl(Ttl::from_write(micros(6))));
    }),
    ("broadcast", |rows| {
        let (control, others) = rows.split(|e| e.key == 0);
        let others = others.key_by(|e| &e.key).with_broadcast(&control);
        let results = others.process("k", Remember).unbounded();
        results.late_broadcast().map(|late| late.row.number).sink("late-broadcast", Stdout::json());
        end(results.drop_late_broadcast("heard"));
    }),
    ("two inputs", |rows| {
        let (left, right) = rows.split(|e| e.number % 2 == 0);
        let both = left.key_by(|e| &e.key).connect(&right.key_by(|e| &e.key));
        let results = both.process2("k", Wait).unbounded();
        let late = results.late().map(|late| match late.row {
            Either::Left(row) | Either::Right(row) => row.number,
        });
        late.sink("late", Stdout::json());
        results.map(|row| format!("{row:?}")).sink("out", Stdout::json());
    }),
    ("repartition", |rows| {
        let windows = rows.repartition().key_by(|e| &e.key).window("k", Tumbling::of(micros(9)));
        end(windows.aggregate(Collect));
    }),
    ("sides", |rows| {
        let (even, odd) = rows.partition_map(|row| match row.number % 2 {
            0 => Either::Left((row.key, row.number)),
            _ => Either::Right(row),
        });
        end(odd.key_by(|e| &e.key).dedup("odd", micros(4)));
        let even = even.key_by(|e| &e.0).over("even", micros(4)).aggregate(Count);
        even.drop_late("heard on the odd side").sink("even-out", Stdout::json());
    }),
];

#[test]
fn law_of_keyed_functions() {
    let runs = if full() { 30 } else { 8 };
    let mut total = 0;
    for (name, operator) in INPUT {
        for (number, events) in input().into_iter().enumerate() {
            let input = LawInput::new()
                .partitions("events", events)
                .compare::<String>("out")
                .compare::<u32>("late")
                .seed(number as u64)
                .runs(runs);
            let report = check_law(|| flow(name, *operator), input)
                .unwrap_or_else(|violation| panic!("{name}: {violation}"));
            assert_eq!(report.compared(), 2, "{name} is not of class Input");
            total += report.runs();
        }
    }
    println!("law: {total} runs of {} flows, all equal", INPUT.len());
}

/// Lets each event go a moment later on the tick clock.
struct Later;

impl Process<u32, Sample> for Later {
    type State = Vec<u32>;
    type Output = u32;
    const CLOCK: bool = true;

    fn event(&self, cx: &mut ProcessCx<'_, Vec<u32>, u32>, _: &u32, event: Sample) {
        cx.state().get_or_insert_default().push(event.number);
        let at = cx.clock() + millis(i64::from(event.number % 5));
        cx.set_clock_timer("go", at);
    }

    fn clock_timer(&self, cx: &mut ProcessCx<'_, Vec<u32>, u32>, _: &u32, _: &ClockTimer) {
        for number in cx.state().take().unwrap_or_default() {
            cx.emit(number);
        }
    }
}

/// When a row goes depends on the clock; that it goes, once, does not.
#[test]
fn clock_timers_lose_and_repeat_nothing() {
    for events in input() {
        let later = |rows: &Rows| {
            end(rows.key_by(|e| &e.key).process("k", Later).unbounded());
        };
        let input = LawInput::new().partitions("events", events);
        let input = input.compare_any_class::<String>("out").compare_any_class::<u32>("late");
        check_law(|| flow("later", later), input.runs(if full() { 60 } else { 20 })).unwrap();
    }
}
