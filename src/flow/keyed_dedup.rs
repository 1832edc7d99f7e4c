//! Keyed streams without duplicates.

use std::panic::Location;

use super::keyed::{Keyed, declare_ttl};
use super::keyed_process::{in_order, on_arrival};
use super::ports::WithLate;
use super::stream::{Spec, Timed};
use crate::event::{Data, Stored};
use crate::keyed::{Dedup, KeyOf, Plain, Ttl};
use crate::time::Span;

impl<T: Data, K: KeyOf<T>> Keyed<T, K, Timed> {
    /// Keeps the first row of a key, in order of event time, and leaves out the others that come
    /// less than `within` after it: they count as filtered. A duplicate does not prolong that
    /// time, so of a row that is repeated for ever one comes through per `within`.
    ///
    /// ```
    /// use highwater::prelude::*;
    ///
    /// let flow = Flow::new("orders");
    /// let at = EventTime::from_seconds;
    /// let orders = [(7, at(0)), (7, at(4)), (8, at(5)), (7, at(9)), (7, at(10)), (7, at(12))];
    /// let (sink, out) = highwater::sink::channel();
    /// flow.source("orders", Memory::of(orders))
    ///     .event_time(|o| o.1, Disorder::ascending())
    ///     .key_by(|o: &(u32, EventTime)| &o.0)
    ///     .dedup("once", seconds(10))
    ///     .drop_late("orders come in order")
    ///     .sink("out", sink);
    /// flow.run(Settings::in_memory().workers(1))?;
    /// // The one at 9 s did not make the one at 10 s a duplicate.
    /// assert_eq!(out.collect::<Vec<_>>(), [(7, at(0)), (8, at(5)), (7, at(10))]);
    /// # Ok::<(), highwater::Error>(())
    /// ```
    #[track_caller]
    pub fn dedup(&self, id: &str, within: Span) -> WithLate<T, T>
    where
        T: Stored,
    {
        self.add_dedup(id, in_order("dedup", String::new()), within, Location::caller())
    }

    /// As [`dedup`](Self::dedup), at once and in order of arrival: the first that comes is kept.
    /// A row is a duplicate if its time is less than `within` after the time of the one kept,
    /// or before it.
    #[track_caller]
    pub fn dedup_on_arrival(&self, id: &str, within: Span) -> WithLate<T, T>
    where
        T: Stored,
    {
        let spec = on_arrival("dedup_on_arrival", String::new());
        self.add_dedup(id, spec, within, Location::caller())
    }

    fn add_dedup(
        &self,
        id: &str,
        spec: Spec,
        within: Span,
        location: &'static Location<'static>,
    ) -> WithLate<T, T>
    where
        T: Stored,
    {
        let node = self.add_rules(id, spec, Plain(Dedup), None, location);
        declare_ttl(&self.stream.plan, node, Ttl::from_write(within));
        self.results(node)
    }
}
