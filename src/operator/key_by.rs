//! Routes each row to the worker that owns its key: the hash is computed once and carried.

use std::marker::PhantomData;
use std::sync::Arc;

use highwater_state::{group_of, hash_key, worker_of};

use super::{Cx, Logic, RowGuard, typed};
use crate::error::Error;
use crate::event::{Batch, Data, Rows};
use crate::keyed::KeyOf;
use crate::time::EventTime;

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
        batch.hashes = vec![0; batch.len()];
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
    let expected = batch.len() / workers + batch.len() / 8 + 8;
    let timed = if batch.times.is_empty() { 0 } else { expected };
    let part = |_| Part {
        kept: Vec::with_capacity(expected),
        rows: Vec::with_capacity(expected),
        times: Vec::with_capacity(timed),
        hashes: Vec::with_capacity(expected),
    };
    let mut parts: Vec<Part<T>> = (0..workers).map(part).collect();
    // One pass for all columns.
    let rows = std::mem::take(&mut batch.rows).into_iter().zip(&batch.hashes);
    for (index, (row, hash)) in rows.enumerate() {
        let part = &mut parts[worker_of(group_of(*hash), workers)];
        part.kept.push(index as u32);
        part.rows.push(row);
        part.hashes.push(*hash);
        if let Some(time) = batch.times.get(index) {
            part.times.push(*time);
        }
    }
    for (worker, Part { kept, rows, times, hashes }) in parts.into_iter().enumerate() {
        if !rows.is_empty() {
            cx.send_to(0, worker, batch.with_columns((rows, times, hashes), &kept));
        }
    }
}

/// The rows of one worker.
struct Part<T> {
    /// Where they stood.
    kept: Vec<u32>,
    rows: Vec<T>,
    times: Vec<EventTime>,
    hashes: Vec<u64>,
}
