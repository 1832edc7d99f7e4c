//! From sealed to committed: the tick record, and the thread that makes commits durable.

mod committer;
pub(crate) mod dir;
mod inspect;
pub(crate) mod outbox;
mod record;

pub(crate) use committer::{CommitDone, CommitJob, Committer};
#[cfg(feature = "testing")]
pub(crate) use dir::copy_to_memory;
pub(crate) use dir::{check_state, delete_all};
pub use inspect::{CommittedOperator, CommittedPartition, LastCommit};
pub(crate) use record::{OperatorRecord, PartitionRecord, TickRecord};
