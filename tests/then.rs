//! History, then live: an exact hand-over, whatever crashes when.

use std::collections::BTreeSet;

use highwater::prelude::*;
use highwater::source::Source;
use highwater::testing::{Pushed, TestDriver};
use proptest::prelude::*;

/// Number and time of an event.
type Event = (u32, i64);

const LIVE_FROM: u32 = 1_000;

fn history(partitions: usize, each: u32) -> Memory<Event> {
    let rows = |p: u32| (0..each).map(|n| (p * each + n, i64::from(n))).collect();
    Memory::partitions((0..partitions as u32).map(rows).collect())
}

fn flow(history: &Memory<Event>, live: &Pushed<Event>) -> Flow {
    let flow = Flow::new("then");
    let source = flow.source("in", history.clone().then(live.clone()));
    source.clone().sink("read", Stdout::json());
    source
        .event_time(|e| EventTime::from_micros(e.1), Disorder::at_most(micros(0)))
        .key_with(|e| e.0)
        .window("w", Tumbling::of(micros(10)))
        .aggregate(Count)
        .drop_late("counted by the test")
        .map(|r| (r.key, r.value))
        .sink("out", Stdout::json());
    flow
}

#[derive(Clone, Debug)]
enum Step {
    Tick,
    Crash,
    Commit,
    Push(usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => Just(Step::Tick),
        1 => Just(Step::Crash),
        2 => Just(Step::Commit),
        2 => (0usize..3).prop_map(Step::Push),
    ];
    prop::collection::vec(step, 1..50)
}

/// Everything once, the history before what is live, and nothing late: windows of the history
/// close while it is read, and the live events stand behind it in time.
fn check(driver: &TestDriver, history_rows: u32, live_rows: u32) {
    let read: Vec<Event> = driver.outputs("read").unwrap();
    let is_live = |event: &Event| event.0 >= LIVE_FROM;
    assert!(read.is_sorted_by_key(is_live), "live events before the end of the history");
    let numbers: BTreeSet<u32> = read.iter().map(|event| event.0).collect();
    assert_eq!(numbers.len(), read.len(), "an event was read twice");
    assert_eq!(driver.late("w"), 0);
    if driver.is_finished() {
        let all = (0..history_rows).chain(LIVE_FROM..LIVE_FROM + live_rows);
        assert!(numbers.into_iter().eq(all), "events were lost");
        let results: Vec<(u32, u64)> = driver.outputs("out").unwrap();
        assert_eq!(results.len() as u32, history_rows + live_rows);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn the_hand_over_is_exact_over_crashes(
        steps in steps(),
        partitions in 1usize..4,
        each in 0u32..12,
        limit in 1usize..8,
        before in 0u32..6,
    ) {
        let history = history(partitions, each);
        let live = Pushed::<Event>::partitions(2);
        let mut pushed = 0;
        let mut push = |partition: usize| {
            live.push(partition, (LIVE_FROM + pushed, i64::from(each + pushed)));
            pushed += 1;
            pushed
        };
        (0..before).for_each(|n| { push(n as usize % 2); });
        let flow = flow(&history, &live);
        let mut driver = TestDriver::with_tick_limit(flow, limit).unwrap();
        let history_rows = partitions as u32 * each;
        let mut written = before;
        for step in steps {
            match step {
                Step::Tick => driver.tick().unwrap(),
                Step::Commit => driver.commit().unwrap(),
                Step::Crash => driver.crash_and_restart().unwrap(),
                Step::Push(partition) => written = push(partition),
            }
            check(&driver, history_rows, written);
        }
        live.finish();
        for _ in 0..200 {
            if driver.is_finished() {
                break;
            }
            driver.tick().unwrap();
        }
        prop_assert!(driver.is_finished(), "the flow does not end");
        check(&driver, history_rows, written);
    }
}

/// The windows of the history do not wait for the live partitions, which wait for their turn.
#[test]
fn the_history_closes_its_windows_while_it_is_read() {
    let live = Pushed::<Event>::partitions(2);
    let flow = flow(&history(1, 100), &live);
    let mut driver = TestDriver::with_tick_limit(flow, 50).unwrap();
    for _ in 0..5 {
        driver.tick().unwrap();
    }
    let results: Vec<(u32, u64)> = driver.outputs("out").unwrap();
    // The last tick of the history does not move time: no partition is left that could.
    assert_eq!(results.len(), 40);
    // From now on they hold time back.
    live.push(0, (LIVE_FROM, 1_000));
    driver.tick().unwrap();
    driver.tick().unwrap();
    assert_eq!(driver.outputs::<(u32, u64)>("out").unwrap().len(), results.len());
    live.push(1, (LIVE_FROM + 1, 1_000));
    driver.tick().unwrap();
    driver.tick().unwrap();
    assert_eq!(driver.outputs::<(u32, u64)>("out").unwrap().len(), 100);
}
