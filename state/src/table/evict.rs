//! Forgetting what the store holds, when memory is short.

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::shard::{REFERENCED, STORED};
use super::{Table, Value};
use crate::planted::planted;
use crate::{group_of, hash_key};

impl<K: Serialize + DeserializeOwned + Eq + Clone, V: Value> Table<K, V> {
    /// Bytes held in memory: exactly for the tables, by an estimate from the encoded size for
    /// what keys and values point to.
    #[must_use]
    pub fn memory(&self) -> usize {
        let tables: usize = self.shards.iter().map(super::shard::Shard::allocated).sum();
        let outside = if std::mem::needs_drop::<K>() { self.outside() } else { 0 };
        let serials = self.out.fragments.as_ref().map_or(0, |f| f.memory(outside));
        let tombs = self.tombstones.memory() + self.burying.memory();
        tables + serials + self.len * self.outside() + tombs
    }

    /// Bytes that an entry's key and value point to, as far as their encoding tells.
    fn outside(&self) -> usize {
        let any = std::mem::needs_drop::<K>() || std::mem::needs_drop::<V>();
        let average = self.out.encoded.0.checked_div(self.out.encoded.1).unwrap_or(0);
        if any { average as usize } else { 0 }
    }

    /// Forgets entries that have not been used of late, until `bytes` are freed or everything
    /// has been looked at twice (the clock algorithm). Only what the store holds can be
    /// forgotten: nothing while a commit is under way. Returns how many bytes were freed.
    pub fn evict(&mut self, bytes: usize) -> usize {
        if !self.is_settled() && !planted("evicted-before-stored") {
            return 0;
        }
        let mut freed = 0;
        for _ in 0..2 * self.shards.len() {
            if freed >= bytes {
                break;
            }
            self.hand = (self.hand + 1) % self.shards.len();
            freed += self.evict_shard(self.hand);
        }
        freed
    }

    fn evict_shard(&mut self, index: usize) -> usize {
        let shard = &mut self.shards[index];
        let (before, entries) = (shard.allocated(), shard.len());
        for bucket in 0..shard.flags.len() {
            match shard.flags[bucket] {
                // Changed since the last commit, or used since the hand came by.
                flags
                    if flags & !(STORED | REFERENCED) != 0
                        && !planted("dirty-lost-on-eviction") => {}
                flags if flags & REFERENCED != 0 => shard.flags[bucket] &= !REFERENCED,
                flags if flags == STORED || planted("dirty-lost-on-eviction") && flags != 0 => {
                    // Dropped: the store has it.
                    let gone = shard.remove(bucket);
                    shard.complete = false;
                    self.complete = false;
                    let Some((slot, _)) = gone else { continue };
                    if let Some(groups) = &mut self.forgotten {
                        groups.insert(group_of(hash_key(&slot.key)));
                    }
                    if let Some(fragments) = &mut self.out.fragments {
                        fragments.forget(&slot.key);
                    }
                }
                _ => {}
            }
        }
        let gone = entries - shard.len();
        if gone == 0 {
            return 0;
        }
        // What was expected does not fit into memory.
        self.first_room = 0;
        // An empty bucket holds as much memory as a full one.
        shard.rebuild(shard.len());
        if let Some(fragments) = &mut self.out.fragments {
            fragments.shrink();
        }
        self.len -= gone;
        before.saturating_sub(self.shards[index].allocated()) + gone * self.outside()
    }
}
