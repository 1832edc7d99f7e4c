//! Keyed process functions, in event-time order or in order of arrival.

mod advance;
mod settle;

use std::collections::BTreeMap;
use std::marker::PhantomData;
use std::sync::Arc;

use highwater_state::planted::planted;
use highwater_state::{Changes, Table, hash_key};

use super::broadcast::Shared;
use super::waiting::WaitingEvents;
use super::window::late_element;
use super::{Cx, Judge, LateRows, Logic, RowGuard, typed};
use crate::buffers::recycle;
use crate::error::Error;
use crate::event::{Batch, EventOrder, LateReason, Origin, ResultOrder, Rows, Stored};
use crate::keyed::{
    Backing, Call, Effects, Expiries, KeyOf, KeyState, ProcessCx, Rules, Ttl, encode_key, is_over,
    split,
};
use crate::time::{ClockTime, EventTime, Watermark};

/// First byte of an entry's key: a key's state, or a waiting event.
pub(crate) const STATE: u8 = 0;
const WAITING: u8 = 1;

pub(crate) struct ProcessKeyed<T, K: KeyOf<T>, R: Rules<K::Key, T>> {
    key_of: Arc<K>,
    rules: Arc<R>,
    order: Order,
    ttl: Option<Ttl>,
    backing: Backing,
    table: Table<K::Key, KeyState<R::State>>,
    /// Which keys have a timer when, by time and key bytes.
    due: BTreeMap<(EventTime, Vec<u8>), (u64, K::Key)>,
    /// The same of the tick clock.
    clock_due: BTreeMap<(ClockTime, Vec<u8>), (u64, K::Key)>,
    expiries: Expiries<K::Key>,
    /// Accepted and not yet acted on.
    waiting: WaitingEvents<T>,
    shared: Shared<R::Shared, R::Signal>,
    /// On arrival, where the clock is looked at: it is known at the end of the tick only. Empty
    /// between ticks.
    arrived: Vec<Arrived<T>>,
    /// Keys that want to be called after the last event of the present time; empty between ticks.
    asked: Vec<(u64, K::Key)>,
    /// The clock of the open tick.
    clock: ClockTime,
    effects: Effects<R::Output>,
    output: Output<R::Output>,
    tally: Tally,
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

/// Hash of the key, time, order and row of an event.
type Arrived<T> = (u64, EventTime, EventOrder, T);

/// What became of events since the last look.
#[derive(Default)]
struct Tally {
    used: u64,
    filtered: u64,
}

/// When and why rules are called.
#[derive(Clone, Copy)]
struct Now<'a> {
    time: EventTime,
    order: Option<&'a EventOrder>,
    watermark: Watermark,
    call: Call,
    ended: bool,
}

impl<T: Stored, K: KeyOf<T>, R: Rules<K::Key, T>> ProcessKeyed<T, K, R> {
    pub(crate) fn new(
        backing: Backing,
        key_of: Arc<K>,
        rules: Arc<R>,
        order: Order,
        ttl: Option<Ttl>,
    ) -> Self {
        ProcessKeyed {
            key_of,
            rules,
            order,
            ttl,
            table: backing.cold(vec![STATE]),
            due: BTreeMap::new(),
            clock_due: BTreeMap::new(),
            expiries: Expiries::default(),
            waiting: WaitingEvents::new(WAITING, &backing),
            shared: Shared::new(&backing),
            arrived: Vec::new(),
            asked: Vec::new(),
            clock: ClockTime::default(),
            backing,
            effects: Effects::default(),
            output: Output { rows: Vec::new(), times: Vec::new(), orders: Vec::new() },
            tally: Tally::default(),
            types: PhantomData,
        }
    }

    /// Puts back what acts by itself: timers, expiries, waiting events. The state of other keys
    /// is read when they come.
    pub(crate) fn restore(&mut self) -> Result<(), highwater_state::Error> {
        let backing = self.backing.clone();
        if R::BROADCAST {
            self.shared.restore(&backing)?;
        }
        backing.scan(&[WAITING], |key, row| self.waiting.restore(&key[1..], row))?;
        let mut stored = false;
        backing.scan(&[STATE], |key, value| {
            stored = true;
            let (_, head, _) = split(value)?;
            let end = self.ttl.zip(head.touched).map(|(ttl, touched)| ttl.end(touched));
            if head.timers.is_empty() && head.clock_timers.is_empty() && end.is_none() {
                return Ok(());
            }
            let key: K::Key = highwater_state::decode(&key[1..])?;
            let hash = hash_key(&key);
            let bytes = encode_key(&key)?;
            for timer in head.timers.iter().filter(|_| !planted("lost-timer-on-restore")) {
                self.due.insert((timer.time, bytes.clone()), (hash, key.clone()));
            }
            let clock_timers = head.clock_timers.iter();
            for timer in clock_timers.filter(|_| !planted("clock-timer-lost-on-restore")) {
                self.clock_due.insert((timer.time, bytes.clone()), (hash, key.clone()));
            }
            if let Some(end) = end {
                self.expiries.push(end, hash, key);
            }
            Ok(())
        })?;
        if !stored {
            // So no key needs to be looked for in the store, until some have been forgotten.
            self.table.completed();
        }
        Ok(())
    }

    /// Calls the rules for one key, and says whether its state is now to be let go or listed.
    fn call(
        &mut self,
        hash: u64,
        key: &K::Key,
        now: Now<'_>,
        rules: impl FnOnce(&R, &mut ProcessCx<'_, R::State, R::Output>, &R::Shared),
    ) -> bool {
        let key_state = self.table.update(hash, key, || KeyState::new(R::VERSION));
        expire(key_state, self.ttl, now.time);
        let Now { time, order, watermark, call, ended } = now;
        let (ttl, effects) = (self.ttl, &mut self.effects);
        let clock = R::CLOCK.then_some(self.clock);
        let mut cx =
            ProcessCx { key_state, time, order, watermark, clock, call, ended, ttl, effects };
        rules(&*self.rules, &mut cx, &self.shared.state);
        let left = &cx.key_state;
        left.is_empty() || self.ttl.is_some() && left.head.touched.is_some() && !left.listed
    }

    /// Acts on one event.
    fn event(
        &mut self,
        hash: u64,
        time: EventTime,
        order: &EventOrder,
        row: T,
        watermark: Watermark,
    ) -> Result<(), Error> {
        let key = self.key_of.with_key(&row, Clone::clone);
        let now = Now { time, order: Some(order), watermark, call: Call::Event, ended: false };
        let unsettled =
            self.call(hash, &key, now, |rules, cx, shared| rules.event(cx, shared, &key, row));
        let left_out = std::mem::take(&mut self.effects.left_out);
        self.tally.filtered += u64::from(left_out);
        self.tally.used += u64::from(!left_out);
        if std::mem::take(&mut self.effects.after_events) {
            self.asked.push((hash, key.clone()));
        }
        self.carry_out(hash, &key)?;
        if unsettled {
            self.settle_state(hash, key);
        }
        Ok(())
    }

    /// Lets state go whose time is over: no event can come any more that would find it.
    fn expire_passed(&mut self, watermark: Watermark) -> Result<(), Error> {
        let Some(ttl) = self.ttl else { return Ok(()) };
        let mut keys = self.expiries.pop(watermark);
        if !self.table.is_complete() {
            // A key that was forgotten and read again meanwhile is listed more than once.
            keys.sort_by_key(|(hash, _)| *hash);
            keys.dedup_by(|a, b| a == b);
            self.read_back(keys.clone())?;
        }
        for (hash, key) in keys {
            let Some(key_state) = self.table.get(hash, &key) else { continue };
            match key_state.head.touched.map(|touched| ttl.end(touched)) {
                Some(end) if key_state.value.is_some() && !is_over(end, watermark) => {
                    self.expiries.push(end, hash, key);
                }
                _ => {
                    if let Some(key_state) = self.table.get_mut(hash, &key) {
                        key_state.value = None;
                        // Else a key that still has timers would be listed, and looked at and
                        // written, in every tick from now on.
                        key_state.head.touched = None;
                        key_state.listed = false;
                    }
                    self.settle(hash, key)?;
                }
            }
        }
        Ok(())
    }

    fn read_back(&mut self, keys: Vec<(u64, K::Key)>) -> Result<(), Error> {
        let rules = &*self.rules;
        let decode = |bytes: &[u8]| KeyState::decode(bytes, R::VERSION, &|old| rules.migrate(old));
        Ok(self.backing.read_back_keys(&mut self.table, keys, decode)?)
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

    /// Rows of the broadcast input: every worker has them, and one counts them.
    fn signals(&mut self, rows: Box<dyn Rows>, cx: &mut Cx) -> Result<(), Error> {
        let mut batch = typed::<R::Signal>(rows)?;
        let rows = std::mem::take(&mut batch.rows);
        if self.shared.owner {
            cx.counters.events_in += rows.len() as u64;
        }
        let mut judge = Judge::new(&batch, cx.before);
        let mut late = LateRows::new();
        for (index, row) in rows.into_iter().enumerate() {
            let time = batch.times[index];
            match late_element(judge.bounds(index), time) {
                Some(bound) => late.push(row, time, None, bound, &batch.origin, index),
                None => self.shared.waiting.push(time, batch.origin.order(index), 0, row),
            }
        }
        if self.shared.owner {
            late.send(2, cx);
        }
        Ok(())
    }
}

/// State whose time is over is gone for whoever comes now.
fn expire<S>(key_state: &mut KeyState<S>, ttl: Option<Ttl>, now: EventTime) {
    if let Some((ttl, touched)) = ttl.zip(key_state.head.touched)
        && ttl.end(touched) <= now
    {
        key_state.value = None;
        key_state.head.touched = None;
    }
}

impl<T: Stored, K: KeyOf<T>, R: Rules<K::Key, T>> Logic for ProcessKeyed<T, K, R> {
    fn batch(&mut self, input: usize, rows: Box<dyn Rows>, cx: &mut Cx) -> Result<(), Error> {
        if input == 1 {
            return self.signals(rows, cx);
        }
        let mut batch = typed::<T>(rows)?;
        cx.counters.events_in += batch.len() as u64;
        if !self.order.event_time && !self.table.is_complete() {
            let rows = batch.rows.iter().zip(&batch.hashes);
            let keys = rows.map(|(row, hash)| (*hash, self.key_of.with_key(row, Clone::clone)));
            let keys = keys.collect();
            self.read_back(keys)?;
        }
        let mut rows = std::mem::take(&mut batch.rows);
        let mut judge = Judge::new(&batch, cx.before);
        let on_time = judge.all_on_time();
        let mut late = LateRows::new();
        let mut guard = RowGuard::new(&batch.origin);
        for (index, row) in rows.drain(..).enumerate() {
            guard.index = index;
            let time = batch.times[index];
            let bound = if on_time { None } else { late_element(judge.bounds(index), time) };
            if let Some(bound) = bound {
                late.push(row, time, None, bound, &batch.origin, index);
            } else {
                let (hash, order) = (batch.hashes[index], batch.origin.order(index));
                if self.order.event_time {
                    self.waiting.push(time, order, hash, row);
                } else if R::CLOCK {
                    self.arrived.push((hash, time, order, row));
                } else {
                    self.event(hash, time, &order, row, cx.before)?;
                }
            }
        }
        drop(guard);
        late.send(1, cx);
        recycle(rows);
        batch.recycle();
        Ok(())
    }

    fn tick_end(&mut self, cx: &mut Cx) -> Result<(), Error> {
        self.clock = ClockTime::from_micros(cx.clock_micros);
        for (hash, time, order, row) in std::mem::take(&mut self.arrived) {
            self.event(hash, time, &order, row, cx.before)?;
        }
        self.read_back_due(cx.now)?;
        match cx.now {
            Watermark::End => self.finish(cx)?,
            watermark => {
                self.advance(watermark, EventTime::MAX)?;
                self.advance_clock(watermark)?;
            }
        }
        if planted("ttl-by-wall-clock") {
            self.expire_passed(Watermark::At(EventTime::from_micros(cx.clock_micros)))?;
        } else {
            self.expire_passed(cx.now)?;
        }
        let Tally { used, filtered } = std::mem::take(&mut self.tally);
        cx.counters.used += used;
        cx.counters.filtered += filtered;
        cx.wake_at_micros = self.clock_due.keys().next().map(|(time, _)| time.as_micros());
        self.send_output(cx);
        Ok(())
    }

    fn begin_capture(&mut self) {
        self.table.begin_capture();
        self.waiting.begin_capture();
        self.shared.begin_capture();
    }

    fn capture(
        &mut self,
        id: &Arc<str>,
        budget: &mut usize,
        into: &mut Vec<Changes>,
    ) -> Result<bool, Error> {
        Ok(self.table.capture(id, budget, into)?
            && self.waiting.capture(budget, into)?
            && self.shared.capture(id, budget, into)?)
    }

    fn committed(&mut self) {
        self.table.committed();
    }

    fn memory(&self) -> usize {
        self.table.memory() + self.waiting.memory() + self.shared.waiting.memory()
    }

    fn evict(&mut self, bytes: usize) {
        self.table.evict(bytes);
    }

    fn entries(&self) -> i64 {
        self.table.net() + self.waiting.net() + self.shared.entries()
    }

    fn held(&self) -> u64 {
        self.waiting.len() as u64 + self.shared.held()
    }
}
