//! Aggregates over a part of a window's rows, chosen when the window closes: what other engines
//! call evictors.
//!
//! They cannot aggregate as rows come: every row of the window is kept until its end, then rows
//! are sorted and the part that counts is aggregated.

use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::ordered::in_order;
use super::{Aggregate, Stamp};
use crate::event::Data;
use crate::time::{EventTime, Span};

/// Rows with their stamps, in no order until they are sorted.
type Kept<T> = Vec<(Stamp, T)>;

fn keep<T: Clone>(state: &mut Kept<T>, row: &T, stamp: &dyn Fn() -> Stamp) {
    state.push((stamp(), row.clone()));
}

/// Aggregates rows as if no others had come.
fn aggregate<T, A: Aggregate<T>>(inner: &A, rows: &[&(Stamp, T)]) -> A::Output {
    let mut state = inner.init();
    for (stamp, row) in rows {
        inner.add(&mut state, row, &|| stamp.clone());
    }
    inner.finish(state)
}

macro_rules! keeps_all_rows {
    () => {
        type State = Kept<T>;
        type Output = A::Output;

        fn needs_order(&self) -> bool {
            true
        }

        fn init(&self) -> Kept<T> {
            Vec::new()
        }

        fn add(&self, state: &mut Kept<T>, row: &T, stamp: &dyn Fn() -> Stamp) {
            keep(state, row, stamp);
        }

        fn merge(&self, into: &mut Kept<T>, mut from: Kept<T>) {
            into.append(&mut from);
        }

        fn finish(&self, state: Kept<T>) -> A::Output {
            self.peek(&state)
        }
    };
}

/// An aggregate of the last `n` rows of each key and window, by event time, then by (source,
/// partition, position).
///
/// Keeps every row until the window closes, and sorts them then.
///
/// ```
/// use highwater::{LastN, Sum};
/// let last_three = LastN::of(3, Sum::of(|price: &i64| *price));
/// # let _ = last_three;
/// ```
#[derive(Clone, Copy, Debug)]
pub struct LastN<A> {
    n: usize,
    inner: A,
}

impl<A> LastN<A> {
    /// `inner` of the last `n` rows.
    pub fn of(n: usize, inner: A) -> Self {
        LastN { n, inner }
    }
}

impl<T: Data + Serialize + DeserializeOwned, A: Aggregate<T>> Aggregate<T> for LastN<A> {
    keeps_all_rows!();

    fn describe(&self) -> String {
        format!("{} of the last {} rows", self.inner.describe(), self.n)
    }

    fn peek(&self, state: &Kept<T>) -> A::Output {
        aggregate(&self.inner, &in_order(state)[state.len().saturating_sub(self.n)..])
    }
}

/// An aggregate of the last rows of each key and window: those less than a span before the last
/// one.
///
/// Keeps every row until the window closes, and sorts them then.
///
/// ```
/// use highwater::{minutes, LastSpan, Mean};
/// let last_minute = LastSpan::of(minutes(1), Mean::of(|degrees: &f64| *degrees));
/// # let _ = last_minute;
/// ```
#[derive(Clone, Copy, Debug)]
pub struct LastSpan<A> {
    span: Span,
    inner: A,
}

impl<A> LastSpan<A> {
    /// `inner` of the rows with a time above that of the last row less `span`.
    pub fn of(span: Span, inner: A) -> Self {
        LastSpan { span, inner }
    }
}

impl<T: Data + Serialize + DeserializeOwned, A: Aggregate<T>> Aggregate<T> for LastSpan<A> {
    keeps_all_rows!();

    fn describe(&self) -> String {
        format!("{} of the last {}", self.inner.describe(), self.span)
    }

    fn peek(&self, state: &Kept<T>) -> A::Output {
        let rows = in_order(state);
        let last = rows.last().map_or(EventTime::MIN, |(stamp, _)| stamp.time);
        let first = rows.partition_point(|(stamp, _)| last - stamp.time >= self.span);
        aggregate(&self.inner, &rows[first..])
    }
}

/// An aggregate of the rows of each key and window that are near the last one, by a measure of
/// the user's own.
///
/// Keeps every row until the window closes, and sorts them then.
///
/// ```
/// use highwater::{Count, NearLast};
/// let near = NearLast::of(0.5, |price: &f64, last: &f64| (price - last).abs(), Count);
/// # let _ = near;
/// ```
pub struct NearLast<F, A> {
    threshold: f64,
    delta: Arc<F>,
    inner: A,
}

impl<F, A> NearLast<F, A> {
    /// `inner` of the rows whose `delta` from the last row is below `threshold`, and of the last
    /// row.
    pub fn of<T>(threshold: f64, delta: F, inner: A) -> Self
    where
        F: Fn(&T, &T) -> f64,
    {
        NearLast { threshold, delta: Arc::new(delta), inner }
    }
}

impl<T, F, A> Aggregate<T> for NearLast<F, A>
where
    T: Data + Serialize + DeserializeOwned,
    F: Fn(&T, &T) -> f64 + Send + Sync + 'static,
    A: Aggregate<T>,
{
    keeps_all_rows!();

    fn describe(&self) -> String {
        format!("{} of rows nearer than {} to the last", self.inner.describe(), self.threshold)
    }

    fn peek(&self, state: &Kept<T>) -> A::Output {
        let mut rows = in_order(state);
        if let Some(last) = rows.pop() {
            rows.retain(|(_, row)| (self.delta)(row, &last.1) < self.threshold);
            rows.push(last);
        }
        aggregate(&self.inner, &rows)
    }
}

#[cfg(test)]
mod tests {
    use super::super::Collect;
    use super::*;
    use crate::event::EventOrder;
    use crate::micros;

    type Row = (i64, u64);

    fn of<A: Aggregate<Row>>(aggregate: &A, rows: &[Row]) -> A::Output {
        // Half of them come by another way, in the opposite order.
        let (mut state, mut other) = (aggregate.init(), aggregate.init());
        for (index, row) in rows.iter().enumerate() {
            let order = EventOrder::Event { source: 0, partition: 0, position: row.1, side: 0 };
            let stamp = || Stamp { time: EventTime::from_micros(row.0), order: order.clone() };
            aggregate.add(if index % 2 == 0 { &mut state } else { &mut other }, row, &stamp);
        }
        aggregate.merge(&mut other, state);
        aggregate.peek(&other)
    }

    #[test]
    fn the_last_rows_are_those_of_event_time() {
        let rows = [(5, 0), (1, 1), (5, 2), (9, 3), (2, 4)];
        assert_eq!(of(&LastN::of(2, Collect), &rows), [(5, 2), (9, 3)]);
        assert_eq!(of(&LastN::of(3, Collect), &rows), [(5, 0), (5, 2), (9, 3)]);
        assert_eq!(of(&LastN::of(0, Collect), &rows), []);
        assert_eq!(of(&LastN::of(9, Collect), &rows).len(), 5);
        // Less than the span before the last one: 5 is four before 9.
        assert_eq!(of(&LastSpan::of(micros(5), Collect), &rows).len(), 3);
        assert_eq!(of(&LastSpan::of(micros(4), Collect), &rows), [(9, 3)]);
        assert_eq!(of(&LastSpan::of(micros(5), Collect), &[]), []);
        let near = |threshold| {
            NearLast::of(threshold, |a: &Row, b: &Row| (a.1 as f64 - b.1 as f64).abs(), Collect)
        };
        assert_eq!(of(&near(1.5), &rows), [(2, 4), (5, 2), (9, 3)]);
        assert_eq!(of(&near(0.0), &rows), [(9, 3)], "the last row itself always counts");
    }
}
