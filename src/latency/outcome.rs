//! What a load found.

use std::fmt;
use std::io::Write;
use std::path::Path;
use std::time::Duration;

use hdrhistogram::Histogram;

use super::plot;
use crate::error::Error;

/// The percentiles that are told.
pub(super) const QUANTILES: [(f64, &str); 5] =
    [(0.5, "p50"), (0.9, "p90"), (0.99, "p99"), (0.999, "p99.9"), (0.9999, "p99.99")];

/// What was measured of a flow under load. It prints as a small table.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Outcome {
    /// Events per second.
    pub rate: f64,
    /// Worker threads.
    pub workers: usize,
    /// When an answer counted as visible.
    pub durability: String,
    /// How long was measured.
    pub measured: Duration,
    /// How long after they were due the answers became visible, in µs, to three digits.
    pub latency: Histogram<u64>,
    /// Answers that became visible before they were due, and are not in the histogram: then what
    /// was said of their due time is wrong.
    pub early: u64,
    /// Events that the flow had not read when patience was over: they have no answer, and the
    /// histogram does not know of them.
    pub unread: u64,
    /// Processor time of all threads within the measured time, where the system tells it.
    pub cpu: Option<Duration>,
    /// The measured time in slices of 250 ms.
    pub timeline: Vec<Slice>,
}

/// 250 ms of a load: the answers that were due then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Slice {
    /// When it began, in µs since the load did.
    pub start_micros: i64,
    /// How many answers were due in it.
    pub answers: u64,
    /// Their median latency, in µs.
    pub p50_micros: u64,
    /// Their 99th percentile, in µs.
    pub p99_micros: u64,
    /// The longest, in µs.
    pub max_micros: u64,
    /// Events that were due at its end and had not been read.
    pub backlog: u64,
}

impl Outcome {
    /// A percentile of the latency, in µs; `0.99` for the 99th.
    #[must_use]
    pub fn micros_at(&self, quantile: f64) -> u64 {
        self.latency.value_at_quantile(quantile)
    }

    /// Processor time per event in ns, if it is known.
    #[must_use]
    pub fn cpu_nanos_per_event(&self) -> Option<f64> {
        let events = self.rate * self.measured.as_secs_f64();
        Some(self.cpu?.as_nanos() as f64 / events)
    }

    /// Whether the flow kept up: nothing was left unread, and the backlog did not grow. It is
    /// compared by thirds of the measured time; what is due within 50 ms is not called a backlog.
    #[must_use]
    pub fn is_sustained(&self) -> bool {
        let third = self.timeline.len() / 3;
        let Some((first, last)) = self
            .timeline
            .split_at_checked(third)
            .and_then(|(first, rest)| Some((first, rest.split_at_checked(rest.len() - third)?.1)))
        else {
            return false;
        };
        let mean = |slices: &[Slice]| {
            slices.iter().map(|s| s.backlog as f64).sum::<f64>() / slices.len().max(1) as f64
        };
        let allowed = self.rate * 0.05;
        third > 0 && self.unread == 0 && mean(last) <= mean(first).min(allowed) + allowed
    }

    /// Writes `NAME.hgrm` (percentiles as HdrHistogram's tools read them, in ms), `NAME.csv` (the
    /// timeline) and `NAME.svg` (a plot of both) into a directory, which is made if need be.
    /// `hiccups` is drawn beside the latencies, and written as `NAME-hiccups.hgrm`.
    ///
    /// # Errors
    /// Where they cannot be written.
    pub fn write(
        &self,
        dir: impl AsRef<Path>,
        name: &str,
        hiccups: Option<&Histogram<u64>>,
    ) -> Result<(), Error> {
        let dir = dir.as_ref();
        std::fs::create_dir_all(dir).map_err(|e| cannot(dir, e))?;
        let write = |suffix: &str, text: String| {
            let path = dir.join(format!("{name}{suffix}"));
            std::fs::write(&path, text).map_err(|e| cannot(&path, e))
        };
        write(".hgrm", percentiles(&self.latency)?)?;
        if let Some(hiccups) = hiccups {
            write("-hiccups.hgrm", percentiles(hiccups)?)?;
        }
        write(".csv", self.csv())?;
        write(".svg", plot::svg(self, hiccups))
    }

    fn csv(&self) -> String {
        let mut text = "start_s,answers,p50_ms,p99_ms,max_ms,backlog\n".to_owned();
        for slice in &self.timeline {
            let ms = |micros: u64| micros as f64 / 1e3;
            text.push_str(&format!(
                "{:.2},{},{:.3},{:.3},{:.3},{}\n",
                slice.start_micros as f64 / 1e6,
                slice.answers,
                ms(slice.p50_micros),
                ms(slice.p99_micros),
                ms(slice.max_micros),
                slice.backlog
            ));
        }
        text
    }
}

fn cannot(path: &Path, error: std::io::Error) -> Error {
    Error::io(format!("cannot write {}", path.display()), error)
}

/// The percentiles of a histogram in the text form that HdrHistogram's own tools write and plot.
fn percentiles(histogram: &Histogram<u64>) -> Result<String, Error> {
    let mut text = Vec::new();
    let mut line = |parts: std::fmt::Arguments<'_>| {
        writeln!(text, "{parts}").map_err(|e| Error::io("cannot write to memory", e))
    };
    line(format_args!(
        "{:>12} {:>14} {:>10} {:>14}\n",
        "Value", "Percentile", "TotalCount", "1/(1-Percentile)"
    ))?;
    let mut total = 0;
    for value in histogram.iter_quantiles(5) {
        total += value.count_since_last_iteration();
        let ms = value.value_iterated_to() as f64 / 1e3;
        let quantile = value.quantile_iterated_to();
        if quantile < 1.0 {
            let odds = 1.0 / (1.0 - quantile);
            line(format_args!("{ms:>12.3} {quantile:>14.12} {total:>10} {odds:>14.2}"))?;
        } else {
            line(format_args!("{ms:>12.3} {quantile:>14.12} {total:>10} {:>14}", "inf"))?;
        }
    }
    let ms = |micros: f64| micros / 1e3;
    let (mean, deviation) = (ms(histogram.mean()), ms(histogram.stdev()));
    line(format_args!("#[Mean    = {mean:>12.3}, StdDeviation   = {deviation:>12.3}]"))?;
    let (max, count) = (ms(histogram.max() as f64), histogram.len());
    line(format_args!("#[Max     = {max:>12.3}, Total count    = {count:>12}]"))?;
    let (buckets, per_bucket) = (histogram.buckets(), histogram.distinct_values());
    line(format_args!("#[Buckets = {buckets:>12}, SubBuckets     = {per_bucket:>12}]"))?;
    Ok(String::from_utf8_lossy(&text).into_owned())
}

/// The percentiles in one line, in ms.
pub(super) fn in_one_line(histogram: &Histogram<u64>) -> String {
    let told = QUANTILES.map(|(quantile, name)| {
        format!("{name} {:.2}", histogram.value_at_quantile(quantile) as f64 / 1e3)
    });
    format!("{} max {:.2} ms", told.join(" "), histogram.max() as f64 / 1e3)
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plural = if self.workers == 1 { "" } else { "s" };
        writeln!(
            f,
            "{:.0} events/s for {:.0} s, {} worker{plural}, {}",
            self.rate,
            self.measured.as_secs_f64(),
            self.workers,
            self.durability
        )?;
        writeln!(f, "  {} answers: {}", self.latency.len(), in_one_line(&self.latency))?;
        match self.cpu_nanos_per_event() {
            Some(nanos) => writeln!(f, "  {nanos:.0} ns of processor time an event")?,
            None => writeln!(f, "  processor time is not known here")?,
        }
        let largest = self.timeline.iter().map(|slice| slice.backlog).max().unwrap_or_default();
        let kept = if self.is_sustained() { "kept up" } else { "did NOT keep up" };
        write!(f, "  it {kept}: at most {largest} events were due and unread")?;
        if self.unread > 0 {
            write!(f, "\n  {} events were NOT read in the end, and have no answer", self.unread)?;
        }
        if self.early > 0 {
            write!(
                f,
                "\n  {} answers came before they were due: what is said of their due time is wrong",
                self.early
            )?;
        }
        Ok(())
    }
}
