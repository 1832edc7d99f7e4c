//! Where results go.
//!
//! A sink has two halves: an [`Encoder`] per worker, on the worker's thread, turns rows into
//! chunks; one [`SinkWriter`], on the thread that commits, makes them visible.

mod channel;
mod claim;
mod csv;
mod files;
mod json_lines;
#[cfg(feature = "kafka")]
mod kafka;
#[cfg(feature = "postgres")]
pub(crate) mod postgres;
mod stdout;

use std::any::Any;
use std::fmt;

pub use channel::{Received, channel};
pub use claim::{Claim, Mark, Stamp};
pub use csv::Csv;
pub use json_lines::JsonLines;
#[cfg(feature = "kafka")]
pub use kafka::{Json, Kafka, KafkaDelivery, KafkaPoint, KafkaValue};
pub use stdout::Stdout;

use crate::error::{BoxError, Error};
use crate::event::Data;
use crate::time::{EventTime, Tick};

/// What a sink promises about each result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Guarantee {
    /// Visible once, or not at all while its input is lost between commits.
    AtMostOnce,
    /// Visible once or, after a crash, again.
    AtLeastOnce,
    /// Visible exactly once, as soon as the commit that holds it is durable.
    ExactlyOnce,
}

impl fmt::Display for Guarantee {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Guarantee::AtMostOnce => "at most once",
            Guarantee::AtLeastOnce => "at least once",
            Guarantee::ExactlyOnce => "exactly once",
        })
    }
}

/// Output of one worker and tick on its way to the writer.
pub type Chunk = Box<dyn Any + Send>;

/// A destination for rows of type `T`.
pub trait Sink<T: Data>: Send + Sync + 'static {
    /// How the plan prints the sink.
    fn describe(&self) -> String;

    /// What the sink promises.
    fn guarantee(&self) -> Guarantee;

    /// An encoder for one worker.
    fn encoder(&self) -> Box<dyn Encoder<T>>;

    /// Opens the writer, which finishes or removes what a crash left.
    ///
    /// # Errors
    /// Where the destination cannot be used.
    fn open(&self, opening: &Opening<'_>) -> Result<Box<dyn SinkWriter>, Error>;
}

/// What a writer is told when it is opened. The default is that of a flow without a name that has
/// not committed anything.
#[derive(Clone, Copy, Debug, Default)]
pub struct Opening<'a> {
    /// The name of the flow.
    pub flow: &'a str,
    /// The id of the sink.
    pub sink: &'a str,
    /// What [`SinkWriter::stage`] returned in the last commit; `None` where there has been none.
    pub token: Option<&'a [u8]>,
    /// The last tick of the last commit; 0 where there has been none.
    pub committed: Tick,
    /// How many letters an earlier run may not have sent: they are sent next.
    pub letters: usize,
}

#[cfg(test)]
impl<'a> Opening<'a> {
    /// With this token, and nothing else.
    pub(crate) fn with(token: Option<&'a [u8]>) -> Self {
        Opening { token, ..Opening::default() }
    }
}

/// Turns rows into chunks, on a worker's thread.
pub trait Encoder<T> {
    /// Takes rows in. `times` is as long as `rows`, or empty where there is no event time.
    ///
    /// # Errors
    /// A row that cannot be encoded stops the flow.
    fn encode(&mut self, rows: Vec<T>, times: &[EventTime]) -> Result<(), BoxError>;

    /// What has been taken in since the last call; `None` if nothing.
    fn take(&mut self) -> Option<Chunk>;
}

/// What a commit is, to a sink.
#[derive(Clone, Copy, Debug)]
pub struct CommitInfo {
    /// The last tick that the commit covers.
    pub tick: Tick,
    /// The tick clock in microseconds since the Unix epoch.
    pub clock_micros: i64,
    /// Whether the flow stops after this commit.
    pub last: bool,
}

/// Output of one commit that was durable with it, on its way to a target that takes it in one
/// transaction with the [stamp](Claim::stamp) by which the target knows what it has.
#[derive(Clone, Copy, Debug)]
pub struct Letter<'a> {
    /// The last tick of its commit. It rises with each letter, over all starts on one state.
    pub tick: Tick,
    /// What [`SinkWriter::outbox`] returned.
    pub bytes: &'a [u8],
}

/// Makes output visible, on the thread that commits. All calls come in this order: any number of
/// `write`, `stage`, `outbox`, then, when the commit is durable, `send` and `publish`.
///
/// There are two ways to exactly once. A target whose output can be hidden, as files can, is
/// written in `stage` and shown in `publish`. A target with transactions leaves its output in the
/// outbox, which is part of the commit, and takes it from there together with a stamp: see
/// [`Claim`].
pub trait SinkWriter: Send {
    /// Output of a sealed tick, not yet covered by a commit.
    ///
    /// # Errors
    /// Stops the flow.
    fn write(&mut self, tick: Tick, chunk: Chunk) -> Result<(), Error>;

    /// Makes everything written durable without making it visible, and returns what a writer
    /// needs to know after a crash. The token is part of the commit.
    ///
    /// # Errors
    /// Stops the flow; the commit does not take place.
    fn stage(&mut self, commit: &CommitInfo) -> Result<Vec<u8>, Error> {
        let _ = commit;
        Ok(Vec::new())
    }

    /// When, in microseconds on the tick clock, a commit is wanted though nothing may have changed:
    /// it would make output visible that is hidden now, or what the writer claimed durable. `None`
    /// if that is of no use. Asked when the writer has been opened, and after each commit.
    fn due_micros(&self) -> Option<i64> {
        None
    }

    /// Output of this commit that is to be durable with it, until it has been sent.
    fn outbox(&mut self) -> Option<Vec<u8>> {
        None
    }

    /// The commit is durable: sends its letter, with its stamp in the same transaction of the
    /// target. At a start it is called for each letter that an earlier run may not have sent,
    /// oldest first.
    ///
    /// # Errors
    /// Stops the flow; a restart sends the letter again. Where a later start of the flow has
    /// claimed the target, that must be the error.
    fn send(&mut self, letter: &Letter<'_>) -> Result<(), Error> {
        Err(Error::state(format!(
            "output of the commit of tick {} waits to be sent, and this sink cannot send it: start \
             the flow once with the sink that made it",
            letter.tick.0
        )))
    }

    /// The commit is durable: makes visible what was staged for it.
    ///
    /// # Errors
    /// Stops the flow; a restart finishes what was left.
    fn publish(&mut self) -> Result<(), Error> {
        Ok(())
    }
}
