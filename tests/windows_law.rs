//! The law of the house for every kind of window, with and without lateness: final results and
//! late events are what the model makes of all events, whatever the ticks, workers and crashes.

#[path = "windows/kinds.rs"]
mod kinds;

use std::collections::VecDeque;
use std::time::Duration;

use highwater::prelude::*;
use highwater::sink::{Sink, channel};
use highwater::testing::model::Judged;
use highwater::testing::{Pushed, TestDriver};
use kinds::{ALL, Event, Input, Kind, Out, input, out, sorted};
use proptest::prelude::*;

/// Adds the windows behind a source; behind them further windows, without lateness, of their
/// results and of the events themselves.
fn build(
    kind: Kind,
    lateness: i64,
    bound: i64,
    source: &Stream<Event, Raw>,
    sinks: (impl Sink<Out>, impl Sink<u32>, impl Sink<Out>),
) {
    let timed = source.event_time(move |e| kind.time(e), Disorder::at_most(kind.span(bound)));
    let first = kind.aggregate(&timed.key_by(|e| &e.0), "first", lateness);
    first.map(out).sink("out", sinks.0);
    first.late().map(|late| late.row.2).sink("late", sinks.1);
    let again = first.map(again).union(&[&timed.map(|event| (9, event.1, event.2))]);
    let size = kind.span(20);
    let second = again.key_by(|e| &e.0).window("second", Tumbling::of(size)).aggregate(Collect);
    let second = second.drop_late("reported by the first windows, or by the model");
    second.map(out).sink("again", sinks.2);
}

/// A result as an event of the second windows: their number stands for it.
fn again(result: WindowResult<u8, Vec<Event>>) -> Event {
    let sum = result.value.iter().fold(result.value.len() as u32 * 1000, |sum, e| sum + e.2);
    (result.key, 0, sum)
}

/// What the model makes of it: results, late events, and results of the second windows.
fn expect(kind: Kind, lateness: i64, bound: i64, input: &Input) -> (Vec<Out>, Vec<u32>, Vec<Out>) {
    let events = kind.judge(input, bound);
    let (results, late) = kind.expect(lateness, &events);
    let mut both: Vec<Judged<Event>> = events;
    both.iter_mut().for_each(|event| event.row.0 = 9);
    for (key, window, numbers) in &results {
        let row = (*key, 0, numbers.iter().fold(numbers.len() as u32 * 1000, |sum, n| sum + n));
        let (partition, position, promise) = (0, 0, Watermark::Unknown);
        both.push(Judged { row, time: window.last_time(), partition, position, promise });
    }
    let twenty = kind.span(20);
    let windows = highwater::testing::model::Windows::Hopping {
        size: twenty,
        slide: twenty,
        offset: Span::ZERO,
    };
    let second = highwater::testing::model::windows(&windows, Span::ZERO, &both, |row| row.0);
    let second = second.results.into_iter();
    let second =
        second.map(|(key, window, rows)| (key, window, rows.iter().map(|r| r.2).collect()));
    (results, late, bag(second))
}

/// Results of results have no order among equal times that the model knows.
fn bag(results: impl IntoIterator<Item = Out>) -> Vec<Out> {
    sorted(results.into_iter().map(|(key, window, numbers)| (key, window, sorted(numbers))))
}

fn check_balance(metrics: &Metrics) {
    for operator in &metrics.operators {
        assert!(operator.counters.balanced(), "{}: {:?}", operator.id, operator.counters);
    }
}

type Found = (Vec<Out>, Vec<u32>, Vec<Out>);

/// The live engine, with all the memory there is or with none.
fn live(kind: Kind, lateness: i64, bound: i64, input: &Input, how: (usize, usize, bool)) -> Found {
    let (ticks, workers, no_memory) = how;
    let flow = Flow::new("windows");
    let (out_sink, out) = channel();
    let (late_sink, late) = channel();
    let (again_sink, again) = channel();
    let source = flow.source("events", Memory::partitions(input.clone()));
    build(kind, lateness, bound, &source, (out_sink, late_sink, again_sink));
    let mut settings = Settings::in_memory().workers(workers).tick_max_events(ticks);
    if no_memory {
        settings = settings.memory_budget(0).commit_interval(Duration::ZERO);
    }
    let metrics = flow.spawn(settings).unwrap().wait().unwrap();
    check_balance(&metrics);
    for id in ["first", "second"] {
        assert_eq!(metrics.operator(id).unwrap().entries, 0, "{kind:?}: {id} keeps something");
    }
    (sorted(out), sorted(late), bag(again))
}

/// The test driver: partitions interleaved at random, ticks, commits and crashes in between.
fn driven(kind: Kind, lateness: i64, bound: i64, input: &Input, dice: &[u8]) -> Found {
    let flow = Flow::new("windows");
    let source = flow.source("events", Pushed::<Event>::partitions(input.len()));
    let sinks = (Stdout::json(), Stdout::json(), Stdout::json());
    build(kind, lateness, bound, &source, sinks);
    let mut driver = TestDriver::new(flow).unwrap();
    let mut left: Vec<VecDeque<Event>> =
        input.iter().map(|p| p.iter().copied().collect()).collect();
    for die in dice.iter().cycle() {
        let waiting: Vec<usize> = (0..left.len()).filter(|p| !left[*p].is_empty()).collect();
        if waiting.is_empty() {
            break;
        }
        let partition = waiting[usize::from(*die) % waiting.len()];
        let event = left[partition].pop_front().unwrap();
        driver.push("events", partition, event).unwrap();
        match die % 11 {
            0..=2 => driver.tick().unwrap(),
            3 => driver.commit().unwrap(),
            4 => driver.crash_and_restart().unwrap(),
            _ => {}
        }
        check_balance(&driver.metrics());
    }
    driver.finish::<Event>("events").unwrap();
    check_balance(&driver.metrics());
    let out = sorted(driver.outputs("out").unwrap());
    let again = bag(driver.outputs("again").unwrap());
    (out, sorted(driver.outputs("late").unwrap()), again)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn law_live(input in input(), bound in 0i64..15, lateness in 0i64..25) {
        for kind in ALL {
            for lateness in [0, lateness] {
                let expected = expect(kind, lateness, bound, &input);
                for how in [(1, 1, false), (7, 2, true), (5, 3, false), (usize::MAX, 1, true)] {
                    let found = live(kind, lateness, bound, &input, how);
                    let name = format!("{kind:?} late by {lateness}, {how:?}");
                    prop_assert_eq!(&found, &expected, "{}", name);
                }
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(160))]

    #[test]
    fn law_driven(
        input in input(),
        bound in 0i64..15,
        lateness in 0i64..25,
        dice in prop::collection::vec(any::<u8>(), 1..60),
    ) {
        for kind in ALL {
            for lateness in [0, lateness] {
                let expected = expect(kind, lateness, bound, &input);
                let found = driven(kind, lateness, bound, &input, &dice);
                prop_assert_eq!(&found, &expected, "{:?} late by {}", kind, lateness);
            }
        }
    }
}
