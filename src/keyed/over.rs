//! For each event, an aggregate of what came in the time before it.

use highwater_state::planted::planted;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::Key;
use super::process::{ProcessCx, stamp};
use super::rules::Rules;
use super::state::OldState;
use crate::aggregate::Aggregate;
use crate::error::BoxError;
use crate::event::Data;
use crate::time::{EventTime, Span};

/// `[t - span, t]`, as rules.
pub(crate) struct Over<A> {
    pub(crate) span: Span,
    pub(crate) aggregate: A,
}

/// A queue of aggregates, one for each time: two stacks, so that the aggregate of all is one
/// merge away, and each is moved once.
#[derive(Serialize, Deserialize)]
#[serde(bound(serialize = "S: Serialize", deserialize = "S: DeserializeOwned"))]
pub(crate) struct OverState<T, S> {
    /// The older times, oldest last; each aggregate holds its own time and all later ones here.
    older: Vec<(EventTime, S)>,
    /// The newer times, oldest first, each by itself.
    newer: Vec<(EventTime, S)>,
    /// All of `newer`.
    newer_all: S,
    /// The rows of the present time; empty between ticks.
    #[serde(skip, default = "Vec::new")]
    peers: Vec<T>,
}

impl<T, S: Clone> OverState<T, S> {
    fn new(empty: S) -> Self {
        OverState { older: Vec::new(), newer: Vec::new(), newer_all: empty, peers: Vec::new() }
    }

    /// Forgets the times before `first`.
    fn forget<A: Aggregate<T, State = S>>(&mut self, aggregate: &A, first: EventTime) {
        loop {
            while self.older.last().is_some_and(|(time, _)| *time < first) {
                self.older.pop();
            }
            let stale = self.newer.first().is_some_and(|(time, _)| *time < first);
            if !self.older.is_empty() || !stale {
                return;
            }
            let mut all = aggregate.init();
            for (time, state) in self.newer.drain(..).rev() {
                aggregate.merge(&mut all, state);
                self.older.push((time, all.clone()));
            }
            self.newer_all = aggregate.init();
        }
    }

    /// The result over all times.
    fn peek<A: Aggregate<T, State = S>>(&self, aggregate: &A) -> A::Output {
        let Some((_, older)) = self.older.last() else { return aggregate.peek(&self.newer_all) };
        let mut all = self.newer_all.clone();
        aggregate.merge(&mut all, older.clone());
        aggregate.finish(all)
    }
}

impl<K: Key, T: Data, A: Aggregate<T>> Rules<K, T> for Over<A> {
    type State = OverState<T, A::State>;
    type Output = (T, A::Output);
    type Shared = ();
    type Signal = ();

    const VERSION: u16 = 1;
    const CLOCK: bool = false;
    const BROADCAST: bool = false;

    fn migrate(&self, old: OldState<'_>) -> Result<Self::State, BoxError> {
        Err(format!("there is no version {} of its state", old.version()).into())
    }

    fn event(&self, cx: &mut ProcessCx<'_, Self::State, Self::Output>, (): &(), _: &K, row: T) {
        let (time, order) = (cx.time(), cx.order);
        cx.after_events();
        let aggregate = &self.aggregate;
        let state = cx.state().get_or_insert_with(|| OverState::new(aggregate.init()));
        state.forget(aggregate, time - self.span);
        let stamp = || stamp(time, order);
        if state.newer.last().is_none_or(|(last, _)| *last < time) {
            state.newer.push((time, aggregate.init()));
        }
        if let Some((_, newest)) = state.newer.last_mut() {
            aggregate.add(newest, &row, &stamp);
        }
        aggregate.add(&mut state.newer_all, &row, &stamp);
        if planted("over-excludes-peers") {
            let value = state.peek(aggregate);
            cx.emit((row, value));
        } else {
            state.peers.push(row);
        }
    }

    /// All events of the time are in: each of them sees the others.
    fn after_events(&self, cx: &mut ProcessCx<'_, Self::State, Self::Output>, _: &K) {
        let Some(state) = cx.state() else { return };
        let peers = std::mem::take(&mut state.peers);
        if peers.is_empty() {
            return;
        }
        let value = state.peek(&self.aggregate);
        for row in peers {
            cx.emit((row, value.clone()));
        }
    }
}
