//! Any number of workers after any other, after a stop and after a crash, with all the memory
//! there is and with none: the results are those of one run.

#[path = "crash/pipelines.rs"]
mod pipelines;

use std::path::Path;
use std::time::{Duration, Instant};

use highwater::sink::JsonLines;
use highwater::state::StateDir;
use highwater::testing::Pushed;
use highwater::{Flow, Settings};
use pipelines::{Event, Ground, PIPELINES, Pipeline, events, poison};

const WORKERS: [usize; 7] = [1, 2, 3, 4, 5, 7, 8];
const HALF: i64 = 150;
const ALL: i64 = 300;

fn flow(pipeline: &Pipeline, source: &Pushed<Event>, out: &Path) -> Flow {
    let out = out.to_owned();
    let lines = move |name: &str| JsonLines::to(out.join(name));
    (pipeline.flow)(&Ground { source: source.clone(), lines: Box::new(lines), target: None })
}

fn settings(dir: &Path, workers: usize, memory: u64) -> Settings {
    let settings = Settings::at(dir.join("state")).workers(workers).memory_budget(memory);
    settings.commit_interval(Duration::ZERO).tick_max_events(4)
}

/// Every line that is visible, in order.
fn lines(out: &Path) -> Vec<String> {
    let mut lines = Vec::new();
    for sink in std::fs::read_dir(out).unwrap() {
        let sink = sink.unwrap().path();
        for file in std::fs::read_dir(&sink).unwrap() {
            let path = file.unwrap().path();
            if path.file_name().unwrap().to_str().unwrap().starts_with("part-") {
                let text = std::fs::read_to_string(&path).unwrap();
                let name = sink.file_name().unwrap().to_str().unwrap();
                lines.extend(text.lines().map(|line| format!("{name}: {line}")));
            }
        }
    }
    lines.sort();
    lines
}

/// Half the events with `before` workers, then a stop or a crash, then all with `after`.
fn run(pipeline: &Pipeline, before: usize, after: usize, crash: bool, memory: u64) -> Vec<String> {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out");
    let source = Pushed::partitions(2);
    events(0..HALF, &source);
    let handle = flow(pipeline, &source, &out).spawn(settings(dir.path(), before, memory)).unwrap();
    let started = Instant::now();
    let committed = |metrics: &highwater::Metrics| {
        let read = metrics.operator("events").map_or(0, |o| o.counters.events_in);
        read == HALF as u64 && metrics.commits > 1 && metrics.committed == metrics.tick
    };
    while !committed(&handle.metrics()) {
        assert!(started.elapsed() < Duration::from_secs(30), "{:?}", handle.metrics());
        std::thread::sleep(Duration::from_millis(2));
    }
    if crash {
        source.push(0, poison());
        handle.wait().unwrap_err();
    } else {
        handle.stop();
        handle.wait().unwrap();
    }
    // The same partitions, without the event that was the crash.
    let source = Pushed::partitions(2);
    events(0..ALL, &source);
    source.finish();
    flow(pipeline, &source, &out)
        .spawn(settings(dir.path(), after, memory))
        .unwrap()
        .wait()
        .unwrap();
    let counts = StateDir::open(dir.path().join("state")).unwrap().verify().unwrap();
    let left: u64 = pipeline.operators.iter().map(|(operator, _)| counts[*operator]).sum();
    // One of them keeps its keys, and says so.
    let kept = if pipeline.name == "process with timers" { 4 } else { 0 };
    assert_eq!(left, kept, "state after the end: {counts:?}");
    lines(&out)
}

fn whole(pipeline: &Pipeline) -> Vec<String> {
    let dir = tempfile::tempdir().unwrap();
    let source = Pushed::partitions(2);
    events(0..ALL, &source);
    source.finish();
    let flow = flow(pipeline, &source, &dir.path().join("out"));
    flow.spawn(Settings::in_memory().workers(1)).unwrap().wait().unwrap();
    lines(&dir.path().join("out"))
}

fn pairs(every: usize) -> impl Iterator<Item = (usize, usize)> {
    let pairs = WORKERS.iter().flat_map(|a| WORKERS.iter().map(move |b| (*a, *b)));
    pairs.step_by(every)
}

/// All pairs with `RESCALE=full`, every ninth by default.
#[test]
fn any_number_of_workers_after_any_other() {
    let full = std::env::var("RESCALE").is_ok_and(|value| value == "full");
    let (mut runs, mut started) = (0, Instant::now());
    for pipeline in PIPELINES.iter().filter(|p| !p.finish).chain(&[pipelines::HOPPING]) {
        let expected = whole(pipeline);
        assert!(expected.len() > 10, "{}", pipeline.name);
        for (before, after) in pairs(if full { 1 } else { 9 }) {
            for crash in [false, true] {
                let found = run(pipeline, before, after, crash, 1 << 30);
                let how = if crash { "crash" } else { "stop" };
                assert_eq!(found, expected, "{}: {before}, {how}, {after}", pipeline.name);
                runs += 1;
            }
        }
        println!("{}: {:.1} s", pipeline.name, started.elapsed().as_secs_f64());
        started = Instant::now();
    }
    println!("rescale: {runs} runs, all equal");
}

/// With no memory at all everything is forgotten after each commit, and read back.
#[test]
fn state_without_memory_gives_the_same_results() {
    for pipeline in PIPELINES.iter().filter(|p| !p.finish).chain(&[pipelines::HOPPING]) {
        let expected = whole(pipeline);
        for (before, after, crash) in [(1, 1, false), (1, 2, true), (3, 1, true)] {
            let found = run(pipeline, before, after, crash, 0);
            assert_eq!(found, expected, "{}: {before}, {crash}, {after}", pipeline.name);
        }
    }
}
