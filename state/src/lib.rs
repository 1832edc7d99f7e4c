//! Keyed state that survives.
//!
//! A [`Store`] holds, per operator and key group, encoded entries, and one record that says what
//! they mean. A [`Commit`] replaces the record and changes entries in one atomic, durable step.
//! This crate knows nothing of streams or time.

pub mod base;
mod changes;
mod cleared;
mod codec;
mod durable;
mod error;
pub mod fault;
pub mod files;
mod key;
mod log;
mod mem;
mod memtable;
mod merge;
#[doc(hidden)]
pub mod planted;
mod priority;
mod record_only;
mod schema;
pub mod snapshot;
mod store;
mod table;

pub use changes::{Changes, Commit, Entry, Op};
pub use codec::{decode, decode_sealed, encode_into, encode_sealed};
pub use durable::DurableStore;
pub use error::Error;
pub use key::{KEY_GROUPS, KeyGroup, group_of, groups_of_worker, hash_bytes, hash_key, worker_of};
pub use mem::MemStore;
pub use priority::work_in_background;
pub use record_only::RecordOnly;
pub use schema::schema_of;
pub use store::{Found, Store, Tail, Visit};
pub use table::{Hint, Table, Value};
