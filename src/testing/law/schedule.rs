//! A schedule: in what order events are pushed, and what happens in between.

use std::fmt;

use super::feed::AnyFeed;
use crate::engine::dice::Dice;

/// One thing that is done to a driver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Push { feed: usize, partition: usize, index: usize },
    Tick,
    Commit,
    Crash,
    CrashInTick { commit: bool, steps: usize },
    Rescale(usize),
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Step::Push { .. } => f.write_str("push"),
            Step::Tick => f.write_str("tick"),
            Step::Commit => f.write_str("tick, committed"),
            Step::Crash => f.write_str("crash and restart"),
            Step::CrashInTick { commit, steps } => {
                let what = if *commit { "committed tick" } else { "tick" };
                write!(f, "crash after {steps} steps in a {what}, and restart")
            }
            Step::Rescale(workers) => write!(f, "crash and restart with {workers} workers"),
        }
    }
}

#[derive(Clone, Debug)]
pub(super) struct Schedule {
    pub(super) workers: usize,
    /// Everything is forgotten after each commit.
    pub(super) forgetful: bool,
    /// Decides which worker goes next.
    pub(super) seed: u64,
    pub(super) steps: Vec<Step>,
}

const CUTS: [usize; 5] = [1, 7, 100, 1000, usize::MAX];

impl Schedule {
    /// Everything in one tick, partition by partition, with one worker.
    pub(super) fn plain(feeds: &[Box<dyn AnyFeed>]) -> Self {
        let mut steps = Vec::new();
        for (feed, any) in feeds.iter().enumerate() {
            for (partition, length) in any.lengths().into_iter().enumerate() {
                steps.extend((0..length).map(|index| Step::Push { feed, partition, index }));
            }
        }
        Schedule { workers: 1, forgetful: false, seed: 0, steps }
    }

    /// The schedule of the same pushes with nothing in between.
    pub(super) fn made_plain(&self) -> Self {
        let mut steps = self.steps.clone();
        steps.retain(|step| matches!(step, Step::Push { .. }));
        steps.sort_by_key(|step| match step {
            Step::Push { feed, partition, index } => (*feed, *partition, *index),
            _ => (0, 0, 0),
        });
        Schedule { workers: 1, forgetful: false, seed: 0, steps }
    }

    /// The schedule of a seed: everything in it follows from the seed and the input.
    pub(super) fn random(feeds: &[Box<dyn AnyFeed>], seed: u64) -> Self {
        let mut dice = Dice::new(seed);
        let (cut, workers) = (CUTS[dice.below(CUTS.len())], 1 + dice.below(3));
        let (forgetful, crashes) = (dice.below(4) == 0, dice.below(3) > 0);
        let mut left: Vec<(usize, usize, usize, usize)> = Vec::new();
        for (feed, any) in feeds.iter().enumerate() {
            for (partition, length) in any.lengths().into_iter().enumerate() {
                left.push((feed, partition, 0, length));
            }
        }
        left.retain(|(.., length)| *length > 0);
        let (mut steps, mut since) = (Vec::new(), 0);
        let longest = 1 + dice.below(8);
        while !left.is_empty() {
            let chosen = dice.below(left.len());
            for _ in 0..=dice.below(longest) {
                let (feed, partition, index, length) = &mut left[chosen];
                steps.push(Step::Push { feed: *feed, partition: *partition, index: *index });
                *index += 1;
                since += 1;
                if since >= cut {
                    since = 0;
                    Self::between(&mut dice, crashes, &mut steps);
                }
                if *index == *length {
                    left.remove(chosen);
                    break;
                }
            }
            // Crashes happen in long ticks too, in which nothing else does.
            if crashes && cut > 7 && dice.below(16) == 0 {
                Self::between(&mut dice, crashes, &mut steps);
            }
        }
        Schedule { workers, forgetful, seed: dice.roll(), steps }
    }

    /// What happens when a tick is full.
    fn between(dice: &mut Dice, crashes: bool, steps: &mut Vec<Step>) {
        steps.push(if dice.below(3) == 0 { Step::Commit } else { Step::Tick });
        if !crashes {
            return;
        }
        match dice.below(16) {
            0 | 1 => steps.push(Step::Crash),
            2 => steps.push(Step::Rescale(1 + dice.below(3))),
            3 => {
                let (commit, long) = (dice.below(2) == 0, dice.below(40));
                steps.push(Step::CrashInTick { commit, steps: long });
            }
            _ => {}
        }
    }

    pub(super) fn pushes(&self) -> usize {
        self.steps.iter().filter(|step| matches!(step, Step::Push { .. })).count()
    }

    pub(super) fn crashes(&self) -> usize {
        let crash = |step: &&Step| !matches!(step, Step::Push { .. } | Step::Tick | Step::Commit);
        self.steps.iter().filter(crash).count()
    }
}
