//! The demo: flights by hour of their scheduled departure.

use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::{Args, ValueEnum};
use highwater::prelude::*;
use highwater::sink::channel;
use indicatif::{ProgressBar, ProgressStyle};
use serde::{Deserialize, Serialize};

use crate::say::{say, sayln};
use crate::table::{Row, grouped, report};

#[derive(Args, Clone)]
pub struct DemoOptions {
    /// Directory of the departures: one CSV file (.csv, .csv.gz, .csv.zst) per airport
    #[arg(long, default_value = "examples/data/flights")]
    data: PathBuf,
    /// Directory of the results
    #[arg(long, default_value = "out")]
    out: PathBuf,
    /// Directory of the state
    #[arg(long, default_value = "state-demo")]
    state: PathBuf,
    /// How far behind its latest flight an airport may report one, in minutes
    #[arg(long, default_value_t = 60)]
    bound_min: i64,
    /// Size of the windows, in minutes
    #[arg(long, default_value_t = 60)]
    window_min: i64,
    /// What to group by
    #[arg(long, value_enum, default_value_t = By::Carrier)]
    key: By,
    /// Worker threads; 0 for one per core
    #[arg(long, default_value_t = 0)]
    workers: usize,
    /// The most flights that one tick reads
    #[arg(long, default_value_t = 4096)]
    tick_max_events: usize,
    /// The least time between two commits, in milliseconds
    #[arg(long, default_value_t = 100)]
    commit_ms: u64,
    /// `max`, or how many times faster than it happened
    #[arg(long, default_value = "max")]
    speed: Speed,
    /// Memory for state, in KiB
    #[arg(long, default_value_t = 1 << 20)]
    memory_kib: u64,
    /// Committed changes that a restart may have to replay, in KiB
    #[arg(long, default_value_t = 64 << 10)]
    log_tail_kib: u64,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum By {
    Carrier,
    Origin,
    Dest,
}

impl By {
    fn name(self) -> &'static str {
        match self {
            By::Carrier => "carrier",
            By::Origin => "origin",
            By::Dest => "dest",
        }
    }
}

/// How fast the year passes.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Speed {
    Max,
    Times(f64),
}

impl std::str::FromStr for Speed {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "max" {
            return Ok(Speed::Max);
        }
        match text.parse::<f64>() {
            Ok(factor) if factor.is_finite() && factor > 0.0 => Ok(Speed::Times(factor)),
            _ => Err("expected `max` or a factor above zero".to_owned()),
        }
    }
}

#[derive(Clone, Serialize, Deserialize)]
struct Departure {
    departed: EventTime,
    scheduled: EventTime,
    carrier: String,
    flight: u32,
    origin: String,
    dest: String,
    dep_delay_min: i64,
}

#[derive(Clone, Serialize)]
struct Hourly {
    key: String,
    start: EventTime,
    end: EventTime,
    count: u64,
    sum_delay_min: i64,
    mean_delay_min: f64,
}

#[derive(Clone, Serialize)]
struct LateDeparture {
    origin: String,
    scheduled: EventTime,
    carrier: String,
    flight: u32,
    late_by_s: i64,
    reason: LateReason,
}

/// Holds flights back until their time has come.
struct Pace {
    speed: Speed,
    started: Instant,
}

impl Pace {
    fn wait(&self, first: &std::sync::OnceLock<EventTime>, departed: EventTime) {
        if let Speed::Times(factor) = self.speed {
            let passed = departed - *first.get_or_init(|| departed);
            let due = Duration::from_secs_f64((passed.as_micros().max(0) as f64 / 1e6) / factor);
            std::thread::sleep(due.saturating_sub(self.started.elapsed()));
        }
    }
}

fn flow(options: &DemoOptions) -> (Flow, impl Iterator<Item = Hourly> + Send + use<>) {
    // The key is part of the name, so that the state of one grouping is not taken for another's.
    let flow = Flow::new(&format!("on-time by {}", options.key.name()));
    let pattern = options.data.join("*.csv*");
    let pace = Pace { speed: options.speed, started: Instant::now() };
    let first = std::sync::OnceLock::new();
    let by = options.key;
    let hourly = flow
        .source("departures", CsvFiles::<Departure>::glob(pattern.to_string_lossy()))
        .inspect(move |d| pace.wait(&first, d.departed))
        .event_time(|d| d.scheduled, Disorder::at_most(minutes(options.bound_min)))
        .key_by(move |d| match by {
            By::Carrier => &d.carrier,
            By::Origin => &d.origin,
            By::Dest => &d.dest,
        })
        .window("hourly", Tumbling::of(minutes(options.window_min)))
        .aggregate(Stats::of(|d: &Departure| d.dep_delay_min));
    let (collected, results) = channel();
    let rows = hourly.map(|r: WindowResult<String, Stats<i64>>| Hourly {
        key: r.key,
        start: r.window.start,
        end: r.window.end,
        count: r.value.count,
        sum_delay_min: r.value.sum,
        mean_delay_min: r.value.mean,
    });
    rows.sink("out/hourly", JsonLines::to(options.out.join("hourly")));
    rows.sink("table", collected);
    hourly
        .late()
        .map(|late: Late<Departure>| LateDeparture {
            origin: late.row.origin,
            scheduled: late.row.scheduled,
            carrier: late.row.carrier,
            flight: late.row.flight,
            late_by_s: late.late_by.as_micros() / 1_000_000,
            reason: late.reason,
        })
        .sink("out/late", JsonLines::to(options.out.join("late")));
    (flow, results)
}

fn settings(options: &DemoOptions) -> Settings {
    let settings = Settings::at(&options.state)
        .memory_budget(options.memory_kib << 10)
        .log_tail_limit(options.log_tail_kib << 10)
        .commit_interval(Duration::from_millis(options.commit_ms))
        .tick_max_events(match options.speed {
            Speed::Max => options.tick_max_events,
            // A tick that waits for its flights should not wait for many.
            Speed::Times(_) => options.tick_max_events.min(16),
        });
    if options.workers == 0 { settings } else { settings.workers(options.workers) }
}

/// Prints the plan.
pub fn plan(options: &DemoOptions, mermaid: bool) -> Result<(), Error> {
    let (flow, _) = flow(options);
    say!("{}", if mermaid { flow.mermaid()? } else { flow.plan()? });
    Ok(())
}

/// Compares the flow with a state directory or a snapshot.
pub fn check(options: &DemoOptions, snapshot: &Path) -> Result<(), Error> {
    let check = flow(options).0.check_state(snapshot)?;
    say!("{check}");
    if check.is_fine() {
        return Ok(());
    }
    Err(Error::input(format!("the flow cannot go on from {}", snapshot.display())))
}

/// Runs the flow, with a progress bar, and shows what came out.
pub fn run(options: &DemoOptions) -> Result<(), Error> {
    let (flow, results) = flow(options);
    let started = Instant::now();
    let handle = flow.spawn(settings(options))?;
    handle.stop_on_ctrl_c()?;
    let progress = progress_bar();
    let best_and_worst = std::thread::spawn(move || extremes(results));
    while !handle.is_finished() {
        std::thread::sleep(Duration::from_millis(20));
        show_progress(&progress, &handle.metrics());
    }
    progress.finish_and_clear();
    let metrics = handle.wait()?;
    let rows = best_and_worst.join().unwrap_or_default();
    let state = options.state.display();
    match metrics.resumed_from {
        Some(tick) if metrics.ticks == 0 => {
            sayln!("Finished at tick {tick} of {state}: there was nothing left to do.");
        }
        Some(tick) => sayln!("Continued after tick {tick} of {state}."),
        None => {}
    }
    report(&metrics, &rows, started.elapsed());
    sayln!(
        "\n{} and {} hold every result and every late flight.",
        options.out.join("hourly").display(),
        options.out.join("late").display()
    );
    if !metrics.finished {
        sayln!("Stopped before the end: the same command goes on from here.");
    }
    Ok(())
}

fn progress_bar() -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = "{spinner} {pos} flights, {per_sec}, {msg}";
    let bar = ProgressBar::new_spinner();
    if let Ok(style) = ProgressStyle::with_template(style) {
        bar.set_style(style);
    }
    bar
}

fn show_progress(bar: &ProgressBar, metrics: &Metrics) {
    let Some(source) = metrics.operator("departures") else { return };
    bar.set_position(source.counters.events_in);
    if let Some(hourly) = metrics.operator("hourly") {
        let late = grouped(hourly.counters.late);
        bar.set_message(format!("watermark {}, {late} late", hourly.watermark));
    }
}

/// The three worst and the three best hours of the results of this run.
fn extremes(results: impl Iterator<Item = Hourly>) -> Vec<Row> {
    let mut rows: Vec<Row> = results
        .filter(|r| r.count >= 10)
        .map(|r| Row { key: r.key, start: r.start, count: r.count, mean_min: r.mean_delay_min })
        .collect();
    rows.sort_by(|a, b| b.mean_min.total_cmp(&a.mean_min).then_with(|| a.start.cmp(&b.start)));
    if rows.len() > 6 {
        rows.drain(3..rows.len() - 3);
    }
    rows
}
