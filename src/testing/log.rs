//! What a driven flow did, tick by tick, as text: for snapshot tests.

use std::fmt::Write as _;

use crate::metrics::{Metrics, OperatorMetrics};

/// Lines that say what happened. They depend on what was done to the driver alone, not on the
/// number of workers or the seed, as long as the flow does not either.
#[derive(Default)]
pub(super) struct Log {
    lines: Vec<String>,
}

impl Log {
    pub(super) fn lines(&self) -> &[String] {
        &self.lines
    }

    pub(super) fn note(&mut self, line: String) {
        self.lines.push(line);
    }

    /// Notes what changed in a tick: watermarks, and what became of events.
    pub(super) fn tick(&mut self, before: &Metrics, after: &Metrics, committed: bool) {
        let mut line = format!("tick {}", after.tick);
        if committed {
            line.push_str(", committed");
        }
        if after.finished && !before.finished {
            line.push_str(", finished");
        }
        self.lines.push(line);
        for operator in &after.operators {
            let known = before.operator(&operator.id);
            self.lines.extend(change(known, operator));
        }
    }
}

/// What an operator did between two readings of its metrics, if it did anything.
fn change(before: Option<&OperatorMetrics>, after: &OperatorMetrics) -> Option<String> {
    let (old, old_watermark) = before.map(|b| (b.counters, b.watermark)).unwrap_or_default();
    let new = after.counters;
    let mut line = String::new();
    let counts = [
        ("in", old.events_in, new.events_in),
        ("used", old.used, new.used),
        ("late", old.late, new.late),
        ("dead", old.dead, new.dead),
        ("filtered", old.filtered, new.filtered),
        ("out", old.events_out, new.events_out),
    ];
    for (name, old, new) in counts {
        if new > old {
            let _ = write!(line, " {name} {}", new - old);
        }
    }
    if new.held != old.held {
        let _ = write!(line, " held {} -> {}", old.held, new.held);
    }
    if after.watermark != old_watermark {
        let _ = write!(line, " watermark {} -> {}", old_watermark, after.watermark);
    }
    if line.is_empty() { None } else { Some(format!("  {}:{line}", after.id)) }
}
