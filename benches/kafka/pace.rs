//! Events at a steady rate, whatever becomes of them, and how late the results of their windows
//! can be read.
//!
//! A window is due when the event was due after which every partition has reached its end and
//! the bound of disorder: no engine can know it to be complete before. That an event was sent
//! late counts as latency, and a stall as the latency of all that was due meanwhile.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use rdkafka::Message;

use crate::broker::{self, Sender};
use crate::data::{BOUND_MS, Check, Expected, Format, Job, PARTITIONS};
use crate::{exit, or_exit, unix_nanos};

/// What Kafka's own producers wait for more records by default. (A millisecond made the writer and
/// the broker busier than the engines.)
const LINGER: Duration = Duration::from_millis(5);

pub(crate) struct Plan {
    pub(crate) keys: u64,
    /// Events a second.
    pub(crate) rate: u64,
    /// Seconds whose windows are not measured.
    pub(crate) warm_up: u64,
    /// Seconds whose windows are.
    pub(crate) lasting: u64,
    pub(crate) window_ms: i64,
}

/// Events go on for so long behind those that are measured, in seconds: an engine may look for
/// windows that are over now and then only, and when a record comes.
const AFTER: u64 = 2;

/// Which event each window waits for, by the window's end.
fn closers(job: &Job, events: u64) -> BTreeMap<i64, u64> {
    let mut latest = [i64::MIN; PARTITIONS as usize];
    let mut closers = BTreeMap::new();
    let mut next = job.base_ms + job.window_ms;
    for index in 0..events {
        let event = job.event(index);
        let latest_here = &mut latest[event.partition() as usize];
        *latest_here = event.time.max(*latest_here);
        let reached = latest.iter().min().copied().unwrap_or(i64::MIN);
        while reached >= next + BOUND_MS {
            closers.insert(next, index);
            next += job.window_ms;
        }
    }
    closers
}

/// Sends each event as soon as it is due, and never before.
fn send(mut sender: Sender, job: Job, started: Instant, events: u64) {
    let mut index = 0;
    while index < events {
        let due = (started.elapsed().as_micros() as u64 / job.step_micros).min(events);
        while index < due {
            let event = job.event(index);
            sender.send(&event, event.partition());
            index += 1;
        }
        sender.poll();
        std::thread::sleep(Duration::from_millis(1));
    }
    sender.flush();
}

struct Measured {
    latency: Histogram<u64>,
    check: Check,
}

/// Reads until so many results are there.
fn measure(
    reader: &rdkafka::consumer::BaseConsumer,
    job: &Job,
    format: Format,
    (started, until): (Instant, Instant),
    (closers, expected, warm_up): (&BTreeMap<i64, u64>, u64, Duration),
) -> Measured {
    let latency = or_exit(Histogram::new_with_bounds(1, 600_000_000, 3));
    let mut measured = Measured { latency, check: Check::default() };
    while measured.check.results < expected {
        let Some(message) = broker::next(reader) else {
            if Instant::now() > until {
                let came = measured.check.results;
                exit(format!("{came} of {expected} results came in time"));
            }
            continue;
        };
        let arrived = started.elapsed();
        let row = message.payload().and_then(|bytes| format.row(bytes));
        let row = row.unwrap_or_else(|| exit("a record of the output is no result"));
        let Some(closer) = closers.get(&(row.start + job.window_ms)) else { continue };
        measured.check.add(&row, job.base_ms);
        let due = Duration::from_micros(closer * job.step_micros);
        if due >= warm_up {
            let late = arrived.saturating_sub(due).as_micros() as u64;
            measured.latency.saturating_record(late.max(1));
        }
    }
    measured
}

pub(crate) fn run(brokers: &str, from: &str, to: &str, format: Format, plan: &Plan) {
    let now_ms = (unix_nanos() / 1_000_000) as i64;
    let mut job = Job {
        keys: plan.keys,
        window_ms: plan.window_ms,
        step_micros: 1_000_000 / plan.rate.clamp(1, 1_000_000),
        base_ms: 0,
    };
    job.base_ms = job.window(now_ms);
    let events = (plan.warm_up + plan.lasting) * plan.rate;
    let closers = closers(&job, events);
    let mut expected = Expected::default();
    for index in 0..events {
        expected.event(&job, &job.event(index));
    }
    let until = closers.last_key_value().map_or(0, |(end, _)| *end);
    let expected = expected.check(&job, until);

    let reader = broker::reader(brokers, to);
    let sender = Sender::new(brokers, from, format, LINGER);
    let started = Instant::now();
    let patience = Duration::from_secs(plan.warm_up + plan.lasting + 30);
    let all = events + AFTER * plan.rate;
    let sending = std::thread::spawn(move || send(sender, job, started, all));
    let warm_up = Duration::from_secs(plan.warm_up);
    let times = (started, started + patience);
    let measured = measure(&reader, &job, format, times, (&closers, expected.results, warm_up));
    if sending.join().is_err() {
        exit("the sender died");
    }
    let Measured { latency, check } = measured;
    if check != expected {
        exit(format!("the results are {check:?}, and should be {expected:?}"));
    }
    let ms = |quantile| latency.value_at_quantile(quantile) as f64 / 1e3;
    println!(
        "results={} sum={} measured={} p50={:.2} p90={:.2} p99={:.2} p99.9={:.2} max={:.2}",
        check.results,
        check.sum,
        latency.len(),
        ms(0.5),
        ms(0.9),
        ms(0.99),
        ms(0.999),
        latency.max() as f64 / 1e3,
    );
}
