//! Running reduce: one value per key, told anew in each tick that changed it.

use std::marker::PhantomData;
use std::sync::Arc;

use highwater_state::{Changes, Hint, Table, Value, decode, encode_into, hash_key};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{Cx, Logic, RowGuard, typed};
use crate::aggregate::{Aggregate, Stamp};
use crate::error::Error;
use crate::event::{Batch, Data, Origin, Rows};
use crate::keyed::{AHEAD, Backing, Expiries, KeyOf, Ttl, is_over, look_ahead, look_ahead_at};
use crate::time::{EventTime, Watermark};

pub(crate) struct Running<T, K: KeyOf<T>, A: Aggregate<T>> {
    pub(crate) key_of: Arc<K>,
    pub(crate) aggregate: Arc<A>,
    pub(crate) backing: Backing,
    pub(crate) table: Table<K::Key, RunningState<A::State>>,
    pub(crate) changed: Changed<K::Key, A::State>,
    pub(crate) ttl: Option<Ttl>,
    pub(crate) expiries: Expiries<K::Key>,
    pub(crate) types: PhantomData<fn(T)>,
}

pub(crate) struct RunningState<S> {
    state: S,
    touched: Touched,
    place: Place,
}

impl<S> RunningState<S> {
    fn new(state: S) -> Self {
        RunningState { state, touched: Touched::NEVER, place: Place::default() }
    }
}

/// The latest event time of a key, in µs; only kept with a TTL. (Half the size of an option.)
#[derive(Clone, Copy, PartialEq)]
struct Touched(i64);

impl Touched {
    const NEVER: Touched = Touched(i64::MIN);

    fn time(self) -> Option<EventTime> {
        (self != Touched::NEVER).then_some(EventTime::from_micros(self.0))
    }

    /// The first time of all counts as the one after it.
    fn touch(&mut self, time: EventTime) {
        self.0 = self.0.max(time.as_micros()).max(i64::MIN + 1);
    }
}

/// The keys that changed in the open tick, in order of first change; empty between ticks.
pub(crate) struct Changed<K, S> {
    list: Vec<(u64, K)>,
    /// Their states as they are now, if these are cheap to copy, so that they need not be looked
    /// for again; else none at all.
    copies: Vec<S>,
    /// Counts ticks with a change. It starts anew after four billion of them.
    tick: u32,
}

/// Where in the list a key stands, if it is the list of this tick.
#[derive(Clone, Copy, Default)]
struct Place {
    tick: u32,
    index: u32,
}

/// States of so many bytes that own nothing are copied with every change.
const COPIED: usize = 32;

impl<K: PartialEq + Clone, S: Clone> Changed<K, S> {
    const ARE_COPIED: bool = !std::mem::needs_drop::<S>() && size_of::<S>() <= COPIED;

    pub(crate) fn new() -> Self {
        Changed { list: Vec::new(), copies: Vec::new(), tick: 1 }
    }

    /// Notes the new state of a key.
    #[inline]
    fn note(&mut self, place: &mut Place, hash: u64, key: &K, state: &S) {
        let index = place.index as usize;
        // A tick of the same number may be long past.
        let is_listed = place.tick == self.tick
            && self.list.get(index).is_some_and(|listed| listed.0 == hash && listed.1 == *key);
        if is_listed {
            if let Some(copy) = self.copies.get_mut(index) {
                copy.clone_from(state);
            }
            return;
        }
        *place = Place { tick: self.tick, index: self.list.len() as u32 };
        self.list.push((hash, key.clone()));
        if Self::ARE_COPIED {
            self.copies.push(state.clone());
        }
    }

    /// What has changed, and the copies if there are any, at the end of the tick.
    fn take(&mut self) -> (Vec<(u64, K)>, Vec<S>) {
        self.tick = self.tick.wrapping_add(u32::from(!self.list.is_empty()));
        let list = Vec::with_capacity(self.list.len());
        let copies = Vec::with_capacity(self.copies.len());
        (std::mem::replace(&mut self.list, list), std::mem::replace(&mut self.copies, copies))
    }
}

impl<S: Serialize> Value for RunningState<S> {
    fn encode(&self, bytes: &mut Vec<u8>) -> Result<(), highwater_state::Error> {
        encode_into(&(self.touched.time(), &self.state), bytes)
    }
}

fn decode_state<S: DeserializeOwned>(
    bytes: &[u8],
) -> Result<RunningState<S>, highwater_state::Error> {
    let (touched, state): (Option<EventTime>, S) = decode(bytes)?;
    let mut running = RunningState::new(state);
    touched.into_iter().for_each(|time| running.touched.touch(time));
    Ok(running)
}

impl<T: Data, K: KeyOf<T>, A: Aggregate<T>> Running<T, K, A> {
    /// Lists what expires by itself. The values are read when their keys come.
    pub(crate) fn restore(&mut self) -> Result<(), highwater_state::Error> {
        let Some(ttl) = self.ttl else { return Ok(()) };
        let backing = self.backing.clone();
        backing.scan(&[], |key, value| {
            let key: K::Key = decode(key)?;
            let state: RunningState<A::State> = decode_state(value)?;
            if let Some(touched) = state.touched.time() {
                self.expiries.push(ttl.end(touched), hash_key(&key), key);
            }
            Ok(())
        })
    }

    fn expire_passed(&mut self, watermark: Watermark) -> Result<(), Error> {
        let Some(ttl) = self.ttl else { return Ok(()) };
        let keys = self.expiries.pop(watermark);
        self.backing.read_back_keys(&mut self.table, keys.clone(), decode_state)?;
        for (hash, key) in keys {
            let touched = self.table.get(hash, &key).and_then(|state| state.touched.time());
            match touched.map(|touched| ttl.end(touched)) {
                Some(end) if !is_over(end, watermark) => self.expiries.push(end, hash, key),
                _ => {
                    self.table.remove(hash, &key);
                }
            }
        }
        Ok(())
    }
}

impl<T: Data, K: KeyOf<T>, A: Aggregate<T>> Logic for Running<T, K, A> {
    fn batch(&mut self, _: usize, rows: Box<dyn Rows>, cx: &mut Cx) -> Result<(), Error> {
        let batch = typed::<T>(rows)?;
        cx.counters.events_in += batch.len() as u64;
        cx.counters.used += batch.len() as u64;
        let Self { key_of, aggregate, table, changed, backing, ttl, expiries, .. } = self;
        backing.read_back(table, &batch, &**key_of, decode_state)?;
        let mut guard = RowGuard::new(&batch.origin);
        let mut hints = [Hint::NONE; AHEAD];
        for (index, row) in batch.rows.iter().enumerate() {
            if index.is_multiple_of(AHEAD) {
                let rows = batch.hashed(index);
                hints = look_ahead(table, &**key_of, rows, |running| running.place.tick);
            }
            guard.index = index;
            let hash = batch.hashes[index];
            let time = batch.times.get(index).copied().unwrap_or(EventTime::MIN);
            let stamp = || Stamp { time, order: batch.origin.order(index) };
            key_of.with_key(row, |key| {
                let begin = || RunningState::new(aggregate.init());
                let running = table.update_at(hints[index % AHEAD], hash, key, begin);
                if let Some(ttl) = ttl {
                    let touched = running.touched.time();
                    if touched.is_some_and(|touched| ttl.end(touched) <= time) {
                        running.state = aggregate.init();
                    }
                    if touched.is_none() {
                        expiries.push(ttl.end(time), hash, key.clone());
                    }
                    running.touched.touch(time);
                }
                let RunningState { state, place, .. } = running;
                aggregate.add(state, row, &stamp);
                changed.note(place, hash, key, state);
            });
        }
        drop(guard);
        batch.recycle();
        Ok(())
    }

    fn tick_end(&mut self, cx: &mut Cx) -> Result<(), Error> {
        let (list, copies) = self.changed.take();
        let (mut list, mut copies) = (list.into_iter(), copies.into_iter());
        let mut rows = Vec::with_capacity(list.len());
        while !list.as_slice().is_empty() {
            if copies.as_slice().is_empty() {
                let next = list.as_slice().iter().take(AHEAD).map(|(hash, key)| (*hash, key));
                look_ahead_at(&self.table, next, |running| running.place.tick);
            }
            for (hash, key) in list.by_ref().take(AHEAD) {
                let value = match copies.next() {
                    Some(state) => Some(self.aggregate.finish(state)),
                    None => self.table.get(hash, &key).map(|now| self.aggregate.peek(&now.state)),
                };
                rows.extend(value.map(|value| (key, value)));
            }
        }
        self.expire_passed(cx.now)?;
        cx.send(0, Batch::untimed(rows, Origin::Unordered));
        Ok(())
    }

    fn begin_capture(&mut self) {
        self.table.begin_capture();
    }

    fn capture(
        &mut self,
        id: &Arc<str>,
        budget: &mut usize,
        into: &mut Vec<Changes>,
    ) -> Result<bool, Error> {
        Ok(self.table.capture(id, budget, into)?)
    }

    fn committed(&mut self) {
        self.table.committed();
    }

    fn memory(&self) -> usize {
        self.table.memory()
    }

    fn evict(&mut self, bytes: usize) {
        self.table.evict(bytes);
    }

    fn entries(&self) -> i64 {
        self.table.net()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken<S: Clone>(changed: &mut Changed<u64, S>) -> (Vec<u64>, Vec<S>) {
        let (list, copies) = changed.take();
        (list.into_iter().map(|(_, key)| key).collect(), copies)
    }

    #[test]
    fn a_key_is_listed_once_a_tick_with_its_last_state() {
        let mut changed = Changed::new();
        let (mut one, mut two) = (Place::default(), Place::default());
        changed.note(&mut one, 10, &1u64, &100u64);
        changed.note(&mut two, 20, &2, &200);
        changed.note(&mut one, 10, &1, &101);
        assert_eq!(taken(&mut changed), (vec![1, 2], vec![101, 200]));
        changed.note(&mut two, 20, &2, &201);
        assert_eq!(taken(&mut changed), (vec![2], vec![201]));
        assert_eq!(taken(&mut changed), (vec![], vec![]));
    }

    #[test]
    fn what_owns_something_or_is_large_is_not_copied() {
        let (mut strings, mut arrays) = (Changed::new(), Changed::new());
        strings.note(&mut Place::default(), 10, &1u64, &"a".to_owned());
        arrays.note(&mut Place::default(), 10, &1u64, &[0u64; 5]);
        assert_eq!(taken(&mut strings), (vec![1], vec![]));
        assert_eq!(taken(&mut arrays), (vec![1], vec![]));
    }

    /// Ticks are counted by a number that comes again.
    #[test]
    fn a_place_of_a_tick_long_past_is_no_place() {
        let mut changed = Changed::new();
        let mut old = Place::default();
        changed.note(&mut old, 10, &1u64, &100u64);
        changed.take();
        changed.tick = old.tick;
        changed.note(&mut Place::default(), 20, &2, &200);
        changed.note(&mut old, 10, &1, &101);
        assert_eq!(taken(&mut changed), (vec![2, 1], vec![200, 101]));
    }

    #[test]
    fn the_first_time_of_all_is_a_time() {
        let mut touched = Touched::NEVER;
        assert_eq!(touched.time(), None);
        touched.touch(EventTime::MIN);
        assert!(touched.time().is_some());
        touched.touch(EventTime::from_micros(5));
        touched.touch(EventTime::from_micros(3));
        assert_eq!(touched.time(), Some(EventTime::from_micros(5)));
    }
}
