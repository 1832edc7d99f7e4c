//! Back-pressure: no tick is opened while the log's tail is full, or while a commit takes so long
//! that its target must be away: what the next commit has to take in would grow without bound.

use std::sync::Arc;
use std::time::Duration;

use highwater_state::Store;

use super::lane::COMMIT_QUEUE;
use crate::metrics::Metrics;

/// How long a commit may take before ticks wait for it, in µs; ten intervals if that is more.
const COMMIT_PATIENCE_MICROS: i64 = 1_000_000;

/// So much output may wait behind a commit: half of what the commit thread's queue has room for,
/// since ticks that are open bring more. The coordinator must not wait for that thread.
const MOST_BEHIND: usize = COMMIT_QUEUE / 2;

pub(super) struct Pressure {
    store: Arc<dyn Store>,
    patience_micros: i64,
    /// Chunks of output that were given to the commit thread behind its commit.
    behind: usize,
    /// Since when a commit has been with the commit thread, on the tick clock.
    commit_since_micros: Option<i64>,
    /// Since when ticks have been held up, on the tick clock; `None` while they are not.
    since_micros: Option<i64>,
    /// What was held up before that.
    total_micros: i64,
}

impl Pressure {
    pub(super) fn new(store: Arc<dyn Store>, commit_interval: Duration) -> Self {
        let interval = i64::try_from(commit_interval.as_micros()).unwrap_or(i64::MAX);
        let patience_micros = interval.saturating_mul(10).max(COMMIT_PATIENCE_MICROS);
        Pressure {
            store,
            patience_micros,
            behind: 0,
            commit_since_micros: None,
            since_micros: None,
            total_micros: 0,
        }
    }

    /// The commit thread has a commit.
    pub(super) fn commit_begins(&mut self, now_micros: i64) {
        self.commit_since_micros = Some(now_micros);
        self.behind = 0;
    }

    /// The commit thread has a further chunk of output.
    pub(super) fn output(&mut self) {
        self.behind += usize::from(self.commit_since_micros.is_some());
    }

    /// It is durable, and its targets have it.
    pub(super) fn commit_ends(&mut self) {
        self.commit_since_micros = None;
        self.behind = 0;
    }

    /// Whether what a further tick would commit has to wait.
    pub(super) fn is_on(&self, now_micros: i64) -> bool {
        let waits = |since: i64| now_micros - since >= self.patience_micros;
        self.store.tail().full
            || self.behind >= MOST_BEHIND
            || self.commit_since_micros.is_some_and(waits)
    }

    /// As [`is_on`](Self::is_on), and takes down for how long it was so.
    pub(super) fn holds_up(&mut self, now_micros: i64) -> bool {
        let on = self.is_on(now_micros);
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
