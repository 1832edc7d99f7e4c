//! Waits for a database on a thread that may wait.

use std::future::Future;

use tokio::runtime::{Builder, Handle, Runtime};

use crate::error::Error;

/// A runtime without a thread of its own: it runs while somebody waits in it.
pub(crate) struct Blocking {
    /// `None` only while it is dropped.
    runtime: Option<Runtime>,
}

impl Blocking {
    pub(crate) fn new() -> Result<Self, Error> {
        let runtime = Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|e| Error::io("cannot wait for a database", e))?;
        Ok(Blocking { runtime: Some(runtime) })
    }

    /// Waits for a future.
    pub(crate) fn wait<R: Send>(
        &self,
        future: impl Future<Output = Result<R, Error>> + Send,
    ) -> Result<R, Error> {
        let Some(runtime) = &self.runtime else { return Err(Error::bug("a runtime is gone")) };
        if Handle::try_current().is_err() {
            return runtime.block_on(future);
        }
        // A test driver in an async test: there is no waiting on the thread of a runtime.
        std::thread::scope(|scope| scope.spawn(|| runtime.block_on(future)).join())
            .unwrap_or_else(|panic| Err(Error::bug(crate::error::panic_message(&*panic))))
    }
}

impl Drop for Blocking {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // The plain drop panics in async code.
            runtime.shutdown_background();
        }
    }
}
