//! Events made by a pure function of (partition, index).

mod generated;

use std::collections::BTreeSet;
use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

pub use generated::{Generated, GeneratedSource};

use super::{Fetched, ReadState, Reader, Replay, Resume, Source};
use crate::error::Error;
use crate::event::Data;

/// A source whose rows are a pure function of their partition and index, so that any position
/// can be read again.
///
/// Partitions are named `0`, `1`, and so on; the position of a row is its index.
///
/// ```
/// use highwater::source::{Fetched, Generator, ReadState, Resume, Source};
/// let squares = Generator::new(2, Some(5), |partition, index| (partition, index * index));
/// let mut fetched = Fetched::default();
/// let state = squares.open("1", &Resume::default())?.read(3, &mut fetched)?;
/// assert_eq!((fetched.len(), state), (3, ReadState::More));
/// # Ok::<(), highwater::Error>(())
/// ```
pub struct Generator<T> {
    partitions: Partitions,
    /// Makes a reader whose loop is compiled for the function: no call by pointer per event.
    open: Arc<OpenRange<T>>,
}

type OpenRange<T> = dyn Fn(Range) -> Box<dyn Reader<T>> + Send + Sync;

impl<T: Data> Generator<T> {
    /// A source with `partitions` partitions of `events_per_partition` rows each, or of rows
    /// without end for `None`.
    #[must_use]
    pub fn new(
        partitions: u32,
        events_per_partition: Option<u64>,
        row: impl Fn(u32, u64) -> T + Send + Sync + 'static,
    ) -> Self {
        let row = Arc::new(row);
        Generator {
            partitions: Partitions::new(partitions, events_per_partition),
            open: Arc::new(move |range| {
                let row = row.clone();
                Box::new(RangeReader::new(range, move |partition, index| row(partition, index)))
            }),
        }
    }

    /// Makes a partition one that stays open and never brings an event: the flow then runs until
    /// it is stopped.
    #[must_use]
    pub fn silent(mut self, partition: u32) -> Self {
        self.partitions.silent.insert(partition);
        self
    }
}

impl<T> fmt::Debug for Generator<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Generator").field("partitions", &self.partitions).finish_non_exhaustive()
    }
}

impl<T: Data> Source for Generator<T> {
    type Item = T;

    fn describe(&self) -> String {
        format!("Generator({})", self.partitions)
    }

    fn replay(&self) -> Replay {
        Replay::Exact
    }

    fn partitions(&self) -> Result<Vec<String>, Error> {
        Ok(self.partitions.names())
    }

    fn is_complete(&self) -> bool {
        true
    }

    fn open(&self, partition: &str, resume: &Resume) -> Result<Box<dyn Reader<T>>, Error> {
        Ok(match self.partitions.range(partition, resume)? {
            Some(range) => (self.open)(range),
            None => Box::new(Silent { position: resume.position, check: String::new() }),
        })
    }
}

/// How many partitions of how many rows.
#[derive(Clone, Debug)]
struct Partitions {
    count: u32,
    events: Option<u64>,
    silent: BTreeSet<u32>,
}

/// What a reader still has to make of one partition.
#[derive(Clone, Copy, Debug)]
struct Range {
    partition: u32,
    next: u64,
    end: u64,
}

impl Partitions {
    fn new(count: u32, events: Option<u64>) -> Self {
        Partitions { count, events, silent: BTreeSet::new() }
    }

    fn names(&self) -> Vec<String> {
        (0..self.count).map(|partition| partition.to_string()).collect()
    }

    /// `None` for a silent partition.
    fn range(&self, name: &str, resume: &Resume) -> Result<Option<Range>, Error> {
        let partition = match name.parse() {
            Ok(partition) if partition < self.count => partition,
            _ => return Err(Error::input(format!("there is no generated partition `{name}`"))),
        };
        if self.silent.contains(&partition) {
            return Ok(None);
        }
        let end = self.events.unwrap_or(u64::MAX);
        if resume.position > end {
            return Err(Error::input(format!(
                "partition `{name}` has {end} rows, fewer than the {} that were read before",
                resume.position
            )));
        }
        Ok(Some(Range { partition, next: resume.position, end }))
    }
}

impl fmt::Display for Partitions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.events {
            Some(events) => write!(f, "{} partitions of {events} rows", self.count),
            None => write!(f, "{} endless partitions", self.count),
        }
    }
}

struct RangeReader<T, F> {
    range: Range,
    check: String,
    row: F,
    makes: PhantomData<fn() -> T>,
}

impl<T, F: Fn(u32, u64) -> T> RangeReader<T, F> {
    fn new(range: Range, row: F) -> Self {
        RangeReader { range, check: String::new(), row, makes: PhantomData }
    }

    fn checked(range: Range, check: String, row: F) -> Self {
        RangeReader { check, ..Self::new(range, row) }
    }
}

impl<T, F: Fn(u32, u64) -> T + Send> Reader<T> for RangeReader<T, F> {
    fn read(&mut self, limit: usize, fetched: &mut Fetched<T>) -> Result<ReadState, Error> {
        let Range { partition, next, end } = self.range;
        let stop = end.min(next.saturating_add(limit as u64));
        fetched.extend(next, (next..stop).map(|index| (self.row)(partition, index)));
        self.range.next = stop;
        Ok(if stop == end { ReadState::End } else { ReadState::More })
    }

    fn position(&self) -> u64 {
        self.range.next
    }

    fn check(&self) -> String {
        self.check.clone()
    }
}

/// A partition that is open and never brings anything.
struct Silent {
    position: u64,
    check: String,
}

impl<T> Reader<T> for Silent {
    fn read(&mut self, _limit: usize, _fetched: &mut Fetched<T>) -> Result<ReadState, Error> {
        Ok(ReadState::Pending)
    }

    fn position(&self) -> u64 {
        self.position
    }

    fn check(&self) -> String {
        self.check.clone()
    }
}

#[cfg(test)]
mod tests;
