//! What [`check_law`](super::check_law) has to say.

use std::fmt;
use std::fmt::Write as _;

use super::LawInput;
use super::run::{Outcome, Runner};
use super::schedule::{Schedule, Step};

/// How much was tried without a difference.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LawReport {
    runs: usize,
    compared: usize,
    crashes: usize,
    by_workers: [usize; 3],
}

impl LawReport {
    pub(super) fn new(compared: usize) -> Self {
        LawReport { compared, ..Self::default() }
    }

    pub(super) fn count(&mut self, schedule: &Schedule) {
        self.runs += 1;
        self.crashes += schedule.crashes();
        if let Some(count) = self.by_workers.get_mut(schedule.workers - 1) {
            *count += 1;
        }
    }

    /// How many schedules were tried, beside the plain one.
    #[must_use]
    pub fn runs(&self) -> usize {
        self.runs
    }

    /// How many times a run crashed.
    #[must_use]
    pub fn crashes(&self) -> usize {
        self.crashes
    }

    /// How many things were compared between runs; the rest was checked for consistency.
    #[must_use]
    pub fn compared(&self) -> usize {
        self.compared
    }
}

impl fmt::Display for LawReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [one, two, three] = self.by_workers;
        write!(
            f,
            "{} runs ({one} with 1 worker, {two} with 2, {three} with 3), {} crashes, {} compared",
            self.runs, self.crashes, self.compared
        )
    }
}

/// A flow that gives other results when its input comes in another way: the smallest case that
/// was found. [`Display`](fmt::Display) tells all of it.
pub struct Violation {
    text: String,
    seed: Option<u64>,
}

impl Violation {
    /// The seed with which [`LawInput::replay`] shows it again, before it was made smaller.
    #[must_use]
    pub fn seed(&self) -> Option<u64> {
        self.seed
    }

    pub(super) fn unusable(why: String) -> Self {
        Violation { text: format!("the law cannot be checked: {why}"), seed: None }
    }

    pub(super) fn broken(input: &LawInput, plain: &Schedule, error: String) -> Self {
        let mut text = format!("the plain run fails already: {error}\n");
        show_steps(&mut text, input, plain);
        Violation { text, seed: None }
    }

    pub(super) fn not_repeatable(input: &LawInput, schedule: &Schedule, seed: u64) -> Self {
        let mut text = format!(
            "the same run twice gave other rows, or rows in another order: the flow draws from \
             a clock, a thread or a random number\nseed {seed}\n"
        );
        show_steps(&mut text, input, schedule);
        Violation { text, seed: Some(seed) }
    }

    pub(super) fn difference(
        runner: &Runner<'_>,
        schedule: &Schedule,
        outcomes: Option<(Outcome, Outcome)>,
        seed: u64,
        events: usize,
    ) -> Self {
        let mut text = "results depend on how the input came\n".to_owned();
        let (kept, workers) = (schedule.pushes(), schedule.workers);
        let _ = writeln!(text, "seed {seed}, made smaller from {events} events to {kept}");
        let forgetful = if schedule.forgetful { ", without memory for state" } else { "" };
        let _ = writeln!(text, "the run, with {workers} worker(s){forgetful}:");
        show_steps(&mut text, runner.input, schedule);
        match outcomes {
            Some((Outcome::Done(expected), Outcome::Done(found))) => {
                for (view, (expected, found)) in
                    runner.compared.iter().zip(expected.iter().zip(&found))
                {
                    let sink = runner.input.views[*view].0.sink();
                    show_difference(&mut text, sink, expected, found);
                }
            }
            Some((_, Outcome::Failed(error))) => {
                let _ = writeln!(text, "in this run only: {error}");
            }
            // It differed before, and does not now.
            _ => text.push_str("the difference does not show again\n"),
        }
        let _ = write!(text, "replay it with `.replay({seed})`");
        Violation { text, seed: Some(seed) }
    }
}

fn show_steps(text: &mut String, input: &LawInput, schedule: &Schedule) {
    for step in &schedule.steps {
        let _ = match step {
            Step::Push { feed, partition, index } => {
                let feed = &input.feeds[*feed];
                let row = feed.show(*partition, *index);
                writeln!(text, "  push {row} to `{}`, partition {partition}", feed.source())
            }
            step => writeln!(text, "  {step}"),
        };
    }
    text.push_str("  finish\n");
}

/// Both are sorted.
fn show_difference(text: &mut String, sink: &str, expected: &[String], found: &[String]) {
    let missing = without(expected, found);
    let added = without(found, expected);
    if missing.is_empty() && added.is_empty() {
        return;
    }
    let _ = writeln!(text, "sink `{sink}`, only if all comes in one tick on one worker:");
    list(text, &missing);
    let _ = writeln!(text, "sink `{sink}`, only in this run:");
    list(text, &added);
}

fn list(text: &mut String, rows: &[&String]) {
    if rows.is_empty() {
        text.push_str("  nothing\n");
    }
    for row in rows {
        let _ = writeln!(text, "  {row}");
    }
}

/// The rows of a bag that another one does not have.
fn without<'a>(bag: &'a [String], other: &[String]) -> Vec<&'a String> {
    let mut other: Vec<&String> = other.iter().collect();
    let mut rest = Vec::new();
    for row in bag {
        match other.iter().position(|o| *o == row) {
            Some(at) => drop(other.swap_remove(at)),
            None => rest.push(row),
        }
    }
    rest
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// As [`Display`](fmt::Display), so that `unwrap` in a test prints all of it.
impl fmt::Debug for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for Violation {}
