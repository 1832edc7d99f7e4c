//! A commit while it is put together: its tick must be sealed, and every operator must have
//! written out what it changed, while later ticks go on.

use std::sync::Arc;

use highwater_state::Changes;

use crate::error::Error;
use crate::handle::Reply;
use crate::sink::Chunk;
use crate::tick::{CommitDone, CommitJob, TickRecord};
use crate::time::Tick;

/// Where sealed output and commits go: a thread of its own, or, in tests, the same thread.
pub(super) trait CommitLane {
    fn output(&mut self, sink: &str, tick: Tick, chunk: Chunk) -> Result<(), Error>;
    /// The commit that was made, unless it will be told later.
    fn commit(&mut self, job: CommitJob) -> Result<Option<CommitDone>, Error>;
    /// Takes a snapshot of the last commit, and tells whoever asked.
    fn snapshot(&mut self, reply: Reply);
}

/// Output of a tick: the sink, the tick, the rows.
pub(super) type Output = (Arc<str>, Tick, Chunk);

/// At most one commit is put together at a time.
#[derive(Default)]
pub(super) struct Assembly {
    begun: Option<Begun>,
}

/// What a commit still waits for.
struct Begun {
    tick: u64,
    /// Operators, on each worker, that have not written out what they changed.
    missing: usize,
    changes: Vec<Changes>,
    /// The record, once the tick is sealed, and whether it is the last one.
    sealed: Option<(TickRecord, bool)>,
    /// Output of later ticks: it belongs to the next commit.
    held_back: Vec<Output>,
}

impl Assembly {
    /// A tick was opened to be committed; so many operators will be heard of.
    pub(super) fn begin(&mut self, tick: u64, missing: usize) {
        let (changes, held_back) = (Vec::new(), Vec::new());
        self.begun = Some(Begun { tick, missing, changes, sealed: None, held_back });
    }

    #[cfg(feature = "testing")]
    pub(super) fn is_begun(&self) -> bool {
        self.begun.is_some()
    }

    pub(super) fn sealed(&mut self, record: TickRecord, last: bool) {
        if let Some(begun) = &mut self.begun {
            begun.sealed = Some((record, last));
        }
    }

    pub(super) fn captured(&mut self, tick: u64, changes: Vec<Changes>) -> Result<(), Error> {
        match &mut self.begun {
            Some(begun) if begun.tick == tick && begun.missing > 0 => {
                begun.missing -= 1;
                begun.changes.extend(changes);
                Ok(())
            }
            _ => Err(Error::bug(format!("tick {tick} was captured without being asked"))),
        }
    }

    /// Hands output on, unless it is of a tick after the commit that is being put together.
    pub(super) fn output(
        &mut self,
        lane: &mut dyn CommitLane,
        sink: &Arc<str>,
        tick: Tick,
        chunk: Chunk,
    ) -> Result<(), Error> {
        match &mut self.begun {
            Some(begun) if tick.0 > begun.tick => {
                begun.held_back.push((sink.clone(), tick, chunk));
                Ok(())
            }
            _ => lane.output(sink, tick, chunk),
        }
    }

    /// The commit, if it waits for nothing any more, and the output that was held back.
    pub(super) fn take_whole(&mut self) -> Option<(CommitJob, Vec<Output>)> {
        let begun = self.begun.take_if(|begun| begun.missing == 0 && begun.sealed.is_some())?;
        let (record, last) = begun.sealed?;
        Some((CommitJob { record, changes: begun.changes, last }, begun.held_back))
    }
}
