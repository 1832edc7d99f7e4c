//! Windows with far more keys than go out at a time: each closes part by part, whatever of it is
//! in memory, and every result comes once.

use std::collections::BTreeMap;
use std::time::Duration;

use highwater::prelude::*;
use highwater::sink::channel;

const KEYS: u64 = 30_000;
const EVENTS: u64 = 150_000;
/// Events to a second.
const A_SECOND: u64 = 50_000;

type Counts = BTreeMap<(i64, u64), u64>;

fn key(event: u64) -> u64 {
    (event.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) % KEYS
}

fn time(event: u64) -> EventTime {
    EventTime::from_micros((event * 1_000_000 / A_SECOND) as i64)
}

/// What windows of so many seconds, which begin every second, hold.
fn expected(seconds: i64) -> Counts {
    let mut counts = Counts::new();
    for event in 0..EVENTS {
        let second = time(event).as_micros().div_euclid(1_000_000);
        for start in second - seconds + 1..=second {
            *counts.entry((start, key(event))).or_default() += 1;
        }
    }
    counts
}

/// The windows that begin every second and have so many.
fn run(size: i64, settings: Settings) -> Counts {
    let (out, rows) = channel();
    let flow = Flow::new("closing");
    let keyed = flow
        .source("in", Memory::of(0..EVENTS))
        .event_time(|event| time(*event), Disorder::at_most(seconds(0)))
        .key_with(|event| key(*event));
    let counts = if size == 1 {
        keyed.window("counts", Tumbling::of(seconds(1))).aggregate(Count).drop_late("none")
    } else {
        let hopping = Hopping::of(seconds(size), seconds(1));
        keyed.window("counts", hopping).aggregate(Count).drop_late("none")
    };
    counts.map(|r| ((r.window.start.as_micros() / 1_000_000, r.key), r.value)).sink("out", out);
    flow.run(settings).unwrap();
    let mut counts = Counts::new();
    for (window, count) in rows {
        assert_eq!(counts.insert(window, count), None, "{window:?} came twice");
    }
    counts
}

fn check(mut settings: impl FnMut() -> Settings) {
    for size in [1, 2] {
        let (found, expected) = (run(size, settings()), expected(size));
        let differ = |(window, count): &(&(i64, u64), &u64)| expected.get(window) != Some(count);
        let wrong: Vec<_> = found.iter().filter(differ).take(10).collect();
        let missing = expected.keys().filter(|window| !found.contains_key(window)).count();
        assert!(
            wrong.is_empty() && missing == 0,
            "windows of {size} s: {missing} missing, wrong {wrong:?}"
        );
    }
}

#[test]
fn a_window_in_memory_closes_part_by_part() {
    for workers in [1, 2] {
        check(|| Settings::in_memory().workers(workers));
    }
}

/// Most of a window is in the store only when it closes.
#[test]
fn a_window_that_memory_does_not_hold_closes_part_by_part() {
    let dir = tempfile::tempdir().unwrap();
    let mut number = 0;
    let often = Duration::from_millis(5);
    for workers in [1, 2] {
        check(|| {
            number += 1;
            let settings = Settings::at(dir.path().join(number.to_string())).workers(workers);
            settings.memory_budget(1 << 20).commit_interval(often).tick_max_events(2_000)
        });
    }
}
