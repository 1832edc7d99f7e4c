//! A client that has forgotten its brokers.
//!
//! librdkafka, since 2.10, forgets each broker that an answer of the cluster does not name. Where
//! no broker is alive for a moment, as when the only one stood still for longer than its controller
//! waits, the answer names none. The client then forgets all, those that it was given at first too,
//! and never asks anybody again. (confluentinc/librdkafka#5301, open with 2.15.)

use std::ffi::CString;
use std::time::Duration;

use rdkafka::bindings::rd_kafka_brokers_add;
use rdkafka::client::{Client, ClientContext};

use crate::time::clock::{Clock, SystemClock};

/// Gives a client its first brokers again, by which it finds the others. One that knows brokers
/// connects to these once more, until the next answer names the others: not to be called often.
pub(crate) fn reach_again<C: ClientContext>(client: &Client<C>, servers: &str) {
    // Names that the client took when it was made have no zero in them.
    let Ok(list) = CString::new(servers) else { return };
    // SAFETY: the client lives for as long as it is borrowed, may be used by many threads at once,
    // and copies the list.
    let found = unsafe { rd_kafka_brokers_add(client.native_ptr(), list.as_ptr()) };
    tracing::debug!(servers, found, "a Kafka client asks its first brokers again");
}

/// After so long without an answer a client is told again whom to ask.
const SLOW: Duration = Duration::from_secs(2);

/// A wait for a client, which is told again whom to ask for as long as that lasts.
pub(crate) struct Wait {
    clock: SystemClock,
    since_micros: i64,
}

impl Wait {
    pub(crate) fn begin() -> Self {
        let clock = SystemClock::new();
        Wait { since_micros: clock.now_micros(), clock }
    }

    /// For how long to wait before the next look.
    pub(crate) fn slice(left: Duration) -> Duration {
        left.min(SLOW)
    }

    /// `reach` is to give the client its first brokers, where it has been waited for so long.
    pub(crate) fn look(&mut self, reach: impl FnOnce()) {
        let now_micros = self.clock.now_micros();
        if now_micros - self.since_micros >= SLOW.as_micros() as i64 {
            self.since_micros = now_micros;
            reach();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_wait_that_lasts_is_helped() {
        let (mut wait, mut helped) = (Wait::begin(), 0);
        for slept in [SLOW / 2, SLOW / 2, SLOW / 2, SLOW / 2] {
            wait.look(|| helped += 10);
            std::thread::sleep(slept);
            wait.look(|| helped += 1);
        }
        assert_eq!(helped, 2);
    }
}
