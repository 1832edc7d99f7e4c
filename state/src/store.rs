//! The store trait.

use std::ops::Range;

use crate::{Commit, Error, KeyGroup};

/// Takes one entry: its group, key and value.
pub type Visit<'a> = dyn FnMut(KeyGroup, &[u8], &[u8]) -> Result<(), Error> + 'a;

/// Takes the value of the key at an index of what was asked for.
pub type Found<'a> = dyn FnMut(usize, &[u8]) -> Result<(), Error> + 'a;

/// What a store has yet to move from its log into its base.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tail {
    /// Bytes that a restart would replay.
    pub bytes: u64,
    /// The limit is reached: nothing should be committed before [`Store::maintain`] has worked.
    pub full: bool,
}

/// Entries per operator and key group, and one record; all changed together or not at all.
/// Reading shows the last commit, whole.
pub trait Store: Send + Sync {
    /// The record of the last commit, if there has been one.
    ///
    /// # Errors
    /// Where the store cannot be read.
    fn record(&self) -> Result<Option<Vec<u8>>, Error>;

    /// Makes a commit durable. After an error it is unknown whether the commit took place: the
    /// store refuses all further ones, and a fresh open tells.
    ///
    /// # Errors
    /// Where the store cannot be written, or has failed before.
    fn commit(&self, commit: Commit) -> Result<(), Error>;

    /// Reads entries of an operator; `found` hears of those that exist, in no fixed order.
    ///
    /// # Errors
    /// Where the store cannot be read, and whatever `found` returns.
    fn get(
        &self,
        operator: &str,
        keys: &[(KeyGroup, &[u8])],
        found: &mut Found<'_>,
    ) -> Result<(), Error>;

    /// Visits an operator's entries in the given groups whose keys start with `prefix`, by
    /// group, then by key bytes.
    ///
    /// # Errors
    /// Where the store cannot be read, and whatever `visit` returns.
    fn scan(
        &self,
        operator: &str,
        groups: Range<KeyGroup>,
        prefix: &[u8],
        visit: &mut Visit<'_>,
    ) -> Result<(), Error>;

    /// Whether entries that were committed can be read again. Where they cannot, nobody needs to
    /// write them out.
    fn keeps_entries(&self) -> bool {
        true
    }

    /// What a restart would have to replay.
    fn tail(&self) -> Tail {
        Tail::default()
    }

    /// Does one step of background work, if there is any, and says whether there was. With
    /// `eager`, whatever can be moved into the base is, however little. One thread at a time.
    ///
    /// # Errors
    /// Where the store cannot be written; it refuses all further commits then.
    fn maintain(&self, eager: bool) -> Result<bool, Error> {
        let _ = eager;
        Ok(false)
    }
}
