//! What the demo shows at its end.

use std::time::Duration;

use highwater::{EventTime, Metrics};

use crate::say::sayln;

/// One hour of one key.
pub struct Row {
    pub key: String,
    pub start: EventTime,
    pub count: u64,
    pub mean_min: f64,
}

/// A number with commas.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Prints the table.
pub fn report(metrics: &Metrics, rows: &[Row], elapsed: Duration) {
    let (Some(source), Some(hourly)) = (metrics.operator("departures"), metrics.operator("hourly"))
    else {
        return;
    };
    let c = hourly.counters;
    let line = |name: &str, value: String| sayln!("  {name:<22}{value:>14}");
    sayln!();
    line("flights in", grouped(c.events_in));
    line("windows out", grouped(c.events_out - c.late));
    line("late flights", grouped(c.late));
    sayln!(
        "  conservation          {} in = {} used + {} late + {} dead + {} filtered + {} held{}",
        grouped(c.events_in),
        grouped(c.used),
        grouped(c.late),
        grouped(c.dead + source.counters.dead),
        grouped(c.filtered),
        grouped(c.held),
        if c.balanced() { "" } else { "  BROKEN" }
    );
    if metrics.resumed_from.is_none() {
        let rate = c.events_in as f64 / elapsed.as_secs_f64();
        line("flights/s", grouped(rate as u64));
    }
    line("ticks", grouped(metrics.ticks));
    line("commits", grouped(metrics.commits));
    line("commit p99", format!("{:.1} ms", metrics.commit_duration.p99.as_secs_f64() * 1e3));
    if rows.is_empty() {
        return;
    }
    sayln!("\n  worst and best hours with ten flights or more, mean delay in minutes\n");
    let most = rows.iter().map(|r| r.mean_min.abs()).fold(1.0, f64::max);
    for row in rows {
        let bar = "#".repeat((row.mean_min.max(0.0) / most * 30.0).round() as usize);
        sayln!(
            "  {:<4} {}  {:>3} flights  {:>7.1}  {bar}",
            row.key,
            row.start,
            row.count,
            row.mean_min
        );
    }
}
