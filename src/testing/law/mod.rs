//! The law of the house, checked on a user's own flow: whatever the ticks, the interleaving of
//! partitions, the workers and the crashes, results are the same.

mod feed;
mod report;
mod run;
mod schedule;
mod shrink;

use std::fmt::Debug;

pub use report::{LawReport, Violation};

use crate::engine::dice::Dice;
use crate::event::Data;
use crate::flow::Flow;
use crate::operator::Class;
use feed::{AnyFeed, AnyView, Bag, Invariant, Last, TypedFeed};
use run::{Outcome, Runner};
use schedule::Schedule;

/// What [`check_law`] feeds a flow, what it looks at, and how much it tries.
///
/// ```
/// use highwater::testing::LawInput;
/// let input = LawInput::new()
///     .partitions("events", vec![vec![3u64, 1], vec![2]])
///     .compare::<u64>("out")
///     .runs(50);
/// # let _ = input;
/// ```
#[must_use]
#[derive(Default)]
pub struct LawInput {
    feeds: Vec<Box<dyn AnyFeed>>,
    views: Vec<(Box<dyn AnyView>, Scope)>,
    seed: u64,
    runs: Option<usize>,
    replay: Option<u64>,
}

/// For which sinks something is looked at.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Scope {
    /// Those whose results are a function of the input alone, as the plan says.
    ClassInput,
    Any,
}

/// How many schedules are tried unless something else is said.
const RUNS: usize = 100;

impl LawInput {
    /// Nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// What the partitions of a [`Pushed`](super::Pushed) source contain.
    pub fn partitions<T: Data + Debug>(mut self, source: &str, partitions: Vec<Vec<T>>) -> Self {
        self.feeds.push(Box::new(TypedFeed { source: source.to_owned(), partitions }));
        self
    }

    /// Compares the rows of a sink, as a bag, if the plan says that they are of class Input. For
    /// a sink of another class the flow is checked for consistency alone.
    pub fn compare<T: Data + Debug>(mut self, sink: &str) -> Self {
        self.views.push((Box::new(Bag::<T>::of(sink)), Scope::ClassInput));
        self
    }

    /// Compares the rows of a sink, as a bag, whatever their class: for an operator that acts on
    /// arrival, and of which you believe that the order makes no difference.
    pub fn compare_any_class<T: Data + Debug>(mut self, sink: &str) -> Self {
        self.views.push((Box::new(Bag::<T>::of(sink)), Scope::Any));
        self
    }

    /// Compares the last row of each key, whatever the class of the sink: the final state, of a
    /// running total for example.
    pub fn compare_last<T: Data + Debug, K: Ord + 'static>(
        mut self,
        sink: &str,
        key: impl Fn(&T) -> K + 'static,
    ) -> Self {
        let key = Box::new(key);
        self.views.push((Box::new(Last { sink: sink.to_owned(), key }), Scope::Any));
        self
    }

    /// Checks something of all rows of a sink at the end of each run, whatever its class.
    pub fn invariant<T: Data + Debug>(
        mut self,
        sink: &str,
        check: impl Fn(&[T]) -> Result<(), String> + 'static,
    ) -> Self {
        let check = Box::new(check);
        self.views.push((Box::new(Invariant { sink: sink.to_owned(), check }), Scope::Any));
        self
    }

    /// What the schedules are made of. Default: 0.
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// How many schedules are tried. Default: 100.
    pub fn runs(mut self, runs: usize) -> Self {
        self.runs = Some(runs);
        self
    }

    /// Tries one schedule alone: the one whose seed a violation has printed.
    pub fn replay(mut self, seed: u64) -> Self {
        self.replay = Some(seed);
        self
    }
}

/// Runs a flow on the same input in many ways, and compares what comes out: ticks of 1, 7, 100,
/// 1,000 and all events, partitions interleaved at random, 1 to 3 workers that are stepped in a
/// random order, commits, crashes between ticks and in the middle of them, state that is
/// forgotten after each commit and read again. The plain run that the others are compared with
/// has one worker and one tick.
///
/// Of every run it also demands that each event was read once, and that at each tick's border
/// every operator can account for its input ([`Counters::balanced`](crate::Counters::balanced)).
/// Every tenth run is made twice, and must be the same to the order of rows.
///
/// `flow` builds the flow anew for each run, with [`Pushed`](super::Pushed) sources. The law
/// speaks of flows whose partitions do not become idle: clocks stand still here.
///
/// ```
/// use highwater::prelude::*;
/// use highwater::testing::{check_law, LawInput, Pushed};
///
/// fn flow() -> Flow {
///     let flow = Flow::new("sums");
///     flow.source("events", Pushed::<(u8, i64)>::partitions(2))
///         .event_time(|e| EventTime::from_micros(e.1), Disorder::at_most(micros(5)))
///         .key_by(|e| &e.0)
///         .window("sums", Tumbling::of(micros(10)))
///         // Right: adding is associative and commutative. `a - b` would be found out.
///         .aggregate(Reduce::of(|a: &(u8, i64), b: &(u8, i64)| (a.0, a.1 + b.1)))
///         .drop_late("not under test")
///         .sink("out", Stdout::json());
///     flow
/// }
/// let events: Vec<Vec<(u8, i64)>> =
///     vec![vec![(0, 3), (1, 9), (0, 25)], vec![(1, 4), (0, 8), (0, 31)]];
/// type Out = WindowResult<u8, Option<(u8, i64)>>;
/// let input = LawInput::new().partitions("events", events).compare::<Out>("out").runs(20);
/// let report = check_law(flow, input)?;
/// assert_eq!(report.runs(), 20);
/// # Ok::<(), highwater::testing::Violation>(())
/// ```
///
/// # Errors
/// The smallest counterexample that was found: what went in, what was done, and what came out
/// differently. Print it: `{violation}`.
pub fn check_law(flow: impl Fn() -> Flow, input: LawInput) -> Result<LawReport, Violation> {
    let runner = Runner { flow: &flow, input: &input, compared: compared(&flow, &input)? };
    let plain = Schedule::plain(&input.feeds);
    let expected = match runner.run(&plain) {
        Outcome::Failed(error) => return Err(Violation::broken(&input, &plain, error)),
        outcome => outcome,
    };
    let runs = if input.replay.is_some() { 1 } else { input.runs.unwrap_or(RUNS) };
    let mut dice = Dice::new(input.seed);
    let mut report = LawReport::new(runner.compared.len());
    for run in 0..runs {
        let seed = input.replay.unwrap_or_else(|| dice.roll());
        let schedule = Schedule::random(&input.feeds, seed);
        let found = runner.run(&schedule);
        let differs = found != expected;
        let twice = || runner.rows_in_order(&schedule) == runner.rows_in_order(&schedule);
        if (differs || run % 10 == 0) && !twice() {
            return Err(Violation::not_repeatable(&input, &schedule, seed));
        }
        if differs {
            return Err(shrink::smallest(&runner, schedule, seed));
        }
        report.count(&schedule);
    }
    Ok(report)
}

/// Which views are compared: by the classes that the plan gives to their sinks.
fn compared(flow: &impl Fn() -> Flow, input: &LawInput) -> Result<Vec<usize>, Violation> {
    let plan = flow().into_plan().map_err(|e| Violation::unusable(e.to_string()))?;
    let mut compared = Vec::new();
    for (index, (view, scope)) in input.views.iter().enumerate() {
        let Some(node) = plan.nodes.iter().position(|n| &*n.id == view.sink()) else {
            return Err(Violation::unusable(format!("the flow has no sink `{}`", view.sink())));
        };
        if *scope == Scope::Any || plan.class_at(node) == Class::Input {
            compared.push(index);
        }
    }
    Ok(compared)
}
