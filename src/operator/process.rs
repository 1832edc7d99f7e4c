//! Keyed process functions, in event-time order or in order of arrival.

use std::collections::BTreeMap;
use std::marker::PhantomData;
use std::sync::Arc;

use highwater_state::planted::planted;
use highwater_state::{Changes, Table, hash_key};

use super::waiting::WaitingEvents;
use super::window::late_element;
use super::{Cx, Judge, LateRows, Logic, RowGuard, typed};
use crate::error::{Error, ErrorKind};
use crate::event::{Batch, LateReason, Origin, ResultOrder, Rows, Stored};
use crate::keyed::{
    Backing, Effects, Expiries, KeyOf, KeyState, Process, ProcessCx, Timer, Ttl, encode_key,
    is_over, split,
};
use crate::time::{EventTime, Watermark};

/// First byte of an entry's key: a key's state, or a waiting event.
pub(crate) const STATE: u8 = 0;
const WAITING: u8 = 1;

pub(crate) struct ProcessKeyed<T, K: KeyOf<T>, P: Process<K::Key, T>> {
    key_of: Arc<K>,
    process: Arc<P>,
    order: Order,
    ttl: Option<Ttl>,
    backing: Backing,
    table: Table<K::Key, KeyState<P::State>>,
    /// Which keys have a timer when; an entry may outlive its timer, and is then ignored.
    due: BTreeMap<(EventTime, Vec<u8>), (u64, K::Key)>,
    expiries: Expiries<K::Key>,
    /// Accepted and not yet acted on.
    waiting: WaitingEvents<T>,
    effects: Effects<P::Output>,
    output: Output<P::Output>,
    types: PhantomData<fn(T)>,
}

/// In which order events come, and results go.
#[derive(Clone, Copy)]
pub(crate) struct Order {
    /// Accepted events wait until the watermark passes them. Off, they act at once.
    pub(crate) event_time: bool,
    /// Results must carry their order among results of equal time.
    pub(crate) ordered_by: Option<u32>,
}

struct Output<O> {
    rows: Vec<O>,
    times: Vec<EventTime>,
    orders: Vec<ResultOrder>,
}

impl<T: Stored, K: KeyOf<T>, P: Process<K::Key, T>> ProcessKeyed<T, K, P> {
    pub(crate) fn new(
        backing: Backing,
        key_of: Arc<K>,
        process: Arc<P>,
        order: Order,
        ttl: Option<Ttl>,
    ) -> Self {
        ProcessKeyed {
            key_of,
            process,
            order,
            ttl,
            table: Table::cold(vec![STATE]),
            due: BTreeMap::new(),
            expiries: Expiries::default(),
            waiting: WaitingEvents::new(WAITING, backing.id.clone()),
            backing,
            effects: Effects::default(),
            output: Output { rows: Vec::new(), times: Vec::new(), orders: Vec::new() },
            types: PhantomData,
        }
    }

    /// Puts back what acts by itself: timers, expiries, waiting events. The state of other keys
    /// is read when they come.
    pub(crate) fn restore(&mut self) -> Result<(), highwater_state::Error> {
        let backing = self.backing.clone();
        backing.scan(&[WAITING], |key, row| self.waiting.restore(&key[1..], row))?;
        backing.scan(&[STATE], |key, value| {
            let (_, head, _) = split(value)?;
            let end = self.ttl.zip(head.touched).map(|(ttl, touched)| ttl.end(touched));
            if head.timers.is_empty() && end.is_none() {
                return Ok(());
            }
            let key: K::Key = highwater_state::decode(&key[1..])?;
            let hash = hash_key(&key);
            for timer in head.timers.iter().filter(|_| !planted("lost-timer-on-restore")) {
                self.due.insert((timer.time, encode_key(&key)?), (hash, key.clone()));
            }
            if let Some(end) = end {
                self.expiries.push(end, hash, key);
            }
            Ok(())
        })
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
        let key_state = self.table.update(hash, &key, || KeyState::new(P::VERSION));
        expire(key_state, self.ttl, time);
        let (ttl, effects) = (self.ttl, &mut self.effects);
        let (firing, ended) = (false, false);
        let mut cx = ProcessCx { key_state, time, watermark, firing, ended, ttl, effects };
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
            let mut timers = key_state.head.timers.iter();
            let next = timers
                .find(|t| t.time == time && after.as_ref().is_none_or(|last| t.name > last.name));
            let Some(timer) = next.cloned() else { break };
            key_state.head.timers.remove(&timer);
            expire(key_state, self.ttl, time);
            let (firing, ttl, effects) = (true, self.ttl, &mut self.effects);
            let mut cx = ProcessCx { key_state, time, watermark, firing, ended, ttl, effects };
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
            self.due.insert((time, encode_key(&key)?), (hash, key.clone()));
        }
        let order = match self.order.ordered_by {
            Some(_) if !self.effects.outputs.is_empty() => Some(encode_key(&key)?),
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
        let ttl = self.ttl;
        let Some(key_state) = self.table.get_mut(hash, &key) else { return Ok(()) };
        if key_state.is_empty() {
            self.table.remove(hash, &key);
        } else if let Some((ttl, touched)) = ttl.zip(key_state.head.touched)
            && !key_state.listed
        {
            key_state.listed = true;
            self.expiries.push(ttl.end(touched), hash, key);
        }
        Ok(())
    }

    /// Lets state go whose time is over: no event can come any more that would find it.
    fn expire_passed(&mut self, watermark: Watermark) -> Result<(), Error> {
        let Some(ttl) = self.ttl else { return Ok(()) };
        let keys = self.expiries.pop(watermark);
        self.read_back(keys.clone())?;
        for (hash, key) in keys {
            let Some(key_state) = self.table.get(hash, &key) else { continue };
            match key_state.head.touched.map(|touched| ttl.end(touched)) {
                Some(end) if key_state.value.is_some() && !is_over(end, watermark) => {
                    self.expiries.push(end, hash, key);
                }
                _ => {
                    if let Some(key_state) = self.table.get_mut(hash, &key) {
                        key_state.value = None;
                        key_state.listed = false;
                    }
                    self.settle(hash, key)?;
                }
            }
        }
        Ok(())
    }

    fn read_back(&mut self, keys: Vec<(u64, K::Key)>) -> Result<(), Error> {
        let process = &*self.process;
        let decode =
            |bytes: &[u8]| KeyState::decode(bytes, P::VERSION, &|old| process.migrate(old));
        Ok(self.backing.read_back_keys(&mut self.table, keys, decode)?)
    }

    /// Reads the state of every key that has something due.
    fn read_back_due(&mut self, watermark: Watermark) -> Result<(), Error> {
        if self.table.is_complete() {
            return Ok(());
        }
        let timers = self.due.iter().take_while(|((time, _), _)| watermark.has_passed(*time));
        let mut keys: Vec<_> = timers.map(|(_, key)| key.clone()).collect();
        for (hash, row) in self.waiting.passed(watermark) {
            keys.push((hash, self.key_of.with_key(row, Clone::clone)));
        }
        self.read_back(keys)
    }

    /// Acts on everything the watermark has passed: timers and events in order of time, a timer
    /// before an event of equal time. At the end of input, timers beyond `limit` are left.
    /// Returns how many events no longer wait.
    fn advance(&mut self, watermark: Watermark, limit: EventTime) -> Result<u64, Error> {
        let mut acted = 0;
        loop {
            let timer = self.due.first_key_value().map(|((time, _), _)| *time);
            let timer = timer.filter(|t| watermark.has_passed(*t) && *t <= limit);
            let event = self.waiting.first_passed(watermark);
            match (timer, event) {
                (Some(time), event) if event.is_none_or(|e| time <= e) => {
                    if let Some((_, (hash, key))) = self.due.pop_first() {
                        self.fire(hash, key, time, watermark, false)?;
                    }
                }
                (_, Some(time)) => {
                    if let Some((place, row)) = self.waiting.pop()? {
                        self.event(place.hash, time, row, watermark)?;
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
        let origin = match self.order.ordered_by {
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

/// State whose time is over is gone for whoever comes now.
fn expire<S>(key_state: &mut KeyState<S>, ttl: Option<Ttl>, now: EventTime) {
    if let Some((ttl, touched)) = ttl.zip(key_state.head.touched)
        && ttl.end(touched) <= now
    {
        key_state.value = None;
    }
}

impl<T: Stored, K: KeyOf<T>, P: Process<K::Key, T>> Logic for ProcessKeyed<T, K, P> {
    fn batch(&mut self, _: usize, rows: Box<dyn Rows>, cx: &mut Cx) -> Result<(), Error> {
        let mut batch = typed::<T>(rows)?;
        cx.counters.events_in += batch.len() as u64;
        if !self.order.event_time && !self.table.is_complete() {
            let rows = batch.rows.iter().zip(&batch.hashes);
            let keys = rows.map(|(row, hash)| (*hash, self.key_of.with_key(row, Clone::clone)));
            let keys = keys.collect();
            self.read_back(keys)?;
        }
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
                if self.order.event_time {
                    let order = batch.origin.order(index);
                    self.waiting.push(time, order, batch.hashes[index], row);
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
        self.read_back_due(cx.now)?;
        cx.counters.used += match cx.now {
            Watermark::End => self.finish(cx.largest)?,
            watermark => self.advance(watermark, EventTime::MAX)?,
        };
        if planted("ttl-by-wall-clock") {
            self.expire_passed(Watermark::At(EventTime::from_micros(cx.clock_micros)))?;
        } else {
            self.expire_passed(cx.now)?;
        }
        self.send_output(cx);
        Ok(())
    }

    fn begin_capture(&mut self) {
        self.table.begin_capture();
        self.waiting.begin_capture();
    }

    fn capture(
        &mut self,
        id: &Arc<str>,
        budget: &mut usize,
        into: &mut Vec<Changes>,
    ) -> Result<bool, Error> {
        Ok(self.table.capture(id, budget, into)? && self.waiting.capture(budget, into)?)
    }

    fn committed(&mut self) {
        self.table.committed();
    }

    fn memory(&self) -> usize {
        self.table.memory() + self.waiting.memory()
    }

    fn evict(&mut self, bytes: usize) {
        self.table.evict(bytes);
    }

    fn entries(&self) -> i64 {
        self.table.net() + self.waiting.net()
    }

    fn held(&self) -> u64 {
        self.waiting.len() as u64
    }
}
