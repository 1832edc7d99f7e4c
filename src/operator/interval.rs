//! Which rows of two sides are partners by their times, and how long each waits for one.

use std::fmt;

use highwater_state::planted::planted;

use crate::time::{EventTime, Span};

/// Partners are a left row at `l` and a right row at `r` with `l + lower <= r <= l + upper`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Interval {
    pub(crate) lower: Span,
    pub(crate) upper: Span,
}

/// Saturation: a bound beyond the ends of time is never passed before all input has ended.
impl Interval {
    pub(crate) fn check(self) -> Result<(), String> {
        let Interval { lower, upper } = self;
        if lower <= upper {
            Ok(())
        } else {
            Err(format!("no row has a partner: the lower bound {lower} is above the upper {upper}"))
        }
    }

    /// Whether the two are partners. Exact also where a bound lies beyond the ends of time.
    pub(crate) fn holds(self, left: EventTime, right: EventTime) -> bool {
        let apart = right.as_micros().checked_sub(left.as_micros());
        let in_range = |apart: i64| {
            let upper = self.upper.as_micros() - i64::from(planted("interval-off-by-one"));
            self.lower.as_micros() <= apart && apart <= upper
        };
        apart.is_some_and(in_range)
    }

    /// How long rows of both sides are kept: what the plan says of the state.
    pub(crate) fn state_bound(self) -> String {
        let left = self.upper.max(Span::ZERO);
        let right = Span::from_micros(self.lower.as_micros().saturating_neg()).max(Span::ZERO);
        format!("left rows are kept for {left}, right rows for {right} of event time")
    }

    /// The first and the last time of partners of a left row.
    pub(crate) fn of_left(self, left: EventTime) -> (EventTime, EventTime) {
        (left + self.lower, left + self.upper)
    }

    /// The first and the last time of partners of a right row.
    pub(crate) fn of_right(self, right: EventTime) -> (EventTime, EventTime) {
        (right - self.upper, right - self.lower)
    }
}

impl fmt::Display for Interval {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "right in [left{}, left{}]", Signed(self.lower), Signed(self.upper))
    }
}

/// A span with its sign.
struct Signed(Span);

impl fmt::Display for Signed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.0 < Span::ZERO { "" } else { "+" };
        write!(f, "{sign}{}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::micros;

    fn interval(lower: i64, upper: i64) -> Interval {
        Interval { lower: micros(lower), upper: micros(upper) }
    }

    fn at(micros: i64) -> EventTime {
        EventTime::from_micros(micros)
    }

    #[test]
    fn bounds_are_inclusive() {
        let inside = |l, r| interval(-5, 10).holds(at(l), at(r));
        assert!(inside(100, 95) && inside(100, 110));
        assert!(!inside(100, 94) && !inside(100, 111));
        assert!(interval(0, 0).holds(at(7), at(7)));
        assert!(!interval(0, 0).holds(at(7), at(8)));
    }

    #[test]
    fn bounds_beyond_the_ends_of_time() {
        let (min, max) = (i64::MIN, i64::MAX);
        assert!(interval(-5, 10).holds(at(max), at(max)));
        assert!(!interval(5, 10).holds(at(max), at(max)), "max + 5 is after the end of time");
        assert!(!interval(-10, -5).holds(at(min), at(min)), "min - 5 is before all time");
        assert!(!interval(min, max).holds(at(min), at(max)), "further apart than a span can say");
        assert!(interval(min, max).holds(at(-1), at(max - 1)));
    }

    #[test]
    fn each_side_sees_the_same_partners() {
        let intervals = [(-5, 10), (3, 3), (-9, -4), (2, 6), (0, 0)];
        for (lower, upper) in intervals {
            let interval = interval(lower, upper);
            for l in -20..20 {
                for r in -20..20 {
                    let holds = lower <= r - l && r - l <= upper;
                    assert_eq!(interval.holds(at(l), at(r)), holds);
                    let (from, to) = interval.of_left(at(l));
                    assert_eq!(from <= at(r) && at(r) <= to, holds);
                    let (from, to) = interval.of_right(at(r));
                    assert_eq!(from <= at(l) && at(l) <= to, holds);
                }
            }
        }
    }

    #[test]
    fn a_lower_bound_above_the_upper_is_refused() {
        assert!(interval(3, 3).check().is_ok());
        let message = interval(3, 2).check().unwrap_err();
        assert!(message.contains("lower bound 3µs") && message.contains("2µs"), "{message}");
    }
}
