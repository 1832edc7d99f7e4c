//! Sessions of a million keys, five in a hundred events late.

use std::time::{Duration, Instant};

use highwater::prelude::*;
use highwater::source::Generator;

use super::{Event, ROUNDS, or_exit, rate, ratio, settings, splitmix64};

const KEYS: u64 = 1_000_000;
pub(super) const GAP: Span = seconds(2);
const BOUND: Span = millis(100);

/// A million events to a second of event time, so one of each key on average: with a gap of two
/// seconds a session has about seven. Five in a hundred lie behind their partition's promise.
pub(super) fn event(index: u64) -> Event {
    let random = splitmix64(index);
    let behind = if random % 100 < 5 { 1_000_000 } else { 0 };
    Event { key: (random >> 32) % KEYS, time: EventTime::from_micros(index as i64 - behind) }
}

/// Sessions, events in them, and late events: enough to see that both did the same job.
type Check = (u64, u64, u64);

/// The least that anybody must do: one hash table of open sessions, each looked at when its key
/// comes, and all of them at the end. It does not fire sessions in time.
fn bare_loop(events: u64) -> (Duration, Check) {
    let started = Instant::now();
    let (mut sessions, mut used, mut late) = (0, 0, 0);
    let mut open: hashbrown::HashMap<u64, (i64, u64)> = hashbrown::HashMap::new();
    let mut promise = i64::MIN;
    for index in 0..events {
        let event = event(index);
        let time = event.time.as_micros();
        if time < promise {
            late += 1;
            continue;
        }
        promise = promise.max(time - BOUND.as_micros());
        let (end, count) = open.entry(event.key).or_insert((i64::MIN, 0));
        if *end <= time {
            sessions += u64::from(*count > 0);
            used += *count;
            *count = 0;
        }
        *end = time + GAP.as_micros();
        *count += 1;
    }
    for (_, count) in open.into_values() {
        sessions += 1;
        used += count;
    }
    (started.elapsed(), (sessions, used, late))
}

fn flow(events: u64) -> (Duration, Check) {
    let (sink, results) = highwater::sink::channel();
    let (late_sink, late) = highwater::sink::channel();
    let flow = Flow::new("sessions");
    let sessions = flow
        .source("events", Generator::new(1, Some(events), |_, index| event(index)))
        .event_time(|e| e.time, Disorder::at_most(BOUND))
        .key_by(|e| &e.key)
        .window("sessions", Session::with_gap(GAP))
        .aggregate(Count);
    sessions.late().per_tick("late", |_, rows| [rows.len() as u64]).sink("late out", late_sink);
    sessions
        .per_tick("count", |_, rows| {
            [(rows.len() as u64, rows.iter().map(|row| row.value).sum::<u64>())]
        })
        .sink("out", sink);
    let started = Instant::now();
    or_exit(flow.run(settings()));
    let time = started.elapsed();
    let (sessions, used) = results.fold((0, 0), |a, b| (a.0 + b.0, a.1 + b.1));
    (time, (sessions, used, late.sum()))
}

pub(super) fn bench(events: u64) {
    println!("sessions with gap {GAP}, {KEYS} keys, {events} events, 5 in 100 of them late");
    let (mut bare, mut engine) = (vec![], vec![]);
    let mut check = (0, 0, 0);
    for _ in 0..ROUNDS {
        let (time, expected) = bare_loop(events);
        bare.push(time);
        let (time, found) = flow(events);
        if found != expected {
            eprintln!("results differ: {found:?}, and the bare loop has {expected:?}");
            std::process::exit(1);
        }
        engine.push(time);
        check = found;
    }
    println!("  {} sessions, {} events in them, {} late", check.0, check.1, check.2);
    println!("  bare hash loop                   {}", rate(events, &bare));
    println!(
        "  1 worker, volatile               {}  {:.2}x the time of the loop",
        rate(events, &engine),
        ratio(&engine, &bare)
    );
}
