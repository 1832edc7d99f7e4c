//! What a running flow tells about itself.

use std::time::Duration;

use crate::operator::{Class, Counters};
use crate::time::{EventTime, Span, Tick, Watermark};

/// A snapshot of a flow's counters, taken at a tick's border. Counts go on over restarts.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Metrics {
    /// The last sealed tick.
    pub tick: Tick,
    /// The last committed tick.
    pub committed: Tick,
    /// Ticks sealed in this run.
    pub ticks: u64,
    /// Commits made in this run.
    pub commits: u64,
    /// How long commits took, from the seal of their tick to their output being visible.
    pub commit_duration: Percentiles,
    /// Bytes of committed changes that a restart would replay.
    pub log_tail_bytes: u64,
    /// For how long, in this run, no tick was opened because the log had reached
    /// `log_tail_limit` (the flow then runs at the speed at which the base takes changes in), or
    /// because a commit waited for its target for more than a second.
    pub held_by_log: Duration,
    /// The tick with which the state that was found went on, if there was any.
    pub resumed_from: Option<Tick>,
    /// All input has ended and is committed.
    pub finished: bool,
    /// Operators in the order of the plan.
    pub operators: Vec<OperatorMetrics>,
    /// Partitions of sources that have event time, as of the last commit.
    pub partitions: Vec<PartitionMetrics>,
}

impl Metrics {
    /// The metrics of the operator with this id.
    #[must_use]
    pub fn operator(&self, id: &str) -> Option<&OperatorMetrics> {
        self.operators.iter().find(|o| o.id == id)
    }

    /// The active partition that holds time back: the one with the least promise.
    #[must_use]
    pub fn holding(&self) -> Option<&PartitionMetrics> {
        let active = self.partitions.iter().filter(|p| p.state == PartitionState::Active);
        active.min_by_key(|p| p.promise)
    }
}

/// Percentiles of a duration.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Percentiles {
    /// Half are at or below it.
    pub p50: Duration,
    /// 99 in 100 are at or below it.
    pub p99: Duration,
    /// The longest.
    pub max: Duration,
}

/// The metrics of one operator, over all workers.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct OperatorMetrics {
    /// Its id.
    pub id: String,
    /// What kind of operator it is.
    pub kind: &'static str,
    /// Its class.
    pub class: Class,
    /// What became of its input events.
    pub counters: Counters,
    /// Its watermark.
    pub watermark: Watermark,
    /// State entries: keys, windows, timers, waiting events.
    pub entries: u64,
}

/// What a partition is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PartitionState {
    /// Takes part in the watermark.
    Active,
    /// Has been silent for longer than its idle timeout, and holds nothing back.
    Idle,
    /// Has ended.
    Finished,
}

/// The time of one partition.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct PartitionMetrics {
    /// The `event_time` operator that keeps it.
    pub operator: String,
    /// Source and name.
    pub name: String,
    /// What it promises.
    pub promise: Watermark,
    /// How far its promise lies behind the largest time seen in any partition.
    pub gap: Span,
    /// What it is doing.
    pub state: PartitionState,
}

pub(crate) fn gap(largest: Option<EventTime>, promise: Watermark) -> Span {
    match (largest, promise) {
        (Some(largest), Watermark::At(promise)) => largest - promise,
        _ => Span::ZERO,
    }
}
