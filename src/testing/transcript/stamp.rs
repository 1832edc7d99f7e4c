//! Writes the time that the engine gives a row into the row, where an `expect` can see it.

use std::panic::Location;
use std::sync::Arc;

use super::value::Row;
use crate::error::Error;
use crate::event::{Batch, Rows};
use crate::flow::{BuildCx, Factory, Spec, Stream, Timed};
use crate::operator::{Cx, Logic, typed};

struct Stamp;

impl Logic for Stamp {
    fn batch(&mut self, _: usize, rows: Box<dyn Rows>, cx: &mut Cx) -> Result<(), Error> {
        let mut batch: Batch<Row> = typed(rows)?;
        cx.counters.events_in += batch.len() as u64;
        cx.counters.used += batch.len() as u64;
        for (row, time) in batch.rows.iter_mut().zip(&batch.times) {
            row.time = *time;
        }
        cx.send(0, batch);
        Ok(())
    }
}

/// The same rows, each with its event time.
pub(super) fn stamped(rows: &Stream<Row, Timed>) -> Stream<Row, Timed> {
    let make: Factory = Arc::new(|_: &BuildCx| Ok(Box::new(Stamp) as Box<dyn Logic>));
    let spec = Spec::stateless("stamp");
    let node = rows.add(None, spec, vec![rows.port], Location::caller(), make);
    rows.at(node, 0)
}
