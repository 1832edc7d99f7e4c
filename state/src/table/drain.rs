//! Emptying a table, and what the next commit is to delete in the store.

use std::ops::Range;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::shard::{STORED, Shard};
use super::{Slot, Table, Value};
use crate::planted::planted;
use crate::{KEY_GROUPS, KeyGroup, encode_into, group_of, hash_key};

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
        if self.shards.len() == 1 && groups != (0..KEY_GROUPS) {
            return self.drain_buckets(&groups, visit);
        }
        let shards = if self.shards.len() == 1 {
            0..1
        } else {
            usize::from(groups.start)..usize::from(groups.end)
        };
        for index in shards {
            for bucket in self.shards[index].pending(self.epoch) {
                self.save(index, bucket);
            }
            let mut shard = std::mem::replace(&mut self.shards[index], Shard::new(true));
            self.len -= shard.len();
            let by_group = self.is_worth_it(&shard);
            shard.drain(|slot, flags| {
                if flags & STORED != 0 && by_group {
                    self.tombstones.push_group(group_of(hash_key(&slot.key)));
                } else if flags & STORED != 0 {
                    self.bury(hash_key(&slot.key), &slot, flags);
                }
                self.net -= 1;
                visit(slot.key, slot.value);
            });
        }
    }

    /// Whether the store is to be told to delete all that it holds of groups, and not key by key.
    fn is_worth_it(&self, shard: &Shard<K, V>) -> bool {
        let stored = shard.flags.iter().filter(|flags| **flags & STORED != 0).count();
        let groups = usize::from(KEY_GROUPS) / self.shards.len();
        // Without a prefix a group holds entries of other tables too.
        stored >= FEW * groups && !self.out.prefix.is_empty()
    }

    /// Removes what is of some key groups from the one shard that there is.
    fn drain_buckets(&mut self, groups: &Range<KeyGroup>, mut visit: impl FnMut(K, V)) {
        for bucket in 0..self.shards[0].flags.len() {
            let shard = &self.shards[0];
            let Some(hash) = shard.get(bucket).map(|slot| hash_key(&slot.key)) else { continue };
            if !groups.contains(&group_of(hash)) {
                continue;
            }
            if shard.is_pending(bucket, self.epoch) {
                self.save(0, bucket);
            }
            if let Some((slot, flags)) = self.shards[0].remove(bucket) {
                self.bury(hash, &slot, flags);
                (self.len, self.net) = (self.len - 1, self.net - 1);
                visit(slot.key, slot.value);
            }
        }
        if self.len == 0 {
            // Its memory goes now, and not when the table does.
            self.shards[0] = Shard::new(self.shards[0].complete);
        }
    }

    pub(super) fn bury(&mut self, hash: u64, slot: &Slot<K, V>, flags: u8) {
        if flags & STORED == 0 {
            return;
        }
        let buried = self.tombstones.push(group_of(hash), |bytes| {
            encode_into(&slot.key, bytes)?;
            slot.value.key_suffix(bytes);
            Ok(())
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
