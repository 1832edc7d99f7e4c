//! What the process operator runs: a process function, or one that also sees broadcast state.

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::process::{ClockTimer, Process, ProcessCx, Timer};
use super::state::OldState;
use crate::error::BoxError;
use crate::event::{Data, Stored};
use crate::time::EventTime;

/// The context of a call of rules.
pub(crate) type RulesCx<'a, 'b, K, T, R> =
    &'a mut ProcessCx<'b, <R as Rules<K, T>>::State, <R as Rules<K, T>>::Output>;

/// Keyed rules: one operator carries out all kinds.
pub(crate) trait Rules<K, T>: Send + Sync + 'static {
    /// What is kept per key.
    type State: Serialize + DeserializeOwned + Send + 'static;
    type Output: Data;
    /// What all keys share, the same on every worker.
    type Shared: Serialize + DeserializeOwned + Default + Send + 'static;
    /// The rows that change what is shared.
    type Signal: Stored;

    const VERSION: u16;
    const CLOCK: bool;
    /// There is a second input, of signals.
    const BROADCAST: bool;

    fn migrate(&self, old: OldState<'_>) -> Result<Self::State, BoxError>;

    fn event(&self, cx: RulesCx<'_, '_, K, T, Self>, shared: &Self::Shared, key: &K, event: T);

    fn timer(
        &self,
        cx: RulesCx<'_, '_, K, T, Self>,
        shared: &Self::Shared,
        key: &K,
        timer: &Timer,
    ) {
        let _ = (cx, shared, key, timer);
    }

    fn clock_timer(
        &self,
        cx: RulesCx<'_, '_, K, T, Self>,
        shared: &Self::Shared,
        key: &K,
        timer: &ClockTimer,
    ) {
        let _ = (cx, shared, key, timer);
    }

    /// After the last event of a time, for each key that has asked for it. Never on arrival.
    fn after_events(&self, cx: RulesCx<'_, '_, K, T, Self>, key: &K) {
        let _ = (cx, key);
    }

    fn signal(&self, shared: &mut Self::Shared, signal: Self::Signal, time: EventTime) {
        let _ = (shared, signal, time);
    }
}

/// A process function alone.
pub(crate) struct Plain<P>(pub(crate) P);

impl<K, T, P: Process<K, T>> Rules<K, T> for Plain<P> {
    type State = P::State;
    type Output = P::Output;
    type Shared = ();
    type Signal = ();

    const VERSION: u16 = P::VERSION;
    const CLOCK: bool = P::CLOCK;
    const BROADCAST: bool = false;

    fn migrate(&self, old: OldState<'_>) -> Result<P::State, BoxError> {
        self.0.migrate(old)
    }

    fn event(&self, cx: &mut ProcessCx<'_, P::State, P::Output>, (): &(), key: &K, event: T) {
        self.0.event(cx, key, event);
    }

    fn timer(&self, cx: &mut ProcessCx<'_, P::State, P::Output>, (): &(), key: &K, timer: &Timer) {
        self.0.timer(cx, key, timer);
    }

    fn clock_timer(
        &self,
        cx: &mut ProcessCx<'_, P::State, P::Output>,
        (): &(),
        key: &K,
        timer: &ClockTimer,
    ) {
        self.0.clock_timer(cx, key, timer);
    }
}
