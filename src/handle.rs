//! The handle of a running flow.

use std::path::PathBuf;
use std::sync::mpsc::{self, Sender};
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use tokio::sync::watch;

use crate::error::Error;
use crate::metrics::Metrics;

/// A running flow. Dropping the handle asks the flow to stop cleanly, and does not wait for it.
pub struct Handle {
    inner: Arc<Inner>,
    finished: watch::Receiver<bool>,
}

/// What the handle and the flow's thread share.
pub(crate) struct Inner {
    stop: Box<dyn Fn() + Send + Sync>,
    snapshot: Box<dyn Fn(Reply) + Send + Sync>,
    metrics: Mutex<Metrics>,
    result: Mutex<Ending>,
    ended: Condvar,
}

#[derive(Default)]
struct Ending {
    is_known: bool,
    result: Option<Result<(), Error>>,
}

/// The flow's end of a handle. If its thread dies, the handle is told so.
pub(crate) struct HandleOwner {
    inner: Arc<Inner>,
    finished: watch::Sender<bool>,
}

/// Where the answer to a request for a snapshot goes.
pub(crate) type Reply = Sender<Result<PathBuf, Error>>;

pub(crate) fn pair(
    stop: impl Fn() + Send + Sync + 'static,
    snapshot: impl Fn(Reply) + Send + Sync + 'static,
) -> (Handle, HandleOwner) {
    let (sender, finished) = watch::channel(false);
    let inner = Arc::new(Inner {
        stop: Box::new(stop),
        snapshot: Box::new(snapshot),
        metrics: Mutex::default(),
        result: Mutex::default(),
        ended: Condvar::new(),
    });
    (Handle { inner: inner.clone(), finished }, HandleOwner { inner, finished: sender })
}

impl HandleOwner {
    pub(crate) fn publish(&self, metrics: Metrics) {
        *self.inner.metrics.lock().unwrap_or_else(PoisonError::into_inner) = metrics;
    }

    pub(crate) fn finish(self, result: Result<(), Error>) {
        self.settle(result);
    }

    fn settle(&self, result: Result<(), Error>) {
        let mut ending = self.inner.result.lock().unwrap_or_else(PoisonError::into_inner);
        if !ending.is_known {
            *ending = Ending { is_known: true, result: Some(result) };
        }
        drop(ending);
        self.inner.ended.notify_all();
        // No receiver is left if the handle was dropped.
        let _ = self.finished.send(true);
    }
}

impl Drop for HandleOwner {
    fn drop(&mut self) {
        self.settle(Err(Error::bug("the flow's thread died without a word")));
    }
}

impl Handle {
    /// A snapshot of the metrics, at most 50 ms old while the flow is busy.
    #[must_use]
    pub fn metrics(&self) -> Metrics {
        self.inner.metrics.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether the flow has ended, for whatever reason.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        *self.finished.borrow()
    }

    /// Stops the flow cleanly: the open ticks are finished and committed, windows stay open, and
    /// a later run goes on from there.
    ///
    /// # Errors
    /// Whatever stopped the flow before it could stop cleanly.
    pub async fn shutdown(self) -> Result<Metrics, Error> {
        self.stop();
        self.join().await
    }

    /// Waits until the flow ends by itself: by the end of its input, or by an error.
    ///
    /// # Errors
    /// Whatever stopped the flow.
    pub async fn join(mut self) -> Result<Metrics, Error> {
        // The sender is dropped only after it has sent, or with a thread that died.
        let _ = self.finished.wait_for(|finished| *finished).await;
        self.take_result()
    }

    /// As [`join`](Self::join), blocking the thread. Not for use inside an async runtime.
    ///
    /// # Errors
    /// Whatever stopped the flow.
    pub fn wait(self) -> Result<Metrics, Error> {
        let ending = self.inner.result.lock().unwrap_or_else(PoisonError::into_inner);
        let ending = self.inner.ended.wait_while(ending, |ending| !ending.is_known);
        drop(ending.unwrap_or_else(PoisonError::into_inner));
        self.take_result()
    }

    /// Takes a snapshot of the last commit while the flow goes on, waits for it, and returns its
    /// directory: it can be copied, verified and restored as one tree. Blocks the thread.
    ///
    /// # Errors
    /// Where it cannot be written, the flow has ended, or its state is in memory.
    pub fn snapshot(&self) -> Result<PathBuf, Error> {
        let (reply, answer) = mpsc::channel();
        (self.inner.snapshot)(reply);
        let gone = |_| Error::state("no snapshot was taken: the flow has ended");
        answer.recv().map_err(gone)?
    }

    /// Asks the flow to stop, and returns at once.
    pub fn stop(&self) {
        (self.inner.stop)();
    }

    /// From now on Ctrl-C stops the flow cleanly; a second one ends the process at once.
    /// [`Flow::run`](crate::Flow::run) does this by itself.
    ///
    /// # Errors
    /// Where the signal cannot be listened for.
    pub fn stop_on_ctrl_c(&self) -> Result<(), Error> {
        crate::engine::stop_on_ctrl_c(self)
    }

    pub(crate) fn stopper(&self) -> impl Fn() + Send + 'static {
        let inner = self.inner.clone();
        move || (inner.stop)()
    }

    fn take_result(&self) -> Result<Metrics, Error> {
        let result = self.inner.result.lock().unwrap_or_else(PoisonError::into_inner).result.take();
        match result {
            Some(Ok(())) => Ok(self.metrics()),
            Some(Err(error)) => Err(error),
            None => Err(Error::bug("the result of the flow was taken twice")),
        }
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.stop();
    }
}
