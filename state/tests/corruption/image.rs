//! The files of a state directory, as bytes that can be changed and written out again.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use highwater_state::fault::SimDisk;
use highwater_state::files::Files;

/// Files by their path from the state directory.
pub type Image = BTreeMap<String, Vec<u8>>;

/// Where a simulated disk has its state directory.
pub const ON_SIM: &str = "state";

pub fn from_sim(disk: &SimDisk) -> Image {
    let name = |path: &Path| path.strip_prefix(ON_SIM).unwrap().to_str().unwrap().to_owned();
    disk.contents().into_iter().map(|(path, bytes)| (name(&path), bytes)).collect()
}

pub fn to_sim(image: &Image) -> SimDisk {
    let disk = SimDisk::new();
    for (name, bytes) in image {
        let mut file = disk.open(&Path::new(ON_SIM).join(name), None).unwrap();
        file.append(bytes).unwrap();
    }
    disk.restart(highwater_state::fault::Survival::Everything);
    disk
}

/// RocksDB's own log of messages and its lock hold no state.
fn holds_state(name: &str) -> bool {
    !name.starts_with("LOG") && name != "LOCK"
}

/// The files of a directory that RocksDB may be cleaning up meanwhile, as they were at one moment:
/// looked at again until none has come, gone or grown in between.
pub fn from_dir(dir: &Path) -> Image {
    loop {
        if let Some(image) = try_from_dir(dir) {
            return image;
        }
    }
}

/// `None` if the directory changed while it was read.
fn try_from_dir(dir: &Path) -> Option<Image> {
    let before = lengths(dir)?;
    let mut image = Image::new();
    for name in before.keys() {
        image.insert(name.clone(), unless_gone(fs::read(dir.join(name)))?);
    }
    let read: BTreeMap<_, _> =
        image.iter().map(|(name, bytes)| (name.clone(), bytes.len() as u64)).collect();
    (read == before && lengths(dir)? == before).then_some(image)
}

/// Names with lengths; `None` if a file went away meanwhile.
fn lengths(dir: &Path) -> Option<BTreeMap<String, u64>> {
    let mut found = BTreeMap::new();
    for part in ["log", "db"] {
        for entry in fs::read_dir(dir.join(part)).unwrap() {
            let entry = entry.unwrap();
            let name = entry.file_name().into_string().unwrap();
            if holds_state(&name) {
                found.insert(format!("{part}/{name}"), unless_gone(entry.metadata())?.len());
            }
        }
    }
    Some(found)
}

fn unless_gone<T>(result: std::io::Result<T>) -> Option<T> {
    match result {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
        other => Some(other.unwrap()),
    }
}

pub fn to_dir(image: &Image, dir: &Path) {
    for part in ["log", "db"] {
        fs::create_dir_all(dir.join(part)).unwrap();
    }
    for (name, bytes) in image {
        fs::write(dir.join(name), bytes).unwrap();
    }
}
