//! Every operation on the disk is a place to die: the run goes on from what is left, and nobody
//! can tell the result from that of a run without a crash.
//!
//! `CRASH=full` tries everything; by default a part is tried, spread over the whole.

#[path = "crash/pipelines.rs"]
mod pipelines;
#[path = "crash/target.rs"]
mod target;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use highwater::Error;
use highwater::sink::JsonLines;
use highwater::testing::{Fault, Pushed, SimDisk, Survival, TestDriver};
use highwater_state::base::FileBase;
use highwater_state::{DurableStore, KEY_GROUPS, Store};
use pipelines::{Ground, PIPELINES, Pipeline, events};

const FAULTS: [Fault; 6] = [
    Fault::CrashBefore,
    Fault::CrashTorn,
    Fault::CrashAfter,
    Fault::Fail,
    Fault::FailAfter,
    Fault::Full,
];

/// Power loss first: what was not synced is gone.
const SURVIVALS: [Survival; 3] = [Survival::Synced, Survival::Some(7), Survival::Everything];

/// The life of one process: from whatever is on the disk to the end.
fn live(pipeline: &Pipeline, disk: &SimDisk) -> Result<(), Error> {
    let source = Pushed::partitions(2);
    events(0..60, &source);
    if pipeline.finish {
        source.finish();
    }
    let sim = disk.clone();
    let lines = move |name: &str| JsonLines::to(format!("out/{name}")).on(&sim);
    let target = Some(disk.clone());
    let flow = (pipeline.flow)(&Ground { source, lines: Box::new(lines), target });
    let mut driver = TestDriver::on_disk(flow, disk, 4)?;
    for tick in 0..60 {
        if tick % 3 == 2 {
            driver.commit()?;
        } else {
            driver.tick()?;
        }
    }
    driver.commit()
}

/// What can be seen from outside: the lines of the visible files, by sink, in any order, and
/// the state.
#[derive(Debug, PartialEq)]
struct Outcome {
    lines: BTreeMap<String, Vec<String>>,
    state: BTreeMap<String, BTreeMap<Vec<u8>, Vec<u8>>>,
}

fn lines(disk: &SimDisk) -> BTreeMap<String, Vec<String>> {
    let mut lines: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (path, bytes) in disk.contents() {
        let name = path.file_name().unwrap().to_str().unwrap();
        if name.starts_with("part-") {
            let text = String::from_utf8(bytes).unwrap();
            assert!(text.ends_with('\n'), "{} is cut short", path.display());
            let sink = path.parent().unwrap().display().to_string();
            // A target says in its first line which token it holds.
            let rows = text.lines().filter(|line| !line.starts_with('#'));
            lines.entry(sink).or_default().extend(rows.map(ToOwned::to_owned));
        }
    }
    lines.values_mut().for_each(|lines| lines.sort());
    lines
}

fn outcome(pipeline: &Pipeline, disk: &SimDisk) -> Outcome {
    let files = Arc::new(disk.copy());
    let base = FileBase::open(files.clone(), Path::new("state/base")).unwrap();
    let store = DurableStore::open(files, Path::new("state"), Box::new(base), 1 << 20).unwrap();
    let mut state = BTreeMap::new();
    for (operator, kind) in pipeline.operators {
        let mut entries = BTreeMap::new();
        let visit = &mut |group, key: &[u8], value: &[u8]| {
            kind.add(group, key, value, &mut entries);
            Ok(())
        };
        store.scan(operator, 0..KEY_GROUPS + 1, &[], visit).unwrap();
        state.insert((*operator).to_owned(), entries);
    }
    Outcome { lines: lines(disk), state }
}

struct Tally {
    points: usize,
    pairs: usize,
    /// Crashes after the commit was durable and before a sink had shown it.
    in_the_window: usize,
    mismatches: Vec<String>,
}

/// Nothing is visible that the run without a crash does not show.
fn check_visible(disk: &SimDisk, whole: &Outcome) -> Result<(), String> {
    for (sink, found) in lines(disk) {
        let mut expected = whole.lines.get(&sink).cloned().unwrap_or_default();
        for line in found {
            match expected.iter().position(|e| *e == line) {
                Some(index) => drop(expected.swap_remove(index)),
                None => return Err(format!("{sink} shows `{line}` too often, or too early")),
            }
        }
    }
    Ok(())
}

/// Goes on from a crash, perhaps into a second one, and compares the end.
fn recover(
    pipeline: &Pipeline,
    disk: &SimDisk,
    survival: Survival,
    second: Option<(usize, Fault)>,
    whole: &Outcome,
) -> Result<bool, String> {
    disk.restart(survival);
    check_visible(disk, whole)?;
    let mut struck = false;
    if let Some((at, fault)) = second {
        disk.fault_at(at, fault);
        struck = live(pipeline, disk).is_err();
        disk.restart(survival);
        check_visible(disk, whole)?;
    }
    live(pipeline, disk).map_err(|e| format!("it does not start again: {e}"))?;
    disk.restart(Survival::Synced);
    let found = outcome(pipeline, disk);
    if found == *whole { Ok(struck) } else { Err(difference(&found, whole)) }
}

fn difference(found: &Outcome, whole: &Outcome) -> String {
    if found.lines != whole.lines {
        return format!("output is {:?} instead of {:?}", found.lines, whole.lines);
    }
    format!("state is {:?} instead of {:?}", found.state, whole.state)
}

/// Whether an operation comes after the commit that made output durable, and makes it visible.
fn in_the_window(operation: &str) -> bool {
    operation.starts_with("rename out/") || operation.starts_with("sync names out/")
}

fn try_pipeline(pipeline: &Pipeline, every: usize, tally: &mut Tally) {
    let disk = SimDisk::new();
    live(pipeline, &disk).unwrap();
    let operations = disk.operations();
    disk.restart(Survival::Synced);
    let whole = outcome(pipeline, &disk);
    assert!(whole.lines.values().any(|lines| lines.len() > 3), "{}: no output", pipeline.name);
    let state: usize = whole.state.values().map(BTreeMap::len).sum();
    assert!((state == 0) == pipeline.finish, "{}: {state} entries", pipeline.name);
    for (at, operation) in operations.iter().enumerate() {
        for (number, fault) in FAULTS.into_iter().enumerate() {
            if (at + number) % every != 0 {
                continue;
            }
            let crashed = SimDisk::new();
            crashed.fault_at(at, fault);
            // A fault at the very end may strike after everything was done.
            let _ = live(pipeline, &crashed);
            tally.in_the_window += usize::from(in_the_window(operation));
            for survival in SURVIVALS {
                let second = (at * 7 + number) % 24;
                for second in [None, Some((second, FAULTS[(at + number) % 6]))] {
                    let disk = crashed.copy();
                    match recover(pipeline, &disk, survival, second, &whole) {
                        Ok(struck) => tally.pairs += usize::from(struck),
                        Err(what) => tally.mismatches.push(format!(
                            "{}: {fault:?} at {at} ({operation}), leaving {survival:?}, then \
                             {second:?}: {what}",
                            pipeline.name
                        )),
                    }
                    tally.points += usize::from(second.is_none());
                }
            }
        }
    }
}

#[test]
fn a_crash_at_any_operation_changes_nothing() {
    let full = std::env::var("CRASH").is_ok_and(|value| value == "full");
    let started = std::time::Instant::now();
    let (points, pairs) = (0, 0);
    let mut tally = Tally { points, pairs, in_the_window: 0, mismatches: Vec::new() };
    for pipeline in PIPELINES.iter().chain([&target::TRANSACTIONS]) {
        let before = tally.points;
        try_pipeline(pipeline, if full { 1 } else { 23 }, &mut tally);
        println!("{}: {} points", pipeline.name, tally.points - before);
    }
    println!(
        "crash: {} points, {} pairs, {} mismatches, {} s; {} of the crashes after the commit was \
         durable and before the sink had shown it",
        tally.points,
        tally.pairs,
        tally.mismatches.len(),
        started.elapsed().as_secs(),
        tally.in_the_window
    );
    for mismatch in tally.mismatches.iter().take(5) {
        println!("{mismatch}");
    }
    assert!(tally.mismatches.is_empty());
    assert!(tally.pairs > 0 && tally.in_the_window > 0);
    if full {
        assert!(tally.points >= 3_000 && tally.pairs >= 1_000);
    }
}
