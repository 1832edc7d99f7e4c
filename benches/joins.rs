//! Rates of joins: events of both sides per second, with one worker and without durable commits.
//!
//! `cargo bench --bench joins [-- EVENTS]`

use std::time::Instant;

use highwater::prelude::*;
use highwater::source::Generator;
use serde::{Deserialize, Serialize};

const KEYS: u64 = 100_000;
const ROUNDS: usize = 3;
const BOUND: Span = millis(20);

#[derive(Clone, Copy, Serialize, Deserialize)]
struct Event {
    key: u64,
    time: EventTime,
}

fn splitmix64(index: u64) -> u64 {
    let mut z = index.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

type ByKey = Lent<u64, fn(&Event) -> &u64>;
type Side = Keyed<Event, ByKey, Timed>;

/// Half a million events to a second of event time, a little out of order.
fn side(flow: &Flow, id: &str, seed: u64, events: u64) -> Side {
    let event = move |_, index: u64| {
        let random = splitmix64(index ^ (seed << 40));
        let late = (random & 0xff) as i64 * 20;
        let time = EventTime::from_micros(index as i64 * 2 - late);
        Event { key: (random >> 32) % KEYS, time }
    };
    let key: fn(&Event) -> &u64 = |event| &event.key;
    let source = flow.source(id, Generator::new(1, Some(events), event));
    source.event_time(|e| e.time, Disorder::at_most(BOUND)).key_by(key)
}

/// Two keyed sources, to be joined.
type Both = Join<Event, Event, ByKey, ByKey>;

fn measure(name: &str, events: u64, join: fn(Both) -> Stream<u8, Timed>) {
    let mut rates = Vec::new();
    let mut results = 0;
    for _ in 0..ROUNDS {
        let flow = Flow::new("joins");
        let (left, right) =
            (side(&flow, "left", 1, events / 2), side(&flow, "right", 2, events / 2));
        let (sink, counts) = highwater::sink::channel();
        join(left.join(&right)).per_tick("count", |_, rows| [rows.len() as u64]).sink("out", sink);
        let started = Instant::now();
        if let Err(error) = flow.run(Settings::in_memory().workers(1)) {
            eprintln!("the flow failed: {error}");
            std::process::exit(1);
        }
        rates.push(events as f64 / started.elapsed().as_secs_f64() / 1e6);
        results = counts.sum();
    }
    rates.sort_by(f64::total_cmp);
    let median = rates[ROUNDS / 2];
    println!("  {name:<34} {median:>7.2} M events/s, {results} results");
}

fn main() {
    let events = std::env::args().filter_map(|a| a.parse().ok()).next().unwrap_or(2_000_000);
    println!("joins of two sides, {KEYS} keys, {events} events, medians of {ROUNDS}");
    measure("interval, inner, 100 ms", events, |join| {
        let join = join.interval("join", millis(-50), millis(50));
        join.inner(|_, _, _| 0).drop_late("not measured")
    });
    measure("interval, full, 100 ms", events, |join| {
        let join = join.interval("join", millis(-50), millis(50));
        join.full(|_, _, _| 0).drop_late("not measured")
    });
    measure("interval, semi, 100 ms", events, |join| {
        let join = join.interval("join", millis(-50), millis(50));
        join.semi().drop_late("not measured").map(|_| 0)
    });
    measure("as of, within 1 s", events, |join| {
        join.as_of("join").within(seconds(1)).left(|_, _, _| 0).drop_late("not measured")
    });
    measure("window, full, 100 ms", events, |join| {
        let join = join.window("join", Tumbling::of(millis(100)));
        join.full(|_, _| 0).drop_late("not measured").map(|_| 0)
    });
}
