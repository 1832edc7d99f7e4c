//! What the coordinator knows of sources: which partitions there are, what each may bring, and
//! how a tick's reading is divided among them.

use std::sync::Arc;

use super::shared::{PollReport, ReadOrder};
use crate::error::Error;
use crate::event::Partition;
use crate::flow::AnySource;
use crate::tick::PartitionRecord;

pub(super) struct SourceState {
    pub(super) id: Arc<str>,
    pub(super) source: Arc<dyn AnySource>,
    rank: u32,
    pub(super) partitions: Vec<PartitionInfo>,
    /// The source said that no partition will be added, and its partitions were listed after that.
    pub(super) complete: bool,
    /// The last tick opened when the source last woke the flow.
    pub(super) woken_at: Option<u64>,
}

pub(super) struct PartitionInfo {
    pub(super) partition: Arc<Partition>,
    /// As of the last sealed tick: what a commit says.
    pub(super) record: PartitionRecord,
    /// There may be something to read.
    pub(super) more: bool,
    /// It has ended, in a tick that may not be sealed yet.
    pub(super) end_seen: bool,
}

impl SourceState {
    /// Tells the source that nothing more will be committed.
    pub(super) fn detach(&self) {
        // A source that panics at its end changes nothing any more.
        let detach = std::panic::AssertUnwindSafe(|| self.source.detach());
        let _ = std::panic::catch_unwind(detach);
    }

    pub(super) fn new(id: Arc<str>, source: Arc<dyn AnySource>, index: usize) -> Self {
        let rank = index as u32;
        SourceState { id, source, rank, partitions: Vec::new(), complete: false, woken_at: None }
    }

    /// Adds a partition as the record has it.
    pub(super) fn add(&mut self, record: PartitionRecord) {
        let index = self.partitions.len() as u32;
        let mut partition = Partition::new(self.rank, index, &self.id, &record.name);
        partition.discovered = record.discovered;
        let (more, end_seen) = (!record.ended, record.ended);
        let partition = Arc::new(partition);
        self.partitions.push(PartitionInfo { partition, record, more, end_seen });
    }

    /// Adds a partition by name, unless it is known already.
    pub(super) fn discover(&mut self, name: String, discovered: bool) -> Option<&PartitionInfo> {
        if self.partitions.iter().any(|p| p.record.name == name) {
            return None;
        }
        self.add(PartitionRecord { name, resume: Default::default(), ended: false, discovered });
        self.partitions.last()
    }

    /// Asks the source for its partitions, unless nothing new can come of it.
    pub(super) fn list(&mut self) -> Result<Vec<String>, Error> {
        if self.complete {
            return Ok(Vec::new());
        }
        // IMPORTANT: asked before the partitions are, so that none is added in between.
        let complete = self.source.is_complete();
        let listed = self.source.partitions().map_err(|e| e.in_operator(&self.id))?;
        self.complete = complete;
        Ok(listed)
    }

    pub(super) fn record(&self) -> (String, Vec<PartitionRecord>) {
        (self.id.to_string(), self.partitions.iter().map(|p| p.record.clone()).collect())
    }

    /// Nothing will come any more, as far as sealed ticks tell.
    pub(super) fn has_ended(&self) -> bool {
        self.complete && self.partitions.iter().all(|p| p.record.ended)
    }

    /// A worker has read in a tick: it is known what may follow.
    pub(super) fn polled(&mut self, tick: u64, report: &PollReport) {
        let woken_since = self.woken_at.is_some_and(|at| at >= tick);
        if let Some(partition) = self.partitions.get_mut(report.partition as usize) {
            partition.more = !report.ended && (report.more || woken_since);
            partition.end_seen = report.ended;
        }
    }

    /// The tick is sealed: what was read in it may be committed.
    pub(super) fn sealed(&mut self, report: PollReport) {
        if let Some(partition) = self.partitions.get_mut(report.partition as usize) {
            partition.record.resume = report.resume;
            partition.record.ended = report.ended;
        }
    }

    pub(super) fn woken(&mut self, last_opened: u64) {
        self.woken_at = Some(last_opened);
        for partition in self.partitions.iter_mut().filter(|p| !p.end_seen) {
            partition.more = true;
        }
    }
}

/// Whether a tick would find something to read.
pub(super) fn any_more(sources: &[SourceState]) -> bool {
    sources.iter().flat_map(|s| &s.partitions).any(|p| p.more)
}

/// Divides a tick's reading: equal shares for the partitions that may bring something, the rest
/// going round from tick to tick. Partitions known to be empty count as read.
pub(super) fn divide(
    sources: &[SourceState],
    tick: u64,
    max_events: usize,
    max_bytes: usize,
) -> Arc<[ReadOrder]> {
    let ready = sources.iter().flat_map(|s| &s.partitions).filter(|p| p.more).count().max(1);
    let (share, rest) = (max_events / ready, max_events % ready);
    let first = (tick as usize).wrapping_mul(rest.max(1)) % ready;
    let mut turn = 0;
    let mut orders = Vec::new();
    for (source, state) in sources.iter().enumerate() {
        let byte_share = (max_bytes / state.source.row_bytes().max(1) / ready).max(1);
        for partition in state.partitions.iter().filter(|p| !p.end_seen) {
            let index = partition.partition.index;
            if !partition.more {
                orders.push(ReadOrder { source, partition: index, limit: 0 });
                continue;
            }
            let extra = usize::from((turn + ready - first) % ready < rest);
            turn += 1;
            let limit = (share + extra).min(byte_share);
            if limit > 0 {
                orders.push(ReadOrder { source, partition: index, limit });
            }
        }
    }
    orders.into()
}

/// Which partitions a tick reads, by source id and name: only test drivers choose.
pub(super) type Wanted<'a> = &'a dyn Fn(&str, &str) -> bool;

/// The reads of partitions that are wanted. Those left out count as not read.
pub(super) fn keep_wanted(
    reads: Arc<[ReadOrder]>,
    sources: &[SourceState],
    wanted: Option<Wanted<'_>>,
) -> Arc<[ReadOrder]> {
    let Some(wanted) = wanted else { return reads };
    let is_wanted = |read: &&ReadOrder| {
        let source = &sources[read.source];
        wanted(&source.id, &source.partitions[read.partition as usize].record.name)
    };
    reads.iter().filter(is_wanted).copied().collect()
}
