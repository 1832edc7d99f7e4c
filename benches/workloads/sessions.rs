//! B4: sessions of a million users, five in a hundred events late.

use std::time::Instant;

use highwater::prelude::*;
use highwater::source::Generator;

use crate::check::{self, Check};
use crate::clock::Clocked;
use crate::events::{BOUND, Event, event_of, splitmix64};
use crate::report::{Bench, Contest, Lap, Rung, exit, run};

const USERS: u64 = 1_000_000;
const GAP: Span = seconds(2);

/// A million events to a second of event time, so one of each user on average: with a gap of two
/// seconds a session has about seven. Five in a hundred lie behind their partition's promise.
fn event(index: u64) -> Event {
    let event = event_of(index, USERS);
    let behind = if splitmix64(index) % 100 < 5 { seconds(1) } else { Span::ZERO };
    Event { time: event.time - behind, ..event }
}

fn add(check: &mut Check, user: u64, start: i64, end: i64, count: u64) {
    check.window(user, start, count, end as u64);
}

/// The least that anybody must do: one hash table of open sessions, each looked at when its user
/// comes, and all of them at the end. It does not tell sessions in time.
fn bare_loop(events: u64) -> Lap {
    let started = Instant::now();
    let (mut check, mut late) = (Check::default(), 0u64);
    let mut open: hashbrown::HashMap<u64, (i64, i64, u64)> = hashbrown::HashMap::new();
    let mut promise = i64::MIN;
    for index in 0..events {
        let event = event(index);
        let time = event.time.as_micros();
        if time < promise {
            late += 1;
            continue;
        }
        promise = promise.max(time - BOUND.as_micros());
        let end = time + GAP.as_micros();
        let session = open.entry(event.key).or_insert((time, end, 0));
        if session.1 <= time {
            add(&mut check, event.key, session.0, session.1, session.2);
            *session = (time, end, 0);
        }
        session.1 = end;
        session.2 += 1;
    }
    for (user, (start, end, count)) in open {
        add(&mut check, user, start, end, count);
    }
    Lap { note: format!("; {late} late"), ..Lap::new(started, events, check) }
}

pub(crate) fn flow(events: u64, workers: usize, rung: Rung) -> Lap {
    let flow = Flow::new("sessions");
    let (sink, total) = check::sink(|check: &mut Check, row: &WindowResult<u64, u64>| {
        let (start, end) = (row.window.start.as_micros(), row.window.end.as_micros());
        add(check, row.key, start, end, row.value);
    });
    let (late_sink, late) = check::sink(|check: &mut Check, _: &Late<Event>| check.add(0));
    let sessions = flow
        .source("events", Clocked(Generator::new(1, Some(events), |_, index| event(index))))
        .event_time(|e| e.time, Disorder::at_most(BOUND))
        .key_by(|e| &e.key)
        .window("sessions", Session::with_gap(GAP))
        .aggregate(Count);
    sessions.late().sink("late", late_sink);
    sessions.sink("out", sink);
    let lap = run(flow, &total, events, rung, workers);
    Lap { note: format!("; {} late", late.get().results), ..lap }
}

pub(crate) fn bench(bench: &mut Bench) {
    let events = bench.events;
    let late = bare_loop(events).note;
    let checked = |lap: Lap| {
        if lap.note != late {
            exit(format!("late events differ: {}, and {late}", lap.note));
        }
        lap
    };
    let mut contest = Contest::new("B4: sessions with a gap of 2 s, 1,000,000 users, 5 % late");
    contest.control("bare loop", || bare_loop(events));
    contest.marked("R1", "1 worker", |rung| checked(flow(events, 1, rung)));
    contest.durable(Rung::R2, "1 worker", |rung| checked(flow(events, 1, rung)));
    let outcome = contest.run(bench.rounds);
    bench.at_least("B4: M events/s", outcome.rate("1 worker", "R1"), 3.0);
}
