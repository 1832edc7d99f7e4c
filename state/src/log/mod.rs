//! The tick log: commits, one behind the other, each a group that is whole or not there.
//!
//! A log is a chain of segments. Every start writes the tail anew, under its own incarnation,
//! and syncs it: so nothing counts as durable that was only seen in a cache, and a group of an
//! earlier life behind the end is never taken for one of ours.

mod group;
mod recover;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub(crate) use recover::{Recovered, recover};

use crate::base::Position;
use crate::files::{AppendFile, Files, write_whole};
use crate::planted::planted;
use crate::{Commit, Error, hash_bytes};

const MAGIC: [u8; 8] = *b"HWLOG002";

/// Of segments in which nothing is deleted by prefix; they are read like the others.
const OLD_MAGIC: [u8; 8] = *b"HWLOG001";

/// Magic, incarnation, position before the first group, and the checksum of all these.
const HEAD: usize = 40;

/// What is encoded of a large commit at a time.
const PIECE: usize = 1 << 20;

/// The head of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Head {
    incarnation: u64,
    before: Position,
}

impl Head {
    fn encode(&self) -> [u8; HEAD] {
        let mut bytes = [0; HEAD];
        bytes[..8].copy_from_slice(&MAGIC);
        bytes[8..16].copy_from_slice(&self.incarnation.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.before.seq.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.before.chain.to_le_bytes());
        let checksum = hash_bytes(&bytes[..32]);
        bytes[32..].copy_from_slice(&checksum.to_le_bytes());
        bytes
    }

    fn decode(bytes: &[u8]) -> Option<Head> {
        let bytes = bytes.get(..HEAD)?;
        let field = |index: usize| {
            let bytes = bytes[index * 8..].first_chunk::<8>();
            bytes.map_or(0, |b| u64::from_le_bytes(*b))
        };
        let known = bytes[..8] == MAGIC || bytes[..8] == OLD_MAGIC;
        let whole = known && field(4) == hash_bytes(&bytes[..32]);
        let before = Position { seq: field(2), chain: field(3) };
        whole.then(|| Head { incarnation: field(1), before })
    }

    /// The name of the file: so the latest incarnation is found without opening any.
    fn name(&self) -> String {
        format!("{:016x}-{:016x}.log", self.incarnation, self.before.seq + 1)
    }
}

fn parse_name(name: &str) -> Option<(u64, u64)> {
    let (incarnation, first) = name.strip_suffix(".log")?.split_once('-')?;
    let number = |text: &str| match text.len() {
        16 => u64::from_str_radix(text, 16).ok(),
        _ => None,
    };
    Some((number(incarnation)?, number(first)?))
}

/// The log, open for appending.
pub(crate) struct Log {
    files: Arc<dyn Files>,
    dir: PathBuf,
    incarnation: u64,
    end: Position,
    file: Box<dyn AppendFile>,
    /// Segments by the number of their first commit; the last one is being written.
    segments: BTreeMap<u64, String>,
    buffer: Vec<u8>,
    /// Something was begun and not finished: what the last segment ends with is unknown.
    failed: bool,
}

impl Log {
    /// Starts a new life of the log: writes `tail`, which follows `before`, anew and syncs it,
    /// then removes what earlier lives left.
    pub(crate) fn start(
        files: Arc<dyn Files>,
        dir: &Path,
        incarnation: u64,
        before: Position,
        tail: &[Arc<Commit>],
    ) -> Result<(Log, Vec<Position>), Error> {
        let failed = |e: std::io::Error| Error::io(dir, &e);
        let head = Head { incarnation, before };
        let mut bytes = head.encode().to_vec();
        let (mut end, mut positions) = (before, Vec::new());
        for commit in tail {
            end = group::encode(end, incarnation, commit, &mut bytes).map_err(failed)?;
            positions.push(end);
        }
        let name = head.name();
        if planted("tail-not-rewritten") {
            let mut file = files.open(&dir.join(&name), None).map_err(failed)?;
            file.append(&bytes).map_err(failed)?;
        } else {
            write_whole(&*files, dir, &name, &bytes).map_err(failed)?;
        }
        for old in files.list(dir).map_err(failed)?.keys().filter(|old| **old != name) {
            files.remove(&dir.join(old)).map_err(failed)?;
        }
        files.sync_dir(dir).map_err(failed)?;
        let file = files.open(&dir.join(&name), Some(bytes.len() as u64)).map_err(failed)?;
        let segments = BTreeMap::from([(before.seq + 1, name)]);
        let dir = dir.to_owned();
        let (buffer, failed) = (Vec::new(), false);
        let log = Log { files, dir, incarnation, end, file, segments, buffer, failed };
        Ok((log, positions))
    }

    /// Nothing is written after a failure: a segment that follows a commit of which nobody
    /// knows would say that there was none. So whoever writes begins here, and ends by
    /// [`finish`](Self::finish); a panic in between counts as a failure, too.
    fn begin(&mut self) -> Result<(), Error> {
        if std::mem::replace(&mut self.failed, true) && !planted("freeze-without-check") {
            return Err(Error::Failed("the log could not be written".into()));
        }
        Ok(())
    }

    fn finish(&mut self) {
        self.failed = false;
    }

    /// The last commit.
    pub(crate) fn end(&self) -> Position {
        self.end
    }

    /// Appends a commit, durably. After an error the log refuses all further work.
    pub(crate) fn append(&mut self, commit: &Commit) -> Result<Position, Error> {
        self.begin()?;
        let (from, buffer) = ((self.end, self.incarnation), (&mut self.buffer, PIECE));
        let end = group::write(from, commit, buffer, &mut |bytes| self.file.append(bytes));
        let end = end.map_err(|e| Error::io(&self.dir, &e))?;
        if !planted("commit-not-synced") {
            self.file.sync().map_err(|e| Error::io(&self.dir, &e))?;
        }
        self.end = end;
        self.finish();
        Ok(end)
    }

    /// Begins a new segment, so that those before it can go when the base holds them.
    pub(crate) fn rotate(&mut self) -> Result<(), Error> {
        self.begin()?;
        let head = Head { incarnation: self.incarnation, before: self.end };
        let name = head.name();
        let failed = |e: std::io::Error| Error::io(&self.dir, &e);
        let mut file = self.files.open(&self.dir.join(&name), None).map_err(failed)?;
        file.append(&head.encode()).map_err(failed)?;
        // Soon this may be the only segment: its head must be there even with no commit in it.
        file.sync().map_err(failed)?;
        self.files.sync_dir(&self.dir).map_err(failed)?;
        self.file = file;
        self.segments.insert(self.end.seq + 1, name);
        self.finish();
        Ok(())
    }

    /// Removes the segments that hold nothing after commit `seq`, which the base holds durably.
    pub(crate) fn cut(&mut self, seq: u64) -> Result<(), Error> {
        self.begin()?;
        let failed = |e: std::io::Error| Error::io(&self.dir, &e);
        // No commit has synced the last segment yet, and it may be the only one soon.
        if self.segments.contains_key(&(self.end.seq + 1)) {
            self.file.sync().map_err(failed)?;
        }
        while let Some((&first, name)) = self.segments.first_key_value() {
            let next = self.segments.keys().nth(1).copied();
            if next.is_none_or(|next| next > seq + 1) {
                break;
            }
            self.files.remove(&self.dir.join(name)).map_err(failed)?;
            self.segments.remove(&first);
        }
        self.finish();
        Ok(())
    }
}
