//! Broadcast state: every worker sees it, it is committed once, and comes back on any number of
//! workers.

use std::path::Path;
use std::time::{Duration, Instant};

use highwater::prelude::*;
use highwater::testing::{Pushed, TestDriver};

/// Key and second.
type Event = (u32, i64);
/// A price from a second on.
type Price = (i64, i64);

fn t(second: i64) -> EventTime {
    EventTime::from_seconds(second)
}

/// Tells with each event the price of its time, and how often it had changed.
struct Priced;

impl BroadcastProcess<u32, Event, Price> for Priced {
    type State = ();
    type Shared = (i64, u32);
    type Output = (u32, i64, i64, u32);

    fn broadcast(&self, shared: &mut (i64, u32), (price, _): Price, _: EventTime) {
        *shared = (price, shared.1 + 1);
    }

    fn event(
        &self,
        cx: &mut ProcessCx<'_, (), Self::Output>,
        (price, changes): &(i64, u32),
        key: &u32,
        (_, second): Event,
    ) {
        cx.emit((*key, second, *price, *changes));
    }
}

fn flow(
    events: Pushed<Event>,
    prices: Pushed<Price>,
    out: impl highwater::sink::Sink<(u32, i64, i64, u32)>,
    late: impl highwater::sink::Sink<Price>,
) -> Flow {
    let flow = Flow::new("priced");
    let prices = flow.source("prices", prices).event_time(|p| t(p.1), Disorder::ascending());
    let results = flow
        .source("events", events)
        .event_time(|e| t(e.1), Disorder::ascending())
        .key_by(|e| &e.0)
        .with_broadcast(&prices)
        .process("priced", Priced)
        .unbounded();
    results.late_broadcast().map(|l| l.row).sink("late", late);
    results.drop_late("none is");
    results.sink("out", out);
    flow
}

fn driver() -> TestDriver {
    let (events, prices) = (Pushed::partitions(1), Pushed::partitions(1));
    TestDriver::new(flow(events, prices, Stdout::json(), Stdout::json())).unwrap()
}

#[test]
fn a_broadcast_row_comes_before_events_of_equal_time() {
    for crash in [false, true] {
        let mut driver = driver();
        driver.push("events", 0, (1u32, 10i64)).unwrap();
        driver.push("events", 0, (1u32, 20i64)).unwrap();
        driver.push("events", 0, (1u32, 30i64)).unwrap();
        driver.commit().unwrap();
        if crash {
            driver.crash_and_restart().unwrap();
        }
        let out = |driver: &TestDriver| driver.outputs::<(u32, i64, i64, u32)>("out").unwrap();
        assert!(out(&driver).is_empty(), "prices may still come");
        driver.push("prices", 0, (7i64, 20i64)).unwrap();
        driver.push("prices", 0, (8i64, 21i64)).unwrap();
        driver.commit().unwrap();
        if crash {
            driver.crash_and_restart().unwrap();
        }
        assert_eq!(out(&driver), [(1, 10, 0, 0), (1, 20, 7, 1)]);
        driver.finish::<Price>("prices").unwrap();
        driver.finish::<Event>("events").unwrap();
        assert_eq!(out(&driver)[2..], [(1, 30, 8, 2)]);
        assert!(driver.metrics().operators.iter().all(|o| o.counters.balanced()));
        let entries = driver.metrics().operator("priced").unwrap().entries;
        assert_eq!(entries, 1, "only what is shared is left");
    }
}

#[test]
fn late_broadcast_rows_are_told_once_and_change_nothing() {
    for workers in 1..=3 {
        let (events, prices) = (Pushed::partitions(1), Pushed::partitions(1));
        let (sink, out) = highwater::sink::channel();
        let (late_sink, late) = highwater::sink::channel();
        let flow = flow(events.clone(), prices.clone(), sink, late_sink);
        for price in [(1, 10), (2, 20), (3, 5)] {
            prices.push(0, price);
        }
        (0..20).for_each(|key| events.push(0, (key, 30)));
        events.finish();
        prices.finish();
        let settings = Settings::in_memory().workers(workers);
        let metrics = flow.spawn(settings).unwrap().wait().unwrap();
        assert_eq!(late.collect::<Vec<_>>(), [(3, 5)]);
        let mut out: Vec<_> = out.collect();
        out.sort_unstable();
        assert_eq!(out, (0..20).map(|key| (key, 30, 2, 2)).collect::<Vec<_>>());
        let counters = metrics.operator("priced").unwrap().counters;
        assert_eq!((counters.events_in, counters.used, counters.late), (23, 22, 1));
        assert!(metrics.operators.iter().all(|o| o.counters.balanced()));
    }
}

fn lines(out: &Path) -> Vec<String> {
    let mut lines = Vec::new();
    for file in std::fs::read_dir(out.join("out")).unwrap() {
        let path = file.unwrap().path();
        if path.file_name().unwrap().to_str().unwrap().starts_with("part-") {
            let text = std::fs::read_to_string(&path).unwrap();
            lines.extend(text.lines().map(str::to_owned));
        }
    }
    lines.sort();
    lines
}

/// Half of it with `before` workers, then all with `after`.
fn rescaled(before: usize, after: usize) -> Vec<String> {
    let dir = tempfile::tempdir().unwrap();
    let start = |events: &Pushed<Event>, prices: &Pushed<Price>, workers| {
        let sink = |name: &str| JsonLines::to(dir.path().join(name));
        let late = JsonLines::to(dir.path().join("late"));
        let flow = flow(events.clone(), prices.clone(), sink("out"), late);
        let settings = Settings::at(dir.path().join("state")).workers(workers);
        flow.spawn(settings.commit_interval(Duration::ZERO).tick_max_events(5)).unwrap()
    };
    let push = |events: &Pushed<Event>, prices: &Pushed<Price>, until: i64| {
        for second in 0..until {
            (0..6).for_each(|key| events.push(0, (key, second)));
            if second % 3 == 0 {
                prices.push(0, (100 + second, second));
            }
        }
    };
    let (events, prices) = (Pushed::partitions(1), Pushed::partitions(1));
    push(&events, &prices, 20);
    let handle = start(&events, &prices, before);
    let started = Instant::now();
    let read = |metrics: &Metrics, id: &str| {
        metrics.operator(id).map_or(0, |operator| operator.counters.events_in)
    };
    loop {
        let metrics = handle.metrics();
        let all = read(&metrics, "events") == 120 && read(&metrics, "prices") == 7;
        if all && metrics.commits > 1 && metrics.committed == metrics.tick {
            break;
        }
        assert!(started.elapsed() < Duration::from_secs(30), "{metrics:?}");
        std::thread::sleep(Duration::from_millis(2));
    }
    handle.stop();
    handle.wait().unwrap();
    let (events, prices) = (Pushed::partitions(1), Pushed::partitions(1));
    push(&events, &prices, 40);
    events.finish();
    prices.finish();
    let metrics = start(&events, &prices, after).wait().unwrap();
    assert_eq!(metrics.operator("priced").unwrap().entries, 1);
    lines(dir.path())
}

#[test]
fn what_is_shared_comes_back_on_any_number_of_workers() {
    let expected = rescaled(1, 1);
    assert_eq!(expected.len(), 240);
    assert!(expected.contains(&"[5,39,139,14]".to_owned()), "{expected:?}");
    for (before, after) in [(1, 3), (3, 1), (2, 3), (3, 2)] {
        assert_eq!(rescaled(before, after), expected, "{before}, then {after} workers");
    }
}
