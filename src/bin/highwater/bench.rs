//! Latency percentiles of a keyed count under an open load.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};
use highwater::latency::{Limit, Load, Outcome, Setup, hiccups};
use highwater::prelude::*;

use crate::say::sayln;

#[derive(Subcommand)]
pub enum BenchCommand {
    /// How long results take under a load that does not wait for them
    #[command(long_about = LATENCY)]
    Latency(LatencyOptions),
}

const LATENCY: &str = "\
How long results take under a load that does not wait for them.

The flow counts events by key in tumbling windows. Every event is due at a moment fixed before \
the run, and carries it as its event time; what is overdue is released at once, still with its \
due time. So a stall is felt by everything that was due meanwhile (no coordinated omission). A \
result's latency runs from its ideal close, when the first event is due that can close its \
window (the window's end plus the bound of disorder), until it is visible: when its tick is \
sealed, or with --state when its commit is on disk.

Beside it stands what the machine does to anybody: a thread that spins on an idle core, before \
and after the load, and notes how late it is for something that is due every 100 µs. It does not \
run beside the load, because it would take a core from it.

With --limit the highest rate is looked for that is sustained (the backlog of due and unread \
events does not grow for --seconds), and latency is then measured at 50 % and 80 % of it.

--out writes, for each load, the percentiles (.hgrm, for HdrHistogram's plotters), the timeline \
in slices of 250 ms (.csv) and a plot of both (.svg).";

#[derive(Args)]
pub struct LatencyOptions {
    /// Events per second; with --limit, the rate at which the search begins
    #[arg(long, default_value_t = 100_000.0)]
    rate: f64,
    /// Look for the highest sustainable rate, and measure at 50 % and 80 % of it
    #[arg(long)]
    limit: bool,
    /// How long is measured, and with --limit how long a rate must be sustained, in seconds
    #[arg(long, default_value_t = 20)]
    seconds: u64,
    /// How long the load lasts before it is measured, in seconds
    #[arg(long, default_value_t = 3)]
    warm_up: u64,
    /// How many keys there are
    #[arg(long, default_value_t = 1_000)]
    keys: u64,
    /// Size of the windows, in milliseconds
    #[arg(long, default_value_t = 100)]
    window_ms: i64,
    /// How far out of order events may be, in milliseconds: results wait for it
    #[arg(long, default_value_t = 10)]
    bound_ms: i64,
    /// Keep state in this new directory and count results when they are durable; without it
    /// state is volatile
    #[arg(long)]
    state: Option<PathBuf>,
    /// With --state: the least time between two commits, in milliseconds
    #[arg(long, default_value_t = 2)]
    commit_ms: u64,
    /// Take a snapshot every so many milliseconds, to see what it does to latency
    #[arg(long, requires = "state")]
    snapshot_ms: Option<u64>,
    /// Worker threads
    #[arg(long, default_value_t = 1)]
    workers: usize,
    /// Write percentiles, timelines and plots into this directory
    #[arg(long)]
    out: Option<PathBuf>,
}

/// How long the machine is listened to before the load, and after it.
const LISTEN: Duration = Duration::from_secs(2);

/// Keys in no order (the finaliser of MurmurHash3).
fn mixed(index: u64) -> u64 {
    let mut mixed = index.wrapping_add(1);
    mixed = (mixed ^ (mixed >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    mixed = (mixed ^ (mixed >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    mixed ^ (mixed >> 33)
}

/// How many events a key had in a window.
type Counted = WindowResult<u64, u64>;

impl LatencyOptions {
    fn flow(&self, setup: &Setup) -> Flow {
        let (keys, bound) = (self.keys.max(1), millis(self.bound_ms));
        let flow = Flow::new("latency");
        let events = setup.events(move |index, due| (mixed(index) % keys, due));
        flow.source("events", events)
            .event_time(|event| event.1, Disorder::at_most(bound))
            .key_by(|event| &event.0)
            .window("counts", Tumbling::of(millis(self.window_ms)))
            .aggregate(Count)
            .drop_late("events are in order")
            .sink("results", setup.answers(move |count: &Counted| count.window.end + bound));
        flow
    }

    fn settings(&self, run: &str) -> Settings {
        let settings = match &self.state {
            Some(dir) => Settings::at(dir.join(run)),
            None => Settings::in_memory(),
        };
        let interval = Duration::from_millis(self.commit_ms);
        let settings = settings.workers(self.workers);
        match (&self.state, self.snapshot_ms) {
            (None, _) => settings,
            (Some(_), None) => settings.commit_interval(interval),
            (Some(_), Some(ms)) => {
                settings.commit_interval(interval).snapshots(Duration::from_millis(ms), 2)
            }
        }
    }

    fn load(&self, rate: f64) -> Load {
        let (warm_up, lasting) = (self.warm_up, self.seconds);
        Load::of(rate).warm_up(Duration::from_secs(warm_up)).lasting(Duration::from_secs(lasting))
    }

    fn measure(&self, rate: f64, name: &str) -> Result<Outcome, Error> {
        let mut late = hiccups(LISTEN)?;
        let outcome = self.load(rate).run(self.settings(name), |setup| self.flow(setup))?;
        late += hiccups(LISTEN)?;
        sayln!("{outcome}");
        let at = |quantile| late.value_at_quantile(quantile) as f64 / 1e3;
        let max = late.max() as f64 / 1e3;
        sayln!(
            "  the machine's own hiccups: p50 {:.2} p99 {:.2} p99.99 {:.2} max {max:.2} ms",
            at(0.5),
            at(0.99),
            at(0.9999)
        );
        if let Some(dir) = &self.out {
            outcome.write(dir, name, Some(&late))?;
            sayln!("  written to {}/{name}.hgrm, .csv and .svg", dir.display());
        }
        Ok(outcome)
    }
}

pub fn run(command: &BenchCommand) -> Result<(), Error> {
    let BenchCommand::Latency(options) = command;
    sayln!(
        "count by key: {} keys, windows of {} ms, bound {} ms",
        options.keys,
        options.window_ms,
        options.bound_ms
    );
    if !options.limit {
        options.measure(options.rate, "latency")?;
        return Ok(());
    }
    let limit = find(options)?;
    for (part, name) in [(0.5, "at-50-percent"), (0.8, "at-80-percent")] {
        sayln!("at {:.0} % of the limit:", part * 100.0);
        options.measure(limit.rate * part, name)?;
    }
    Ok(())
}

fn find(options: &LatencyOptions) -> Result<Limit, Error> {
    let load = options.load(options.rate);
    let limit = load.find_limit(&options.settings("limit"), |setup| options.flow(setup))?;
    for trial in &limit.trials {
        sayln!(
            "  tried {:>12.0} events/s: {}, p99 {:.2} ms",
            trial.rate,
            if trial.sustained { "sustained" } else { "not sustained" },
            trial.p99_micros as f64 / 1e3
        );
    }
    if limit.rate <= 0.0 {
        return Err(Error::input("no rate was sustained: begin with a lower --rate"));
    }
    sayln!("highest rate sustained for {} s: {:.0} events/s", options.seconds, limit.rate);
    Ok(limit)
}
