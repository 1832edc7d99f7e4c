//! Mergeable aggregates, free of time and state.

mod combine;
mod count;
mod evict;
mod extreme;
mod general;
mod ordered;
mod sum;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::event::{Data, EventOrder};
use crate::time::EventTime;

pub use combine::{AggregateExt, Mapped};
pub use count::{Count, CountDistinct};
pub use evict::{LastN, LastSpan, NearLast};
pub use extreme::{Max, Min, TopN};
pub use general::{Fold, Reduce};
pub use ordered::{Collect, First, Last};
pub use sum::{ExactSum, Mean, Number, NumberSum, Stats, StatsOf, Sum};

/// Where an event stands among all others: by time, then by (source, partition, position).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, serde::Deserialize)]
pub struct Stamp {
    /// The event's time.
    pub time: EventTime,
    /// Its place among events of equal time.
    pub order: EventOrder,
}

/// A function of a bag of rows that can be computed piece by piece.
///
/// Implementers owe: `merge` is associative and commutative with `init` as its neutral element,
/// and adding rows one by one equals merging the states of any split of them. Otherwise results
/// depend on the order in which partitions happen to be read. `peek` gives what `finish` gives.
pub trait Aggregate<T>: Send + Sync + 'static {
    /// What is kept per key and window; cloned where windows overlap and share it.
    type State: Serialize + DeserializeOwned + Clone + Send + 'static;
    /// What comes out when the window closes.
    type Output: Data;

    /// The name and parameters, as the plan prints and fingerprints them.
    fn describe(&self) -> String;

    /// Whether the result depends on the order of rows of equal time: then results of windows
    /// that are aggregated again carry their order.
    fn needs_order(&self) -> bool {
        false
    }

    /// The state of no rows.
    fn init(&self) -> Self::State;

    /// Adds one row. `stamp` is computed only if called.
    fn add(&self, state: &mut Self::State, row: &T, stamp: &dyn Fn() -> Stamp);

    /// Adds all rows of another state.
    fn merge(&self, into: &mut Self::State, from: Self::State);

    /// The result.
    fn finish(&self, state: Self::State) -> Self::Output;

    /// The result so far, of a state that is kept. Worth writing where a copy of the state costs
    /// more than its result.
    fn peek(&self, state: &Self::State) -> Self::Output {
        self.finish(state.clone())
    }
}

#[cfg(test)]
mod tests;
