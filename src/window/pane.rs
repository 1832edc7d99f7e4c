//! Panes: what a window tells before, at and after its end.

use std::fmt;

use highwater_state::planted::planted;
use serde::{Deserialize, Serialize};

use super::Window;
use crate::time::{EventTime, Span, Watermark};

/// When a window tells what is in it, beside its one final pane.
///
/// In every case a window tells at its end what it has not told yet, then once per tick in which
/// an event came that was late but allowed, and at last, when nothing is accepted any more, a
/// pane that is final.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Emit {
    /// Not before its end.
    OnClose,
    /// In each tick that changed it.
    OnChange,
    /// Whenever the watermark has passed a multiple of this span of event time.
    Every(Span),
    /// Whenever the clock of ticks has passed a multiple of this span.
    EveryClock(Span),
    /// After this many events of its key.
    EveryCount(u64),
}

impl Emit {
    pub(crate) fn check(self) -> Option<String> {
        match self {
            Emit::Every(span) | Emit::EveryClock(span) if span <= Span::ZERO => {
                Some(format!("panes every {span}: it must be longer than nothing"))
            }
            Emit::EveryCount(0) => Some("panes every 0 events: it must be at least one".into()),
            _ => None,
        }
    }
}

impl fmt::Display for Emit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Emit::OnClose => f.write_str("emit on close"),
            Emit::OnChange => f.write_str("emit on change"),
            Emit::Every(span) => write!(f, "emit every {span} of event time"),
            Emit::EveryClock(span) => write!(f, "emit every {span} of the clock"),
            Emit::EveryCount(count) => write!(f, "emit every {count} events"),
        }
    }
}

/// When a pane came, seen from its window.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Timing {
    /// Before the watermark reached the window's end.
    Early,
    /// In the tick in which it did.
    OnTime,
    /// In a later tick.
    Late,
}

/// What a window tells of one key: an upsert, to be known by key, window and index.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Pane<K, V> {
    /// The key.
    pub key: K,
    /// The window.
    pub window: Window,
    /// The aggregate of all events so far; of those since the last pane, where panes are
    /// [purging](crate::WindowedPanes::purging).
    pub value: V,
    /// Counts the panes of this key and window, from 0.
    pub index: u32,
    /// When it came.
    pub timing: Timing,
    /// It is the last one of this key and window. Each has exactly one.
    pub is_final: bool,
    /// The window's end plus the lateness: in the tick in which the watermark reaches this time,
    /// the final pane comes.
    pub expires: EventTime,
}

/// What decides when panes come.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PaneRules {
    pub(crate) emit: Emit,
    pub(crate) purging: bool,
    pub(crate) lateness: Span,
}

impl PaneRules {
    /// What the watermark `now` makes of a window with content, where it was `before` at the end
    /// of the tick before; `None`: nothing yet.
    pub(crate) fn timing(
        &self,
        window: Window,
        before: Watermark,
        now: Watermark,
    ) -> Option<Timing> {
        if window.is_closed_by(before) {
            Some(Timing::Late)
        } else if window.is_closed_by(now) {
            Some(Timing::OnTime)
        } else {
            None
        }
    }

    /// Whether nothing is accepted any more for a window.
    pub(crate) fn is_over(&self, window: Window, now: Watermark) -> bool {
        let early = planted("window-cleanup-early");
        window.is_over_by(now, if early { Span::ZERO } else { self.lateness })
    }

    /// Whether early panes are due, as the watermark moves.
    pub(crate) fn passes(&self, before: Watermark, now: Watermark) -> bool {
        match self.emit {
            Emit::OnChange => true,
            Emit::Every(span) => multiple(span, before) < multiple(span, now),
            Emit::OnClose | Emit::EveryClock(_) | Emit::EveryCount(_) => false,
        }
    }
}

/// How many multiples of the span lie at or below the watermark.
fn multiple(span: Span, watermark: Watermark) -> Option<i64> {
    match watermark {
        Watermark::Unknown => None,
        Watermark::At(time) => Some(time.as_micros().div_euclid(span.as_micros())),
        Watermark::End => Some(i64::MAX),
    }
}
