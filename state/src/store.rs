//! The store trait and the commit.

use std::ops::Range;
use std::sync::Arc;

use crate::{Error, KeyGroup};

/// What one operator changed since the last commit: entries put or deleted, in one buffer.
#[derive(Clone, Debug)]
pub struct Changes {
    operator: Arc<str>,
    bytes: Vec<u8>,
    entries: Vec<Change>,
}

#[derive(Clone, Debug)]
struct Change {
    group: KeyGroup,
    key: Range<usize>,
    value: Option<Range<usize>>,
}

impl Changes {
    /// No changes yet of the operator with this id.
    #[must_use]
    pub fn new(operator: Arc<str>) -> Self {
        Changes { operator, bytes: Vec::new(), entries: Vec::new() }
    }

    /// Puts an entry; `key` and `value` append their bytes.
    ///
    /// # Errors
    /// What `key` or `value` return; the entry is then left out.
    pub fn put(
        &mut self,
        group: KeyGroup,
        key: impl FnOnce(&mut Vec<u8>) -> Result<(), Error>,
        value: impl FnOnce(&mut Vec<u8>) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let start = self.bytes.len();
        key(&mut self.bytes)?;
        let middle = self.bytes.len();
        value(&mut self.bytes)?;
        let end = self.bytes.len();
        self.entries.push(Change { group, key: start..middle, value: Some(middle..end) });
        Ok(())
    }

    /// Deletes an entry.
    ///
    /// # Errors
    /// What `key` returns; the deletion is then left out.
    pub fn delete(
        &mut self,
        group: KeyGroup,
        key: impl FnOnce(&mut Vec<u8>) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let start = self.bytes.len();
        key(&mut self.bytes)?;
        self.entries.push(Change { group, key: start..self.bytes.len(), value: None });
        Ok(())
    }

    /// The operator's id.
    #[must_use]
    pub fn operator(&self) -> &Arc<str> {
        &self.operator
    }

    /// Whether nothing changed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The changes in the order in which they were made: group, key, and the value if put.
    pub fn iter(&self) -> impl Iterator<Item = (KeyGroup, &[u8], Option<&[u8]>)> {
        self.entries.iter().map(|change| {
            let value = change.value.clone().map(|range| &self.bytes[range]);
            (change.group, &self.bytes[change.key.clone()], value)
        })
    }
}

/// One atomic step: entries and the record that says what they mean.
#[derive(Clone, Debug, Default)]
pub struct Commit {
    /// The new record, sealed by [`encode_sealed`](crate::encode_sealed).
    pub record: Vec<u8>,
    /// Per operator and worker, what changed.
    pub changes: Vec<Changes>,
}

/// Takes one entry: its group, key and value.
pub type Visit<'a> = dyn FnMut(KeyGroup, &[u8], &[u8]) -> Result<(), Error> + 'a;

/// Entries per operator and key group, and one record; all changed together or not at all.
pub trait Store: Send + Sync {
    /// The record of the last commit, if there has been one.
    ///
    /// # Errors
    /// Where the store cannot be read.
    fn record(&self) -> Result<Option<Vec<u8>>, Error>;

    /// Makes a commit durable. After an error it is unknown whether the commit took place: the
    /// store must not be used further, and a fresh open tells.
    ///
    /// # Errors
    /// Where the store cannot be written.
    fn commit(&self, commit: &Commit) -> Result<(), Error>;

    /// Visits an operator's entries in the given groups, by group, then by key bytes.
    ///
    /// # Errors
    /// Where the store cannot be read, and whatever `visit` returns.
    fn scan(
        &self,
        operator: &str,
        groups: Range<KeyGroup>,
        visit: &mut Visit<'_>,
    ) -> Result<(), Error>;
}
