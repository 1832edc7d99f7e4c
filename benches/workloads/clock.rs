//! When a flow began to read. What a flow takes to start is a figure of its own; here time runs
//! from the moment when its state is there and its source is opened.

use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use highwater::Error;
use highwater::source::{Reader, Replay, Resume, Source, Waker};

static OPENED: Mutex<Option<Instant>> = Mutex::new(None);

/// A source is opened.
pub(crate) fn open() {
    OPENED.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert_with(Instant::now);
}

/// When the first source was opened since the last call; now, if none was.
pub(crate) fn opened() -> Instant {
    OPENED.lock().unwrap_or_else(PoisonError::into_inner).take().unwrap_or_else(Instant::now)
}

/// A source that tells when it is opened.
pub(crate) struct Clocked<S>(pub(crate) S);

impl<S: Source> Source for Clocked<S> {
    type Item = S::Item;

    fn describe(&self) -> String {
        self.0.describe()
    }

    fn replay(&self) -> Replay {
        self.0.replay()
    }

    fn partitions(&self) -> Result<Vec<String>, Error> {
        self.0.partitions()
    }

    fn is_complete(&self) -> bool {
        self.0.is_complete()
    }

    fn open(&self, partition: &str, resume: &Resume) -> Result<Box<dyn Reader<S::Item>>, Error> {
        open();
        self.0.open(partition, resume)
    }

    fn attach(&self, waker: Waker) -> Result<(), Error> {
        self.0.attach(waker)
    }

    fn committed(&self, partition: &str, position: u64) {
        self.0.committed(partition, position);
    }
}
