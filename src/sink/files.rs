//! Files that a reader sees in whole commits only, each exactly once.
//!
//! Output of a commit goes to a hidden `.staging-{seq}` file, synced before the commit becomes
//! durable. A file whose time has come is renamed to `part-{seq}` after it. The token of the
//! commit says how long the staging file was and whether it was to be renamed, so recovery cuts
//! off what no commit covers, and finishes a rename that a crash has cut short.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use highwater_state::files::{AppendFile, Disk, Files as FileSystem};
use highwater_state::planted::planted;
use highwater_state::{decode_sealed, encode_sealed, hash_bytes};
use serde::{Deserialize, Serialize};

use super::{Chunk, CommitInfo, SinkWriter};
use crate::error::{BoxError, Error};
use crate::time::Tick;

/// Output is handed to the operating system in pieces of about this size.
const BUFFER_BYTES: usize = if cfg!(test) { 64 } else { 256 * 1024 };

const VERSION: u32 = 1;

/// Encoded rows, and what must stand once at the top of a file that holds them.
#[derive(Debug, Default)]
pub(super) struct Encoded {
    pub(super) header: Vec<u8>,
    pub(super) rows: Vec<u8>,
}

/// Where a sink's files go, and how often one is finished.
#[derive(Clone)]
pub(super) struct Files {
    pub(super) disk: Arc<dyn FileSystem>,
    pub(super) dir: PathBuf,
    pub(super) extension: &'static str,
    pub(super) visible_every: Duration,
}

impl fmt::Debug for Files {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Files { dir, extension, visible_every, .. } = self;
        write!(f, "*{extension} in {}, visible every {visible_every:?}", dir.display())
    }
}

impl Files {
    pub(super) fn new(dir: PathBuf, extension: &'static str) -> Self {
        Files { disk: Arc::new(Disk), dir, extension, visible_every: Duration::from_secs(1) }
    }

    pub(super) fn open(&self, token: Option<&[u8]>) -> Result<Box<dyn SinkWriter>, Error> {
        Ok(Box::new(self.open_writer(token)?))
    }

    /// Finishes or removes what a crash left, then goes on after the commit of `token`.
    fn open_writer(&self, token: Option<&[u8]>) -> Result<FileWriter, Error> {
        let token = token.map(Token::decode).transpose()?;
        let unusable = |e: std::io::Error| failed("use the directory", &self.dir, e);
        self.disk.create_dir(&self.dir).map_err(unusable)?;
        let mut listed = self.disk.list(&self.dir).map_err(unusable)?;
        self.refuse_foreign(&listed, token.as_ref())?;
        let mut writer = FileWriter {
            open: None,
            seq: token.as_ref().map_or(0, |token| token.seq),
            files: self.clone(),
            current: None,
            buffer: Vec::new(),
            closing: false,
        };
        if let Some(token) = token.filter(|token| token.staged_len > 0) {
            writer.recover(&token, &mut listed)?;
        }
        writer.remove_leftovers(&listed)?;
        Ok(writer)
    }

    /// A finished file that no commit knows of would be read twice or in place of ours.
    fn refuse_foreign(
        &self,
        listed: &BTreeMap<String, u64>,
        token: Option<&Token>,
    ) -> Result<(), Error> {
        let dir = self.dir.display();
        for name in listed.keys() {
            match token {
                None if name.starts_with("part-") && name.ends_with(self.extension) => {
                    return Err(Error::state(format!(
                        "the directory `{dir}` holds output of another run (`{name}`), and this \
                         flow has no commit yet: move that output away, choose another \
                         directory, or start with the state it belongs to"
                    )));
                }
                Some(token) if self.seq_in(name, "part-") >= Some(token.next_seq()) => {
                    return Err(Error::state(format!(
                        "`{dir}/{name}` is newer than the last commit: either the state is an \
                         older copy, or another flow writes to this directory. Move the file \
                         and those after it away to have them written again"
                    )));
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn seq_in(&self, name: &str, prefix: &str) -> Option<u64> {
        name.strip_prefix(prefix)?.strip_suffix(self.extension)?.parse().ok()
    }

    fn staging(&self, seq: u64) -> String {
        format!(".staging-{seq:08}{}", self.extension)
    }

    fn part(&self, seq: u64) -> String {
        format!("part-{seq:08}{}", self.extension)
    }
}

/// What a commit knows about the files. The version stands first and is never moved.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Token {
    version: u32,
    seq: u64,
    /// The length of the staging file `seq`; 0 if there is none.
    staged_len: u64,
    /// Whether the file is finished by this commit.
    close: bool,
    /// The tick clock at the first commit with output in the file.
    opened_micros: i64,
    header_hash: u64,
}

impl Token {
    fn decode(bytes: &[u8]) -> Result<Token, Error> {
        let token: Token = decode_sealed(bytes)?;
        if token.version != VERSION {
            return Err(Error::state(format!(
                "the last commit describes output files in version {}, and this program knows \
                 version {VERSION}",
                token.version
            )));
        }
        Ok(token)
    }

    fn next_seq(&self) -> u64 {
        self.seq + u64::from(self.close)
    }
}

/// The staging file that is being written.
#[derive(Debug)]
struct Current {
    /// With what is still in the buffer.
    len: u64,
    /// As of the last commit that was staged.
    staged_len: u64,
    opened_micros: Option<i64>,
    header_hash: u64,
}

struct FileWriter {
    files: Files,
    /// The staging file.
    open: Option<Box<dyn AppendFile>>,
    seq: u64,
    /// `None` until there is output for `seq`: no output, no file.
    current: Option<Current>,
    buffer: Vec<u8>,
    /// Staged to be finished, and not yet renamed.
    closing: bool,
}

impl FileWriter {
    fn recover(&mut self, token: &Token, listed: &mut BTreeMap<String, u64>) -> Result<(), Error> {
        let (staging, part) = (self.files.staging(token.seq), self.files.part(token.seq));
        let path = self.files.dir.join(&staging);
        match listed.remove(&staging) {
            Some(length) if length >= token.staged_len => {
                let disk = &*self.files.disk;
                let mut file = disk
                    .open(
                        &path,
                        Some(if planted("sink-committed-twice") {
                            length
                        } else {
                            token.staged_len
                        }),
                    )
                    .map_err(|e| failed("cut back", &path, e))?;
                if length > token.staged_len {
                    // Else what was cut off could come back, in a file that is visible by then.
                    file.sync().map_err(|e| failed("sync", &path, e))?;
                }
                self.open = Some(file);
                self.current = Some(Current {
                    len: token.staged_len,
                    staged_len: token.staged_len,
                    opened_micros: Some(token.opened_micros),
                    header_hash: token.header_hash,
                });
                self.closing = token.close;
                self.finish()
            }
            None if token.close && listed.contains_key(&part) => {
                // The rename may have been seen, and yet not have been durable.
                self.closing = true;
                self.sync_names()?;
                self.start_next();
                Ok(())
            }
            Some(length) => Err(Error::state(format!(
                "committed output is missing: `{}` has {length} bytes of {}. Put the file back, \
                 or start again with fresh state and an empty directory",
                path.display(),
                token.staged_len
            ))),
            None => Err(Error::state(format!(
                "committed output is missing: `{}` should have {} bytes{}. Put the file back, \
                 or start again with fresh state and an empty directory",
                path.display(),
                token.staged_len,
                if token.close { format!(", or be renamed to `{part}`") } else { String::new() },
            ))),
        }
    }

    /// `listed` has no longer the file that recovery has taken over.
    fn remove_leftovers(&mut self, listed: &BTreeMap<String, u64>) -> Result<(), Error> {
        for name in listed.keys() {
            if self.files.seq_in(name, ".staging-").is_some() {
                let path = self.files.dir.join(name);
                self.files.disk.remove(&path).map_err(|e| failed("remove", &path, e))?;
            }
        }
        Ok(())
    }

    fn staging_path(&self) -> PathBuf {
        self.files.dir.join(self.files.staging(self.seq))
    }

    /// Starts the staging file. Its name is durable before any commit counts on it.
    fn create(&mut self, header: &[u8], header_hash: u64) -> Result<(), Error> {
        let path = self.staging_path();
        let file = self.files.disk.open(&path, None).map_err(|e| failed("create", &path, e))?;
        self.open = Some(file);
        self.sync_names()?;
        self.buffer.extend_from_slice(header);
        self.current = Some(Current {
            len: header.len() as u64,
            staged_len: 0,
            opened_micros: None,
            header_hash,
        });
        Ok(())
    }

    fn flush(&mut self) -> Result<(), Error> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let path = self.staging_path();
        let file = self.open.as_mut().ok_or_else(|| Error::bug("no staging file is open"))?;
        file.append(&self.buffer).map_err(|e| failed("write to", &path, e))?;
        self.buffer.clear();
        Ok(())
    }

    fn sync_names(&mut self) -> Result<(), Error> {
        let disk = &*self.files.disk;
        disk.sync_dir(&self.files.dir).map_err(|e| failed("sync the directory", &self.files.dir, e))
    }

    /// Makes the staging file visible, if it is to be.
    fn finish(&mut self) -> Result<(), Error> {
        if !self.closing {
            return Ok(());
        }
        let (from, to) = (self.staging_path(), self.files.dir.join(self.files.part(self.seq)));
        self.files.disk.rename(&from, &to).map_err(|e| failed("rename", &from, e))?;
        if !planted("rename-not-synced") {
            self.sync_names()?;
        }
        self.start_next();
        Ok(())
    }

    fn start_next(&mut self) {
        self.seq += 1;
        self.open = None;
        self.current = None;
        self.closing = false;
    }
}

impl SinkWriter for FileWriter {
    fn write(&mut self, _tick: Tick, chunk: Chunk) -> Result<(), Error> {
        let Ok(encoded) = chunk.downcast::<Encoded>() else {
            return Err(Error::bug("a file sink was given a chunk of another sink"));
        };
        if self.closing {
            return Err(Error::bug("a file sink was written to between stage and publish"));
        }
        if encoded.rows.is_empty() {
            return Ok(());
        }
        let header_hash = hash_bytes(&encoded.header);
        if self.current.as_ref().is_some_and(|current| current.header_hash != header_hash) {
            return Err(Error::plan(format!(
                "rows for `{}` have other columns than those before them: all rows of one sink \
                 must have the same, before and after a restart",
                self.files.dir.display()
            )));
        }
        if self.current.is_none() {
            self.create(&encoded.header, header_hash)?;
        }
        self.buffer.extend_from_slice(&encoded.rows);
        if let Some(current) = &mut self.current {
            current.len += encoded.rows.len() as u64;
        }
        if self.buffer.len() >= BUFFER_BYTES { self.flush() } else { Ok(()) }
    }

    fn stage(&mut self, commit: &CommitInfo) -> Result<Vec<u8>, Error> {
        if self.closing {
            return Err(Error::bug("a file sink was staged again before it was published"));
        }
        self.flush()?;
        let path = self.staging_path();
        let mut token = Token {
            version: VERSION,
            seq: self.seq,
            staged_len: 0,
            close: false,
            opened_micros: commit.clock_micros,
            header_hash: 0,
        };
        if let Some(current) = &mut self.current {
            if current.len > current.staged_len {
                let file = self.open.as_mut().ok_or_else(|| Error::bug("no file is open"))?;
                file.sync().map_err(|e| failed("sync", &path, e))?;
                current.staged_len = current.len;
            }
            // A clock that was set back must not hide a file until it has caught up.
            let now = commit.clock_micros;
            let opened = current.opened_micros.filter(|&opened| opened <= now).unwrap_or(now);
            current.opened_micros = Some(opened);
            token.opened_micros = opened;
            token.staged_len = current.staged_len;
            token.header_hash = current.header_hash;
            let open_for = u128::from(now.abs_diff(opened));
            token.close = commit.last || open_for >= self.files.visible_every.as_micros();
        }
        self.closing = token.close;
        Ok(encode_sealed(&token)?)
    }

    fn due_micros(&self) -> Option<i64> {
        let every = i64::try_from(self.files.visible_every.as_micros()).unwrap_or(i64::MAX);
        Some(self.current.as_ref()?.opened_micros?.saturating_add(every))
    }

    fn publish(&mut self) -> Result<(), Error> {
        self.finish()
    }
}

fn failed(action: &str, path: &Path, cause: impl Into<BoxError>) -> Error {
    Error::io(format!("cannot {action} `{}`", path.display()), cause)
}
