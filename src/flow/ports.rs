//! Streams with a further port: skewed events, dead letters, late events.

use std::ops::Deref;

use super::plan::PortRef;
use super::stream::{Raw, Stream, Timed, Untimed};
use crate::event::{Data, Late, Skewed};
use crate::source::DeadLetter;

/// A stream with event time, with its port of events whose time was too far ahead; see
/// [`Disorder::at_most_ahead`].
pub struct TimedStream<T> {
    rows: Stream<T, Timed>,
    skewed: Stream<Skewed<T>, Untimed>,
}

impl<T> Clone for TimedStream<T> {
    fn clone(&self) -> Self {
        TimedStream { rows: self.rows.clone(), skewed: self.skewed.clone() }
    }
}

impl<T> TimedStream<T> {
    pub(super) fn new(rows: Stream<T, Timed>, skewed: Stream<Skewed<T>, Untimed>) -> Self {
        TimedStream { rows, skewed }
    }

    /// The stream itself, where a [`Stream`] is asked for by value.
    #[must_use]
    pub fn stream(&self) -> Stream<T, Timed> {
        self.rows.clone()
    }

    /// The events whose time was too far ahead. There are none without a cap, and none unless
    /// its policy is [`Skew::DeadLetter`].
    #[must_use]
    pub fn skewed(&self) -> Stream<Skewed<T>, Untimed> {
        self.skewed.clone()
    }

    /// Leaves skewed events unheard, for a reason that the plan prints. They still count as dead.
    pub fn drop_skewed(&self, why: &str) -> Stream<T, Timed> {
        drop_port(&self.skewed, why);
        self.rows.clone()
    }
}

impl<T> Deref for TimedStream<T> {
    type Target = Stream<T, Timed>;
    fn deref(&self) -> &Stream<T, Timed> {
        &self.rows
    }
}

impl<T> From<TimedStream<T>> for Stream<T, Timed> {
    fn from(timed: TimedStream<T>) -> Self {
        timed.rows
    }
}

/// A source's stream, with its port of dead letters.
pub struct SourceStream<T> {
    rows: Stream<T, Raw>,
    dead: Stream<DeadLetter, Untimed>,
}

impl<T> SourceStream<T> {
    pub(crate) fn new(rows: Stream<T, Raw>, dead: Stream<DeadLetter, Untimed>) -> Self {
        SourceStream { rows, dead }
    }

    /// Input that could not be decoded, if the source is told to send it here: see
    /// [`Undecodable::DeadLetter`](crate::source::Undecodable::DeadLetter).
    #[must_use]
    pub fn dead_letters(&self) -> Stream<DeadLetter, Untimed> {
        self.dead.clone()
    }

    /// Leaves dead letters unheard, for a reason that the plan prints.
    #[must_use]
    pub fn drop_dead_letters(&self, why: &str) -> Stream<T, Raw> {
        drop_port(&self.dead, why);
        self.rows.clone()
    }
}

impl<T> Deref for SourceStream<T> {
    type Target = Stream<T, Raw>;
    fn deref(&self) -> &Stream<T, Raw> {
        &self.rows
    }
}

pub(super) fn drop_port<T, M>(stream: &Stream<T, M>, why: &str) {
    let PortRef { node, port } = stream.port;
    let mut plan = stream.plan.lock();
    if let Some(out) = plan.nodes.get_mut(node).and_then(|n| n.outputs.get_mut(port)) {
        out.dropped = Some(why.to_owned());
    }
}

/// The results of an operator, with its late port. The flow does not build unless the late port
/// is consumed or dropped for a reason.
pub struct WithLate<O, T, M = Timed> {
    results: Stream<O, M>,
    late: Stream<Late<T>, Untimed>,
}

impl<O, T, M> WithLate<O, T, M> {
    pub(crate) fn new(results: Stream<O, M>, late: Stream<Late<T>, Untimed>) -> Self {
        WithLate { results, late }
    }

    /// The events that came too late.
    #[must_use]
    pub fn late(&self) -> Stream<Late<T>, Untimed> {
        self.late.clone()
    }

    /// Leaves late events unheard, for a reason that the plan prints. They are still counted.
    pub fn drop_late(&self, why: &str) -> Stream<O, M> {
        drop_port(&self.late, why);
        self.results.clone()
    }
}

impl<O: Data, T, M: 'static> WithLate<O, T, M> {
    /// Each result as any number of others; the late port stays.
    #[track_caller]
    pub(crate) fn flat_map_results<U: Data, I: IntoIterator<Item = U> + 'static>(
        self,
        f: impl Fn(O) -> I + Send + Sync + 'static,
    ) -> WithLate<U, T, M> {
        WithLate { results: self.results.flat_map(f), late: self.late }
    }
}

impl<O, T, M> Deref for WithLate<O, T, M> {
    type Target = Stream<O, M>;
    fn deref(&self) -> &Stream<O, M> {
        &self.results
    }
}
