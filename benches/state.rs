//! Keyed state beside its controls, in one binary and one run: what a hash table costs that is
//! durable, larger than memory, and there again after a crash.
//!
//! What is said of the longest tick, of memory and of recovery holds at the rate of updates that
//! the base sustains, which is found first and named; as fast as it goes the figures are printed
//! too. A longest tick is compared with the median of those beside which nothing was written: it
//! is the stricter choice.
//!
//! Both sides of a pair run in turn, and medians of the pairs are printed, because the machine's
//! speed drifts. At the end stands one line per goal.
//!
//! `cargo bench --workspace --bench state`; with `STATE_BENCH=quick` for 100 thousand keys only,
//! with `STATE_BENCH=updates,commits,..` for some parts, and with `STATE_BENCH_DIR` for another
//! disk than that of the current directory.

#[path = "state/base.rs"]
mod base;
#[path = "state/commits.rs"]
mod commits;
#[path = "state/disk.rs"]
mod disk;
#[path = "state/lanes.rs"]
mod lanes;
#[path = "state/memory.rs"]
mod memory;
#[path = "state/recovery.rs"]
mod recovery;
#[path = "state/spill.rs"]
mod spill;
#[path = "state/updates.rs"]
mod updates;

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// The memory that RocksDB has for its cache and buffers by default settings.
const BASE_MEMORY: u64 = 256 << 20;
/// The default limit of the log's tail.
const TAIL_LIMIT: u64 = 64 << 20;
/// Updates a second, where the rate that the base sustains was not measured in this run.
const ASSUMED_RATE: f64 = 200_000.0;
/// Updates to a batch.
const BATCH: usize = 4096;

type Part = fn(&mut Bench) -> Result<()>;

struct Goal {
    name: String,
    figure: String,
    /// `None`: too little was seen to tell.
    met: Option<bool>,
}

/// What the parts share.
struct Bench {
    dir: tempfile::TempDir,
    sizes: Vec<u64>,
    goals: Vec<Goal>,
    /// Entries a second that the base takes in for good, once measured.
    sustained: f64,
}

impl Bench {
    fn goal(
        &mut self,
        name: impl Into<String>,
        figure: impl Into<String>,
        met: impl Into<Option<bool>>,
    ) {
        self.goals.push(Goal { name: name.into(), figure: figure.into(), met: met.into() });
    }

    /// A new place below the directory of the run.
    fn place(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The directory of the store of that many keys; the parts share it, for filling takes long.
    fn store_of(&self, keys: u64) -> PathBuf {
        self.place(&format!("store-{keys}"))
    }

    /// Updates a second at which the base keeps up, and how that is named.
    fn paced(&self) -> (f64, String) {
        match self.sustained {
            rate if rate > 0.0 => (rate, format!("{:.0}k/s, the base's rate", rate / 1e3)),
            _ => (ASSUMED_RATE, format!("{:.0}k/s, not measured", ASSUMED_RATE / 1e3)),
        }
    }

    fn largest(&self) -> u64 {
        self.sizes.last().copied().unwrap_or(100_000)
    }
}

fn splitmix64(index: u64) -> u64 {
    let mut z = index.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Random numbers below a bound, the same in every run.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 += 1;
        ((u128::from(splitmix64(self.0)) * u128::from(bound)) >> 64) as u64
    }
}

/// Holds a loop to a rate.
struct Pace {
    rate: f64,
    started: Instant,
    done: usize,
}

impl Pace {
    /// So many a second; 0 for no limit.
    fn new(rate: f64) -> Self {
        Pace { rate, started: Instant::now(), done: 0 }
    }

    /// So many were done: waits until the next are due.
    fn wait(&mut self, count: usize) {
        let due = self.due(count);
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
    }

    /// So many were done: when the next are due.
    fn due(&mut self, count: usize) -> Instant {
        self.done += count;
        let due = if self.rate > 0.0 { self.done as f64 / self.rate } else { 0.0 };
        self.started + Duration::from_secs_f64(due)
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// Resident bytes of this process: now, and the most there have been.
fn resident() -> (u64, u64) {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        line.and_then(|rest| rest.trim().split(' ').next()?.parse::<u64>().ok()).unwrap_or(0) << 10
    };
    (field("VmRSS:"), field("VmHWM:"))
}

/// "100k", "10M".
fn short(count: u64) -> String {
    match count {
        0..1_000_000 => format!("{}k", count / 1000),
        _ => format!("{}M", count / 1_000_000),
    }
}

fn mb(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}

/// This program once more, in a process of its own that does one thing.
fn child(arguments: &[&str]) -> Result<(Child, impl FnMut() -> Result<Vec<f64>> + use<>)> {
    let mut command = Command::new(std::env::current_exe()?);
    // With an arena per thread, glibc's malloc keeps memory that nobody uses: where the resident
    // memory of several threads is compared with a budget, they share one. A choice of the
    // caller's stands.
    if arguments.first() == Some(&"spill") && std::env::var_os("MALLOC_ARENA_MAX").is_none() {
        command.env("MALLOC_ARENA_MAX", "1");
    }
    let mut child = command.arg("child").args(arguments).stdout(Stdio::piped()).spawn()?;
    let mut lines = BufReader::new(child.stdout.take().ok_or("no output")?).lines();
    let name = arguments.join(" ");
    let numbers = move || {
        let line = lines.next().ok_or_else(|| format!("the process `{name}` died"))??;
        Ok(line.split(' ').map(str::parse).collect::<std::result::Result<_, _>>()?)
    };
    Ok((child, numbers))
}

/// Kills a process as a crash would.
fn kill(mut child: Child) -> Result<()> {
    child.kill()?;
    child.wait()?;
    Ok(())
}

fn be_child(arguments: &[String]) -> Result<()> {
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        ["memory", side, keys] => memory::child(side, keys.parse()?),
        ["spill", dir, keys, hot, share, rate] => {
            let numbers = [keys.parse()?, hot.parse()?, share.parse()?];
            spill::child(Path::new(dir), numbers, rate.parse()?)
        }
        ["write", dir, keys, rate] => recovery::write(Path::new(dir), keys.parse()?, rate.parse()?),
        ["fill_tail", dir, keys] => recovery::fill_tail(Path::new(dir), keys.parse()?),
        ["recover", dir, keys] => recovery::recover(Path::new(dir), keys.parse()?),
        _ => Err(format!("no such child: {arguments:?}").into()),
    }
}

fn run() -> Result<()> {
    let which = std::env::var("STATE_BENCH").unwrap_or_default();
    let quick = which == "quick";
    let parts: Vec<&str> = which.split(',').filter(|p| !p.is_empty() && *p != "quick").collect();
    let wanted = |part: &str| parts.is_empty() || parts.contains(&part);
    let root = std::env::var_os("STATE_BENCH_DIR").map_or_else(|| ".".into(), PathBuf::from);
    let dir = tempfile::Builder::new().prefix("state-bench-").tempdir_in(root)?;
    let sizes = if quick { vec![100_000] } else { vec![100_000, 1_000_000, 10_000_000] };
    let mut bench = Bench { dir, sizes, goals: Vec::new(), sustained: 0.0 };
    disk::controls(&bench)?;
    let all: [(&str, Part); 7] = [
        ("memory", memory::run),
        ("updates", updates::run),
        ("raw", base::raw),
        ("sustained", base::sustained),
        ("recovery", recovery::run),
        ("spill", spill::run),
        ("commits", commits::run),
    ];
    for (name, part) in all {
        if wanted(name) {
            let started = Instant::now();
            part(&mut bench)?;
            let seconds = started.elapsed().as_secs_f64();
            println!("  ({name}: {seconds:.0} s, load of the machine {})", disk::load());
        }
    }
    println!("\ngoals");
    for Goal { name, figure, met } in &bench.goals {
        let met = met.map_or("UNSEEN", |met| if met { "met" } else { "MISSED" });
        println!("  {met:<6} {name:<58} {figure}");
    }
    Ok(())
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let result = match arguments.first().map(String::as_str) {
        Some("child") => be_child(&arguments[1..]),
        _ => run(),
    };
    if let Err(error) = result {
        eprintln!("{error}");
        std::process::exit(1);
    }
}
