//! A client that has forgotten its brokers.
//!
//! librdkafka, since 2.10, forgets each broker that an answer of the cluster does not name. Where
//! no broker is alive for a moment, as when the only one stood still for longer than its controller
//! waits, the answer names none. The client then forgets all, those that it was given at first too,
//! and never asks anybody again. (confluentinc/librdkafka#5301, open with 2.15.)

use std::ffi::CString;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use rdkafka::bindings::rd_kafka_brokers_add;
use rdkafka::client::{Client, ClientContext};

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

/// After about so long without an answer a client is told again whom to ask.
const SLOW: Duration = Duration::from_secs(2);

/// Tells a client again whom to ask while a call into it takes long. IMPORTANT: on a thread of its
/// own, because some calls do not return before they have an answer, whatever time they are given.
pub(crate) struct Reaching {
    /// Calls begun and ended: while it is odd, somebody waits.
    calls: Arc<AtomicU64>,
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// A call, until it is dropped.
pub(crate) struct Call<'a>(&'a AtomicU64);

impl Reaching {
    /// `reach` is to give the client its first brokers.
    ///
    /// # Errors
    /// Where no thread can be started.
    pub(crate) fn start(reach: impl Fn() + Send + 'static) -> io::Result<Self> {
        let calls = Arc::new(AtomicU64::new(0));
        let (looked_at, (stop, stopped)) = (calls.clone(), channel());
        let watch = move || {
            let mut before = 0;
            while stopped.recv_timeout(SLOW) == Err(RecvTimeoutError::Timeout) {
                let now = looked_at.load(Ordering::Acquire);
                if now == before && now % 2 == 1 {
                    reach();
                }
                before = now;
            }
        };
        let thread = std::thread::Builder::new().name("highwater-kafka-reach".to_owned());
        let thread = Some(thread.spawn(watch)?);
        Ok(Reaching { calls, stop: Some(stop), thread })
    }

    /// A call begins. There is one at a time: two would look like none.
    pub(crate) fn call(&self) -> Call<'_> {
        self.calls.fetch_add(1, Ordering::Release);
        Call(&self.calls)
    }
}

impl Drop for Call<'_> {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::Release);
    }
}

impl Drop for Reaching {
    fn drop(&mut self) {
        self.stop = None;
        if let Some(thread) = self.thread.take() {
            // A thread that panicked has said so.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_call_that_takes_long_is_helped() {
        let (reached, helped) = channel();
        let reaching = Reaching::start(move || reached.send(()).unwrap_or_default()).unwrap();
        for _ in 0..50 {
            drop(reaching.call());
            std::thread::sleep(SLOW / 20);
        }
        assert!(helped.try_recv().is_err(), "short calls were helped");
        let call = reaching.call();
        for _ in 0..2 {
            assert_eq!(helped.recv_timeout(SLOW * 4), Ok(()));
        }
        drop(call);
        drop(reaching);
    }
}
