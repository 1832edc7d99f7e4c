//! What the coordinator knows of sources: which partitions there are, and what each may bring.

use std::sync::Arc;

use super::align::{Keeper, Wanted};
use super::bits::Bits;
use super::shared::PollReport;
use crate::error::Error;
use crate::event::Partition;
use crate::flow::AnySource;
use crate::tick::PartitionRecord;

pub(super) struct SourceState {
    pub(super) id: Arc<str>,
    pub(super) source: Arc<dyn AnySource>,
    rank: u32,
    pub(super) partitions: Vec<PartitionInfo>,
    by_name: hashbrown::HashMap<String, usize>,
    /// The source said that no partition will be added, and its partitions were listed after that.
    pub(super) complete: bool,
    /// The last tick opened when the source last woke the flow.
    woken_at: Option<u64>,
    /// Partitions that may have something to read.
    pub(super) ready: Bits,
    /// Partitions that have neither ended, in ticks that may not be sealed yet, nor gone.
    live: Bits,
    /// How many partitions have neither ended, in sealed ticks, nor gone.
    unended: usize,
    /// Partitions whose position has moved since the last commit, and in the last commit.
    moved: Bits,
    committed: Bits,
    /// The `event_time` operators behind the source.
    pub(super) keepers: Vec<Keeper>,
}

pub(super) struct PartitionInfo {
    pub(super) partition: Arc<Partition>,
    /// As of the last sealed tick: what a commit says.
    pub(super) record: PartitionRecord,
    /// It is known to hold unread events, or has not been asked yet. A wake alone says neither.
    pub(super) unread: bool,
    /// Its worker takes it for one with unread events, and otherwise for one that is read in
    /// every tick.
    pub(super) waits: bool,
    /// The last tick opened when the source last woke the flow for this partition.
    woken_at: Option<u64>,
}

/// What the coordinator is to tell a worker of a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    Assign(usize),
    Release(usize),
}

impl SourceState {
    /// Tells the source that nothing more will be committed.
    pub(super) fn detach(&self) {
        // A source that panics at its end changes nothing any more.
        let detach = std::panic::AssertUnwindSafe(|| self.source.detach());
        let _ = std::panic::catch_unwind(detach);
    }

    pub(super) fn new(id: Arc<str>, source: Arc<dyn AnySource>, index: usize) -> Self {
        SourceState {
            id,
            source,
            rank: index as u32,
            partitions: Vec::new(),
            by_name: hashbrown::HashMap::new(),
            complete: false,
            woken_at: None,
            ready: Bits::default(),
            live: Bits::default(),
            unended: 0,
            moved: Bits::default(),
            committed: Bits::default(),
            keepers: Vec::new(),
        }
    }

    /// Adds a partition as the record has it.
    pub(super) fn add(&mut self, record: PartitionRecord) {
        let index = self.partitions.len();
        let mut partition = Partition::new(self.rank, index as u32, &self.id, &record.name);
        partition.discovered = record.discovered;
        let live = !record.ended && !record.removed;
        self.ready.set(index, live);
        self.live.set(index, live);
        self.unended += usize::from(live);
        self.by_name.insert(record.name.clone(), index);
        let partition = Arc::new(partition);
        let (unread, waits, woken_at) = (live, true, None);
        self.partitions.push(PartitionInfo { partition, record, unread, waits, woken_at });
    }

    /// Adds a partition by name, unless it is known already. `first` is whether the flow has
    /// never run on this source.
    pub(super) fn discover(
        &mut self,
        name: String,
        discovered: bool,
        first: bool,
    ) -> Result<Option<usize>, Error> {
        if self.by_name.contains_key(&name) {
            return Ok(None);
        }
        let resume = self.source.start(&name, first).map_err(|error| {
            let rank = self.rank;
            let partition = Partition::new(rank, self.partitions.len() as u32, &self.id, &name);
            error.in_operator(&self.id).in_partition(&Arc::new(partition))
        })?;
        let (ended, removed) = (false, false);
        self.add(PartitionRecord { name, resume, ended, discovered, removed });
        Ok(Some(self.partitions.len() - 1))
    }

    /// Asks the source for its partitions, unless nothing new can come of it.
    pub(super) fn list(&mut self) -> Result<Option<Vec<String>>, Error> {
        if self.complete {
            return Ok(None);
        }
        // IMPORTANT: asked before the partitions are, so that none is added in between.
        let complete = self.source.is_complete();
        let listed = self.source.partitions().map_err(|e| e.in_operator(&self.id))?;
        self.complete = complete;
        Ok(Some(listed))
    }

    /// Takes note of partitions that are new, there again, or gone.
    pub(super) fn relist(&mut self, listed: Vec<String>) -> Result<Vec<Change>, Error> {
        let mut changes = Vec::new();
        let mut named = Bits::default();
        for name in listed {
            let index = match self.by_name.get(&name) {
                Some(&index) => index,
                None => match self.discover(name, true, false)? {
                    Some(index) => {
                        changes.push(Change::Assign(index));
                        index
                    }
                    None => continue,
                },
            };
            named.set(index, true);
            if self.partitions[index].record.removed {
                self.set_removed(index, false);
                changes.push(Change::Assign(index));
            }
        }
        let gone: Vec<usize> = self.live.iter().filter(|&index| !named.contains(index)).collect();
        for index in gone {
            self.set_removed(index, true);
            changes.push(Change::Release(index));
        }
        Ok(changes)
    }

    fn set_removed(&mut self, index: usize, removed: bool) {
        let info = &mut self.partitions[index];
        info.record.removed = removed;
        let live = !removed && !info.record.ended;
        (info.unread, info.waits) = (live, true);
        if !info.record.ended {
            self.unended = if removed { self.unended - 1 } else { self.unended + 1 };
        }
        self.ready.set(index, live);
        self.live.set(index, live);
    }

    /// The partitions for the record of a commit.
    pub(super) fn record(&self) -> (String, Vec<PartitionRecord>) {
        (self.id.to_string(), self.partitions.iter().map(|p| p.record.clone()).collect())
    }

    /// A commit is being made of what [`record`](Self::record) says now.
    pub(super) fn commit_begins(&mut self) {
        self.committed = std::mem::take(&mut self.moved);
    }

    /// The commit that began last is durable: `positions` are the partitions as it has them.
    pub(super) fn committed(&self, positions: &[PartitionRecord]) {
        for index in self.committed.iter() {
            if let Some(partition) = positions.get(index) {
                self.source.committed(&partition.name, partition.resume.position);
            }
        }
    }

    /// Nothing will come any more, as far as sealed ticks tell.
    pub(super) fn has_ended(&self) -> bool {
        self.complete && self.unended == 0
    }

    /// A worker has read in a tick: it is known what may follow.
    pub(super) fn polled(&mut self, tick: u64, report: &PollReport) {
        let index = report.partition as usize;
        let Some(info) = self.partitions.get_mut(index) else { return };
        info.waits = report.waits;
        if info.record.removed {
            return;
        }
        let woken_since = self.woken_at.max(info.woken_at).is_some_and(|at| at >= tick);
        info.unread = !report.ended && report.more && report.brought;
        self.ready.set(index, !report.ended && (report.more || woken_since));
        self.live.set(index, !report.ended);
    }

    /// The tick is sealed: what was read in it may be committed. Says whether the position moved.
    pub(super) fn sealed(&mut self, report: PollReport) -> bool {
        let index = report.partition as usize;
        let Some(info) = self.partitions.get_mut(index) else { return false };
        let record = &mut info.record;
        let moved = record.resume.position != report.resume.position;
        if moved {
            self.moved.set(index, true);
        }
        if report.ended && !record.ended && !record.removed {
            self.unended -= 1;
        }
        record.resume = report.resume;
        record.ended = report.ended;
        moved
    }

    /// Partitions that are not wanted are looked into when they are again: until then their time
    /// does not count.
    pub(super) fn pause(&mut self, wanted: Wanted<'_>) {
        for index in self.live.iter() {
            if !wanted(&self.id, &self.partitions[index].record.name) {
                self.ready.set(index, true);
            }
        }
    }

    /// The source has something, in any of its partitions.
    pub(super) fn woken(&mut self, last_opened: u64) {
        self.woken_at = Some(last_opened);
        let live = &self.live;
        self.ready.add_all(live);
    }

    /// The source has something in this partition; says whether that is known.
    pub(super) fn partition_woken(&mut self, name: &str, last_opened: u64) -> bool {
        let Some(&index) = self.by_name.get(name) else { return false };
        let info = &mut self.partitions[index];
        if info.record.removed {
            return false;
        }
        info.woken_at = Some(last_opened);
        if self.live.contains(index) {
            self.ready.set(index, true);
        }
        true
    }
}

/// Whether a tick would find something to read.
pub(super) fn any_more(sources: &[SourceState]) -> bool {
    sources.iter().any(|source| !source.ready.is_empty())
}
