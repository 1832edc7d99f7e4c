//! A real process, killed with SIGKILL at random moments and started again on the same state:
//! the files it leaves are those of a run that was never killed.

#[path = "common/flights.rs"]
mod flights;

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use flights::{Expected, Key};
use serde::Deserialize;

#[derive(Deserialize)]
struct Hourly {
    key: String,
    start: highwater::EventTime,
    count: u64,
    sum_delay_min: i64,
}

#[derive(Deserialize)]
struct LateFlight {
    origin: String,
    scheduled: highwater::EventTime,
    carrier: String,
    flight: u32,
    late_by_s: i64,
}

/// A small seeded generator: the moments are random, and the same in every run of the test.
fn next_random(state: &mut u64) -> u64 {
    *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    *state >> 33
}

fn start(directory: &Path, workers: u64) -> Child {
    Command::new(env!("CARGO_BIN_EXE_highwater"))
        .args(["demo", "--commit-ms", "5", "--tick-max-events", "20"])
        // Little, so that commits move into RocksDB all the time, and state is forgotten.
        .args(["--log-tail-kib", "200", "--memory-kib", "0"])
        .args(["--workers", &workers.to_string()])
        .arg("--data")
        .arg(flights::directory())
        .arg("--out")
        .arg(directory.join("out"))
        .arg("--state")
        .arg(directory.join("state"))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

/// Every line of the visible files of a sink; a file that is visible is whole.
fn visible_lines(directory: &Path) -> Vec<String> {
    let mut lines = Vec::new();
    for file in std::fs::read_dir(directory).into_iter().flatten() {
        let path = file.unwrap().path();
        if path.file_name().unwrap().to_str().unwrap().starts_with("part-") {
            let text = std::fs::read_to_string(&path).unwrap();
            assert!(text.is_empty() || text.ends_with('\n'), "{} is cut short", path.display());
            lines.extend(text.lines().map(ToOwned::to_owned));
        }
    }
    lines
}

/// What is visible is part of what the oracle says, each result at most once.
fn visible_results(directory: &Path, expected: &Expected) -> BTreeMap<(String, i64), (u64, i64)> {
    let mut found = BTreeMap::new();
    for line in visible_lines(&directory.join("out/hourly")) {
        let row: Hourly = serde_json::from_str(&line).unwrap();
        let place = (row.key, row.start.as_micros());
        let value = (row.count, row.sum_delay_min);
        assert_eq!(expected.results.get(&place), Some(&value), "{place:?}");
        assert_eq!(found.insert(place.clone(), value), None, "{place:?} came twice");
    }
    found
}

fn visible_late(directory: &Path) -> Vec<(String, i64, String, u32, i64)> {
    let lines = visible_lines(&directory.join("out/late"));
    let mut late: Vec<_> = lines
        .iter()
        .map(|line| {
            let l: LateFlight = serde_json::from_str(line).unwrap();
            (l.origin, l.scheduled.as_micros(), l.carrier, l.flight, l.late_by_s)
        })
        .collect();
    late.sort();
    late
}

/// 20 times, or as often as `KILLS` says.
#[test]
fn killed_at_random_moments_nothing_is_lost_or_repeated() {
    let kills_wanted = std::env::var("KILLS").map_or(20, |kills| kills.parse().unwrap());
    let expected = flights::expect(&flights::read(), 60, 60, Key::Carrier);
    let directory = tempfile::tempdir().unwrap();
    let (mut kills, mut starts, mut random) = (0, 0, 42);
    let started = Instant::now();
    while kills < kills_wanted {
        assert!(started.elapsed() < Duration::from_secs(240), "{kills} kills in {starts} starts");
        starts += 1;
        let mut child = start(directory.path(), starts % 3 + 1);
        std::thread::sleep(Duration::from_millis(15 + next_random(&mut random) % 60));
        match child.try_wait().unwrap() {
            None => kills += 1,
            Some(_) => {
                // It got to its end before it could be killed: the rest starts from nothing.
                let output = child.wait_with_output().unwrap();
                assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
                std::fs::remove_dir_all(directory.path().join("state")).unwrap();
                std::fs::remove_dir_all(directory.path().join("out")).unwrap();
                continue;
            }
        }
        child.kill().unwrap();
        child.wait().unwrap();
        visible_results(directory.path(), &expected);
    }
    let output = start(directory.path(), 2).wait_with_output().unwrap();
    let report = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(report.starts_with("Continued after tick"), "{report}");

    assert!(visible_results(directory.path(), &expected) == expected.results);
    let late: Vec<_> = expected
        .late
        .iter()
        .map(|l| {
            (l.origin.clone(), l.scheduled, l.carrier.clone(), l.flight, l.late_by / 1_000_000)
        })
        .collect();
    assert!(visible_late(directory.path()) == late, "the late flights differ");
    println!("soak: {kills} kills of a running process in {starts} starts, 0 lost, 0 repeated");
    for sink in ["hourly", "late"] {
        for file in std::fs::read_dir(directory.path().join("out").join(sink)).unwrap() {
            let name = file.unwrap().file_name();
            assert!(!name.to_str().unwrap().starts_with(".staging"), "{name:?} was left");
        }
    }

    // A flow that has finished has nothing left to do.
    let before = visible_lines(&directory.path().join("out/hourly"));
    let output = start(directory.path(), 1).wait_with_output().unwrap();
    let report = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success() && report.starts_with("Finished at tick"), "{report}");
    assert_eq!(visible_lines(&directory.path().join("out/hourly")), before);
}
