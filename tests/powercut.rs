//! The files of the store after a loss of power at any moment, those of RocksDB among them.
//!
//! A real process is recorded below its store, call by call; prefixes of the record are replayed
//! on a disk that forgets what was not synced; and the store must open on what is left, hold
//! exactly one commit that it may hold, and go on. `POWERCUT_POINTS` sets the number of cuts.
#![cfg(target_os = "linux")]

#[path = "powercut/disk.rs"]
mod disk;
#[path = "powercut/journal.rs"]
mod journal;
#[path = "powercut/program.rs"]
mod program;

#[path = "powercut/recording.rs"]
mod recording;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use disk::{Disk, Variant};
use journal::Op;
use program::Contents;
use recording::Recording;
use tempfile::tempdir;

/// How many commits the recorded processes make.
const COMMITS: u64 = 300;
/// How many more are made after a loss of power.
const MORE: u64 = 10;
/// The syncs at which processes die: in the making of the store, then in commits.
const DEATHS: [u64; 4] = [5, 60, 80, 110];
const DEFAULT_POINTS: usize = 60;
const THREADS: usize = 2;

fn recording() -> &'static Recording {
    static RECORDING: OnceLock<Recording> = OnceLock::new();
    let record = || Recording::new(tempdir().unwrap()).run(COMMITS, &DEATHS);
    RECORDING.get_or_init(record)
}

/// What the store must hold after each commit.
fn contents() -> &'static [Contents] {
    static CONTENTS: OnceLock<Vec<Contents>> = OnceLock::new();
    CONTENTS.get_or_init(|| program::contents_until(COMMITS + MORE + 2))
}

/// Half of the cuts right before and after syncs and changes of names, half anywhere; both spread
/// over the whole journal. A cut is the number of records before it.
fn choose_cuts(ops: &[Op], points: usize) -> Vec<usize> {
    let turning: BTreeSet<usize> = (0..ops.len())
        .filter(|at| ops[*at].is_turning_point())
        .flat_map(|at| [at, at + 1])
        .collect();
    let turning: Vec<usize> = turning.into_iter().collect();
    let half = (points / 2).min(turning.len());
    let mut cuts: BTreeSet<usize> = (0..half).map(|i| turning[i * turning.len() / half]).collect();
    let rest = points.saturating_sub(cuts.len()).max(1);
    cuts.extend((0..rest).map(|i| (i + 1) * ops.len() / rest));
    let mut next = 0;
    while cuts.len() < points.min(ops.len()) {
        cuts.insert(next);
        next += 1;
    }
    cuts.into_iter().collect()
}

/// Replays up to each cut, checks what each variant leaves, and tells what did not hold.
fn mismatches(
    recording: &Recording,
    ops: &[Op],
    cuts: &[usize],
    variants: fn(usize) -> Vec<Variant>,
) -> Vec<String> {
    let next = AtomicUsize::new(0);
    let work = || {
        let (mut found, mut disk, mut replayed) = (Vec::new(), recording.before.clone(), 0);
        while let Some(&cut) = cuts.get(next.fetch_add(1, Ordering::Relaxed)) {
            ops[replayed..cut].iter().for_each(|op| disk.replay(op));
            replayed = cut;
            let bounds = journal::bounds(recording.bounds, &ops[..cut]);
            for variant in variants(cut) {
                let directory = tempdir().unwrap();
                disk.write_to(directory.path(), variant);
                let checked = program::check(directory.path(), bounds, contents());
                let before = cut.checked_sub(1).map(|at| Short(&ops[at]));
                let tell = |why| format!("cut at {cut}, {variant:?}, after {before:?}: {why}");
                found.extend(checked.err().map(tell));
            }
        }
        found
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS).map(|_| scope.spawn(work)).collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    })
}

/// Shows a record without its data.
struct Short<'a>(&'a Op);

impl std::fmt::Debug for Short<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            Op::Write { inode, offset, data } => {
                write!(f, "Write {} bytes at {offset} of {inode}", data.len())
            }
            op => write!(f, "{op:?}"),
        }
    }
}

fn all_variants(cut: usize) -> Vec<Variant> {
    vec![Variant::Dropped, Variant::Torn(cut as u64), Variant::Kept]
}

fn points() -> usize {
    std::env::var("POWERCUT_POINTS").map_or(DEFAULT_POINTS, |points| points.parse().unwrap())
}

#[test]
fn no_loss_of_power_loses_or_tears_a_commit() {
    let ops = &recording().ops;
    let cuts = choose_cuts(ops, points());
    let found = mismatches(recording(), ops, &cuts, all_variants);
    let count = |is: fn(&Op) -> bool| ops.iter().filter(|op| is(op)).count();
    println!(
        "power cuts: {} points x 3 variants, {} mismatches, journal of {} operations \
         ({} writes, {} syncs, {} renames, {} unlinks, {} processes)",
        cuts.len(),
        found.len(),
        ops.len(),
        count(|op| matches!(op, Op::Write { .. })),
        count(Op::is_sync),
        count(|op| matches!(op, Op::Rename { .. })),
        count(|op| matches!(op, Op::Unlink { .. })),
        count(|op| matches!(op, Op::Start(_))),
    );
    let shown = journal::found_commits(ops);
    println!("files made: {:?}; {shown} commits unsynced, then shown", journal::made_kinds(ops));
    assert!(shown > 0, "no process died between the write and the sync of a commit");
    assert!(found.is_empty(), "{} mismatches:\n{}", found.len(), found.join("\n"));
}

/// The power goes, and goes again while a process recovers from that and another from its death.
#[test]
fn no_loss_of_power_in_a_recovery_loses_or_tears_a_commit() {
    let first = recording();
    let firsts = choose_cuts(&first.ops, points() / 8);
    let (mut disk, mut replayed) = (first.before.clone(), 0);
    let (mut found, mut points) = (Vec::new(), 0);
    for (number, cut) in firsts.iter().copied().enumerate() {
        first.ops[replayed..cut].iter().for_each(|op| disk.replay(op));
        replayed = cut;
        let bounds = journal::bounds(first.bounds, &first.ops[..cut]);
        let (directory, variant) = (tempdir().unwrap(), all_variants(cut)[number % 2]);
        std::fs::create_dir(directory.path().join("root")).unwrap();
        disk.write_to(&directory.path().join("root"), variant);
        let mut second = Recording::new(directory);
        second.bounds = bounds;
        let second = second.run(bounds.1 + MORE, &[1 + number as u64 % 10]);
        let cuts = choose_cuts(&second.ops, 9);
        points += cuts.len();
        let tell = |why| format!("cut at {cut}, {variant:?}, then {why}");
        let again = mismatches(&second, &second.ops, &cuts, all_variants);
        found.extend(again.into_iter().map(tell));
    }
    let firsts = firsts.len();
    println!(
        "power cuts after power cuts: {firsts} recoveries, {points} points x 3 variants, {} \
         mismatches",
        found.len()
    );
    assert!(found.is_empty(), "{} mismatches:\n{}", found.len(), found.join("\n"));
}

/// Every file below a directory with what it holds, directories with nothing.
fn files_below(directory: &Path, found: &mut BTreeMap<PathBuf, Option<Vec<u8>>>, root: &Path) {
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let name = path.strip_prefix(root).unwrap().to_owned();
        if path.is_dir() {
            found.insert(name, None);
            files_below(&path, found, root);
        } else {
            found.insert(name, Some(std::fs::read(&path).unwrap()));
        }
    }
}

/// Nothing changed the files but what was recorded: replayed whole, the journal leaves them.
#[test]
fn the_journal_accounts_for_every_byte() {
    let recording = recording();
    let mut disk: Disk = recording.before.clone();
    recording.ops.iter().for_each(|op| disk.replay(op));
    let replayed = tempdir().unwrap();
    disk.write_to(replayed.path(), Variant::Kept);
    let (mut expected, mut found) = (BTreeMap::new(), BTreeMap::new());
    let root = recording.root();
    files_below(&root, &mut expected, &root);
    files_below(replayed.path(), &mut found, replayed.path());
    assert!(expected.len() > 5);
    assert_eq!(found.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>());
    for (name, bytes) in &expected {
        assert!(found[name] == *bytes, "{} differs", name.display());
    }
}

/// The checks can fail: where the disk lies about the syncs of some files, commits are lost.
#[test]
fn lost_syncs_are_found() {
    let ops = &recording().ops;
    let kinds = journal::synced_kinds(ops);
    let lies: BTreeSet<&str> = kinds.iter().flatten().map(String::as_str).collect();
    assert!(lies.len() > 2, "{lies:?}");
    for lie in lies.into_iter().chain(["every file"]) {
        let lost = |kind: &str| kind == lie || (lie == "every file" && kind != "/");
        let mut told = ops.clone();
        for (op, kind) in told.iter_mut().zip(&kinds) {
            if kind.as_deref().is_some_and(lost) {
                *op = Op::Hint;
            }
        }
        let cuts = choose_cuts(&told, 24);
        let found = mismatches(recording(), &told, &cuts, |_| vec![Variant::Dropped]);
        println!("lost syncs of {lie}: {} of {} cuts are mismatches", found.len(), cuts.len());
        let needless = program::NEEDLESS_SYNCS.contains(&lie);
        assert!(needless || !found.is_empty(), "no lost sync of {lie} was found");
    }
}

#[test]
#[ignore = "run by the tests above, in a process that is recorded"]
fn run_program() {
    let Some(root) = std::env::var_os("POWERCUT_ROOT") else { return };
    let until = std::env::var("POWERCUT_UNTIL").unwrap().parse().unwrap();
    program::run(Path::new(&root), until);
}
