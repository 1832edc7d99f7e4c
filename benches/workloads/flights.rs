//! The demo's pipeline without its sinks' files: reading, decompressing and decoding dominate.

use highwater::prelude::*;

use crate::check::{self, Check};
use crate::clock::Clocked;
use crate::report::{Bench, Contest, Lap, Rung, exit, run};

const EVENTS: u64 = 328_521;
const RESULTS: u64 = 59_044;

#[derive(Clone, serde::Deserialize)]
struct Departure {
    scheduled: EventTime,
    carrier: String,
    dep_delay_min: i64,
}

type Hour = WindowResult<String, Stats<i64>>;

fn flow(workers: usize, rung: Rung) -> Lap {
    let flow = Flow::new("flights");
    let (sink, total) = check::sink(|check: &mut Check, row: &Hour| {
        let key = row.key.bytes().fold(0, |key, byte| key << 8 | u64::from(byte));
        check.window(key, row.window.start.as_micros(), row.value.count, 0);
    });
    flow.source(
        "departures",
        Clocked(CsvFiles::<Departure>::glob("examples/data/flights/*.csv.gz")),
    )
    .event_time(|d| d.scheduled, Disorder::at_most(hours(1)))
    .key_by(|d| &d.carrier)
    .window("hourly", Tumbling::of(hours(1)))
    .aggregate(Stats::of(|d: &Departure| d.dep_delay_min))
    .drop_late("not measured")
    .sink("out", sink);
    let lap = run(flow, &total, EVENTS, rung, workers);
    if lap.check.results != RESULTS {
        exit(format!("{} hourly results, not {RESULTS}", lap.check.results));
    }
    lap
}

pub(crate) fn bench(bench: &mut Bench) {
    let mut contest = Contest::new("flights by carrier and hour, from gzipped CSV");
    contest.marked("R1", "1 worker", |rung| flow(1, rung));
    contest.volatile("2 workers", |rung| flow(2, rung));
    contest.durable(Rung::R2, "1 worker", |rung| flow(1, rung));
    contest.run(bench.rounds);
}
