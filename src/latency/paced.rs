//! The load as a source: events that are due at moments fixed before the run.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use super::clock::LoadClock;
use super::record::Record;
use crate::error::Error;
use crate::event::Data;
use crate::source::{Fetched, ReadState, Reader, Replay, Resume, Source, Waker};
use crate::time::EventTime;

/// How often the flow is told that events are due: so late an event may be read on a machine
/// that does nothing else, and as many come together.
const WAKE_EVERY: Duration = Duration::from_micros(100);

/// How often the backlog is noted.
pub(super) const SLICE: Duration = Duration::from_millis(250);

/// What source, answers and load share.
pub(super) struct Pace {
    pub(super) clock: LoadClock,
    /// Events per second.
    pub(super) rate: f64,
    /// Events in all.
    pub(super) events: u64,
    /// The moment, in µs since the beginning, after which nothing more is read.
    pub(super) give_up_micros: i64,
    pub(super) read: AtomicU64,
    /// The load is somebody's source.
    pub(super) opened: AtomicBool,
    pub(super) record: Mutex<Record>,
}

impl Pace {
    /// When an event is due, in µs since the beginning.
    fn due_micros(&self, index: u64) -> i64 {
        (index as f64 / self.rate * 1e6) as i64
    }

    /// How many events are due by now.
    fn released(&self, now_micros: i64) -> u64 {
        ((now_micros as f64 * self.rate / 1e6) as u64 + 1).min(self.events)
    }

    pub(super) fn record(&self) -> std::sync::MutexGuard<'_, Record> {
        self.record.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

type MakeRow<T> = dyn Fn(u64, EventTime) -> T + Send + Sync;

/// A source of events that are due at a steady rate: see [`Setup::events`](super::Setup::events).
pub struct Paced<T> {
    pace: Arc<Pace>,
    row: Arc<MakeRow<T>>,
    /// Tells the thread that wakes the flow to stop.
    stopped: Arc<AtomicBool>,
}

impl<T: Data> Paced<T> {
    pub(super) fn new(
        pace: Arc<Pace>,
        row: impl Fn(u64, EventTime) -> T + Send + Sync + 'static,
    ) -> Self {
        Paced { pace, row: Arc::new(row), stopped: Arc::default() }
    }
}

/// A flow that could not start does not detach its sources.
impl<T> Drop for Paced<T> {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::Relaxed);
    }
}

impl<T> fmt::Debug for Paced<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Paced").field("rate", &self.pace.rate).finish_non_exhaustive()
    }
}

impl<T: Data> Source for Paced<T> {
    type Item = T;

    fn describe(&self) -> String {
        format!("Paced({} events/s)", self.pace.rate)
    }

    fn replay(&self) -> Replay {
        Replay::Lost
    }

    fn partitions(&self) -> Result<Vec<String>, Error> {
        Ok(vec!["0".to_owned()])
    }

    fn is_complete(&self) -> bool {
        true
    }

    fn open(&self, _partition: &str, resume: &Resume) -> Result<Box<dyn Reader<T>>, Error> {
        if resume.position > 0 {
            return Err(Error::plan("a load cannot go on where another one stopped"));
        }
        if self.pace.opened.swap(true, Ordering::Relaxed) {
            return Err(Error::plan("a load is one source: `events` was used for two"));
        }
        self.pace.clock.begin();
        Ok(Box::new(PacedReader { pace: self.pace.clone(), row: self.row.clone(), next: 0 }))
    }

    fn attach(&self, waker: Waker) -> Result<(), Error> {
        let (pace, stopped) = (self.pace.clone(), self.stopped.clone());
        thread::Builder::new()
            .name("highwater-paced".to_owned())
            .spawn(move || wake(&pace, &waker, &stopped))
            .map_err(|e| Error::io("cannot start a thread", e))?;
        Ok(())
    }

    fn detach(&self) {
        self.stopped.store(true, Ordering::Relaxed);
    }
}

/// Wakes the flow whenever more events are due, and notes how many wait.
fn wake(pace: &Pace, waker: &Waker, stopped: &AtomicBool) {
    let (mut told, mut slices) = (0, 0);
    let slice = SLICE.as_micros() as i64;
    while !stopped.load(Ordering::Relaxed) {
        thread::sleep(WAKE_EVERY);
        if !pace.clock.has_begun() {
            continue;
        }
        let now = pace.clock.now_micros();
        let released = pace.released(now);
        let read = pace.read.load(Ordering::Relaxed);
        if released > told || released > read || now > pace.give_up_micros {
            told = released;
            waker.wake_partition("0");
        }
        if now / slice > slices {
            slices = now / slice;
            pace.record().note_backlog(slices, released.saturating_sub(read));
        }
    }
}

struct PacedReader<T> {
    pace: Arc<Pace>,
    row: Arc<MakeRow<T>>,
    next: u64,
}

impl<T: Data> Reader<T> for PacedReader<T> {
    fn read(&mut self, limit: usize, fetched: &mut Fetched<T>) -> Result<ReadState, Error> {
        let pace = &*self.pace;
        let now = pace.clock.now_micros();
        let released = pace.released(now);
        let stop = released.min(self.next.saturating_add(limit as u64));
        for index in self.next..stop {
            let due = pace.clock.event_time(pace.due_micros(index));
            fetched.push(index, (self.row)(index, due));
        }
        self.next = stop.max(self.next);
        pace.read.store(self.next, Ordering::Relaxed);
        Ok(if self.next == pace.events || now > pace.give_up_micros {
            ReadState::End
        } else if self.next < released {
            ReadState::More
        } else {
            ReadState::Pending
        })
    }

    fn position(&self) -> u64 {
        self.next
    }
}
