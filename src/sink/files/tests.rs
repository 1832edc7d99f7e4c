//! Crashes at every operation on the disk, and what is refused.

use std::io;
use std::sync::{Arc, Mutex};

use super::*;
use crate::error::ErrorKind;

/// When a crash strikes, relative to an operation. An append cut short writes half.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Moment {
    Before,
    After,
}

/// What the disk keeps over a crash of that which was not synced: everything after a killed
/// process, anything after a power failure.
#[derive(Clone, Copy, Debug)]
struct Kept {
    bytes: bool,
    names: bool,
}

#[derive(Clone, Default)]
struct Inode {
    bytes: Vec<u8>,
    synced: Vec<u8>,
}

#[derive(Clone, Default)]
struct World {
    inodes: Vec<Inode>,
    names: BTreeMap<PathBuf, usize>,
    synced_names: BTreeMap<PathBuf, usize>,
    open: Option<usize>,
    step: usize,
    crash: Option<(usize, Moment)>,
    down: bool,
}

impl World {
    fn reboot(&mut self, kept: Kept, crash: Option<(usize, Moment)>) {
        // What is kept is still not synced: a later power failure may take it.
        if !kept.names {
            self.names = self.synced_names.clone();
        }
        for inode in self.inodes.iter_mut().filter(|_| !kept.bytes) {
            inode.bytes = inode.synced.clone();
        }
        (self.open, self.step, self.crash, self.down) = (None, 0, crash, false);
    }
}

/// A disk in memory, shared with the test.
#[derive(Clone, Default)]
struct Fake(Arc<Mutex<World>>);

impl Fake {
    /// One numbered operation. `half` is what remains of one that a crash cuts short.
    fn act<R>(
        &self,
        half: impl FnOnce(&mut World),
        whole: impl FnOnce(&mut World) -> io::Result<R>,
    ) -> io::Result<R> {
        let mut world = self.0.lock().unwrap();
        if world.down {
            return Err(io::Error::other("down"));
        }
        let here = world.crash.filter(|crash| crash.0 == world.step).map(|crash| crash.1);
        world.step += 1;
        world.down = here.is_some();
        if here == Some(Moment::Before) {
            half(&mut world);
            return Err(io::Error::other("crash before"));
        }
        let done = whole(&mut world);
        if here.is_some() { Err(io::Error::other("crash after")) } else { done }
    }

    fn visible(&self) -> BTreeMap<String, Vec<u8>> {
        let world = self.0.lock().unwrap();
        let name = |path: &Path| path.file_name().unwrap().to_str().unwrap().to_owned();
        let files = world.names.iter().map(|(path, &i)| (name(path), &world.inodes[i]));
        files
            .filter(|(name, _)| name.starts_with("part-"))
            .map(|(name, inode)| (name, inode.bytes.clone()))
            .collect()
    }
}

fn missing() -> io::Error {
    io::ErrorKind::NotFound.into()
}

impl FileOps for Fake {
    fn enter(&mut self, dir: &Path) -> io::Result<BTreeMap<String, u64>> {
        let list = |world: &mut World| {
            let inside = world.names.iter().filter(|(path, _)| path.parent() == Some(dir));
            let entry = |(path, &i): (&PathBuf, &usize)| {
                let name = path.file_name().unwrap().to_str().unwrap();
                (name.to_owned(), world.inodes[i].bytes.len() as u64)
            };
            Ok(inside.map(entry).collect())
        };
        self.act(|_| (), list)
    }

    fn open(&mut self, path: &Path, cut_to: Option<u64>) -> io::Result<()> {
        let open = |world: &mut World| {
            let found = world.names.get(path).copied();
            let inode = match (found, cut_to) {
                (None, None) => {
                    world.inodes.push(Inode::default());
                    world.names.insert(path.to_owned(), world.inodes.len() - 1);
                    world.inodes.len() - 1
                }
                (Some(inode), Some(length)) => {
                    let bytes = &mut world.inodes[inode].bytes;
                    assert!(bytes.len() >= length as usize, "cut to more than there is");
                    bytes.truncate(length as usize);
                    inode
                }
                (Some(_), None) => return Err(io::ErrorKind::AlreadyExists.into()),
                (None, Some(_)) => return Err(missing()),
            };
            world.open = Some(inode);
            Ok(())
        };
        self.act(|_| (), open)
    }

    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        let add = |world: &mut World, bytes: &[u8]| {
            let inode = world.open.ok_or_else(missing)?;
            world.inodes[inode].bytes.extend_from_slice(bytes);
            Ok(())
        };
        let half = |world: &mut World| add(world, &bytes[..bytes.len() / 2]).unwrap();
        self.act(half, |world| add(world, bytes))
    }

    fn sync(&mut self) -> io::Result<()> {
        self.act(
            |_| (),
            |world| {
                let inode = world.open.ok_or_else(missing)?;
                world.inodes[inode].synced = world.inodes[inode].bytes.clone();
                Ok(())
            },
        )
    }

    fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        let rename = |world: &mut World| {
            let inode = world.names.remove(from).ok_or_else(missing)?;
            assert!(world.names.insert(to.to_owned(), inode).is_none(), "{to:?} replaced");
            Ok(())
        };
        self.act(|_| (), rename)
    }

    fn remove(&mut self, path: &Path) -> io::Result<()> {
        let remove = |world: &mut World| world.names.remove(path).map(|_| ()).ok_or_else(missing);
        self.act(|_| (), remove)
    }

    fn sync_dir(&mut self, _dir: &Path) -> io::Result<()> {
        let sync = |world: &mut World| {
            world.synced_names = world.names.clone();
            Ok(())
        };
        self.act(|_| (), sync)
    }
}

const COMMITS: usize = 9;
const HEADER: &[u8] = b"h\n";

fn files(dir: impl Into<PathBuf>) -> Files {
    let visible_every = Duration::from_millis(800);
    Files { visible_every, ..Files::new(dir.into(), ".txt") }
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
/// `publish` is an operation like others, so a crash is tried on either side of it.
fn drive(fake: &Fake, durable: &mut Durable) -> Result<(), Error> {
    let mut writer = files("out").open_on(fake.clone(), durable.token.as_deref())?;
    while durable.next < COMMITS {
        let commit = durable.next;
        for rows in output(commit) {
            writer.write(Tick(commit as u64), chunk(&rows))?;
        }
        let token = writer.stage(&info(commit, commit as i64 * 400_000))?;
        let committed = |_: &mut World| {
            *durable = Durable { token: Some(token), next: commit + 1 };
            Ok(())
        };
        fake.act(|_| (), committed).map_err(|e| Error::io("commit", e))?;
        writer.publish()?;
    }
    Ok(())
}

/// Every visible file is one of the uninterrupted run, whole.
fn check_visible(fake: &Fake, reference: &BTreeMap<String, Vec<u8>>, case: &str) {
    for (name, bytes) in fake.visible() {
        assert_eq!(reference.get(&name), Some(&bytes), "{name}, {case}");
    }
}

const KEPT: [Kept; 4] = [
    Kept { bytes: true, names: true },
    Kept { bytes: false, names: true },
    Kept { bytes: true, names: false },
    Kept { bytes: false, names: false },
];

#[test]
fn a_crash_at_any_operation_loses_nothing_and_repeats_nothing() {
    let fake = Fake::default();
    drive(&fake, &mut Durable::default()).unwrap();
    let reference = fake.visible();
    let steps = fake.0.lock().unwrap().step;
    let all: String = (0..COMMITS).flat_map(output).collect();
    let seen: Vec<u8> =
        reference.values().flat_map(|bytes| bytes.strip_prefix(HEADER).unwrap().to_vec()).collect();
    assert_eq!(String::from_utf8(seen).unwrap(), all);
    assert_eq!(reference.len(), 3, "files of several commits each");

    let moments = [Moment::Before, Moment::After];
    let crashes = |steps: usize| (0..steps).flat_map(move |k| moments.map(move |m| (k, m)));
    let mut cases = 0;
    for first in crashes(steps) {
        let fake = Fake::default();
        fake.0.lock().unwrap().crash = Some(first);
        let mut durable = Durable::default();
        drive(&fake, &mut durable).unwrap_err();
        // The second crash strikes in recovery or soon after; step 12 is never reached late on.
        for (kept, second) in KEPT.into_iter().flat_map(|kept| crashes(13).map(move |s| (kept, s)))
        {
            let case = format!("crash at {first:?}, then at {second:?}, keeping {kept:?}");
            let (fake, mut durable) = (copy(&fake), durable.clone());
            for crash in [Some(second), None] {
                fake.0.lock().unwrap().reboot(kept, crash);
                check_visible(&fake, &reference, &case);
                if let Err(error) = drive(&fake, &mut durable) {
                    assert!(fake.0.lock().unwrap().down, "{error}, {case}");
                }
            }
            assert_eq!(durable.next, COMMITS, "{case}");
            assert_eq!(fake.visible(), reference, "{case}");
            // What is visible now is so after a power failure too.
            fake.0.lock().unwrap().reboot(Kept { bytes: false, names: false }, None);
            assert_eq!(fake.visible(), reference, "{case}");
            cases += 1;
        }
    }
    assert_eq!(cases, steps * 2 * 4 * 26);
}

fn copy(fake: &Fake) -> Fake {
    Fake(Arc::new(Mutex::new(fake.0.lock().unwrap().clone())))
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
    let fake = Fake::default();
    let mut writer = files("out").open_on(fake.clone(), None).unwrap();
    for number in 0..3 {
        writer.stage(&info(number, number as i64 * 10_000_000)).unwrap();
        writer.publish().unwrap();
    }
    assert_eq!(fake.0.lock().unwrap().step, 1, "the directory was listed");
}

#[test]
fn what_was_cut_off_does_not_come_back() {
    let fake = Fake::default();
    let mut writer = files("out").open_on(fake.clone(), None).unwrap();
    writer.write(Tick(0), chunk("a\n")).unwrap();
    let token = writer.stage(&info(0, 0)).unwrap();
    writer.publish().unwrap();
    writer.write(Tick(1), chunk("staged, never committed\n")).unwrap();
    writer.stage(&info(1, 1)).unwrap();

    // Ticks are cut anew: this time the file is finished before there is more output.
    let mut writer = files("out").open_on(fake.clone(), Some(&token)).unwrap();
    writer.stage(&info(COMMITS - 1, 1)).unwrap();
    writer.publish().unwrap();
    fake.0.lock().unwrap().reboot(Kept { bytes: false, names: false }, None);
    let visible: Vec<_> = fake.visible().into_values().collect();
    assert_eq!(visible, [b"h\na\n"]);
}

#[test]
fn a_clock_set_back_hides_nothing_for_long() {
    let fake = Fake::default();
    let mut writer = files("out").open_on(fake.clone(), None).unwrap();
    writer.write(Tick(0), chunk("a\n")).unwrap();
    for (number, clock) in [1_000_000_000, 0, 1_000_000].into_iter().enumerate() {
        assert!(fake.visible().is_empty());
        writer.stage(&info(number, clock)).unwrap();
        writer.publish().unwrap();
    }
    assert_eq!(fake.visible().len(), 1);
}
