//! A few connections, shared by many.

use std::sync::{Mutex, PoisonError};

use tokio::sync::{Semaphore, SemaphorePermit};

/// How many connections a pool has at most.
const CONNECTIONS: usize = 4;

/// Connections, with what has been prepared in them.
pub(crate) struct Pool<S> {
    places: Semaphore,
    idle: Mutex<Vec<S>>,
}

impl<S> Default for Pool<S> {
    fn default() -> Self {
        Pool { places: Semaphore::new(CONNECTIONS), idle: Mutex::default() }
    }
}

impl<S> Pool<S> {
    /// Waits until one more may be used.
    pub(crate) async fn place(&self) -> Option<SemaphorePermit<'_>> {
        // It is never closed, so that there always is one.
        self.places.acquire().await.ok()
    }

    /// One that nobody uses.
    pub(crate) fn take(&self) -> Option<S> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop()
    }

    /// Gives one back that works.
    pub(crate) fn give(&self, session: S) {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(session);
    }
}
