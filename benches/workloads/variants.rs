//! B2 once more, from any source: what disorder, skew, snapshots and processes do to it is told
//! in comparison with itself.

use std::collections::BTreeMap;
use std::time::Instant;

use highwater::prelude::*;
use highwater::source::Source;

use crate::check::{self, Check, Total};
use crate::clock::Clocked;
use crate::events::{BOUND, Event};
use crate::report::Lap;

pub(crate) const WINDOW: Span = seconds(1);

type Result = WindowResult<u64, (u64, u64)>;

pub(crate) fn counting<S: Source<Item = Event>>(
    source: S,
    disorder: Disorder<Event>,
) -> (Flow, Total) {
    let flow = Flow::new("count");
    let (sink, total) = check::sink(|check: &mut Check, row: &Result| {
        let (count, sum) = row.value;
        check.window(row.key, row.window.start.as_micros(), count, sum);
    });
    flow.source("events", Clocked(source))
        .event_time(|e| e.time, disorder)
        .key_by(|e| &e.key)
        .window("counts", Tumbling::of(WINDOW))
        .aggregate((Count, Fold::new(0u64, |sum, e: &Event| *sum += e.value, |a, b| *a += b)))
        .drop_late("there are none")
        .sink("out", sink);
    (flow, total)
}

pub(crate) fn within_bound() -> Disorder<Event> {
    Disorder::at_most(BOUND)
}

/// A hash table per window of all events, told at the end.
pub(crate) fn bare_loop(events: impl Iterator<Item = Event>) -> Lap {
    type Table = hashbrown::HashMap<u64, (u64, u64)>;
    let started = Instant::now();
    let (mut count, mut check, size) = (0, Check::default(), WINDOW.as_micros());
    let mut windows: BTreeMap<i64, Table> = BTreeMap::new();
    for event in events {
        let start = event.time.as_micros().div_euclid(size) * size;
        let state = windows.entry(start).or_default().entry(event.key).or_default();
        *state = (state.0 + 1, state.1 + event.value);
        count += 1;
    }
    for (start, table) in windows {
        table.iter().for_each(|(key, state)| check.window(*key, start, state.0, state.1));
    }
    Lap::new(started, count, check)
}
