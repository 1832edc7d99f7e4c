//! Running reduce: one value per key, told anew in each tick that changed it.

use std::marker::PhantomData;
use std::sync::Arc;

use highwater_state::Changes;

use super::{Cx, Logic, RowGuard, typed};
use crate::aggregate::{Aggregate, Stamp};
use crate::error::Error;
use crate::event::{Batch, Data, Origin, Rows};
use crate::keyed::{KeyOf, Table};
use crate::time::EventTime;

pub(crate) struct Running<T, K: KeyOf<T>, A: Aggregate<T>> {
    pub(crate) key_of: Arc<K>,
    pub(crate) aggregate: Arc<A>,
    pub(crate) table: Table<K::Key, RunningState<A::State>>,
    /// The keys that changed in the open tick, in order of first change; empty between ticks.
    pub(crate) changed: Vec<(u64, K::Key)>,
    pub(crate) types: PhantomData<fn(T)>,
}

pub(crate) struct RunningState<S> {
    pub(crate) state: S,
    pub(crate) changed: bool,
}

impl<T: Data, K: KeyOf<T>, A: Aggregate<T>> Running<T, K, A> {
    pub(crate) fn restore(
        &mut self,
        key: &[u8],
        value: &[u8],
    ) -> Result<(), highwater_state::Error> {
        let state = highwater_state::decode(value)?;
        self.table.restore(highwater_state::decode(key)?, RunningState { state, changed: false });
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
        let Self { key_of, aggregate, table, changed, .. } = self;
        let mut guard = RowGuard::new(&batch.origin);
        for (index, row) in batch.rows.iter().enumerate() {
            guard.index = index;
            let hash = batch.hashes[index];
            let time = batch.times.get(index).copied().unwrap_or(EventTime::MIN);
            let stamp = || Stamp { time, order: batch.origin.order(index) };
            key_of.with_key(row, |key| {
                let running = table
                    .update(hash, key, || RunningState { state: aggregate.init(), changed: false });
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
        for (hash, key) in self.changed.drain(..) {
            if let Some(running) = self.table.get_mut(hash, &key) {
                running.changed = false;
                rows.push((key, self.aggregate.finish(running.state.clone())));
            }
        }
        cx.send(0, Batch::untimed(rows, Origin::Unordered));
        Ok(())
    }

    fn capture(&mut self, changes: &mut Changes) -> Result<(), Error> {
        self.table.capture(&[], changes, |running, bytes| {
            highwater_state::encode_into(&running.state, bytes)
        })
    }

    fn entries(&self) -> u64 {
        self.table.len() as u64
    }
}
