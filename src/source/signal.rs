//! Wakes that are worth one: a burst of events wakes the flow once.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::Waker;

/// Between one writer side and one reader. The writer raises it after each event; the reader
/// lowers it before it drains.
///
/// IMPORTANT: lowering first is what makes it safe. An event raised before is then seen by the
/// drain, and one raised after finds the signal low and wakes again.
#[derive(Debug, Default)]
pub(crate) struct Signal {
    raised: AtomicBool,
    waker: Mutex<Option<Waker>>,
}

impl Signal {
    pub(crate) fn waking(waker: Waker) -> Self {
        Signal { raised: AtomicBool::new(false), waker: Mutex::new(Some(waker)) }
    }

    /// Whoever was raised before there was a waker is not forgotten.
    pub(crate) fn attach(&self, waker: Waker) {
        if self.raised.load(Ordering::Acquire) {
            waker.wake();
        }
        *lock(&self.waker) = Some(waker.clone());
        // A raise between the two lines above saw no waker, so it is looked for once more.
        if self.raised.load(Ordering::Acquire) {
            waker.wake();
        }
    }

    pub(crate) fn raise(&self) {
        if !self.raised.swap(true, Ordering::AcqRel)
            && let Some(waker) = lock(&self.waker).as_ref()
        {
            waker.wake();
        }
    }

    pub(crate) fn lower(&self) {
        self.raised.swap(false, Ordering::AcqRel);
    }
}

/// What these locks guard stays whole when a holder panics: each holder does one assignment.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
