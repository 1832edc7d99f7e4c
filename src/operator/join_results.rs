//! Results of joins on their way downstream.

use super::Cx;
use super::waiting::Place;
use crate::error::Error;
use crate::event::{Batch, Data, LateReason, Origin, ResultOrder};
use crate::time::EventTime;

/// Results on their way.
pub(crate) struct Results<O> {
    rows: Vec<O>,
    times: Vec<EventTime>,
    orders: Vec<ResultOrder>,
    /// Results must carry their order among results of equal time.
    ordered_by: Option<u32>,
}

impl<O: Data> Results<O> {
    pub(crate) fn new(ordered_by: Option<u32>) -> Self {
        Results { rows: Vec::new(), times: Vec::new(), orders: Vec::new(), ordered_by }
    }

    pub(crate) fn len(&self) -> usize {
        self.rows.len()
    }

    pub(crate) fn largest(&self) -> Option<EventTime> {
        self.times.iter().copied().max()
    }

    /// Adds a result. Its order among results of equal time is by key, then by the rows that it
    /// is made of.
    pub(crate) fn push(
        &mut self,
        row: O,
        time: EventTime,
        key: impl FnOnce() -> Result<Vec<u8>, Error>,
        made_of: [Option<&Place>; 2],
    ) -> Result<(), Error> {
        self.rows.push(row);
        self.times.push(time);
        if self.ordered_by.is_some() {
            let mut bytes = key()?;
            for place in made_of {
                bytes.push(u8::from(place.is_some()));
                if let Some(place) = place {
                    place.time.sort_bytes(&mut bytes);
                    place.order.sort_bytes(&mut bytes);
                    bytes.extend_from_slice(&place.sequence.to_be_bytes());
                }
            }
            self.orders.push(ResultOrder { key: bytes, start: time, sequence: 0 });
        }
        Ok(())
    }

    /// Sends what has gathered. None of it may lie below the watermark of the tick before.
    pub(crate) fn send(&mut self, cx: &mut Cx) {
        let origin = match self.ordered_by {
            Some(operator_rank) => {
                Origin::Results { operator_rank, orders: std::mem::take(&mut self.orders) }
            }
            None => Origin::Unordered,
        };
        let batch = Batch {
            rows: std::mem::take(&mut self.rows),
            times: std::mem::take(&mut self.times),
            hashes: Vec::new(),
            origin,
            stragglers: Vec::new(),
            floor: cx.before,
            behind: LateReason::Returned,
        };
        cx.send(0, batch);
    }
}
