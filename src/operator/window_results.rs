//! The results of a window, on their way out.

use super::Cx;
use crate::error::Error;
use crate::event::{Batch, Data, LateReason, Origin, ResultOrder};
use crate::keyed::{Key, encode_key};
use crate::time::{EventTime, Span};
use crate::window::{Window, WindowResult};

/// Results of one window: all have its last time.
pub(super) struct Results<K, V> {
    window: Window,
    pub(super) rows: Vec<WindowResult<K, V>>,
    orders: Vec<ResultOrder>,
    ordered_by: Option<u32>,
}

impl<K: Key, V: Data> Results<K, V> {
    pub(super) fn new(window: Window, ordered_by: Option<u32>) -> Self {
        Results { window, rows: Vec::new(), orders: Vec::new(), ordered_by }
    }

    pub(super) fn push(&mut self, key: K, value: V) -> Result<(), Error> {
        if self.ordered_by.is_some() {
            let (key, start) = (encode_key(&key)?, self.window.start);
            self.orders.push(ResultOrder { key, start, sequence: 0 });
        }
        self.rows.push(WindowResult { key, window: self.window, value });
        Ok(())
    }

    pub(super) fn send(self, lateness: Span, cx: &mut Cx) {
        let origin = match self.ordered_by {
            Some(operator_rank) => Origin::Results { operator_rank, orders: self.orders },
            None => Origin::Unordered,
        };
        let times = vec![self.window.last_time(); self.rows.len()];
        send_batch(self.rows, times, origin, lateness, cx);
    }
}

/// Sends results of any windows, each at its window's last time.
pub(super) fn send_results<K: Key, V: Data>(
    rows: Vec<WindowResult<K, V>>,
    ordered_by: Option<u32>,
    lateness: Span,
    cx: &mut Cx,
) -> Result<(), Error> {
    let order = |row: &WindowResult<K, V>| -> Result<ResultOrder, Error> {
        let key = encode_key(&row.key)?;
        Ok(ResultOrder { key, start: row.window.start, sequence: 0 })
    };
    let origin = match ordered_by {
        Some(operator_rank) => Origin::Results {
            operator_rank,
            orders: rows.iter().map(order).collect::<Result<_, _>>()?,
        },
        None => Origin::Unordered,
    };
    let times = rows.iter().map(|row| row.window.last_time()).collect();
    send_batch(rows, times, origin, lateness, cx);
    Ok(())
}

/// None of the rows can be late downstream: their windows were open until this tick, and what is
/// said downstream stays behind by the lateness.
fn send_batch<R: Data>(
    rows: Vec<R>,
    times: Vec<EventTime>,
    origin: Origin,
    lateness: Span,
    cx: &mut Cx,
) {
    let batch = Batch {
        rows,
        times,
        hashes: Vec::new(),
        origin,
        stragglers: Vec::new(),
        floor: cx.before.behind(lateness),
        behind: LateReason::Returned,
    };
    cx.send(0, batch);
}
