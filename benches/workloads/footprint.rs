//! B16: bytes per key, CPU of a flow that has nothing to do, and the time until a first result.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use highwater::prelude::*;
use highwater::source::Generator;

use crate::events::{Event, event_of};
use crate::idle;
use crate::report::{Bench, Rung, directory, exit, median, or_exit, settings};

const IDLE_SECONDS: u64 = 10;
const STARTS: usize = 9;

/// Runs this program as a child and hands on its first line.
fn first_line(arguments: &[&str]) -> (Duration, String) {
    let started = Instant::now();
    let mut command = Command::new(or_exit(std::env::current_exe()));
    let command = command.arg("child").args(arguments).stdout(Stdio::piped());
    let mut child = or_exit(command.spawn());
    let Some(out) = child.stdout.take() else { exit("no output") };
    let line = BufReader::new(out).lines().next();
    let (line, took) = (line.unwrap_or_else(|| exit("a process died")), started.elapsed());
    or_exit(child.wait());
    (took, or_exit(line))
}

fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|rest| rest.trim().split(' ').next()?.parse::<u64>().ok()).unwrap_or(0) << 10
}

/// Counts of so many keys in a flow that stays open: prints bytes resident per key, without what
/// the same flow has with few keys.
pub(crate) fn memory(keys: u64) {
    let grown = |keys: u64| {
        let flow = Flow::new("memory");
        let (sink, results) = highwater::sink::channel();
        let each_once = Generator::new(2, Some(keys), move |_, index| Event {
            key: index,
            ..event_of(index, keys)
        });
        flow.source("events", each_once.silent(1))
            .key_by(|e: &Event| &e.key)
            .running("counts", Count)
            .unbounded()
            .filter(|_| false)
            .sink("out", sink);
        let before = resident();
        let settings = settings(Rung::Volatile, ".".as_ref()).workers(1);
        let handle = or_exit(flow.spawn(settings));
        let entries = || handle.metrics().operator("counts").map_or(0, |counts| counts.entries);
        while entries() < keys && !handle.is_finished() {
            std::thread::sleep(Duration::from_millis(20));
        }
        std::thread::sleep(Duration::from_millis(100));
        let grown = resident().saturating_sub(before);
        handle.stop();
        or_exit(handle.wait());
        drop(results);
        grown
    };
    let least = grown(1_000);
    println!("{}", grown(keys).saturating_sub(least) as f64 / keys as f64);
}

/// Starts a flow on a state directory, or in memory, waits for the first result and tells of it.
fn first_result(state: Option<&Path>, tell: impl FnOnce()) -> Duration {
    let flow = Flow::new("start");
    let (sink, mut results) = highwater::sink::channel();
    let events = Generator::new(1, Some(1_000), |_, index| event_of(index, 10));
    flow.source("events", events)
        .event_time(|e| e.time, Disorder::ascending())
        .key_by(|e| &e.key)
        .window("counts", Tumbling::of(micros(100)))
        .aggregate(Count)
        .drop_late("there are none")
        .sink("out", sink);
    let started = Instant::now();
    let settings = state.map_or_else(Settings::in_memory, Settings::at);
    let handle = or_exit(flow.spawn(settings));
    let first = results.next();
    let took = started.elapsed();
    if first.is_none() {
        exit("there was no first result");
    }
    tell();
    or_exit(handle.wait());
    took
}

/// A process that does so with a durable state.
pub(crate) fn start(dir: &Path) {
    first_result(Some(dir), || println!("here it is"));
}

pub(crate) fn bench(bench: &mut Bench) {
    println!("\nB16: what a flow takes");
    for keys in [1_000_000, 10_000_000] {
        let bytes: f64 = or_exit(first_line(&["memory", &keys.to_string()]).1.parse());
        println!("  {keys} keys, running count, u64 to u64: {bytes:.1} bytes resident per key");
    }
    let idle = idle::measure(IDLE_SECONDS).unwrap_or_else(|error| exit(error));
    println!("  idle, 2 workers, durable: {:.4} % of a core, {} ticks", idle.percent(), idle.ticks);
    bench.at_most("B16: idle, percent of a core", idle.percent(), 1.0);
    let millis =
        |times: Vec<Duration>| median(times.iter().map(|t| t.as_secs_f64() * 1e3).collect());
    let volatile = millis((0..STARTS).map(|_| first_result(None, || ())).collect());
    let durable = millis(
        (0..STARTS).map(|_| first_result(Some(&directory().path().join("s")), || ())).collect(),
    );
    let process = |_| {
        let dir = directory();
        let state = dir.path().join("state");
        let path = state.to_str().unwrap_or_else(|| exit("a path that is no text"));
        first_line(&["start", path]).0
    };
    let process = millis((0..STARTS).map(process).collect());
    println!(
        "  first result, medians of {STARTS}: {volatile:.1} ms in memory, {durable:.1} ms durable,"
    );
    println!("  {process:.1} ms from the start of a process, durable");
    bench.at_most("B16: start to the first result, durable, ms", durable, 50.0);
    bench.at_most("B16: start of a process to the first result, ms", process, 50.0);
}
