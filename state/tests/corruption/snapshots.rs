//! Snapshots to damage. What is restored is the snapshot exactly, or it is refused by name and
//! the one before is taken instead, loudly.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use highwater_state::base::FileBase;
use highwater_state::fault::{SimDisk, Survival};
use highwater_state::files::{Disk, Files};
use highwater_state::{DurableStore, Error, Store, snapshot};

use crate::history::History;
use crate::image::{self, Image};
use crate::shapes::{self, Shape};
use crate::{Campaign, Verdict, both, judge, judge_reader};

/// The one that is damaged, and the one before it.
const NEWEST: &str = "state/snapshots/00000002";
const BEFORE: &str = "state/snapshots/00000001";
const RESTORED: &str = "restored";

/// What the one before holds.
const OLDEST: u64 = 4;

/// The files below a directory, by their path from there.
fn below(files: &[(PathBuf, Vec<u8>)], dir: &Path) -> Image {
    let inside = files.iter().filter_map(|(path, bytes)| {
        let name = path.strip_prefix(dir).ok()?.to_str()?.to_owned();
        let diary = name.contains("/LOG") || name.contains("/LOCK");
        (!diary).then(|| (name, bytes.clone()))
    });
    inside.collect()
}

/// Commits, and snapshots on the way: the first is the one before, the others are damaged.
fn grow(
    history: &History,
    store: &DurableStore,
    read: &dyn Fn(&Path) -> Image,
) -> (Image, Vec<Shape>) {
    let (mut oldest, mut grown) = (Image::new(), Vec::new());
    let mut last = 0;
    let steps = [
        ("oldest", OLDEST, false),
        ("log only", 10, false),
        ("base and log", 20, true),
        ("base only", 26, false),
        ("several fills", 44, true),
    ];
    for (name, to, moves) in steps {
        for number in last + 1..=to {
            store.commit(history.commit(number)).unwrap();
            if moves && number + 6 == to {
                while store.maintain(true).unwrap() {}
            }
        }
        last = to;
        if name == "base only" {
            while store.maintain(true).unwrap() {}
        }
        let (path, manifest) = snapshot::take(store, 9).unwrap();
        assert_eq!(manifest.commit, to);
        let image = read(&path);
        if name == "oldest" {
            oldest = image;
        } else {
            grown.push(Shape { name, image, last });
        }
    }
    (oldest, grown)
}

fn on_sim(salt: u64) -> (Image, Vec<Shape>) {
    let disk = SimDisk::new();
    let store = shapes::open_sim(&disk).unwrap();
    let read = |path: &Path| {
        let files: Vec<_> = disk.contents().into_iter().collect();
        below(&files, path)
    };
    grow(&History::new(salt), &store, &read)
}

fn files_in(dir: &Path, found: &mut Vec<(PathBuf, Vec<u8>)>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files_in(&path, found);
        } else {
            let bytes = fs::read(&path).unwrap();
            found.push((path, bytes));
        }
    }
}

fn on_rocks(salt: u64) -> (Image, Vec<Shape>) {
    let dir = tempfile::tempdir().unwrap();
    let store = shapes::open_rocks(dir.path()).unwrap();
    let read = |path: &Path| {
        let mut files = Vec::new();
        files_in(path, &mut files);
        below(&files, path)
    };
    grow(&History::new(salt), &store, &read)
}

/// A place with two snapshots, and how stores are opened there.
struct Ground<'a> {
    history: &'a History,
    files: Arc<dyn Files>,
    root: &'a Path,
    open: &'a dyn Fn(&Path) -> Result<DurableStore, Error>,
    open_read_only: &'a dyn Fn(&Path) -> Result<DurableStore, Error>,
}

impl Ground<'_> {
    fn judge(&self) -> Verdict {
        let (newest, to) = (self.root.join(NEWEST), self.root.join(RESTORED));
        let reader = judge_reader(self.history, &|| (self.open_read_only)(&newest));
        let restored = snapshot::restore(&*self.files, &newest, &to);
        let verdict = match &restored {
            Err(error) => Verdict::Refused(error.to_string()),
            Ok(manifest) => {
                let verdict = judge(self.history, &|| (self.open)(&to));
                match verdict {
                    Verdict::Restored(number)
                        if manifest.record != number.to_string().into_bytes() =>
                    {
                        Verdict::Wrong(format!("commit {number}, and the manifest says another"))
                    }
                    Verdict::Refused(why) => Verdict::Wrong(format!("restored, and then: {why}")),
                    verdict => verdict,
                }
            }
        };
        if let Some(wrong) = self.falls_back(restored.is_ok()) {
            return Verdict::Wrong(wrong);
        }
        both(reader, verdict)
    }

    /// Takes the last whole one, and says what it passed over.
    fn falls_back(&self, whole: bool) -> Option<String> {
        let (from, to) = (self.root.join("state"), self.root.join("latest"));
        let (_, passed_over) = match snapshot::restore_latest(&self.files, &from, &to) {
            Ok(restored) => restored,
            Err(error) => return Some(format!("the one before was not taken: {error}")),
        };
        if passed_over.len() != usize::from(!whole) {
            return Some(format!("passed over {} snapshots", passed_over.len()));
        }
        match (self.open)(&to).and_then(|store| self.history.read(&store)) {
            Ok(Ok(number)) if (number == OLDEST) != whole => None,
            other => Some(format!("fell back to {other:?}")),
        }
    }
}

fn campaign(title: &'static str, shapes: Vec<Shape>, foreign: Vec<Shape>) -> Campaign {
    let history = Arc::new(History::new(0));
    Campaign { title, shapes, foreign, history, named: NEWEST }
}

#[test]
fn damaged_snapshots_on_a_simulated_disk_are_refused_and_the_one_before_taken() {
    let (oldest, shapes) = on_sim(0);
    let campaign = campaign("snapshots, base in files", shapes, on_sim(1 << 60).1);
    campaign.run(24, &|image| {
        let disk = SimDisk::new();
        for (dir, image) in [(BEFORE, &oldest), (NEWEST, image)] {
            for (name, bytes) in image {
                disk.open(&Path::new(dir).join(name), None).unwrap().append(bytes).unwrap();
            }
        }
        disk.restart(Survival::Everything);
        let files: Arc<dyn Files> = Arc::new(disk);
        let base = |dir: &Path| FileBase::open(files.clone(), &dir.join("base")).map(Box::new);
        let ground = Ground {
            history: &campaign.history,
            files: files.clone(),
            root: Path::new(""),
            open: &|dir| DurableStore::open(files.clone(), dir, base(dir)?, 1 << 30),
            open_read_only: &|dir| DurableStore::open_read_only(files.clone(), dir, base(dir)?),
        };
        ground.judge()
    });
}

#[test]
fn damaged_snapshots_of_rocksdb_are_refused_and_the_one_before_taken() {
    let (oldest, shapes) = on_rocks(0);
    let campaign = campaign("snapshots, base by RocksDB", shapes, on_rocks(1 << 60).1);
    campaign.run(4, &|image| {
        let dir = tempfile::Builder::new().prefix("damaged-snapshot").tempdir().unwrap();
        for (name, image) in [(BEFORE, &oldest), (NEWEST, image)] {
            image::to_dir(image, &dir.path().join(name));
        }
        let ground = Ground {
            history: &campaign.history,
            files: Arc::new(Disk),
            root: dir.path(),
            open: &shapes::open_rocks,
            open_read_only: &DurableStore::open_dir_read_only,
        };
        ground.judge()
    });
}
