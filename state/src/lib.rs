//! Keyed state that survives.
//!
//! A [`Store`] holds, per operator and key group, encoded entries, and one record that says what
//! they mean. A [`Commit`] replaces the record and changes entries in one atomic, durable step.
//! This crate knows nothing of streams or time.

mod codec;
mod error;
mod key;
mod mem;
#[cfg(feature = "rocksdb")]
mod rocks;
mod store;

pub use codec::{decode, decode_sealed, encode_into, encode_sealed};
pub use error::Error;
pub use key::{KEY_GROUPS, KeyGroup, group_of, groups_of_worker, hash_bytes, hash_key, worker_of};
pub use mem::MemStore;
#[cfg(feature = "rocksdb")]
pub use rocks::RocksStore;
pub use store::{Changes, Commit, Store, Visit};
