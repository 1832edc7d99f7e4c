//! The only reader of the system clock.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// Where ticks get their clock reading from: microseconds since the Unix epoch.
pub(crate) trait Clock: Send + Sync {
    fn now_micros(&self) -> i64;
}

/// The system's time at start, moved on by a monotonic clock, so that it never goes back.
pub(crate) struct SystemClock {
    start_micros: i64,
    started: Instant,
}

impl SystemClock {
    #[expect(clippy::disallowed_methods, reason = "this is the one reader of the system clock")]
    pub(crate) fn new() -> Self {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let start_micros = i64::try_from(since_epoch.as_micros()).unwrap_or(i64::MAX);
        SystemClock { start_micros, started: Instant::now() }
    }
}

impl Clock for SystemClock {
    fn now_micros(&self) -> i64 {
        let elapsed = i64::try_from(self.started.elapsed().as_micros()).unwrap_or(i64::MAX);
        self.start_micros.saturating_add(elapsed)
    }
}
