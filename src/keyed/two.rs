//! Process functions with two inputs.

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::either::Either;
use super::process::{ClockTimer, Process, ProcessCx, Timer};
use super::state::OldState;
use crate::error::BoxError;
use crate::event::Data;

/// A process function over two connected streams: [`Keyed::connect`](crate::Keyed::connect) makes
/// one keyed stream of two, and [`process2`](crate::Keyed::process2) takes a function of this
/// kind. State and timers are shared by both sides; events of both come in order of time, and of
/// equal time in the order of their sources.
///
/// ```
/// use highwater::prelude::*;
///
/// #[derive(Clone, serde::Serialize, serde::Deserialize)]
/// struct Order { id: u32, at: EventTime }
/// #[derive(Clone, serde::Serialize, serde::Deserialize)]
/// struct Payment { order: u32, at: EventTime }
///
/// /// Tells of orders that are not paid within a minute.
/// struct Unpaid;
///
/// impl Process2<u32, Order, Payment> for Unpaid {
///     type State = ();
///     type Output = u32;
///
///     fn left(&self, cx: &mut ProcessCx<'_, (), u32>, _: &u32, order: Order) {
///         cx.set_timer("unpaid", order.at + minutes(1));
///     }
///
///     fn right(&self, cx: &mut ProcessCx<'_, (), u32>, _: &u32, _: Payment) {
///         for timer in cx.timers().cloned().collect::<Vec<_>>() {
///             cx.delete_timer(&timer.name, timer.time);
///         }
///     }
///
///     fn timer(&self, cx: &mut ProcessCx<'_, (), u32>, id: &u32, _: &Timer) {
///         cx.emit(*id);
///     }
/// }
///
/// let flow = Flow::new("unpaid");
/// let at = EventTime::from_seconds;
/// let orders = flow
///     .source("orders", Memory::of([Order { id: 1, at: at(0) }, Order { id: 2, at: at(1) }]))
///     .event_time(|o| o.at, Disorder::ascending())
///     .key_by(|o| &o.id);
/// let payments = flow
///     .source("payments", Memory::of([Payment { order: 1, at: at(30) }]))
///     .event_time(|p| p.at, Disorder::ascending())
///     .key_by(|p| &p.order);
/// let (sink, unpaid) = highwater::sink::channel();
/// orders
///     .connect(&payments)
///     .process2("unpaid", Unpaid)
///     .unbounded()
///     .drop_late("both come in order")
///     .sink("out", sink);
/// flow.run(Settings::in_memory())?;
/// assert_eq!(unpaid.collect::<Vec<_>>(), [2]);
/// # Ok::<(), highwater::Error>(())
/// ```
pub trait Process2<K, L, R>: Send + Sync + 'static {
    /// What is kept per key.
    type State: Serialize + DeserializeOwned + Send + 'static;
    /// What is emitted.
    type Output: Data;

    /// The version of `State`: see [`Process::VERSION`].
    const VERSION: u16 = 1;

    /// See [`Process::CLOCK`].
    const CLOCK: bool = false;

    /// See [`Process::migrate`].
    ///
    /// # Errors
    /// Refuses, unless implemented; the flow stops.
    fn migrate(&self, old: OldState<'_>) -> Result<Self::State, BoxError> {
        Err(format!("there is no migration from version {} of the state", old.version()).into())
    }

    /// An event of the left stream.
    fn left(&self, cx: &mut ProcessCx<'_, Self::State, Self::Output>, key: &K, event: L);

    /// An event of the right stream.
    fn right(&self, cx: &mut ProcessCx<'_, Self::State, Self::Output>, key: &K, event: R);

    /// A timer of the key. Does nothing unless implemented.
    fn timer(&self, cx: &mut ProcessCx<'_, Self::State, Self::Output>, key: &K, timer: &Timer) {
        let _ = (cx, key, timer);
    }

    /// A timer of the tick clock. Does nothing unless implemented.
    fn clock_timer(
        &self,
        cx: &mut ProcessCx<'_, Self::State, Self::Output>,
        key: &K,
        timer: &ClockTimer,
    ) {
        let _ = (cx, key, timer);
    }
}

/// A process function with two inputs, as one with an input of either kind.
pub(crate) struct TwoInputs<P>(pub(crate) P);

impl<K, L, R, P: Process2<K, L, R>> Process<K, Either<L, R>> for TwoInputs<P> {
    type State = P::State;
    type Output = P::Output;

    const VERSION: u16 = P::VERSION;
    const CLOCK: bool = P::CLOCK;

    fn migrate(&self, old: OldState<'_>) -> Result<P::State, BoxError> {
        self.0.migrate(old)
    }

    fn event(&self, cx: &mut ProcessCx<'_, P::State, P::Output>, key: &K, event: Either<L, R>) {
        match event {
            Either::Left(event) => self.0.left(cx, key, event),
            Either::Right(event) => self.0.right(cx, key, event),
        }
    }

    fn timer(&self, cx: &mut ProcessCx<'_, P::State, P::Output>, key: &K, timer: &Timer) {
        self.0.timer(cx, key, timer);
    }

    fn clock_timer(
        &self,
        cx: &mut ProcessCx<'_, P::State, P::Output>,
        key: &K,
        timer: &ClockTimer,
    ) {
        self.0.clock_timer(cx, key, timer);
    }
}
