//! The law of the house on real data: results and late flights are a function of what the files
//! contain, whatever the tick size and the number of workers, and they are the oracle's.

#[path = "common/flights.rs"]
mod flights;

use std::collections::BTreeMap;
use std::path::Path;

use flights::{Expected, Key};
use highwater::prelude::*;
use highwater::sink::channel;

#[derive(Clone, serde::Deserialize)]
struct Departure {
    scheduled: EventTime,
    carrier: String,
    flight: u32,
    origin: String,
    dep_delay_min: i64,
}

/// Results by (key, start), and late flights.
type Found = (BTreeMap<(String, i64), (u64, i64)>, Vec<LateFlight>);
type LateFlight = (String, i64, String, u32, i64);

/// Runs the pipeline and returns what the oracle returns.
fn run(directory: &Path, bound_minutes: i64, key: Key, settings: Settings) -> Found {
    let flow = Flow::new("flights");
    let (results_sink, results) = channel();
    let (late_sink, late) = channel();
    let hourly = flow
        .source(
            "departures",
            CsvFiles::<Departure>::glob(format!("{}/*.csv.gz", directory.display())),
        )
        .event_time(|d| d.scheduled, Disorder::at_most(minutes(bound_minutes)))
        .key_by(move |d| match key {
            Key::Origin => &d.origin,
            Key::Carrier | Key::Dest => &d.carrier,
        })
        .window("hourly", Tumbling::of(hours(1)))
        .aggregate(Stats::of(|d: &Departure| d.dep_delay_min));
    hourly.sink("results", results_sink);
    hourly.late().sink("late", late_sink);
    let metrics = flow.spawn(settings).unwrap().wait().unwrap();
    for operator in &metrics.operators {
        assert!(operator.counters.balanced(), "{}: {:?}", operator.id, operator.counters);
    }
    let mut found = BTreeMap::new();
    for WindowResult { key, window, value } in results {
        let place = (key, window.start.as_micros());
        let again = found.insert(place.clone(), (value.count, value.sum));
        assert_eq!(again, None, "{place:?} came twice");
    }
    let mut late: Vec<LateFlight> = late
        .map(|l: Late<Departure>| {
            assert_eq!(l.reason, LateReason::BrokePromise);
            let Departure { origin, scheduled, carrier, flight, .. } = l.row;
            (origin, scheduled.as_micros(), carrier, flight, l.late_by.as_micros())
        })
        .collect();
    late.sort();
    (found, late)
}

fn check(expected: &Expected, found: Found) {
    assert!(found.0 == expected.results, "the results differ from the oracle's");
    let expected: Vec<LateFlight> = expected
        .late
        .iter()
        .map(|l| (l.origin.clone(), l.scheduled, l.carrier.clone(), l.flight, l.late_by))
        .collect();
    assert!(found.1 == expected, "the late flights differ from the oracle's");
}

#[test]
fn oracle_every_bound_and_key() {
    let files = flights::read();
    for (bound, key, results, late) in [
        (60, Key::Carrier, 59_044, 13_583),
        (60, Key::Origin, 19_423, 13_583),
        (180, Key::Carrier, 0, 1_579),
        (15, Key::Carrier, 0, 33_431),
    ] {
        let expected = flights::expect(&files, bound, 60, key);
        assert!(results == 0 || expected.results.len() == results);
        assert_eq!(expected.late.len(), late);
        let settings = Settings::in_memory().workers(2);
        check(&expected, run(&flights::directory(), bound, key, settings));
    }
}

/// Every tick size with every number of workers with `FLIGHTS=full`; by default each number of
/// workers once, with ticks of 7 events and more.
#[test]
fn law_every_tick_size_and_number_of_workers() {
    let expected = flights::expect(&flights::read(), 60, 60, Key::Carrier);
    let full = std::env::var("FLIGHTS").is_ok_and(|value| value == "full");
    for (at, tick_max_events) in [1, 7, 1_000, usize::MAX].into_iter().enumerate() {
        for workers in [1, 2, 3] {
            if !full && at != workers {
                continue;
            }
            let settings = Settings::in_memory().workers(workers).tick_max_events(tick_max_events);
            check(&expected, run(&flights::directory(), 60, Key::Carrier, settings));
        }
    }
}
