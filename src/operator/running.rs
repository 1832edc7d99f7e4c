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
    /// The keys that changed in the open tick, in order of first change; empty between ticks.
    pub(crate) changed: Vec<(u64, K::Key)>,
    pub(crate) ttl: Option<Ttl>,
    pub(crate) expiries: Expiries<K::Key>,
    pub(crate) types: PhantomData<fn(T)>,
}

pub(crate) struct RunningState<S> {
    state: S,
    /// The latest event time of the key; only kept with a TTL.
    touched: Option<EventTime>,
    changed: bool,
}

impl<S> RunningState<S> {
    fn new(state: S) -> Self {
        RunningState { state, touched: None, changed: false }
    }
}

impl<S: Serialize> Value for RunningState<S> {
    fn encode(&self, bytes: &mut Vec<u8>) -> Result<(), highwater_state::Error> {
        encode_into(&(self.touched, &self.state), bytes)
    }
}

fn decode_state<S: DeserializeOwned>(
    bytes: &[u8],
) -> Result<RunningState<S>, highwater_state::Error> {
    let (touched, state) = decode(bytes)?;
    Ok(RunningState { state, touched, changed: false })
}

impl<T: Data, K: KeyOf<T>, A: Aggregate<T>> Running<T, K, A> {
    /// Lists what expires by itself. The values are read when their keys come.
    pub(crate) fn restore(&mut self) -> Result<(), highwater_state::Error> {
        let Some(ttl) = self.ttl else { return Ok(()) };
        let backing = self.backing.clone();
        backing.scan(&[], |key, value| {
            let key: K::Key = decode(key)?;
            let state: RunningState<A::State> = decode_state(value)?;
            if let Some(touched) = state.touched {
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
            let touched = self.table.get(hash, &key).and_then(|state| state.touched);
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

impl<T: Data, K: KeyOf<T>, A: Aggregate<T>> Logic for Running<T, K, A>
where
    A::State: Clone,
{
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
                let rows = index..index + AHEAD;
                hints = look_ahead(table, &batch, &**key_of, rows, |running| running.changed);
            }
            guard.index = index;
            let hash = batch.hashes[index];
            let time = batch.times.get(index).copied().unwrap_or(EventTime::MIN);
            let stamp = || Stamp { time, order: batch.origin.order(index) };
            key_of.with_key(row, |key| {
                let begin = || RunningState::new(aggregate.init());
                let running = table.update_at(hints[index % AHEAD], hash, key, begin);
                if let Some(ttl) = ttl {
                    let expired = running.touched.filter(|touched| ttl.end(*touched) <= time);
                    if expired.is_some() {
                        running.state = aggregate.init();
                    }
                    if running.touched.is_none() {
                        expiries.push(ttl.end(time), hash, key.clone());
                    }
                    running.touched = running.touched.max(Some(time));
                }
                aggregate.add(&mut running.state, row, &stamp);
                if !running.changed {
                    running.changed = true;
                    changed.push((hash, key.clone()));
                }
            });
        }
        Ok(())
    }

    fn tick_end(&mut self, cx: &mut Cx) -> Result<(), Error> {
        let mut rows = Vec::with_capacity(self.changed.len());
        let changed = std::mem::take(&mut self.changed);
        for keys in changed.chunks(AHEAD) {
            let ahead = keys.iter().map(|(hash, key)| (*hash, key));
            let hints = look_ahead_at(&self.table, ahead, |running| running.changed);
            for ((hash, key), hint) in keys.iter().zip(hints) {
                if let Some(running) = self.table.get_mut_at(hint, *hash, key) {
                    running.changed = false;
                    let value = self.aggregate.finish(running.state.clone());
                    rows.push((key.clone(), value));
                }
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
