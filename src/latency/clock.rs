//! The clock of a load, and the processor time that was used.

use std::sync::OnceLock;
use std::time::Duration;

use crate::time::EventTime;
use crate::time::clock::{Clock, SystemClock};

/// Time since the load began, which is when its first partition is opened.
#[derive(Default)]
pub(super) struct LoadClock {
    began: OnceLock<Began>,
}

struct Began {
    clock: SystemClock,
    micros: i64,
}

impl LoadClock {
    fn began(&self) -> &Began {
        self.began.get_or_init(|| {
            let clock = SystemClock::new();
            let micros = clock.now_micros();
            Began { clock, micros }
        })
    }

    /// Starts the load, unless it has begun.
    pub(super) fn begin(&self) {
        self.began();
    }

    pub(super) fn has_begun(&self) -> bool {
        self.began.get().is_some()
    }

    /// µs since the beginning.
    pub(super) fn now_micros(&self) -> i64 {
        let began = self.began();
        began.clock.now_micros() - began.micros
    }

    /// A moment of the load as event time.
    pub(super) fn event_time(&self, micros: i64) -> EventTime {
        EventTime::from_micros(self.began().micros.saturating_add(micros))
    }

    /// Event time as µs since the beginning.
    pub(super) fn micros_of(&self, time: EventTime) -> i64 {
        time.as_micros().saturating_sub(self.began().micros)
    }
}

/// Processor time of all threads that this process has now, as the scheduler counts it; `None`
/// where the system does not tell.
pub(super) fn cpu_time() -> Option<Duration> {
    let threads = std::fs::read_dir("/proc/self/task").ok()?;
    let nanos = threads.flatten().filter_map(|thread| {
        let text = std::fs::read_to_string(thread.path().join("schedstat")).ok()?;
        text.split_whitespace().next()?.parse::<u64>().ok()
    });
    Some(Duration::from_nanos(nanos.sum()))
}
