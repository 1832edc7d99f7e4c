//! Pure window logic: from event time to windows.

mod calendar;
mod cumulate;
mod custom;
mod few;
mod fixed;
mod global;
mod pane;
mod session;

use highwater_state::planted::planted;
use serde::{Deserialize, Serialize};

use crate::time::{EventTime, Span, Watermark};

pub use calendar::Calendar;
pub use cumulate::Cumulate;
pub use custom::{BadWindow, CustomWindows};
pub use fixed::{FixedWindows, Hopping, Tumbling};
pub use global::Global;
pub(crate) use pane::PaneRules;
pub use pane::{Emit, Pane, Timing};
pub(crate) use session::{Gap, SessionSet};
pub use session::{Session, SessionBy};

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
            Watermark::At(time) if planted("inclusive-watermark") => {
                self.end < EventTime::MAX && self.end <= time + Span::from_micros(1)
            }
            _ => self.end < EventTime::MAX && watermark.closes(self.end),
        }
    }

    /// Whether no event for this window is accepted any more, where events may be late by
    /// `lateness`. It saturates: a window that would be over after the end of time is over with
    /// the input.
    #[must_use]
    pub fn is_over_by(self, watermark: Watermark, lateness: Span) -> bool {
        Window { start: self.start, end: self.end + lateness }.is_closed_by(watermark)
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
