//! Manifests that were never written, over a snapshot that was: its own, and RocksDB's.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use highwater_state::base::manifest_is_readable;
use highwater_state::fault::SimDisk;
use highwater_state::files::Files;
use highwater_state::snapshot::{Manifest, ManifestFile, restore, take, verify};
use highwater_state::{Store, decode_sealed, hash_bytes};

use super::history::{Content, next, open, open_in, read};
use super::input::Input;
use super::memory::{SERDE, bounded};

type Image = BTreeMap<PathBuf, Vec<u8>>;

const SNAPSHOT: &str = "state/snapshots/00000001";

/// Magic and checksum of an envelope.
const ENVELOPE: usize = 12;

struct Prepared {
    snapshot: Image,
    manifest: Vec<u8>,
    files: BTreeSet<ManifestFile>,
    content: Content,
}

fn prepared() -> &'static Prepared {
    static PREPARED: OnceLock<Prepared> = OnceLock::new();
    PREPARED.get_or_init(|| {
        let disk = SimDisk::new();
        let store = open(&disk).expect("an empty disk");
        let mut content = Content::default();
        for number in 1..=9u64 {
            let choices: Vec<u8> = (0..90).map(|i| hash_bytes(&[number as u8, i]) as u8).collect();
            let (commit, after) = next(&content, number, &mut Input(&choices));
            store.commit(commit).expect("no fault is planned");
            content = after;
            if number == 5 {
                while store.maintain(true).expect("no fault is planned") {}
            }
        }
        let (path, manifest) = take(&store, 1).expect("no fault is planned");
        assert_eq!(path, Path::new(SNAPSHOT));
        let files = manifest.files.into_iter().collect();
        let mut snapshot = disk.contents();
        snapshot.retain(|path, _| path.starts_with(SNAPSHOT));
        let manifest = snapshot.remove(&manifest_path()).expect("it was taken");
        Prepared { snapshot, manifest, files, content }
    })
}

fn manifest_path() -> PathBuf {
    Path::new(SNAPSHOT).join("MANIFEST")
}

pub fn run(bytes: &[u8]) {
    readable(bytes);
    let mut input = Input(bytes);
    let manifest = match input.byte() % 3 {
        0 => input.0.to_vec(),
        1 => sealed(input.0),
        _ => forged(&mut input),
    };
    judge(&manifest);
}

/// In an envelope with the right checksum.
fn sealed(bytes: &[u8]) -> Vec<u8> {
    [b"HWR1", &hash_bytes(bytes).to_le_bytes()[..], bytes].concat()
}

/// The true one with some changes, and the checksum made right.
fn forged(input: &mut Input<'_>) -> Vec<u8> {
    let mut bytes = prepared().manifest[ENVELOPE..].to_vec();
    for _ in 0..8 {
        if input.is_empty() || bytes.is_empty() {
            break;
        }
        let (kind, at) = (input.byte(), input.below(bytes.len()));
        match kind % 4 {
            0 => bytes[at] = input.byte(),
            1 => bytes.truncate(at),
            2 => {
                let length = input.below(30);
                bytes.splice(at..at, input.bytes(length).iter().copied());
            }
            _ => {
                let end = bytes.len().min(at + 8);
                let numbers = [0, 1, 1 << 16, 1 << 31, 1 << 40, 1 << 62, u64::MAX - 1, u64::MAX];
                let number: &u64 = input.pick(&numbers);
                bytes[at..end].copy_from_slice(&number.to_le_bytes()[..end - at]);
            }
        }
    }
    sealed(&bytes)
}

/// What is accepted names exactly the files that are there, and comes back as they are.
fn judge(manifest: &[u8]) {
    let Prepared { snapshot, files, content, .. } = prepared();
    let disk = SimDisk::new();
    let write = |path: &Path, bytes: &[u8]| {
        let mut file = disk.open(path, None).expect("an empty disk");
        file.append(bytes).expect("no fault is planned");
    };
    snapshot.iter().for_each(|(path, bytes)| write(path, bytes));
    write(&manifest_path(), manifest);
    let there: usize = snapshot.values().map(Vec::len).sum();
    let of = |bytes: usize| bytes + manifest.len() + there;
    let decoded = bounded(of(0), SERDE, || decode_sealed::<Manifest>(manifest));
    let verified = bounded(of(0), SERDE, || verify(&disk, Path::new(SNAPSHOT)));
    let into = Path::new("restored");
    let restored = bounded(of(there), SERDE, || restore(&disk, Path::new(SNAPSHOT), into));
    let Ok(verified) = verified else {
        assert!(restored.is_err(), "what is refused was restored");
        let left = disk.contents();
        assert!(!left.keys().any(|path| path.starts_with(into)), "something was restored");
        return;
    };
    assert_eq!(decoded.expect("it was verified"), verified);
    assert_eq!(restored.expect("it was verified"), verified);
    assert_eq!(verified.files.into_iter().collect::<BTreeSet<_>>(), *files);
    let outside = |path: &PathBuf| !path.starts_with("restored") && !path.starts_with(SNAPSHOT);
    assert!(!disk.contents().keys().any(outside), "a file went elsewhere");
    let store = open_in(&disk, into).expect("it was verified");
    assert_eq!(read(&store).expect("it is open"), *content);
}

/// RocksDB is only let near a manifest of which every record is of a known kind.
fn readable(bytes: &[u8]) {
    let known = bytes.chunks(32 << 10).all(|block| {
        let mut at = 0;
        while at + 7 <= block.len() {
            let length = usize::from(block[at + 4]) + 256 * usize::from(block[at + 5]);
            match block[at + 6] {
                1..=4 => at += 7 + length,
                _ => return block[at..].iter().all(|byte| *byte == 0),
            }
        }
        true
    });
    assert_eq!(manifest_is_readable(bytes), known);
}
