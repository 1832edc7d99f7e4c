//! Keyed streams with a closure and a state per key.

use std::marker::PhantomData;
use std::panic::Location;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::keyed::{Keyed, Undeclared};
use super::keyed_process::in_order;
use super::ports::WithLate;
use super::stream::Timed;
use crate::event::{Data, Stored};
use crate::keyed::{KeyOf, MapWithState, Plain, UpdateState};

/// A key with its state, if it has any left.
pub type StateStream<T, K, S> = Undeclared<WithLate<(<K as KeyOf<T>>::Key, Option<S>), T>>;

impl<T: Data, K: KeyOf<T>> Keyed<T, K, Timed> {
    /// A state per key that each event updates, in order of event time; after each event the
    /// key and its state are told. Setting the state to `None` forgets it. With a ttl, each
    /// event counts as a write.
    ///
    /// Spark's `updateStateByKey` calls its function once per batch and key, with all values of
    /// the batch, and so depends on how the stream was cut; this one does not.
    ///
    /// ```
    /// use highwater::prelude::*;
    ///
    /// let flow = Flow::new("balance");
    /// let at = EventTime::from_seconds;
    /// let moves = [(1, 10, at(1)), (1, -3, at(2)), (1, -7, at(3))];
    /// let (sink, out) = highwater::sink::channel();
    /// flow.source("moves", Memory::of(moves))
    ///     .event_time(|m| m.2, Disorder::ascending())
    ///     .key_by(|m: &(u32, i64, EventTime)| &m.0)
    ///     .update_state("balance", |_account, balance: &mut Option<i64>, m| {
    ///         *balance = Some(balance.unwrap_or(0) + m.1).filter(|b| *b != 0);
    ///     })
    ///     .unbounded()
    ///     .drop_late("moves come in order")
    ///     .sink("out", sink);
    /// flow.run(Settings::in_memory())?;
    /// assert_eq!(out.collect::<Vec<_>>(), [(1, Some(10)), (1, Some(7)), (1, None)]);
    /// # Ok::<(), highwater::Error>(())
    /// ```
    #[track_caller]
    pub fn update_state<S, F>(&self, id: &str, f: F) -> StateStream<T, K, S>
    where
        T: Stored,
        S: Data + Serialize + DeserializeOwned,
        F: Fn(&K::Key, &mut Option<S>, T) + Send + Sync + 'static,
    {
        let rules = Plain(UpdateState { f, state: PhantomData });
        self.undeclared(id, in_order("update_state", String::new()), rules, Location::caller())
    }

    /// Maps each event with the state of its key, in order of event time, to one row or none:
    /// Spark's `mapWithState`. With a ttl, each event counts as a write. For timers, see
    /// [`process`](Self::process).
    ///
    /// ```
    /// use highwater::prelude::*;
    ///
    /// let flow = Flow::new("rises");
    /// let at = EventTime::from_seconds;
    /// let prices = [(1, 10, at(1)), (1, 12, at(2)), (1, 11, at(3)), (1, 15, at(4))];
    /// let (sink, out) = highwater::sink::channel();
    /// flow.source("prices", Memory::of(prices))
    ///     .event_time(|p| p.2, Disorder::ascending())
    ///     .key_by(|p: &(u32, i64, EventTime)| &p.0)
    ///     .map_with_state("rises", |_share, last: &mut Option<i64>, p| {
    ///         let before = last.replace(p.1)?;
    ///         (p.1 > before).then_some(p.1 - before)
    ///     })
    ///     .ttl(Ttl::from_write(hours(1)))
    ///     .drop_late("prices come in order")
    ///     .sink("out", sink);
    /// flow.run(Settings::in_memory())?;
    /// assert_eq!(out.collect::<Vec<_>>(), [2, 4]);
    /// # Ok::<(), highwater::Error>(())
    /// ```
    #[track_caller]
    pub fn map_with_state<S, U, F>(&self, id: &str, f: F) -> Undeclared<WithLate<U, T>>
    where
        T: Stored,
        S: Serialize + DeserializeOwned + Send + 'static,
        U: Data,
        F: Fn(&K::Key, &mut Option<S>, T) -> Option<U> + Send + Sync + 'static,
    {
        let rules = Plain(MapWithState { f, types: PhantomData });
        self.undeclared(id, in_order("map_with_state", String::new()), rules, Location::caller())
    }
}
