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

pub fn from_dir(dir: &Path) -> Image {
    let mut image = Image::new();
    for part in ["log", "db"] {
        for entry in fs::read_dir(dir.join(part)).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap();
            if holds_state(name) {
                image.insert(format!("{part}/{name}"), fs::read(&path).unwrap());
            }
        }
    }
    image
}

pub fn to_dir(image: &Image, dir: &Path) {
    for part in ["log", "db"] {
        fs::create_dir_all(dir.join(part)).unwrap();
    }
    for (name, bytes) in image {
        fs::write(dir.join(name), bytes).unwrap();
    }
}
