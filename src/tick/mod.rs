//! From sealed to committed: the tick record, and the thread that makes commits durable.

mod committer;
mod inspect;
mod record;

pub(crate) use committer::{CommitDone, CommitJob, Committer};
pub use inspect::{CommittedOperator, CommittedPartition, LastCommit};
pub(crate) use record::{OperatorRecord, PartitionRecord, TickRecord};
