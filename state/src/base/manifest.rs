//! Looks at two kinds of RocksDB's files before it does.
//!
//! RocksDB (11.8.1) reads its manifest and its write-ahead log by a reader that never returns from
//! a record of a reused file where there was none before: one flipped bit hangs the process. It
//! also takes a header of zeros for the end of a block, and leaves out what follows. And a
//! write-ahead log is replayed whatever it is, while ours is always off.

#[cfg(feature = "rocksdb")]
use std::fs;
#[cfg(feature = "rocksdb")]
use std::path::Path;

#[cfg(feature = "rocksdb")]
use crate::Error;
#[cfg(feature = "rocksdb")]
use crate::files::{Disk, Files};

/// Records do not cross blocks of this size.
const BLOCK: usize = 32 << 10;

/// Checksum (4 bytes), length (2), kind (1).
const HEAD: usize = 7;

/// Whole, first, middle, last: no others stand in a manifest.
const KINDS: std::ops::RangeInclusive<u8> = 1..=4;

/// Whether RocksDB can be trusted to read a manifest: fuzzing asks that, too.
#[must_use]
pub fn manifest_is_readable(bytes: &[u8]) -> bool {
    bytes.chunks(BLOCK).all(is_block)
}

/// Refuses what RocksDB would not refuse in the database in `dir`, if there is one.
#[cfg(feature = "rocksdb")]
pub(super) fn check(dir: &Path) -> Result<(), Error> {
    let failed = |e: std::io::Error| Error::io(dir, &e);
    let damaged =
        |name: &str, what: &str| Err(Error::Corrupt(format!("`{name}` {what}")).within(dir));
    for (name, length) in Disk.list(dir).map_err(failed)? {
        if name.ends_with(".log") && length > 0 {
            return damaged(&name, "is a log of another RocksDB, or damaged: ours are empty");
        }
    }
    // Whatever cannot be read or is no name is for RocksDB to refuse.
    let current = fs::read_to_string(dir.join("CURRENT")).unwrap_or_default();
    let Some(name) = current.strip_suffix('\n').filter(|name| name.starts_with("MANIFEST-")) else {
        return Ok(());
    };
    match fs::read(dir.join(name)) {
        Ok(bytes) if !manifest_is_readable(&bytes) => damaged(name, "is damaged"),
        _ => Ok(()),
    }
}

/// Whether RocksDB can be trusted to read the block. Checksums are left to it.
fn is_block(block: &[u8]) -> bool {
    let mut rest = block;
    while let Some((head, behind)) = rest.split_first_chunk::<HEAD>() {
        let length = usize::from(u16::from_le_bytes([head[4], head[5]]));
        if !KINDS.contains(&head[6]) {
            // The length of the file had arrived, the bytes had not.
            return rest.iter().all(|byte| *byte == 0);
        }
        let Some(next) = behind.get(length..) else { break };
        rest = next;
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_kinds_that_are_written_pass() {
        let record = |kind: u8| [&[0, 0, 0, 0, 2, 0, kind][..], b"ab"].concat();
        let two = |kind: u8| [record(1), record(kind)].concat();
        assert!((1..=4).all(|kind| is_block(&two(kind))));
        assert!((5..=255).chain([0]).all(|kind| !is_block(&two(kind))));
        // Cut short, or not yet written: as a crash leaves it.
        assert!((0..18).all(|length| is_block(&two(2)[..length])));
        assert!(is_block(&[record(1), vec![0; 40]].concat()));
        assert!(!is_block(&[record(1), vec![0; 40], record(1)].concat()));
    }
}
