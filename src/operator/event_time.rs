//! Assigns event time, and keeps the promise of each partition that this worker reads.

use std::collections::BTreeMap;
use std::sync::Arc;

use highwater_state::planted::planted;
use highwater_state::{Changes, group_of, hash_key};

use super::{Cx, Logic, PartitionNews, RowGuard, typed};
use crate::buffers::buffer;
use crate::error::{Error, ErrorKind};
use crate::event::{Batch, Data, LateReason, Origin, Partition, Rows, Skewed, Straggler};
use crate::time::{Disorder, EventTime, Outcome, PartitionTimes, Skew, TimeState};

/// The port of events whose time is too far ahead.
const SKEWED: usize = 1;

pub(crate) struct AssignTime<T, F> {
    extract: Arc<F>,
    disorder: Disorder<T>,
    /// By partition name, as committed; a partition takes its state from here when first seen.
    restored: BTreeMap<String, TimeState>,
    /// The partitions of this worker, by slot. They come with their first news and stay.
    partitions: Vec<Known>,
    times: PartitionTimes,
    /// From a partition's index to its slot.
    slots: hashbrown::HashMap<u32, usize>,
    /// Partitions of this worker that no commit knew at the start.
    new_partitions: i64,
    /// Slots that differ from what the last commit holds.
    dirty: Vec<usize>,
    /// What went into the last commit, until it was told.
    captured: Vec<(Arc<Partition>, TimeState)>,
    /// Partitions whose promise or standing changed in the last tick.
    news: Vec<PartitionNews>,
}

struct Known {
    partition: Arc<Partition>,
    dirty: bool,
}

/// The key under which a partition's time is stored.
fn state_key(partition: &Partition) -> String {
    format!("{}/{}", partition.source(), partition.name())
}

impl<T: Data, F: Fn(&T) -> EventTime> AssignTime<T, F> {
    pub(crate) fn new(
        extract: Arc<F>,
        disorder: Disorder<T>,
        restored: BTreeMap<String, TimeState>,
    ) -> Self {
        AssignTime {
            extract,
            times: PartitionTimes::new(disorder.idle_timeout()),
            disorder,
            restored,
            partitions: Vec::new(),
            slots: hashbrown::HashMap::new(),
            new_partitions: 0,
            dirty: Vec::new(),
            captured: Vec::new(),
            news: Vec::new(),
        }
    }

    fn slot(&mut self, partition: &Arc<Partition>) -> usize {
        if let Some(slot) = self.slots.get(&partition.index) {
            return *slot;
        }
        let state = self.restored.remove(&state_key(partition));
        self.new_partitions += i64::from(state.is_none());
        let slot = self.times.add(state.unwrap_or_else(|| self.disorder.start()));
        self.slots.insert(partition.index, slot);
        self.partitions.push(Known { partition: partition.clone(), dirty: false });
        slot
    }

    fn extract(&self, batch: &Batch<T>) -> Vec<EventTime> {
        let mut guard = RowGuard::new(&batch.origin);
        let time = |(index, row)| {
            guard.index = index;
            (self.extract)(row)
        };
        let mut times = buffer(batch.len());
        times.extend(batch.rows.iter().enumerate().map(time));
        times
    }

    /// Takes out the rows whose time is too far ahead. What is left has its times.
    fn cap(&self, mut batch: Batch<T>, cx: &mut Cx) -> Result<Batch<T>, Error> {
        let Some(cap) = self.disorder.cap() else { return Ok(batch) };
        let clock = EventTime::from_micros(cx.clock_micros);
        let beyond = cap.beyond(&batch.rows, &batch.times, clock);
        let Some(&first) = beyond.first() else { return Ok(batch) };
        let ahead_by = |index: u32| {
            let index = index as usize;
            cap.ahead_by(&batch.rows[index], batch.times[index], clock)
        };
        if cap.policy == Skew::Fail {
            let message = format!(
                "an event has the time {}, which is {} ahead and may be {} at most",
                batch.times[first as usize],
                ahead_by(first),
                cap.span
            );
            let error = Error::new(ErrorKind::Input, message);
            let position = batch.origin.position(first as usize).unwrap_or_default();
            return Err(match batch.origin.partition() {
                Some(partition) => error.in_partition(partition).at_position(position),
                None => error,
            });
        }
        cx.counters.dead += beyond.len() as u64;
        cx.counters.used -= beyond.len() as u64;
        let ahead: Vec<_> = beyond.iter().map(|&index| ahead_by(index)).collect();
        let mut next = beyond.iter().zip(ahead).peekable();
        let (mut kept, mut kept_rows, mut skewed) = (Vec::new(), Vec::new(), Vec::new());
        for (index, row) in std::mem::take(&mut batch.rows).into_iter().enumerate() {
            if let Some((_, ahead_by)) = next.next_if(|(at, _)| **at as usize == index) {
                let (partition, position) =
                    (batch.origin.partition().cloned(), batch.origin.position(index));
                let time = batch.times[index];
                skewed.push(Skewed { row, time, ahead_by, partition, position });
            } else {
                kept.push(index as u32);
                kept_rows.push(row);
            }
        }
        if cap.policy == Skew::DeadLetter {
            cx.send(SKEWED, Batch::untimed(skewed, Origin::Unordered));
        }
        Ok(batch.select(kept_rows, kept))
    }
}

impl<T: Data, F: Fn(&T) -> EventTime> Logic for AssignTime<T, F> {
    fn batch(&mut self, _: usize, rows: Box<dyn Rows>, cx: &mut Cx) -> Result<(), Error> {
        let mut batch: Batch<T> = typed(rows)?;
        cx.counters.events_in += batch.len() as u64;
        cx.counters.used += batch.len() as u64;
        let Some(partition) = batch.origin.partition().cloned() else {
            return Err(Error::bug("a batch before event_time has no partition"));
        };
        batch.times = self.extract(&batch);
        let slot = self.slot(&partition);
        let largest = batch.times.iter().max().copied();
        batch = self.cap(batch, cx)?;
        if planted("skewed-event-moves-promise")
            && let Some(largest) = largest
        {
            let promise = &mut self.times.heard(slot).promise;
            *promise = (*promise).max(crate::time::Watermark::At(largest));
        }
        if batch.len() == 0 {
            // Nothing that has a time: the partition counts as silent.
            return Ok(());
        }
        batch.behind =
            if partition.discovered { LateReason::Discovered } else { LateReason::Returned };
        let state = self.times.heard(slot);
        batch.floor = state.promise;
        let mut stragglers = Vec::new();
        self.disorder.observe(state, &batch.rows, &batch.times, |index, promise| {
            stragglers.push(Straggler { index: index as u32, promise });
        });
        batch.stragglers = stragglers;
        cx.send(0, batch);
        Ok(())
    }

    fn tick_end(&mut self, cx: &mut Cx) -> Result<(), Error> {
        let readings = cx.readings.take();
        let news: Vec<(usize, Outcome)> = readings
            .iter()
            .flat_map(|list| list.iter())
            .map(|reading| (self.slot(&reading.partition), reading.outcome))
            .collect();
        let (partitions, dirty, said) = (&mut self.partitions, &mut self.dirty, &mut self.news);
        said.clear();
        let times = self.times.end_tick(cx.clock_micros, news, |slot, state| {
            let known = &mut partitions[slot];
            if !std::mem::replace(&mut known.dirty, true) {
                dirty.push(slot);
            }
            let (source, index) = (known.partition.source_rank, known.partition.index);
            said.push(PartitionNews { source, index, summary: state.summary() });
        });
        cx.summary = Some(times.summary);
        cx.largest = cx.largest.max(times.largest);
        cx.wake_at_micros = times.idle_in_micros.map(|idle| cx.clock_micros.saturating_add(idle));
        Ok(())
    }

    fn begin_capture(&mut self) {
        self.captured = Vec::with_capacity(self.dirty.len());
        for slot in self.dirty.drain(..) {
            let known = &mut self.partitions[slot];
            known.dirty = false;
            self.captured.push((known.partition.clone(), self.times.state(slot).clone()));
        }
    }

    fn capture(
        &mut self,
        id: &Arc<str>,
        _: &mut usize,
        into: &mut Vec<Changes>,
    ) -> Result<bool, Error> {
        let mut changes = Changes::new(id.clone());
        for (partition, state) in &self.captured {
            let key = state_key(partition);
            changes.put(
                group_of(hash_key(&key)),
                |bytes| highwater_state::encode_into(&key, bytes),
                |bytes| highwater_state::encode_into(state, bytes),
            )?;
        }
        into.push(changes);
        Ok(true)
    }

    fn promises(&mut self) -> Vec<(Arc<Partition>, TimeState)> {
        std::mem::take(&mut self.captured)
    }

    fn news(&mut self) -> Vec<PartitionNews> {
        std::mem::take(&mut self.news)
    }

    fn entries(&self) -> i64 {
        self.new_partitions
    }
}
