//! Assigns event time, and keeps the promise of each partition that this worker reads.

use std::collections::BTreeMap;
use std::sync::Arc;

use highwater_state::{Changes, group_of, hash_key};

use super::{Cx, Logic, Outcome, Reading, RowGuard, typed};
use crate::error::Error;
use crate::event::{Batch, Data, LateReason, Partition, Rows, Straggler};
use crate::time::{Activity, Disorder, EventTime, PartitionTime, Summary, TimeState};

pub(crate) struct AssignTime<T, F> {
    pub(crate) extract: Arc<F>,
    pub(crate) disorder: Disorder<T>,
    /// By partition name, as committed; a partition takes its state from here when first seen.
    pub(crate) restored: BTreeMap<String, TimeState>,
    /// The partitions of this worker, by index. Entries come with the first reading and stay.
    pub(crate) partitions: BTreeMap<u32, Tracked>,
    pub(crate) last_clock_micros: Option<i64>,
    /// Partitions of this worker that no commit knew at the start.
    pub(crate) new_partitions: i64,
    /// On its way into a commit.
    pub(crate) captured: Vec<(String, TimeState)>,
}

pub(crate) struct Tracked {
    partition: Arc<Partition>,
    time: PartitionTime,
    discovered: bool,
    heard_this_tick: bool,
    /// Differs from what the last commit holds.
    dirty: bool,
}

/// The key under which a partition's time is stored.
fn state_key(partition: &Partition) -> String {
    format!("{}/{}", partition.source(), partition.name())
}

impl<T: Data, F: Fn(&T) -> EventTime> AssignTime<T, F> {
    fn tracked(&mut self, partition: &Arc<Partition>) -> &mut Tracked {
        let (restored, disorder) = (&mut self.restored, &self.disorder);
        let new_partitions = &mut self.new_partitions;
        self.partitions.entry(partition.index).or_insert_with(|| {
            let state = restored.remove(&state_key(partition));
            *new_partitions += i64::from(state.is_none());
            Tracked {
                partition: partition.clone(),
                discovered: partition.discovered,
                time: PartitionTime::new(state.unwrap_or_else(|| disorder.start())),
                heard_this_tick: false,
                dirty: true,
            }
        })
    }

    fn end_reading(&mut self, reading: &Reading, elapsed_micros: i64) {
        let idle_after = self.disorder.idle_timeout();
        let tracked = self.tracked(&reading.partition);
        let before = tracked.time.state.activity;
        let heard = std::mem::take(&mut tracked.heard_this_tick);
        match reading.outcome {
            Outcome::Finished => tracked.time.finish(),
            Outcome::Read | Outcome::NotRead if before == Activity::Finished => {
                tracked.time.revive();
            }
            Outcome::Read if !heard => tracked.time.quiet(elapsed_micros, idle_after),
            Outcome::Read | Outcome::NotRead => {}
        }
        tracked.dirty |= tracked.time.state.activity != before;
    }
}

impl<T: Data, F: Fn(&T) -> EventTime> Logic for AssignTime<T, F> {
    fn batch(&mut self, _: usize, rows: Box<dyn Rows>, cx: &mut Cx) -> Result<(), Error> {
        let mut batch: Batch<T> = typed(rows)?;
        cx.counters.events_in += batch.len() as u64;
        cx.counters.used += batch.len() as u64;
        let mut times = Vec::with_capacity(batch.len());
        let mut guard = RowGuard::new(&batch.origin);
        for row in &batch.rows {
            times.push((self.extract)(row));
            guard.index += 1;
        }
        drop(guard);
        let Some(partition) = batch.origin.partition().cloned() else {
            return Err(Error::bug("a batch before event_time has no partition"));
        };
        let disorder = self.disorder.clone();
        let tracked = self.tracked(&partition);
        batch.behind =
            if tracked.discovered { LateReason::Discovered } else { LateReason::Returned };
        batch.floor = tracked.time.state.promise;
        let mut stragglers = Vec::new();
        disorder.observe(&mut tracked.time.state, &batch.rows, &times, |index, promise| {
            stragglers.push(Straggler { index: index as u32, promise });
        });
        tracked.time.heard();
        tracked.heard_this_tick = true;
        tracked.dirty = true;
        batch.times = times;
        batch.stragglers = stragglers;
        cx.send(0, batch);
        Ok(())
    }

    fn tick_end(&mut self, cx: &mut Cx) -> Result<(), Error> {
        let elapsed = self.last_clock_micros.map_or(0, |last| cx.clock_micros - last);
        self.last_clock_micros = Some(cx.clock_micros);
        let readings = cx.readings.take();
        for reading in readings.iter().flat_map(|r| r.iter()) {
            self.end_reading(reading, elapsed);
        }
        let idle_after = self.disorder.idle_timeout();
        let mut summary = Summary::Absent;
        for tracked in self.partitions.values() {
            summary = summary.merge(tracked.time.state.summary());
            cx.largest = cx.largest.max(tracked.time.state.largest);
            if let Some(idle_in) = tracked.time.idle_in(idle_after) {
                let at = cx.clock_micros.saturating_add(idle_in);
                cx.wake_at_micros = Some(cx.wake_at_micros.map_or(at, |other| other.min(at)));
            }
        }
        cx.summary = Some(summary);
        Ok(())
    }

    fn begin_capture(&mut self) {
        self.captured = Vec::new();
        for tracked in self.partitions.values_mut().filter(|t| t.dirty) {
            self.captured.push((state_key(&tracked.partition), tracked.time.state.clone()));
            tracked.dirty = false;
        }
    }

    fn capture(
        &mut self,
        id: &Arc<str>,
        _: &mut usize,
        into: &mut Vec<Changes>,
    ) -> Result<bool, Error> {
        let mut changes = Changes::new(id.clone());
        for (key, state) in self.captured.drain(..) {
            changes.put(
                group_of(hash_key(&key)),
                |bytes| highwater_state::encode_into(&key, bytes),
                |bytes| highwater_state::encode_into(&state, bytes),
            )?;
        }
        into.push(changes);
        Ok(true)
    }

    fn promises(&self) -> Vec<(Arc<Partition>, TimeState)> {
        self.partitions.values().map(|t| (t.partition.clone(), t.time.state.clone())).collect()
    }

    fn entries(&self) -> i64 {
        self.new_partitions
    }
}
