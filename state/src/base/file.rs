//! A base in one file, rewritten whole at each sync: small enough to be tried at every crash
//! point, and with the promises of RocksDB's and no others.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{Base, EachChange, Position, VisitRaw, behind};
use crate::files::{Files, write_whole};
use crate::store::Found;
use crate::{Error, Op, decode_sealed, encode_sealed};

const NAME: &str = "base";

/// A base in one file of a directory. What is applied and not synced is lost in a crash.
pub struct FileBase {
    files: Arc<dyn Files>,
    dir: PathBuf,
    contents: Mutex<Contents>,
}

type Stored = (u64, u64, Option<Vec<u8>>, BTreeMap<Vec<u8>, Vec<u8>>);

#[derive(Default)]
struct Contents {
    position: Position,
    record: Option<Vec<u8>>,
    entries: BTreeMap<Vec<u8>, Vec<u8>>,
}

impl FileBase {
    /// Opens the base in `dir`, or makes one there.
    ///
    /// # Errors
    /// Where the file cannot be read, or is damaged.
    pub fn open(files: Arc<dyn Files>, dir: &Path) -> Result<Self, Error> {
        let failed = |e: std::io::Error| Error::io(dir, &e);
        files.create_dir(dir).map_err(failed)?;
        let mut contents = Contents::default();
        if files.list(dir).map_err(failed)?.contains_key(NAME) {
            let path = dir.join(NAME);
            let bytes = files.read(&path).map_err(failed)?;
            let (seq, chain, record, entries): Stored =
                decode_sealed(&bytes).map_err(|e| e.within(&path))?;
            contents = Contents { position: Position { seq, chain }, record, entries };
        }
        Ok(FileBase { files, dir: dir.to_owned(), contents: Mutex::new(contents) })
    }

    fn lock(&self) -> MutexGuard<'_, Contents> {
        self.contents.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self, dir: &Path) -> Result<(), Error> {
        let contents = self.lock();
        let Position { seq, chain } = contents.position;
        let bytes = encode_sealed(&(seq, chain, &contents.record, &contents.entries))?;
        write_whole(&*self.files, dir, NAME, &bytes).map_err(|e| Error::io(dir, &e))
    }
}

impl Base for FileBase {
    fn folder(&self) -> &'static str {
        "base"
    }

    fn position(&self) -> Result<(Position, Option<Vec<u8>>), Error> {
        let contents = self.lock();
        Ok((contents.position, contents.record.clone()))
    }

    fn apply(
        &self,
        position: Position,
        record: &[u8],
        changes: &mut EachChange<'_>,
    ) -> Result<(), Error> {
        let mut contents = self.lock();
        changes(&mut |key, op| match op {
            Op::Put(value) => drop(contents.entries.insert(key.to_vec(), value.to_vec())),
            Op::Delete => drop(contents.entries.remove(key)),
            Op::DeletePrefix => {
                let mut from = contents.entries.split_off(key);
                if let Some(behind) = behind(key) {
                    contents.entries.append(&mut from.split_off(&behind));
                }
            }
        });
        contents.position = position;
        contents.record = Some(record.to_vec());
        Ok(())
    }

    fn sync(&self) -> Result<(), Error> {
        self.write(&self.dir)
    }

    fn get(&self, keys: &[Vec<u8>], found: &mut Found<'_>) -> Result<(), Error> {
        let contents = self.lock();
        for (index, key) in keys.iter().enumerate() {
            if let Some(value) = contents.entries.get(key) {
                found(index, value)?;
            }
        }
        Ok(())
    }

    fn scan(&self, from: &[u8], visit: &mut VisitRaw<'_>) -> Result<(), Error> {
        for (key, value) in self.lock().entries.range(from.to_vec()..) {
            if !visit(key, value)? {
                break;
            }
        }
        Ok(())
    }

    fn checkpoint(&self, dir: &Path) -> Result<(Position, Option<Vec<u8>>), Error> {
        self.files.create_dir(dir).map_err(|e| Error::io(dir, &e))?;
        self.write(dir)?;
        FileBase::open(self.files.clone(), dir)?.position()
    }

    fn compact(&self) -> Result<(), Error> {
        Ok(())
    }
}
