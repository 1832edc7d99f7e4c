//! The seam to the disk: every file operation of ours goes through it, so that each can be
//! numbered, torn and made to fail. RocksDB's own files do not.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::path::Path;

/// What is done to files. Content becomes durable by [`AppendFile::sync`], names by
/// [`sync_dir`](Self::sync_dir).
pub trait Files: Send + Sync + 'static {
    /// Makes a directory and those above it, durably, where they are missing.
    ///
    /// # Errors
    /// What the system says.
    fn create_dir(&self, dir: &Path) -> io::Result<()>;

    /// The files in a directory with their lengths; none if there is no such directory.
    ///
    /// # Errors
    /// What the system says.
    fn list(&self, dir: &Path) -> io::Result<BTreeMap<String, u64>>;

    /// The content of a file.
    ///
    /// # Errors
    /// What the system says.
    fn read(&self, path: &Path) -> io::Result<Vec<u8>>;

    /// Opens a file for appending: a new one, or with `Some(length)` one that is there, cut to
    /// that length.
    ///
    /// # Errors
    /// What the system says; a new file must not be there.
    fn open(&self, path: &Path, cut_to: Option<u64>) -> io::Result<Box<dyn AppendFile>>;

    /// Renames a file, over another if need be.
    ///
    /// # Errors
    /// What the system says.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Removes a file.
    ///
    /// # Errors
    /// What the system says.
    fn remove(&self, path: &Path) -> io::Result<()>;

    /// Makes the names in a directory durable.
    ///
    /// # Errors
    /// What the system says.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;

    /// The directories in a directory; none if there is no such directory.
    ///
    /// # Errors
    /// What the system says.
    fn list_dirs(&self, dir: &Path) -> io::Result<Vec<String>>;

    /// Removes a directory with all that is in it.
    ///
    /// # Errors
    /// What the system says.
    fn remove_dir(&self, dir: &Path) -> io::Result<()>;
}

/// A file that grows. The handle is kept from the first write to the sync: an error of writing
/// back is reported to a handle that was open when it happened.
pub trait AppendFile: Send {
    /// Appends to the file.
    ///
    /// # Errors
    /// What the system says; part of the bytes may have been written.
    fn append(&mut self, bytes: &[u8]) -> io::Result<()>;

    /// Makes content and length durable.
    ///
    /// # Errors
    /// What the system says; what is durable is unknown then.
    fn sync(&mut self) -> io::Result<()>;
}

/// Writes a file whole or not at all, durably, over what was there.
///
/// # Errors
/// What the system says; the old file is still there unless only the last step failed.
pub fn write_whole(files: &dyn Files, dir: &Path, name: &str, bytes: &[u8]) -> io::Result<()> {
    let temporary = dir.join(format!("{name}.tmp"));
    if files.list(dir)?.contains_key(&format!("{name}.tmp")) {
        files.remove(&temporary)?;
    }
    let mut file = files.open(&temporary, None)?;
    file.append(bytes)?;
    file.sync()?;
    files.rename(&temporary, &dir.join(name))?;
    files.sync_dir(dir)
}

/// The real disk.
#[derive(Clone, Copy, Debug, Default)]
pub struct Disk;

impl AppendFile for fs::File {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.write_all(bytes)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.sync_data()
    }
}

impl Files for Disk {
    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        fs::create_dir_all(dir)?;
        // The name of a directory stands in its parent, and is durable when that is. One that is
        // there already may have been made by a process that died before it could say so.
        for parent in dir.ancestors().skip(1) {
            let here = parent.as_os_str().is_empty();
            match self.sync_dir(if here { Path::new(".") } else { parent }) {
                // What we may not even open we have not made.
                Err(error) if error.kind() == ErrorKind::PermissionDenied => {}
                synced => synced?,
            }
        }
        Ok(())
    }

    fn list(&self, dir: &Path) -> io::Result<BTreeMap<String, u64>> {
        let mut names = BTreeMap::new();
        let entries = match fs::read_dir(dir) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(names),
            entries => entries?,
        };
        for entry in entries {
            let entry = entry?;
            match entry.metadata() {
                Ok(meta) if meta.is_file() => {
                    if let Some(name) = entry.file_name().to_str() {
                        names.insert(name.to_owned(), meta.len());
                    }
                }
                Ok(_) => {}
                // Whoever reads the directory may take finished files away at any time.
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(names)
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        fs::read(path)
    }

    fn open(&self, path: &Path, cut_to: Option<u64>) -> io::Result<Box<dyn AppendFile>> {
        let mut options = OpenOptions::new();
        // `create_new`: nobody else writes files here, and if somebody does it shows.
        options.append(true).create_new(cut_to.is_none());
        let file = options.open(path)?;
        if let Some(length) = cut_to {
            file.set_len(length)?;
        }
        Ok(Box::new(file))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        fs::File::open(dir)?.sync_all()
    }

    fn list_dirs(&self, dir: &Path) -> io::Result<Vec<String>> {
        let entries = match fs::read_dir(dir) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries?,
        };
        let mut names = Vec::new();
        for entry in entries {
            let entry = entry?;
            if entry.file_type()?.is_dir()
                && let Some(name) = entry.file_name().to_str()
            {
                names.push(name.to_owned());
            }
        }
        names.sort();
        Ok(names)
    }

    fn remove_dir(&self, dir: &Path) -> io::Result<()> {
        fs::remove_dir_all(dir)
    }
}
