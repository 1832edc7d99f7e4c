//! Snapshots of a running flow: on demand, every so often, and by the command line; and a flow
//! that goes on from one.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use highwater::prelude::*;
use highwater::sink::{Received, channel};
use highwater::state::{StateDir, list_snapshots, restore_snapshot};
use highwater::testing::Pushed;

type Event = (u8, EventTime);
type Row = WindowResult<u8, u64>;

const HALF: i64 = 300;
const ALL: i64 = 600;

fn events(range: std::ops::Range<i64>, source: &Pushed<Event>) {
    for n in range {
        let event = ((n % 5) as u8, EventTime::from_seconds(n * 2 - n % 3));
        source.push((n % 2) as usize, event);
    }
}

/// Counts in windows, and over all time: state that comes and goes, and state that stays.
fn flow(source: &Pushed<Event>) -> (Flow, Received<Row>) {
    let flow = Flow::new("snapshots");
    let (sink, received) = channel();
    let events = flow
        .source("events", source.clone())
        .event_time(|e: &Event| e.1, Disorder::at_most(seconds(6)))
        .key_by(|e: &Event| &e.0);
    events.clone().running("totals", Count).unbounded().sink("totals-out", channel().0);
    events
        .window("counts", Tumbling::of(seconds(60)))
        .aggregate(Count)
        .drop_late("none")
        .sink("out", sink);
    (flow, received)
}

fn settings(dir: &Path) -> Settings {
    Settings::at(dir).workers(2).commit_interval(Duration::from_millis(1)).tick_max_events(20)
}

fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    let started = Instant::now();
    while !done() {
        assert!(started.elapsed() < Duration::from_secs(30), "waited for: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn wait_for_commit(handle: &highwater::Handle, events: i64) {
    wait_until("a commit of all there is", || {
        let metrics = handle.metrics();
        let read = metrics.operator("events").map_or(0, |o| o.counters.events_in);
        read == events as u64 && metrics.commits > 1 && metrics.committed == metrics.tick
    });
}

/// What was said of each window; a window that is said twice is said the same.
fn results(received: Received<Row>, into: &mut BTreeMap<(u8, EventTime), u64>) {
    for row in received {
        let place = (row.key, row.window.start);
        let before = into.insert(place, row.value);
        assert!(before.is_none_or(|before| before == row.value), "{place:?} has two results");
    }
}

fn highwater(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_highwater"));
    command.arg("state").args(arguments).output().unwrap()
}

/// What the command prints.
fn said(arguments: &[&str]) -> String {
    let Output { status, stdout, stderr } = highwater(arguments);
    let (out, err) = (String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap());
    assert!(status.success(), "{arguments:?}: {err}");
    out
}

fn refused(arguments: &[&str]) -> String {
    let Output { status, stdout, stderr } = highwater(arguments);
    assert!(!status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&stdout));
    String::from_utf8(stderr).unwrap()
}

fn files_below(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { files_below(&path, found) } else { found.push(path) }
    }
}

/// The directory can be copied and moved: nothing in it says where it is.
fn names_no_path(dir: &Path, name: &str) {
    let mut files = Vec::new();
    files_below(dir, &mut files);
    assert!(files.len() > 5, "{files:?}");
    for path in files {
        let bytes = std::fs::read(&path).unwrap();
        let found = bytes.windows(name.len()).any(|window| window == name.as_bytes());
        let diary = path.file_name().unwrap().to_str().unwrap().starts_with("LOG");
        assert!(!found || diary, "{} holds the path of the directory", path.display());
    }
}

#[test]
fn a_flow_goes_on_from_a_snapshot_as_if_nothing_had_happened() {
    let root = tempfile::Builder::new().prefix("a-path-to-look-for").tempdir().unwrap();
    let (state, again) = (root.path().join("state"), root.path().join("again"));
    let source = Pushed::partitions(2);
    events(0..HALF, &source);
    let (whole, received) = flow(&source);
    let handle = whole.spawn(settings(&state)).unwrap();
    wait_for_commit(&handle, HALF);
    let snapshot = handle.snapshot().unwrap();
    assert_eq!(list_snapshots(&state).unwrap(), std::slice::from_ref(&snapshot));
    names_no_path(&snapshot, "a-path-to-look-for");
    // The flow has gone on meanwhile.
    events(HALF..ALL, &source);
    source.finish();
    handle.wait().unwrap();
    let (mut expected, mut found) = (BTreeMap::new(), BTreeMap::new());
    results(received, &mut expected);
    assert!(expected.len() > 80);

    let (_, damaged) = restore_snapshot(&state, &again).unwrap();
    assert!(damaged.is_empty());
    let restored = StateDir::open(&again).unwrap();
    let differences = StateDir::open(&snapshot).unwrap().diff(&restored).unwrap();
    assert!(differences.iter().all(highwater::state::Difference::is_empty), "{differences:?}");
    drop(restored);
    let source = Pushed::partitions(2);
    events(0..ALL, &source);
    source.finish();
    let (rest, received) = flow(&source);
    rest.spawn(settings(&again).workers(3)).unwrap().wait().unwrap();
    results(received, &mut found);
    let before = expected.keys().filter(|place| !found.contains_key(place)).count();
    assert!(before > 20, "what was said before the snapshot is not said again");
    assert!(found.len() > 20 && found.iter().all(|(place, value)| expected[place] == *value));
    let ends = [&state, &again].map(|dir| StateDir::open(dir).unwrap());
    let differences = ends[0].diff(&ends[1]).unwrap();
    let same = |difference: &&highwater::state::Difference| difference.operator != "event_time";
    assert!(differences.iter().filter(same).all(|d| d.is_empty()), "{differences:?}");
}

#[test]
fn snapshots_are_taken_every_so_often_while_there_are_commits() {
    let root = tempfile::tempdir().unwrap();
    let state = root.path().join("state");
    let start = |events_from: i64| {
        let source = Pushed::partitions(2);
        events(0..events_from, &source);
        let (flow, _received) = flow(&source);
        let every = Duration::from_millis(50);
        (flow.spawn(settings(&state).snapshots(every, 2)).unwrap(), source)
    };
    let generation = || {
        let listed = list_snapshots(&state).unwrap();
        assert!(listed.len() <= 3, "two are kept, and one may be new: {listed:?}");
        let name = listed.last()?.file_name()?.to_str()?.parse::<u64>();
        name.ok()
    };
    let (handle, source) = start(10);
    for n in 0..4 {
        let before = generation();
        events(10 + n * 10..20 + n * 10, &source);
        wait_until("the next snapshot", || generation() > before);
    }
    // A flow at rest has nothing new to keep.
    wait_for_commit(&handle, 50);
    std::thread::sleep(Duration::from_millis(200));
    let rest = generation();
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(generation(), rest);
    let listed = list_snapshots(&state).unwrap();
    assert_eq!(listed.len(), 2);
    for path in listed {
        assert!(StateDir::open(&path).unwrap().verify().unwrap()["totals"] > 0);
    }
    handle.stop();
    handle.wait().unwrap();
}

#[test]
fn the_command_line_works_beside_a_running_flow() {
    let root = tempfile::tempdir().unwrap();
    let state = root.path().join("state");
    let dir = state.to_str().unwrap();
    let source = Pushed::partitions(2);
    events(0..HALF, &source);
    let (flow, _received) = flow(&source);
    let handle = flow.spawn(settings(&state)).unwrap();
    wait_for_commit(&handle, HALF);

    let ls = said(&["ls", dir]);
    assert!(ls.contains("flow `snapshots`") && ls.contains("totals"), "{ls}");
    assert!(ls.contains("events: 1") || ls.contains("events: "), "{ls}");
    let shown = said(&["show", dir, "totals"]);
    assert_eq!(shown.lines().count(), 5, "{shown}");
    assert!(said(&["show", dir, "totals", "--limit", "2"]).contains("and 3 more"));
    assert!(refused(&["show", dir, "nobody"]).contains("there is no state of `nobody`"));
    assert!(said(&["verify", dir]).contains("is whole"));

    // The flow is at rest: it makes no commit that could remind it.
    let first = said(&["snapshot", dir]);
    let first = first.trim();
    assert_eq!(first, state.join("snapshots/00000001").to_str().unwrap());
    assert!(said(&["verify", first]).contains("is whole"));
    let same = said(&["diff", first, dir]);
    assert!(same.contains("totals: 0 removed, 0 added, 0 changed"), "{same}");
    events(HALF..HALF + 20, &source);
    wait_for_commit(&handle, HALF + 20);
    let changed = said(&["diff", first, dir]);
    assert!(changed.contains("totals: 0 removed, 0 added, 5 changed"), "{changed}");

    // One that cannot be taken is not answered by the one before.
    let in_the_way = state.join("snapshots/00000002");
    std::fs::write(&in_the_way, "no directory").unwrap();
    let error = refused(&["snapshot", dir]);
    assert!(error.contains("could not take a snapshot"), "{error}");
    std::fs::remove_file(&in_the_way).unwrap();
    let second = said(&["snapshot", dir, "--keep", "1"]);
    assert_eq!(second.trim(), in_the_way.to_str().unwrap());
    assert_eq!(said(&["snapshot", dir, "--list"]).lines().count(), 1);
    assert!(!state.join("snapshot.request").exists() && !state.join("snapshot.taking").exists());

    // Neither a flow nor a tool writes into a snapshot, or uses what was restored in part.
    let (other, _received) = self::flow(&source);
    let error = other.spawn(settings(second.trim().as_ref())).unwrap().wait().unwrap_err();
    assert!(error.to_string().contains("it is a snapshot"), "{error}");
    for command in [&["compact", second.trim()][..], &["rm", second.trim(), "totals"]] {
        assert!(refused(command).contains("it is a snapshot"));
    }
    let restored = root.path().join("restored");
    let to = restored.to_str().unwrap();
    assert!(said(&["restore", dir, to]).contains("is the state as of tick"));
    assert!(refused(&["restore", dir, to]).contains("already"));
    std::fs::write(restored.join("RESTORING"), "").unwrap();
    assert!(refused(&["ls", to]).contains("was not finished: restore it again"));
    said(&["restore", dir, to]);
    assert!(said(&["verify", to]).contains("is whole"));

    assert!(refused(&["rm", dir, "totals"]).contains("in use by another process"));
    handle.stop();
    handle.wait().unwrap();
    // Nobody uses it now, and the tool takes one itself.
    assert!(said(&["snapshot", dir]).trim().ends_with("00000003"));
    let error = {
        let in_memory = self::flow(&source).0.spawn(Settings::in_memory().workers(1)).unwrap();
        in_memory.snapshot().unwrap_err()
    };
    assert!(error.to_string().contains("state in memory has no snapshots"), "{error}");
}
