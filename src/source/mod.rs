//! Where events come from.
//!
//! A [`Source`] names its partitions and opens a [`Reader`] for each. Readers live on worker
//! threads and are asked for rows once per tick; they never block.

mod channel;
mod files;
mod generator;
#[cfg(feature = "kafka")]
mod kafka;
mod memory;
mod policy;
#[cfg(feature = "postgres")]
pub(crate) mod postgres;
pub(crate) mod signal;
mod tcp;
mod then;

use std::fmt;
use std::sync::Arc;

use serde::Serialize;

pub use channel::{ChannelSender, ChannelSource, Receipt, SendError, channel};
pub use files::{CsvFiles, JsonLinesFiles};
pub use generator::{Generated, GeneratedSource, Generator};
#[cfg(all(feature = "kafka", feature = "avro"))]
pub use kafka::Schemas;
#[cfg(feature = "kafka")]
pub use kafka::{Kafka, KafkaSource, OutOfRange, Record, Recorded, Start};
pub use memory::Memory;
pub use tcp::TcpLines;
pub use then::Then;

use crate::buffers::buffer;
use crate::error::Error;
use crate::event::{Data, Positions};

/// What to do with input that cannot be decoded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Undecodable {
    /// Stop the flow with an error that names source, partition and position.
    #[default]
    Fail,
    /// Leave it out, and count it as dead.
    Skip,
    /// Send it to the source's port of dead letters, which must then be consumed.
    DeadLetter,
}

/// Input that could not be decoded, as it came.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DeadLetter {
    /// The undecoded bytes.
    #[serde(serialize_with = "lossy")]
    pub raw: Vec<u8>,
    /// What was wrong with them.
    pub error: String,
    /// The partition they came from.
    pub partition: String,
    /// Where in the partition they stand.
    pub position: u64,
}

fn lossy<S: serde::Serializer>(raw: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&String::from_utf8_lossy(raw))
}

/// Whether a source can give its events again after a crash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Replay {
    /// Any position can be read again.
    Exact,
    /// What was read since the last commit is gone with the process.
    Lost,
}

/// Tells the flow that a source has something to read, or that its partitions have changed.
/// Cheap, and callable from any thread.
#[derive(Clone)]
pub struct Waker(Arc<Wake>);

/// Wakes for one partition, or for all.
type Wake = dyn Fn(Option<&str>) + Send + Sync;

impl Waker {
    pub(crate) fn new(wake: impl Fn(Option<&str>) + Send + Sync + 'static) -> Self {
        Waker(Arc::new(wake))
    }

    /// Wakes the flow: it lists the partitions anew and looks into every one of them.
    pub fn wake(&self) {
        (self.0)(None);
    }

    /// A waker whose [`wake`](Self::wake) is for one partition.
    pub(crate) fn for_partition(&self, partition: &str) -> Waker {
        let (waker, partition) = (self.clone(), partition.to_owned());
        Waker::new(move |_| waker.wake_partition(&partition))
    }

    /// Wakes the flow for one partition: only that one is looked into, however many there are.
    /// One that the flow does not know yet makes it list the partitions.
    pub fn wake_partition(&self, partition: &str) {
        (self.0)(Some(partition));
    }
}

impl fmt::Debug for Waker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Waker")
    }
}

/// Where a partition's reader goes on.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Resume {
    /// The position of the first event not yet read; 0 at the start.
    pub position: u64,
    /// What [`Reader::check`] said when the position was committed; empty at the start.
    pub check: String,
}

/// A partitioned source of events.
///
/// Errors that a source returns stop the flow, which names the source (and partition) in them.
pub trait Source: Send + Sync + 'static {
    /// What an event is.
    type Item: Data;

    /// How the plan prints the source.
    fn describe(&self) -> String;

    /// Whether its events can be read again.
    fn replay(&self) -> Replay;

    /// The identities of all partitions that there are now, in a stable order: called at the
    /// start and whenever the source woke the flow.
    ///
    /// A partition that has ended need not be named any more. One that has not and is missing has
    /// been taken away (given to another process, for example): it is read no further, stops
    /// holding time back, and keeps its position; when it is named again it is read on from there.
    /// Between two runs that is only allowed for one that was missing before, or whose source
    /// loses what it read ([`Replay::Lost`]).
    ///
    /// # Errors
    /// Where the partitions cannot be listed.
    fn partitions(&self) -> Result<Vec<String>, Error>;

    /// Whether no partition will be added any more: a flow ends when all its sources are
    /// complete and all partitions have ended. A source that becomes complete wakes the flow.
    fn is_complete(&self) -> bool;

    /// Where a partition begins that has no committed position yet. `first` is whether it was
    /// there when the flow started on this source for the first time: a partition that was added
    /// later begins at its beginning, or what stood in it before it was found would be lost.
    ///
    /// The answer is committed before the first event is processed, so that a crash does not move
    /// it. By default, it is the beginning.
    ///
    /// # Errors
    /// Where the position cannot be found out.
    fn start(&self, partition: &str, first: bool) -> Result<Resume, Error> {
        let _ = (partition, first);
        Ok(Resume::default())
    }

    /// Opens a partition at a position. Called on the thread of the worker that will read it.
    ///
    /// # Errors
    /// Where the partition cannot be opened, or is not the one that was read before.
    fn open(&self, partition: &str, resume: &Resume) -> Result<Box<dyn Reader<Self::Item>>, Error>;

    /// This source, and when all of its partitions have ended, another one with the same events:
    /// files and then the topic that goes on from them, for example. See [`Then`] for what it
    /// promises.
    fn then<L: Source<Item = Self::Item>>(self, live: L) -> Then<Self, L>
    where
        Self: Sized,
    {
        Then::new(self, live)
    }

    /// The partitions that the last commit knows, and whether each has ended: told before
    /// [`attach`](Source::attach), also if there are none.
    fn resume(&self, known: &[(&str, bool)]) {
        let _ = known;
    }

    /// Called once per run before anything is opened: the waker is for the source to keep.
    ///
    /// # Errors
    /// Where the source cannot start.
    fn attach(&self, waker: Waker) -> Result<(), Error> {
        let _ = waker;
        Ok(())
    }

    /// A commit has made everything before `position` durable.
    fn committed(&self, partition: &str, position: u64) {
        let _ = (partition, position);
    }

    /// The run is over, and nothing more will be committed: called once after the last
    /// [`committed`](Source::committed) of each run, however the run ended. The source lets go of
    /// sockets and threads, and tells whoever waits for a commit.
    fn detach(&self) {}

    /// What happens with undecodable input, where input is decoded.
    fn undecodable(&self) -> Undecodable {
        Undecodable::Fail
    }
}

/// What a reader found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadState {
    /// There may be more to read at once.
    More,
    /// Nothing more for now; the source wakes the flow when there is.
    Pending,
    /// Nothing came, and it cannot be told whether there is more: a server that would know is
    /// away, or was not heard yet. As [`Pending`](Self::Pending), but it does not count as
    /// silence: the partition does not become idle meanwhile. The source wakes the flow when it
    /// can be told.
    Unknown,
    /// The partition has ended.
    End,
}

/// Reads one partition.
pub trait Reader<T>: Send {
    /// Appends up to `limit` rows to `fetched`, without blocking on anything slower than a local
    /// file. Dead letters and skipped input count towards the limit.
    ///
    /// # Errors
    /// Input that cannot be decoded under [`Undecodable::Fail`], or cannot be read. Rows appended
    /// before the error are discarded.
    fn read(&mut self, limit: usize, fetched: &mut Fetched<T>) -> Result<ReadState, Error>;

    /// Where a reader would go on after what has been read.
    fn position(&self) -> u64;

    /// Something by which the partition is known again (a hash of a file's head, for example).
    fn check(&self) -> String {
        String::new()
    }
}

/// Rows as a reader appends them, with their positions.
#[derive(Debug)]
pub struct Fetched<T> {
    pub(crate) rows: Vec<T>,
    positions: Positions,
    pub(crate) dead: Vec<DeadLetter>,
    pub(crate) skipped: u64,
}

impl<T> Default for Fetched<T> {
    fn default() -> Self {
        Fetched { rows: Vec::new(), positions: Positions::From(0), dead: Vec::new(), skipped: 0 }
    }
}

impl<T> Fetched<T> {
    pub(crate) fn with_capacity(rows: usize) -> Self
    where
        T: 'static,
    {
        Fetched { rows: buffer(rows), ..Fetched::default() }
    }

    /// Appends a row that stands at `position`. Positions rise.
    #[inline]
    pub fn push(&mut self, position: u64, row: T) {
        let count = self.rows.len() as u64;
        match &mut self.positions {
            Positions::From(first) if first.wrapping_add(count) == position => {}
            _ => self.list_position(position),
        }
        self.rows.push(row);
    }

    /// Appends rows that stand one after the other, the first of them at `first`.
    pub fn extend(&mut self, first: u64, rows: impl IntoIterator<Item = T>) {
        let count = self.rows.len() as u64;
        match &mut self.positions {
            Positions::From(from) if count == 0 => *from = first,
            Positions::From(from) if from.wrapping_add(count) == first => {}
            _ => return rows.into_iter().zip(first..).for_each(|(row, at)| self.push(at, row)),
        }
        self.rows.extend(rows);
    }

    /// The position does not follow on the one before.
    fn list_position(&mut self, position: u64) {
        let count = self.rows.len() as u64;
        match &mut self.positions {
            Positions::From(first) if count == 0 => *first = position,
            Positions::Listed(list) => list.push(position),
            positions => {
                let listed = (0..self.rows.len()).map(|index| positions.at(index));
                *positions = Positions::Listed(listed.chain([position]).collect());
            }
        }
    }

    /// Appends input that could not be decoded.
    pub fn push_dead(&mut self, letter: DeadLetter) {
        self.dead.push(letter);
    }

    /// Counts input that was left out.
    pub fn skip(&mut self) {
        self.skipped += 1;
    }

    /// How many events were appended or left out.
    #[must_use]
    pub fn len(&self) -> usize {
        self.rows.len() + self.dead.len() + self.skipped as usize
    }

    /// Whether nothing was appended or left out.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(crate) fn into_parts(self) -> (Vec<T>, Positions, Vec<DeadLetter>) {
        (self.rows, self.positions, self.dead)
    }
}
