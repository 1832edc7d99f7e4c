//! How a tick's reading is divided among partitions: those that hold time back come first, and
//! those that lead by too much wait.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use highwater_state::planted::planted;

use super::shared::ReadOrder;
use super::sources::SourceState;
use crate::flow::Plan;
use crate::operator::PartitionNews;
use crate::time::{EventTime, Span, Summary};

/// So many partitions are read in one tick without a second thought.
const FEW_PARTITIONS: usize = 64;

/// Where there are more, not so many are read that each brings fewer events than this.
const LEAST_SHARE: usize = 64;

/// Partitions are apart if more than so many strides lie between them.
const APART: i64 = 4;

/// While some are apart, the others share one part of the tick in so many.
const OTHERS: usize = 8;

/// An `event_time` operator behind a source, and what its partitions promise.
pub(super) struct Keeper {
    node: usize,
    lead_limit: Option<Span>,
    /// Operators whose events meet further down share a number.
    group: usize,
    /// By partition, as of the last tick that a worker has sealed.
    promises: Vec<Summary>,
    /// How far a promise moves in a tick, about: the largest step of late, fading, in µs.
    stride: i64,
}

/// Where a partition stands in event time. Ordered as they hold time back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    /// It has promised nothing yet.
    First,
    At(EventTime),
    /// It holds nothing back: it is idle, or has no event time.
    Last,
}

impl Keeper {
    fn rank(&self, partition: usize) -> Rank {
        match self.promises.get(partition).copied().unwrap_or(Summary::Unknown) {
            Summary::Unknown => Rank::First,
            Summary::At(time) => Rank::At(time),
            Summary::Idle | Summary::Finished | Summary::Absent => Rank::Last,
        }
    }

    fn hear(&mut self, partition: usize, summary: Summary) {
        if self.promises.len() <= partition {
            self.promises.resize(partition + 1, Summary::Unknown);
        }
        let before = std::mem::replace(&mut self.promises[partition], summary);
        if let (Summary::At(before), Summary::At(now)) = (before, summary) {
            self.stride = self.stride.max((now - before).as_micros());
        }
    }
}

/// Which partitions a tick reads, by source id and name: only test drivers choose.
pub(super) type Wanted<'a> = &'a dyn Fn(&str, &str) -> bool;

/// A partition that may have something to read.
struct Ready {
    source: usize,
    partition: usize,
    rank: Rank,
    /// It is not wanted in this tick.
    paused: bool,
    /// It holds a group back.
    holds: bool,
    chosen: bool,
    limit: usize,
}

/// The partition that holds a group back, and how far from it another one is.
#[derive(Clone, Copy)]
struct Held {
    slowest: Rank,
    holder: usize,
    fastest: Option<EventTime>,
    stride: i64,
}

/// Divides the reading, from tick to tick.
pub(super) struct Alignment {
    /// By node of an `event_time`: its source, and its place among the source's keepers.
    keepers: BTreeMap<usize, (usize, usize)>,
    groups: usize,
    ready: Vec<Ready>,
    /// Ticks divided, and whose turn it is to get what cannot be divided.
    ticks: usize,
    turn: usize,
    /// Where the going round stopped among partitions that cannot all be read in one tick.
    cursor: (usize, usize),
}

impl Alignment {
    /// Finds the `event_time` operators of a plan, and gives them to their sources.
    pub(super) fn new(plan: &Plan, sources: &mut [SourceState]) -> Self {
        let group_of = meeting(plan);
        let mut keepers = BTreeMap::new();
        for (&node, &lead_limit) in &plan.event_times {
            let group = group_of.get(&node).copied().unwrap_or_default();
            let ids: Vec<_> = plan.sources_of(node).iter().map(|&s| &plan.nodes[s].id).collect();
            if let Some(source) = sources.iter().position(|s| ids.contains(&&s.id)) {
                let list = &mut sources[source].keepers;
                keepers.insert(node, (source, list.len()));
                list.push(Keeper { node, lead_limit, group, promises: Vec::new(), stride: 0 });
            }
        }
        let groups = group_of.values().max().map_or(0, |group| group + 1);
        Alignment { keepers, groups, ready: Vec::new(), ticks: 0, turn: 0, cursor: (0, 0) }
    }

    /// An `event_time` operator on one worker has ended a tick.
    pub(super) fn hear(&self, sources: &mut [SourceState], node: usize, news: &[PartitionNews]) {
        let Some(&(source, keeper)) = self.keepers.get(&node) else { return };
        let keeper = &mut sources[source].keepers[keeper];
        debug_assert_eq!(keeper.node, node);
        keeper.stride -= keeper.stride / 8;
        for n in news {
            debug_assert_eq!(n.source as usize, source);
            keeper.hear(n.index as usize, n.summary);
        }
    }

    /// Says what each partition may bring to the next tick, and which partitions must wait.
    pub(super) fn divide(
        &mut self,
        sources: &mut [SourceState],
        max_events: usize,
        max_bytes: usize,
        wanted: Option<Wanted<'_>>,
    ) -> Arc<[ReadOrder]> {
        self.list_ready(sources);
        if let Some(wanted) = wanted {
            self.pause(sources, wanted);
        }
        let held = self.holders(sources);
        self.choose(sources, &held, max_events);
        self.share(sources, max_events, max_bytes);
        let mut orders = Vec::new();
        for ready in &self.ready {
            let info = &mut sources[ready.source].partitions[ready.partition];
            // One that waits is named once: its worker remembers.
            if ready.limit > 0 || !info.waits {
                info.waits = true;
                let partition = ready.partition as u32;
                orders.push(ReadOrder { source: ready.source, partition, limit: ready.limit });
            }
        }
        orders.into()
    }

    fn list_ready(&mut self, sources: &[SourceState]) {
        self.ready.clear();
        for (source, state) in sources.iter().enumerate() {
            let keeper = state.keepers.first();
            self.ready.extend(state.ready.iter().map(|partition| Ready {
                source,
                partition,
                rank: keeper.map_or(Rank::Last, |keeper| keeper.rank(partition)),
                paused: false,
                holds: false,
                chosen: false,
                limit: 0,
            }));
        }
    }

    /// Partitions that are not wanted are not read, and do not count as read either.
    fn pause(&mut self, sources: &mut [SourceState], wanted: Wanted<'_>) {
        for state in sources.iter_mut() {
            state.pause(wanted);
        }
        self.list_ready(sources);
        for ready in &mut self.ready {
            let state = &sources[ready.source];
            ready.paused = !wanted(&state.id, &state.partitions[ready.partition].record.name);
        }
    }

    /// By group, the partition that holds it back among those that are known to have something
    /// unread. IMPORTANT: no other counts. One that is silent may stay so for ever.
    fn holders(&mut self, sources: &[SourceState]) -> Vec<Option<Held>> {
        let mut groups: Vec<Option<Held>> = vec![None; self.groups];
        for (position, ready) in self.ready.iter().enumerate() {
            let state = &sources[ready.source];
            if ready.paused || !state.partitions[ready.partition].unread {
                continue;
            }
            for keeper in &state.keepers {
                let rank = keeper.rank(ready.partition);
                if rank == Rank::Last {
                    continue;
                }
                let (fastest, stride) = (None, keeper.stride);
                let held = groups[keeper.group].get_or_insert(Held {
                    slowest: rank,
                    holder: position,
                    fastest,
                    stride,
                });
                if rank < held.slowest {
                    (held.slowest, held.holder) = (rank, position);
                }
                held.stride = held.stride.max(keeper.stride);
                if let Rank::At(time) = rank {
                    held.fastest = held.fastest.max(Some(time));
                }
            }
        }
        if planted("lead-limit-deadlock") {
            for state in sources {
                for (keeper, partition) in state
                    .keepers
                    .iter()
                    .flat_map(|k| (0..state.partitions.len()).map(move |p| (k, p)))
                {
                    if let Some(held) = &mut groups[keeper.group] {
                        held.slowest = held.slowest.min(keeper.rank(partition));
                    }
                }
            }
            return groups;
        }
        for held in groups.iter().flatten() {
            self.ready[held.holder].holds = true;
        }
        groups
    }

    /// Chooses the partitions that are read: all that do not lead by too much, or, if they are
    /// too many, half of them for holding time back, and half in turn.
    fn choose(&mut self, sources: &[SourceState], held: &[Option<Held>], max_events: usize) {
        let mut free = Vec::with_capacity(self.ready.len());
        for (position, ready) in self.ready.iter_mut().enumerate() {
            if !ready.paused && (ready.holds || !leads(sources, ready, held)) {
                free.push(position);
            }
            // Reading more of the slowest is worth it only where partitions drift apart.
            if ready.holds {
                ready.holds = held.iter().flatten().any(|h| h.holder == position && h.is_apart());
            }
        }
        let most = FEW_PARTITIONS.max(max_events / LEAST_SHARE);
        if free.len() > most {
            let ready = &self.ready;
            let (slow, _, _) =
                free.select_nth_unstable_by_key(most / 2, |&at| (ready[at].rank, at));
            let slow = slow.to_vec();
            for at in &slow {
                self.ready[*at].chosen = true;
            }
            free.sort_unstable();
            let cursor = self.cursor;
            let next = |at: &usize| (self.ready[*at].source, self.ready[*at].partition) > cursor;
            let start = free.iter().position(next).unwrap_or(0);
            free.rotate_left(start);
            free.retain(|at| !self.ready[*at].chosen);
            free.truncate(most - slow.len());
            let last = free.last().map(|&at| (self.ready[at].source, self.ready[at].partition));
            self.cursor = last.unwrap_or_default();
        }
        for at in free {
            self.ready[at].chosen = true;
        }
    }

    /// Equal shares for the chosen ones, what is left over going round from tick to tick; but
    /// most of the tick for those that hold time back, if there are others.
    fn share(&mut self, sources: &[SourceState], max_events: usize, max_bytes: usize) {
        let chosen = self.ready.iter().filter(|r| r.chosen).count();
        let holders = self.ready.iter().filter(|r| r.chosen && r.holds).count();
        if chosen == 0 {
            return;
        }
        let first = self.turn % chosen;
        let (mut turn, mut holder) = (0, 0);
        let mut step = 0;
        for ready in self.ready.iter_mut().filter(|r| r.chosen) {
            let rows = max_bytes / sources[ready.source].source.row_bytes().max(1);
            let budget = max_events.min(rows).max(1);
            let lead = match holders {
                0 => 0,
                all if all == chosen => 0,
                _ => budget - budget / OTHERS - usize::from(self.ticks % OTHERS < budget % OTHERS),
            };
            let (share, rest) = ((budget - lead) / chosen, (budget - lead) % chosen);
            step = step.max(rest);
            ready.limit = share + usize::from((turn + chosen - first) % chosen < rest);
            turn += 1;
            if ready.holds {
                ready.limit += lead / holders + usize::from(holder < lead % holders);
                holder += 1;
            }
        }
        self.ticks = self.ticks.wrapping_add(1);
        self.turn = self.turn.wrapping_add(step);
    }
}

impl Held {
    /// The slowest and the fastest drift apart by more than ticks of equal shares explain.
    fn is_apart(&self) -> bool {
        match (self.slowest, self.fastest) {
            (Rank::At(slowest), Some(fastest)) => {
                (fastest - slowest).as_micros() > self.stride.saturating_mul(APART)
            }
            _ => false,
        }
    }
}

/// Whether a partition is too far ahead of the slowest one for one of its operators.
fn leads(sources: &[SourceState], ready: &Ready, groups: &[Option<Held>]) -> bool {
    sources[ready.source].keepers.iter().any(|keeper| {
        let (Some(limit), Some(held)) = (keeper.lead_limit, groups[keeper.group]) else {
            return false;
        };
        match (keeper.rank(ready.partition), held.slowest) {
            (Rank::At(_), Rank::First) => true,
            (Rank::At(time), Rank::At(slowest)) => time - slowest > limit,
            _ => false,
        }
    })
}

/// Numbers for `event_time` operators: the same for those whose events meet in a stateful one,
/// where the faster would have to wait.
fn meeting(plan: &Plan) -> BTreeMap<usize, usize> {
    let mut group_of: BTreeMap<usize, usize> = BTreeMap::new();
    let mut heard: Vec<BTreeSet<usize>> = Vec::with_capacity(plan.nodes.len());
    for (index, node) in plan.nodes.iter().enumerate() {
        if plan.event_times.contains_key(&index) {
            group_of.insert(index, group_of.len());
            heard.push(BTreeSet::from([index]));
            continue;
        }
        let above: BTreeSet<usize> =
            node.inputs.iter().flat_map(|input| heard[input.node].iter().copied()).collect();
        if node.stateful {
            let met: BTreeSet<usize> =
                above.iter().filter_map(|e| group_of.get(e).copied()).collect();
            if let Some(&one) = met.first() {
                group_of.values_mut().filter(|g| met.contains(g)).for_each(|g| *g = one);
            }
        }
        heard.push(above);
    }
    group_of
}
