//! Hopping windows of 60 s every 1 s beside tumbling ones of 60 s, on the same events.
//!
//! Every event is in 60 hopping windows, and 60 times as many results come out. How many there
//! are to write is the user's wish, so two things are measured: taking events in, with no result
//! at all, and everything.

use std::time::{Duration, Instant};

use highwater::prelude::*;
use highwater::source::Generator;
use highwater::testing::TestDriver;

use super::{Event, ROUNDS, or_exit, rate, ratio, settings, splitmix64};

const SIZE: Span = seconds(60);
const SLIDE: Span = seconds(1);

/// How many keys there are, and how many events to a second of event time.
#[derive(Clone, Copy)]
struct Load {
    keys: u64,
    per_second: i64,
}

/// The more events a key has in a slice, the less its entry in a table of its own costs: 1,000,
/// 10 and 10.
const LOADS: [Load; 3] = [
    Load { keys: 100, per_second: 100_000 },
    Load { keys: 10_000, per_second: 100_000 },
    Load { keys: 100_000, per_second: 1_000_000 },
];

fn event(index: u64, load: Load) -> Event {
    let time = EventTime::from_micros(index as i64 * 1_000_000 / load.per_second);
    Event { key: (splitmix64(index) >> 32) % load.keys, time }
}

/// The events of the second load, for `make peers`.
pub(super) fn shared_event(index: u64) -> Event {
    event(index, LOADS[1])
}

fn flow<W: WindowKind<Event>>(
    source: Generator<Event>,
    windows: W,
) -> (Flow, highwater::sink::Received<u64>) {
    let flow = Flow::new("windows");
    let (sink, results) = highwater::sink::channel();
    flow.source("events", source)
        .event_time(|e| e.time, Disorder::at_most(millis(100)))
        .key_by(|e| &e.key)
        .window("windows", windows)
        .aggregate(Count)
        .drop_late("there are none")
        .per_tick("count", |_, rows| [rows.len() as u64])
        .sink("out", sink);
    (flow, results)
}

/// Excluding output: from the first event to the last one that stands in its windows. A second,
/// silent partition holds the watermark back, so that no window closes and nothing is sent. What
/// is left is generating, times, keys, and updating the windows' state.
fn take_in<W: WindowKind<Event>>(events: u64, load: Load, windows: W) -> Duration {
    let source = Generator::new(2, Some(events), move |_, index| event(index, load)).silent(1);
    let mut driver = or_exit(TestDriver::with_tick_limit(flow(source, windows).0, 65_536));
    let started = Instant::now();
    while driver.metrics().operator("windows").is_none_or(|w| w.counters.used < events) {
        or_exit(driver.tick());
    }
    let time = started.elapsed();
    assert_eq!(driver.metrics().operator("windows").map(|w| w.counters.events_out), Some(0));
    time
}

/// With output: until all windows have closed and their results were counted.
fn everything<W: WindowKind<Event>>(events: u64, load: Load, windows: W) -> (Duration, u64) {
    let source = Generator::new(1, Some(events), move |_, index| event(index, load));
    let (flow, results) = flow(source, windows);
    let started = Instant::now();
    or_exit(flow.run(settings()));
    let time = started.elapsed();
    (time, results.sum())
}

pub(super) fn bench(events: u64) {
    for load in LOADS {
        let Load { keys, per_second } = load;
        println!("windows of {SIZE}, {keys} keys, {events} events, {per_second} to a second");
        let (mut tumbling_in, mut hopping_in) = (vec![], vec![]);
        let (mut tumbling_all, mut hopping_all) = (vec![], vec![]);
        let mut results = (0, 0);
        for _ in 0..ROUNDS {
            tumbling_in.push(take_in(events, load, Tumbling::of(SIZE)));
            hopping_in.push(take_in(events, load, Hopping::of(SIZE, SLIDE)));
            let (time, count) = everything(events, load, Tumbling::of(SIZE));
            tumbling_all.push(time);
            results.0 = count;
            let (time, count) = everything(events, load, Hopping::of(SIZE, SLIDE));
            hopping_all.push(time);
            results.1 = count;
        }
        println!("  tumbling, excluding output       {}", rate(events, &tumbling_in));
        println!(
            "  hopping {SLIDE}, excluding output     {}  {:.2}x the time of tumbling",
            rate(events, &hopping_in),
            ratio(&hopping_in, &tumbling_in)
        );
        println!("  tumbling, {:>9} results      {}", results.0, rate(events, &tumbling_all));
        println!(
            "  hopping {SLIDE}, {:>9} results    {}  {:.2}x the time of tumbling",
            results.1,
            rate(events, &hopping_all),
            ratio(&hopping_all, &tumbling_all)
        );
    }
}
