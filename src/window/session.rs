//! Sessions: windows that grow with their events, and merge when they overlap.

use std::fmt;
use std::sync::Arc;

use highwater_state::planted::planted;
use serde::{Deserialize, Serialize};

use super::Window;
use super::few::Few;
use crate::time::{EventTime, Span, Watermark};

/// A window per burst of events: each event opens `[t, t + gap)`, and windows of one key that
/// overlap become one. Windows that only touch stay apart.
///
/// ```
/// use highwater::{minutes, Session};
/// assert_eq!(Session::with_gap(minutes(30)).to_string(), "session with gap 30min");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Session {
    gap: Span,
}

impl Session {
    /// A session ends when its key has been silent for `gap`.
    #[must_use]
    pub fn with_gap(gap: Span) -> Self {
        Session { gap }
    }

    /// Each event says how long it keeps its session open, after its own time. An event that
    /// says zero or less belongs to no session: it goes to the late port, with the reason
    /// [`BadGap`](crate::LateReason::BadGap).
    ///
    /// ```
    /// use highwater::{seconds, Session, Span};
    /// struct Login { remembered: bool }
    /// let gap = |login: &Login| if login.remembered { seconds(3600) } else { seconds(60) };
    /// let sessions = Session::with_gap_of("remembered", gap);
    /// assert_eq!(sessions.to_string(), "session with gap `remembered` per event");
    /// ```
    #[must_use]
    pub fn with_gap_of<T, F>(name: &str, gap: F) -> SessionBy<F>
    where
        F: Fn(&T) -> Span,
    {
        SessionBy { name: name.to_owned(), gap: Arc::new(gap) }
    }

    pub(crate) fn check(self) -> Result<(), String> {
        if self.gap > Span::ZERO {
            Ok(())
        } else {
            Err(format!("the session gap {} is not above zero", self.gap))
        }
    }
}

impl fmt::Display for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "session with gap {}", self.gap)
    }
}

/// Sessions with a gap per event: see [`Session::with_gap_of`]. The name stands for the function
/// in the plan: give another name to another function.
pub struct SessionBy<F> {
    name: String,
    gap: Arc<F>,
}

impl<F> Clone for SessionBy<F> {
    fn clone(&self) -> Self {
        SessionBy { name: self.name.clone(), gap: self.gap.clone() }
    }
}

impl<F> fmt::Display for SessionBy<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "session with gap `{}` per event", self.name)
    }
}

/// How long an event keeps its session open.
pub(crate) trait Gap<T>: Clone + 'static {
    fn gap(&self, row: &T) -> Span;
}

impl<T> Gap<T> for Session {
    #[inline]
    fn gap(&self, _: &T) -> Span {
        self.gap
    }
}

impl<T, F: Fn(&T) -> Span + 'static> Gap<T> for SessionBy<F> {
    #[inline]
    fn gap(&self, row: &T) -> Span {
        (self.gap)(row)
    }
}

/// The open sessions of one key: disjoint, sorted by start.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct SessionSet<A> {
    sessions: Few<(Window, A)>,
}

impl<A> Default for SessionSet<A> {
    fn default() -> Self {
        SessionSet { sessions: Few::Many(Vec::new()) }
    }
}

impl<A> SessionSet<A> {
    /// Adds an event: it opens a session, or extends and joins those that it overlaps. Returns
    /// the session that now holds it.
    pub(crate) fn insert(
        &mut self,
        time: EventTime,
        gap: Span,
        init: impl FnOnce() -> A,
        add: impl FnOnce(&mut A),
        mut merge: impl FnMut(&mut A, A),
    ) -> Window {
        let new = Window { start: time, end: time + gap };
        // An event at the last moment has no room for a window: there, time itself is inside.
        let joins = |w: &Window| {
            (w.start < new.end && new.start < w.end)
                || (planted("touching-sessions-merged") && overlaps_or_touches(*w, new))
                || (new.start == EventTime::MAX && w.end == new.end)
        };
        let open = self.sessions.as_slice();
        let first = open.partition_point(|(w, _)| w.start < new.start && !joins(w));
        let count = open[first..].iter().take_while(|(w, _)| joins(w)).count();
        if count == 0 {
            let mut state = init();
            add(&mut state);
            self.sessions.insert(first, (new, state));
            return new;
        }
        let joined = self.sessions.take(first + 1..first + count);
        let (window, state) = &mut self.sessions.as_mut_slice()[first];
        window.start = window.start.min(new.start);
        window.end = window.end.max(new.end);
        add(state);
        for (other, other_state) in joined {
            window.end = window.end.max(other.end);
            merge(state, other_state);
        }
        *window
    }

    /// Takes out the sessions to which nothing is added any more, in order of end.
    pub(crate) fn close(
        &mut self,
        watermark: Watermark,
        lateness: Span,
        mut visit: impl FnMut(Window, A),
    ) {
        let over = |(w, _): &&(Window, A)| w.is_over_by(watermark, lateness);
        let closed = self.sessions.as_slice().iter().take_while(over).count();
        for (window, state) in self.sessions.take(0..closed) {
            visit(window, state);
        }
    }

    /// Whether an event at `time` would join a session that is open.
    pub(crate) fn holds(&self, time: EventTime, gap: Span) -> bool {
        let new = Window { start: time, end: time + gap };
        self.sessions.as_slice().iter().any(|(w, _)| w.start < new.end && new.start < w.end)
    }

    pub(crate) fn windows(&self) -> impl Iterator<Item = Window> {
        self.sessions.as_slice().iter().map(|(window, _)| *window)
    }

    pub(crate) fn first(&self) -> Option<Window> {
        self.windows().next()
    }

    pub(crate) fn len(&self) -> usize {
        self.sessions.as_slice().len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.sessions.as_slice().is_empty()
    }
}

/// What sessions must not do: those that touch are two.
fn overlaps_or_touches(a: Window, b: Window) -> bool {
    a.start <= b.end && b.start <= a.end
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::micros;

    fn insert(set: &mut SessionSet<Vec<i64>>, t: i64, gap: i64) -> Window {
        let time = EventTime::from_micros(t);
        set.insert(time, micros(gap), Vec::new, |s| s.push(t), |a, b| a.extend(b))
    }

    fn contents(set: &SessionSet<Vec<i64>>) -> Vec<(i64, i64, Vec<i64>)> {
        let one = |(w, times): &(Window, Vec<i64>)| {
            let mut times = times.clone();
            times.sort_unstable();
            (w.start.as_micros(), w.end.as_micros(), times)
        };
        set.sessions.as_slice().iter().map(one).collect()
    }

    #[test]
    fn touching_sessions_stay_apart() {
        let mut set = SessionSet::default();
        insert(&mut set, 0, 5);
        insert(&mut set, 5, 5);
        assert_eq!(contents(&set), [(0, 5, vec![0]), (5, 10, vec![5])]);
        // An event that bridges two sessions makes them one.
        insert(&mut set, 4, 5);
        assert_eq!(contents(&set), [(0, 10, vec![0, 4, 5])]);
    }

    #[test]
    fn sessions_at_the_ends_of_time() {
        let mut set = SessionSet::default();
        insert(&mut set, i64::MAX, 5);
        insert(&mut set, i64::MAX - 2, 5);
        insert(&mut set, i64::MAX, 5);
        insert(&mut set, i64::MIN, 5);
        assert_eq!(set.len(), 2);
        let mut closed = Vec::new();
        set.close(Watermark::At(EventTime::MAX), Span::ZERO, |w, _| closed.push(w));
        assert_eq!(closed.len(), 1, "the session at the end of time stays open");
        set.close(Watermark::End, Span::ZERO, |w, _| closed.push(w));
        assert_eq!(closed.len(), 2);
    }

    proptest! {
        /// Each event with a gap of its own, in any order: windows that overlap are one.
        #[test]
        fn differential_gaps_per_event_against_merging_pairs(
            events in prop::collection::vec((-100i64..100, 1i64..30), 1..40),
        ) {
            let mut set = SessionSet::default();
            for (t, gap) in &events {
                insert(&mut set, *t, *gap);
            }
            let mut expected: Vec<(i64, i64, Vec<i64>)> =
                events.iter().map(|(t, gap)| (*t, t + gap, vec![*t])).collect();
            // Merge any two that overlap, until none do.
            let overlapping = |all: &[(i64, i64, Vec<i64>)]| {
                let pairs = (0..all.len()).flat_map(|i| (0..i).map(move |j| (i, j)));
                pairs.into_iter().find(|(i, j)| all[*i].0 < all[*j].1 && all[*j].0 < all[*i].1)
            };
            while let Some((i, j)) = overlapping(&expected) {
                let (start, end, mut times) = expected.swap_remove(i);
                let other = &mut expected[j];
                times.append(&mut other.2);
                *other = (start.min(other.0), end.max(other.1), times);
            }
            expected.iter_mut().for_each(|(_, _, times)| times.sort_unstable());
            expected.sort();
            prop_assert_eq!(contents(&set), expected);
        }

        /// The obvious model: sort all times and cut where the gap is.
        #[test]
        fn differential_sessions_against_a_sorted_list(
            mut times in prop::collection::vec(-200i64..200, 1..60), gap in 1i64..20,
        ) {
            let mut set = SessionSet::default();
            for &t in &times {
                let window = insert(&mut set, t, gap);
                prop_assert!(window.start.as_micros() <= t && t < window.end.as_micros());
            }
            times.sort_unstable();
            let mut expected: Vec<(i64, i64, Vec<i64>)> = Vec::new();
            for t in times {
                match expected.last_mut() {
                    Some((_, end, members)) if t < *end => {
                        *end = t + gap;
                        members.push(t);
                    }
                    _ => expected.push((t, t + gap, vec![t])),
                }
            }
            prop_assert_eq!(contents(&set), expected);
        }
    }
}
