//! Sessions: windows that grow with their events, and merge when they overlap.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::Window;
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

    pub(crate) fn gap(self) -> Span {
        self.gap
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

/// The open sessions of one key: disjoint, sorted by start.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct SessionSet<A> {
    sessions: Vec<(Window, A)>,
}

impl<A> Default for SessionSet<A> {
    fn default() -> Self {
        SessionSet { sessions: Vec::new() }
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
                || (new.start == EventTime::MAX && w.end == new.end)
        };
        let first = self.sessions.partition_point(|(w, _)| w.start < new.start && !joins(w));
        let count = self.sessions[first..].iter().take_while(|(w, _)| joins(w)).count();
        if count == 0 {
            let mut state = init();
            add(&mut state);
            self.sessions.insert(first, (new, state));
            return new;
        }
        let joined: Vec<(Window, A)> = self.sessions.drain(first + 1..first + count).collect();
        let (window, state) = &mut self.sessions[first];
        window.start = window.start.min(new.start);
        window.end = window.end.max(new.end);
        add(state);
        for (other, other_state) in joined {
            window.end = window.end.max(other.end);
            merge(state, other_state);
        }
        *window
    }

    /// Takes out the sessions that the watermark closes, in order of end.
    pub(crate) fn close(&mut self, watermark: Watermark, mut visit: impl FnMut(Window, A)) {
        let closed = self.sessions.iter().take_while(|(w, _)| w.is_closed_by(watermark)).count();
        for (window, state) in self.sessions.drain(..closed) {
            visit(window, state);
        }
    }

    pub(crate) fn windows(&self) -> impl Iterator<Item = Window> {
        self.sessions.iter().map(|(window, _)| *window)
    }

    pub(crate) fn len(&self) -> usize {
        self.sessions.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.sessions.is_empty()
    }
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
        set.sessions.iter().map(one).collect()
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
        set.close(Watermark::At(EventTime::MAX), |w, _| closed.push(w));
        assert_eq!(closed.len(), 1, "the session at the end of time stays open");
        set.close(Watermark::End, |w, _| closed.push(w));
        assert_eq!(closed.len(), 2);
    }

    proptest! {
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
