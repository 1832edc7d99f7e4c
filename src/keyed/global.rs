//! One window for all time, with a trigger.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::Key;
use super::counted::{AT_END, Block, CountResult};
use super::process::{Process, ProcessCx, Timer};
use crate::aggregate::Aggregate;
use crate::event::Data;
use crate::time::{EventTime, Span};

/// When the global window of a key tells what it holds.
///
/// ```
/// use highwater::{seconds, GlobalTrigger};
/// assert_eq!(GlobalTrigger::every(seconds(5)).to_string(), "every 5s, purging");
/// let trigger = GlobalTrigger::every_events(100).accumulating();
/// assert_eq!(trigger.to_string(), "every 100 events, accumulating");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GlobalTrigger {
    every: Every,
    accumulate: bool,
    at_end: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Every {
    Events(u64),
    Span(Span),
}

impl GlobalTrigger {
    /// With every `n`th event of the key.
    #[must_use]
    pub fn every_events(n: u64) -> Self {
        GlobalTrigger { every: Every::Events(n), accumulate: false, at_end: false }
    }

    /// At each multiple of `span` in event time before which something has come that was not
    /// told yet. An event at the multiple itself belongs to the next result. What is left at the
    /// end of input is told too.
    #[must_use]
    pub fn every(span: Span) -> Self {
        GlobalTrigger { every: Every::Span(span), accumulate: false, at_end: false }
    }

    /// Each result holds everything since the beginning, not only what came since the last one.
    #[must_use]
    pub fn accumulating(self) -> Self {
        GlobalTrigger { accumulate: true, ..self }
    }

    /// What is left is told at the end of input, at the end of time.
    #[must_use]
    pub fn and_at_the_end(self) -> Self {
        GlobalTrigger { at_end: true, ..self }
    }

    pub(crate) fn at_end(&self) -> bool {
        self.at_end
    }

    pub(crate) fn fault(&self) -> Option<String> {
        let senseless = match self.every {
            Every::Events(n) => n == 0,
            Every::Span(span) => span <= Span::ZERO,
        };
        senseless.then(|| format!("a trigger {self}: it must be more than nothing"))
    }
}

impl fmt::Display for GlobalTrigger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.every {
            Every::Events(n) => write!(f, "every {n} events")?,
            Every::Span(span) => write!(f, "every {span}")?,
        }
        f.write_str(if self.accumulate { ", accumulating" } else { ", purging" })?;
        if self.at_end { f.write_str(", at the end") } else { Ok(()) }
    }
}

/// The global window, as a process function.
pub(crate) struct Triggered<A> {
    pub(crate) trigger: GlobalTrigger,
    pub(crate) aggregate: A,
}

#[derive(Serialize, Deserialize)]
pub(crate) struct GlobalState<S> {
    /// Results so far.
    index: u64,
    /// Events that were not told yet.
    since: u64,
    /// What the next result holds; `None` if it is purged.
    held: Option<Block<S>>,
}

impl<A> Triggered<A> {
    fn fire<K: Key, T: Data, S>(
        &self,
        cx: &mut ProcessCx<'_, GlobalState<S>, CountResult<K, A::Output>>,
        key: &K,
    ) where
        A: Aggregate<T, State = S>,
    {
        let Some(state) = cx.state() else { return };
        if state.since == 0 {
            return;
        }
        state.since = 0;
        let index = state.index;
        state.index += 1;
        let result = if self.trigger.accumulate {
            state.held.as_ref().map(|held| held.peek(&self.aggregate, key, index))
        } else {
            state.held.take().map(|held| held.finish(&self.aggregate, key, index))
        };
        result.into_iter().for_each(|result| cx.emit(result));
    }
}

/// The first multiple of `span` above `time`.
fn next_multiple(time: EventTime, span: Span) -> EventTime {
    let into = time.as_micros().rem_euclid(span.as_micros().max(1));
    time + Span::from_micros(span.as_micros() - into)
}

impl<K: Key, T: Data, A: Aggregate<T>> Process<K, T> for Triggered<A> {
    type State = GlobalState<A::State>;
    type Output = CountResult<K, A::Output>;

    fn event(&self, cx: &mut ProcessCx<'_, Self::State, Self::Output>, key: &K, row: T) {
        let (time, order) = (cx.time(), cx.order);
        if self.trigger.at_end {
            cx.set_timer(AT_END, EventTime::MAX);
        }
        if let Every::Span(span) = self.trigger.every {
            cx.set_timer("", next_multiple(time, span));
        }
        let state =
            cx.state().get_or_insert_with(|| GlobalState { index: 0, since: 0, held: None });
        state.since += 1;
        let since = state.since;
        let held = state.held.get_or_insert_with(|| Block::new(time, self.aggregate.init()));
        held.add(&self.aggregate, &row, time, order);
        if self.trigger.every == Every::Events(since) {
            self.fire(cx, key);
        }
    }

    fn timer(&self, cx: &mut ProcessCx<'_, Self::State, Self::Output>, key: &K, _: &Timer) {
        self.fire(cx, key);
    }
}
