//! B5: Nexmark, beside a recomputation of each query over all events after the fact.

use std::path::PathBuf;
use std::time::Instant;

use highwater::Flow;

use crate::check::Check;
use crate::nexmark::{self, EventFile, QUERIES, Query};
use crate::report::{
    Bench, Contest, Lap, Rung, directory, exit, or_exit, run_from, run_quietly, settings,
};

/// Events to a second of event time: a million to a window of ten seconds.
const PER_SECOND: usize = 100_000;
/// Of 50 events, 46 are bids.
const BIDS: f64 = 0.92;

fn recomputed(query: &Query, file: &EventFile, events: u64) -> Lap {
    let started = Instant::now();
    let mut check = Check::default();
    (query.model)(file, &mut |row| check.add(nexmark::mix(row)));
    Lap::new(started, events, check)
}

fn flow(query: &Query, file: &EventFile, events: u64, rung: Rung) -> Lap {
    let (flow, dir) = (Flow::new(query.name), directory());
    let sum = (query.build)(&flow, file.clone()).sum();
    let settings = settings(rung, &dir.path().join("state")).workers(1);
    let opened = or_exit(run_from(flow, settings));
    // Rows that replace each other are looked through only now.
    let check = sum();
    Lap::new(opened, events, check)
}

/// Events made before, in a file under the temporary directory.
fn file_of(events: u64) -> EventFile {
    or_exit(EventFile::read(&path_of(events)))
}

/// Where that file is. It is made if it is not there.
pub(crate) fn path_of(events: u64) -> PathBuf {
    let path = std::env::temp_dir().join(format!("highwater-nexmark-{events}.bin"));
    if !path.exists() {
        let part = path.with_extension("part");
        or_exit(nexmark::make(events as usize, PER_SECOND, &part));
        or_exit(std::fs::rename(part, &path));
    }
    path
}

fn run(bench: &mut Bench, queries: impl Iterator<Item = &'static Query>) {
    let events = bench.events;
    let file = file_of(events);
    for query in queries {
        let mut contest = Contest::new(format!("B5 {}: {}", query.name, query.about));
        contest.control("recomputation", || recomputed(query, &file, events));
        contest.marked("R1", "1 worker", |rung| flow(query, &file, events, rung));
        contest.durable(Rung::R2, "1 worker", |rung| flow(query, &file, events, rung));
        let outcome = contest.run(bench.rounds.min(3));
        let bids = outcome.rate("1 worker", "R1") * BIDS;
        match query.name {
            "q5" => bench.at_least("B5 q5: M bids/s", bids, 10.0),
            "q7" => bench.at_least("B5 q7: M bids/s", bids, 15.0),
            "q8" => bench.at_least("B5 q8: M events/s", bids / BIDS, 4.0),
            _ => {}
        }
    }
}

pub(crate) fn bench(bench: &mut Bench) {
    run(bench, QUERIES.iter());
}

/// One query, once, without its recomputation.
pub(crate) fn one(name: &str, events: u64) -> Option<Lap> {
    let query = QUERIES.iter().find(|query| query.name == name)?;
    Some(flow(query, &file_of(events), events, Rung::Volatile))
}

/// Every query on a small file, row by row beside its recomputation.
pub(crate) fn check(events: u64) {
    let file = file_of(events);
    for query in QUERIES {
        let flow = Flow::new(query.name);
        let rows = (query.build)(&flow, file.clone()).rows();
        or_exit(run_quietly(flow, settings(Rung::Volatile, ".".as_ref()).workers(1)));
        let (mut found, mut expected) = (rows(), Vec::new());
        (query.model)(&file, &mut |row| expected.push(row.to_vec()));
        found.sort_unstable();
        expected.sort_unstable();
        if let Some(at) =
            (0..found.len().max(expected.len())).find(|at| found.get(*at) != expected.get(*at))
        {
            let (found, expected) = (found.get(at), expected.get(at));
            exit(format!("{}: row {at} is {found:?}, and should be {expected:?}", query.name));
        }
        println!("{:<4} {:>9} rows are right: {}", query.name, found.len(), query.about);
    }
}

/// Some queries.
pub(crate) fn some(bench: &mut Bench, names: &[&str]) {
    run(bench, QUERIES.iter().filter(|query| names.contains(&query.name)));
}

pub(crate) fn is_query(name: &str) -> bool {
    QUERIES.iter().any(|query| query.name == name)
}
