//! Keyed streams in windows of so many events.

use std::panic::Location;

use super::keyed::{Keyed, Undeclared};
use super::keyed_process::in_order;
use super::ports::WithLate;
use super::stream::{Spec, Timed};
use crate::aggregate::Aggregate;
use crate::event::{Data, Stored};
use crate::keyed::{CountResult, CountWindows, Counting, KeyOf, Plain};

/// Results of so many events each, with the late port.
pub type CountResults<T, K, A> =
    WithLate<CountResult<<K as KeyOf<T>>::Key, <A as Aggregate<T>>::Output>, T>;

/// A keyed stream in windows of so many events, waiting for an aggregate.
#[must_use = "windows do nothing until they are aggregated"]
pub struct CountWindowed<T, K> {
    keyed: Keyed<T, K, Timed>,
    id: String,
    counting: Counting,
    location: &'static Location<'static>,
}

impl<T: Data, K: KeyOf<T>> Keyed<T, K, Timed> {
    /// Windows of `n` events of a key each, counted in order of event time. A result has the
    /// time of its last event. A window that is not full when the input ends is not told, as
    /// elsewhere, unless [`with_incomplete`](CountWindowed::with_incomplete) asks for it.
    ///
    /// ```
    /// use highwater::prelude::*;
    ///
    /// let flow = Flow::new("triples");
    /// let at = EventTime::from_seconds;
    /// let readings: Vec<(u32, EventTime)> = (0..8).map(|i| (1, at(i))).collect();
    /// let (sink, out) = highwater::sink::channel();
    /// flow.source("readings", Memory::of(readings))
    ///     .event_time(|r| r.1, Disorder::ascending())
    ///     .key_by(|r| &r.0)
    ///     .count_window("triples", 3)
    ///     .aggregate(Count)
    ///     .unbounded()
    ///     .drop_late("readings come in order")
    ///     .map(|r| (r.index, r.first, r.last))
    ///     .sink("out", sink);
    /// flow.run(Settings::in_memory())?;
    /// assert_eq!(out.collect::<Vec<_>>(), [(0, at(0), at(2)), (1, at(3), at(5))]);
    /// # Ok::<(), highwater::Error>(())
    /// ```
    #[track_caller]
    pub fn count_window(&self, id: &str, n: u64) -> CountWindowed<T, K> {
        let counting = Counting { size: n, every: n, incomplete: false };
        let (keyed, location) = (self.clone(), Location::caller());
        CountWindowed { keyed, id: id.to_owned(), counting, location }
    }
}

impl<T: Data, K: KeyOf<T>> CountWindowed<T, K> {
    /// A result with every `m`th event, `m` not above `n`, of the last `n` ones. The first
    /// results hold fewer.
    pub fn every(mut self, m: u64) -> Self {
        self.counting.every = m;
        self
    }

    /// A window that is not full when the input ends is told too, at the end of time.
    pub fn with_incomplete(mut self) -> Self {
        self.counting.incomplete = true;
        self
    }

    /// Aggregates the rows of each window. What is kept of a key is at most one window, and the
    /// number of results so far.
    pub fn aggregate<A: Aggregate<T>>(self, aggregate: A) -> Undeclared<CountResults<T, K, A>>
    where
        T: Stored,
    {
        let CountWindowed { keyed, id, counting, location } = self;
        let params = format!("{counting}, {}", aggregate.describe());
        let spec = Spec { fault: counting.fault(), ..in_order("count_window", params) };
        let results =
            keyed.undeclared(&id, spec, Plain(CountWindows { counting, aggregate }), location);
        if counting.incomplete {
            results.refuse_ttl(TOLD_AT_END);
        }
        results
    }
}

/// Why there can be no ttl.
pub(super) const TOLD_AT_END: &str =
    "what is left is to be told at the end of time, and a ttl would have forgotten it";
