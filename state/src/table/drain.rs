//! Emptying a table, and what the next commit is to delete in the store.

use std::ops::Range;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::capture::stored_key;
use super::shard::{STORED, Shard};
use super::{Slot, Table, Value};
use crate::planted::planted;
use crate::{KEY_GROUPS, KeyGroup, group_of, hash_key};

/// So many entries of a group are deleted at once and not key by key: the list of changes is the
/// shorter, but a reader has to look whether a deletion of many is of what it reads.
pub(super) const FEW: usize = 4;

impl<K: Serialize + DeserializeOwned + Eq + Clone, V: Value> Table<K, V> {
    /// Empties the table into `visit`, and by the next commit the store of what was in memory.
    pub fn drain(&mut self, visit: impl FnMut(K, V)) {
        self.drain_groups(0..KEY_GROUPS, visit);
    }

    /// As [`drain`](Self::drain), of some key groups.
    pub fn drain_groups(&mut self, groups: Range<KeyGroup>, mut visit: impl FnMut(K, V)) {
        for index in self.shards.within(&groups) {
            let all = self.shards[index].groups.clone();
            let whole = groups.start <= all.start && all.end <= groups.end;
            let buckets = if whole { None } else { Some(self.shards[index].of_groups(&groups)) };
            // IMPORTANT: first, for what is written out is stored, and to be deleted later.
            for bucket in self.shards[index].pending(self.epoch, usize::MAX) {
                self.save(index, bucket);
            }
            let (stored, stored_groups) = self.shards[index].stored(buckets.as_deref());
            // Without a prefix a group holds entries of other tables too.
            let by_group = stored >= FEW * stored_groups.len() && !self.out.prefix.is_empty();
            if by_group {
                stored_groups.into_iter().for_each(|group| self.tombstones.push_group(group));
            }
            let mut gone = |table: &mut Self, slot: Slot<K, V>, flags| {
                (table.len, table.net) = (table.len - 1, table.net - 1);
                if flags & STORED != 0 && !by_group {
                    table.bury(hash_key(&slot.key), &slot, flags);
                }
                table.forget_serial(&slot.key);
                visit(slot.key, slot.value);
            };
            let Some(buckets) = buckets else {
                let empty = Shard::new(all, true);
                let shard = std::mem::replace(&mut self.shards[index], empty);
                shard.into_slots(|slot, flags| gone(self, slot, flags));
                continue;
            };
            for bucket in buckets {
                if let Some((slot, flags)) = self.shards[index].remove(bucket) {
                    gone(self, slot, flags);
                }
            }
            if self.shards[index].len() == 0 {
                // Its memory goes now, and not when the table does.
                self.shards[index] = Shard::new(all, self.shards[index].complete);
            }
        }
    }

    /// The key groups of a part of the table that is emptied in one go: those from `from` on.
    #[must_use]
    pub fn part(&self, from: KeyGroup) -> Range<KeyGroup> {
        let shard = self.shards.within(&(from..from + 1)).pop();
        from..shard.map_or(KEY_GROUPS, |shard| self.shards[shard].groups.end)
    }

    /// A key is no longer in memory.
    pub(super) fn forget_serial(&mut self, key: &K) {
        if let Some(fragments) = &mut self.out.fragments {
            fragments.forget(key);
        }
    }

    pub(super) fn bury(&mut self, hash: u64, slot: &Slot<K, V>, flags: u8) {
        if flags & STORED == 0 {
            return;
        }
        let buried = self.tombstones.push(group_of(hash), |bytes| {
            stored_key(self.out.fragments.as_ref(), &slot.key, bytes)
        });
        if let Err(error) = buried {
            self.out.failed = Some(error);
        }
    }

    /// Deletes a stored key that is not in memory.
    ///
    /// # Panics
    /// Where the key is shorter than the table's prefix, with which all of its stored keys begin.
    pub fn bury_stored(&mut self, group: KeyGroup, stored_key: &[u8]) {
        self.net -= 1;
        let key = &stored_key[self.out.prefix.len()..];
        self.tombstones.may_be_met = true;
        let buried = self.tombstones.push(group, |bytes| {
            bytes.extend_from_slice(key);
            Ok(())
        });
        if let Err(error) = buried {
            self.out.failed = Some(error);
        }
    }

    /// Whether a stored key was [buried](Self::bury_stored), and the store has it only because no
    /// commit has deleted it yet: whoever scans the store passes over it. Of keys that were removed
    /// or drained it need not know.
    ///
    /// # Panics
    /// Where the key is shorter than the table's prefix.
    pub fn is_buried(&mut self, group: KeyGroup, stored_key: &[u8]) -> bool {
        if planted("buried-read-again") {
            return false;
        }
        let key = &stored_key[self.out.prefix.len()..];
        let mut tombs = [&mut self.tombstones, &mut self.burying].into_iter();
        // An index over all that a window has brought is made only where it is needed.
        tombs.any(|tombs| {
            tombs.may_be_met && {
                tombs.make_index();
                tombs.contains(group, key)
            }
        })
    }
}
