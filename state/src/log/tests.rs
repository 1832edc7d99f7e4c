use std::sync::Arc;

use super::*;
use crate::Changes;
use crate::fault::{SimDisk, Survival};

fn commit(number: u64) -> Commit {
    let mut changes = Changes::new("op".into());
    changes
        .put(
            (number % 7) as u16,
            |bytes| {
                bytes.extend_from_slice(&number.to_le_bytes());
                Ok(())
            },
            |bytes| {
                bytes.extend_from_slice(&vec![number as u8; (number % 50) as usize]);
                Ok(())
            },
        )
        .unwrap();
    changes
        .delete(3, |bytes| {
            bytes.push(1);
            Ok(())
        })
        .unwrap();
    Commit { record: number.to_string().into_bytes(), changes: vec![changes] }
}

/// In whatever pieces a commit is written, what is there at the end is the same.
#[test]
fn differential_pieces_against_the_whole() {
    for number in [1, 49, 1_000_049] {
        let commit = commit(number);
        let before = Position { seq: number, chain: 3 };
        let mut whole = Vec::new();
        let end = group::encode(before, 7, &commit, &mut whole).unwrap();
        for piece in [1, 2, 9, 57, 64, 100, whole.len() - 1, whole.len(), whole.len() + 1] {
            let (mut written, mut most) = (Vec::new(), 0);
            let mut append = |bytes: &[u8]| {
                most = most.max(bytes.len());
                written.extend_from_slice(bytes);
                Ok(())
            };
            let buffer = &mut Vec::new();
            let found = group::write((before, 7), &commit, (buffer, piece), &mut append);
            assert_eq!(found.unwrap(), end);
            assert_eq!(written, whole, "in pieces of {piece}");
            assert!(most <= (2 * piece).max(group::HEAD + piece), "{most} bytes of {piece}");
        }
    }
}

/// Each piece of a large commit is a step of its own at which the power may fail.
#[test]
fn a_large_commit_is_whole_or_not_there() {
    let large = || {
        let mut changes = Changes::new("op".into());
        let value = |bytes: &mut Vec<u8>| {
            bytes.extend((0..3 * PIECE + 77).map(|n| (n % 251) as u8));
            Ok(())
        };
        changes.put(1, |_| Ok(()), value).unwrap();
        Commit { record: b"2".to_vec(), changes: vec![changes] }
    };
    let whole = SimDisk::new();
    let mut log = fresh(&whole);
    log.append(&commit(1)).unwrap();
    let before = whole.operation_count();
    log.append(&large()).unwrap();
    assert_eq!(whole.operation_count() - before, 5, "four pieces and a sync");
    whole.restart(Survival::Synced);
    let found = recover(&whole, dir(), Position::default(), true).unwrap();
    assert_eq!(*found.commits[1].1, large());
}

fn dir() -> &'static Path {
    Path::new("log")
}

fn fresh(disk: &SimDisk) -> Log {
    Log::start(Arc::new(disk.clone()), dir(), 1, Position::default(), &[]).unwrap().0
}

fn records(disk: &SimDisk, base: Position) -> Result<Vec<u64>, String> {
    let recovered = recover(disk, dir(), base, base.seq > 0).map_err(|e| e.to_string())?;
    let number = |c: &Arc<Commit>| String::from_utf8(c.record.clone()).unwrap().parse().unwrap();
    Ok(recovered.commits.iter().map(|(_, commit)| number(commit)).collect())
}

#[test]
fn what_was_appended_is_recovered_and_written_anew() {
    let disk = SimDisk::new();
    let mut log = fresh(&disk);
    for number in 1..=5 {
        log.append(&commit(number)).unwrap();
        if number == 3 {
            log.rotate().unwrap();
        }
    }
    disk.restart(Survival::Synced);
    let found = recover(&disk, dir(), Position::default(), true).unwrap();
    assert_eq!(found.incarnation, 1);
    let tail: Vec<_> = found.commits.into_iter().map(|(_, commit)| commit).collect();
    assert_eq!(tail.iter().map(|c| (**c).clone()).collect::<Vec<_>>(), [1, 2, 3, 4, 5].map(commit));
    Log::start(Arc::new(disk.clone()), dir(), 2, Position::default(), &tail).unwrap();
    disk.restart(Survival::Synced);
    assert_eq!(records(&disk, Position::default()).unwrap(), [1, 2, 3, 4, 5]);
    assert_eq!(disk.contents().len(), 1);
}

#[test]
fn any_byte_cut_off_or_flipped_loses_the_last_commit_only_or_is_refused() {
    let disk = SimDisk::new();
    let mut log = fresh(&disk);
    let ends: Vec<usize> = (1..=4)
        .map(|number| {
            log.append(&commit(number)).unwrap();
            disk.contents().values().next().unwrap().len()
        })
        .collect();
    let (path, whole) = disk.contents().into_iter().next().unwrap();
    for length in 0..whole.len() {
        disk.damage(&path, |bytes| *bytes = whole[..length].to_vec());
        match records(&disk, Position::default()) {
            Ok(found) => {
                let whole_ones = ends.iter().filter(|end| **end <= length).count() as u64;
                assert_eq!(found, (1..=whole_ones).collect::<Vec<_>>(), "cut to {length}");
            }
            Err(error) => assert!(length < HEAD, "cut to {length}: {error}"),
        }
    }
    for at in 0..whole.len() {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x10;
        disk.damage(&path, |content| *content = bytes);
        match records(&disk, Position::default()) {
            Ok(found) => {
                assert!(at >= ends[2], "byte {at}");
                assert_eq!(found, [1, 2, 3], "byte {at}");
            }
            Err(error) => assert!(at < ends[2] && error.contains("damaged"), "{at}: {error}"),
        }
    }
}

#[test]
fn a_torn_group_of_an_earlier_life_is_not_ours() {
    let disk = SimDisk::new();
    let mut log = fresh(&disk);
    for number in 1..=3 {
        log.append(&commit(number)).unwrap();
    }
    let (_, old) = disk.contents().into_iter().next().unwrap();
    let first: Vec<_> = recover(&disk, dir(), Position::default(), true).unwrap().commits;
    let tail: Vec<_> = first.into_iter().take(1).map(|(_, commit)| commit).collect();
    Log::start(Arc::new(disk.clone()), dir(), 2, Position::default(), &tail).unwrap();
    let (path, new) = disk.contents().into_iter().next().unwrap();
    // The bytes that the old life left behind show up again behind our end.
    let mut mixed = new.clone();
    mixed.extend_from_slice(&old[new.len()..]);
    disk.damage(&path, |content| *content = mixed);
    assert_eq!(records(&disk, Position::default()).unwrap(), [1]);
}

#[test]
fn a_log_that_does_not_continue_the_base_is_refused() {
    let disk = SimDisk::new();
    let mut log = fresh(&disk);
    let positions: Vec<Position> =
        (1..=4).map(|number| log.append(&commit(number)).unwrap()).collect();
    assert_eq!(records(&disk, positions[1]).unwrap(), [3, 4]);
    let other = Position { chain: 1, ..positions[1] };
    assert!(records(&disk, other).unwrap_err().contains("another base"));
    let ahead = Position { seq: 9, chain: 1 };
    assert!(records(&disk, ahead).unwrap_err().contains("ends at commit 4"));
    log.rotate().unwrap();
    log.append(&commit(5)).unwrap();
    log.cut(4).unwrap();
    assert_eq!(records(&disk, positions[3]).unwrap(), [5]);
    assert!(records(&disk, positions[1]).unwrap_err().contains("begins after commit 4"));
    for path in disk.contents().into_keys() {
        disk.remove(&path).unwrap();
    }
    assert!(records(&disk, positions[1]).unwrap_err().contains("missing"));
}

#[test]
fn a_segment_without_commits_is_whole_before_it_is_the_only_one() {
    let disk = SimDisk::new();
    let mut log = fresh(&disk);
    let end = log.append(&commit(1)).unwrap();
    log.rotate().unwrap();
    log.cut(1).unwrap();
    assert_eq!(disk.contents().len(), 1);
    for seed in 0..200 {
        let left = disk.copy();
        left.restart(Survival::Some(seed << 33 | seed));
        assert!(records(&left, end).unwrap().is_empty(), "seed {seed}");
    }
}

/// Two segments of which the first ends with a commit that was never acknowledged, whole or torn:
/// the thread of the base had begun the second meanwhile. Older versions could leave that.
#[test]
fn a_failed_commit_before_a_segment_that_goes_on_is_left_out() {
    let disk = SimDisk::new();
    let mut log = fresh(&disk);
    let ends = [1, 2].map(|number| log.append(&commit(number)).unwrap());
    let other = disk.copy();
    log.append(&commit(3)).unwrap();
    let first = disk.contents().into_iter().next().unwrap();
    let acknowledged = other.contents()[&first.0].len();
    // The second segment, as it follows commit 2.
    let files = Arc::new(other.clone());
    let file = files.open(&first.0, Some(acknowledged as u64)).unwrap();
    let segments = BTreeMap::from([(1, "first".to_owned())]);
    let dir = dir().to_owned();
    let (buffer, failed) = (Vec::new(), false);
    let mut log = Log { files, dir, incarnation: 1, end: ends[1], file, segments, buffer, failed };
    log.rotate().unwrap();
    let begun = other.copy();
    log.append(&commit(4)).unwrap();
    let name = other.contents().into_keys().next_back().unwrap();
    for length in acknowledged..=first.1.len() {
        let end = &first.1[..length];
        let left = other.copy();
        left.damage(&first.0, |bytes| *bytes = end.to_vec());
        assert_eq!(records(&left, Position::default()).unwrap(), [1, 2, 4], "{length}");
        assert_eq!(records(&left, ends[1]).unwrap(), [4], "{length}");
        // Begun for commit 3, and not yet written to.
        let left = begun.copy();
        left.damage(&first.0, |bytes| *bytes = end.to_vec());
        left.damage(&name, |bytes| bytes.truncate(HEAD / 2));
        let expected: &[u64] = if length == first.1.len() { &[1, 2, 3] } else { &[1, 2] };
        assert_eq!(records(&left, Position::default()).unwrap(), expected, "{length}");
    }
    // What was acknowledged is missed.
    for length in HEAD..acknowledged {
        let left = other.copy();
        left.damage(&first.0, |bytes| bytes.truncate(length));
        assert!(records(&left, Position::default()).is_err(), "{length}");
        let left = begun.copy();
        left.damage(&first.0, |bytes| bytes.truncate(length));
        left.damage(&name, |bytes| bytes.truncate(HEAD / 2));
        assert!(records(&left, Position::default()).is_err(), "{length}");
    }
}
