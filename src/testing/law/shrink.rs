//! From a schedule that gives other results to the smallest one that still does.

use super::report::Violation;
use super::run::{Outcome, Runner};
use super::schedule::{Schedule, Step};

/// How many pairs of runs may be spent on it.
const BUDGET: usize = 2000;

struct Shrinker<'a> {
    runner: &'a Runner<'a>,
    left: usize,
}

impl Shrinker<'_> {
    /// The outcomes of a plain run and of the schedule, if they differ.
    fn differs(&mut self, schedule: &Schedule) -> Option<(Outcome, Outcome)> {
        self.left = self.left.checked_sub(1)?;
        let expected = self.runner.run(&schedule.made_plain());
        let found = self.runner.run(schedule);
        // An input on which the flow fails in any case shows nothing.
        let shows = expected != found && !matches!(expected, Outcome::Failed(_));
        shows.then_some((expected, found))
    }

    /// Leaves steps out, in ever smaller pieces, as long as the difference stays.
    fn drop_steps(&mut self, schedule: &mut Schedule) -> bool {
        let mut shrunk = false;
        let mut size = schedule.steps.len().div_ceil(2).max(1);
        loop {
            let mut at = 0;
            while at < schedule.steps.len() {
                let mut smaller = schedule.clone();
                let end = (at + size).min(smaller.steps.len());
                smaller.steps.drain(at..end);
                if self.differs(&smaller).is_some() {
                    *schedule = smaller;
                    shrunk = true;
                } else {
                    at += size;
                }
            }
            if size == 1 {
                return shrunk;
            }
            size = size.div_ceil(2);
        }
    }

    /// Makes everything else plainer, one thing at a time.
    fn simplify(&mut self, schedule: &mut Schedule) -> bool {
        let mut shrunk = false;
        let mut simpler = Vec::new();
        for workers in 1..schedule.workers {
            simpler.push(Schedule { workers, ..schedule.clone() });
        }
        if schedule.forgetful {
            simpler.push(Schedule { forgetful: false, ..schedule.clone() });
        }
        if schedule.seed != 0 {
            simpler.push(Schedule { seed: 0, ..schedule.clone() });
        }
        for at in 0..schedule.steps.len() {
            let plainer: &[Step] = match schedule.steps[at] {
                Step::Push { .. } | Step::Tick => &[],
                Step::Commit => &[Step::Tick],
                Step::Crash => &[Step::Tick, Step::Commit],
                Step::CrashInTick { .. } | Step::Rescale(_) => &[Step::Tick, Step::Crash],
            };
            for step in plainer {
                let mut schedule = schedule.clone();
                schedule.steps[at] = *step;
                simpler.push(schedule);
            }
        }
        for candidate in simpler {
            if self.differs(&candidate).is_some() {
                *schedule = candidate;
                shrunk = true;
                break;
            }
        }
        shrunk
    }
}

/// The smallest schedule that was found to differ from a plain run.
pub(super) fn smallest(runner: &Runner<'_>, first: Schedule, seed: u64) -> Violation {
    let mut shrinker = Shrinker { runner, left: BUDGET };
    let mut schedule = first.clone();
    let original = first.pushes();
    while shrinker.drop_steps(&mut schedule) || shrinker.simplify(&mut schedule) {}
    shrinker.left = 1;
    let outcomes = shrinker.differs(&schedule);
    Violation::difference(runner, &schedule, outcomes, seed, original)
}
