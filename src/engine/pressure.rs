//! Back-pressure: while the log's tail is full no tick is opened.

use std::sync::Arc;
use std::time::Duration;

use highwater_state::Store;

use crate::metrics::Metrics;

pub(super) struct Pressure {
    store: Arc<dyn Store>,
    /// Since when ticks have been held up, on the tick clock; `None` while they are not.
    since_micros: Option<i64>,
    /// What was held up before that.
    total_micros: i64,
}

impl Pressure {
    pub(super) fn new(store: Arc<dyn Store>) -> Self {
        Pressure { store, since_micros: None, total_micros: 0 }
    }

    /// Whether the log has no room for what a further tick would commit.
    pub(super) fn is_on(&self) -> bool {
        self.store.tail().full
    }

    /// As [`is_on`](Self::is_on), and takes down for how long it was so.
    pub(super) fn holds_up(&mut self, now_micros: i64) -> bool {
        let on = self.is_on();
        if on {
            self.since_micros.get_or_insert(now_micros);
        } else if let Some(since) = self.since_micros.take() {
            self.total_micros += (now_micros - since).max(0);
        }
        on
    }

    pub(super) fn tell(&self, now_micros: i64, metrics: &mut Metrics) {
        let current = self.since_micros.map_or(0, |since| (now_micros - since).max(0));
        let held = u64::try_from(self.total_micros + current).unwrap_or(0);
        metrics.held_by_log = Duration::from_micros(held);
        metrics.log_tail_bytes = self.store.tail().bytes;
    }
}
