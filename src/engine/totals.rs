//! Adds up what the workers' operators say of themselves.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use hdrhistogram::Histogram;

use super::shared::OperatorSeal;
use crate::event::Partition;
use crate::flow::Plan;
use crate::metrics::{
    Metrics, OperatorMetrics, PartitionMetrics, PartitionState, Percentiles, gap,
};
use crate::operator::Counters;
use crate::tick::{OperatorRecord, TickRecord};
use crate::time::{Activity, Tick, TimeState, Watermark};

/// By operator id, the partitions it keeps time of, as of the last commit.
type Promises = BTreeMap<Arc<str>, BTreeMap<(u32, u32), PartitionTime>>;

struct PartitionTime {
    name: String,
    state: TimeState,
}

pub(super) struct Totals {
    operators: Vec<OperatorTotal>,
    promises: Promises,
    tick: Tick,
    clock_micros: i64,
    ticks: u64,
    commits: u64,
    committed: Tick,
    resumed_from: Option<Tick>,
    pub(super) finished: bool,
    commit_started_micros: i64,
    /// Commit durations in µs; `None` if it could not be made, and then nothing is recorded.
    commit_micros: Option<Histogram<u64>>,
}

struct OperatorTotal {
    id: Arc<str>,
    stateful: bool,
    counters: Counters,
    watermark: Watermark,
    /// The tick to which `entries` and `counters.held` belong, which are said anew in each.
    tick: Tick,
    /// As of the start.
    known_entries: i64,
    /// Made less removed since.
    entries: i64,
}

impl OperatorTotal {
    fn entries(&self) -> u64 {
        u64::try_from(self.known_entries + self.entries).unwrap_or(0)
    }
}

impl Totals {
    pub(super) fn new(plan: &Plan, record: &TickRecord, resumed: bool) -> Self {
        let operators = plan.nodes.iter().map(|node| {
            let known = record.operators.get(&*node.id).cloned().unwrap_or_default();
            OperatorTotal {
                id: node.id.clone(),
                stateful: node.stateful,
                counters: known.counters,
                watermark: known.watermark,
                tick: record.tick,
                known_entries: known.entries as i64,
                entries: 0,
            }
        });
        Totals {
            operators: operators.collect(),
            promises: Promises::new(),
            tick: record.tick,
            clock_micros: record.clock_micros,
            ticks: 0,
            commits: 0,
            committed: record.tick,
            resumed_from: resumed.then_some(record.tick),
            finished: record.finished,
            commit_started_micros: 0,
            commit_micros: Histogram::new(3).ok(),
        }
    }

    pub(super) fn begin_tick(&mut self, tick: Tick, clock_micros: i64) {
        self.tick = tick;
        self.clock_micros = clock_micros;
        self.ticks += 1;
    }

    /// Adds what an operator says of a tick, and tells whether the tick changed anything.
    pub(super) fn add(&mut self, seal: &OperatorSeal) -> bool {
        let total = &mut self.operators[seal.node];
        if total.tick != self.tick {
            total.tick = self.tick;
            total.entries = 0;
            total.counters.held = 0;
        }
        total.counters.add(&seal.counters);
        total.entries += seal.entries;
        let moved = seal.watermark > total.watermark;
        total.watermark = total.watermark.max(seal.watermark);
        moved || seal.counters.events_in > 0 || seal.counters.events_out > 0
    }

    /// What changed in a commit of the partitions that an operator keeps time of.
    pub(super) fn note_promises(&mut self, id: &Arc<str>, list: Vec<(Arc<Partition>, TimeState)>) {
        if list.is_empty() {
            return;
        }
        let known = self.promises.entry(id.clone()).or_default();
        for (partition, state) in list {
            let at = known.entry((partition.source_rank, partition.index));
            let name = || format!("{}/{}", partition.source(), partition.name());
            at.and_modify(|time| time.state = state.clone())
                .or_insert_with(|| PartitionTime { name: name(), state });
        }
    }

    pub(super) fn records(&self) -> BTreeMap<String, OperatorRecord> {
        let record = |total: &OperatorTotal| {
            let promises = self.promises.get(&*total.id).into_iter().flat_map(BTreeMap::values);
            let promises = promises.map(|time| (time.name.clone(), time.state.clone()));
            OperatorRecord {
                // Only what keeps a watermark of its own gets it back.
                watermark: if total.stateful { total.watermark } else { Watermark::Unknown },
                counters: total.counters,
                entries: total.entries(),
                promises: promises.collect(),
            }
        };
        self.operators.iter().map(|total| (total.id.to_string(), record(total))).collect()
    }

    pub(super) fn commit_started(&mut self, now_micros: i64) {
        self.commit_started_micros = now_micros;
    }

    pub(super) fn commit_done(&mut self, tick: Tick, now_micros: i64) {
        self.commits += 1;
        self.committed = tick;
        let micros = u64::try_from(now_micros - self.commit_started_micros).unwrap_or(0);
        if let Some(histogram) = &mut self.commit_micros {
            // A histogram that resizes itself refuses no value below an hour's microseconds.
            let _ = histogram.record(micros);
        }
    }

    pub(super) fn metrics(&self, plan: &Plan) -> Metrics {
        Metrics { partitions: self.partitions(), ..self.progress(plan) }
    }

    /// The metrics without those of partitions, of which there may be very many.
    pub(super) fn progress(&self, plan: &Plan) -> Metrics {
        let quantile = |q: f64| {
            let micros = self.commit_micros.as_ref().map_or(0, |h| h.value_at_quantile(q));
            Duration::from_micros(micros)
        };
        let operators =
            self.operators.iter().zip(&plan.nodes).map(|(total, node)| OperatorMetrics {
                id: total.id.to_string(),
                kind: node.kind,
                class: node.class,
                counters: total.counters,
                watermark: total.watermark,
                entries: total.entries(),
            });
        Metrics {
            tick: self.tick,
            committed: self.committed,
            ticks: self.ticks,
            commits: self.commits,
            commit_duration: Percentiles {
                p50: quantile(0.5),
                p99: quantile(0.99),
                max: quantile(1.0),
            },
            resumed_from: self.resumed_from,
            finished: self.finished,
            operators: operators.collect(),
            ..Metrics::default()
        }
    }

    fn partitions(&self) -> Vec<PartitionMetrics> {
        let all = || self.promises.values().flat_map(BTreeMap::values);
        let largest = all().filter_map(|time| time.state.largest).max();
        let mut partitions = Vec::new();
        for (operator, list) in &self.promises {
            for PartitionTime { name, state } in list.values() {
                let standing = match state.activity {
                    Activity::Fresh | Activity::Active => PartitionState::Active,
                    Activity::Idle => PartitionState::Idle,
                    Activity::Finished => PartitionState::Finished,
                    Activity::Removed => continue,
                };
                partitions.push(PartitionMetrics {
                    operator: operator.to_string(),
                    name: name.clone(),
                    promise: state.promise,
                    gap: gap(largest, state.promise),
                    state: standing,
                });
            }
        }
        partitions
    }
}
