//! The reference model of windows: every event is held against every window.

use std::collections::BTreeMap;

use super::Judged;
use crate::time::{EventTime, Span, Watermark};
use crate::window::Window;

/// Windows as a model sees them: which windows contain a time, by looking at all there are.
pub enum Windows<'a, T> {
    /// One window of `size` at every multiple of `slide` plus `offset`. With a slide equal to the
    /// size they are tumbling windows.
    Hopping {
        /// The length of a window.
        size: Span,
        /// From the start of a window to that of the next.
        slide: Span,
        /// The start of one of them.
        offset: Span,
    },
    /// Windows of all multiples of `step` up to `size`, at every multiple of `size`.
    Cumulate {
        /// By how much a window is longer than the one before.
        step: Span,
        /// The length of the longest.
        size: Span,
    },
    /// Whatever windows a function names for a time.
    Fixed(&'a dyn Fn(EventTime) -> Vec<Window>),
    /// An event opens a window from its time on, as long as the function says; those of a key
    /// that overlap are one.
    Session(&'a dyn Fn(&T) -> Span),
}

/// What windows make of all events.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome<K, T> {
    /// By key and window, the rows that count in it: by time, then by partition and position.
    pub results: Vec<(K, Window, Vec<T>)>,
    /// The rows that are late for all of their windows.
    pub late: Vec<T>,
    /// How many rows fell into no window.
    pub filtered: usize,
}

/// What windows with a lateness make of all events, each judged by the promise of its own
/// partition in force before it. Final results: one per key and window.
///
/// ```
/// use highwater::testing::model::{Windows, bounded, judge, windows};
/// use highwater::{EventTime, Span, micros};
///
/// let time = |row: &(u8, i64)| EventTime::from_micros(row.1);
/// let events = judge(&[vec![(7, 1), (7, 12), (7, 3)]], time, bounded(micros(0)));
/// let ten = micros(10);
/// let tumbling = Windows::Hopping { size: ten, slide: ten, offset: Span::ZERO };
/// let outcome = windows(&tumbling, Span::ZERO, &events, |row| row.0);
/// assert_eq!(outcome.results[0].2, [(7, 1)]);
/// assert_eq!(outcome.late, [(7, 3)]);
/// ```
pub fn windows<K: Ord + Clone, T: Clone>(
    kind: &Windows<'_, T>,
    lateness: Span,
    events: &[Judged<T>],
    key: impl Fn(&T) -> K,
) -> Outcome<K, T> {
    match kind {
        Windows::Session(gap) => sessions(*gap, lateness, events, key),
        _ => fixed(kind, lateness, events, key),
    }
}

/// Whether the promise in force before an event has reached `end` plus the lateness.
fn reached<T>(event: &Judged<T>, end: EventTime, lateness: Span) -> bool {
    let end = end + lateness;
    match event.promise {
        Watermark::At(promise) => end < EventTime::MAX && end <= promise,
        Watermark::Unknown | Watermark::End => false,
    }
}

fn in_order<T: Clone>(mut events: Vec<&Judged<T>>) -> Vec<T> {
    events.sort_by_key(|event| (event.time, event.partition, event.position));
    events.into_iter().map(|event| event.row.clone()).collect()
}

fn fixed<K: Ord + Clone, T: Clone>(
    kind: &Windows<'_, T>,
    lateness: Span,
    events: &[Judged<T>],
    key: impl Fn(&T) -> K,
) -> Outcome<K, T> {
    let mut results: BTreeMap<(K, Window), Vec<&Judged<T>>> = BTreeMap::new();
    let (mut late, mut filtered) = (Vec::new(), 0);
    for event in events {
        let all = containing(kind, event.time);
        filtered += usize::from(all.is_empty());
        let open = |window: &&Window| !reached(event, window.end, lateness);
        if !all.is_empty() && all.iter().find(open).is_none() {
            late.push(event.row.clone());
        }
        for window in all.iter().filter(open) {
            results.entry((key(&event.row), *window)).or_default().push(event);
        }
    }
    let results = results.into_iter().map(|((key, w), events)| (key, w, in_order(events)));
    Outcome { results: results.collect(), late, filtered }
}

/// All windows that contain a time: every one that could is looked at.
fn containing<T>(kind: &Windows<'_, T>, time: EventTime) -> Vec<Window> {
    let wide = |span: &Span| i128::from(span.as_micros());
    let t = i128::from(time.as_micros());
    let starts = |size: i128, slide: i128| {
        let (middle, reach) = (t / slide, size / slide + 2);
        (middle - reach..=middle + reach).map(move |k| k * slide)
    };
    let candidates: Vec<(i128, i128)> = match kind {
        Windows::Hopping { size, slide, offset } => {
            let starts = starts(wide(size), wide(slide)).map(|start| start + wide(offset));
            starts.map(|start| (start, start + wide(size))).collect()
        }
        Windows::Cumulate { step, size } => {
            let (step, size) = (wide(step), wide(size));
            let lengths = |start| (1..=size / step).map(move |n| (start, start + n * step));
            starts(size, size).flat_map(lengths).collect()
        }
        Windows::Fixed(assign) => return assign(time),
        Windows::Session(_) => Vec::new(),
    };
    // What lies beyond time is cut off.
    let at = |t: i128| {
        EventTime::from_micros(t.clamp(i128::from(i64::MIN), i128::from(i64::MAX)) as i64)
    };
    let inside = candidates.into_iter().filter(|(start, end)| *start <= t && t < *end);
    let mut all: Vec<Window> =
        inside.map(|(start, end)| Window { start: at(start), end: at(end) }).collect();
    all.dedup();
    all
}

/// A session under construction: its key, its window, and its events.
type Open<'a, K, T> = (K, Window, Vec<&'a Judged<T>>);

fn sessions<K: Ord + Clone, T: Clone>(
    gap: &dyn Fn(&T) -> Span,
    lateness: Span,
    events: &[Judged<T>],
    key: impl Fn(&T) -> K,
) -> Outcome<K, T> {
    let mut late = Vec::new();
    let mut open: Vec<Open<'_, K, T>> = Vec::new();
    for event in events {
        let gap = gap(&event.row);
        // An event is late by itself, whatever session it would join.
        let passed = match event.promise {
            Watermark::At(promise) => event.time + lateness < promise,
            Watermark::Unknown | Watermark::End => false,
        };
        if gap <= Span::ZERO || passed {
            late.push(event.row.clone());
            continue;
        }
        let window = Window { start: event.time, end: event.time + gap };
        open.push((key(&event.row), window, vec![event]));
    }
    // Any two of a key that overlap become one, until none do.
    while let Some((i, j)) = overlapping(&open) {
        let (_, window, mut events) = open.swap_remove(i);
        let other = &mut open[j];
        other.1.start = other.1.start.min(window.start);
        other.1.end = other.1.end.max(window.end);
        other.2.append(&mut events);
    }
    open.sort_by(|a, b| (&a.0, a.1).cmp(&(&b.0, b.1)));
    let results = open.into_iter().map(|(key, window, events)| (key, window, in_order(events)));
    Outcome { results: results.collect(), late, filtered: 0 }
}

fn overlapping<K: Ord, T>(open: &[Open<'_, K, T>]) -> Option<(usize, usize)> {
    let pairs = (0..open.len()).flat_map(|i| (0..i).map(move |j| (i, j)));
    let overlap = |a: &Open<'_, K, T>, b: &Open<'_, K, T>| {
        a.0 == b.0 && a.1.start < b.1.end && b.1.start < a.1.end
    };
    pairs.into_iter().find(|(i, j)| overlap(&open[*i], &open[*j]))
}
