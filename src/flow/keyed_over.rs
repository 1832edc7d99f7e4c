//! Keyed streams with an aggregate over the time before each event.

use std::panic::Location;

use super::keyed::{Keyed, declare_ttl};
use super::keyed_process::in_order;
use super::ports::WithLate;
use super::stream::{Spec, Timed};
use crate::aggregate::Aggregate;
use crate::event::{Data, Stored};
use crate::keyed::{KeyOf, Over, Ttl};
use crate::time::{Span, micros};

/// A keyed stream with a span before each event, waiting for an aggregate.
#[must_use = "a span does nothing until it is aggregated"]
pub struct Overed<T, K> {
    keyed: Keyed<T, K, Timed>,
    id: String,
    span: Span,
    location: &'static Location<'static>,
}

impl<T: Data, K: KeyOf<T>> Keyed<T, K, Timed> {
    /// For each event at `t`, an aggregate of the key's events in `[t - span, t]`: SQL's `OVER
    /// (PARTITION BY key ORDER BY time RANGE span PRECEDING)`. As there, events of equal time
    /// see each other, and all get the same value. Each result has the time of its event.
    ///
    /// ```
    /// use highwater::prelude::*;
    ///
    /// let flow = Flow::new("rates");
    /// let at = EventTime::from_seconds;
    /// let calls = [(1, at(0)), (1, at(4)), (1, at(4)), (1, at(10)), (1, at(30))];
    /// let (sink, out) = highwater::sink::channel();
    /// flow.source("calls", Memory::of(calls))
    ///     .event_time(|c| c.1, Disorder::ascending())
    ///     .key_by(|c: &(u32, EventTime)| &c.0)
    ///     .over("rate", seconds(10))
    ///     .aggregate(Count)
    ///     .drop_late("calls come in order")
    ///     .map(|(_, count)| count)
    ///     .sink("out", sink);
    /// flow.run(Settings::in_memory())?;
    /// assert_eq!(out.collect::<Vec<_>>(), [1, 3, 3, 4, 1]);
    /// # Ok::<(), highwater::Error>(())
    /// ```
    #[track_caller]
    pub fn over(&self, id: &str, span: Span) -> Overed<T, K> {
        Overed { keyed: self.clone(), id: id.to_owned(), span, location: Location::caller() }
    }
}

impl<T: Data, K: KeyOf<T>> Overed<T, K> {
    /// Adds the aggregate to each event. What is kept of a key is one aggregate for each time in
    /// the last `span`; it is stored as a whole, and goes by itself. An event costs a few merges,
    /// however many there are.
    pub fn aggregate<A: Aggregate<T>>(self, aggregate: A) -> WithLate<(T, A::Output), T>
    where
        T: Stored,
    {
        let Overed { keyed, id, span, location } = self;
        let params = format!("{span}, {}", aggregate.describe());
        let fault = (span < Span::ZERO).then(|| format!("over {span}: it reaches into the future"));
        let spec = Spec { fault, ..in_order("over", params) };
        let node = keyed.add_rules(&id, spec, Over { span, aggregate }, None, location);
        // The first time that sees nothing of what was last written.
        declare_ttl(&keyed.stream.plan, node, Ttl::from_write(span + micros(1)));
        keyed.results(node)
    }
}
