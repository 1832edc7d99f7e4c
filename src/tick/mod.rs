//! From sealed to committed: the tick record, and the thread that makes commits durable.

mod committer;
pub(crate) mod dir;
mod inspect;
mod migrate;
pub(crate) mod outbox;
mod record;

pub(crate) use committer::{CommitDone, CommitJob, Committer, guarded};
#[cfg(feature = "testing")]
pub(crate) use dir::copy_to_memory;
use dir::read_record;
pub(crate) use dir::{check_state, delete_all};
pub use inspect::{CommittedOperator, CommittedPartition, LastCommit};
pub(crate) use migrate::migrate_state;
pub(crate) use record::{OperatorRecord, PartitionRecord, TickRecord};
