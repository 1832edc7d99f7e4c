//! The workloads, each beside its controls, in one report.
//!
//! Programs that do the same job run in turn, in one process, and their checksums must be equal;
//! medians and the median of ratios of pairs are printed, because the machine's speed drifts.
//! Of a flow the time runs from the opening of its source; what it takes to start is in B16.
//! `R1` is state in memory, `R2` exactly once with commits that are synced to disk, every 100 ms
//! if nothing else is said. CPU is that of all threads, per event. At the end stands one line per
//! goal.
//!
//! `cargo bench --workspace --bench workloads [-- EVENTS] [NAME..]` runs all or some of them, and
//! `-- EVENTS one [NAME] [R2]` runs one flow once and nothing else, for profilers; without a name
//! that is B2, and `R2-FAST` is R2 with commits every 10 ms. `-- EVENTS peer [WORKERS]`,
//! `-- EVENTS peer NAME` and `-- EVENTS file B5` (or B9), which makes the file of the workload's
//! events and says where it is, are for `make peers`.
//! `-- check` compares the queries of B5 row by row with a recomputation, on few events; each of
//! them can be named, too.
//! `WORKLOADS_DIR` names the disk for durable state.

#[path = "workloads/auctions.rs"]
mod auctions;
#[path = "workloads/by_hand.rs"]
mod by_hand;
#[path = "workloads/check.rs"]
mod check;
#[path = "workloads/clock.rs"]
mod clock;
#[path = "workloads/disorder.rs"]
mod disorder;
#[path = "workloads/events.rs"]
mod events;
#[path = "workloads/flights.rs"]
mod flights;
#[path = "workloads/footprint.rs"]
mod footprint;
#[path = "workloads/hopping.rs"]
mod hopping;
#[path = "idle/measure.rs"]
mod idle;
#[path = "workloads/nexmark/mod.rs"]
mod nexmark;
#[path = "workloads/report.rs"]
mod report;
#[path = "workloads/running.rs"]
mod running;
#[path = "workloads/scale.rs"]
mod scale;
#[path = "workloads/sessions.rs"]
mod sessions;
#[path = "workloads/skew.rs"]
mod skew;
#[path = "workloads/snapshots.rs"]
mod snapshots;
#[path = "workloads/spill.rs"]
mod spill;
#[path = "workloads/stateless.rs"]
mod stateless;
#[path = "workloads/tumbling.rs"]
mod tumbling;
#[path = "workloads/variants.rs"]
mod variants;

use report::{Bench, Lap, Rung, exit};

/// As in the binary: flows and controls alike.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// One flow, once.
type One = fn(u64, Rung) -> Lap;

struct Workload {
    name: &'static str,
    bench: fn(&mut Bench),
    one: Option<One>,
}

const fn only(name: &'static str, bench: fn(&mut Bench)) -> Workload {
    Workload { name, bench, one: None }
}

const WORKLOADS: &[Workload] = &[
    Workload {
        name: "B1",
        bench: stateless::bench,
        one: Some(|events, rung| stateless::flow(events, 1, rung)),
    },
    Workload {
        name: "B2",
        bench: tumbling::bench,
        one: Some(|events, rung| tumbling::flow(events, 1, rung)),
    },
    only("B3", hopping::bench),
    Workload {
        name: "B4",
        bench: sessions::bench,
        one: Some(|events, rung| sessions::flow(events, 1, rung)),
    },
    only("B5", auctions::bench),
    Workload {
        name: "B8",
        bench: running::bench,
        one: Some(|events, rung| running::flow(events, 10_000_000, rung)),
    },
    Workload { name: "B9", bench: spill::bench, one: Some(|events, _| spill::flow(events)) },
    only("B11", snapshots::bench),
    only("B13", skew::bench),
    only("B14", disorder::bench),
    Workload {
        name: "B15",
        bench: scale::bench,
        one: Some(|events, rung| scale::workers(events, 2, rung)),
    },
    only("B16", footprint::bench),
    only("flights", flights::bench),
];

fn load() -> String {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').next().unwrap_or_default().to_owned()
}

/// One of the processes that some workloads start.
fn be_child(arguments: &[String]) {
    let number = |text: &str| text.parse().unwrap_or_else(|error| exit(error));
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        ["half", class, events] => scale::child(number(class), number(events)),
        ["memory", keys] => footprint::memory(number(keys)),
        ["start", dir] => footprint::start(dir.as_ref()),
        _ => exit(format!("there is no such child: {arguments:?}")),
    }
}

/// One flow, once.
fn one_of(name: &str, events: u64, rung: Rung) -> Lap {
    let workload = WORKLOADS.iter().find(|workload| workload.name == name);
    let one = workload.and_then(|workload| workload.one).map(|one| one(events, rung));
    let one = one.or_else(|| auctions::one(name, events));
    one.unwrap_or_else(|| exit(format!("`{name}` has no single flow")))
}

/// For `make peers`: a flow once, as other engines have a run to warm up, and once to count.
fn run_as_peer(name: Option<&&str>, events: u64, workers: usize) {
    let run = || match name {
        None => tumbling::flow(events, workers, Rung::Volatile),
        Some(name) => one_of(name, events, Rung::Volatile),
    };
    run();
    let Lap { time, check, .. } = run();
    let (seconds, check::Check { results, sum }) = (time.as_secs_f64(), check);
    println!("events={events} seconds={seconds:.6} results={results} sum={sum} late=0");
}

/// Runs one flow and nothing else.
fn run_one(names: &[&str], events: u64) {
    let (mut rung, mut workload) = (Rung::Volatile, "B2");
    for name in names {
        match *name {
            "one" => {}
            "R2" => rung = Rung::R2,
            "R2-FAST" => rung = Rung::R2_FAST,
            other => workload = other,
        }
    }
    println!("{:?}", one_of(workload, events, rung));
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|a| a != "--bench").collect();
    if arguments.first().is_some_and(|first| first == "child") {
        return be_child(&arguments[1..]);
    }
    let (numbers, names): (Vec<&str>, Vec<&str>) =
        arguments.iter().map(String::as_str).partition(|a| a.parse::<u64>().is_ok());
    let events = numbers.first().and_then(|n| n.parse().ok()).unwrap_or(10_000_000);
    if names == ["check"] {
        return auctions::check(events.min(100_000));
    }
    match names[..] {
        ["file", "B5"] => return println!("{}", auctions::path_of(events).display()),
        ["file", "B9"] => return println!("{}", spill::path_of(events).display()),
        _ => {}
    }
    if names.first() == Some(&"peer") {
        let workers = numbers.get(1).and_then(|n| n.parse().ok()).unwrap_or(1);
        return run_as_peer(names.get(1), events, workers);
    }
    if names.contains(&"one") {
        return run_one(&names, events);
    }
    let is_workload = |name: &str| WORKLOADS.iter().any(|workload| workload.name == name);
    if let Some(unknown) = names.iter().find(|n| !is_workload(n) && !auctions::is_query(n)) {
        let all: Vec<&str> = WORKLOADS.iter().map(|workload| workload.name).collect();
        exit(format!("there is no `{unknown}`; there are {}, and B5's q0 to q20", all.join(", ")));
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
    auctions::some(&mut bench, &names);
    println!("\nload after {}", load());
    println!("B10 is `highwater bench latency`, B12 (recovery) is in the bench `state`.");
    bench.print_goals();
}
