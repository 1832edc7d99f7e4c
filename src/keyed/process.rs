//! The keyed process function that users write themselves: (state, event | timer) -> outputs.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::state::{KeyState, OldState};
use super::ttl::Ttl;
use crate::error::BoxError;
use crate::event::Data;
use crate::time::{EventTime, Watermark};

/// Stateful logic per key, with event-time timers.
///
/// The function is shared by all workers, so it holds parameters only; what changes is its
/// `State`, one value per key, committed with the flow.
///
/// ```
/// use highwater::{seconds, Process, ProcessCx, Timer};
///
/// /// Alerts when a machine has been silent for a minute.
/// struct Silence;
///
/// impl Process<String, f64> for Silence {
///     type State = u64;
///     type Output = String;
///
///     fn event(&self, cx: &mut ProcessCx<'_, u64, String>, _machine: &String, _reading: f64) {
///         let (last, now) = (cx.state().take(), cx.time());
///         if let Some(last) = last {
///             cx.delete_timer("silent", highwater::EventTime::from_micros(last as i64));
///         }
///         let at = now + seconds(60);
///         cx.set_timer("silent", at);
///         *cx.state() = Some(at.as_micros() as u64);
///     }
///
///     fn timer(&self, cx: &mut ProcessCx<'_, u64, String>, machine: &String, _timer: &Timer) {
///         cx.emit(format!("{machine} is silent"));
///     }
/// }
/// ```
pub trait Process<K, T>: Send + Sync + 'static {
    /// What is kept per key.
    type State: Serialize + DeserializeOwned + Send + 'static;
    /// What is emitted.
    type Output: Data;

    /// The version of `State`. State is stored without names and types, so a change of the type
    /// needs a new version, and [`migrate`](Self::migrate) for what the old one wrote; a changed
    /// type under an old version is refused at the start.
    const VERSION: u16 = 1;

    /// Makes state of what an older version wrote. Called when a key's state is first used.
    ///
    /// # Errors
    /// Refuses, unless implemented; the flow stops.
    fn migrate(&self, old: OldState<'_>) -> Result<Self::State, BoxError> {
        Err(format!("there is no migration from version {} of the state", old.version()).into())
    }

    /// An event of the key.
    fn event(&self, cx: &mut ProcessCx<'_, Self::State, Self::Output>, key: &K, event: T);

    /// A timer of the key. Does nothing unless implemented.
    fn timer(&self, cx: &mut ProcessCx<'_, Self::State, Self::Output>, key: &K, timer: &Timer) {
        let _ = (cx, key, timer);
    }
}

/// An event-time timer: its identity is (key, name, time).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Timer {
    /// When it fires: as soon as the watermark has passed this time.
    pub time: EventTime,
    /// Its name.
    pub name: String,
}

/// What a process function sees and does.
pub struct ProcessCx<'a, S, O> {
    pub(crate) key_state: &'a mut KeyState<S>,
    pub(crate) time: EventTime,
    pub(crate) watermark: Watermark,
    /// A timer is firing, at `time`.
    pub(crate) firing: bool,
    /// Input has ended and the last timers fire: what they register is dropped.
    pub(crate) ended: bool,
    pub(crate) ttl: Option<Ttl>,
    pub(crate) effects: &'a mut Effects<O>,
}

/// What the function did, for the operator to carry out.
pub(crate) struct Effects<O> {
    pub(crate) outputs: Vec<(EventTime, O)>,
    pub(crate) timers_set: Vec<EventTime>,
    pub(crate) timers_dropped: u64,
    /// A rule was broken: the flow stops.
    pub(crate) error: Option<String>,
}

impl<O> Default for Effects<O> {
    fn default() -> Self {
        Effects { outputs: Vec::new(), timers_set: Vec::new(), timers_dropped: 0, error: None }
    }
}

impl<S, O> ProcessCx<'_, S, O> {
    /// The key's state: `None` until it is set. Setting it to `None` forgets it.
    /// With a [`Ttl`], this counts as a write.
    pub fn state(&mut self) -> &mut Option<S> {
        if self.ttl.is_some() {
            self.key_state.head.touched = Some(self.time);
        }
        &mut self.key_state.value
    }

    /// The key's state, to be read only.
    pub fn get(&mut self) -> Option<&S> {
        if self.ttl.is_some_and(|ttl| ttl.on_read) {
            self.key_state.head.touched = Some(self.time);
        }
        self.key_state.value.as_ref()
    }

    /// The time of the event or timer.
    #[must_use]
    pub fn time(&self) -> EventTime {
        self.time
    }

    /// The operator's watermark.
    #[must_use]
    pub fn watermark(&self) -> Watermark {
        self.watermark
    }

    /// Emits a result at the time of the event or timer.
    pub fn emit(&mut self, output: O) {
        self.effects.outputs.push((self.time, output));
    }

    /// Sets a timer; setting it twice is setting it once. A timer before the event that sets it
    /// fires at the event's time. A firing timer that sets one at or before its own time stops
    /// the flow with an error: it would fire for ever.
    pub fn set_timer(&mut self, name: &str, time: EventTime) {
        if self.firing && time <= self.time {
            self.effects.error.get_or_insert_with(|| {
                format!(
                    "a timer firing at {} set `{name}` at {time}, which is not later",
                    self.time
                )
            });
            return;
        }
        if self.ended {
            self.effects.timers_dropped += 1;
            return;
        }
        let time = time.max(self.time);
        self.key_state.head.timers.insert(Timer { time, name: name.to_owned() });
        self.effects.timers_set.push(time);
    }

    /// Deletes a timer, and says whether there was one.
    pub fn delete_timer(&mut self, name: &str, time: EventTime) -> bool {
        self.key_state.head.timers.remove(&Timer { time, name: name.to_owned() })
    }

    /// The key's timers, by time, then by name.
    pub fn timers(&self) -> impl Iterator<Item = &Timer> {
        self.key_state.head.timers.iter()
    }
}
