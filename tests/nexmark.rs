//! The flows of the Nexmark bench, row by row beside a recomputation over all events.

#[path = "../benches/workloads/check.rs"]
#[expect(dead_code, reason = "the bench uses more of it")]
mod check;
#[path = "../benches/workloads/clock.rs"]
#[expect(dead_code, reason = "the bench uses more of it")]
mod clock;
#[path = "../benches/workloads/events.rs"]
#[expect(dead_code, reason = "the bench uses more of it")]
mod events;
#[path = "../benches/workloads/nexmark/mod.rs"]
#[expect(dead_code, unused_imports, reason = "the bench uses more of it")]
mod nexmark;

use highwater::{Flow, Settings};
use nexmark::{EventFile, QUERIES, Query};

type Rows = Vec<Vec<u64>>;

fn file_of(events: usize) -> EventFile {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("events");
    nexmark::make(events, 1_000, &path).unwrap();
    EventFile::read(&path).unwrap()
}

fn told(query: &Query, file: &EventFile, tick: usize) -> Rows {
    let flow = Flow::new(query.name);
    let rows = (query.build)(&flow, file.clone()).rows();
    flow.run(Settings::in_memory().workers(1).tick_max_events(tick)).unwrap();
    let mut rows = rows();
    rows.sort_unstable();
    rows
}

fn recomputed(query: &Query, file: &EventFile) -> Rows {
    let mut rows = Rows::new();
    (query.model)(file, &mut |row| rows.push(row.to_vec()));
    rows.sort_unstable();
    rows
}

/// More than twenty seconds, so that windows follow each other and auctions expire.
#[test]
fn every_query_says_what_a_recomputation_says() {
    let file = file_of(25_000);
    for query in QUERIES {
        let expected = recomputed(query, &file);
        assert!(expected.len() > 2, "{} says too little", query.name);
        for tick in [700, 65_536] {
            assert_eq!(told(query, &file, tick), expected, "{}: {}", query.name, query.about);
        }
    }
}

#[test]
fn a_wrong_query_is_seen() {
    let file = file_of(5_000);
    let of = |name: &str| QUERIES.iter().find(|query| query.name == name).unwrap();
    let wrong = Query { build: of("q0").build, ..*of("q1") };
    assert_ne!(told(&wrong, &file, 1_000), recomputed(&wrong, &file));
}
