//! Routes each row to the worker that owns its key: the hash is computed once and carried.

use std::marker::PhantomData;
use std::sync::Arc;

use highwater_state::{group_of, hash_key, worker_of};

use super::{Cx, Logic, RowGuard, typed};
use crate::buffers::{buffer, recycle};
use crate::error::Error;
use crate::event::{Batch, Data, Rows, pick};
use crate::keyed::KeyOf;

pub(crate) struct KeyBy<T, K> {
    pub(crate) key_of: Arc<K>,
    pub(crate) workers: usize,
    pub(crate) types: PhantomData<fn(T)>,
}

impl<T: Data, K: KeyOf<T>> Logic for KeyBy<T, K> {
    fn batch(&mut self, _: usize, rows: Box<dyn Rows>, cx: &mut Cx) -> Result<(), Error> {
        let mut batch = typed::<T>(rows)?;
        cx.counters.events_in += batch.len() as u64;
        cx.counters.used += batch.len() as u64;
        let mut guard = RowGuard::new(&batch.origin);
        batch.hashes = buffer(batch.len());
        batch.hashes.resize(batch.rows.len(), 0);
        for (hash, row) in batch.hashes.iter_mut().zip(&batch.rows) {
            *hash = self.key_of.with_key(row, hash_key);
            guard.index += 1;
        }
        drop(guard);
        if self.workers == 1 {
            cx.send_to(0, 0, batch);
        } else {
            scatter(batch, self.workers, cx);
        }
        Ok(())
    }
}

/// Cuts a batch into one per worker; rows keep their order within each.
fn scatter<T: Data>(mut batch: Batch<T>, workers: usize, cx: &mut Cx) {
    let worker_of = |hash: &u64| worker_of(group_of(*hash), workers);
    let expected = batch.len() / workers + batch.len() / 8 + 8;
    let mut kept: Vec<Vec<u32>> = (0..workers).map(|_| buffer(expected)).collect();
    for (index, hash) in batch.hashes.iter().enumerate() {
        kept[worker_of(hash)].push(index as u32);
    }
    let mut all = std::mem::take(&mut batch.rows);
    // Of what owns nothing a copy is as good, and faster.
    let parts: Vec<Vec<T>> = if std::mem::needs_drop::<T>() {
        let mut parts: Vec<Vec<T>> = kept.iter().map(|kept| buffer(kept.len())).collect();
        let rows = all.drain(..).zip(&batch.hashes);
        rows.for_each(|(row, hash)| parts[worker_of(hash)].push(row));
        parts
    } else {
        kept.iter().map(|kept| pick(&all, kept)).collect()
    };
    for (worker, (rows, kept)) in parts.into_iter().zip(kept).enumerate() {
        if !rows.is_empty() {
            cx.send_to(0, worker, batch.select(rows, kept));
        }
    }
    recycle(all);
    batch.recycle();
}
