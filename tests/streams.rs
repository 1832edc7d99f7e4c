//! Generated streams whose partitions fall silent and return, through the real engine: nothing is
//! lost, counted twice or silent, time never goes back, and each late event says why.

use highwater::prelude::*;
use highwater::testing::generate::{Happening, Sample, Streams};
use highwater::testing::{Pushed, TestDriver};
use highwater::{LateReason, Tick};
use proptest::prelude::*;

const IDLE_AFTER: Span = seconds(30);

fn flow(partitions: usize) -> Flow {
    let flow = Flow::new("streams");
    let rows = flow
        .source("events", Pushed::<Sample>::partitions(partitions))
        .event_time(|e| e.time, Disorder::at_most(micros(6)).idle_after(IDLE_AFTER));
    let windows = rows.key_by(|e| &e.key).window("w", Tumbling::of(micros(10)));
    let windows = windows.aggregate(Collect);
    windows.late().map(|late| (late.row.number, late.reason)).sink("late", Stdout::json());
    windows.map(|r| (r.window, r.value)).sink("out", Stdout::json());
    rows.per_tick("ticks", |tick, rows| [(tick, rows.len())]).sink("ticks-out", Stdout::json());
    flow
}

fn play(driver: &mut TestDriver, happening: &Happening) -> Result<(), highwater::Error> {
    match happening {
        Happening::Event { partition, event } => driver.push("events", *partition, *event),
        Happening::Silence { partition } => {
            driver.go_idle("events", &partition.to_string(), IDLE_AFTER)
        }
        Happening::Tick => driver.tick(),
        Happening::Commit => driver.commit(),
        Happening::Crash => driver.crash_and_restart(),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn consistent_though_partitions_fall_silent_and_return(
        stream in Streams::new().idle(true).partitions(3..=3).events(1..=20).stream(),
        workers in 1usize..=3,
        seed: u64,
    ) {
        let mut driver =
            TestDriver::builder(flow(3)).workers(workers).seed(seed).start().unwrap();
        let (mut watermark, mut pushed) = (Watermark::Unknown, Vec::new());
        for happening in &stream {
            play(&mut driver, happening).unwrap();
            if let Happening::Event { event, .. } = happening {
                pushed.push(event.number);
            }
            for operator in driver.metrics().operators {
                prop_assert!(operator.counters.balanced(), "{}: {operator:?}", operator.id);
            }
            let now = driver.watermark("w");
            // A crash goes back to the last commit; nothing else goes back.
            if !matches!(happening, Happening::Crash) {
                prop_assert!(now >= watermark, "{watermark} -> {now}");
            }
            watermark = now;
        }
        driver.finish::<Sample>("events").unwrap();
        let mut seen: Vec<u32> = Vec::new();
        for (window, rows) in driver.outputs::<(highwater::Window, Vec<Sample>)>("out").unwrap() {
            prop_assert!(rows.iter().all(|row| window.contains(row.time)));
            seen.extend(rows.iter().map(|row| row.number));
        }
        for (number, reason) in driver.outputs::<(u32, LateReason)>("late").unwrap() {
            prop_assert!(matches!(reason, LateReason::BrokePromise | LateReason::Returned));
            seen.push(number);
        }
        seen.sort_unstable();
        pushed.sort_unstable();
        prop_assert_eq!(&seen, &pushed, "each event is in one result, or late, and once");
        let ticks = driver.outputs::<(Tick, usize)>("ticks-out").unwrap();
        prop_assert_eq!(ticks.iter().map(|t| t.1).sum::<usize>(), pushed.len());
        prop_assert!(ticks.windows(2).all(|pair| pair[0].0 < pair[1].0));
    }
}

/// The generator is only of use if it makes what it speaks of.
#[test]
fn silences_and_returns_do_happen() {
    use proptest::strategy::ValueTree;
    let strategy = Streams::new().idle(true).partitions(3..=3).events(15..=20).stream();
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let (mut returned, mut idle) = (0, 0);
    for _ in 0..60 {
        let stream = strategy.new_tree(&mut runner).unwrap().current();
        let mut driver = TestDriver::new(flow(3)).unwrap();
        for happening in &stream {
            play(&mut driver, happening).unwrap();
        }
        idle += stream.iter().filter(|h| matches!(h, Happening::Silence { .. })).count();
        driver.finish::<Sample>("events").unwrap();
        let late = driver.outputs::<(u32, LateReason)>("late").unwrap();
        returned += late.iter().filter(|late| late.1 == LateReason::Returned).count();
    }
    assert!(idle > 60 && returned > 20, "{idle} silences, {returned} late after a return");
}
