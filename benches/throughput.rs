//! Throughput of the keyed tumbling count beside its control, and of the flights pipeline.
//!
//! The control is the least that any engine must do: generate the event, find the window's table,
//! count in it. Control and engine run in turn, in one process, on one thread of work each;
//! medians and the ratio of pairs are printed, because the machine's speed drifts.
//!
//! `cargo bench --bench throughput [-- EVENTS [one|peer [WORKERS]]]`

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use highwater::prelude::*;
use highwater::source::Generator;

const KEYS: u64 = 100_000;
const ROUNDS: usize = 5;
const WINDOW: Span = seconds(1);
const BOUND: Span = millis(100);

#[derive(Clone, Copy)]
struct Event {
    key: u64,
    value: u64,
    time: EventTime,
}

fn splitmix64(index: u64) -> u64 {
    let mut z = index.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// A million events to a second of event time.
fn event(index: u64) -> Event {
    let random = splitmix64(index);
    Event {
        key: (random >> 32) % KEYS,
        value: random & 0xffff,
        time: EventTime::from_micros(index as i64),
    }
}

/// An order-independent checksum of results, and how many there were.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Check {
    results: u64,
    sum: u64,
}

impl Check {
    fn add(&mut self, key: u64, start: i64, count: u64, sum: u64) {
        self.results += 1;
        let mixed = splitmix64(key ^ (start as u64).rotate_left(32)).wrapping_mul(count);
        self.sum = self.sum.wrapping_add(mixed ^ sum.rotate_left(17));
    }
}

/// One hash table per open window, dropped when the time has passed: the floor of the work.
fn bare_loop(events: u64) -> (Duration, Check) {
    let started = Instant::now();
    let mut check = Check::default();
    let mut windows: BTreeMap<i64, hashbrown::HashMap<u64, (u64, u64)>> = BTreeMap::new();
    let mut watermark = i64::MIN;
    let size = WINDOW.as_micros();
    let close = |start: i64, table: hashbrown::HashMap<u64, (u64, u64)>, check: &mut Check| {
        for (key, (count, sum)) in table {
            check.add(key, start, count, sum);
        }
    };
    for index in 0..events {
        let event = event(index);
        let start = event.time.as_micros().div_euclid(size) * size;
        let state = windows.entry(start).or_default().entry(event.key).or_default();
        state.0 += 1;
        state.1 += event.value;
        watermark = watermark.max((event.time - BOUND).as_micros());
        while let Some(first) = windows.first_entry() {
            if *first.key() + size > watermark {
                break;
            }
            close(*first.key(), first.remove(), &mut check);
        }
    }
    for (start, table) in windows {
        close(start, table, &mut check);
    }
    (started.elapsed(), check)
}

/// The same job as a flow. `state`: a directory for durable commits, or none.
fn flow(events: u64, workers: usize, state: Option<&std::path::Path>) -> (Duration, Check) {
    let started = Instant::now();
    let (sink, results) = highwater::sink::channel();
    let flow = Flow::new("count");
    flow.source("events", Generator::new(1, Some(events), |_, index| event(index)))
        .event_time(|e| e.time, Disorder::at_most(BOUND))
        .key_by(|e| &e.key)
        .window("counts", Tumbling::of(WINDOW))
        .aggregate((Count, Fold::new(0u64, |sum, e: &Event| *sum += e.value, |a, b| *a += b)))
        .drop_late("there are none")
        .per_tick("check", |_, rows| {
            let mut check = Check::default();
            for row in rows {
                let (count, sum) = row.value;
                check.add(row.key, row.window.start.as_micros(), count, sum);
            }
            [check]
        })
        .sink("out", sink);
    let settings = match state {
        Some(dir) => Settings::at(dir),
        None => Settings::in_memory().commit_interval(Duration::from_secs(3600)),
    };
    let result = flow.run(settings.workers(workers));
    let check = results.fold(Check::default(), |a, b| Check {
        results: a.results + b.results,
        sum: a.sum.wrapping_add(b.sum),
    });
    if let Err(error) = result {
        eprintln!("the flow failed: {error}");
        std::process::exit(1);
    }
    (started.elapsed(), check)
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn report(name: &str, events: u64, times: &[Duration], control: &[Duration]) {
    let rates = times.iter().map(|t| events as f64 / t.as_secs_f64() / 1e6).collect::<Vec<_>>();
    let ratios = times.iter().zip(control).map(|(t, c)| c.as_secs_f64() / t.as_secs_f64());
    let spread =
        (rates.iter().copied().fold(f64::MAX, f64::min), rates.iter().copied().fold(0.0, f64::max));
    println!(
        "  {name:<34} {:>7.2} M events/s  ({:.2} to {:.2})  {:>5.2}x the bare loop",
        median(rates.clone()),
        spread.0,
        spread.1,
        median(ratios.collect()),
    );
}

fn keyed_count(events: u64) {
    println!("keyed tumbling count and sum, {KEYS} keys, {events} events, medians of {ROUNDS}");
    let (mut bare, mut one, mut two, mut durable) = (vec![], vec![], vec![], vec![]);
    for _ in 0..ROUNDS {
        let (time, expected) = bare_loop(events);
        bare.push(time);
        let run = |times: &mut Vec<Duration>, workers, state: Option<&std::path::Path>| {
            let (time, check) = flow(events, workers, state);
            if check != expected {
                eprintln!("results differ: {check:?}, and the bare loop has {expected:?}");
                std::process::exit(1);
            }
            times.push(time);
        };
        run(&mut one, 1, None);
        run(&mut two, 2, None);
        match tempfile::tempdir() {
            Ok(dir) => run(&mut durable, 1, Some(dir.path())),
            Err(error) => eprintln!("no directory for durable commits: {error}"),
        }
    }
    report("bare hash loop", events, &bare, &bare);
    report("1 worker, volatile", events, &one, &bare);
    report("2 workers, volatile", events, &two, &bare);
    report("1 worker, commits every 100 ms", events, &durable, &bare);
}

#[derive(Clone, serde::Deserialize)]
struct Departure {
    scheduled: EventTime,
    carrier: String,
    dep_delay_min: i64,
}

/// The demo's pipeline without its sinks' files: reading, decompressing and decoding dominate.
fn flights() {
    let run = |workers: usize| {
        let started = Instant::now();
        let flow = Flow::new("flights");
        let (sink, results) = highwater::sink::channel();
        flow.source("departures", CsvFiles::<Departure>::glob("examples/data/flights/*.csv.gz"))
            .event_time(|d| d.scheduled, Disorder::at_most(hours(1)))
            .key_by(|d| &d.carrier)
            .window("hourly", Tumbling::of(hours(1)))
            .aggregate(Stats::of(|d: &Departure| d.dep_delay_min))
            .drop_late("not measured")
            .sink("out", sink);
        if let Err(error) = flow.run(Settings::in_memory().workers(workers)) {
            eprintln!("the flow failed: {error}");
            std::process::exit(1);
        }
        assert_eq!(results.count(), 59_044);
        328_521.0 / started.elapsed().as_secs_f64() / 1e6
    };
    println!("flights by carrier and hour, 328521 events from gzipped CSV, medians of {ROUNDS}");
    for workers in [1, 2] {
        let rates = (0..ROUNDS).map(|_| run(workers)).collect();
        println!("  {workers} worker(s), volatile {:>24.2} M events/s", median(rates));
    }
}

fn main() {
    let events = std::env::args().filter_map(|a| a.parse().ok()).next().unwrap_or(10_000_000);
    // For profilers: one flow, nothing else.
    if std::env::args().any(|argument| argument == "one") {
        println!("{:?}", flow(events, 1, None));
        return;
    }
    // For `make peers`: a first run, as other engines have one to warm up, and one that counts.
    if std::env::args().any(|argument| argument == "peer") {
        let workers = std::env::args().filter_map(|a| a.parse().ok()).nth(1).unwrap_or(1);
        flow(events, workers, None);
        let (time, Check { results, sum }) = flow(events, workers, None);
        let seconds = time.as_secs_f64();
        println!("events={events} seconds={seconds:.6} results={results} sum={sum} late=0");
        return;
    }
    keyed_count(events);
    flights();
}
