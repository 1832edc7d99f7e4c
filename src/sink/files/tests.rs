//! Crashes at every operation on the disk, and what is refused.

use highwater_state::fault::{Fault, SimDisk, Survival};

use super::*;
use crate::error::ErrorKind;

fn visible(disk: &SimDisk) -> BTreeMap<String, Vec<u8>> {
    let name = |path: &Path| path.file_name().unwrap().to_str().unwrap().to_owned();
    let files = disk.contents().into_iter().map(|(path, bytes)| (name(&path), bytes));
    files.filter(|(name, _)| name.starts_with("part-")).collect()
}

const COMMITS: usize = 9;
const HEADER: &[u8] = b"h\n";

fn files(dir: impl Into<PathBuf>) -> Files {
    let visible_every = Duration::from_millis(800);
    Files { visible_every, ..Files::new(dir.into(), ".txt") }
}

fn files_on(disk: &SimDisk) -> Files {
    Files { disk: Arc::new(disk.clone()), ..files("out") }
}

fn chunk(rows: &str) -> Chunk {
    Box::new(Encoded { header: HEADER.to_vec(), rows: rows.as_bytes().to_vec() })
}

/// The output of a commit: none, a little, or more than the buffer holds.
fn output(commit: usize) -> Vec<String> {
    match commit % 4 {
        2 => Vec::new(),
        3 => vec![format!("{commit} {}\n", "x".repeat(70)), format!("{commit} b\n")],
        _ => vec![format!("{commit} a\n"), format!("{commit} b\n")],
    }
}

fn info(commit: usize, clock_micros: i64) -> CommitInfo {
    CommitInfo { tick: Tick(commit as u64), clock_micros, last: commit + 1 == COMMITS }
}

/// What a job has made durable: the last token, and where its input goes on.
#[derive(Clone, Debug, Default)]
struct Durable {
    token: Option<Vec<u8>>,
    next: usize,
}

/// Runs from the last commit to the end, or to a crash. The commit between `stage` and
/// `publish` is a step like others, so a crash is tried on either side of it.
fn drive(disk: &SimDisk, durable: &mut Durable) -> Result<(), Error> {
    let mut writer = files_on(disk).open_writer(durable.token.as_deref())?;
    while durable.next < COMMITS {
        let commit = durable.next;
        for rows in output(commit) {
            writer.write(Tick(commit as u64), chunk(&rows))?;
        }
        let token = writer.stage(&info(commit, commit as i64 * 400_000))?;
        disk.step("commit").map_err(|e| Error::io("commit", e))?;
        *durable = Durable { token: Some(token), next: commit + 1 };
        disk.step("committed").map_err(|e| Error::io("commit", e))?;
        writer.publish()?;
    }
    Ok(())
}

/// Every visible file is one of the uninterrupted run, whole.
fn check_visible(disk: &SimDisk, reference: &BTreeMap<String, Vec<u8>>, case: &str) {
    for (name, bytes) in visible(disk) {
        assert_eq!(reference.get(&name), Some(&bytes), "{name}, {case}");
    }
}

const SURVIVALS: [Survival; 4] =
    [Survival::Synced, Survival::Everything, Survival::Some(1), Survival::Some(2)];
const FAULTS: [Fault; 5] =
    [Fault::CrashBefore, Fault::CrashTorn, Fault::CrashAfter, Fault::Fail, Fault::Full];

#[test]
fn a_crash_at_any_operation_loses_nothing_and_repeats_nothing() {
    let disk = SimDisk::new();
    drive(&disk, &mut Durable::default()).unwrap();
    let reference = visible(&disk);
    let steps = disk.operations().len();
    let all: String = (0..COMMITS).flat_map(output).collect();
    let seen: Vec<u8> =
        reference.values().flat_map(|bytes| bytes.strip_prefix(HEADER).unwrap().to_vec()).collect();
    assert_eq!(String::from_utf8(seen).unwrap(), all);
    assert_eq!(reference.len(), 3, "files of several commits each");

    let faults = |steps: usize| (0..steps).flat_map(move |k| FAULTS.map(move |fault| (k, fault)));
    let mut cases = 0;
    for (at, fault) in faults(steps) {
        let disk = SimDisk::new();
        disk.fault_at(at, fault);
        let mut durable = Durable::default();
        drive(&disk, &mut durable).unwrap_err();
        // The second fault strikes in recovery or soon after; step 12 is never reached late on.
        for (survival, second) in
            SURVIVALS.into_iter().flat_map(|survival| faults(13).map(move |s| (survival, s)))
        {
            let case = format!("{fault:?} at {at}, then {second:?}, leaving {survival:?}");
            let (disk, mut durable) = (disk.copy(), durable.clone());
            for second in [Some(second), None] {
                disk.restart(survival);
                if let Some((at, fault)) = second {
                    disk.fault_at(at, fault);
                }
                check_visible(&disk, &reference, &case);
                let drove = drive(&disk, &mut durable);
                assert!(drove.is_ok() || second.is_some(), "{drove:?}, {case}");
            }
            assert_eq!(durable.next, COMMITS, "{case}");
            assert_eq!(visible(&disk), reference, "{case}");
            // What is visible now is so after a power failure too.
            disk.restart(Survival::Synced);
            assert_eq!(visible(&disk), reference, "{case}");
            cases += 1;
        }
    }
    assert_eq!(cases, steps * 5 * 4 * 65);
}

/// One commit on the real disk: the token.
fn commit(files: &Files, token: Option<&[u8]>, rows: &str, clock_micros: i64) -> Vec<u8> {
    let mut writer = files.open(token).unwrap();
    writer.write(Tick(0), chunk(rows)).unwrap();
    let token = writer.stage(&info(0, clock_micros)).unwrap();
    writer.publish().unwrap();
    token
}

fn refusal(files: &Files, token: Option<&[u8]>) -> Error {
    files.open(token).err().expect("a refusal")
}

#[test]
fn output_that_does_not_fit_the_commit_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let files = files(dir.path());
    let staging = dir.path().join(".staging-00000000.txt");
    let part = dir.path().join("part-00000000.txt");
    let staged = commit(&files, None, "a\n", 0);
    assert_eq!(std::fs::read(&staging).unwrap(), b"h\na\n");

    std::fs::write(&staging, b"h\n").unwrap();
    let error = refusal(&files, Some(&staged));
    assert!(error.to_string().contains(".staging-00000000.txt` has 2 bytes of 4"), "{error}");
    std::fs::remove_file(&staging).unwrap();
    let error = refusal(&files, Some(&staged));
    assert!(error.to_string().contains("should have 4 bytes"), "{error}");

    std::fs::write(&staging, b"h\na\nnot committed").unwrap();
    std::fs::write(dir.path().join(".staging-00000007.txt"), b"a leftover").unwrap();
    std::fs::write(dir.path().join(".staging-00000007.csv"), b"of another sink").unwrap();
    let closed = commit(&files, Some(&staged), "b\n", 1_000_000);
    assert_eq!(std::fs::read(&part).unwrap(), b"h\na\nb\n");
    let mut names: Vec<_> =
        std::fs::read_dir(&dir).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, [".staging-00000007.csv", "part-00000000.txt"]);

    for (token, words) in [(None, "output of another run"), (Some(&staged), "newer than the last")]
    {
        let error = refusal(&files, token.map(Vec::as_slice));
        assert_eq!(error.kind(), ErrorKind::State);
        assert!(error.to_string().contains(words), "{error}");
    }
    files.open(Some(&closed)).unwrap();
    std::fs::remove_file(&part).unwrap();
    let error = refusal(&files, Some(&closed));
    assert!(error.to_string().contains("committed output is missing"), "{error}");
}

#[test]
fn tokens_and_places_that_cannot_be_used_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let token = commit(&files(dir.path()), None, "a\n", 0);
    let mut decoded: Token = decode_sealed(&token).unwrap();
    decoded.version = 2;
    let error = refusal(&files(dir.path()), Some(&encode_sealed(&decoded).unwrap()));
    assert!(error.to_string().contains("version 2"), "{error}");
    assert_eq!(refusal(&files(dir.path()), Some(&token[1..])).kind(), ErrorKind::State);

    let file = dir.path().join("file");
    std::fs::write(&file, b"").unwrap();
    let error = refusal(&files(file.join("out")), None);
    assert_eq!(error.kind(), ErrorKind::Io);
    assert!(error.to_string().contains("file/out"), "{error}");
}

#[test]
fn without_output_there_is_no_file_and_no_operation() {
    let disk = SimDisk::new();
    let mut writer = files_on(&disk).open_writer(None).unwrap();
    for number in 0..3 {
        writer.stage(&info(number, number as i64 * 10_000_000)).unwrap();
        writer.publish().unwrap();
    }
    assert_eq!(disk.operations(), Vec::<String>::new());
}

#[test]
fn what_was_cut_off_does_not_come_back() {
    let disk = SimDisk::new();
    let mut writer = files_on(&disk).open_writer(None).unwrap();
    writer.write(Tick(0), chunk("a\n")).unwrap();
    let token = writer.stage(&info(0, 0)).unwrap();
    writer.publish().unwrap();
    writer.write(Tick(1), chunk("staged, never committed\n")).unwrap();
    writer.stage(&info(1, 1)).unwrap();

    // Ticks are cut anew: this time the file is finished before there is more output.
    let mut writer = files_on(&disk).open_writer(Some(&token)).unwrap();
    writer.stage(&info(COMMITS - 1, 1)).unwrap();
    writer.publish().unwrap();
    disk.restart(Survival::Synced);
    let visible: Vec<_> = visible(&disk).into_values().collect();
    assert_eq!(visible, [b"h\na\n"]);
}

#[test]
fn a_clock_set_back_hides_nothing_for_long() {
    let disk = SimDisk::new();
    let mut writer = files_on(&disk).open_writer(None).unwrap();
    writer.write(Tick(0), chunk("a\n")).unwrap();
    for (number, clock) in [1_000_000_000, 0, 1_000_000].into_iter().enumerate() {
        assert!(visible(&disk).is_empty());
        writer.stage(&info(number, clock)).unwrap();
        writer.publish().unwrap();
    }
    assert_eq!(visible(&disk).len(), 1);
}
