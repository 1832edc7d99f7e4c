//! The promise of a partition: a function of its own events so far.

use std::fmt;
use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::skew::{Cap, Skew};
use super::{Activity, EventTime, Span, TimeState, Watermark};

type Punctuation<T> = Arc<dyn Fn(&T, EventTime) -> Option<EventTime> + Send + Sync>;
type CustomStep<T> = Arc<dyn Fn(&mut Vec<u8>, &T, EventTime) -> Option<EventTime> + Send + Sync>;

/// How disordered a partition may be: from each event it derives what the partition promises.
///
/// A promise `P` says that no event of the partition with a time below `P` is still to come.
/// Whatever the strategy returns, the promise never goes back. An event is judged by the promise
/// in force *before* it.
///
/// ```
/// use highwater::{hours, seconds, Disorder, EventTime};
/// struct Reading { marker: bool }
/// let bounded = Disorder::<Reading>::at_most(hours(3)).idle_after(seconds(30));
/// let ascending = Disorder::<Reading>::ascending();
/// let punctuated = Disorder::punctuated(|r: &Reading, t| r.marker.then_some(t));
/// // A custom strategy keeps a state of its own, which is committed with the flow.
/// let every_second = Disorder::custom(0u64, |seen, _: &Reading, t| {
///     *seen += 1;
///     (*seen % 2 == 0).then_some(t)
/// });
/// # let _ = (bounded, ascending, punctuated, every_second);
/// ```
pub struct Disorder<T> {
    kind: Kind<T>,
    idle_after: Option<Span>,
    lead_limit: Option<Span>,
    cap: Option<Cap<T>>,
    /// The state of a custom strategy cannot be stored.
    fault: Option<String>,
}

enum Kind<T> {
    AtMost(Span),
    Punctuated(Punctuation<T>),
    Custom { initial: Vec<u8>, step: CustomStep<T> },
}

impl<T> Clone for Kind<T> {
    fn clone(&self) -> Self {
        match self {
            Kind::AtMost(bound) => Kind::AtMost(*bound),
            Kind::Punctuated(f) => Kind::Punctuated(f.clone()),
            Kind::Custom { initial, step } => {
                Kind::Custom { initial: initial.clone(), step: step.clone() }
            }
        }
    }
}

impl<T> Clone for Disorder<T> {
    fn clone(&self) -> Self {
        Disorder {
            kind: self.kind.clone(),
            idle_after: self.idle_after,
            lead_limit: self.lead_limit,
            cap: self.cap.clone(),
            fault: self.fault.clone(),
        }
    }
}

impl<T> Disorder<T> {
    fn of(kind: Kind<T>, fault: Option<String>) -> Self {
        Disorder { kind, idle_after: None, lead_limit: None, cap: None, fault }
    }

    /// Bounded disorder: the promise is the largest time so far less `bound`.
    #[must_use]
    pub fn at_most(bound: Span) -> Self {
        Self::of(Kind::AtMost(bound), None)
    }

    /// Times never fall: the promise is the largest time so far.
    #[must_use]
    pub fn ascending() -> Self {
        Self::at_most(Span::ZERO)
    }

    /// The event itself may carry a promise: `f` returns it, or nothing.
    #[must_use]
    pub fn punctuated(
        f: impl Fn(&T, EventTime) -> Option<EventTime> + Send + Sync + 'static,
    ) -> Self {
        Self::of(Kind::Punctuated(Arc::new(f)), None)
    }

    /// Any function of the partition's events so far. `state` starts as `initial`, belongs to
    /// one partition and is committed with the flow.
    #[must_use]
    pub fn custom<S>(
        initial: S,
        f: impl Fn(&mut S, &T, EventTime) -> Option<EventTime> + Send + Sync + 'static,
    ) -> Self
    where
        S: Serialize + DeserializeOwned,
    {
        let step = move |bytes: &mut Vec<u8>, row: &T, time: EventTime| {
            let mut state: S = highwater_state::decode(bytes).ok()?;
            let promise = f(&mut state, row, time);
            bytes.clear();
            highwater_state::encode_into(&state, bytes).ok()?;
            promise
        };
        let mut bytes = Vec::new();
        let stored = highwater_state::encode_into(&initial, &mut bytes)
            .and_then(|()| highwater_state::decode::<S>(&bytes));
        let fault = stored.err().map(|e| format!("the state of the promise: {e}"));
        Self::of(Kind::Custom { initial: bytes, step: Arc::new(step) }, fault)
    }

    /// A partition that was read and brought no event time for this long stops holding time
    /// back, until it returns. Measured on the clock readings of ticks; time in which the flow
    /// was down or did not read the partition does not count.
    #[must_use]
    pub fn idle_after(mut self, timeout: Span) -> Self {
        self.idle_after = Some(timeout);
        self
    }

    /// How far ahead of the slowest partition, in event time, another one may be read while both
    /// hold unread events: in a replay, what the fast ones bring would only wait in memory.
    ///
    /// The slowest is looked for among all partitions whose events meet in a stateful operator
    /// with those of this one, in other sources too. A partition that has nothing to read holds
    /// nobody up, whatever it has promised: waiting for silence could last for ever. The limit is
    /// kept from tick to tick, so a partition may exceed it by what the ticks in flight read.
    /// Results are the same with and without; it is no part of the state and may change.
    ///
    /// ```
    /// # use highwater::{hours, minutes, Disorder};
    /// let replay = Disorder::<u64>::at_most(minutes(1)).lead_limit(hours(6));
    /// # let _ = replay;
    /// ```
    #[must_use]
    pub fn lead_limit(mut self, span: Span) -> Self {
        self.lead_limit = Some(span);
        self
    }

    /// Refuses event times that are more than `span` ahead of the tick's clock: one broken clock
    /// would otherwise move the promise so far that everything after it is late. Such an event
    /// gets no time, moves no promise and counts as dead; what becomes of it says
    /// [`on_skew`](Self::on_skew). The operator is then of class Clock: a replay reads its clock
    /// at other moments.
    ///
    /// ```
    /// # use highwater::{minutes, seconds, Disorder, Skew};
    /// let live = Disorder::<u64>::at_most(seconds(5)).at_most_ahead(minutes(1));
    /// let loose = live.clone().on_skew(Skew::Skip);
    /// # let _ = loose;
    /// ```
    #[must_use]
    pub fn at_most_ahead(mut self, span: Span) -> Self {
        self.cap = Some(Cap::new(span, None, self.cap.map(|cap| cap.policy)));
        self
    }

    /// As [`at_most_ahead`](Self::at_most_ahead), but measured against the time at which the
    /// event was taken in, where the event itself carries it (a broker's append time, for
    /// example). That depends on the input alone, so the operator stays of class Input.
    ///
    /// ```
    /// # use highwater::{minutes, seconds, Disorder, EventTime};
    /// struct Record { appended: EventTime }
    /// let capped = Disorder::at_most(seconds(5))
    ///     .at_most_ahead_of(minutes(1), |r: &Record| r.appended);
    /// # let _ = capped;
    /// ```
    #[must_use]
    pub fn at_most_ahead_of(
        mut self,
        span: Span,
        taken_in: impl Fn(&T) -> EventTime + Send + Sync + 'static,
    ) -> Self {
        self.cap = Some(Cap::new(span, Some(Arc::new(taken_in)), self.cap.map(|cap| cap.policy)));
        self
    }

    /// What becomes of an event beyond the cap; [`Skew::DeadLetter`] unless said otherwise.
    #[must_use]
    pub fn on_skew(mut self, policy: Skew) -> Self {
        match &mut self.cap {
            Some(cap) => cap.policy = policy,
            None => self.fault = Some("`on_skew` needs a cap: say `at_most_ahead` before".into()),
        }
        self
    }

    pub(crate) fn lead(&self) -> Option<Span> {
        self.lead_limit
    }

    pub(crate) fn cap(&self) -> Option<&Cap<T>> {
        self.cap.as_ref()
    }

    pub(crate) fn idle_timeout(&self) -> Option<Span> {
        self.idle_after
    }

    /// Refuses parameters that cannot mean anything.
    pub(crate) fn check(&self) -> Result<(), String> {
        if let Some(fault) = &self.fault {
            return Err(fault.clone());
        }
        if let Kind::AtMost(bound) = self.kind
            && bound < Span::ZERO
        {
            return Err(format!("the disorder bound {bound} is negative"));
        }
        let above_zero = [
            ("idle timeout", self.idle_after),
            ("lead limit", self.lead_limit),
            ("cap on future times", self.cap.as_ref().map(|cap| cap.span)),
        ];
        match above_zero.iter().find(|(_, span)| span.is_some_and(|span| span <= Span::ZERO)) {
            Some((name, Some(span))) => Err(format!("the {name} {span} is not above zero")),
            _ => Ok(()),
        }
    }

    pub(crate) fn start(&self) -> TimeState {
        let custom = match &self.kind {
            Kind::Custom { initial, .. } => initial.clone(),
            _ => Vec::new(),
        };
        TimeState { promise: Watermark::Unknown, largest: None, custom, activity: Activity::Fresh }
    }

    /// Calls `straggler(index, promise)` for each event below the promise in force before it,
    /// and moves the promise.
    pub(crate) fn observe(
        &self,
        state: &mut TimeState,
        rows: &[T],
        times: &[EventTime],
        mut straggler: impl FnMut(usize, EventTime),
    ) {
        if let Kind::AtMost(bound) = self.kind {
            return observe_bounded(state, times, bound, straggler);
        }
        state.largest = state.largest.max(times.iter().copied().max());
        for (index, (row, &time)) in rows.iter().zip(times).enumerate() {
            if let Watermark::At(p) = state.promise
                && time < p
            {
                straggler(index, p);
            }
            let next = match &self.kind {
                Kind::AtMost(bound) => Some(time - *bound),
                Kind::Punctuated(f) => f(row, time),
                Kind::Custom { step, .. } => step(&mut state.custom, row, time),
            };
            if let Some(next) = next {
                state.promise = state.promise.max(Watermark::At(next));
            }
        }
    }
}

/// As `observe`, of a bound: the hot case.
fn observe_bounded(
    state: &mut TimeState,
    times: &[EventTime],
    bound: Span,
    mut straggler: impl FnMut(usize, EventTime),
) {
    let Some(&first) = times.first() else { return };
    let ends = |(least, most): (EventTime, EventTime), time: &EventTime| {
        (least.min(*time), most.max(*time))
    };
    let (least, largest) = times.iter().fold((first, first), ends);
    let promise = state.promise;
    let mut below = if let Watermark::At(p) = promise { p } else { EventTime::MIN };
    // Most batches have none: nothing in them is below the promise before or behind them.
    if least < below.max(largest - bound) {
        for (index, &time) in times.iter().enumerate() {
            if time < below {
                straggler(index, below);
            }
            // Nothing is below a promise that has ended.
            if promise != Watermark::End {
                below = below.max(time - bound);
            }
        }
    }
    state.promise = promise.max(Watermark::At(largest - bound));
    state.largest = state.largest.max(Some(largest));
}

/// The parameters as the plan prints and fingerprints them.
impl<T> fmt::Display for Disorder<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            Kind::AtMost(bound) if *bound == Span::ZERO => f.write_str("ascending")?,
            Kind::AtMost(bound) => write!(f, "disorder at most {bound}")?,
            Kind::Punctuated(_) => f.write_str("punctuated")?,
            Kind::Custom { .. } => f.write_str("custom promise")?,
        }
        if let Some(timeout) = self.idle_after {
            write!(f, ", idle after {timeout}")?;
        }
        self.cap.as_ref().map_or(Ok(()), |cap| write!(f, ", {cap}"))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The ends of time, and close together in between.
    fn micros() -> impl Strategy<Value = i64> {
        prop_oneof![8 => -9..9i64, 1 => Just(i64::MIN), 1 => Just(i64::MAX)]
    }

    fn promises() -> impl Strategy<Value = Watermark> {
        let at = micros().prop_map(|micros| Watermark::At(EventTime::from_micros(micros)));
        prop_oneof![Just(Watermark::Unknown), at, Just(Watermark::End)]
    }

    proptest! {
        /// A bound promises, and finds below its promise, what a promise with each event does.
        #[test]
        fn differential_a_bound_against_a_promise_with_each_event(
            promise in promises(),
            bound in 0..6i64,
            batches in prop::collection::vec(prop::collection::vec(micros(), 0..9), 1..5),
        ) {
            let bound = Span::from_micros(bound);
            let each = Disorder::punctuated(move |_: &(), time| Some(time - bound));
            let found = [Disorder::at_most(bound), each].map(|disorder| {
                let mut state = TimeState { promise, ..disorder.start() };
                let mut seen = Vec::new();
                for batch in &batches {
                    let times: Vec<_> = batch.iter().copied().map(EventTime::from_micros).collect();
                    let mut stragglers = Vec::new();
                    let rows = vec![(); times.len()];
                    disorder.observe(&mut state, &rows, &times, |index, promise| {
                        stragglers.push((index, promise));
                    });
                    seen.push((stragglers, state.promise, state.largest));
                }
                seen
            });
            prop_assert_eq!(&found[0], &found[1]);
        }
    }
}
