//! The promise of a partition: a function of its own events so far.

use std::fmt;
use std::sync::Arc;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::{EventTime, Span, Summary, Watermark};

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
        Disorder { kind: self.kind.clone(), idle_after: self.idle_after, fault: self.fault.clone() }
    }
}

impl<T> Disorder<T> {
    /// Bounded disorder: the promise is the largest time so far less `bound`.
    #[must_use]
    pub fn at_most(bound: Span) -> Self {
        Disorder { kind: Kind::AtMost(bound), idle_after: None, fault: None }
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
        Disorder { kind: Kind::Punctuated(Arc::new(f)), idle_after: None, fault: None }
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
        let kind = Kind::Custom { initial: bytes, step: Arc::new(step) };
        Disorder { kind, idle_after: None, fault }
    }

    /// A partition that was read and brought no event time for this long stops holding time
    /// back, until it returns. Measured on the clock readings of ticks; time in which the flow
    /// was down or did not read the partition does not count.
    #[must_use]
    pub fn idle_after(mut self, timeout: Span) -> Self {
        self.idle_after = Some(timeout);
        self
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
        match self.idle_after {
            Some(timeout) if timeout <= Span::ZERO => {
                Err(format!("the idle timeout {timeout} is not above zero"))
            }
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
        state.largest = state.largest.max(times.iter().copied().max());
        // The bounded case is the hot one: the promise stays in a register.
        if let Kind::AtMost(bound) = self.kind {
            let mut promise = state.promise;
            for (index, &time) in times.iter().enumerate() {
                if let Watermark::At(p) = promise
                    && time < p
                {
                    straggler(index, p);
                }
                promise = promise.max(Watermark::At(time - bound));
            }
            state.promise = promise;
            return;
        }
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

/// The parameters as the plan prints and fingerprints them.
impl<T> fmt::Display for Disorder<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            Kind::AtMost(bound) if *bound == Span::ZERO => f.write_str("ascending")?,
            Kind::AtMost(bound) => write!(f, "disorder at most {bound}")?,
            Kind::Punctuated(_) => f.write_str("punctuated")?,
            Kind::Custom { .. } => f.write_str("custom promise")?,
        }
        match self.idle_after {
            Some(timeout) => write!(f, ", idle after {timeout}"),
            None => Ok(()),
        }
    }
}

/// Whether a partition takes part in the minimum.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Activity {
    /// Has brought no event yet and is waited for.
    Fresh,
    Active,
    Idle,
    Finished,
}

/// What is committed of a partition's time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct TimeState {
    /// No event below this is still promised to come. Written at each event, never cleared.
    pub(crate) promise: Watermark,
    /// The largest time so far: at the end of input, timers beyond it fire only once.
    pub(crate) largest: Option<EventTime>,
    /// The state of a custom strategy.
    pub(crate) custom: Vec<u8>,
    pub(crate) activity: Activity,
}

impl TimeState {
    pub(crate) fn summary(&self) -> Summary {
        match (self.activity, self.promise) {
            (Activity::Finished, _) => Summary::Finished,
            (Activity::Idle, _) => Summary::Idle,
            (_, Watermark::At(time)) => Summary::At(time),
            (_, Watermark::Unknown | Watermark::End) => Summary::Unknown,
        }
    }
}

/// A partition's time together with what is not committed: how long it has been quiet.
#[derive(Clone, Debug)]
pub(crate) struct PartitionTime {
    pub(crate) state: TimeState,
    /// Quiet time on the tick clock, in µs, over ticks in which the partition was read.
    quiet_micros: i64,
}

impl PartitionTime {
    pub(crate) fn new(state: TimeState) -> Self {
        PartitionTime { state, quiet_micros: 0 }
    }

    /// An event time was assigned in this tick.
    pub(crate) fn heard(&mut self) {
        self.quiet_micros = 0;
        self.state.activity = Activity::Active;
    }

    /// The partition was read in this tick and no event time was assigned; `elapsed_micros` is
    /// the time on the tick clock since the tick before.
    pub(crate) fn quiet(&mut self, elapsed_micros: i64, idle_after: Option<Span>) {
        self.quiet_micros = self.quiet_micros.saturating_add(elapsed_micros.max(0));
        if let Some(timeout) = idle_after
            && self.quiet_micros >= timeout.as_micros()
            && matches!(self.state.activity, Activity::Fresh | Activity::Active)
        {
            self.state.activity = Activity::Idle;
        }
    }

    /// A partition that had ended is there again, and is waited for.
    pub(crate) fn revive(&mut self) {
        self.quiet_micros = 0;
        self.state.activity = Activity::Fresh;
    }

    pub(crate) fn finish(&mut self) {
        self.state.activity = Activity::Finished;
    }

    /// How long until the partition becomes idle if it stays quiet, in µs.
    pub(crate) fn idle_in(&self, idle_after: Option<Span>) -> Option<i64> {
        match self.state.activity {
            Activity::Fresh | Activity::Active => {
                idle_after.map(|t| t.as_micros().saturating_sub(self.quiet_micros).max(0))
            }
            Activity::Idle | Activity::Finished => None,
        }
    }
}
