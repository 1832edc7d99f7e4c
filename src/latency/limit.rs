//! The highest rate that a flow keeps up with.

use std::time::Duration;

use super::load::{Load, Setup};
use super::outcome::Outcome;
use crate::error::Error;
use crate::flow::Flow;
use crate::settings::Settings;

/// How many times the interval between a rate that is sustained and one that is not is halved.
const STEPS: usize = 5;

/// How long a rate is tried while the limit is looked for.
const TRIAL: Duration = Duration::from_secs(5);

/// What was found by [`Load::find_limit`].
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Limit {
    /// The highest rate that was sustained for the load's whole time, in events per second; 0 if
    /// none was.
    pub rate: f64,
    /// Every rate that was tried, in turn.
    pub trials: Vec<Trial>,
}

/// A rate that was tried.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Trial {
    /// Events per second.
    pub rate: f64,
    /// Whether the flow kept up.
    pub sustained: bool,
    /// The 99th percentile of the latency, in µs.
    pub p99_micros: u64,
}

impl Load {
    /// Looks for the highest rate that a flow keeps up with: twice as much until it does not,
    /// then halving the interval, in runs of 5 s at most; what is found then has to be sustained
    /// for the load's whole time, or 5 % less is tried. It begins at the load's own rate.
    ///
    /// `flow` is called for each run. Where the settings name a state directory, each run has a
    /// directory of its own within it.
    ///
    /// # Errors
    /// As [`run`](Load::run).
    pub fn find_limit(
        &self,
        settings: &Settings,
        mut flow: impl FnMut(&Setup) -> Flow,
    ) -> Result<Limit, Error> {
        let mut trials = Vec::new();
        let mut run = |load: Load| -> Result<bool, Error> {
            let mut settings = settings.clone();
            if let Some(dir) = &mut settings.state {
                dir.push(format!("trial-{}", trials.len()));
            }
            let outcome: Outcome = load.run(settings, &mut flow)?;
            let sustained = outcome.is_sustained();
            let p99_micros = outcome.micros_at(0.99);
            trials.push(Trial { rate: load.rate(), sustained, p99_micros });
            Ok(sustained)
        };
        let trial = |rate: f64| {
            self.at(rate).lasting(TRIAL.min(self.lasting)).patience(Duration::from_secs(2))
        };
        let (mut low, mut high) = (0.0, self.rate());
        while run(trial(high))? {
            (low, high) = (high, high * 2.0);
        }
        for _ in 0..STEPS {
            let middle = f64::midpoint(low, high);
            if run(trial(middle))? {
                low = middle;
            } else {
                high = middle;
            }
        }
        let mut rate = low;
        while rate >= 1.0 && !run(self.at(rate))? {
            rate *= 0.95;
        }
        Ok(Limit { rate: if rate >= 1.0 { rate } else { 0.0 }, trials })
    }
}
