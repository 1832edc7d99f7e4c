//! Keyed process functions, in event-time order or in order of arrival.

use std::collections::BTreeMap;
use std::marker::PhantomData;
use std::sync::Arc;

use highwater_state::{Changes, group_of, hash_key};
use serde::{Deserialize, Serialize};

use super::window::late_element;
use super::{Cx, Judge, LateRows, Logic, RowGuard, typed};
use crate::error::{Error, ErrorKind};
use crate::event::{Batch, EventOrder, LateReason, Origin, ResultOrder, Rows, Stored};
use crate::keyed::{
    Effects, KeyOf, KeyState, Process, ProcessCx, Table, Timer, Tombstones, encode_entry_key,
};
use crate::time::{EventTime, Watermark};

/// The place of a waiting event: by time, then by (source, partition, position); `sequence`
/// keeps the outputs of one input event apart, and `hash` those of different keys.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Place {
    time: EventTime,
    order: EventOrder,
    sequence: u64,
    hash: u64,
}

struct Waiting<T> {
    row: T,
    /// The last commit holds it.
    saved: bool,
}

/// First byte of an entry's key: a key's state, or a waiting event.
pub(crate) const STATE: u8 = 0;
const WAITING: u8 = 1;

pub(crate) struct ProcessKeyed<T, K: KeyOf<T>, P: Process<K::Key, T>> {
    key_of: Arc<K>,
    process: Arc<P>,
    /// Accepted events wait until the watermark passes them. Off, they act at once.
    event_time_order: bool,
    ordered_by: Option<u32>,
    table: Table<K::Key, KeyState<P::State>>,
    /// Which keys have a timer when; an entry may outlive its timer, and is then ignored.
    due: BTreeMap<(EventTime, Vec<u8>), (u64, K::Key)>,
    /// Accepted and not yet acted on.
    waiting: BTreeMap<Place, Waiting<T>>,
    /// Waiting events that the last commit does not hold, as far as they still wait.
    unsaved: Vec<Place>,
    next_sequence: u64,
    tombstones: Tombstones,
    effects: Effects<P::Output>,
    output: Output<P::Output>,
    types: PhantomData<fn(T)>,
}

struct Output<O> {
    rows: Vec<O>,
    times: Vec<EventTime>,
    orders: Vec<ResultOrder>,
}

impl<T: Stored, K: KeyOf<T>, P: Process<K::Key, T>> ProcessKeyed<T, K, P> {
    pub(crate) fn new(
        key_of: Arc<K>,
        process: Arc<P>,
        event_time_order: bool,
        ordered_by: Option<u32>,
    ) -> Self {
        ProcessKeyed {
            key_of,
            process,
            event_time_order,
            ordered_by,
            table: Table::default(),
            due: BTreeMap::new(),
            waiting: BTreeMap::new(),
            unsaved: Vec::new(),
            next_sequence: 0,
            tombstones: Tombstones::default(),
            effects: Effects::default(),
            output: Output { rows: Vec::new(), times: Vec::new(), orders: Vec::new() },
            types: PhantomData,
        }
    }

    pub(crate) fn restore(
        &mut self,
        key: &[u8],
        value: &[u8],
    ) -> Result<(), highwater_state::Error> {
        match key.split_first() {
            Some((&STATE, key)) => {
                let key: K::Key = highwater_state::decode(key)?;
                let state: KeyState<P::State> = highwater_state::decode(value)?;
                let hash = hash_key(&key);
                for timer in &state.timers {
                    let due = (timer.time, key_bytes(&key)?);
                    self.due.insert(due, (hash, key.clone()));
                }
                self.table.restore(key, state);
            }
            Some((&WAITING, place)) => {
                let place: Place = highwater_state::decode(place)?;
                self.next_sequence = self.next_sequence.max(place.sequence + 1);
                let row = highwater_state::decode(value)?;
                self.waiting.insert(place, Waiting { row, saved: true });
            }
            _ => {
                let message = "an entry of a process operator is of no known kind";
                return Err(highwater_state::Error::Corrupt(message.into()));
            }
        }
        Ok(())
    }

    fn accept(&mut self, batch: &Batch<T>, index: usize, row: T) {
        let place = Place {
            time: batch.times[index],
            order: batch.origin.order(index),
            sequence: self.next_sequence,
            hash: batch.hashes[index],
        };
        self.next_sequence += 1;
        self.unsaved.push(place.clone());
        self.waiting.insert(place, Waiting { row, saved: false });
    }

    /// Acts on one event.
    fn event(
        &mut self,
        hash: u64,
        time: EventTime,
        row: T,
        watermark: Watermark,
    ) -> Result<(), Error> {
        let key = self.key_of.with_key(&row, Clone::clone);
        let key_state = self.table.update(hash, &key, KeyState::default);
        let (effects, ended) = (&mut self.effects, false);
        let mut cx = ProcessCx { key_state, time, watermark, firing: false, ended, effects };
        self.process.event(&mut cx, &key, row);
        self.settle(hash, key)
    }

    /// Fires what is due of one key at one time, in order of name.
    fn fire(
        &mut self,
        hash: u64,
        key: K::Key,
        time: EventTime,
        watermark: Watermark,
        ended: bool,
    ) -> Result<(), Error> {
        // A timer may delete its neighbours, so each is looked for when its turn comes.
        let mut after: Option<Timer> = None;
        loop {
            let Some(key_state) = self.table.get_mut(hash, &key) else { return Ok(()) };
            let next = key_state
                .timers
                .iter()
                .find(|t| t.time == time && after.as_ref().is_none_or(|last| t.name > last.name));
            let Some(timer) = next.cloned() else { break };
            key_state.timers.remove(&timer);
            let effects = &mut self.effects;
            let mut cx = ProcessCx { key_state, time, watermark, firing: true, ended, effects };
            self.process.timer(&mut cx, &key, &timer);
            after = Some(timer);
        }
        self.settle(hash, key)
    }

    /// Carries out what the function did for this key.
    fn settle(&mut self, hash: u64, key: K::Key) -> Result<(), Error> {
        if let Some(message) = self.effects.error.take() {
            return Err(Error::new(ErrorKind::UserCode, message));
        }
        for time in self.effects.timers_set.drain(..) {
            self.due.insert((time, key_bytes(&key)?), (hash, key.clone()));
        }
        let order = match self.ordered_by {
            Some(_) if !self.effects.outputs.is_empty() => Some(key_bytes(&key)?),
            _ => None,
        };
        for (time, row) in self.effects.outputs.drain(..) {
            if let Some(key) = &order {
                let sequence = self.output.rows.len() as u32;
                self.output.orders.push(ResultOrder { key: key.clone(), start: time, sequence });
            }
            self.output.rows.push(row);
            self.output.times.push(time);
        }
        if self.table.get(hash, &key).is_some_and(KeyState::is_empty) {
            self.table.remove(&[STATE], hash, &key, &mut self.tombstones)?;
        }
        Ok(())
    }

    /// Acts on everything the watermark has passed: timers and events in order of time, a timer
    /// before an event of equal time. At the end of input, timers beyond `limit` are left.
    /// Returns how many events no longer wait.
    fn advance(&mut self, watermark: Watermark, limit: EventTime) -> Result<u64, Error> {
        let mut acted = 0;
        loop {
            let timer = self.due.first_key_value().map(|((time, _), _)| *time);
            let timer = timer.filter(|t| watermark.has_passed(*t) && *t <= limit);
            let event = self.waiting.first_key_value().map(|(place, _)| place.time);
            let event = event.filter(|t| watermark.has_passed(*t));
            match (timer, event) {
                (Some(time), event) if event.is_none_or(|e| time <= e) => {
                    if let Some((_, (hash, key))) = self.due.pop_first() {
                        self.fire(hash, key, time, watermark, false)?;
                    }
                }
                (_, Some(time)) => {
                    if let Some((place, waiting)) = self.waiting.pop_first() {
                        if waiting.saved {
                            self.tombstones.push(group_of(place.hash), waiting_key(&place)?);
                        }
                        self.event(place.hash, time, waiting.row, watermark)?;
                        acted += 1;
                    }
                }
                _ => return Ok(acted),
            }
        }
    }

    /// At the end of input, timers up to the largest event time have fired as ever. Later ones
    /// fire once, and what they register is dropped and counted: so a heartbeat ends.
    fn finish(&mut self, largest: Option<EventTime>) -> Result<u64, Error> {
        let acted = self.advance(Watermark::End, largest.unwrap_or(EventTime::MIN))?;
        for ((time, _), (hash, key)) in std::mem::take(&mut self.due) {
            self.fire(hash, key, time, Watermark::End, true)?;
        }
        Ok(acted)
    }

    fn send_output(&mut self, cx: &mut Cx) {
        let rows = std::mem::take(&mut self.output.rows);
        cx.largest = cx.largest.max(self.output.times.iter().copied().max());
        let origin = match self.ordered_by {
            Some(operator_rank) => {
                Origin::Results { operator_rank, orders: std::mem::take(&mut self.output.orders) }
            }
            None => Origin::Unordered,
        };
        let batch = Batch {
            rows,
            times: std::mem::take(&mut self.output.times),
            hashes: Vec::new(),
            origin,
            stragglers: Vec::new(),
            floor: cx.before,
            behind: LateReason::Returned,
        };
        cx.send(0, batch);
    }
}

fn key_bytes<K: crate::keyed::Key>(key: &K) -> Result<Vec<u8>, highwater_state::Error> {
    let mut bytes = Vec::new();
    encode_entry_key(&[], key, &mut bytes)?;
    Ok(bytes)
}

fn waiting_key(place: &Place) -> Result<Vec<u8>, highwater_state::Error> {
    let mut bytes = vec![WAITING];
    highwater_state::encode_into(place, &mut bytes)?;
    Ok(bytes)
}

impl<T: Stored, K: KeyOf<T>, P: Process<K::Key, T>> Logic for ProcessKeyed<T, K, P> {
    fn batch(&mut self, _: usize, rows: Box<dyn Rows>, cx: &mut Cx) -> Result<(), Error> {
        let mut batch = typed::<T>(rows)?;
        cx.counters.events_in += batch.len() as u64;
        let rows = std::mem::take(&mut batch.rows);
        let mut judge = Judge::new(&batch, cx.before);
        let on_time = judge.all_on_time();
        let mut late = LateRows::new();
        let mut guard = RowGuard::new(&batch.origin);
        for (index, row) in rows.into_iter().enumerate() {
            guard.index = index;
            let time = batch.times[index];
            let bound = if on_time { None } else { late_element(judge.bounds(index), time) };
            if let Some(bound) = bound {
                late.push(row, time, None, bound, &batch.origin, index);
            } else {
                if self.event_time_order {
                    self.accept(&batch, index, row);
                } else {
                    cx.counters.used += 1;
                    self.event(batch.hashes[index], time, row, cx.before)?;
                }
            }
        }
        drop(guard);
        late.send(1, cx);
        Ok(())
    }

    fn tick_end(&mut self, cx: &mut Cx) -> Result<(), Error> {
        cx.counters.used += match cx.now {
            Watermark::End => self.finish(cx.largest)?,
            watermark => self.advance(watermark, EventTime::MAX)?,
        };
        self.send_output(cx);
        Ok(())
    }

    fn capture(&mut self, changes: &mut Changes) -> Result<(), Error> {
        self.tombstones.capture(changes)?;
        self.table.capture(&[STATE], changes, |state, bytes| {
            highwater_state::encode_into(state, bytes)
        })?;
        for place in self.unsaved.drain(..) {
            if let Some(waiting) = self.waiting.get_mut(&place) {
                let key = waiting_key(&place)?;
                changes.put(
                    group_of(place.hash),
                    |bytes| {
                        bytes.extend_from_slice(&key);
                        Ok(())
                    },
                    |bytes| highwater_state::encode_into(&waiting.row, bytes),
                )?;
                waiting.saved = true;
            }
        }
        Ok(())
    }

    fn entries(&self) -> u64 {
        (self.table.len() + self.waiting.len()) as u64
    }

    fn held(&self) -> u64 {
        self.waiting.len() as u64
    }
}
