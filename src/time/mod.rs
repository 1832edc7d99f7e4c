//! Event time, watermarks, ticks and the promises of partitions.
//!
//! Everything here is pure. The one reader of the system clock is [`clock`].

pub(crate) mod clock;
mod clock_time;
mod least;
mod partitions;
mod promise;
mod skew;
mod state;
mod summary;
mod text;

use std::fmt;
use std::ops::{Add, Sub};

use serde::{Deserialize, Serialize};

pub use clock_time::ClockTime;
pub(crate) use partitions::{Outcome, PartitionTimes};
pub use promise::Disorder;
pub use skew::Skew;
pub(crate) use state::{Activity, TimeState};
pub(crate) use summary::Summary;
pub use text::ParseTimeError;

/// A point in event time: microseconds since the Unix epoch.
///
/// Arithmetic with a [`Span`] saturates at the ends of `i64`.
///
/// ```
/// use highwater::{EventTime, seconds};
/// let t = EventTime::from_micros(1_500_000);
/// assert_eq!(t + seconds(1), EventTime::from_micros(2_500_000));
/// assert_eq!(EventTime::MAX + seconds(1), EventTime::MAX);
/// assert_eq!(t.to_string(), "1970-01-01T00:00:01.500000Z");
/// ```
///
/// Formats for people (JSON, CSV) carry RFC 3339 text, and integers are read as microseconds;
/// binary formats carry the `i64`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EventTime(i64);

impl EventTime {
    /// The earliest representable time.
    pub const MIN: EventTime = EventTime(i64::MIN);
    /// The latest representable time.
    pub const MAX: EventTime = EventTime(i64::MAX);

    /// A time from microseconds since the Unix epoch.
    #[inline]
    #[must_use]
    pub const fn from_micros(micros: i64) -> Self {
        EventTime(micros)
    }

    /// A time from milliseconds since the Unix epoch, saturating.
    #[inline]
    #[must_use]
    pub const fn from_millis(millis: i64) -> Self {
        EventTime(millis.saturating_mul(1_000))
    }

    /// A time from seconds since the Unix epoch, saturating.
    #[inline]
    #[must_use]
    pub const fn from_seconds(seconds: i64) -> Self {
        EventTime(seconds.saturating_mul(1_000_000))
    }

    /// Microseconds since the Unix epoch.
    #[inline]
    #[must_use]
    pub const fn as_micros(self) -> i64 {
        self.0
    }

    /// Appends bytes whose order is the order of times.
    pub(crate) fn sort_bytes(self, bytes: &mut Vec<u8>) {
        // The sign bit is flipped, for negative times come first.
        bytes.extend_from_slice(&(self.0 as u64 ^ (1 << 63)).to_be_bytes());
    }
}

impl Add<Span> for EventTime {
    type Output = EventTime;
    #[inline]
    fn add(self, span: Span) -> EventTime {
        EventTime(self.0.saturating_add(span.0))
    }
}

impl Sub<Span> for EventTime {
    type Output = EventTime;
    #[inline]
    fn sub(self, span: Span) -> EventTime {
        EventTime(self.0.saturating_sub(span.0))
    }
}

impl Sub for EventTime {
    type Output = Span;
    #[inline]
    fn sub(self, other: EventTime) -> Span {
        Span(self.0.saturating_sub(other.0))
    }
}

/// A length of event time in microseconds.
///
/// ```
/// use highwater::{hours, minutes, Span};
/// assert_eq!(hours(1), minutes(60));
/// assert_eq!(Span::from_micros(5).as_micros(), 5);
/// ```
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Span(i64);

impl Span {
    /// No time at all.
    pub const ZERO: Span = Span(0);

    /// A span of microseconds.
    #[inline]
    #[must_use]
    pub const fn from_micros(micros: i64) -> Self {
        Span(micros)
    }

    /// The span in microseconds.
    #[inline]
    #[must_use]
    pub const fn as_micros(self) -> i64 {
        self.0
    }
}

impl Add for Span {
    type Output = Span;
    #[inline]
    fn add(self, other: Span) -> Span {
        Span(self.0.saturating_add(other.0))
    }
}

/// The largest unit that divides the span: `3h`, `90s`, `1500µs`.
impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [(i64, &str); 5] = [
            (86_400_000_000, "d"),
            (3_600_000_000, "h"),
            (60_000_000, "min"),
            (1_000_000, "s"),
            (1_000, "ms"),
        ];
        for (size, name) in UNITS {
            if self.0 != 0 && self.0 % size == 0 {
                return write!(f, "{}{name}", self.0 / size);
            }
        }
        write!(f, "{}µs", self.0)
    }
}

/// A span of microseconds.
#[must_use]
pub const fn micros(n: i64) -> Span {
    Span(n)
}

/// A span of milliseconds, saturating.
#[must_use]
pub const fn millis(n: i64) -> Span {
    Span(n.saturating_mul(1_000))
}

/// A span of seconds, saturating.
#[must_use]
pub const fn seconds(n: i64) -> Span {
    Span(n.saturating_mul(1_000_000))
}

/// A span of minutes, saturating.
#[must_use]
pub const fn minutes(n: i64) -> Span {
    Span(n.saturating_mul(60_000_000))
}

/// A span of hours, saturating.
#[must_use]
pub const fn hours(n: i64) -> Span {
    Span(n.saturating_mul(3_600_000_000))
}

/// A span of days of 24 hours, saturating.
#[must_use]
pub const fn days(n: i64) -> Span {
    Span(n.saturating_mul(86_400_000_000))
}

/// An exclusive bound: no event with a time below it is still expected.
///
/// `End` is a value of its own, so that an event at `EventTime::MAX` is still before it.
///
/// ```
/// use highwater::{EventTime, Watermark};
/// let w = Watermark::At(EventTime::from_micros(10));
/// assert!(w.has_passed(EventTime::from_micros(9)));
/// assert!(!w.has_passed(EventTime::from_micros(10)));
/// assert!(Watermark::End.has_passed(EventTime::MAX));
/// ```
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub enum Watermark {
    /// Nothing is known yet.
    #[default]
    Unknown,
    /// All times below this one are done.
    At(EventTime),
    /// All times are done.
    End,
}

impl Watermark {
    /// Whether `time` lies below the watermark, so that no event at `time` is still expected.
    #[inline]
    #[must_use]
    pub fn has_passed(self, time: EventTime) -> bool {
        match self {
            Watermark::Unknown => false,
            Watermark::At(w) => time < w,
            Watermark::End => true,
        }
    }

    /// Whether a window with the exclusive bound `end` is complete.
    #[inline]
    #[must_use]
    pub fn closes(self, end: EventTime) -> bool {
        match self {
            Watermark::Unknown => false,
            Watermark::At(w) => end <= w,
            Watermark::End => true,
        }
    }
}

impl Watermark {
    /// The watermark of what may come this far behind it.
    pub(crate) fn behind(self, span: Span) -> Watermark {
        match self {
            Watermark::At(time) => Watermark::At(time - span),
            other => other,
        }
    }
}

impl fmt::Display for Watermark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Watermark::Unknown => f.write_str("none yet"),
            Watermark::At(time) => time.fmt(f),
            Watermark::End => f.write_str("end of time"),
        }
    }
}

/// The number of one discrete micro-batch.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Tick(pub u64);

impl fmt::Display for Tick {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
