//! Keyed functions in event-time order: dedup, count windows, spans before events, the global
//! window, and process functions with timers.

use std::collections::{BTreeMap, BTreeSet};

use super::Judged;
use crate::keyed::Ttl;
use crate::time::{EventTime, Span};

/// Accepted events in the order in which they act, and late ones.
///
/// ```
/// use highwater::testing::model::{accepted, bounded, judge};
/// use highwater::{micros, EventTime};
///
/// let t = EventTime::from_micros;
/// let events = judge(&[vec![t(9), t(2)], vec![t(5)]], |t| *t, bounded(micros(3)));
/// let (accepted, late) = accepted(&events);
/// assert_eq!(accepted.iter().map(|e| e.row).collect::<Vec<_>>(), [t(5), t(9)]);
/// assert_eq!(late.iter().map(|e| e.row).collect::<Vec<_>>(), [t(2)]);
/// ```
pub fn accepted<T: Clone>(events: &[Judged<T>]) -> (Vec<Judged<T>>, Vec<Judged<T>>) {
    let (late, mut accepted): (Vec<_>, Vec<_>) = events.iter().cloned().partition(Judged::late);
    accepted.sort_by_key(|e| (e.time, e.partition, e.position));
    (accepted, late)
}

/// The events of each key, in order.
fn by_key<T: Clone, K: Ord>(
    accepted: &[Judged<T>],
    key: impl Fn(&T) -> K,
) -> BTreeMap<K, Vec<Judged<T>>> {
    let mut keys: BTreeMap<K, Vec<Judged<T>>> = BTreeMap::new();
    for event in accepted {
        keys.entry(key(&event.row)).or_default().push(event.clone());
    }
    keys
}

fn rows<T: Clone>(events: &[Judged<T>]) -> Vec<T> {
    events.iter().map(|e| e.row.clone()).collect()
}

/// What [`dedup`](crate::Keyed::dedup) keeps of [`accepted`] events: those that come less than
/// `within` after no other one that was kept.
pub fn dedup<T: Clone, K: Ord>(
    accepted: &[Judged<T>],
    key: impl Fn(&T) -> K,
    within: Span,
) -> Vec<T> {
    let mut kept: Vec<Judged<T>> = Vec::new();
    for event in accepted {
        let same = kept.iter().filter(|k| key(&k.row) == key(&event.row));
        if !same.into_iter().any(|k| event.time < k.time + within) {
            kept.push(event.clone());
        }
    }
    rows(&kept)
}

/// What the windows of [`count_window`](crate::Keyed::count_window) hold: of each key, the last
/// `n` events at every `every`th one, and, if asked for, what is left at the end.
pub fn count_windows<T: Clone, K: Ord + Clone>(
    accepted: &[Judged<T>],
    key: impl Fn(&T) -> K,
    n: usize,
    every: usize,
    incomplete: bool,
) -> Vec<(K, u64, Vec<T>)> {
    let mut windows = Vec::new();
    for (key, events) in by_key(accepted, key) {
        let mut index = 0;
        let mut end = every;
        while end <= events.len() {
            windows.push((key.clone(), index, rows(&events[end.saturating_sub(n)..end])));
            index += 1;
            end += every;
        }
        if incomplete && events.len() % every != 0 {
            windows.push((key.clone(), index, rows(&events[end.saturating_sub(n)..])));
        }
    }
    windows
}

/// What each event sees with [`over`](crate::Keyed::over): the key's events of the last `span`,
/// those of its own time included.
pub fn over<T: Clone, K: Ord>(
    accepted: &[Judged<T>],
    key: impl Fn(&T) -> K,
    span: Span,
) -> Vec<(T, Vec<T>)> {
    let sees = |event: &Judged<T>| {
        let seen = accepted.iter().filter(|other| {
            key(&other.row) == key(&event.row)
                && other.time >= event.time - span
                && other.time <= event.time
        });
        seen.map(|other| other.row.clone()).collect()
    };
    accepted.iter().map(|event| (event.row.clone(), sees(event))).collect()
}

/// What [`global`](crate::Keyed::global) lets out of each key at each multiple of `span` before
/// which something new has come.
pub fn triggered<T: Clone, K: Ord + Clone>(
    accepted: &[Judged<T>],
    key: impl Fn(&T) -> K,
    span: Span,
    accumulating: bool,
) -> Vec<(K, u64, Vec<T>)> {
    let mut results = Vec::new();
    let multiple = |time: EventTime| time.as_micros().div_euclid(span.as_micros());
    for (key, events) in by_key(accepted, key) {
        let multiples: BTreeSet<i64> = events.iter().map(|e| multiple(e.time)).collect();
        for (index, at) in multiples.into_iter().enumerate() {
            let held =
                |e: &&Judged<T>| multiple(e.time) == at || (accumulating && multiple(e.time) < at);
            let held: Vec<Judged<T>> = events.iter().filter(held).cloned().collect();
            results.push((key.clone(), index as u64, rows(&held)));
        }
    }
    results
}

/// A key as a process function sees it, for [`process`].
pub struct KeyModel<'a, S, O> {
    key: &'a mut OneKey<S>,
    time: EventTime,
    firing: bool,
    ended: bool,
    ttl: Option<Ttl>,
    outputs: &'a mut Vec<(EventTime, O)>,
}

struct OneKey<S> {
    state: Option<S>,
    touched: EventTime,
    timers: BTreeSet<(EventTime, String)>,
}

impl<S: Clone, O> KeyModel<'_, S, O> {
    /// The time of the event or timer.
    pub fn time(&self) -> EventTime {
        self.time
    }

    /// Reads the state.
    pub fn get(&mut self) -> Option<S> {
        if self.ttl.is_some_and(|ttl| ttl.on_read) {
            self.key.touched = self.time;
        }
        self.key.state.clone()
    }

    /// Writes the state.
    pub fn put(&mut self, state: Option<S>) {
        self.key.touched = self.time;
        self.key.state = state;
    }

    /// Emits a result.
    pub fn emit(&mut self, output: O) {
        self.outputs.push((self.time, output));
    }

    /// Sets a timer.
    ///
    /// # Panics
    /// If a firing timer sets one that is not later: the flow would stop.
    pub fn set_timer(&mut self, name: &str, time: EventTime) {
        assert!(!self.firing || time > self.time, "it would fire for ever");
        if !self.ended {
            self.key.timers.insert((time.max(self.time), name.to_owned()));
        }
    }

    /// Deletes a timer, and says whether there was one.
    pub fn delete_timer(&mut self, name: &str, time: EventTime) -> bool {
        self.key.timers.remove(&(time, name.to_owned()))
    }

    /// The timers, by time and name.
    pub fn timers(&self) -> Vec<(EventTime, String)> {
        self.key.timers.iter().cloned().collect()
    }
}

/// What a process function is called for.
pub enum Occasion<T> {
    /// An event.
    Event(T),
    /// A timer with this name.
    Timer(String),
}

/// What a process function makes of [`accepted`] events: results with their times, key by key.
/// A timer comes before an event of equal time, timers of equal time in order of name; after the
/// largest time of any event (late ones too) each timer that is left comes once, and sets none.
pub fn process<T: Clone, K: Ord, S: Clone, O>(
    accepted: &[Judged<T>],
    largest: EventTime,
    ttl: Option<Ttl>,
    key: impl Fn(&T) -> K,
    act: impl Fn(&mut KeyModel<'_, S, O>, &K, Occasion<T>),
) -> Vec<(EventTime, O)> {
    let mut outputs = Vec::new();
    for (key, events) in by_key(accepted, key) {
        let mut one = OneKey { state: None, touched: EventTime::MIN, timers: BTreeSet::new() };
        let mut call = |one: &mut OneKey<S>, time, firing, ended, occasion| {
            if ttl.is_some_and(|ttl| one.touched + ttl.span <= time) {
                one.state = None;
            }
            let outputs = &mut outputs;
            act(&mut KeyModel { key: one, time, firing, ended, ttl, outputs }, &key, occasion);
        };
        for event in &events {
            while one.timers.first().is_some_and(|(time, _)| *time <= event.time) {
                if let Some((time, name)) = one.timers.pop_first() {
                    call(&mut one, time, true, false, Occasion::Timer(name));
                }
            }
            call(&mut one, event.time, false, false, Occasion::Event(event.row.clone()));
        }
        while let Some((time, name)) = one.timers.pop_first() {
            call(&mut one, time, true, time > largest, Occasion::Timer(name));
        }
    }
    outputs
}
