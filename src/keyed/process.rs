//! The keyed process function that users write themselves: (state, event | timer) -> outputs.

use highwater_state::planted::planted;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::state::{KeyState, OldState};
use super::ttl::Ttl;
use crate::aggregate::Stamp;
use crate::error::BoxError;
use crate::event::{Data, EventOrder};
use crate::time::{ClockTime, EventTime, Watermark};

/// Stateful logic per key, with timers in event time and on the tick clock.
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

    /// Whether it sets timers on the tick clock, or reads it: then what comes out depends on the
    /// speed of the machine, and the plan says so (class Clock).
    const CLOCK: bool = false;

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

/// An event-time timer: its identity is (key, name, time).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Timer {
    /// When it fires: as soon as the watermark has passed this time.
    pub time: EventTime,
    /// Its name.
    pub name: String,
}

/// A timer of the tick clock: its identity is (key, name, time).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ClockTimer {
    /// When it fires: in the first tick whose clock has reached this time.
    pub time: ClockTime,
    /// Its name.
    pub name: String,
}

/// Why the function is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Call {
    /// For an event, or after the last one of a time.
    Event,
    /// An event-time timer fires, at the call's time.
    Timer,
    /// A timer of the tick clock fires.
    ClockTimer(ClockTime),
}

/// What a process function sees and does.
pub struct ProcessCx<'a, S, O> {
    pub(crate) key_state: &'a mut KeyState<S>,
    pub(crate) time: EventTime,
    pub(crate) order: Option<&'a EventOrder>,
    pub(crate) watermark: Watermark,
    /// The tick's clock, if the function declares that it looks at it.
    pub(crate) clock: Option<ClockTime>,
    pub(crate) call: Call,
    /// Input has ended and the last timers fire: what they register is dropped.
    pub(crate) ended: bool,
    pub(crate) ttl: Option<Ttl>,
    pub(crate) effects: &'a mut Effects<O>,
}

/// What the function did, for the operator to carry out.
pub(crate) struct Effects<O> {
    pub(crate) outputs: Vec<(EventTime, O)>,
    /// When timers were set or deleted.
    pub(crate) timers: Vec<EventTime>,
    pub(crate) clock_timers: Vec<ClockTime>,
    /// Timers that were not set because input has ended.
    pub(crate) timers_dropped: u64,
    /// The event counts as filtered.
    pub(crate) left_out: bool,
    /// The function is to be called again after the last event of this time.
    pub(crate) after_events: bool,
    /// A rule was broken: the flow stops.
    pub(crate) error: Option<String>,
}

impl<O> Default for Effects<O> {
    fn default() -> Self {
        Effects {
            outputs: Vec::new(),
            timers: Vec::new(),
            clock_timers: Vec::new(),
            timers_dropped: 0,
            left_out: false,
            after_events: false,
            error: None,
        }
    }
}

/// The stamp of an event, or of a timer, which has no order.
pub(crate) fn stamp(time: EventTime, order: Option<&EventOrder>) -> Stamp {
    let first = EventOrder::Event { source: 0, partition: 0, position: 0, side: 0 };
    Stamp { time, order: order.cloned().unwrap_or(first) }
}

impl<S, O> ProcessCx<'_, S, O> {
    /// The key's state: `None` until it is set. Setting it to `None` forgets it.
    /// With a [`Ttl`], this counts as a write.
    ///
    /// A list or a map is a state as any other, and is stored as a whole: the first commit after
    /// a change writes all of it. A map of 10,000 numbers costs a commit less than a millisecond,
    /// one of a million some tens; where a key's map grows so large, make the entry's name part
    /// of the key instead.
    pub fn state(&mut self) -> &mut Option<S> {
        if self.ttl.is_some() {
            self.key_state.head.touch(self.time);
        }
        &mut self.key_state.value
    }

    /// The key's state, to be read only.
    pub fn get(&mut self) -> Option<&S> {
        if self.ttl.is_some_and(|ttl| ttl.on_read || planted("ttl-refreshed-by-reads")) {
            self.key_state.head.touch(self.time);
        }
        self.key_state.value.as_ref()
    }

    /// The time of the event or timer. A timer of the tick clock fires at the operator's
    /// watermark: the earliest time that is not over yet.
    #[must_use]
    pub fn time(&self) -> EventTime {
        self.time
    }

    /// Where the event stands among all others: what an [`Aggregate`](crate::Aggregate) asks
    /// for. Of a timer, only the time is known.
    #[must_use]
    pub fn stamp(&self) -> Stamp {
        stamp(self.time, self.order)
    }

    /// The operator's watermark.
    #[must_use]
    pub fn watermark(&self) -> Watermark {
        self.watermark
    }

    /// The clock of the tick. Only for a function that declares [`Process::CLOCK`]; any other
    /// stops the flow.
    pub fn clock(&mut self) -> ClockTime {
        self.clock.unwrap_or_else(|| {
            self.fail("looked at the tick clock without `const CLOCK: bool = true`".to_owned());
            ClockTime::default()
        })
    }

    /// Emits a result at the time of the event or timer.
    pub fn emit(&mut self, output: O) {
        self.effects.outputs.push((self.time, output));
    }

    /// Counts the event as filtered: it was left out on purpose.
    pub fn leave_out(&mut self) {
        self.effects.left_out = true;
    }

    /// Has the function called again after the last event of this time.
    pub(crate) fn after_events(&mut self) {
        self.effects.after_events = true;
    }

    fn fail(&mut self, message: String) {
        self.effects.error.get_or_insert(message);
    }

    /// Sets a timer; setting it twice is setting it once. A timer before the event that sets it
    /// fires at the event's time. A firing timer that sets one at or before its own time stops
    /// the flow with an error: it would fire for ever. When input has ended, the timers that are
    /// left fire once, and what they set is dropped.
    pub fn set_timer(&mut self, name: &str, time: EventTime) {
        if self.call == Call::Timer && time <= self.time {
            return self.fail(format!(
                "a timer firing at {} set `{name}` at {time}, which is not later",
                self.time
            ));
        }
        if self.ended {
            self.effects.timers_dropped += 1;
            return;
        }
        let time = time.max(self.time);
        if self.key_state.head.timers.insert(Timer { time, name: name.to_owned() }) {
            self.effects.timers.push(time);
        }
    }

    /// Deletes a timer, and says whether there was one.
    pub fn delete_timer(&mut self, name: &str, time: EventTime) -> bool {
        let found = self.key_state.head.timers.remove(&Timer { time, name: name.to_owned() });
        if found {
            self.effects.timers.push(time);
        }
        found
    }

    /// The key's timers, by time, then by name.
    pub fn timers(&self) -> impl Iterator<Item = &Timer> {
        self.key_state.head.timers.iter()
    }

    /// Sets a timer on the tick clock: it fires at the end of the first tick whose clock has
    /// reached `time`, and such a tick is opened even without data. It survives a crash: what
    /// became due meanwhile fires in the first tick. Setting it twice is setting it once. A
    /// firing one that sets one at or before its own time stops the flow with an error. When
    /// input has ended, those that are left fire once, and what they set is dropped.
    ///
    /// Only for a function that declares [`Process::CLOCK`]; any other stops the flow.
    ///
    /// ```
    /// use highwater::{seconds, ClockTimer, Process, ProcessCx};
    ///
    /// /// Gathers rows, and lets them go a second after the first of them has come.
    /// struct Buffer;
    ///
    /// impl Process<u32, String> for Buffer {
    ///     type State = Vec<String>;
    ///     type Output = Vec<String>;
    ///     const CLOCK: bool = true;
    ///
    ///     fn event(
    ///         &self,
    ///         cx: &mut ProcessCx<'_, Vec<String>, Vec<String>>,
    ///         _: &u32,
    ///         row: String,
    ///     ) {
    ///         if cx.clock_timers().next().is_none() {
    ///             let at = cx.clock() + seconds(1);
    ///             cx.set_clock_timer("full", at);
    ///         }
    ///         cx.state().get_or_insert_default().push(row);
    ///     }
    ///
    ///     fn clock_timer(
    ///         &self,
    ///         cx: &mut ProcessCx<'_, Vec<String>, Vec<String>>,
    ///         _: &u32,
    ///         _: &ClockTimer,
    ///     ) {
    ///         if let Some(rows) = cx.state().take() {
    ///             cx.emit(rows);
    ///         }
    ///     }
    /// }
    /// ```
    pub fn set_clock_timer(&mut self, name: &str, time: ClockTime) {
        if self.clock.is_none() {
            return self
                .fail(format!("set the clock timer `{name}` without `const CLOCK: bool = true`"));
        }
        if let Call::ClockTimer(firing) = self.call
            && time <= firing
        {
            return self.fail(format!(
                "a clock timer firing at {firing} set `{name}` at {time}, which is not later"
            ));
        }
        if self.ended {
            self.effects.timers_dropped += 1;
            return;
        }
        if self.key_state.head.clock_timers.insert(ClockTimer { time, name: name.to_owned() }) {
            self.effects.clock_timers.push(time);
        }
    }

    /// Deletes a timer of the tick clock, and says whether there was one.
    pub fn delete_clock_timer(&mut self, name: &str, time: ClockTime) -> bool {
        let timer = ClockTimer { time, name: name.to_owned() };
        let found = self.key_state.head.clock_timers.remove(&timer);
        if found {
            self.effects.clock_timers.push(time);
        }
        found
    }

    /// The key's timers of the tick clock, by time, then by name.
    pub fn clock_timers(&self) -> impl Iterator<Item = &ClockTimer> {
        self.key_state.head.clock_timers.iter()
    }
}
