//! The store on RocksDB: one atomic, synced write batch per commit.
//!
//! Layout of a key: `e`, the operator id, a zero byte, the group (2 bytes, big-endian), the
//! entry's key. The record lies under `r`. Operator ids hold no zero byte. Each value is
//! preceded by the low four bytes of its XXH3-64.

use std::ops::Range;
use std::path::{Path, PathBuf};

use rocksdb::{DB, Direction, IteratorMode, Options, WriteBatch, WriteOptions};
use xxhash_rust::xxh3::xxh3_64;

use crate::store::Visit;
use crate::{Commit, Error, KeyGroup, Store};

const RECORD: &[u8] = b"r";

/// A store in a directory, by RocksDB.
pub struct RocksStore {
    db: DB,
    path: PathBuf,
}

impl RocksStore {
    /// Opens the store in `path`, or makes one there.
    ///
    /// # Errors
    /// [`Error::InUse`] where another process has it open, [`Error::Io`] where the directory
    /// cannot be used, [`Error::Corrupt`] where RocksDB finds its files damaged.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let mut options = Options::default();
        options.create_if_missing(true);
        options.set_compression_type(rocksdb::DBCompressionType::Lz4);
        options.set_keep_log_file_num(2);
        let db = DB::open(&options, path).map_err(|e| classify(path, &e))?;
        Ok(RocksStore { db, path: path.to_owned() })
    }

    /// Opens the store to read what it holds, beside a process that writes it.
    ///
    /// # Errors
    /// As [`open`](Self::open), and where there is no store.
    pub fn open_read_only(path: &Path) -> Result<Self, Error> {
        let db = DB::open_for_read_only(&Options::default(), path, false)
            .map_err(|e| classify(path, &e))?;
        Ok(RocksStore { db, path: path.to_owned() })
    }
}

fn classify(path: &Path, error: &rocksdb::Error) -> Error {
    let message = error.clone().into_string();
    let path = path.to_owned();
    match error.kind() {
        rocksdb::ErrorKind::IOError if message.contains("lock") => Error::InUse { path },
        rocksdb::ErrorKind::Corruption => Error::Corrupt(message),
        _ => Error::Io { path, message },
    }
}

fn prefix(operator: &str) -> Vec<u8> {
    let mut key = Vec::with_capacity(operator.len() + 24);
    key.push(b'e');
    key.extend_from_slice(operator.as_bytes());
    key.push(0);
    key
}

fn seal(value: &[u8], into: &mut Vec<u8>) {
    into.clear();
    into.extend_from_slice(&(xxh3_64(value) as u32).to_le_bytes());
    into.extend_from_slice(value);
}

fn unseal(bytes: &[u8]) -> Result<&[u8], Error> {
    let (checksum, value) = bytes
        .split_first_chunk::<4>()
        .ok_or_else(|| Error::Corrupt("an entry is cut short".into()))?;
    if (xxh3_64(value) as u32).to_le_bytes() != *checksum {
        return Err(Error::Corrupt("the checksum of an entry does not match".into()));
    }
    Ok(value)
}

impl Store for RocksStore {
    fn record(&self) -> Result<Option<Vec<u8>>, Error> {
        self.db.get(RECORD).map_err(|e| classify(&self.path, &e))
    }

    fn commit(&self, commit: &Commit) -> Result<(), Error> {
        let mut batch = WriteBatch::default();
        let mut sealed = Vec::new();
        for changes in &commit.changes {
            let mut full_key = prefix(changes.operator());
            let prefix_len = full_key.len();
            for (group, key, value) in changes.iter() {
                full_key.truncate(prefix_len);
                full_key.extend_from_slice(&group.to_be_bytes());
                full_key.extend_from_slice(key);
                match value {
                    Some(value) => {
                        seal(value, &mut sealed);
                        batch.put(&full_key, &sealed);
                    }
                    None => batch.delete(&full_key),
                }
            }
        }
        batch.put(RECORD, &commit.record);
        let mut options = WriteOptions::default();
        options.set_sync(true);
        self.db.write_opt(batch, &options).map_err(|e| classify(&self.path, &e))
    }

    fn scan(
        &self,
        operator: &str,
        groups: Range<KeyGroup>,
        visit: &mut Visit<'_>,
    ) -> Result<(), Error> {
        let operator_prefix = prefix(operator);
        let mut from = operator_prefix.clone();
        from.extend_from_slice(&groups.start.to_be_bytes());
        for entry in self.db.iterator(IteratorMode::From(&from, Direction::Forward)) {
            let (key, value) = entry.map_err(|e| classify(&self.path, &e))?;
            let Some((group, key)) = key
                .strip_prefix(operator_prefix.as_slice())
                .and_then(<[u8]>::split_first_chunk::<2>)
            else {
                break;
            };
            let group = KeyGroup::from_be_bytes(*group);
            if group >= groups.end {
                break;
            }
            visit(group, key, unseal(&value)?)?;
        }
        Ok(())
    }
}
