//! Reference models: what windows, keyed functions and joins mean, said as slowly and plainly as
//! possible. They see all events at once, know nothing of ticks, workers or crashes, and so are
//! what an engine of class Input must agree with.

mod joins;
mod keyed;
mod windows;

pub use joins::{JoinKind, JoinedRow, as_of_join, interval_join, window_join};
pub use keyed::{KeyModel, Occasion, accepted, count_windows, dedup, over, process, triggered};
pub use windows::{Outcome, Windows, windows};

use crate::time::{EventTime, Watermark};

/// An event as models see it: where it stands, and what its partition had promised before it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Judged<T> {
    /// The event.
    pub row: T,
    /// Its event time.
    pub time: EventTime,
    /// The place of its partition.
    pub partition: usize,
    /// Its place in the partition.
    pub position: usize,
    /// The promise of its partition in force before it.
    pub promise: Watermark,
}

/// Every event of every partition with the promise in force before it, partition by partition.
/// `step` is the partition's strategy: from an event and its time to a promise, or nothing. A
/// promise never goes back.
///
/// ```
/// use highwater::testing::model::{bounded, judge};
/// use highwater::{micros, EventTime, Watermark};
///
/// let t = EventTime::from_micros;
/// let events = judge(&[vec![t(10), t(3)]], |time| *time, bounded(micros(5)));
/// assert_eq!(events[0].promise, Watermark::Unknown);
/// assert_eq!(events[1].promise, Watermark::At(t(5)), "so the event at 3 is late");
/// ```
pub fn judge<T: Clone>(
    partitions: &[Vec<T>],
    time: impl Fn(&T) -> EventTime,
    step: impl Fn(&T, EventTime) -> Option<EventTime>,
) -> Vec<Judged<T>> {
    let mut judged = Vec::new();
    for (partition, events) in partitions.iter().enumerate() {
        let mut promise = Watermark::Unknown;
        for (position, row) in events.iter().enumerate() {
            let time = time(row);
            judged.push(Judged { row: row.clone(), time, partition, position, promise });
            promise = promise.max(step(row, time).map_or(Watermark::Unknown, Watermark::At));
        }
    }
    judged
}

/// The strategy of bounded disorder, for [`judge`].
pub fn bounded<T>(bound: crate::Span) -> impl Fn(&T, EventTime) -> Option<EventTime> {
    move |_, time| Some(time - bound)
}

impl<T> Judged<T> {
    /// Whether the event is late for whatever ends at `end`, such as a fixed window.
    #[must_use]
    pub fn late_for(&self, end: EventTime) -> bool {
        matches!(self.promise, Watermark::At(promise) if end <= promise)
    }

    /// Whether the event is late for an operator that takes events one by one, such as sessions,
    /// joins and process functions.
    #[must_use]
    pub fn late(&self) -> bool {
        matches!(self.promise, Watermark::At(promise) if self.time < promise)
    }
}
