//! Snapshots: a directory tree that holds the state as of one commit, and says so.
//!
//! A snapshot is a state directory (`db` or `base`, and `log`) with a manifest beside it that
//! names every file with its length and content hash. The manifest is written last: without it
//! there is no snapshot. Every snapshot has files of its own; none is taken over from another by
//! its name, for names of files come again after a restore.

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::durable::Copied;
use crate::files::{AppendFile, Files, write_whole};
use crate::log::Log;
use crate::planted::planted;
use crate::{DurableStore, Error, decode_sealed, encode_sealed, hash_bytes};

const MANIFEST: &str = "MANIFEST";

/// A file of this name stands in a directory for as long as a snapshot is being restored there.
const RESTORING: &str = "RESTORING";

/// The folders that a snapshot may have.
const FOLDERS: [&str; 3] = ["base", "db", "log"];

const VERSION: u32 = 1;

/// What a snapshot holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    version: u32,
    /// Counts the snapshots of a state directory.
    pub generation: u64,
    /// The number of the commit.
    pub commit: u64,
    /// The record of the commit.
    pub record: Vec<u8>,
    /// Every file but the manifest.
    pub files: Vec<ManifestFile>,
}

/// A file of a snapshot.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ManifestFile {
    /// Its folder in the snapshot.
    pub folder: String,
    /// Its name.
    pub name: String,
    /// Its length in bytes.
    pub length: u64,
    /// XXH3-64 of its content.
    pub hash: u64,
}

impl Manifest {
    /// Bytes of all files.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.files.iter().map(|file| file.length).sum()
    }
}

/// The snapshots of a state directory, by generation.
///
/// # Errors
/// Where the directory cannot be read.
pub fn list(files: &dyn Files, state: &Path) -> Result<Vec<(u64, PathBuf)>, Error> {
    let dir = state.join("snapshots");
    let names = files.list_dirs(&dir).map_err(|e| Error::io(&dir, &e))?;
    let mut found: Vec<_> = names
        .iter()
        .filter_map(|name| Some((name.parse().ok()?, dir.join(name))))
        .filter(|(_, path)| files.list(path).is_ok_and(|names| names.contains_key(MANIFEST)))
        .collect();
    found.sort();
    Ok(found)
}

/// Takes a snapshot into the store's `snapshots` folder, and removes all but the last `keep`.
///
/// # Errors
/// Where it cannot be written; what was begun is removed by the next one.
pub fn take(store: &DurableStore, keep: usize) -> Result<(PathBuf, Manifest), Error> {
    let (files, dir) = (store.files(), store.dir().join("snapshots"));
    let failed = |e: std::io::Error| Error::io(&dir, &e);
    files.create_dir(&dir).map_err(failed)?;
    let names = files.list_dirs(&dir).map_err(failed)?;
    let last = names.iter().filter_map(|name| name.parse::<u64>().ok()).max();
    let generation = last.unwrap_or(0) + 1;
    let path = dir.join(format!("{generation:08}"));
    let manifest = write(store, &path, generation)?;
    files.sync_dir(&dir).map_err(failed)?;
    let whole = list(&**files, store.dir())?;
    let kept: Vec<_> = whole.iter().rev().take(keep.max(1)).map(|(_, path)| path).collect();
    // Older ones, and what was begun and never finished.
    for name in files.list_dirs(&dir).map_err(failed)? {
        let old = dir.join(&name);
        if name.parse::<u64>().is_ok() && !kept.contains(&&old) {
            if files.list(&old).map_err(failed)?.contains_key(MANIFEST) {
                files.remove(&old.join(MANIFEST)).map_err(failed)?;
            }
            files.remove_dir(&old).map_err(failed)?;
        }
    }
    Ok((path, manifest))
}

fn write(store: &DurableStore, path: &Path, generation: u64) -> Result<Manifest, Error> {
    let files = store.files();
    let failed = |e: std::io::Error| Error::io(path, &e);
    files.create_dir(path).map_err(failed)?;
    let folder = store.base_folder();
    // Only this holds up whoever fills the base: what follows takes as long as it takes.
    let Copied { base, mut tail, record } = store.copy_base(&path.join(folder))?;
    if planted("base-ahead-of-manifest") {
        tail.pop();
    }
    let log = path.join("log");
    files.create_dir(&log).map_err(failed)?;
    Log::start(files.clone(), &log, 1, base, &tail)?;
    let mut entries = Vec::new();
    for folder in [folder, "log"] {
        for name in content(&**files, &path.join(folder)).map_err(failed)? {
            let bytes = files.read(&path.join(folder).join(&name)).map_err(failed)?;
            let (mut length, mut hash) = (bytes.len() as u64, hash_bytes(&bytes));
            if planted("snapshot-file-by-name")
                && let Some((_, last)) = list(&**files, store.dir())?.last()
                && let Some(same) = verify(&**files, last)?
                    .files
                    .iter()
                    .find(|f| f.folder == folder && f.name == name)
            {
                (length, hash) = (same.length, same.hash);
            }
            entries.push(ManifestFile { folder: folder.to_owned(), name, length, hash });
        }
        files.sync_dir(&path.join(folder)).map_err(failed)?;
    }
    let commit = base.seq + tail.len() as u64;
    let manifest = Manifest { version: VERSION, generation, commit, record, files: entries };
    write_whole(&**files, path, MANIFEST, &encode_sealed(&manifest)?).map_err(failed)?;
    Ok(manifest)
}

/// The files of a folder that hold state: RocksDB writes its diary wherever it looks.
fn content(files: &dyn Files, dir: &Path) -> std::io::Result<Vec<String>> {
    let names = files.list(dir)?.into_keys();
    Ok(names.filter(|name| !name.starts_with("LOG") && name != "LOCK").collect())
}

/// Reads the manifest of a snapshot, and compares every file with it.
///
/// # Errors
/// [`Error::Corrupt`] names the first file that is missing, changed or not of the snapshot.
pub fn verify(files: &dyn Files, path: &Path) -> Result<Manifest, Error> {
    let failed = |e: std::io::Error| Error::io(path, &e);
    let damaged = |what: String| Error::Corrupt(format!("snapshot {}: {what}", path.display()));
    let bytes = match files.read(&path.join(MANIFEST)) {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            return Err(damaged("it has no manifest, so it was never finished".to_owned()));
        }
        bytes => bytes.map_err(failed)?,
    };
    let manifest: Manifest =
        decode_sealed(&bytes).map_err(|e| damaged(format!("the manifest: {e}")))?;
    if manifest.version != VERSION {
        return Err(damaged(format!("the manifest is of version {}", manifest.version)));
    }
    // A checksum is no signature: nothing may lead out of the snapshot, or of where it goes.
    let mut named = BTreeSet::new();
    for ManifestFile { folder, name, .. } in &manifest.files {
        let plain = Path::new(name).components().eq([Component::Normal(name.as_ref())]);
        if !plain || name.contains('\\') || !FOLDERS.contains(&folder.as_str()) {
            return Err(damaged(format!("the manifest names the file `{folder}/{name}`")));
        }
        if !named.insert((folder, name)) {
            return Err(damaged(format!("the manifest names `{folder}/{name}` twice")));
        }
    }
    for folder in FOLDERS {
        for name in content(files, &path.join(folder)).map_err(failed)? {
            let known = |file: &&ManifestFile| file.folder == folder && file.name == name;
            if !manifest.files.iter().any(|file| known(&file)) {
                return Err(damaged(format!("`{folder}/{name}` is not part of it")));
            }
        }
    }
    if !manifest.files.iter().any(|file| file.folder == "log") {
        return Err(damaged("the manifest names no log".to_owned()));
    }
    for ManifestFile { folder, name, length, hash } in &manifest.files {
        let bytes = files
            .read(&path.join(folder).join(name))
            .map_err(|e| damaged(format!("`{folder}/{name}` cannot be read: {e}")))?;
        if bytes.len() as u64 != *length || hash_bytes(&bytes) != *hash {
            return Err(damaged(format!("`{folder}/{name}` is damaged")));
        }
    }
    Ok(manifest)
}

/// Refuses to write into a snapshot, which would no longer be what its manifest says, and into
/// what [`check_restored`] refuses.
pub(crate) fn check_writable(files: &dyn Files, dir: &Path) -> Result<(), Error> {
    check_restored(files, dir)?;
    if files.list(dir).map_err(|e| Error::io(dir, &e))?.contains_key(MANIFEST) {
        let message = "it is a snapshot: restore it into another directory, and use that";
        return Err(Error::Io { path: dir.to_owned(), message: message.to_owned() });
    }
    Ok(())
}

/// Refuses a directory into which a snapshot was restored only in part.
pub(crate) fn check_restored(files: &dyn Files, dir: &Path) -> Result<(), Error> {
    if files.list(dir).map_err(|e| Error::io(dir, &e))?.contains_key(RESTORING) {
        return Err(Error::Corrupt(format!(
            "a snapshot was being restored into {}, and was not finished: restore it again",
            dir.display()
        )));
    }
    Ok(())
}

/// Makes a state directory of a snapshot. Until it is whole the directory cannot be used; if
/// this is interrupted, it can be done again.
///
/// # Errors
/// Where the snapshot is damaged, or `state` holds something already.
pub fn restore(files: &dyn Files, snapshot: &Path, state: &Path) -> Result<Manifest, Error> {
    let manifest = verify(files, snapshot)?;
    let failed = |e: std::io::Error| Error::io(state, &e);
    let begun = files.list(state).map_err(failed)?.contains_key(RESTORING);
    let mut taken = files.list_dirs(state).map_err(failed)?;
    taken.retain(|name| name != "snapshots");
    if begun {
        // What an interrupted one has left.
        for name in taken.extract_if(.., |name| FOLDERS.contains(&name.as_str())) {
            files.remove_dir(&state.join(name)).map_err(failed)?;
        }
    }
    if let Some(name) = taken.first() {
        let message = format!("it holds `{name}` already: restore into an empty directory");
        return Err(Error::Io { path: state.to_owned(), message });
    }
    files.create_dir(state).map_err(failed)?;
    if !planted("restore-not-marked") {
        write_whole(files, state, RESTORING, b"").map_err(failed)?;
    }
    for ManifestFile { folder, name, .. } in &manifest.files {
        let to = state.join(folder);
        files.create_dir(&to).map_err(failed)?;
        let bytes = files.read(&snapshot.join(folder).join(name)).map_err(failed)?;
        let mut file: Box<dyn AppendFile> = files.open(&to.join(name), None).map_err(failed)?;
        file.append(&bytes).map_err(failed)?;
        file.sync().map_err(failed)?;
        files.sync_dir(&to).map_err(failed)?;
    }
    if !planted("restore-not-marked") {
        files.remove(&state.join(RESTORING)).map_err(failed)?;
    }
    files.sync_dir(state).map_err(failed)?;
    Ok(manifest)
}

/// Makes a state directory of the last snapshot of another (or the same) that is whole. What
/// was damaged comes back too, for somebody to say so.
///
/// # Errors
/// Where no snapshot is whole, or `state` holds something already.
pub fn restore_latest(
    files: &Arc<dyn Files>,
    from: &Path,
    state: &Path,
) -> Result<(Manifest, Vec<Error>), Error> {
    let mut damaged = Vec::new();
    let dir = from.join("snapshots");
    let names = files.list_dirs(&dir).map_err(|e| Error::io(&dir, &e))?;
    let mut found: Vec<(u64, PathBuf)> =
        names.iter().filter_map(|name| Some((name.parse().ok()?, dir.join(name)))).collect();
    found.sort();
    for (_, path) in found.into_iter().rev() {
        match verify(&**files, &path) {
            Ok(_) => return Ok((restore(&**files, &path, state)?, damaged)),
            Err(error) => {
                tracing::error!(%error, "falling back to the snapshot before");
                damaged.push(error);
            }
        }
    }
    let last = damaged.last().map_or("there is none".to_owned(), ToString::to_string);
    Err(Error::Corrupt(format!("no snapshot in {} is whole: {last}", from.display())))
}
