//! Keys: their canonical encoding, hash and group.
//!
//! Version 1 of the routing: the encoding is bincode's with fixed-width integers, the hash is
//! XXH3-64 (seed 0) of it, the key group its upper ten bits. Any change makes old state
//! unreadable, so the vectors below are part of the format.

use std::cell::RefCell;
use std::ops::Range;

use serde::Serialize;
use xxhash_rust::xxh3::xxh3_64;

use crate::codec;

/// How many groups keys are divided into; groups, not keys, are assigned to workers.
pub const KEY_GROUPS: u16 = 1024;

/// A key group, below [`KEY_GROUPS`].
pub type KeyGroup = u16;

/// Keys that take no more bytes are encoded on the stack.
const SMALL: usize = 64;

thread_local! {
    static BUFFER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// The hash of a key that is already encoded.
#[must_use]
#[inline]
pub fn hash_bytes(bytes: &[u8]) -> u64 {
    xxh3_64(bytes)
}

/// The hash of a key: XXH3-64 of its canonical encoding. A key whose `Serialize` fails hashes
/// what was encoded up to the failure; storing it reports the failure.
#[inline]
pub fn hash_key<K: Serialize + ?Sized>(key: &K) -> u64 {
    let mut small = [0; SMALL];
    match codec::encode_small(key, &mut small) {
        Some(length) => xxh3_64(&small[..length]),
        None => hash_large(key),
    }
}

#[cold]
fn hash_large<K: Serialize + ?Sized>(key: &K) -> u64 {
    BUFFER.with_borrow_mut(|buffer| {
        buffer.clear();
        let _ = codec::encode_into(key, buffer);
        xxh3_64(buffer)
    })
}

/// The group of a key with this hash.
#[must_use]
#[inline]
pub fn group_of(hash: u64) -> KeyGroup {
    (hash >> 54) as KeyGroup
}

/// The worker, of `workers`, that owns a group.
#[must_use]
#[inline]
pub fn worker_of(group: KeyGroup, workers: usize) -> usize {
    usize::from(group) * workers / usize::from(KEY_GROUPS)
}

/// The groups that one of `workers` workers owns.
#[must_use]
pub fn groups_of_worker(worker: usize, workers: usize) -> Range<KeyGroup> {
    let first = |w: usize| (w * usize::from(KEY_GROUPS)).div_ceil(workers) as KeyGroup;
    first(worker)..first(worker + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_part_of_the_format() {
        assert_eq!(hash_key(&1u64), hash_bytes(&1u64.to_le_bytes()));
        let mut encoded = 2u64.to_le_bytes().to_vec();
        encoded.extend_from_slice(b"UA");
        assert_eq!(hash_key("UA"), hash_bytes(&encoded));
        assert_eq!(hash_key("UA"), hash_key(&"UA".to_owned()));
        // From another implementation of XXH3 (Python's xxhash); they must never change.
        assert_eq!(hash_key(&1u64), 0x2fbc_5935_64db_792e);
        assert_eq!(hash_key("UA"), 0x36d5_ecd0_532f_17b8);
    }

    #[test]
    fn every_group_has_exactly_the_worker_that_lists_it() {
        for workers in 1..=17 {
            let mut seen = 0;
            for worker in 0..workers {
                for group in groups_of_worker(worker, workers) {
                    assert_eq!(worker_of(group, workers), worker);
                    seen += 1;
                }
            }
            assert_eq!(seen, KEY_GROUPS);
        }
    }
}
