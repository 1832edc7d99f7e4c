//! Process functions that a transcript may name.

use super::value::{Row, Value};
use crate::keyed::{Process, ProcessCx, Timer};
use crate::time::{EventTime, Span};

/// Tells of a key that has been silent for so long, with how many events it had until then.
pub(super) struct Absence {
    pub(super) after: Span,
}

/// When the alarm is set for, and how many events have come since the last one.
type Armed = (EventTime, i64);

fn row(key: &str, time: EventTime, value: i64) -> Row {
    Row { key: key.to_owned(), time, value: Value::Int(value), window: None, pane: None }
}

impl Process<String, Row> for Absence {
    type State = Armed;
    type Output = Row;

    fn event(&self, cx: &mut ProcessCx<'_, Armed, Row>, _: &String, _: Row) {
        let before = cx.state().take();
        if let Some((armed, _)) = before {
            cx.delete_timer("silence", armed);
        }
        let at = cx.time() + self.after;
        cx.set_timer("silence", at);
        *cx.state() = Some((at, before.map_or(0, |(_, count)| count) + 1));
    }

    fn timer(&self, cx: &mut ProcessCx<'_, Armed, Row>, key: &String, timer: &Timer) {
        let count = cx.state().take().map_or(0, |(_, count)| count);
        cx.emit(row(key, timer.time, count));
    }
}

/// Beats in a fixed rhythm from the first event of a key on, and says how many events there
/// have been.
pub(super) struct Heartbeat {
    pub(super) every: Span,
}

impl Process<String, Row> for Heartbeat {
    type State = i64;
    type Output = Row;

    fn event(&self, cx: &mut ProcessCx<'_, i64, Row>, _: &String, _: Row) {
        let count = cx.state().unwrap_or_default();
        if count == 0 {
            let at = cx.time() + self.every;
            cx.set_timer("beat", at);
        }
        *cx.state() = Some(count + 1);
    }

    fn timer(&self, cx: &mut ProcessCx<'_, i64, Row>, key: &String, timer: &Timer) {
        let count = cx.state().unwrap_or_default();
        cx.emit(row(key, timer.time, count));
        cx.set_timer("beat", timer.time + self.every);
    }
}

/// Numbers the events of a key in the order in which it sees them: what comes out shows it.
pub(super) struct Sequence;

impl Process<String, Row> for Sequence {
    type State = Vec<i64>;
    type Output = Row;

    fn event(&self, cx: &mut ProcessCx<'_, Vec<i64>, Row>, _: &String, event: Row) {
        let mut seen = cx.state().take().unwrap_or_default();
        seen.push(event.value.number());
        cx.emit(Row { value: Value::List(seen.clone()), ..event });
        *cx.state() = Some(seen);
    }
}

/// Sets a timer at a fixed time, whatever the event's own.
pub(super) struct Alarm {
    pub(super) at: EventTime,
    /// The firing timer sets another one this far from itself: at or below zero is an error.
    pub(super) again: Option<Span>,
}

impl Process<String, Row> for Alarm {
    type State = i64;
    type Output = Row;

    fn event(&self, cx: &mut ProcessCx<'_, i64, Row>, _: &String, event: Row) {
        let sum = cx.state().unwrap_or_default() + event.value.number();
        *cx.state() = Some(sum);
        cx.set_timer("alarm", self.at);
    }

    fn timer(&self, cx: &mut ProcessCx<'_, i64, Row>, key: &String, timer: &Timer) {
        let sum = cx.state().unwrap_or_default();
        cx.emit(row(key, timer.time, sum));
        if let Some(again) = self.again {
            cx.set_timer("alarm", timer.time + again);
        }
    }
}
