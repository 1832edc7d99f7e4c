//! What is done behind the commits: moving them into the base, and snapshots.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender};

use highwater_state::files::{Disk, Files};
use highwater_state::{DurableStore, Store, snapshot};

use super::shared::{Event, Poison};
use crate::error::Error;
use crate::handle::Reply;

pub(super) enum BaseJob {
    /// There is a new commit.
    Committed,
    /// A snapshot is due, or somebody wants one.
    Snapshot(Option<Reply>),
}

/// A file of this name in a state directory asks the flow that runs on it for a snapshot; the
/// flow takes it after its next commit, and removes the file.
pub const REQUEST: &str = "snapshot.request";

pub(super) struct BaseWork {
    pub(super) store: Arc<dyn Store>,
    pub(super) durable: Option<Arc<DurableStore>>,
    pub(super) snapshots_kept: usize,
    pub(super) events: Sender<Event>,
    pub(super) poison: Poison,
}

impl BaseWork {
    pub(super) fn new(
        store: &Arc<dyn Store>,
        durable: Option<Arc<DurableStore>>,
        snapshots_kept: usize,
        events: &Sender<Event>,
        poison: &Poison,
    ) -> Self {
        let (store, events, poison) = (store.clone(), events.clone(), poison.clone());
        BaseWork { store, durable, snapshots_kept, events, poison }
    }

    /// Works until nobody can ask for anything any more.
    pub(super) fn run(&self, jobs: &Receiver<BaseJob>) -> Result<(), Error> {
        // What an earlier run left in the log may fill it: then no tick opens, and so no commit
        // would ever ask for this.
        self.committed()?;
        while let Ok(job) = jobs.recv() {
            if self.poison.is_set() {
                continue;
            }
            match job {
                BaseJob::Committed => self.committed()?,
                BaseJob::Snapshot(reply) => self.snapshot(reply),
            }
        }
        Ok(())
    }

    fn committed(&self) -> Result<(), Error> {
        // IMPORTANT: told after every move, not only where the tail was full before: it may become
        // full, hold the coordinator up, and be moved on, all within this loop.
        while self.store.maintain(false)? {
            let _ = self.events.send(Event::TailMoved);
        }
        if let Some(request) = self.request() {
            self.snapshot(None);
            // Whoever asked sees by its absence that it was done.
            let _ = Disk.remove(&request);
        }
        Ok(())
    }

    fn request(&self) -> Option<PathBuf> {
        let path = self.durable.as_ref()?.dir().join(REQUEST);
        Path::exists(&path).then_some(path)
    }

    /// A snapshot that fails is no reason to stop: what is committed is not touched by it.
    fn snapshot(&self, reply: Option<Reply>) {
        let taken = match &self.durable {
            Some(store) => snapshot::take(store, self.snapshots_kept).map_err(Error::from),
            None => Err(Error::state("state in memory has no snapshots")),
        };
        match &taken {
            Ok((path, manifest)) => {
                let (commit, bytes) = (manifest.commit, manifest.bytes());
                tracing::info!(path = %path.display(), commit, bytes, "took a snapshot");
            }
            Err(error) => tracing::error!(%error, "no snapshot was taken"),
        }
        if let Some(reply) = reply {
            let _ = reply.send(taken.map(|(path, _)| path));
        }
    }
}
