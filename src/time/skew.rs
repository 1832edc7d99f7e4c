//! Event times too far in the future.

use std::fmt;
use std::sync::Arc;

use super::{EventTime, Span};

/// What becomes of an event whose time is too far ahead.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Skew {
    /// It goes to the port of skewed events, which must then be consumed.
    #[default]
    DeadLetter,
    /// It is left out, and counted as dead.
    Skip,
    /// It stops the flow with an error that names source, partition and position.
    Fail,
}

type TakenIn<T> = Arc<dyn Fn(&T) -> EventTime + Send + Sync>;

/// How far ahead an event's time may be.
pub(crate) struct Cap<T> {
    pub(crate) span: Span,
    pub(crate) policy: Skew,
    /// When an event was taken in; without it, the tick's clock counts.
    taken_in: Option<TakenIn<T>>,
}

impl<T> Clone for Cap<T> {
    fn clone(&self) -> Self {
        Cap { span: self.span, policy: self.policy, taken_in: self.taken_in.clone() }
    }
}

impl<T> Cap<T> {
    pub(crate) fn new(span: Span, taken_in: Option<TakenIn<T>>, policy: Option<Skew>) -> Self {
        Cap { span, policy: policy.unwrap_or_default(), taken_in }
    }

    /// Whether it is the clock that decides.
    pub(crate) fn by_clock(&self) -> bool {
        self.taken_in.is_none()
    }

    /// The indexes of events beyond the cap, by rising index.
    pub(crate) fn beyond(&self, rows: &[T], times: &[EventTime], clock: EventTime) -> Vec<u32> {
        let mut beyond = Vec::new();
        match &self.taken_in {
            None => {
                let limit = clock + self.span;
                if times.iter().max().is_some_and(|largest| *largest > limit) {
                    let indexes = (0..times.len() as u32).filter(|&i| times[i as usize] > limit);
                    beyond.extend(indexes);
                }
            }
            Some(taken_in) => {
                for (index, (row, &time)) in rows.iter().zip(times).enumerate() {
                    if time > taken_in(row) + self.span {
                        beyond.push(index as u32);
                    }
                }
            }
        }
        beyond
    }

    /// How far an event is ahead of what it is measured against.
    pub(crate) fn ahead_by(&self, row: &T, time: EventTime, clock: EventTime) -> Span {
        time - self.taken_in.as_ref().map_or(clock, |taken_in| taken_in(row))
    }
}

impl<T> fmt::Display for Cap<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let of = if self.by_clock() { "the clock" } else { "its own intake" };
        let policy = match self.policy {
            Skew::DeadLetter => "dead letters",
            Skew::Skip => "skipped",
            Skew::Fail => "or fail",
        };
        write!(f, "at most {} ahead of {of} ({policy})", self.span)
    }
}
