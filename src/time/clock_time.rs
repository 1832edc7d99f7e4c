//! A point on the tick clock: what processing-time timers are set by.

use std::fmt;
use std::ops::{Add, Sub};

use serde::{Deserialize, Serialize};

use super::{EventTime, Span};

/// A reading of the tick clock: microseconds since the Unix epoch, as the machine had it when
/// the tick was opened. A type of its own, so that it is not mistaken for an [`EventTime`].
///
/// ```
/// use highwater::{seconds, ClockTime};
/// let t = ClockTime::from_micros(1_500_000);
/// assert_eq!(t + seconds(1), ClockTime::from_micros(2_500_000));
/// assert_eq!((t + seconds(1)) - t, seconds(1));
/// assert_eq!(t.to_string(), "1970-01-01T00:00:01.500000Z");
/// ```
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct ClockTime(i64);

impl ClockTime {
    /// A reading of so many microseconds since the Unix epoch.
    #[must_use]
    pub const fn from_micros(micros: i64) -> Self {
        ClockTime(micros)
    }

    /// Microseconds since the Unix epoch.
    #[must_use]
    pub const fn as_micros(self) -> i64 {
        self.0
    }
}

impl Add<Span> for ClockTime {
    type Output = ClockTime;
    fn add(self, span: Span) -> ClockTime {
        ClockTime(self.0.saturating_add(span.as_micros()))
    }
}

impl Sub for ClockTime {
    type Output = Span;
    fn sub(self, other: ClockTime) -> Span {
        Span::from_micros(self.0.saturating_sub(other.0))
    }
}

impl fmt::Display for ClockTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        EventTime::from_micros(self.0).fmt(f)
    }
}
