//! The results of a window, on their way out.

use super::Cx;
use crate::error::Error;
use crate::event::{Batch, Data, LateReason, Origin, ResultOrder};
use crate::keyed::{Key, encode_key};
use crate::time::Span;
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

    /// None of them can be late downstream: the window was open until this tick, and what is
    /// said downstream stays behind by the lateness.
    pub(super) fn send(self, lateness: Span, cx: &mut Cx) {
        let origin = match self.ordered_by {
            Some(operator_rank) => Origin::Results { operator_rank, orders: self.orders },
            None => Origin::Unordered,
        };
        let batch = Batch {
            times: vec![self.window.last_time(); self.rows.len()],
            rows: self.rows,
            hashes: Vec::new(),
            origin,
            stragglers: Vec::new(),
            floor: cx.before.behind(lateness),
            behind: LateReason::Returned,
        };
        cx.send(0, batch);
    }
}
