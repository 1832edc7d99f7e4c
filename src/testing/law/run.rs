//! One run of a flow by a schedule.

use super::LawInput;
use super::schedule::{Schedule, Step};
use crate::error::Error;
use crate::flow::Flow;
use crate::testing::TestDriver;

pub(super) struct Runner<'a> {
    pub(super) flow: &'a dyn Fn() -> Flow,
    pub(super) input: &'a LawInput,
    /// Which views are compared.
    pub(super) compared: Vec<usize>,
}

/// What came of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// By view that is compared, what must be the same in every run.
    Done(Vec<Vec<String>>),
    /// The flow stopped with an error, or broke a rule that holds for every run.
    Failed(String),
}

impl Runner<'_> {
    pub(super) fn run(&self, schedule: &Schedule) -> Outcome {
        let done = self.drive(schedule).and_then(|driver| {
            let views = self.compared.iter().map(|view| &self.input.views[*view].0);
            views.map(|view| view.compared(&driver).map_err(|e| e.to_string())).collect()
        });
        match done {
            Ok(views) => Outcome::Done(views),
            Err(error) => Outcome::Failed(error),
        }
    }

    /// All rows of all views, in order.
    pub(super) fn rows_in_order(&self, schedule: &Schedule) -> Result<Vec<Vec<String>>, String> {
        let mut driver = self.drive(schedule)?;
        let views = self.input.views.iter();
        let rows = views.map(|(view, _)| view.rows(&driver).map_err(|e| e.to_string()));
        let mut rows = rows.collect::<Result<Vec<_>, _>>()?;
        rows.push(vec![format!("next random number {}", driver.random())]);
        Ok(rows)
    }

    fn drive(&self, schedule: &Schedule) -> Result<TestDriver, String> {
        let builder = TestDriver::builder((self.flow)()).workers(schedule.workers);
        let memory = if schedule.forgetful { 0 } else { usize::MAX };
        let builder = builder.seed(schedule.seed).memory(memory);
        let mut driver = builder.start().map_err(|e| explain(&e))?;
        let mut read = vec![0u64; self.input.feeds.len()];
        for step in &schedule.steps {
            if let Step::Push { feed, .. } = step {
                read[*feed] += 1;
            }
            self.step(&mut driver, step).map_err(|e| explain(&e))?;
            balanced(&driver)?;
        }
        for feed in &self.input.feeds {
            feed.finish(&driver).map_err(|e| explain(&e))?;
        }
        driver.tick().map_err(|e| explain(&e))?;
        balanced(&driver)?;
        if !driver.is_finished() {
            return Err("the flow did not finish: has it a source that is not fed?".to_owned());
        }
        for (feed, pushed) in self.input.feeds.iter().zip(read) {
            let found = driver.counters(feed.source()).events_in;
            if found != pushed {
                let source = feed.source();
                return Err(format!("of `{source}` {found} events were read, not {pushed}"));
            }
        }
        Ok(driver)
    }

    fn step(&self, driver: &mut TestDriver, step: &Step) -> Result<(), Error> {
        match *step {
            Step::Push { feed, partition, index } => {
                self.input.feeds[feed].push(driver, partition, index)
            }
            Step::Tick => driver.tick(),
            Step::Commit => driver.commit(),
            Step::Crash => driver.crash_and_restart(),
            Step::CrashInTick { commit, steps } => {
                driver.crash_in_tick(commit, steps)?;
                driver.restart()
            }
            Step::Rescale(workers) => driver.rescale(workers),
        }
    }
}

fn balanced(driver: &TestDriver) -> Result<(), String> {
    let metrics = driver.metrics();
    match metrics.operators.iter().find(|o| !o.counters.balanced()) {
        Some(o) => Err(format!("`{}` cannot account for its input: {:?}", o.id, o.counters)),
        None => Ok(()),
    }
}

fn explain(error: &Error) -> String {
    format!("the flow stopped: {error}")
}
