//! The workloads, each beside its controls, in one report.
//!
//! Programs that do the same job run in turn, in one process, and their checksums must be equal;
//! medians and the median of ratios of pairs are printed, because the machine's speed drifts.
//! `R1` is state in memory, `R2` exactly once with commits that are synced to disk, every 100 ms
//! if nothing else is said. CPU is that of all threads, per event. At the end stands one line per
//! goal.
//!
//! `cargo bench --workspace --bench workloads [-- EVENTS] [NAME..]` runs all or some of them, and
//! `-- EVENTS one [NAME]` runs one flow once and nothing else, for profilers; without a name that
//! is B2. `WORKLOADS_DIR` names the disk for durable state.

#[path = "workloads/by_hand.rs"]
mod by_hand;
#[path = "workloads/check.rs"]
mod check;
#[path = "workloads/events.rs"]
mod events;
#[path = "workloads/flights.rs"]
mod flights;
#[path = "workloads/report.rs"]
mod report;
#[path = "workloads/tumbling.rs"]
mod tumbling;

use report::{Bench, Lap, Rung, exit};

/// One flow, once.
type One = fn(u64) -> Lap;

struct Workload {
    name: &'static str,
    bench: fn(&mut Bench),
    one: Option<One>,
}

const WORKLOADS: &[Workload] = &[
    Workload {
        name: "B2",
        bench: tumbling::bench,
        one: Some(|events| tumbling::flow(events, 1, Rung::Volatile)),
    },
    Workload { name: "flights", bench: flights::bench, one: None },
];

fn load() -> String {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').next().unwrap_or_default().to_owned()
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|a| a != "--bench").collect();
    let events = arguments.iter().find_map(|a| a.parse().ok()).unwrap_or(10_000_000);
    let names: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let names: Vec<&str> = names.into_iter().filter(|a| a.parse::<u64>().is_err()).collect();
    if names.contains(&"one") {
        let wanted = names.iter().find(|name| **name != "one").copied().unwrap_or("B2");
        let workload = WORKLOADS.iter().find(|workload| workload.name == wanted);
        match workload.and_then(|workload| workload.one) {
            Some(one) => return println!("{:?}", one(events)),
            None => exit(format!("`{wanted}` has no single flow")),
        }
    }
    let known = |name: &&str| WORKLOADS.iter().any(|workload| workload.name == *name);
    if let Some(unknown) = names.iter().find(|name| !known(name)) {
        let all: Vec<&str> = WORKLOADS.iter().map(|workload| workload.name).collect();
        exit(format!("there is no `{unknown}`; there are {}", all.join(", ")));
    }
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let mut bench = Bench::new(events, 5);
    println!("{cores} cores, load before {}; medians of {} rounds", load(), bench.rounds);
    println!("in brackets least and most; `0.50x R1` is the median of pairs run in turn");
    for workload in WORKLOADS {
        if names.is_empty() || names.contains(&workload.name) {
            (workload.bench)(&mut bench);
        }
    }
    println!("\nload after {}", load());
    println!("B9 and B12 (more state than memory, recovery) are in the bench `state`, B10 in");
    println!("`highwater bench latency`.");
    bench.print_goals();
}
