//! Logs that were never written, and logs that were damaged.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use highwater_state::fault::{SimDisk, Survival};
use highwater_state::files::Files;
use highwater_state::{Commit, Store, hash_bytes};

use super::history::{Content, next, open, open_read_only, read};
use super::input::Input;
use super::memory::{SERDE, bounded};

type Image = BTreeMap<PathBuf, Vec<u8>>;

const SEGMENT_HEAD: usize = 40;
const GROUP_HEAD: usize = 56;

/// A store at several times, and its content after each commit.
struct Prepared {
    images: Vec<Image>,
    contents: Vec<Content>,
}

fn prepared() -> &'static Prepared {
    static PREPARED: OnceLock<Prepared> = OnceLock::new();
    PREPARED.get_or_init(|| {
        let disk = SimDisk::new();
        let mut store = open(&disk).expect("an empty disk");
        let (mut images, mut contents) = (Vec::new(), vec![Content::default()]);
        for number in 1..=12u64 {
            let choices: Vec<u8> = (0..90).map(|i| hash_bytes(&[number as u8, i]) as u8).collect();
            let before = &contents[contents.len() - 1];
            let (commit, after) = next(before, number, &mut Input(&choices));
            store.commit(commit).expect("no fault is planned");
            contents.push(after);
            if number % 4 == 0 {
                images.push(disk.contents());
                store.maintain(true).expect("no fault is planned");
            }
            if number == 6 {
                drop(store);
                store = open(&disk).expect("no fault is planned");
            }
        }
        images.push(disk.contents());
        Prepared { images, contents }
    })
}

fn write(image: &Image) -> SimDisk {
    let disk = SimDisk::new();
    for (path, bytes) in image {
        let mut file = disk.open(path, None).expect("an empty disk");
        file.append(bytes).expect("no fault is planned");
    }
    disk.restart(Survival::Everything);
    disk
}

pub fn run(bytes: &[u8]) {
    let mut input = Input(bytes);
    let mode = input.byte();
    if mode & 1 == 0 {
        return judge(&never_written(&mut input), false);
    }
    let mut image = input.pick(&prepared().images).clone();
    let forge = mode & 2 != 0;
    for _ in 0..8 {
        if input.is_empty() {
            break;
        }
        let paths: Vec<PathBuf> = image.keys().cloned().collect();
        let Some(path) = (!paths.is_empty()).then(|| input.pick(&paths)) else { break };
        let mut content = image.remove(path).unwrap_or_default();
        let goes = if forge {
            forged(&mut content, &mut input);
            false
        } else {
            damaged(&mut content, &mut input)
        };
        if !goes {
            image.insert(path.clone(), content);
        }
    }
    judge(&image, !forge);
}

fn judge(image: &Image, only_damaged: bool) {
    let disk = write(image);
    let bytes = image.iter().map(|(path, bytes)| path.as_os_str().len() + bytes.len()).sum();
    let has_base = image.contains_key(Path::new("state/base/base"));
    let beside = if has_base { SERDE } else { 0 };
    let reader = bounded(bytes, beside, || open_read_only(&disk));
    let Ok(store) = open(&disk) else {
        assert!(reader.is_err(), "a reader sees what the writer refuses");
        return;
    };
    let found = match read(&store) {
        Ok(found) => found,
        Err(error) if only_damaged => panic!("what was opened cannot be read: {error}"),
        // A forged base may hold what is no key.
        Err(_) => return,
    };
    assert_eq!(read(&reader.expect("the writer takes it")).expect("it is open"), found);
    if only_damaged {
        let known = prepared().contents.contains(&found);
        assert!(known, "what no commit left: {found:?}");
    }
    // It goes on from there.
    let record = b"next".to_vec();
    let next = Commit { record: record.clone(), changes: Vec::new() };
    store.commit(next).expect("no fault is planned");
    while store.maintain(true).expect("no fault is planned") {}
    drop(store);
    disk.restart(Survival::Synced);
    let again = open(&disk).expect("it was opened before");
    assert_eq!(again.record().expect("it is in memory").as_ref(), Some(&record));
    // A forged operator may hold a zero byte, and is another one in the base.
    if only_damaged {
        assert_eq!(read(&again).expect("it is open"), Content { record: Some(record), ..found });
    }
}

/// Segments of the fuzzer's bytes; some checksums are made right.
fn never_written(input: &mut Input<'_>) -> Image {
    let mut image = Image::new();
    for _ in 0..=input.below(3) {
        let incarnation = *input.pick(&[1, 0, 2, 1, 1 << 61, 1 << 62, u64::MAX]);
        let before = *input.pick(&[0, 1, 2, 3, 0, 1 << 61, 1 << 62, u64::MAX - 1]);
        let (seal, length) = (input.byte(), input.below(2000));
        let name = format!("state/log/{incarnation:016x}-{:016x}.log", before + 1);
        let mut content = Vec::new();
        if seal & 1 != 0 {
            content.extend_from_slice(if seal & 4 != 0 { b"HWLOG001" } else { b"HWLOG002" });
            content.extend([incarnation, before, 0].map(u64::to_le_bytes).concat());
            content.extend(hash_bytes(&content).to_le_bytes());
        }
        if seal & 2 != 0 {
            content.extend_from_slice(b"HWGROUP1");
            content.extend([0, before + 1, incarnation, 0, 0].map(u64::to_le_bytes).concat());
            content.extend([0; 8]);
        }
        content.extend_from_slice(input.bytes(length));
        if seal & 3 == 3 {
            let length = content.len() - SEGMENT_HEAD - GROUP_HEAD;
            let group = &mut content[SEGMENT_HEAD..];
            group[8..16].copy_from_slice(&(length as u64).to_le_bytes());
            seal_group(group, true);
        }
        image.insert(name.into(), content);
    }
    image
}

/// Makes the checksums of the group at the start of these bytes right, if it is whole.
fn seal_group(bytes: &mut [u8], chain_too: bool) {
    if bytes.len() < GROUP_HEAD {
        return;
    }
    let word = |at: usize| bytes[at..].first_chunk::<8>().map_or(0, |b| u64::from_le_bytes(*b));
    let payload = bytes[GROUP_HEAD..].get(..word(8) as usize);
    if let Some(payload) = payload.filter(|_| chain_too) {
        let fields = [word(32), word(16), word(24)].map(u64::to_le_bytes).concat();
        let chain = hash_bytes(&[&fields[..], payload].concat());
        bytes[40..48].copy_from_slice(&chain.to_le_bytes());
    }
    let sum = hash_bytes(&bytes[..GROUP_HEAD - 8]);
    bytes[GROUP_HEAD - 8..GROUP_HEAD].copy_from_slice(&sum.to_le_bytes());
}

/// What happens to files: none of it makes a checksum right. Says whether the file is gone.
fn damaged(content: &mut Vec<u8>, input: &mut Input<'_>) -> bool {
    let (kind, at) = (input.below(6), input.below(content.len() + 1));
    let end = (at + input.below(256)).min(content.len());
    match kind {
        0 if at < content.len() => content[at] ^= 1 << input.below(8),
        1 => content.truncate(at),
        2 => content[at..end].fill(0),
        3 => content.extend_from_within(at..end),
        4 => drop(content.drain(at..end)),
        5 => return end == at,
        _ => {}
    }
    false
}

/// Bytes of the fuzzer's, with checksums made right.
fn forged(content: &mut [u8], input: &mut Input<'_>) {
    let at = input.below(content.len() + 1);
    let length = input.below(24);
    let bytes = input.bytes(length);
    let end = (at + bytes.len()).min(content.len());
    content[at..end].copy_from_slice(&bytes[..end - at]);
    let what = input.byte();
    if content.starts_with(b"HWR1") && content.len() > 12 {
        let sum = hash_bytes(&content[12..]);
        content[4..12].copy_from_slice(&sum.to_le_bytes());
        return;
    }
    if what & 1 != 0 && content.len() >= SEGMENT_HEAD {
        let sum = hash_bytes(&content[..SEGMENT_HEAD - 8]);
        content[SEGMENT_HEAD - 8..SEGMENT_HEAD].copy_from_slice(&sum.to_le_bytes());
    }
    let mut at = SEGMENT_HEAD;
    while what & 2 != 0 && content.len() > at.saturating_add(GROUP_HEAD) {
        let length = content[at + 8..].first_chunk::<8>().map_or(0, |b| u64::from_le_bytes(*b));
        seal_group(&mut content[at..], what & 4 != 0);
        at = at.saturating_add(GROUP_HEAD).saturating_add(length as usize);
    }
}
