//! Contests: programs that do the same job run in turn, and lines of one report say how they did.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use highwater::{Error, Flow, Settings};

use crate::check::{Check, Total};
use crate::clock;

/// What a flow promises while it is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rung {
    /// State in memory; nothing survives.
    Volatile,
    /// Exactly once, with commits that are synced to disk, this often.
    Durable(Duration),
}

impl Rung {
    pub(crate) const R2: Rung = Rung::Durable(Duration::from_millis(100));
    pub(crate) const R2_FAST: Rung = Rung::Durable(Duration::from_millis(10));
}

/// One run of one program.
#[derive(Clone, Debug)]
pub(crate) struct Lap {
    pub(crate) time: Duration,
    pub(crate) events: u64,
    pub(crate) check: Check,
    /// More that is worth a word.
    pub(crate) note: String,
}

impl Lap {
    pub(crate) fn new(started: Instant, events: u64, check: Check) -> Self {
        Lap::of(started.elapsed(), events, check)
    }

    pub(crate) fn of(time: Duration, events: u64, check: Check) -> Self {
        Lap { time, events, check, note: String::new() }
    }

    fn rate(&self) -> f64 {
        self.events as f64 / self.time.as_secs_f64() / 1e6
    }
}

pub(crate) fn exit(error: impl std::fmt::Display) -> ! {
    eprintln!("{error}");
    std::process::exit(1)
}

pub(crate) fn or_exit<T>(result: Result<T, impl std::fmt::Display>) -> T {
    result.unwrap_or_else(|error| exit(error))
}

/// A directory on a real disk, removed when dropped. `WORKLOADS_DIR` names another place.
pub(crate) fn directory() -> tempfile::TempDir {
    let root = std::env::var_os("WORKLOADS_DIR").map(PathBuf::from);
    let root = root.unwrap_or_else(|| env!("CARGO_TARGET_TMPDIR").into());
    or_exit(std::fs::create_dir_all(&root));
    or_exit(tempfile::Builder::new().prefix("workloads-").tempdir_in(root))
}

/// The settings of a rung. On the volatile one nothing is committed but the end.
pub(crate) fn settings(rung: Rung, state: &Path) -> Settings {
    match rung {
        Rung::Volatile => Settings::in_memory().commit_interval(Duration::from_secs(3600)),
        Rung::Durable(every) => Settings::at(state).commit_interval(every),
    }
}

/// Runs a flow whose results go to a [`CheckSink`](crate::check::CheckSink).
pub(crate) fn run(flow: Flow, total: &Total, events: u64, rung: Rung, workers: usize) -> Lap {
    let dir = directory();
    let settings = settings(rung, &dir.path().join("state")).workers(workers);
    let time = or_exit(run_quietly(flow, settings));
    Lap::of(time, events, total.get())
}

/// As `Flow::run`, but Ctrl-C ends the bench. Returns the time from the opening of the source to
/// the last commit.
pub(crate) fn run_quietly(flow: Flow, settings: Settings) -> Result<Duration, Error> {
    Ok(run_from(flow, settings)?.elapsed())
}

/// The same, and returns when the source was opened.
pub(crate) fn run_from(flow: Flow, settings: Settings) -> Result<Instant, Error> {
    clock::opened();
    flow.spawn(settings)?.wait()?;
    Ok(clock::opened())
}

/// CPU time of this process and its children so far, also of those that have ended.
pub(crate) fn cpu() -> Duration {
    let text = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields = text.rsplit(')').next().unwrap_or_default().split_whitespace();
    // User and system time of both, in hundredths of a second.
    let ticks: u64 = fields.skip(11).take(4).filter_map(|field| field.parse::<u64>().ok()).sum();
    Duration::from_millis(ticks * 10)
}

pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

const CONTROL: &str = "control";

type Program<'a> = Box<dyn FnMut() -> Lap + 'a>;

/// Where a line stands in the report.
struct Entrant<'a> {
    name: String,
    rung: &'static str,
    /// Lines that come later tell their share of this one, under this name.
    mark: Option<&'static str>,
    /// Only programs of one job have equal results.
    job: usize,
    program: Program<'a>,
    laps: Vec<(Lap, Duration)>,
}

/// Programs that are to be compared.
pub(crate) struct Contest<'a> {
    title: String,
    entrants: Vec<Entrant<'a>>,
    job: usize,
}

impl<'a> Contest<'a> {
    pub(crate) fn new(title: impl Into<String>) -> Self {
        Contest { title: title.into(), entrants: Vec::new(), job: 0 }
    }

    /// What is added from here on has results of its own.
    pub(crate) fn another_job(&mut self) {
        self.job += 1;
    }

    fn enter(
        &mut self,
        (name, rung): (&str, &'static str),
        mark: Option<&'static str>,
        program: impl FnMut() -> Lap + 'a,
    ) {
        let (name, program) = (name.to_owned(), Box::new(program));
        self.entrants.push(Entrant { name, rung, mark, job: self.job, program, laps: vec![] });
    }

    /// A program to compare with.
    pub(crate) fn control(&mut self, name: &'static str, program: impl FnMut() -> Lap + 'a) {
        self.enter((name, CONTROL), Some(name), program);
    }

    /// A flow of the volatile rung that others are compared with, by this name.
    pub(crate) fn marked(
        &mut self,
        mark: &'static str,
        name: &str,
        program: impl FnMut(Rung) -> Lap + 'a,
    ) {
        self.flow(Rung::Volatile, Some(mark), name, program);
    }

    pub(crate) fn volatile(&mut self, name: &str, program: impl FnMut(Rung) -> Lap + 'a) {
        self.flow(Rung::Volatile, None, name, program);
    }

    pub(crate) fn durable(
        &mut self,
        rung: Rung,
        name: &str,
        program: impl FnMut(Rung) -> Lap + 'a,
    ) {
        self.flow(rung, None, name, program);
    }

    pub(crate) fn flow(
        &mut self,
        rung: Rung,
        mark: Option<&'static str>,
        name: &str,
        mut program: impl FnMut(Rung) -> Lap + 'a,
    ) {
        let text = match rung {
            Rung::Volatile => "R1",
            Rung::Durable(every) if every < Duration::from_millis(100) => "R2 10 ms",
            Rung::Durable(_) => "R2 100 ms",
        };
        self.enter((name, text), mark, move || program(rung));
    }

    /// Runs everything in turn, `rounds` times, and prints the lines.
    pub(crate) fn run(mut self, rounds: usize) -> Outcome {
        println!("\n{}", self.title);
        for _ in 0..rounds {
            for entrant in &mut self.entrants {
                let before = cpu();
                let lap = (entrant.program)();
                entrant.laps.push((lap, cpu() - before));
            }
            self.compare();
        }
        let lines = self.entrants.iter().enumerate().map(|(index, _)| self.line(index));
        let outcome = Outcome { lines: lines.collect() };
        outcome.print();
        outcome
    }

    /// Programs of one job must have equal results.
    fn compare(&self) {
        for entrant in &self.entrants {
            let first = self.entrants.iter().find(|other| other.job == entrant.job);
            let expected = first.and_then(|first| Some((&first.name, first.laps.last()?.0.check)));
            let found = entrant.laps.last().map(|(lap, _)| lap.check);
            match (expected, found) {
                (Some((_, expected)), Some(found)) if expected == found => {}
                (expected, found) => exit(format!(
                    "results differ: `{}` has {found:?}, and {expected:?}",
                    entrant.name
                )),
            }
        }
    }

    fn line(&self, index: usize) -> Line {
        let entrant = &self.entrants[index];
        let rates: Vec<f64> = entrant.laps.iter().map(|(lap, _)| lap.rate()).collect();
        // Controls are for their own job; a flow that is marked is for all of them.
        let fits = |other: &&Entrant<'_>| other.job == entrant.job || other.rung != CONTROL;
        let earlier = self.entrants[..index].iter().filter(fits);
        let earlier = earlier.filter_map(|other| Some((other.mark?, other)));
        let shares = earlier.map(|(mark, other)| {
            let pairs = rates.iter().zip(&other.laps).map(|(rate, (lap, _))| rate / lap.rate());
            (mark, median(pairs.collect()))
        });
        let cpu = entrant.laps.iter().map(|(lap, cpu)| cpu.as_nanos() as f64 / lap.events as f64);
        let last = entrant.laps.last().map(|(lap, _)| lap);
        Line {
            name: entrant.name.clone(),
            rung: entrant.rung,
            shares: shares.collect(),
            cpu_nanos: median(cpu.collect()),
            events: last.map_or(0, |lap| lap.events),
            results: last.map_or(0, |lap| lap.check.results),
            note: last.map_or(String::new(), |lap| lap.note.clone()),
            rates,
        }
    }
}

/// One program in the report.
pub(crate) struct Line {
    name: String,
    rung: &'static str,
    rates: Vec<f64>,
    shares: Vec<(&'static str, f64)>,
    /// Of all threads, per event.
    cpu_nanos: f64,
    events: u64,
    results: u64,
    note: String,
}

/// What a contest has shown.
pub(crate) struct Outcome {
    lines: Vec<Line>,
}

impl Outcome {
    fn print(&self) {
        for line in &self.lines {
            let least = line.rates.iter().copied().fold(f64::MAX, f64::min);
            let most = line.rates.iter().copied().fold(0.0, f64::max);
            print!(
                "  {:<34} {:<9} {:>6.2} M/s ({least:.2} to {most:.2}), cpu {:.0} ns, {} events, \
                 {} results",
                line.name,
                line.rung,
                median(line.rates.clone()),
                line.cpu_nanos,
                line.events,
                line.results,
            );
            line.shares.iter().for_each(|(mark, share)| print!("; {share:.2}x {mark}"));
            println!("{}", line.note);
        }
    }

    fn line(&self, name: &str, rung: &str) -> Option<&Line> {
        self.lines.iter().find(|line| line.name == name && line.rung == rung)
    }

    /// Median million events a second.
    pub(crate) fn rate(&self, name: &str, rung: &str) -> f64 {
        self.line(name, rung).map_or(f64::NAN, |line| median(line.rates.clone()))
    }

    /// Median of the shares of what is marked so.
    pub(crate) fn share(&self, name: &str, rung: &str, mark: &str) -> f64 {
        let line = self.line(name, rung);
        let share = line.and_then(|line| line.shares.iter().find(|share| share.0 == mark));
        share.map_or(f64::NAN, |share| share.1)
    }
}

struct Goal {
    name: String,
    figure: String,
    met: bool,
}

/// What the workloads share.
pub(crate) struct Bench {
    pub(crate) events: u64,
    pub(crate) rounds: usize,
    goals: Vec<Goal>,
}

impl Bench {
    pub(crate) fn new(events: u64, rounds: usize) -> Self {
        Bench { events, rounds, goals: Vec::new() }
    }

    /// A figure that is at least so much.
    pub(crate) fn at_least(&mut self, name: &str, figure: f64, least: f64) {
        let figures = format!("{figure:.2}, at least {least}");
        self.goals.push(Goal { name: name.into(), figure: figures, met: figure >= least });
    }

    /// A figure that is at most so much.
    pub(crate) fn at_most(&mut self, name: &str, figure: f64, most: f64) {
        let figures = format!("{figure:.2}, at most {most}");
        self.goals.push(Goal { name: name.into(), figure: figures, met: figure <= most });
    }

    pub(crate) fn print_goals(&self) {
        if !self.goals.is_empty() {
            println!("\ngoals");
        }
        for Goal { name, figure, met } in &self.goals {
            println!("  {:<6} {name:<58} {figure}", if *met { "met" } else { "MISSED" });
        }
    }
}
