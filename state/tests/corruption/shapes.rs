//! Directories to damage: the same commits, caught at different steps of the way.

use std::path::Path;
use std::sync::{Arc, Mutex};

use highwater_state::Found;
use highwater_state::base::{Base, EachChange, FileBase, Position, RocksBase, VisitRaw};
use highwater_state::fault::{Fault, SimDisk, Survival};
use highwater_state::files::Disk;
use highwater_state::{DurableStore, Error, Store};

use crate::history::History;
use crate::image::{Image, ON_SIM, from_dir, from_sim};

/// A directory as it was at some time.
pub struct Shape {
    pub name: &'static str,
    pub image: Image,
    /// Its last commit.
    pub last: u64,
}

/// Larger than all that is committed: commits move when they are told to.
const LIMIT: u64 = 1 << 30;

pub fn open_sim(disk: &SimDisk) -> Result<DurableStore, Error> {
    let files = Arc::new(disk.clone());
    let dir = Path::new(ON_SIM);
    let base = FileBase::open(files.clone(), &dir.join("base"))?;
    DurableStore::open(files, dir, Box::new(base), LIMIT)
}

pub fn open_sim_read_only(disk: &SimDisk) -> Result<DurableStore, Error> {
    let files = Arc::new(disk.clone());
    let dir = Path::new(ON_SIM);
    let base = FileBase::open(files, &dir.join("base"))?;
    DurableStore::open_read_only(Arc::new(disk.clone()), dir, Box::new(base))
}

/// RocksDB's cache and buffers, small.
const MEMORY: u64 = 4 << 20;

pub fn open_rocks(dir: &Path) -> Result<DurableStore, Error> {
    DurableStore::open_dir(dir, LIMIT, MEMORY)
}

/// Called before (`false`) and after the base syncs: while commits are on their way into it.
type Hook = Arc<Mutex<Option<Box<dyn FnMut(bool) + Send>>>>;

struct Watched<B> {
    inner: B,
    hook: Hook,
}

impl<B> Watched<B> {
    fn tell(&self, synced: bool) {
        if let Some(hook) = &mut *self.hook.lock().unwrap() {
            hook(synced);
        }
    }
}

impl<B: Base> Base for Watched<B> {
    fn folder(&self) -> &'static str {
        self.inner.folder()
    }

    fn position(&self) -> Result<(Position, Option<Vec<u8>>), Error> {
        self.inner.position()
    }

    fn apply(
        &self,
        position: Position,
        record: &[u8],
        changes: &mut EachChange<'_>,
    ) -> Result<(), Error> {
        self.inner.apply(position, record, changes)
    }

    fn sync(&self) -> Result<(), Error> {
        self.tell(false);
        self.inner.sync()?;
        self.tell(true);
        Ok(())
    }

    fn get(&self, keys: &[Vec<u8>], found: &mut Found<'_>) -> Result<(), Error> {
        self.inner.get(keys, found)
    }

    fn scan(&self, from: &[u8], visit: &mut VisitRaw<'_>) -> Result<(), Error> {
        self.inner.scan(from, visit)
    }

    fn checkpoint(&self, dir: &Path) -> Result<(Position, Option<Vec<u8>>), Error> {
        self.inner.checkpoint(dir)
    }

    fn compact(&self) -> Result<(), Error> {
        self.inner.compact()
    }
}

/// How a directory is opened and looked at while it is open.
trait Place: Clone + Send + 'static {
    fn open(&self, hook: Hook) -> DurableStore;
    fn image(&self) -> Image;
}

impl Place for SimDisk {
    fn open(&self, hook: Hook) -> DurableStore {
        let files = Arc::new(self.clone());
        let dir = Path::new(ON_SIM);
        let inner = FileBase::open(files.clone(), &dir.join("base")).unwrap();
        DurableStore::open(files, dir, Box::new(Watched { inner, hook }), LIMIT).unwrap()
    }

    fn image(&self) -> Image {
        from_sim(self)
    }
}

impl Place for Arc<tempfile::TempDir> {
    fn open(&self, hook: Hook) -> DurableStore {
        let inner = RocksBase::open(&self.path().join("db"), MEMORY).unwrap();
        let base = Box::new(Watched { inner, hook });
        DurableStore::open(Arc::new(Disk), self.path(), base, LIMIT).unwrap()
    }

    fn image(&self) -> Image {
        from_dir(self.path())
    }
}

struct Growing<'a, P> {
    place: P,
    history: &'a Arc<History>,
    hook: Hook,
    store: Arc<DurableStore>,
    shapes: Vec<Shape>,
    last: u64,
}

impl<P: Place> Growing<'_, P> {
    fn commit_to(&mut self, last: u64) {
        for number in self.last + 1..=last {
            self.store.commit(self.history.commit(number)).unwrap();
        }
        self.last = last;
    }

    fn shape(&mut self, name: &'static str) {
        self.shapes.push(Shape { name, image: self.place.image(), last: self.last });
    }

    fn reopen(self) -> Self {
        let Growing { place, history, hook, store, shapes, last } = self;
        drop(store);
        let store = Arc::new(place.open(hook.clone()));
        Growing { place, history, hook, store, shapes, last }
    }

    /// Moves all there is into the base; commits go on before and after the base has synced it.
    fn catch_moving(&mut self) {
        let shapes = Arc::new(Mutex::new(Vec::new()));
        let (place, history, store) =
            (self.place.clone(), self.history.clone(), self.store.clone());
        let (into, mut last) = (shapes.clone(), self.last);
        *self.hook.lock().unwrap() = Some(Box::new(move |synced| {
            for number in last + 1..=last + 5 {
                store.commit(history.commit(number)).unwrap();
            }
            last += 5;
            let name = if synced { "moved, log not cut" } else { "moving" };
            into.lock().unwrap().push(Shape { name, image: place.image(), last });
        }));
        assert!(self.store.maintain(true).unwrap());
        *self.hook.lock().unwrap() = None;
        self.last += 10;
        self.shapes.append(&mut shapes.lock().unwrap());
    }
}

fn grow<P: Place>(place: P, history: &Arc<History>) -> Growing<'_, P> {
    let hook = Hook::default();
    let store = Arc::new(place.open(hook.clone()));
    let mut it = Growing { place, history, hook, store, shapes: Vec::new(), last: 0 };
    it.commit_to(10);
    it.shape("log only");
    it.store.maintain(true).unwrap();
    it.commit_to(16);
    it.shape("base and log");
    it.store.maintain(true).unwrap();
    it.commit_to(24);
    let mut it = it.reopen();
    it.commit_to(30);
    it.catch_moving();
    it.store.maintain(true).unwrap();
    it.commit_to(52);
    it.shape("several fills");
    it.store.compact().unwrap();
    it.commit_to(60);
    let mut it = it.reopen();
    it.commit_to(64);
    it.shape("compacted, second life");
    it
}

/// Directories in the order of time: each is an older generation of those behind it.
pub fn on_sim(history: &Arc<History>) -> Vec<Shape> {
    let disk = SimDisk::new();
    let Growing { store, mut shapes, last, .. } = grow(disk.clone(), history);
    drop(store);
    // A start that was killed before it had removed what earlier lives left.
    disk.restart(Survival::Everything);
    drop(open_sim(&disk.copy()).unwrap());
    let probe = disk.copy();
    drop(open_sim(&probe).unwrap());
    let removes = |operation: &String| operation.starts_with("remove");
    let at = probe.operations().iter().position(removes).unwrap();
    disk.fault_at(at, Fault::CrashBefore);
    assert!(open_sim(&disk).is_err());
    disk.restart(Survival::Everything);
    shapes.push(Shape { name: "start was killed", image: from_sim(&disk), last });
    shapes
}

pub fn on_rocks(history: &Arc<History>) -> Vec<Shape> {
    let dir = Arc::new(tempfile::tempdir().unwrap());
    grow(dir, history).shapes
}
