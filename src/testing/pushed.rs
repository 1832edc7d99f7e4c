//! A source whose events are pushed by the test.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::error::Error;
use crate::event::Data;
use crate::source::{Fetched, ReadState, Reader, Replay, Resume, Source, Waker};

/// A source for tests: partitions that hold what is pushed, and can be read again after a crash.
///
/// See [`TestDriver`](super::TestDriver) for its use.
#[derive(Clone)]
pub struct Pushed<T> {
    log: Arc<Mutex<Log<T>>>,
}

struct Log<T> {
    partitions: Vec<Vec<T>>,
    ended: Vec<bool>,
    /// Partitions that the source does not name.
    taken: Vec<usize>,
    complete: bool,
    waker: Option<Waker>,
}

impl<T: Data> Pushed<T> {
    /// Partitions `0` to `count - 1`, empty.
    #[must_use]
    pub fn partitions(count: usize) -> Self {
        let partitions = (0..count).map(|_| Vec::new()).collect();
        let log = Log {
            partitions,
            ended: vec![false; count],
            taken: Vec::new(),
            complete: false,
            waker: None,
        };
        Pushed { log: Arc::new(Mutex::new(log)) }
    }

    fn lock(&self) -> MutexGuard<'_, Log<T>> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Appends an event to a partition; a partition not seen before is discovered.
    pub fn push(&self, partition: usize, event: T) {
        let mut log = self.lock();
        while log.partitions.len() <= partition {
            log.partitions.push(Vec::new());
            log.ended.push(false);
        }
        log.partitions[partition].push(event);
        log.wake();
    }

    /// Takes a partition away, as if another process read it from now on: what is pushed to it
    /// stays there.
    pub fn take_away(&self, partition: usize) {
        let mut log = self.lock();
        log.taken.push(partition);
        log.wake();
    }

    /// Gives a partition back that was taken away.
    pub fn give_back(&self, partition: usize) {
        let mut log = self.lock();
        log.taken.retain(|taken| *taken != partition);
        log.wake();
    }

    /// Ends one partition.
    pub fn finish_partition(&self, partition: usize) {
        let mut log = self.lock();
        if let Some(ended) = log.ended.get_mut(partition) {
            *ended = true;
        }
        log.wake();
    }

    /// Ends every partition: no more will come.
    pub fn finish(&self) {
        let mut log = self.lock();
        log.ended.iter_mut().for_each(|ended| *ended = true);
        log.complete = true;
        log.wake();
    }
}

impl<T> Log<T> {
    fn wake(&self) {
        if let Some(waker) = &self.waker {
            waker.wake();
        }
    }
}

impl<T: Data> Source for Pushed<T> {
    type Item = T;

    fn describe(&self) -> String {
        "pushed by a test".to_owned()
    }

    fn replay(&self) -> Replay {
        Replay::Exact
    }

    fn partitions(&self) -> Result<Vec<String>, Error> {
        let log = self.lock();
        let there = (0..log.partitions.len()).filter(|index| !log.taken.contains(index));
        Ok(there.map(|index| index.to_string()).collect())
    }

    fn is_complete(&self) -> bool {
        self.lock().complete
    }

    fn attach(&self, waker: Waker) -> Result<(), Error> {
        self.lock().waker = Some(waker);
        Ok(())
    }

    fn open(&self, partition: &str, resume: &Resume) -> Result<Box<dyn Reader<T>>, Error> {
        let partition =
            partition.parse().map_err(|_| Error::input("a partition of a test is a number"))?;
        Ok(Box::new(PushedReader { source: self.clone(), partition, next: resume.position }))
    }
}

struct PushedReader<T> {
    source: Pushed<T>,
    partition: usize,
    next: u64,
}

impl<T: Data> Reader<T> for PushedReader<T> {
    fn read(&mut self, limit: usize, fetched: &mut Fetched<T>) -> Result<ReadState, Error> {
        let log = self.source.lock();
        let events = &log.partitions[self.partition];
        for event in events.iter().skip(self.next as usize).take(limit) {
            fetched.push(self.next, event.clone());
            self.next += 1;
        }
        Ok(match (self.next as usize) < events.len() {
            true => ReadState::More,
            false if log.ended[self.partition] => ReadState::End,
            false => ReadState::Pending,
        })
    }

    fn position(&self) -> u64 {
        self.next
    }
}
