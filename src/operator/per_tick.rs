//! Any function of a tick's whole batch: gathered on one worker, called once per tick.

use std::marker::PhantomData;
use std::sync::Arc;

use super::{Cx, Logic, typed};
use crate::error::Error;
use crate::event::{Batch, Data, Origin, Rows};
use crate::time::Tick;

/// Sends every row to the first worker.
pub(crate) struct Gather<T> {
    pub(crate) types: PhantomData<fn(T)>,
}

impl<T: Data> Logic for Gather<T> {
    fn batch(&mut self, _: usize, rows: Box<dyn Rows>, cx: &mut Cx) -> Result<(), Error> {
        let batch = typed::<T>(rows)?;
        cx.counters.events_in += batch.len() as u64;
        cx.counters.used += batch.len() as u64;
        cx.send_to(0, 0, batch);
        Ok(())
    }
}

pub(crate) struct PerTick<T, U, F> {
    pub(crate) f: Arc<F>,
    /// The rows of the open tick; empty between ticks.
    pub(crate) rows: Vec<T>,
    pub(crate) types: PhantomData<fn(T) -> U>,
}

impl<T: Data, U: Data, I: IntoIterator<Item = U>, F: Fn(Tick, Vec<T>) -> I> Logic
    for PerTick<T, U, F>
{
    fn batch(&mut self, _: usize, rows: Box<dyn Rows>, cx: &mut Cx) -> Result<(), Error> {
        let mut batch = typed::<T>(rows)?;
        cx.counters.events_in += batch.len() as u64;
        cx.counters.used += batch.len() as u64;
        self.rows.append(&mut batch.rows);
        Ok(())
    }

    fn tick_end(&mut self, cx: &mut Cx) -> Result<(), Error> {
        if self.rows.is_empty() {
            return Ok(());
        }
        let output = (self.f)(cx.tick, std::mem::take(&mut self.rows)).into_iter().collect();
        cx.send(0, Batch::untimed(output, Origin::Unordered));
        Ok(())
    }
}
