//! What the rules cost: deduplication, and the watermark of ten thousand partitions. Hopping
//! windows and sessions are in the bench `workloads`.
//!
//! What is compared runs in turn, in one process, on one worker; medians of pairs are printed,
//! because the machine's speed drifts. Controls are bare loops that do the same job.
//!
//! `cargo bench --bench semantics [-- EVENTS [dedup|partitions]]`, and for `make peers`
//! `-- EVENTS [hopping|sessions] peer`

#[path = "semantics/dedup.rs"]
mod dedup;
#[path = "semantics/partitions.rs"]
mod partitions;
#[path = "semantics/peers.rs"]
mod peers;

use std::time::Duration;

use highwater::{EventTime, Settings};

const ROUNDS: usize = 5;

#[derive(Clone, Copy, serde::Serialize, serde::Deserialize)]
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

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Median and spread, in million events a second.
fn rate(events: u64, times: &[Duration]) -> String {
    let mut rates: Vec<_> = times.iter().map(|t| events as f64 / t.as_secs_f64() / 1e6).collect();
    rates.sort_by(f64::total_cmp);
    let (least, most) = (rates[0], rates[rates.len() - 1]);
    format!("{:>6.2} M events/s  ({least:.2} to {most:.2})", rates[rates.len() / 2])
}

/// The median of `of / to`, pair by pair.
fn ratio(of: &[Duration], to: &[Duration]) -> f64 {
    median(of.iter().zip(to).map(|(a, b)| a.as_secs_f64() / b.as_secs_f64()).collect())
}

fn or_exit<T>(result: Result<T, highwater::Error>) -> T {
    result.unwrap_or_else(|error| {
        eprintln!("the flow failed: {error}");
        std::process::exit(1)
    })
}

/// One worker, state in memory, no commit but the last.
fn settings() -> Settings {
    Settings::in_memory().workers(1).commit_interval(Duration::from_secs(3600))
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let events = arguments.iter().filter_map(|a| a.parse().ok()).next().unwrap_or(10_000_000);
    let known = ["dedup", "partitions"];
    let chosen = |name: &str| {
        let named = |a: &String| known.contains(&a.as_str());
        !arguments.iter().any(named) || arguments.iter().any(|a| a == name)
    };
    // For `make peers`: one job, in a line that its script reads.
    if arguments.iter().any(|a| a == "peer") {
        let hopping = arguments.iter().any(|a| a == "hopping");
        return peers::run(events, if hopping { "hopping" } else { "sessions" });
    }
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    println!("{cores} cores; medians of {ROUNDS} rounds, least and most in brackets");
    if chosen("dedup") {
        dedup::bench(events);
    }
    if chosen("partitions") {
        partitions::bench();
    }
}
