//! What a flow costs while nothing happens: CPU time over ten seconds with an open, silent source.
//!
//! `cargo bench --bench idle [-- SECONDS]`

use std::time::{Duration, Instant};

use highwater::prelude::*;
use highwater::source::channel;

/// CPU time of all threads of this process, in nanoseconds, as the scheduler counts it.
fn cpu_nanos() -> u64 {
    let threads = std::fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    threads
        .filter_map(|thread| std::fs::read_to_string(thread.path().join("schedstat")).ok())
        .filter_map(|text| text.split_whitespace().next()?.parse::<u64>().ok())
        .sum()
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let seconds = std::env::args().filter_map(|a| a.parse().ok()).next().unwrap_or(10);
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
    let used = cpu_nanos() - before;
    let share = used as f64 / started.elapsed().as_nanos() as f64 * 100.0;
    let ticks = handle.metrics().ticks - ticks;
    println!(
        "idle for {:.1} s: {:.3} ms of CPU, {share:.4} % of a core, {ticks} ticks",
        started.elapsed().as_secs_f64(),
        used as f64 / 1e6,
    );
    handle.stop();
    handle.wait()?;
    Ok(())
}
