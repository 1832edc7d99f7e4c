//! What is written down while a load runs.

use hdrhistogram::Histogram;

use super::clock::cpu_time;
use super::outcome::Slice;
use super::paced::SLICE;
use crate::error::Error;

/// Latencies of the answers that were due within the measured time, in µs.
pub(super) struct Record {
    /// The measured time, in µs since the beginning.
    from_micros: i64,
    to_micros: i64,
    pub(super) latency: Histogram<u64>,
    /// Answers that came before they could have: what was said of them is wrong.
    pub(super) early: u64,
    slices: Vec<Noted>,
    /// Processor time at the beginning of the measured time, and at its end.
    cpu: [Option<std::time::Duration>; 2],
}

struct Noted {
    latency: Histogram<u64>,
    backlog: u64,
}

pub(super) fn histogram() -> Result<Histogram<u64>, Error> {
    Histogram::new(3).map_err(|e| Error::bug(format!("no histogram can be made: {e}")))
}

/// IMPORTANT: not by `saturating_record`, which does not grow the histogram and cuts values off.
pub(super) fn note(histogram: &mut Histogram<u64>, micros: u64) {
    // A histogram that grows refuses only what it has no memory for.
    let _ = histogram.record(micros);
}

impl Record {
    pub(super) fn new(from_micros: i64, to_micros: i64) -> Result<Self, Error> {
        let slice = SLICE.as_micros() as i64;
        let count = to_micros.div_euclid(slice) + 1;
        let noted = |_| Ok(Noted { latency: histogram()?, backlog: 0 });
        Ok(Record {
            from_micros,
            to_micros,
            latency: histogram()?,
            early: 0,
            slices: (0..count).map(noted).collect::<Result<_, Error>>()?,
            cpu: [None, None],
        })
    }

    /// An answer came that could have come at `due`.
    pub(super) fn answer(&mut self, due_micros: i64, now_micros: i64) {
        if due_micros < self.from_micros || due_micros >= self.to_micros {
            return;
        }
        let Ok(micros) = u64::try_from(now_micros - due_micros) else {
            self.early += 1;
            return;
        };
        note(&mut self.latency, micros);
        let slice = due_micros.div_euclid(SLICE.as_micros() as i64) as usize;
        if let Some(noted) = self.slices.get_mut(slice) {
            note(&mut noted.latency, micros);
        }
    }

    /// At the end of so many slices, so many events were due and not read.
    pub(super) fn note_backlog(&mut self, slices: i64, backlog: u64) {
        let now = slices.saturating_mul(SLICE.as_micros() as i64);
        if now >= self.from_micros && self.cpu[0].is_none() {
            self.cpu[0] = cpu_time();
        }
        if now >= self.to_micros && self.cpu[1].is_none() {
            self.cpu[1] = cpu_time();
        }
        let ended = usize::try_from(slices - 1).unwrap_or(usize::MAX);
        if let Some(noted) = self.slices.get_mut(ended) {
            noted.backlog = backlog;
        }
    }

    /// Processor time of the measured time, if it is known.
    pub(super) fn cpu(&self) -> Option<std::time::Duration> {
        let [from, to] = self.cpu;
        Some(to?.saturating_sub(from?))
    }

    /// The slices of the measured time.
    pub(super) fn timeline(&self) -> Vec<Slice> {
        let slice = SLICE.as_micros() as i64;
        let noted = self.slices.iter().enumerate().map(|(index, noted)| {
            let start_micros = index as i64 * slice;
            let value = |q| noted.latency.value_at_quantile(q);
            let (p50_micros, p99_micros) = (value(0.5), value(0.99));
            Slice {
                start_micros,
                answers: noted.latency.len(),
                p50_micros,
                p99_micros,
                max_micros: noted.latency.max(),
                backlog: noted.backlog,
            }
        });
        let measured = |s: &Slice| {
            s.start_micros >= self.from_micros && s.start_micros + slice <= self.to_micros
        };
        noted.filter(measured).collect()
    }
}
