//! Deduplication: one event in ten repeats one of the last ten thousand.

use std::time::{Duration, Instant};

use highwater::prelude::*;
use highwater::source::Generator;

use super::{Event, ROUNDS, or_exit, rate, ratio, settings, splitmix64};

const WITHIN: Span = seconds(1);

/// A million events to a second of event time, in order.
fn event(index: u64) -> Event {
    let random = splitmix64(index);
    let repeats = random.is_multiple_of(10);
    let key = if repeats { index.saturating_sub((random >> 32) % 10_000) } else { index };
    Event { key: splitmix64(key), time: EventTime::from_micros(index as i64) }
}

/// A hash table of what was kept, swept now and then.
fn bare_loop(events: u64) -> (Duration, u64) {
    let started = Instant::now();
    let within = WITHIN.as_micros();
    let mut kept = 0;
    let mut known: hashbrown::HashMap<u64, i64> = hashbrown::HashMap::new();
    for index in 0..events {
        let event = event(index);
        let time = event.time.as_micros();
        let first = known.entry(event.key).or_insert(i64::MIN / 2);
        if time - *first >= within {
            *first = time;
            kept += 1;
        }
        if index % 500_000 == 0 {
            known.retain(|_, first| time - *first < within);
        }
    }
    (started.elapsed(), kept)
}

fn flow(events: u64, on_arrival: bool) -> (Duration, u64) {
    let (sink, results) = highwater::sink::channel();
    let flow = Flow::new("dedup");
    let keyed = flow
        .source("events", Generator::new(1, Some(events), |_, index| event(index)))
        .event_time(|e| e.time, Disorder::at_most(millis(10)))
        .key_by(|e| &e.key);
    let once = if on_arrival {
        keyed.dedup_on_arrival("once", WITHIN)
    } else {
        keyed.dedup("once", WITHIN)
    };
    once.drop_late("there are none")
        .per_tick("count", |_, rows| [rows.len() as u64])
        .sink("out", sink);
    let started = Instant::now();
    or_exit(flow.run(settings()));
    (started.elapsed(), results.sum())
}

pub(super) fn bench(events: u64) {
    println!("deduplication within {WITHIN}, {events} events, 1 in 10 of them repeated");
    let (mut bare, mut ordered, mut arrival) = (vec![], vec![], vec![]);
    for _ in 0..ROUNDS {
        let (time, expected) = bare_loop(events);
        bare.push(time);
        for (times, on_arrival) in [(&mut ordered, false), (&mut arrival, true)] {
            let (time, found) = flow(events, on_arrival);
            if found != expected {
                eprintln!("results differ: {found} kept, and the bare loop keeps {expected}");
                std::process::exit(1);
            }
            times.push(time);
        }
    }
    println!("  bare hash loop                   {}", rate(events, &bare));
    for (name, times) in [("in event-time order", &ordered), ("on arrival         ", &arrival)] {
        println!(
            "  1 worker, {name}    {}  {:.2}x the time of the loop",
            rate(events, times),
            ratio(times, &bare)
        );
    }
}
