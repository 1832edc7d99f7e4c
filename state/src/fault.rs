//! A disk for tests: it forgets what was not synced, tears what was being written, and can be
//! told to fail at any one of its numbered operations.

use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::files::{AppendFile, Files};
use crate::hash_bytes;

/// What goes wrong at one operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The process dies before it.
    CrashBefore,
    /// The process dies halfway: half of an append, part of a sync; a name changes durably.
    CrashTorn,
    /// The process dies after it, before it hears so.
    CrashAfter,
    /// It fails and has no effect; the process lives on.
    Fail,
    /// It fails, and has happened nevertheless.
    FailAfter,
    /// The disk is full: half of an append is written, everything else fails.
    Full,
    /// A sync says that it has happened, and it has not: no store survives that.
    LostSync,
}

/// What a crash leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Survival {
    /// What was synced, and nothing else: power loss at its worst.
    Synced,
    /// All that was written: the process was killed.
    Everything,
    /// What was synced, and some of the rest, chosen by a seed.
    Some(u64),
}

/// A disk in memory. Clones share it.
#[derive(Clone, Default)]
pub struct SimDisk {
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    inodes: Vec<Inode>,
    names: BTreeMap<PathBuf, usize>,
    durable: BTreeMap<PathBuf, usize>,
    /// Changes of names that no sync of their directory has made durable, in order.
    pending: Vec<NameChange>,
    operations: Vec<String>,
    fault: Option<(usize, Fault)>,
    dead: bool,
    /// Counts restarts: a handle of an earlier life is of no use.
    life: u64,
}

#[derive(Clone, Default)]
struct Inode {
    content: Vec<u8>,
    durable: Vec<u8>,
}

#[derive(Clone)]
struct NameChange {
    dir: PathBuf,
    removed: Option<PathBuf>,
    added: Option<(PathBuf, usize)>,
}

fn crashed() -> io::Error {
    io::Error::other("the simulated process has crashed")
}

fn parent(path: &Path) -> PathBuf {
    path.parent().unwrap_or(Path::new("")).to_owned()
}

/// How an operation is to go on.
enum Verdict {
    Do,
    /// Do it, then fail.
    DoAndFail(io::Error),
    /// Do half of it, then fail.
    Half(io::Error),
    Pretend,
}

impl State {
    /// Numbers an operation, and decides what becomes of it.
    fn operation(&mut self, name: &str, path: &Path) -> io::Result<Verdict> {
        if self.dead {
            return Err(crashed());
        }
        let number = self.operations.len();
        self.operations.push(format!("{name} {}", path.display()));
        let Some((at, fault)) = self.fault else { return Ok(Verdict::Do) };
        if at != number {
            return Ok(Verdict::Do);
        }
        self.dead = matches!(fault, Fault::CrashBefore | Fault::CrashTorn | Fault::CrashAfter);
        match fault {
            Fault::CrashBefore => Err(crashed()),
            Fault::CrashTorn => Ok(Verdict::Half(crashed())),
            Fault::CrashAfter => Ok(Verdict::DoAndFail(crashed())),
            Fault::Fail => Err(io::Error::other("simulated failure")),
            Fault::FailAfter => Ok(Verdict::DoAndFail(io::Error::other("simulated failure"))),
            Fault::Full => Ok(Verdict::Half(ErrorKind::StorageFull.into())),
            Fault::LostSync if name.starts_with("sync") => Ok(Verdict::Pretend),
            Fault::LostSync => Ok(Verdict::Do),
        }
    }

    fn change_name(&mut self, change: NameChange) {
        apply(&mut self.names, &change);
        self.pending.push(change);
    }

    /// Changes a name by a numbered operation.
    fn rename_like(
        &mut self,
        name: &str,
        path: &Path,
        change: impl FnOnce(&mut State) -> NameChange,
    ) -> io::Result<()> {
        let verdict = self.operation(name, path)?;
        let change = change(self);
        match verdict {
            Verdict::Do | Verdict::Pretend => {
                self.change_name(change);
                Ok(())
            }
            Verdict::DoAndFail(error) => {
                self.change_name(change);
                Err(error)
            }
            Verdict::Half(error) if error.kind() == ErrorKind::StorageFull => Err(error),
            Verdict::Half(error) => {
                // The name reached the disk though nobody synced it.
                apply(&mut self.names, &change);
                apply(&mut self.durable, &change);
                Err(error)
            }
        }
    }
}

fn apply(names: &mut BTreeMap<PathBuf, usize>, change: &NameChange) {
    if let Some(removed) = &change.removed {
        names.remove(removed);
    }
    if let Some((added, inode)) = &change.added {
        names.insert(added.clone(), *inode);
    }
}

impl SimDisk {
    /// An empty disk.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What was done to the disk since the start or the last restart, in order.
    #[must_use]
    pub fn operations(&self) -> Vec<String> {
        self.lock().operations.clone()
    }

    /// How many operations there were since the start or the last restart.
    #[must_use]
    pub fn operation_count(&self) -> usize {
        self.lock().operations.len()
    }

    /// Plans a fault at one of the operations to come, counted from the start or the last
    /// restart.
    pub fn fault_at(&self, operation: usize, fault: Fault) {
        self.lock().fault = Some((operation, fault));
    }

    /// Whether a planned crash has struck.
    #[must_use]
    pub fn is_dead(&self) -> bool {
        self.lock().dead
    }

    /// Numbers a step of the program itself: a moment to crash at between two operations.
    ///
    /// # Errors
    /// Where a fault was planned for it.
    pub fn step(&self, name: &str) -> io::Result<()> {
        match self.lock().operation(name, Path::new(""))? {
            Verdict::Do | Verdict::Pretend => Ok(()),
            Verdict::DoAndFail(error) | Verdict::Half(error) => Err(error),
        }
    }

    /// A disk of its own with the same content.
    #[must_use]
    pub fn copy(&self) -> SimDisk {
        let state = self.lock();
        let copy = State {
            inodes: state.inodes.clone(),
            names: state.names.clone(),
            durable: state.durable.clone(),
            pending: state.pending.clone(),
            ..State::default()
        };
        SimDisk { state: Arc::new(Mutex::new(copy)) }
    }

    /// The process is gone; what is left for the next one.
    pub fn restart(&self, survival: Survival) {
        let mut state = self.lock();
        let State { inodes, pending, durable, names, .. } = &mut *state;
        let pending = std::mem::take(pending);
        match survival {
            Survival::Synced => {
                *names = durable.clone();
                inodes.iter_mut().for_each(|inode| inode.content = inode.durable.clone());
            }
            Survival::Everything => {
                *durable = names.clone();
                inodes.iter_mut().for_each(|inode| inode.durable = inode.content.clone());
            }
            Survival::Some(seed) => {
                let chance = |what: usize| {
                    hash_bytes(&[seed.to_le_bytes(), (what as u64).to_le_bytes()].concat()) as usize
                };
                let kept = chance(usize::MAX) % (pending.len() + 1);
                pending[..kept].iter().for_each(|change| apply(durable, change));
                *names = durable.clone();
                for (index, inode) in inodes.iter_mut().enumerate() {
                    inode.keep_some(chance(index));
                }
            }
        }
        state.operations.clear();
        state.fault = None;
        state.dead = false;
        state.life += 1;
    }

    /// Changes the content of a file behind everybody's back.
    pub fn damage(&self, path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
        let mut state = self.lock();
        if let Some(&inode) = state.names.get(path) {
            let inode = &mut state.inodes[inode];
            change(&mut inode.content);
            inode.durable = inode.content.clone();
        }
    }

    /// Every file with its content.
    #[must_use]
    pub fn contents(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        let state = self.lock();
        let content = |inode: &usize| state.inodes[*inode].content.clone();
        state.names.iter().map(|(path, inode)| (path.clone(), content(inode))).collect()
    }
}

impl Inode {
    /// What was synced, and part of what was appended since; its last bytes may be wrong.
    fn keep_some(&mut self, chance: usize) {
        let synced = self.durable.len();
        if self.content.len() > synced && self.content.starts_with(&self.durable) {
            let kept = synced + chance % (self.content.len() - synced + 1);
            self.content.truncate(kept);
            if chance & (1 << 40) != 0 {
                // The length had arrived, the bytes had not.
                let torn = synced.max(kept.saturating_sub(16));
                self.content[torn..].fill(0);
            }
        } else if chance & 1 == 0 {
            self.content = self.durable.clone();
        }
        self.durable = self.content.clone();
    }
}

impl Files for SimDisk {
    fn create_dir(&self, _: &Path) -> io::Result<()> {
        if self.lock().dead { Err(crashed()) } else { Ok(()) }
    }

    fn list(&self, dir: &Path) -> io::Result<BTreeMap<String, u64>> {
        let state = self.lock();
        if state.dead {
            return Err(crashed());
        }
        let here = state.names.iter().filter(|(path, _)| path.parent() == Some(dir));
        let named = here.filter_map(|(path, inode)| {
            let name = path.file_name()?.to_str()?.to_owned();
            Some((name, state.inodes[*inode].content.len() as u64))
        });
        Ok(named.collect())
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        let state = self.lock();
        if state.dead {
            return Err(crashed());
        }
        let inode = state.names.get(path).ok_or(ErrorKind::NotFound)?;
        Ok(state.inodes[*inode].content.clone())
    }

    fn open(&self, path: &Path, cut_to: Option<u64>) -> io::Result<Box<dyn AppendFile>> {
        let mut state = self.lock();
        let inode = match (cut_to, state.names.get(path).copied()) {
            (None, Some(_)) => return Err(ErrorKind::AlreadyExists.into()),
            (Some(_), None) => return Err(ErrorKind::NotFound.into()),
            (None, None) => {
                let dir = parent(path);
                state.rename_like("create", path, |state| {
                    state.inodes.push(Inode::default());
                    let added = Some((path.to_owned(), state.inodes.len() - 1));
                    NameChange { dir, removed: None, added }
                })?;
                state.inodes.len() - 1
            }
            (Some(length), Some(inode)) => {
                let cut = length as usize;
                if state.inodes[inode].content.len() != cut {
                    let verdict = state.operation("cut", path)?;
                    state.inodes[inode].content.resize(cut, 0);
                    if let Verdict::DoAndFail(error) | Verdict::Half(error) = verdict {
                        return Err(error);
                    }
                }
                inode
            }
        };
        let (disk, life, path) = (self.clone(), state.life, path.to_owned());
        Ok(Box::new(SimFile { disk, life, inode, path }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.lock();
        let inode = *state.names.get(from).ok_or(ErrorKind::NotFound)?;
        state.rename_like("rename", to, |_| NameChange {
            dir: parent(to),
            removed: Some(from.to_owned()),
            added: Some((to.to_owned(), inode)),
        })
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut state = self.lock();
        state.names.get(path).ok_or(ErrorKind::NotFound)?;
        state.rename_like("remove", path, |_| NameChange {
            dir: parent(path),
            removed: Some(path.to_owned()),
            added: None,
        })
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let mut state = self.lock();
        let verdict = state.operation("sync names", dir)?;
        if matches!(verdict, Verdict::Pretend) {
            return Ok(());
        }
        let (here, rest): (Vec<_>, Vec<_>) =
            std::mem::take(&mut state.pending).into_iter().partition(|c| c.dir == dir);
        let half = matches!(verdict, Verdict::Half(_));
        let count = if half { here.len() / 2 } else { here.len() };
        here[..count].iter().for_each(|change| apply(&mut state.durable, change));
        state.pending = here[count..].iter().cloned().chain(rest).collect();
        match verdict {
            Verdict::DoAndFail(error) | Verdict::Half(error) => Err(error),
            Verdict::Do | Verdict::Pretend => Ok(()),
        }
    }

    fn list_dirs(&self, dir: &Path) -> io::Result<Vec<String>> {
        let state = self.lock();
        if state.dead {
            return Err(crashed());
        }
        let below = state.names.keys().filter_map(|path| path.strip_prefix(dir).ok());
        let mut names: Vec<String> = below
            .filter(|rest| rest.components().count() > 1)
            .filter_map(|rest| rest.iter().next()?.to_str().map(ToOwned::to_owned))
            .collect();
        names.dedup();
        Ok(names)
    }

    fn remove_dir(&self, dir: &Path) -> io::Result<()> {
        let state = self.lock();
        let below: Vec<_> = state.names.keys().filter(|p| p.starts_with(dir)).cloned().collect();
        drop(state);
        below.iter().try_for_each(|path| self.remove(path))
    }
}

struct SimFile {
    disk: SimDisk,
    life: u64,
    inode: usize,
    path: PathBuf,
}

impl AppendFile for SimFile {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut state = self.disk.lock();
        if state.life != self.life {
            return Err(crashed());
        }
        let verdict = state.operation("append", &self.path)?;
        let half = matches!(verdict, Verdict::Half(_));
        let written = if half { &bytes[..bytes.len() / 2] } else { bytes };
        let inode = &mut state.inodes[self.inode];
        inode.content.extend_from_slice(written);
        match verdict {
            Verdict::Half(error) => {
                // What was torn is on the disk already.
                if inode.content.starts_with(&inode.durable) {
                    inode.durable = inode.content.clone();
                }
                Err(error)
            }
            Verdict::DoAndFail(error) => Err(error),
            Verdict::Do | Verdict::Pretend => Ok(()),
        }
    }

    fn sync(&mut self) -> io::Result<()> {
        let mut state = self.disk.lock();
        if state.life != self.life {
            return Err(crashed());
        }
        let verdict = state.operation("sync", &self.path)?;
        let inode = &mut state.inodes[self.inode];
        match verdict {
            Verdict::Pretend => Ok(()),
            Verdict::Do => {
                inode.durable = inode.content.clone();
                Ok(())
            }
            Verdict::DoAndFail(error) => {
                inode.durable = inode.content.clone();
                Err(error)
            }
            Verdict::Half(error) => {
                let middle = usize::midpoint(inode.durable.len(), inode.content.len());
                if inode.content.starts_with(&inode.durable) {
                    inode.durable = inode.content[..middle].to_vec();
                }
                Err(error)
            }
        }
    }
}
