//! Windows that grow in steps from one start, and begin anew when they have reached their size.

use std::fmt;

use super::fixed::{MOST_OVERLAPS, check_side_by_side, display_offset, is_near, sealed, window};
use super::{FixedWindows, Window};
use crate::time::{EventTime, Span};

/// Windows that share a start and grow by a step each, up to a size: the day so far, told every
/// hour. An event falls into every window of its size that ends after it.
///
/// ```
/// use highwater::{days, hours, Cumulate, EventTime, FixedWindows};
/// let mut ends = Vec::new();
/// let windows = Cumulate::of(hours(6), days(1));
/// windows.for_each("2013-01-01T13:10:00Z".parse()?, |w| ends.push(w.end.to_string()));
/// assert_eq!(ends, ["2013-01-02T00:00:00Z", "2013-01-01T18:00:00Z"]);
/// # Ok::<(), highwater::ParseTimeError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cumulate {
    step: Span,
    size: Span,
    offset: Span,
}

impl Cumulate {
    /// Windows that grow by `step` up to `size`, a multiple of it. One begins at the Unix epoch.
    #[must_use]
    pub fn of(step: Span, size: Span) -> Self {
        Cumulate { step, size, offset: Span::ZERO }
    }

    /// Moves all windows; the offset must be smaller than the size.
    #[must_use]
    pub fn offset(mut self, offset: Span) -> Self {
        self.offset = offset;
        self
    }
}

impl sealed::Sealed for Cumulate {}

impl FixedWindows for Cumulate {
    const ONE_WINDOW: bool = false;

    fn check(&self) -> Result<(), String> {
        check_side_by_side(self.size, self.offset)?;
        let (step, size) = (self.step.as_micros(), self.size.as_micros());
        if step <= 0 || size % step != 0 {
            return Err(format!(
                "windows of size {} that grow by {}: the size must be a multiple of the step",
                self.size, self.step
            ));
        }
        if size / step > MOST_OVERLAPS {
            return Err(format!(
                "windows of size {} that grow by {}: an event would fall into more than \
                 {MOST_OVERLAPS} windows",
                self.size, self.step
            ));
        }
        Ok(())
    }

    fn for_each(&self, time: EventTime, mut f: impl FnMut(Window)) {
        // In wide numbers: once per slice is not often.
        let wide = |span: Span| i128::from(span.as_micros());
        let (t, step, size) = (i128::from(time.as_micros()), wide(self.step), wide(self.size));
        let into = (t - wide(self.offset)).rem_euclid(size);
        let mut length = size;
        let mut last = None;
        while length > into {
            let found = window(t - into, length);
            // Windows that end beyond time are one.
            if last != Some(found) {
                f(found);
            }
            last = Some(found);
            length -= step;
        }
    }

    #[inline]
    fn slice(&self, time: EventTime) -> Option<Window> {
        let (t, step) = (time.as_micros(), self.step.as_micros());
        if !is_near(t) || !is_near(self.size.as_micros()) {
            return None;
        }
        let start = t - (t - self.offset.as_micros()).rem_euclid(step);
        let at = EventTime::from_micros;
        Some(Window { start: at(start), end: at(start + step) })
    }
}

impl fmt::Display for Cumulate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cumulating {} by {}", self.size, self.step)?;
        display_offset(self.offset, f)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::micros;

    fn windows(kind: Cumulate, t: i64) -> Vec<(i64, i64)> {
        let mut found = Vec::new();
        kind.for_each(EventTime::from_micros(t), |w| {
            found.push((w.start.as_micros(), w.end.as_micros()));
        });
        found
    }

    #[test]
    fn cumulating_windows() {
        let kind = Cumulate::of(micros(5), micros(15));
        assert_eq!(windows(kind, 0), [(0, 15), (0, 10), (0, 5)]);
        assert_eq!(windows(kind, 4), [(0, 15), (0, 10), (0, 5)]);
        assert_eq!(windows(kind, 5), [(0, 15), (0, 10)]);
        assert_eq!(windows(kind, 14), [(0, 15)]);
        assert_eq!(windows(kind, 15), [(15, 30), (15, 25), (15, 20)]);
        assert_eq!(windows(kind, -1), [(-15, 0)]);
        assert_eq!(windows(kind, -6), [(-15, 0), (-15, -5)]);
        assert_eq!(windows(kind.offset(micros(2)), 1), [(-13, 2)]);
    }

    #[test]
    fn parameters_that_do_not_fit_are_refused() {
        let refused = |step, size| Cumulate::of(micros(step), micros(size)).check().unwrap_err();
        assert!(refused(4, 10).contains("multiple"));
        assert!(refused(0, 10).contains("multiple"));
        assert!(refused(-5, 10).contains("multiple"));
        assert!(refused(5, 0).contains("above zero"));
        assert!(refused(1, 10_001).contains("10000"));
        assert!(Cumulate::of(micros(10), micros(10)).check().is_ok());
        assert!(Cumulate::of(micros(10), micros(10)).offset(micros(10)).check().is_err());
    }

    #[test]
    fn every_time_has_windows_and_each_once() {
        let kind = Cumulate::of(micros(4), micros(12));
        for t in [i64::MIN, i64::MIN + 1, i64::MIN + 9, i64::MAX - 9, i64::MAX - 1, i64::MAX] {
            let mut found = windows(kind, t);
            let count = found.len();
            assert!((1..=3).contains(&count), "{found:?}");
            assert!(found.iter().all(|(s, e)| *s <= t && (t < *e || *e == i64::MAX)), "{found:?}");
            found.dedup();
            assert_eq!(found.len(), count, "at {t}");
        }
    }

    proptest! {
        #[test]
        fn differential_cumulate_against_a_scan(
            t in -200i64..200, step in 1i64..9, steps in 1i64..9, offset in -70i64..70,
        ) {
            let size = step * steps;
            prop_assume!(offset.abs() < size);
            let kind = Cumulate::of(micros(step), micros(size)).offset(micros(offset));
            let mut expected = Vec::new();
            for k in -600..600 {
                for length in (1..=steps).rev().map(|n| n * step) {
                    let start = offset + k * size;
                    if start <= t && t < start + length {
                        expected.push((start, start + length));
                    }
                }
            }
            prop_assert_eq!(&windows(kind, t), &expected);
            let slice = kind.slice(EventTime::from_micros(t)).unwrap();
            prop_assert!(slice.contains(EventTime::from_micros(t)));
            for other in slice.start.as_micros()..slice.end.as_micros() {
                prop_assert_eq!(&windows(kind, other), &expected);
            }
        }
    }
}
