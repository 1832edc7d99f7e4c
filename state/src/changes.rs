//! What a commit changes: entries put or deleted, in compact buffers.

use std::sync::Arc;

use crate::{Error, KeyGroup};

/// What one operator changed since the last commit, in one buffer of at most 4 GiB.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Changes {
    operator: Arc<str>,
    pub(crate) bytes: Vec<u8>,
    pub(crate) entries: Vec<Change>,
}

/// One change; its key and value lie behind each other in the buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Change {
    pub(crate) start: u32,
    pub(crate) key_len: u32,
    /// One more than the value's length; 0 for a deletion, [`DELETE_PREFIX`] for one by prefix.
    pub(crate) value: u32,
    pub(crate) group: KeyGroup,
}

/// In place of a value's length: all keys are deleted that begin with this one.
pub(crate) const DELETE_PREFIX: u32 = u32::MAX;

/// What becomes of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Op<'a> {
    /// It has this value.
    Put(&'a [u8]),
    /// It is deleted.
    Delete,
    /// All keys of its group that begin with it are deleted.
    DeletePrefix,
}

impl<'a> Op<'a> {
    /// The value that is put.
    #[must_use]
    pub fn value(self) -> Option<&'a [u8]> {
        match self {
            Op::Put(value) => Some(value),
            Op::Delete | Op::DeletePrefix => None,
        }
    }
}

/// A change as it is read: the group, the key, and what becomes of it.
pub type Entry<'a> = (KeyGroup, &'a [u8], Op<'a>);

fn small(length: usize) -> Result<u32, Error> {
    u32::try_from(length)
        .ok()
        .filter(|length| *length < DELETE_PREFIX - 1)
        .ok_or_else(|| Error::Encode("an operator changed more than 4 GiB in one commit".into()))
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
    /// What `key` or `value` return, and more than 4 GiB of changes; the entry is then left out.
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
        let value = small(self.bytes.len() - middle)? + 1;
        small(self.bytes.len())?;
        let (start, key_len) = (small(start)?, small(middle - start)?);
        self.entries.push(Change { start, key_len, value, group });
        Ok(())
    }

    /// Deletes an entry.
    ///
    /// # Errors
    /// What `key` returns, and more than 4 GiB of changes; the deletion is then left out.
    pub fn delete(
        &mut self,
        group: KeyGroup,
        key: impl FnOnce(&mut Vec<u8>) -> Result<(), Error>,
    ) -> Result<(), Error> {
        self.push(group, key, 0)
    }

    /// Deletes all entries of the group whose keys begin with `prefix`, which appends its bytes:
    /// those of earlier commits, and those that were put before in this one.
    ///
    /// # Errors
    /// As [`delete`](Self::delete).
    pub fn delete_prefix(
        &mut self,
        group: KeyGroup,
        prefix: impl FnOnce(&mut Vec<u8>) -> Result<(), Error>,
    ) -> Result<(), Error> {
        self.push(group, prefix, DELETE_PREFIX)
    }

    fn push(
        &mut self,
        group: KeyGroup,
        key: impl FnOnce(&mut Vec<u8>) -> Result<(), Error>,
        value: u32,
    ) -> Result<(), Error> {
        let start = self.bytes.len();
        key(&mut self.bytes)?;
        let (key_len, start) = (small(self.bytes.len())? - small(start)?, small(start)?);
        self.entries.push(Change { start, key_len, value, group });
        Ok(())
    }

    /// The operator's id.
    #[must_use]
    pub fn operator(&self) -> &Arc<str> {
        &self.operator
    }

    /// The same changes, of another operator.
    pub(crate) fn of(self, operator: Arc<str>) -> Self {
        Changes { operator, ..self }
    }

    /// Gives back what it has room for and does not hold: it will not grow any more.
    pub(crate) fn shrink(mut self) -> Self {
        self.bytes.shrink_to_fit();
        self.entries.shrink_to_fit();
        self
    }

    /// How many changes there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether nothing changed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Bytes held by keys, values and bookkeeping.
    #[must_use]
    pub fn size(&self) -> usize {
        self.bytes.len() + self.entries.len() * size_of::<Change>()
    }

    pub(crate) fn entry(&self, index: usize) -> Entry<'_> {
        let Change { start, key_len, value, group } = self.entries[index];
        let (start, key_len) = (start as usize, key_len as usize);
        let (key, rest) = self.bytes[start..].split_at(key_len);
        let op = match value {
            0 => Op::Delete,
            DELETE_PREFIX => Op::DeletePrefix,
            length => Op::Put(&rest[..length as usize - 1]),
        };
        (group, key, op)
    }

    /// The changes in the order in which they were made.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = Entry<'_>> {
        (0..self.entries.len()).map(|index| self.entry(index))
    }
}

/// One atomic step: entries and the record that says what they mean.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Commit {
    /// The new record, sealed by [`encode_sealed`](crate::encode_sealed).
    pub record: Vec<u8>,
    /// What changed, by operator and worker. Later ones win over earlier ones.
    pub changes: Vec<Changes>,
}

impl Commit {
    pub(crate) fn size(&self) -> u64 {
        let changes: usize = self.changes.iter().map(Changes::size).sum();
        (self.record.len() + changes) as u64
    }
}
