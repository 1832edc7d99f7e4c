//! Pure window logic: from event time to windows.

mod fixed;
mod session;

use serde::{Deserialize, Serialize};

use crate::time::{EventTime, Span, Watermark};

pub use fixed::{FixedWindows, Hopping, Tumbling};
pub use session::Session;
pub(crate) use session::SessionSet;

/// A half-open interval of event time, `[start, end)`.
///
/// A window that reaches `EventTime::MAX` has no end within time: it holds events at
/// `EventTime::MAX` too, and only the end of time closes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Window {
    /// The first time inside.
    pub start: EventTime,
    /// The first time after.
    pub end: EventTime,
}

impl Window {
    /// Whether `time` lies inside.
    #[inline]
    #[must_use]
    pub fn contains(self, time: EventTime) -> bool {
        self.start <= time && (time < self.end || self.end == EventTime::MAX)
    }

    /// Whether no event for this window is still expected.
    ///
    /// ```
    /// use highwater::{EventTime, Watermark, Window};
    /// let t = EventTime::from_micros;
    /// let window = Window { start: t(0), end: t(10) };
    /// assert!(!window.is_closed_by(Watermark::At(t(9))));
    /// assert!(window.is_closed_by(Watermark::At(t(10))));
    /// let last = Window { start: t(0), end: EventTime::MAX };
    /// assert!(!last.is_closed_by(Watermark::At(EventTime::MAX)));
    /// assert!(last.is_closed_by(Watermark::End));
    /// ```
    #[must_use]
    pub fn is_closed_by(self, watermark: Watermark) -> bool {
        match watermark {
            Watermark::End => true,
            _ => self.end < EventTime::MAX && watermark.closes(self.end),
        }
    }

    /// The time of the window's result: the last time inside.
    #[must_use]
    pub fn last_time(self) -> EventTime {
        if self.end == EventTime::MAX { self.end } else { self.end - Span::from_micros(1) }
    }
}

/// What came out of a window: at the window's last time, so that windows of windows nest.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct WindowResult<K, V> {
    /// The key.
    pub key: K,
    /// The window.
    pub window: Window,
    /// The aggregate's output.
    pub value: V,
}
