//! B8: a running count of a million and of ten million keys.
//!
//! How often a key is told depends on how events fall into ticks, so only the last count of a key
//! can be compared, and it is of one key in 64: a table of all of them would cost more than the
//! flow.
//!
//! On the volatile rung time runs to the last count that is told. What the flow then does with
//! its state at its end, which is large here, is told beside it.

use std::path::Path;
use std::time::{Duration, Instant};

use highwater::prelude::*;
use highwater::source::Generator;

use crate::check::Check;
use crate::clock::Clocked;
use crate::events::{Event, event_of, splitmix64};
use crate::report::{
    Bench, Contest, Lap, Rung, directory, exit, or_exit, run_from, run_quietly, settings,
};

const SAMPLED: u64 = 64;

type Counts = hashbrown::HashMap<u64, u64>;

fn check_of(counts: impl IntoIterator<Item = (u64, u64)>) -> Check {
    let mut check = Check::default();
    for (key, count) in counts {
        check.add(splitmix64(key).wrapping_mul(count));
    }
    check
}

/// The count of each sampled key. Counts only rise.
fn last_of(rows: impl IntoIterator<Item = (u64, u64)>) -> Check {
    let mut last = Counts::new();
    for (key, count) in rows {
        let known = last.entry(key).or_default();
        *known = count.max(*known);
    }
    check_of(last)
}

fn is_sampled(key: u64) -> bool {
    key.is_multiple_of(SAMPLED)
}

/// Makes the event of an index.
pub(crate) trait Make: Fn(u64) -> Event + Clone + Send + Sync + 'static {}

impl<F: Fn(u64) -> Event + Clone + Send + Sync + 'static> Make for F {}

/// One hash table. It tells nothing while it runs.
pub(crate) fn bare_loop(events: u64, make: impl Make) -> Lap {
    let started = Instant::now();
    let mut counts = Counts::new();
    for index in 0..events {
        *counts.entry(make(index).key).or_default() += 1;
    }
    let time = started.elapsed();
    let check = check_of(counts.into_iter().filter(|(key, _)| is_sampled(*key)));
    Lap::of(time, events, check)
}

pub(crate) fn flow(events: u64, keys: u64, rung: Rung) -> Lap {
    flow_of(events, move |index| event_of(index, keys), rung, None)
}

/// The flow over these events, with the default budget of memory or another one.
pub(crate) fn flow_of(events: u64, make: impl Make, rung: Rung, budget: Option<u64>) -> Lap {
    let (flow, dir) = (Flow::new("counts"), directory());
    let out = dir.path().join("out");
    let sampled = flow
        .source("events", Clocked(Generator::new(1, Some(events), move |_, i| make(i))))
        .key_by(|e: &Event| &e.key)
        .running("counts", Count)
        .unbounded()
        .filter(|(key, _)| is_sampled(*key));
    let mut settings = settings(rung, &dir.path().join("state")).workers(1);
    if let Some(budget) = budget {
        settings = settings.memory_budget(budget);
    }
    if rung == Rung::Volatile {
        let (sink, rows) = highwater::sink::channel();
        sampled.sink("out", sink);
        let told = std::thread::spawn(move || {
            let mut last = Instant::now();
            let rows: Vec<(u64, u64)> = rows.inspect(|_| last = Instant::now()).collect();
            (rows, last)
        });
        let opened = or_exit(run_from(flow, settings));
        let ended = opened.elapsed();
        let (rows, last) = told.join().unwrap_or_else(|_| exit("the receiver panicked"));
        let time = last - opened;
        let note = format!("; then {:.2} s to the end", (ended - time).as_secs_f64());
        Lap { note, ..Lap::of(time, events, last_of(rows)) }
    } else {
        sampled.sink("out", JsonLines::to(&out));
        let time = or_exit(run_quietly(flow, settings));
        Lap::of(time, events, read(&out))
    }
}

fn read(out: &Path) -> Check {
    let mut rows = Vec::new();
    for file in or_exit(std::fs::read_dir(out)) {
        let text = or_exit(std::fs::read_to_string(or_exit(file).path()));
        rows.extend(text.lines().map(|line| or_exit(serde_json::from_str::<(u64, u64)>(line))));
    }
    last_of(rows)
}

/// State that lives in RocksDB: a get and a put to an event, its log synced every 100 ms.
pub(crate) fn get_and_put(events: u64, keys: impl Iterator<Item = u64>, make: impl Make) -> Lap {
    let dir = directory();
    let mut options = rocksdb::Options::default();
    options.create_if_missing(true);
    options.set_write_buffer_size(64 << 20);
    options.set_compression_type(rocksdb::DBCompressionType::Lz4);
    let mut table = rocksdb::BlockBasedOptions::default();
    table.set_bloom_filter(10.0, false);
    table.set_block_cache(&rocksdb::Cache::new_lru_cache(128 << 20));
    options.set_block_based_table_factory(&table);
    let db = or_exit(rocksdb::DB::open(&options, dir.path().join("db")));
    let started = Instant::now();
    let mut synced = started;
    let count_of = |key: [u8; 8]| {
        let found = or_exit(db.get_pinned(key));
        found.and_then(|bytes| bytes.first_chunk().copied()).map_or(0, u64::from_le_bytes)
    };
    for index in 0..events {
        let key = make(index).key.to_be_bytes();
        or_exit(db.put(key, (count_of(key) + 1).to_le_bytes()));
        if index.is_multiple_of(1024) && synced.elapsed() >= Duration::from_millis(100) {
            or_exit(db.flush_wal(true));
            synced = Instant::now();
        }
    }
    or_exit(db.flush_wal(true));
    let time = started.elapsed();
    let counts = keys.map(|key| (key, count_of(key.to_be_bytes())));
    let check = check_of(counts.filter(|(_, count)| *count > 0));
    Lap::of(time, events, check)
}

/// Keys that are compared, of so many.
pub(crate) fn sampled(keys: u64) -> impl Iterator<Item = u64> {
    (0..keys).step_by(SAMPLED as usize)
}

pub(crate) fn bench(bench: &mut Bench) {
    let events = bench.events;
    for (keys, name) in [(1_000_000, "1,000,000 keys"), (10_000_000, "10,000,000 keys")] {
        let mut contest = Contest::new(format!("B8: running count, {name}"));
        let make = move |index| event_of(index, keys);
        contest.control("bare loop", || bare_loop(events, make));
        contest.marked("R1", "1 worker", |rung| flow(events, keys, rung));
        let outcome = contest.run(bench.rounds);
        let rate = outcome.rate("1 worker", "R1");
        if keys == 10_000_000 {
            bench.at_least("B8: 10 million keys, M events/s", rate, 15.0);
        }
        let few = events / 10;
        if few == 0 {
            exit("too few events");
        }
        let title = format!("B8: running count, {name}, durable, fewer events: RocksDB is slow");
        let mut contest = Contest::new(title);
        contest.control("RocksDB get+put", || get_and_put(few, sampled(keys), make));
        contest.marked("R1", "1 worker", |rung| flow(few, keys, rung));
        contest.durable(Rung::R2, "1 worker", |rung| flow(few, keys, rung));
        contest.another_job();
        contest.durable(Rung::R2, "1 worker, all events", |rung| flow(events, keys, rung));
        contest.run(bench.rounds.min(3));
    }
}
