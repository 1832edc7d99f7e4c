//! An open, silent source, and what the flow behind it costs.

use std::time::{Duration, Instant};

use highwater::prelude::*;
use highwater::source::channel;

/// For how long nothing happened, and what it cost.
pub(crate) struct Idle {
    pub(crate) time: Duration,
    pub(crate) cpu: Duration,
    pub(crate) ticks: u64,
}

impl Idle {
    /// In hundredths of a core.
    pub(crate) fn percent(&self) -> f64 {
        self.cpu.as_secs_f64() / self.time.as_secs_f64() * 100.0
    }
}

/// CPU time of all threads of this process, in nanoseconds, as the scheduler counts it.
fn cpu_nanos() -> u64 {
    let threads = std::fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    threads
        .filter_map(|thread| std::fs::read_to_string(thread.path().join("schedstat")).ok())
        .filter_map(|text| text.split_whitespace().next()?.parse::<u64>().ok())
        .sum()
}

/// A durable flow with two workers that has seen some events, and then none for so long.
pub(crate) fn measure(seconds: u64) -> Result<Idle, Box<dyn std::error::Error>> {
    let state = tempfile::tempdir()?;
    let (sender, source) = channel::<(u64, EventTime)>(16);
    let flow = Flow::new("idle");
    flow.source("events", source)
        .event_time(|e| e.1, Disorder::at_most(millis(10)).idle_after(millis(500)))
        .key_by(|e| &e.0)
        .window("counts", Tumbling::of(millis(100)))
        .aggregate(Count)
        .drop_late("not measured")
        .sink("out", JsonLines::to(state.path().join("out")));
    let handle = flow.spawn(Settings::at(state.path().join("state")).workers(2))?;
    for i in 0..1_000 {
        // No receipt is waited for: the benchmark loses nothing that matters.
        let _ = sender.blocking_send((i % 10, EventTime::from_millis(i as i64)))?;
    }
    // Until the partition is idle and everything is committed and visible.
    std::thread::sleep(Duration::from_secs(3));
    let (before, started, ticks) = (cpu_nanos(), Instant::now(), handle.metrics().ticks);
    std::thread::sleep(Duration::from_secs(seconds));
    let cpu = Duration::from_nanos(cpu_nanos() - before);
    let idle = Idle { time: started.elapsed(), cpu, ticks: handle.metrics().ticks - ticks };
    handle.stop();
    handle.wait()?;
    Ok(idle)
}
