//! B15: two workers beside one, and beside two processes that share nothing.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use highwater::EventTime;
use highwater::source::Generator;

use crate::check::Check;
use crate::events::{Event, KEYS, splitmix64};
use crate::report::{Bench, Contest, Lap, Rung, exit, or_exit, run};
use crate::variants::{bare_loop, counting, within_bound};

/// Of two classes of keys, the `index`th event of one of them.
fn event_of(class: u64, index: u64) -> Event {
    let random = splitmix64(2 * index + class);
    Event {
        key: (random >> 32) % (KEYS / 2) * 2 + class,
        value: random & 0xffff,
        time: EventTime::from_micros((2 * index + class) as i64),
    }
}

/// Keys of both classes in each partition: most rows have a way to go.
fn mixed(partition: u32, index: u64) -> Event {
    event_of((u64::from(partition) + index) & 1, index)
}

pub(crate) fn workers(events: u64, workers: usize, rung: Rung) -> Lap {
    let (flow, total) = counting(Generator::new(2, Some(events / 2), mixed), within_bound());
    run(flow, &total, events / 2 * 2, rung, workers)
}

/// Nanoseconds of CPU that each thread has used, by its id, with its name.
type Used = BTreeMap<String, (String, u64)>;

/// As before, and what the threads used is told, by their names.
fn durable(events: u64, count: usize, rung: Rung) -> Lap {
    let stop = Arc::new(AtomicBool::new(false));
    let mut before = Used::new();
    sample(&mut before);
    let stopped = stop.clone();
    let sampler = std::thread::spawn(move || {
        let mut used = Used::new();
        while !stopped.load(Ordering::Relaxed) {
            sample(&mut used);
            std::thread::sleep(Duration::from_millis(5));
        }
        used
    });
    let lap = workers(events, count, rung);
    stop.store(true, Ordering::Relaxed);
    let used = sampler.join().unwrap_or_else(|_| exit("the sampler panicked"));
    let mut names: BTreeMap<String, u64> = BTreeMap::new();
    for (id, (name, nanos)) in used {
        let earlier = before.get(&id).map_or(0, |(_, nanos)| *nanos);
        *names.entry(name).or_default() += nanos - earlier;
    }
    let name_of = |(name, nanos): (String, u64)| {
        let cores = nanos as f64 / lap.time.as_nanos() as f64;
        (cores > 0.005).then(|| format!("{name} {cores:.2}"))
    };
    let cores: Vec<String> = names.into_iter().filter_map(name_of).collect();
    Lap { note: format!("; cores of threads: {}", cores.join(", ")), ..lap }
}

fn sample(used: &mut Used) {
    let threads = std::fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    for thread in threads {
        let read = |name| std::fs::read_to_string(thread.path().join(name)).unwrap_or_default();
        let nanos = read("schedstat").split(' ').next().and_then(|n| n.parse().ok());
        let id = thread.file_name().to_string_lossy().into_owned();
        if let Some(nanos) = nanos {
            used.insert(id, (read("comm").trim().to_owned(), nanos));
        }
    }
}

/// One of the processes: says that it is there, waits to be told to go, and tells its results.
pub(crate) fn child(class: u64, events: u64) {
    let source = Generator::new(1, Some(events), move |_, index| event_of(class, index));
    let (flow, total) = counting(source, within_bound());
    let mut out = std::io::stdout();
    or_exit(writeln!(out, "ready").and_then(|()| out.flush()));
    or_exit(std::io::stdin().read_exact(&mut [0]));
    let Check { results, sum } = run(flow, &total, events, Rung::Volatile, 1).check;
    or_exit(writeln!(out, "{results} {sum}"));
}

fn processes(events: u64) -> Lap {
    let start = |class: u64| {
        let program = or_exit(std::env::current_exe());
        let arguments =
            ["child", "half", &class.to_string(), &(events / 2).to_string()].map(str::to_owned);
        let mut command = Command::new(program);
        let command = command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = or_exit(command.spawn());
        let Some(out) = child.stdout.take() else { exit("no output") };
        let mut lines = BufReader::new(out).lines();
        lines.next();
        (child, lines)
    };
    let mut children = [start(0), start(1)];
    let started = Instant::now();
    for (child, _) in &mut children {
        if let Some(mut input) = child.stdin.take() {
            or_exit(input.write_all(b"g"));
        }
    }
    let mut check = Check::default();
    for (_, lines) in &mut children {
        let line = or_exit(lines.next().unwrap_or_else(|| exit("a process died")));
        let numbers: Vec<u64> = line.split(' ').filter_map(|n| n.parse().ok()).collect();
        let [results, sum] = numbers[..] else { exit("a process said something else") };
        check = check.and(Check { results, sum });
    }
    let lap = Lap::new(started, events / 2 * 2, check);
    for (mut child, _) in children {
        or_exit(child.wait());
    }
    lap
}

pub(crate) fn bench(bench: &mut Bench) {
    let events = bench.events;
    let all = || (0..events / 2).flat_map(|index| [event_of(0, index), event_of(1, index)]);
    let mut contest = Contest::new("B15: one and two workers, and two processes");
    contest.control("bare loop", || bare_loop(all()));
    contest.flow(Rung::Volatile, Some("1 worker"), "1 worker", |rung| workers(events, 1, rung));
    contest.control("two processes", || processes(events));
    contest.volatile("2 workers", |rung| workers(events, 2, rung));
    contest.durable(Rung::R2, "1 worker", |rung| durable(events, 1, rung));
    contest.durable(Rung::R2, "2 workers", |rung| durable(events, 2, rung));
    let outcome = contest.run(bench.rounds);
    let share = outcome.share("2 workers", "R1", "two processes");
    bench.at_least("B15: 2 workers, share of two processes", share, 0.85);
}
