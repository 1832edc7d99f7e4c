//! What is done behind the commits: moving them into the base.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender};

use highwater_state::Store;

use super::shared::{Event, Poison};
use crate::error::Error;

pub(super) enum BaseJob {
    /// There is a new commit.
    Committed,
}

pub(super) struct BaseWork {
    pub(super) store: Arc<dyn Store>,
    pub(super) events: Sender<Event>,
    pub(super) poison: Poison,
}

impl BaseWork {
    pub(super) fn new(store: &Arc<dyn Store>, events: &Sender<Event>, poison: &Poison) -> Self {
        let (store, events, poison) = (store.clone(), events.clone(), poison.clone());
        BaseWork { store, events, poison }
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
        Ok(())
    }
}
