//! The worker's half of a sink: rows become chunks, which leave with the seal of the tick.

use super::{Cx, Logic, typed, user_error};
use crate::error::Error;
use crate::event::{Batch, Data, Rows};
use crate::sink::Encoder;

pub(crate) struct Encode<T> {
    pub(crate) encoder: Box<dyn Encoder<T>>,
}

impl<T: Data> Logic for Encode<T> {
    fn batch(&mut self, _: usize, rows: Box<dyn Rows>, cx: &mut Cx) -> Result<(), Error> {
        let mut batch = typed::<T>(rows)?;
        let rows = std::mem::take(&mut batch.rows);
        cx.counters.events_in += rows.len() as u64;
        cx.counters.used += rows.len() as u64;
        let Batch { times, origin, .. } = &batch;
        self.encoder.encode(rows, times).map_err(|e| user_error(e, origin, 0))?;
        batch.recycle();
        Ok(())
    }

    fn tick_end(&mut self, cx: &mut Cx) -> Result<(), Error> {
        cx.chunks.extend(self.encoder.take());
        Ok(())
    }
}
