//! The seam between the staged writer and the disk, so that every operation can be numbered and
//! made to fail.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::path::Path;

/// What the staged writer does to a disk. One file is open for appending at a time.
pub(super) trait FileOps: Send + 'static {
    /// Makes the directory, durably, where it is missing; the names in it with their lengths.
    fn enter(&mut self, dir: &Path) -> io::Result<BTreeMap<String, u64>>;
    /// Opens a file for appending: a new one, or with `Some(length)` one that is there, cut to
    /// that length.
    fn open(&mut self, path: &Path, cut_to: Option<u64>) -> io::Result<()>;
    /// Appends to the open file.
    fn append(&mut self, bytes: &[u8]) -> io::Result<()>;
    /// Makes content and length of the open file durable.
    fn sync(&mut self) -> io::Result<()>;
    fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()>;
    fn remove(&mut self, path: &Path) -> io::Result<()>;
    /// Makes the names in a directory durable.
    fn sync_dir(&mut self, dir: &Path) -> io::Result<()>;
}

/// The real disk. The handle is kept from first write to sync: an error of writing back is
/// reported to a handle that was open when it happened.
#[derive(Debug, Default)]
pub(super) struct Disk {
    file: Option<File>,
}

impl Disk {
    fn file(&mut self) -> io::Result<&mut File> {
        self.file.as_mut().ok_or_else(|| io::Error::other("no file is open"))
    }
}

impl FileOps for Disk {
    fn enter(&mut self, dir: &Path) -> io::Result<BTreeMap<String, u64>> {
        let missing: Vec<&Path> = dir.ancestors().take_while(|path| !path.exists()).collect();
        fs::create_dir_all(dir)?;
        // The name of a new directory stands in its parent, and is durable when that is.
        for parent in missing.iter().filter_map(|path| path.parent()) {
            let here = parent.as_os_str().is_empty();
            self.sync_dir(if here { Path::new(".") } else { parent })?;
        }
        let mut names = BTreeMap::new();
        for entry in fs::read_dir(dir)? {
            let entry = entry?;
            match entry.metadata() {
                Ok(meta) => {
                    if let Some(name) = entry.file_name().to_str() {
                        names.insert(name.to_owned(), meta.len());
                    }
                }
                // A reader of the directory may take finished files away at any time.
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(names)
    }

    fn open(&mut self, path: &Path, cut_to: Option<u64>) -> io::Result<()> {
        let mut options = OpenOptions::new();
        // `create_new`: nobody else writes staging files here, and if somebody does it shows.
        options.append(true).create_new(cut_to.is_none());
        let file = options.open(path)?;
        if let Some(length) = cut_to {
            file.set_len(length)?;
        }
        self.file = Some(file);
        Ok(())
    }

    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file()?.write_all(bytes)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.file()?.sync_data()
    }

    fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove(&mut self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn sync_dir(&mut self, dir: &Path) -> io::Result<()> {
        File::open(dir)?.sync_all()
    }
}
