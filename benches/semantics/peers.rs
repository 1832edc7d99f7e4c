//! The jobs that `make peers` gives to other engines too: hopping windows and sessions, with a
//! checksum of what comes out. Times are whole milliseconds, the finest that others have.

use std::time::{Duration, Instant};

use highwater::prelude::*;
use highwater::source::Generator;

use super::{Event, or_exit, settings, splitmix64};

const BOUND: Span = millis(100);

/// 10,000 keys, and 100,000 events to a second of event time.
fn of_hopping(index: u64) -> Event {
    let time = EventTime::from_micros(index as i64 * 1_000_000 / 100_000);
    Event { key: (splitmix64(index) >> 32) % 10_000, time }
}

/// A million keys, and a million events to a second of event time. Five in a hundred lie behind
/// their partition's promise.
fn of_sessions(index: u64) -> Event {
    let random = splitmix64(index);
    let behind = if random % 100 < 5 { 1_000_000 } else { 0 };
    let time = EventTime::from_micros(index as i64 - behind);
    Event { key: (random >> 32) % 1_000_000, time }
}

/// An order-independent checksum of results, how many there were, and of events that were late.
#[derive(Clone, Default)]
struct Check {
    results: u64,
    sum: u64,
    late: u64,
}

impl Check {
    fn add(&mut self, key: u64, start: i64, count: u64) {
        self.results += 1;
        let mixed = splitmix64(key ^ (start as u64).rotate_left(32)).wrapping_mul(count);
        self.sum = self.sum.wrapping_add(mixed);
    }

    fn and(mut self, other: Check) -> Check {
        self.results += other.results;
        self.sum = self.sum.wrapping_add(other.sum);
        self.late += other.late;
        self
    }
}

fn flow<W: WindowKind<Event>>(
    events: u64,
    windows: W,
    event: impl Fn(u64) -> Event + Send + Sync + 'static,
) -> (Duration, Check) {
    let (sink, results) = highwater::sink::channel();
    let (late_sink, late) = highwater::sink::channel();
    let flow = Flow::new("peers");
    let whole_millis = move |index| {
        let event = event(index);
        let time = event.time.as_micros().div_euclid(1_000) * 1_000;
        Event { key: event.key, time: EventTime::from_micros(time) }
    };
    let windows = flow
        .source("events", Generator::new(1, Some(events), move |_, index| whole_millis(index)))
        .event_time(|e| e.time, Disorder::at_most(BOUND))
        .key_by(|e| &e.key)
        .window("windows", windows)
        .aggregate(Count);
    windows.late().per_tick("late", |_, rows| [rows.len() as u64]).sink("late out", late_sink);
    windows
        .per_tick("check", |_, rows| {
            let mut check = Check::default();
            rows.iter().for_each(|row| {
                check.add(row.key, row.window.start.as_micros(), row.value);
            });
            [check]
        })
        .sink("out", sink);
    let started = Instant::now();
    or_exit(flow.run(settings()));
    let time = started.elapsed();
    let mut check = results.fold(Check::default(), Check::and);
    check.late = late.sum();
    (time, check)
}

/// A first run, as other engines have one to warm up, and one that counts.
pub(super) fn run(events: u64, job: &str) {
    let once = || match job {
        "hopping" => flow(events, Hopping::of(seconds(60), seconds(1)), of_hopping),
        _ => flow(events, Session::with_gap(seconds(2)), of_sessions),
    };
    once();
    let (time, Check { results, sum, late }) = once();
    let seconds = time.as_secs_f64();
    println!("events={events} seconds={seconds:.6} results={results} sum={sum} late={late}");
}
