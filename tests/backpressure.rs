//! When changes come faster than the base takes them in, ticks wait: the flow slows down, and
//! never stands still.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use highwater::BoxError;
use highwater::prelude::*;
use highwater::sink::{Chunk, Encoder, Guarantee, Letter, Opening, Sink, SinkWriter};
use highwater::source::Generator;

const EVENTS: u64 = 200_000;

/// Each event changes another key, so that every commit is about as large as its ticks.
fn flow() -> Flow {
    let flow = Flow::new("pressed");
    let row = |_, index: u64| (index % 50_000, EventTime::from_micros(index as i64));
    flow.source("events", Generator::new(2, Some(EVENTS / 2), row))
        .event_time(|e| e.1, Disorder::ascending())
        .key_by(|e| &e.0)
        .running("counts", Count)
        .unbounded()
        .filter(|_| false)
        .sink("out", Stdout::json());
    flow
}

/// Runs until so many events were read; returns the metrics then.
fn run(dir: &Path, settings: impl Fn(Settings) -> Settings, stop_at: u64) -> Metrics {
    let settings = settings(Settings::at(dir)).workers(2).commit_interval(Duration::ZERO);
    let handle = flow().spawn(settings).unwrap();
    let started = Instant::now();
    while !handle.is_finished() && read(&handle.metrics()) < stop_at {
        let waited = started.elapsed();
        assert!(waited < Duration::from_secs(60), "it stands still: {:?}", handle.metrics());
        std::thread::sleep(Duration::from_millis(2));
    }
    handle.stop();
    handle.wait().unwrap()
}

fn read(metrics: &Metrics) -> u64 {
    metrics.operator("events").map_or(0, |o| o.counters.events_in)
}

#[test]
fn a_log_that_is_always_full_slows_down_and_ends() {
    let dir = tempfile::tempdir().unwrap();
    let small = |settings: Settings| settings.log_tail_limit(128 << 10).tick_max_events(2_000);
    let metrics = run(dir.path(), small, u64::MAX);
    assert_eq!(read(&metrics), EVENTS);
    assert!(metrics.held_by_log > Duration::ZERO, "the log was never full: {metrics:?}");
}

#[test]
fn a_flow_that_starts_with_a_full_log_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    // A limit that is never reached, and then one that is reached at the start.
    let first = run(dir.path(), |settings| settings.log_tail_limit(1 << 30), EVENTS / 2);
    assert!(first.log_tail_bytes > 1 << 10 && first.held_by_log == Duration::ZERO, "{first:?}");
    let second = run(dir.path(), |settings| settings.log_tail_limit(1 << 10), u64::MAX);
    assert_eq!(read(&second), EVENTS);
}

#[test]
fn a_log_without_room_is_refused() {
    let Err(error) = flow().spawn(Settings::in_memory().log_tail_limit(0)) else {
        panic!("it was accepted");
    };
    assert!(error.to_string().contains("log_tail_limit"), "{error}");
}

/// A target that is away until it is told otherwise.
struct Away(Arc<AtomicBool>);

struct Letters {
    away: Arc<AtomicBool>,
    rows: Vec<u8>,
}

struct Ones(u8);

impl Encoder<u64> for Ones {
    fn encode(&mut self, _: Vec<u64>, _: &[EventTime]) -> Result<(), BoxError> {
        self.0 = 1;
        Ok(())
    }

    fn take(&mut self) -> Option<Chunk> {
        (std::mem::take(&mut self.0) > 0).then(|| Box::new(1u8) as Chunk)
    }
}

impl Sink<u64> for Away {
    fn describe(&self) -> String {
        "away".to_owned()
    }

    fn guarantee(&self) -> Guarantee {
        Guarantee::ExactlyOnce
    }

    fn encoder(&self) -> Box<dyn Encoder<u64>> {
        Box::new(Ones(0))
    }

    fn open(&self, _: &Opening<'_>) -> Result<Box<dyn SinkWriter>, Error> {
        Ok(Box::new(Letters { away: self.0.clone(), rows: Vec::new() }))
    }
}

impl SinkWriter for Letters {
    fn write(&mut self, _: Tick, _: Chunk) -> Result<(), Error> {
        self.rows.push(1);
        Ok(())
    }

    fn outbox(&mut self) -> Option<Vec<u8>> {
        Some(std::mem::take(&mut self.rows)).filter(|rows| !rows.is_empty())
    }

    fn send(&mut self, _: &Letter<'_>) -> Result<(), Error> {
        while self.away.load(Ordering::Relaxed) {
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }
}

#[test]
fn ticks_wait_for_a_target_that_is_away() {
    let (dir, away) = (tempfile::tempdir().unwrap(), Arc::new(AtomicBool::new(true)));
    let flow = Flow::new("away");
    flow.source("events", Generator::new(1, None, |_, index| index))
        .sink("out", Away(away.clone()));
    let settings = Settings::at(dir.path()).workers(1).tick_max_events(100);
    let handle = flow.spawn(settings.commit_interval(Duration::from_millis(1))).unwrap();
    let started = Instant::now();
    let mut before = 0;
    loop {
        std::thread::sleep(Duration::from_millis(500));
        let now = read(&handle.metrics());
        if now > 0 && now == before && started.elapsed() > Duration::from_secs(2) {
            break;
        }
        before = now;
        assert!(started.elapsed() < Duration::from_secs(20), "it reads on: {:?}", handle.metrics());
    }
    away.store(false, Ordering::Relaxed);
    while read(&handle.metrics()) < before + 1_000 {
        assert!(started.elapsed() < Duration::from_secs(40), "it stands still");
        std::thread::sleep(Duration::from_millis(5));
    }
    handle.stop();
    handle.wait().unwrap();
}
