//! The base on RocksDB.
//!
//! What moves into it is sorted already, so it is written as a file of the database's own kind,
//! which the database then takes in whole: one atomic and durable step, without write-ahead log,
//! batch or memtable. After a crash the base is complete up to some earlier commit, and says up to
//! which. See ADR 37.

use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;
use std::{fs, io};

use rocksdb::checkpoint::Checkpoint;
use rocksdb::{
    BlockBasedIndexType, BlockBasedOptions, Cache, DB, Direction, IngestExternalFileOptions,
    IteratorMode, Options, ReadOptions, SstFileWriter,
};

use super::{
    Base, EachChange, Position, VisitRaw, behind, decode_head, encode_head, manifest, seal, unseal,
};
use crate::planted::planted;
use crate::store::Found;
use crate::{Error, Op};

/// The key of position and record; it stands behind all entries.
const HEAD: &[u8] = b"head2";

/// Where the first format kept its record.
const OLD_HEAD: &[u8] = b"r";

/// The file that is being written, in the directory of the database.
const NEXT: &str = "next";

/// A base in a directory, by RocksDB.
pub struct RocksBase {
    db: DB,
    options: Options,
    path: PathBuf,
}

/// With so many files that overlap each other, a read looks at too many of them: what is to move
/// waits for the compaction. RocksDB itself would only hold back writes.
const MOST_FILES: u64 = 20;

/// Between two looks at their number.
const WAIT: Duration = Duration::from_millis(10);

/// Bits per key of the filter that spares reads of keys that are not there.
const FILTER_BITS: f64 = 10.0;

/// Compactions write at most so many bytes a second, so that commits find the disk. What moves into
/// the base is not held to it.
const BACKGROUND_BYTES_PER_SECOND: i64 = 96 << 20;

fn options(memory: u64) -> Options {
    let mut table = BlockBasedOptions::default();
    table.set_bloom_filter(FILTER_BITS, false);
    table.set_block_cache(&Cache::new_lru_cache((memory / 4 * 3) as usize));
    table.set_cache_index_and_filter_blocks(true);
    table.set_pin_l0_filter_and_index_blocks_in_cache(true);
    // In parts: a file's whole filter does not fit into a shard of a small cache, and would be
    // read anew for every key.
    table.set_index_type(BlockBasedIndexType::TwoLevelIndexSearch);
    table.set_partition_filters(true);
    table.set_pin_top_level_index_and_filter(true);
    // Checksums of the footer too, and of blocks that stand in another place or file.
    table.set_format_version(6);
    let mut options = Options::default();
    options.set_block_based_table_factory(&table);
    options.set_compression_type(rocksdb::DBCompressionType::Lz4);
    // Its diary and its manifest stay small however long it runs.
    options.set_keep_log_file_num(2);
    options.set_max_log_file_size(1 << 20);
    options.set_stats_dump_period_sec(0);
    options.set_max_manifest_file_size(4 << 20);
    options.set_paranoid_checks(true);
    // Nothing is written through a memtable.
    options.set_write_buffer_size(1 << 20);
    // A file is as large as what moves; the system is not to write all of it at its sync.
    options.set_bytes_per_sync(1 << 20);
    options.set_max_background_jobs(2);
    options.set_ratelimiter(BACKGROUND_BYTES_PER_SECOND, 100_000, 10);
    options.set_level_compaction_dynamic_level_bytes(true);
    options
}

impl RocksBase {
    /// Opens the base in `path`, or makes one there, for cache and buffers of about `memory`
    /// bytes.
    ///
    /// # Errors
    /// [`Error::InUse`] where another process has it open, [`Error::Io`] where the directory
    /// cannot be used, [`Error::Corrupt`] where RocksDB finds its files damaged.
    pub fn open(path: &Path, memory: u64) -> Result<Self, Error> {
        manifest::check(path)?;
        let mut options = options(memory);
        options.create_if_missing(true);
        let db = DB::open(&options, path).map_err(|e| classify(path, &e))?;
        Ok(RocksBase { db, options, path: path.to_owned() })
    }

    /// Opens the base to read what it holds, beside a process that writes it.
    ///
    /// # Errors
    /// As [`open`](Self::open), and where there is no base.
    pub fn open_read_only(path: &Path) -> Result<Self, Error> {
        manifest::check(path)?;
        let mut options = options(64 << 20);
        // All files at once: what is open can be read even after the writer has removed it.
        options.set_max_open_files(-1);
        let db = DB::open_for_read_only(&options, path, false).map_err(|e| classify(path, &e))?;
        Ok(RocksBase { db, options, path: path.to_owned() })
    }

    fn failed(&self, error: rocksdb::Error) -> Error {
        classify(&self.path, &error)
    }

    /// Writes a file with all of the changes, and with position and record behind them.
    fn write(
        &self,
        path: &Path,
        position: Position,
        record: &[u8],
        changes: &mut EachChange<'_>,
    ) -> Result<(), rocksdb::Error> {
        let mut file = SstFileWriter::create(&self.options);
        file.open(path)?;
        let (mut written, mut sealed) = (Ok(()), Vec::new());
        changes(&mut |key, op| {
            if written.is_err() {
                return;
            }
            written = match op {
                Op::Put(value) => {
                    seal(value, &mut sealed);
                    file.put(key, &sealed)
                }
                Op::Delete => file.delete(key),
                // Of what other files hold: not of what is in this one.
                Op::DeletePrefix => match behind(key) {
                    Some(behind) => file.delete_range(key, &behind),
                    None => Ok(()),
                },
            };
        });
        written?;
        file.put(HEAD, encode_head(position, record))?;
        file.finish()
    }

    /// Returns when few enough files overlap each other.
    fn wait_for_compaction(&self) -> Result<(), Error> {
        let number = |name: &str| {
            let value = self.db.property_int_value(name).map_err(|e| self.failed(e))?;
            Ok::<_, Error>(value.unwrap_or(0))
        };
        while number("rocksdb.num-files-at-level0")? >= MOST_FILES {
            if number("rocksdb.background-errors")? > 0 {
                let message = "RocksDB cannot compact its files: see its file LOG".to_owned();
                return Err(Error::Io { path: self.path.clone(), message });
            }
            thread::sleep(WAIT);
        }
        Ok(())
    }

    fn unseal<'a>(&self, bytes: &'a [u8]) -> Result<&'a [u8], Error> {
        unseal(bytes).map_err(|e| e.within(&self.path))
    }
}

/// How RocksDB says that somebody has the directory open: another process, or this one. Whatever
/// else it says may hold the word, if only in a path.
const LOCKED: [&str; 2] = ["IO error: While lock file: ", "IO error: lock hold by current process"];

fn classify(path: &Path, error: &rocksdb::Error) -> Error {
    let message = error.clone().into_string();
    let path = path.to_owned();
    match error.kind() {
        rocksdb::ErrorKind::IOError if LOCKED.iter().any(|text| message.starts_with(text)) => {
            Error::InUse { path }
        }
        rocksdb::ErrorKind::IOError => Error::Io { path, message },
        _ => Error::Corrupt(format!("{}: {message}", path.display())),
    }
}

impl Base for RocksBase {
    fn folder(&self) -> &'static str {
        "db"
    }

    fn position(&self) -> Result<(Position, Option<Vec<u8>>), Error> {
        match self.db.get(HEAD).map_err(|e| self.failed(e))? {
            Some(bytes) => {
                let (position, record) = decode_head(&bytes).map_err(|e| e.within(&self.path))?;
                Ok((position, Some(record)))
            }
            None if self.db.get(OLD_HEAD).map_err(|e| self.failed(e))?.is_some() => {
                Err(Error::Corrupt(format!(
                    "{} was written in format 1, which had no log: run its flow to the end with \
                     the version that wrote it",
                    self.path.display()
                )))
            }
            // No step leaves entries and nothing that says up to which commit they are.
            None => match self.db.iterator(IteratorMode::Start).next() {
                None => Ok((Position::default(), None)),
                Some(Err(error)) => Err(self.failed(error)),
                Some(Ok(_)) => {
                    let message = "holds entries of somebody else".to_owned();
                    Err(Error::Corrupt(message).within(&self.path))
                }
            },
        }
    }

    fn apply(
        &self,
        position: Position,
        record: &[u8],
        changes: &mut EachChange<'_>,
    ) -> Result<(), Error> {
        self.wait_for_compaction()?;
        let next = self.path.join(NEXT);
        // IMPORTANT: the name first. After a crash it may be a second one of a file in use, which
        // opening it for writing would empty.
        if !planted("file-in-use-opened")
            && let Err(error) = fs::remove_file(&next)
            && error.kind() != io::ErrorKind::NotFound
        {
            return Err(Error::io(&next, &error));
        }
        self.write(&next, position, record, changes).map_err(|e| self.failed(e))?;
        let mut options = IngestExternalFileOptions::default();
        options.set_move_files(true);
        let taken = self.db.ingest_external_file_opts(&options, vec![next]);
        taken.map_err(|e| self.failed(e))
    }

    fn sync(&self) -> Result<(), Error> {
        // What is applied is durable already.
        Ok(())
    }

    fn get(&self, keys: &[Vec<u8>], found: &mut Found<'_>) -> Result<(), Error> {
        let values = self.db.multi_get(keys);
        for (index, value) in values.into_iter().enumerate() {
            if let Some(value) = value.map_err(|e| self.failed(e))? {
                found(index, self.unseal(&value)?)?;
            }
        }
        Ok(())
    }

    fn scan(&self, from: &[u8], visit: &mut VisitRaw<'_>) -> Result<(), Error> {
        let mut options = ReadOptions::default();
        options.fill_cache(false);
        let mode = IteratorMode::From(from, Direction::Forward);
        for entry in self.db.iterator_opt(mode, options) {
            let (key, value) = entry.map_err(|e| self.failed(e))?;
            if &*key == HEAD {
                break;
            }
            if !visit(&key, self.unseal(&value)?)? {
                break;
            }
        }
        Ok(())
    }

    fn checkpoint(&self, dir: &Path) -> Result<(Position, Option<Vec<u8>>), Error> {
        let checkpoint = Checkpoint::new(&self.db).map_err(|e| self.failed(e))?;
        checkpoint.create_checkpoint(dir).map_err(|e| self.failed(e))?;
        RocksBase::open_read_only(dir)?.position()
    }

    fn compact(&self) -> Result<(), Error> {
        self.db.compact_range::<&[u8], &[u8]>(None, None);
        Ok(())
    }
}
