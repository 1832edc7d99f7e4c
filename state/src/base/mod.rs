//! The base: where commits go once they are many. It holds everything up to one commit.

mod file;
mod manifest;
#[cfg(feature = "rocksdb")]
mod rocks;

use std::path::Path;

pub use file::FileBase;
#[doc(hidden)]
pub use manifest::manifest_is_readable;
#[cfg(feature = "rocksdb")]
pub use rocks::RocksBase;
use xxhash_rust::xxh3::xxh3_64;

use crate::store::Found;
use crate::{Error, KeyGroup, Op};

/// A place in the chain of commits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Position {
    /// The number of the last commit; 0 before the first.
    pub seq: u64,
    /// The hash of the chain of commits up to it: two histories of equal length differ here.
    pub chain: u64,
}

/// Takes an entry's full key and value, and says whether it wants more.
pub type VisitRaw<'a> = dyn FnMut(&[u8], &[u8]) -> Result<bool, Error> + 'a;

/// Takes a change: an entry's full key, or the beginning of those that are deleted.
pub type VisitChange<'a> = dyn FnMut(&[u8], Op<'_>) + 'a;

/// Gives each change to a visitor: first the deletions by prefix, which are of what the base held
/// before and nothing else; then all others, in order of full key, each key once. Nobody needs to
/// hold all of them at a time.
pub type EachChange<'a> = dyn FnMut(&mut VisitChange<'_>) + 'a;

/// Sorted entries by full key, with the position and record of the commit up to which they are
/// complete. Keys here are those of [`full_key`].
pub trait Base: Send + Sync + 'static {
    /// Its folder in a state directory.
    fn folder(&self) -> &'static str;

    /// Up to which commit the base is complete, and that commit's record.
    ///
    /// # Errors
    /// Where it cannot be read.
    fn position(&self) -> Result<(Position, Option<Vec<u8>>), Error>;

    /// Changes entries, position and record in one atomic step that need not be durable.
    ///
    /// # Errors
    /// Where it cannot be written.
    fn apply(
        &self,
        position: Position,
        record: &[u8],
        changes: &mut EachChange<'_>,
    ) -> Result<(), Error>;

    /// Makes all that was applied durable.
    ///
    /// # Errors
    /// Where it cannot be written.
    fn sync(&self) -> Result<(), Error>;

    /// Reads entries by full key; those that exist come to `found`.
    ///
    /// # Errors
    /// Where it cannot be read, and whatever `found` returns.
    fn get(&self, keys: &[Vec<u8>], found: &mut Found<'_>) -> Result<(), Error>;

    /// Visits entries in order from a full key on, until `visit` has enough.
    ///
    /// # Errors
    /// Where it cannot be read, and whatever `visit` returns.
    fn scan(&self, from: &[u8], visit: &mut VisitRaw<'_>) -> Result<(), Error>;

    /// Writes a copy of itself, as of the last [`apply`](Self::apply), into a directory that is
    /// not there yet, and returns the position and the record that are read from the copy.
    ///
    /// # Errors
    /// Where it cannot be written.
    fn checkpoint(&self, dir: &Path) -> Result<(Position, Option<Vec<u8>>), Error>;

    /// Gives back the space of what was deleted.
    ///
    /// # Errors
    /// Where it cannot be written.
    fn compact(&self) -> Result<(), Error>;
}

/// The part of a full key that names the operator: `e`, its id, a zero byte.
pub(crate) fn operator_prefix(operator: &str) -> Vec<u8> {
    let mut key = Vec::with_capacity(operator.len() + 28);
    key.push(b'e');
    key.extend_from_slice(operator.as_bytes());
    key.push(0);
    key
}

/// The key under which a base holds an entry.
pub(crate) fn full_key(operator: &str, group: KeyGroup, key: &[u8]) -> Vec<u8> {
    let mut full = operator_prefix(operator);
    full.extend_from_slice(&group.to_be_bytes());
    full.extend_from_slice(key);
    full
}

/// The first key behind all that begin with `prefix`; nothing where no key can be.
pub(crate) fn behind(prefix: &[u8]) -> Option<Vec<u8>> {
    let last = prefix.iter().rposition(|byte| *byte < u8::MAX)?;
    let mut behind = prefix[..=last].to_vec();
    behind[last] += 1;
    Some(behind)
}

/// Puts a checksum before a value.
pub(crate) fn seal(value: &[u8], into: &mut Vec<u8>) {
    into.clear();
    into.extend_from_slice(&(xxh3_64(value) as u32).to_le_bytes());
    into.extend_from_slice(value);
}

/// Verifies the checksum before a value.
pub(crate) fn unseal(bytes: &[u8]) -> Result<&[u8], Error> {
    let (checksum, value) = bytes
        .split_first_chunk::<4>()
        .ok_or_else(|| Error::Corrupt("an entry is cut short".into()))?;
    if (xxh3_64(value) as u32).to_le_bytes() != *checksum {
        return Err(Error::Corrupt("the checksum of an entry does not match".into()));
    }
    Ok(value)
}

const POSITION: usize = 16;

/// A position and a record in an envelope.
pub(crate) fn encode_head(position: Position, record: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(POSITION + record.len());
    bytes.extend_from_slice(&position.seq.to_le_bytes());
    bytes.extend_from_slice(&position.chain.to_le_bytes());
    bytes.extend_from_slice(record);
    let mut sealed = Vec::new();
    seal(&bytes, &mut sealed);
    sealed
}

/// The inverse of [`encode_head`].
pub(crate) fn decode_head(bytes: &[u8]) -> Result<(Position, Vec<u8>), Error> {
    let cut = || Error::Corrupt("the head of the base is cut short".into());
    let (seq, rest) = unseal(bytes)?.split_first_chunk::<8>().ok_or_else(cut)?;
    let (chain, record) = rest.split_first_chunk::<8>().ok_or_else(cut)?;
    let position = Position { seq: u64::from_le_bytes(*seq), chain: u64::from_le_bytes(*chain) };
    Ok((position, record.to_vec()))
}
