//! A picture of an outcome: percentiles above, the timeline below.

use std::fmt::Write as _;

use hdrhistogram::Histogram;

use super::outcome::Outcome;

const WIDTH: f64 = 860.0;
const HEIGHT: f64 = 640.0;
const LEFT: f64 = 70.0;
const RIGHT: f64 = 20.0;

/// A rectangle with a logarithmic scale of milliseconds upwards.
struct Panel {
    top: f64,
    height: f64,
    low_ms: f64,
    high_ms: f64,
}

impl Panel {
    fn y(&self, ms: f64) -> f64 {
        let ms = ms.clamp(self.low_ms, self.high_ms);
        let part = (ms / self.low_ms).ln() / (self.high_ms / self.low_ms).ln();
        self.top + self.height * (1.0 - part)
    }

    /// Lines at the powers of ten, with their names.
    fn grid(&self, svg: &mut String) {
        let mut ms = self.low_ms;
        while ms <= self.high_ms * 1.001 {
            let y = self.y(ms);
            line(svg, (LEFT, y), (WIDTH - RIGHT, y), "#ddd");
            text(svg, LEFT - 8.0, y + 4.0, "end", &format!("{ms} ms"));
            ms *= 10.0;
        }
    }

    fn curve(&self, svg: &mut String, points: &[(f64, f64)], colour: &str) {
        let mut path = String::new();
        for (x, ms) in points {
            let _ = write!(path, "{x:.1},{:.1} ", self.y(*ms));
        }
        let _ = writeln!(
            svg,
            "<polyline points='{}' fill='none' stroke='{colour}' stroke-width='1.6'/>",
            path.trim_end()
        );
    }
}

fn line(svg: &mut String, from: (f64, f64), to: (f64, f64), colour: &str) {
    let ((x1, y1), (x2, y2)) = (from, to);
    let _ = writeln!(
        svg,
        "<line x1='{x1:.1}' y1='{y1:.1}' x2='{x2:.1}' y2='{y2:.1}' stroke='{colour}'/>"
    );
}

fn text(svg: &mut String, x: f64, y: f64, anchor: &str, text: &str) {
    let text = text.replace('&', "&amp;").replace('<', "&lt;");
    let _ = writeln!(svg, "<text x='{x:.1}' y='{y:.1}' text-anchor='{anchor}'>{text}</text>");
}

/// The scale that holds everything that is drawn, in whole powers of ten.
fn scale(outcome: &Outcome, hiccups: Option<&Histogram<u64>>) -> (f64, f64) {
    let all = [Some(&outcome.latency), hiccups];
    let largest = all.iter().flatten().map(|h| h.max()).max().unwrap_or(1).max(1);
    let power = (largest as f64 / 1e3).log10().ceil();
    (0.01, 10f64.powf(power.max(0.0)))
}

pub(super) fn svg(outcome: &Outcome, hiccups: Option<&Histogram<u64>>) -> String {
    let mut svg = format!(
        "<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {WIDTH} {HEIGHT}' \
         font-family='sans-serif' font-size='12'>\n<rect width='{WIDTH}' height='{HEIGHT}' \
         fill='white'/>\n"
    );
    let (low_ms, high_ms) = scale(outcome, hiccups);
    let title = format!(
        "{:.0} events/s, {} answers in {:.0} s",
        outcome.rate,
        outcome.latency.len(),
        outcome.measured.as_secs_f64()
    );
    text(&mut svg, LEFT, 20.0, "start", &title);
    text(&mut svg, LEFT, 36.0, "start", &outcome.durability);
    let above = Panel { top: 60.0, height: 240.0, low_ms, high_ms };
    by_percentile(&mut svg, &above, outcome, hiccups);
    let below = Panel { top: 370.0, height: 220.0, low_ms, high_ms };
    over_time(&mut svg, &below, outcome);
    svg.push_str("</svg>\n");
    svg
}

fn by_percentile(
    svg: &mut String,
    panel: &Panel,
    outcome: &Outcome,
    hiccups: Option<&Histogram<u64>>,
) {
    panel.grid(svg);
    let names = ["0 %", "90 %", "99 %", "99.9 %", "99.99 %", "99.999 %"];
    let step = (WIDTH - LEFT - RIGHT) / (names.len() - 1) as f64;
    for (index, name) in names.iter().enumerate() {
        let x = LEFT + step * index as f64;
        line(svg, (x, panel.top), (x, panel.top + panel.height), "#ddd");
        text(svg, x, panel.top + panel.height + 16.0, "middle", name);
    }
    let points = |histogram: &Histogram<u64>| {
        let steps = 0..=100;
        let point = |step: i32| {
            let nines = f64::from(step) / 100.0 * (names.len() - 1) as f64;
            let quantile = 1.0 - 10f64.powf(-nines);
            let ms = histogram.value_at_quantile(quantile) as f64 / 1e3;
            (LEFT + nines * (WIDTH - LEFT - RIGHT) / (names.len() - 1) as f64, ms)
        };
        steps.map(point).collect::<Vec<_>>()
    };
    panel.curve(svg, &points(&outcome.latency), "#c03020");
    let mut legend = "latency by percentile".to_owned();
    if let Some(hiccups) = hiccups {
        panel.curve(svg, &points(hiccups), "#808080");
        legend.push_str("; grey: the machine's own hiccups");
    }
    text(svg, LEFT + 6.0, panel.top - 6.0, "start", &legend);
}

fn over_time(svg: &mut String, panel: &Panel, outcome: &Outcome) {
    panel.grid(svg);
    let slices = &outcome.timeline;
    let first = slices.first().map_or(0, |slice| slice.start_micros);
    let all = outcome.measured.as_secs_f64().max(0.001);
    let x = |micros: i64| LEFT + (micros - first) as f64 / 1e6 / all * (WIDTH - LEFT - RIGHT);
    for (colour, value) in [
        ("#c03020", (|s| s.max_micros) as fn(&super::Slice) -> u64),
        ("#e09030", |s| s.p99_micros),
        ("#3060a0", |s| s.p50_micros),
    ] {
        let answered = slices.iter().filter(|slice| slice.answers > 0);
        let points = answered.map(|slice| (x(slice.start_micros), value(slice) as f64 / 1e3));
        panel.curve(svg, &points.collect::<Vec<_>>(), colour);
    }
    let legend = "over time, in slices of 250 ms: longest (red), p99 (orange), median (blue)";
    text(svg, LEFT + 6.0, panel.top - 6.0, "start", legend);
    let bottom = panel.top + panel.height + 16.0;
    text(svg, LEFT, bottom, "middle", "0 s");
    text(svg, WIDTH - RIGHT, bottom, "end", &format!("{all:.0} s"));
}
