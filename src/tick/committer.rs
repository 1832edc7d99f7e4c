//! Makes commits: stages the sinks' output, writes the record and the changes in one atomic
//! step, and only then lets the sinks make their output visible.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use highwater_state::planted::planted;
use highwater_state::{Changes, Commit, Store};

use super::TickRecord;
use super::outbox::{Outbox, letter};
use crate::error::{Error, ErrorKind, panic_message};
use crate::sink::{Chunk, CommitInfo, Letter, SinkWriter};
use crate::time::Tick;

/// One commit to be made: every part of it is of sealed ticks.
pub(crate) struct CommitJob {
    pub(crate) record: TickRecord,
    pub(crate) changes: Vec<Changes>,
    pub(crate) last: bool,
}

/// A commit that is durable and visible.
pub(crate) struct CommitDone {
    pub(crate) tick: Tick,
    pub(crate) last: bool,
    /// See [`Committer::sinks_due_micros`].
    pub(crate) sinks_due_micros: Option<i64>,
}

pub(crate) struct Committer {
    store: Arc<dyn Store>,
    /// By sink id.
    sinks: BTreeMap<String, Box<dyn SinkWriter>>,
    /// The last tick whose commit is durable.
    committed: Arc<AtomicU64>,
    outbox: Outbox,
}

impl Committer {
    pub(crate) fn new(
        store: Arc<dyn Store>,
        sinks: BTreeMap<String, Box<dyn SinkWriter>>,
        committed: Arc<AtomicU64>,
    ) -> Self {
        Committer { store, sinks, committed, outbox: Outbox::default() }
    }

    /// Hands a sealed tick's output to a sink.
    pub(crate) fn output(&mut self, sink: &str, tick: Tick, chunk: Chunk) -> Result<(), Error> {
        match self.sinks.get_mut(sink) {
            Some(writer) => guarded(sink, || writer.write(tick, chunk)),
            None => Err(Error::bug(format!("output for `{sink}`, which is no sink"))),
        }
    }

    /// Makes one commit. After an error the flow must stop: what happened is only known by
    /// opening the store again.
    pub(crate) fn commit(&mut self, mut job: CommitJob) -> Result<CommitDone, Error> {
        let info = CommitInfo {
            tick: job.record.tick,
            clock_micros: job.record.clock_micros,
            last: job.last,
        };
        job.changes.append(&mut self.outbox.take_sent()?);
        let mut letters = Vec::new();
        for (id, writer) in &mut self.sinks {
            let token = guarded(id, || writer.stage(&info))?;
            job.record.sinks.insert(id.clone(), token);
            if let Some(bytes) = guarded(id, || Ok(writer.outbox()))? {
                job.changes.push(letter(id, info.tick, &bytes)?);
                letters.push((id.clone(), bytes));
            }
        }
        let record = job.record.encode()?;
        if planted("position-before-state") {
            self.store.commit(Commit { record: record.clone(), changes: Vec::new() })?;
        }
        if planted("published-before-commit") {
            for (id, writer) in &mut self.sinks {
                guarded(id, || writer.publish())?;
            }
        }
        // It holds every partition: it is kept only where it may be needed again.
        let last = (job.last && !letters.is_empty()).then(|| record.clone());
        self.store.commit(Commit { record, changes: job.changes })?;
        self.committed.store(job.record.tick.0, Ordering::Release);
        // IMPORTANT: nothing becomes visible before the commit above has returned.
        for (id, bytes) in &letters {
            let letter = Letter { tick: info.tick, bytes };
            if let Some(writer) = self.sinks.get_mut(id) {
                guarded(id, || writer.send(&letter))?;
            }
            self.outbox.sent(id, info.tick);
        }
        for (id, writer) in &mut self.sinks {
            guarded(id, || writer.publish())?;
        }
        if let Some(record) = last {
            // No commit comes that would let them go: the next start would send them again.
            self.store.commit(Commit { record, changes: self.outbox.take_sent()? })?;
        }
        let sinks_due_micros = self.sinks_due_micros()?;
        Ok(CommitDone { tick: job.record.tick, last: job.last, sinks_due_micros })
    }

    /// When the first sink wants a commit, whatever there is to commit, on the tick clock.
    pub(crate) fn sinks_due_micros(&self) -> Result<Option<i64>, Error> {
        let mut first: Option<i64> = None;
        for (id, writer) in &self.sinks {
            let due = guarded(id, || Ok(writer.due_micros()))?;
            first = first.into_iter().chain(due).min();
        }
        Ok(first)
    }
}

/// Calls into a sink: what it returns or panics with is attributed to it.
pub(crate) fn guarded<R>(id: &str, f: impl FnOnce() -> Result<R, Error>) -> Result<R, Error> {
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(f))
        .unwrap_or_else(|panic| {
            let message = format!("it panicked: {}", panic_message(&*panic));
            Err(Error::new(ErrorKind::UserCode, message))
        })
        .map_err(|error| error.in_operator(id))
}
