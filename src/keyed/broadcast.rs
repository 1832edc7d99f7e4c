//! Process functions that also see what is broadcast to all keys.

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::process::{ClockTimer, ProcessCx, Timer};
use super::rules::Rules;
use super::state::OldState;
use crate::error::BoxError;
use crate::event::{Data, Stored};
use crate::time::EventTime;

/// Stateful logic per key that also sees a state which all keys share, and which the rows of a
/// second stream change: rules, prices, feature flags.
///
/// Everything comes in order of event time: at equal times first the timers, then what is
/// broadcast, then events. Each worker has the whole shared state; it is committed once, and
/// restored on any number of workers.
///
/// ```
/// use highwater::prelude::*;
///
/// #[derive(Clone, serde::Serialize, serde::Deserialize)]
/// struct Payment { card: u32, cents: u64, at: EventTime }
/// #[derive(Clone, serde::Serialize, serde::Deserialize)]
/// struct Limit { cents: u64, from: EventTime }
///
/// /// Lets through what is above the limit of its time.
/// struct AboveLimit;
///
/// impl BroadcastProcess<u32, Payment, Limit> for AboveLimit {
///     type State = ();
///     type Shared = Option<u64>;
///     type Output = Payment;
///
///     fn broadcast(&self, limit: &mut Option<u64>, row: Limit, _at: EventTime) {
///         *limit = Some(row.cents);
///     }
///
///     fn event(
///         &self,
///         cx: &mut ProcessCx<'_, (), Payment>,
///         limit: &Option<u64>,
///         _card: &u32,
///         payment: Payment,
///     ) {
///         match limit {
///             Some(limit) if payment.cents > *limit => cx.emit(payment),
///             _ => cx.leave_out(),
///         }
///     }
/// }
///
/// let flow = Flow::new("limits");
/// let at = EventTime::from_seconds;
/// let limits = flow
///     .source("limits", Memory::of([Limit { cents: 100, from: at(5) }]))
///     .event_time(|l| l.from, Disorder::ascending());
/// let payments = [at(4), at(5), at(6)].map(|at| Payment { card: 1, cents: 200, at });
/// let (sink, above) = highwater::sink::channel();
/// flow.source("payments", Memory::of(payments))
///     .event_time(|p| p.at, Disorder::ascending())
///     .key_by(|p| &p.card)
///     .with_broadcast(&limits)
///     .process("above-limit", AboveLimit)
///     .unbounded()
///     .drop_late_broadcast("limits come in order")
///     .drop_late("payments come in order")
///     .map(|p| p.at)
///     .sink("out", sink);
/// flow.run(Settings::in_memory())?;
/// assert_eq!(above.collect::<Vec<_>>(), [at(5), at(6)]);
/// # Ok::<(), highwater::Error>(())
/// ```
pub trait BroadcastProcess<K, T, B>: Send + Sync + 'static {
    /// What is kept per key.
    type State: Serialize + DeserializeOwned + Send + 'static;
    /// What all keys share. It is stored as a whole whenever it has changed.
    type Shared: Serialize + DeserializeOwned + Default + Send + 'static;
    /// What is emitted.
    type Output: Data;

    /// The version of `State`: see [`Process::VERSION`](super::Process::VERSION).
    const VERSION: u16 = 1;

    /// See [`Process::CLOCK`](super::Process::CLOCK).
    const CLOCK: bool = false;

    /// See [`Process::migrate`](super::Process::migrate).
    ///
    /// # Errors
    /// Refuses, unless implemented; the flow stops.
    fn migrate(&self, old: OldState<'_>) -> Result<Self::State, BoxError> {
        Err(format!("there is no migration from version {} of the state", old.version()).into())
    }

    /// A row of the broadcast stream. Called on each worker, so it must be a pure function of
    /// its arguments.
    fn broadcast(&self, shared: &mut Self::Shared, row: B, time: EventTime);

    /// An event of the key.
    fn event(
        &self,
        cx: &mut ProcessCx<'_, Self::State, Self::Output>,
        shared: &Self::Shared,
        key: &K,
        event: T,
    );

    /// A timer of the key. Does nothing unless implemented.
    fn timer(
        &self,
        cx: &mut ProcessCx<'_, Self::State, Self::Output>,
        shared: &Self::Shared,
        key: &K,
        timer: &Timer,
    ) {
        let _ = (cx, shared, key, timer);
    }

    /// A timer of the tick clock. Does nothing unless implemented.
    fn clock_timer(
        &self,
        cx: &mut ProcessCx<'_, Self::State, Self::Output>,
        shared: &Self::Shared,
        key: &K,
        timer: &ClockTimer,
    ) {
        let _ = (cx, shared, key, timer);
    }
}

/// A process function with its broadcast rows, as the operator runs it.
pub(crate) struct Broadcasting<P, B> {
    pub(crate) process: P,
    pub(crate) rows: std::marker::PhantomData<fn(B)>,
}

impl<K, T, B: Stored, P: BroadcastProcess<K, T, B>> Rules<K, T> for Broadcasting<P, B> {
    type State = P::State;
    type Output = P::Output;
    type Shared = P::Shared;
    type Signal = B;

    const VERSION: u16 = P::VERSION;
    const CLOCK: bool = P::CLOCK;
    const BROADCAST: bool = true;

    fn migrate(&self, old: OldState<'_>) -> Result<P::State, BoxError> {
        self.process.migrate(old)
    }

    fn event(
        &self,
        cx: &mut ProcessCx<'_, P::State, P::Output>,
        shared: &P::Shared,
        key: &K,
        event: T,
    ) {
        self.process.event(cx, shared, key, event);
    }

    fn timer(
        &self,
        cx: &mut ProcessCx<'_, P::State, P::Output>,
        shared: &P::Shared,
        key: &K,
        timer: &Timer,
    ) {
        self.process.timer(cx, shared, key, timer);
    }

    fn clock_timer(
        &self,
        cx: &mut ProcessCx<'_, P::State, P::Output>,
        shared: &P::Shared,
        key: &K,
        timer: &ClockTimer,
    ) {
        self.process.clock_timer(cx, shared, key, timer);
    }

    fn signal(&self, shared: &mut P::Shared, signal: B, time: EventTime) {
        self.process.broadcast(shared, signal, time);
    }
}
