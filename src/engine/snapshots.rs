//! Snapshots of a running flow, on a thread of their own: neither commits nor the base wait for
//! the reading and hashing of what may be many gigabytes.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, UNIX_EPOCH};

use highwater_state::files::{Disk, Files};
use highwater_state::{DurableStore, snapshot};

use super::shared::Poison;
use crate::error::Error;
use crate::handle::Reply;
use crate::settings::Settings;
use crate::tick::dir::{SNAPSHOT_REQUEST, SNAPSHOT_TAKING};
use crate::time::clock::{Clock, SystemClock};

/// How often it looks for a request in the state directory; a flow at rest makes no commit that
/// could remind it.
const LOOK_EVERY: Duration = Duration::from_millis(500);

pub(super) struct SnapshotWork {
    durable: Option<Arc<DurableStore>>,
    interval: Option<Duration>,
    kept: usize,
    poison: Poison,
    clock: SystemClock,
}

/// The newest snapshot.
struct Newest {
    /// When it was taken, or was last tried.
    micros: i64,
    /// Its last commit.
    commit: u64,
}

impl SnapshotWork {
    pub(super) fn new(
        durable: Option<Arc<DurableStore>>,
        settings: &Settings,
        poison: &Poison,
    ) -> Self {
        let Settings { snapshot_interval: interval, snapshots_kept: kept, .. } = *settings;
        let (poison, clock) = (poison.clone(), SystemClock::new());
        SnapshotWork { durable, interval, kept, poison, clock }
    }

    /// Works until nobody can ask for anything any more.
    pub(super) fn run(&self, jobs: &Receiver<Reply>) {
        let Some(store) = &self.durable else {
            while let Ok(reply) = jobs.recv() {
                let _ = reply.send(Err(Error::state("state in memory has no snapshots")));
            }
            return;
        };
        // Of a process that died while it took one: whoever waits for it hears that now.
        let _ = Disk.remove(&store.dir().join(SNAPSHOT_TAKING));
        let mut newest = newest(store);
        let wait = self.interval.map_or(LOOK_EVERY, |every| every.min(LOOK_EVERY));
        loop {
            let mut replies = match jobs.recv_timeout(wait) {
                Ok(reply) => vec![reply],
                Err(RecvTimeoutError::Timeout) => Vec::new(),
                Err(RecvTimeoutError::Disconnected) => return,
            };
            // Whoever has asked by now is answered by the same one.
            replies.extend(jobs.try_iter());
            if self.poison.is_set() {
                continue;
            }
            let request = self.accept_request(store);
            if !replies.is_empty() || request.is_some() || self.is_due(store, &newest) {
                self.take(store, request.unwrap_or(self.kept), replies, &mut newest);
            }
            if request.is_some() {
                // Whoever asked sees by its absence that it was done.
                let _ = Disk.remove(&store.dir().join(SNAPSHOT_TAKING));
            }
        }
    }

    /// The interval counts from the newest snapshot, whoever took it: a flow that is restarted
    /// often has snapshots too. Without a new commit there is nothing to take.
    fn is_due(&self, store: &DurableStore, newest: &Newest) -> bool {
        let Some(every) = self.interval else { return false };
        let age = self.clock.now_micros().saturating_sub(newest.micros);
        u128::try_from(age).is_ok_and(|age| age >= every.as_micros())
            && store.last_commit() != newest.commit
    }

    /// How many snapshots are to be kept, if somebody asks for one by a file.
    fn accept_request(&self, store: &DurableStore) -> Option<usize> {
        let request = store.dir().join(SNAPSHOT_REQUEST);
        let kept = Disk.read(&request).ok()?;
        let taking = store.dir().join(SNAPSHOT_TAKING);
        Disk.rename(&request, &taking).ok()?;
        let kept = std::str::from_utf8(&kept).ok().and_then(|text| text.trim().parse().ok());
        Some(kept.unwrap_or(self.kept))
    }

    /// A snapshot that fails is no reason to stop: what is committed is not touched by it.
    fn take(&self, store: &DurableStore, kept: usize, replies: Vec<Reply>, newest: &mut Newest) {
        newest.micros = self.clock.now_micros();
        let taken = snapshot::take(store, kept).map_err(Error::from);
        match &taken {
            Ok((path, manifest)) => {
                newest.commit = manifest.commit;
                let (commit, bytes) = (manifest.commit, manifest.bytes());
                tracing::info!(path = %path.display(), commit, bytes, "took a snapshot");
            }
            Err(error) => tracing::error!(%error, "no snapshot was taken"),
        }
        for reply in replies {
            let answer: Result<PathBuf, Error> = match &taken {
                Ok((path, _)) => Ok(path.clone()),
                Err(error) => Err(Error::new(error.kind(), error.to_string())),
            };
            let _ = reply.send(answer);
        }
    }
}

/// The newest snapshot of a store; without any one is due at once.
fn newest(store: &DurableStore) -> Newest {
    let listed = snapshot::list(&Disk, store.dir()).unwrap_or_default();
    let path = listed.last().map(|(_, path)| path.join("MANIFEST"));
    let written = path.and_then(|path| std::fs::metadata(path).ok()?.modified().ok());
    let since = written.and_then(|written| written.duration_since(UNIX_EPOCH).ok());
    let micros = since.map_or(i64::MIN, |since| since.as_micros().try_into().unwrap_or(i64::MAX));
    Newest { micros, commit: 0 }
}
