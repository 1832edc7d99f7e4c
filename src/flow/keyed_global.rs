//! Keyed streams in one window for all time.

use std::panic::Location;

use super::keyed::{Keyed, Undeclared};
use super::keyed_count::{CountResults, TOLD_AT_END};
use super::keyed_process::in_order;
use super::stream::{Spec, Timed};
use crate::aggregate::Aggregate;
use crate::event::{Data, Stored};
use crate::keyed::{GlobalTrigger, KeyOf, Plain, Triggered};

/// A keyed stream in one window for all time, waiting for an aggregate.
#[must_use = "a window does nothing until it is aggregated"]
pub struct GlobalWindowed<T, K> {
    keyed: Keyed<T, K, Timed>,
    id: String,
    trigger: GlobalTrigger,
    location: &'static Location<'static>,
}

impl<T: Data, K: KeyOf<T>> Keyed<T, K, Timed> {
    /// One window for all time per key, whose content `trigger` lets out now and then, in order
    /// of event time. A result has the time of the event, or of the multiple, that let it out.
    ///
    /// ```
    /// use highwater::prelude::*;
    ///
    /// let flow = Flow::new("totals");
    /// let at = EventTime::from_seconds;
    /// let sales = [(1, 10, at(1)), (1, 20, at(4)), (1, 30, at(5)), (1, 40, at(17))];
    /// let (sink, out) = highwater::sink::channel();
    /// flow.source("sales", Memory::of(sales))
    ///     .event_time(|s| s.2, Disorder::ascending())
    ///     .key_by(|s: &(u32, i64, EventTime)| &s.0)
    ///     .global("totals", GlobalTrigger::every(seconds(5)).accumulating())
    ///     .aggregate(Sum::of(|s: &(u32, i64, EventTime)| s.1))
    ///     .unbounded()
    ///     .drop_late("sales come in order")
    ///     .map(|r| (r.index, r.value))
    ///     .sink("out", sink);
    /// flow.run(Settings::in_memory())?;
    /// // At 5 s, 10 s and 20 s; at 15 s there was nothing new.
    /// assert_eq!(out.collect::<Vec<_>>(), [(0, 30), (1, 60), (2, 100)]);
    /// # Ok::<(), highwater::Error>(())
    /// ```
    #[track_caller]
    pub fn global(&self, id: &str, trigger: GlobalTrigger) -> GlobalWindowed<T, K> {
        let (keyed, location) = (self.clone(), Location::caller());
        GlobalWindowed { keyed, id: id.to_owned(), trigger, location }
    }
}

impl<T: Data, K: KeyOf<T>> GlobalWindowed<T, K> {
    /// Aggregates the rows of each key.
    pub fn aggregate<A: Aggregate<T>>(self, aggregate: A) -> Undeclared<CountResults<T, K, A>>
    where
        T: Stored,
    {
        let GlobalWindowed { keyed, id, trigger, location } = self;
        let params = format!("{trigger}, {}", aggregate.describe());
        let spec = Spec { fault: trigger.fault(), ..in_order("global", params) };
        let results =
            keyed.undeclared(&id, spec, Plain(Triggered { trigger, aggregate }), location);
        if trigger.at_end() {
            results.refuse_ttl(TOLD_AT_END);
        }
        results
    }
}
