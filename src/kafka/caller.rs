//! Calls into a client that may never return.
//!
//! `rd_kafka_send_offsets_to_transaction` keeps to no time: it returns when its answer comes. Where
//! the broker that it means to ask was forgotten, it asks no other one before the client hears of
//! one that comes or goes, which may be never. (confluentinc/librdkafka#5456 and #5511, both open.)

use std::cell::RefCell;
use std::io;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::time::Duration;

use crate::kafka::reach::Wait;
use crate::time::clock::monotonic;

type Call = Box<dyn FnOnce() + Send>;

/// Makes calls on a thread of its own. One that does not return is left behind, with its thread and
/// with what it holds: so let it hold what it uses.
pub(crate) struct Caller {
    /// `None` after a call that did not return.
    calls: RefCell<Option<Sender<Call>>>,
}

impl Caller {
    /// # Errors
    /// Where no thread can be started.
    pub(crate) fn start() -> io::Result<Self> {
        let (calls, to_call) = channel::<Call>();
        let serve = move || {
            for call in to_call {
                call();
            }
        };
        // Nobody joins it: it ends with this, or after its last call.
        std::thread::Builder::new().name("highwater-kafka-call".to_owned()).spawn(serve)?;
        Ok(Caller { calls: RefCell::new(Some(calls)) })
    }

    /// What the call returns, if that is in time. If not, no other call is made.
    pub(crate) fn call<R: Send + 'static>(
        &self,
        within: Duration,
        call: impl FnOnce() -> R + Send + 'static,
        reach: impl Fn(),
    ) -> Option<R> {
        let (returns, returned) = channel();
        let until = monotonic() + within;
        // Nobody may wait any more.
        let call = move || returns.send(call()).unwrap_or_default();
        self.calls.borrow().as_ref()?.send(Box::new(call)).ok()?;
        let mut wait = Wait::begin();
        loop {
            let left = until.saturating_duration_since(monotonic());
            match returned.recv_timeout(Wait::slice(left)) {
                Ok(result) => return Some(result),
                Err(RecvTimeoutError::Timeout) if !left.is_zero() => wait.look(&reach),
                Err(_) => {
                    self.calls.take();
                    return None;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[test]
    fn a_call_that_does_not_return_is_left_behind() {
        let caller = Caller::start().unwrap();
        assert_eq!(caller.call(Duration::from_secs(60), || 5, || {}), Some(5));
        let (ends, end) = channel::<()>();
        let held = std::sync::Arc::new(());
        let (holds, helped) = (held.clone(), Cell::new(0));
        let never = move || {
            let _ = end.recv();
            drop(holds);
        };
        let help = || helped.set(helped.get() + 1);
        assert_eq!(caller.call(Duration::from_millis(4_500), never, help), None);
        assert_eq!(helped.get(), 2);
        assert_eq!(caller.call(Duration::from_secs(60), || 5, || {}), None, "it would come late");
        assert_eq!(std::sync::Arc::strong_count(&held), 2, "it holds what it uses");
        drop(caller);
        drop(ends);
        while std::sync::Arc::strong_count(&held) > 1 {
            std::thread::yield_now();
        }
    }
}
