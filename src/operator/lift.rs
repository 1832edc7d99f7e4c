//! Rows of one stream as rows of connected streams.

use super::{Cx, Logic, typed};
use crate::buffers::{buffer, recycle};
use crate::error::Error;
use crate::event::{Data, Rows};

/// Makes rows those of one side. Hash, time, promise and position stay with each row.
pub(crate) struct Lift<T, U> {
    pub(crate) side: fn(T) -> U,
    /// How many streams stand before this one in the order of events that are the same.
    pub(crate) sides_before: u32,
}

impl<T: Data, U: Data> Logic for Lift<T, U> {
    fn batch(&mut self, _: usize, rows: Box<dyn Rows>, cx: &mut Cx) -> Result<(), Error> {
        let mut batch = typed::<T>(rows)?;
        let mut input = std::mem::take(&mut batch.rows);
        cx.counters.events_in += input.len() as u64;
        cx.counters.used += input.len() as u64;
        let mut rows = buffer(input.len());
        rows.extend(input.drain(..).map(self.side));
        recycle(input);
        let mut batch = batch.with_rows(rows);
        batch.origin = batch.origin.behind_sides(self.sides_before);
        cx.send(0, batch);
        Ok(())
    }
}
