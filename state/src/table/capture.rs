//! Writing out what changed, in steps, while the table goes on changing.
//!
//! A capture begins by counting the epoch up: from then on what was "changed" is "pending". Each
//! step writes some pending entries out and clears their flags; an entry that is about to be
//! changed or removed while it is pending is written out first. So a capture shows the table as
//! it was when it began, and no step is long.

use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::fragments::Fragments;
use super::{Slot, Table, Value};
use crate::changes::Changes;
use crate::{Error, encode_into, group_of, hash_key};

/// Entries on their way out.
pub(super) struct Capture {
    pub(super) next_shard: usize,
    /// The next of the keys that the commit deletes.
    next_tomb: usize,
    /// They come before what is put: a key that died and was born again stays.
    deleted: Changes,
    changes: Changes,
}

/// What a table needs to write entries out.
pub(super) struct Out<K> {
    /// What stored keys begin with.
    pub(super) prefix: Vec<u8>,
    pub(super) fragments: Option<Fragments<K>>,
    pub(super) capture: Option<Capture>,
    /// Encoded bytes and entries seen, for an estimate of what keys and values hold outside.
    pub(super) encoded: (u64, u64),
    /// An error of encoding, reported by the capture.
    pub(super) failed: Option<Error>,
}

impl<K: Serialize + Eq + Clone> Out<K> {
    pub(super) fn new(prefix: Vec<u8>) -> Self {
        Out { prefix, fragments: None, capture: None, encoded: (0, 0), failed: None }
    }

    /// Writes an entry out, if there is a capture.
    #[inline(never)]
    pub(super) fn save<V: Value>(&mut self, slot: &Slot<K, V>) {
        let Slot { key, value } = slot;
        let Out { prefix, fragments, capture, encoded, failed } = self;
        let Some(capture) = capture else { return };
        let before = capture.changes.size();
        let put = capture.changes.put(
            group_of(hash_key(key)),
            |bytes| {
                bytes.extend_from_slice(prefix);
                stored_key(fragments.as_ref(), key, bytes)
            },
            |bytes| value.encode(bytes),
        );
        encoded.0 += (capture.changes.size() - before) as u64;
        encoded.1 += 1;
        if let Err(error) = put {
            *failed = Some(error);
        }
    }
}

/// Appends what an entry is stored under, behind the prefix.
pub(super) fn stored_key<K: Serialize + Eq + Clone>(
    fragments: Option<&Fragments<K>>,
    key: &K,
    bytes: &mut Vec<u8>,
) -> Result<(), Error> {
    encode_into(key, bytes)?;
    if let Some(fragments) = fragments {
        bytes.extend_from_slice(&fragments.of(key).to_be_bytes());
    }
    Ok(())
}

impl<K: Serialize + DeserializeOwned + Eq + Clone, V: Value> Table<K, V> {
    /// Begins to write out what changed since the last capture. The commit of that one must
    /// have been [`committed`](Self::committed).
    pub fn begin_capture(&mut self) {
        if !self.kept {
            return;
        }
        self.epoch = self.epoch.next();
        let changes = || Changes::new(Arc::from(""));
        self.settled = self.tombstones.is_empty();
        self.burying = std::mem::take(&mut self.tombstones);
        let (mut deleted, changes) = (changes(), changes());
        for group in self.burying.groups() {
            let prefix = |bytes: &mut Vec<u8>| {
                bytes.extend_from_slice(&self.out.prefix);
                Ok(())
            };
            if let Err(error) = deleted.delete_prefix(group, prefix) {
                self.out.failed = Some(error);
            }
        }
        self.out.capture = Some(Capture { next_shard: 0, next_tomb: 0, deleted, changes });
    }

    /// Writes deletions out, as far as the budget goes.
    fn capture_tombs(&mut self, budget: &mut usize) -> Result<(), Error> {
        let Some(capture) = &mut self.out.capture else { return Ok(()) };
        while let Some((group, key)) = self.burying.get(capture.next_tomb) {
            if *budget == 0 {
                break;
            }
            capture.deleted.delete(group, |bytes| {
                bytes.extend_from_slice(&self.out.prefix);
                bytes.extend_from_slice(key);
                Ok(())
            })?;
            capture.next_tomb += 1;
            *budget -= 1;
        }
        Ok(())
    }

    /// Writes about `budget` more entries out, counting it down, and says whether that was all;
    /// then the changes are in `into`.
    ///
    /// # Errors
    /// Where a key or value cannot be encoded.
    pub fn capture(
        &mut self,
        operator: &Arc<str>,
        budget: &mut usize,
        into: &mut Vec<Changes>,
    ) -> Result<bool, Error> {
        self.capture_tombs(budget)?;
        while let Some(index) = self.out.capture.as_ref().map(|capture| capture.next_shard) {
            if index == self.shards.len() {
                break;
            }
            if *budget == 0 {
                return Ok(false);
            }
            let pending = self.shards[index].pending(self.epoch, *budget);
            *budget -= pending.len();
            pending.into_iter().for_each(|bucket| self.save(index, bucket));
            if *budget == 0 {
                // Whether that was all of the shard, the next step sees.
                return Ok(false);
            }
            self.shards[index].written(self.epoch);
            if let Some(capture) = &mut self.out.capture {
                capture.next_shard += 1;
            }
        }
        if let Some(error) = self.out.failed.take() {
            return Err(error);
        }
        if self.out.capture.as_ref().is_some_and(|c| c.next_tomb < self.burying.len()) {
            return Ok(false);
        }
        if let Some(Capture { deleted, changes, .. }) = self.out.capture.take() {
            for changes in [deleted, changes] {
                if !changes.is_empty() {
                    self.settled = false;
                    into.push(changes.of(operator.clone()).shrink());
                }
            }
        }
        Ok(true)
    }

    /// The commit of the last capture is durable.
    pub fn committed(&mut self) {
        self.burying.clear();
        self.settled = true;
    }

    /// Whether everything that was captured is durable.
    pub(super) fn is_settled(&self) -> bool {
        self.settled && self.out.capture.is_none()
    }

    /// Writes a pending entry out.
    pub(super) fn save(&mut self, index: usize, bucket: usize) {
        let shard = &mut self.shards[index];
        shard.settle(bucket, self.epoch);
        self.out.save(shard.slot(bucket));
    }
}
