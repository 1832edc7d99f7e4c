//! Deals rows out to all workers, so that a few partitions keep all of them busy.

use std::marker::PhantomData;

use super::{Cx, Logic, typed};
use crate::error::Error;
use crate::event::{Data, Rows};

/// Rows that are dealt out together: less is not worth a batch of its own.
const HAND: usize = 256;

pub(crate) struct Repartition<T> {
    pub(crate) workers: usize,
    /// Whose turn it is.
    pub(crate) next: usize,
    pub(crate) types: PhantomData<fn(T)>,
}

impl<T: Data> Logic for Repartition<T> {
    fn batch(&mut self, _: usize, rows: Box<dyn Rows>, cx: &mut Cx) -> Result<(), Error> {
        let mut batch = typed::<T>(rows)?;
        let total = batch.len();
        cx.counters.events_in += total as u64;
        cx.counters.used += total as u64;
        let hand = HAND.max(total.div_ceil(self.workers));
        if total <= hand {
            cx.send_to(0, self.turn(), batch);
            return Ok(());
        }
        let mut rows = std::mem::take(&mut batch.rows).into_iter();
        for first in (0..total).step_by(hand) {
            let kept: Vec<u32> = (first..total.min(first + hand)).map(|i| i as u32).collect();
            let part = rows.by_ref().take(kept.len()).collect();
            cx.send_to(0, self.turn(), batch.select(part, kept));
        }
        Ok(())
    }
}

impl<T> Repartition<T> {
    fn turn(&mut self) -> usize {
        self.next = (self.next + 1) % self.workers;
        self.next
    }
}
