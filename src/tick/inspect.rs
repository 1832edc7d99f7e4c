//! A look at a state directory, beside whoever uses it.

use std::path::Path;

use super::dir::StateDir;
use crate::error::Error;
use crate::time::{EventTime, Tick, Watermark};

/// What the last commit in a state directory says. Can be read while a flow runs on it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct LastCommit {
    /// The flow's name.
    pub flow: String,
    /// The last tick that the commit covers.
    pub tick: Tick,
    /// The tick clock of that tick.
    pub clock: EventTime,
    /// The flow's input has ended.
    pub finished: bool,
    /// How many commits there have been.
    pub commits: u64,
    /// How many times the flow has been started on this state.
    pub starts: u64,
    /// What has been read of each partition.
    pub partitions: Vec<CommittedPartition>,
    /// The operators.
    pub operators: Vec<CommittedOperator>,
}

/// A partition as of a commit.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct CommittedPartition {
    /// The source's id.
    pub source: String,
    /// The partition's name.
    pub name: String,
    /// The first position that is not covered by the commit.
    pub position: u64,
    /// Nothing more will come.
    pub ended: bool,
}

/// An operator as of a commit.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct CommittedOperator {
    /// Its id.
    pub id: String,
    /// State entries.
    pub entries: u64,
    /// Its watermark; of an operator without one of its own, the latest it has heard of.
    pub watermark: Watermark,
    /// What each partition promises, where the operator keeps their time.
    pub promises: Vec<(String, Watermark)>,
}

impl LastCommit {
    /// Reads the last commit in a state directory.
    ///
    /// # Errors
    /// Where there is no readable state.
    pub fn read(dir: &Path) -> Result<Self, Error> {
        let record = StateDir::open(dir)?.record().clone();
        let partitions = record.sources.into_iter().flat_map(|(source, partitions)| {
            partitions.into_iter().map(move |partition| CommittedPartition {
                source: source.clone(),
                name: partition.name,
                position: partition.resume.position,
                ended: partition.ended,
            })
        });
        let operators = record.operators.into_iter().map(|(id, operator)| CommittedOperator {
            id,
            entries: operator.entries,
            watermark: operator.watermark,
            promises: operator.promises.into_iter().map(|(name, t)| (name, t.promise)).collect(),
        });
        Ok(LastCommit {
            flow: record.flow,
            tick: record.tick,
            clock: EventTime::from_micros(record.clock_micros),
            finished: record.finished,
            commits: record.commits,
            starts: record.incarnation,
            partitions: partitions.collect(),
            operators: operators.collect(),
        })
    }
}
