//! Every place between the commit of a flow and the broker's answer is one to die at, with a real
//! broker: whoever reads the topic with `read_committed` cannot tell it from a run without one.
//!
//! The points are those that a run without a crash passes. A crash ends the sink without another
//! word, and leaves of the state what was synced; the run that goes on from there may be struck
//! too. `CRASH=full` strikes every run twice.
#![cfg(feature = "kafka")]

#[path = "kafka/flows.rs"]
mod flows;
mod servers;
#[path = "kafka/topics.rs"]
mod topics;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use highwater::Error;
use highwater::sink::KafkaPoint;
use highwater::testing::{SimDisk, Survival};

const EVENTS: i64 = 60;

/// So many lives are led at once: they mostly wait for the broker.
const THREADS: usize = 4;

/// The life of one process, which ends at the point with this number, and the points it passed.
fn live(
    address: &str,
    topic: &str,
    disk: &SimDisk,
    strike_at: Option<usize>,
) -> (Result<(), Error>, Vec<KafkaPoint>) {
    let passed = Arc::new(Mutex::new(Vec::new()));
    let sink = flows::lines(topic, address).strike({
        let passed = passed.clone();
        move |point| {
            let mut passed = passed.lock().unwrap();
            passed.push(point);
            strike_at == Some(passed.len() - 1)
        }
    });
    let source = flows::source(0..EVENTS);
    source.finish();
    let result = flows::run_to_end(flows::flow("crash", source, sink), disk);
    let passed = passed.lock().unwrap().clone();
    (result, passed)
}

/// A life that is struck, perhaps a second one, and one that gets to the end.
fn try_point(
    address: &str,
    topic: &str,
    first: usize,
    second: Option<usize>,
) -> Result<Vec<KafkaPoint>, String> {
    let disk = SimDisk::new();
    let mut struck = Vec::new();
    for at in [Some(first), second].into_iter().flatten() {
        let (result, passed) = live(address, topic, &disk, Some(at));
        if passed.get(at) == Some(&KafkaPoint::MarkUnanswered) {
            result.map_err(|error| format!("a client is left behind: {error:?}"))?;
            struck.push(passed[at]);
        } else if passed.len() == at + 1 {
            let error = result.err().ok_or("a strike did not end the run")?;
            if !error.to_string().contains("struck on purpose") {
                return Err(format!("another error: {error:?}"));
            }
            struck.push(passed[at]);
        } else {
            // The second life had less to do than that.
            result.map_err(|error| format!("it does not start again: {error:?}"))?;
        }
        disk.restart(Survival::Synced);
    }
    let (result, _) = live(address, topic, &disk, None);
    result.map_err(|error| format!("it does not go on: {error:?}"))?;
    let found = topics::sorted_texts(&topics::read_committed(address, topic));
    let expected = flows::expected(EVENTS);
    if found == expected { Ok(struck) } else { Err(format!("{found:?} instead of {expected:?}")) }
}

#[test]
fn a_crash_at_any_point_loses_and_repeats_nothing() {
    let Some(broker) = servers::kafka() else { return };
    let address = broker.address();
    let full = std::env::var("CRASH").is_ok_and(|value| value == "full");
    let started = Instant::now();
    let prefix = servers::unique("crash");
    topics::create_one(address, &prefix, 3);
    let (result, points) = live(address, &prefix, &SimDisk::new(), None);
    result.unwrap();
    let whole = topics::sorted_texts(&topics::read_committed(address, &prefix));
    assert_eq!(whole, flows::expected(EVENTS), "without a crash");

    // Every point once; and, every fourth time or always, another one in the life after it.
    let mut trials = Vec::new();
    for at in 0..points.len() {
        trials.push((at, None));
        if full || at % 4 == 0 {
            trials.push((at, Some((at * 7 + 3) % 16)));
        }
    }
    let names: Vec<String> = (0..trials.len()).map(|n| format!("{prefix}-{n}")).collect();
    topics::create(address, &names, 3, &[]);
    let next = AtomicUsize::new(0);
    let tally: Mutex<BTreeMap<String, usize>> = Mutex::default();
    let mismatches = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    let Some((first, second)) = trials.get(number) else { return };
                    match try_point(address, &names[number], *first, *second) {
                        Ok(struck) => {
                            let mut tally = tally.lock().unwrap();
                            for point in struck {
                                *tally.entry(format!("{point:?}")).or_default() += 1;
                            }
                        }
                        Err(what) => mismatches.lock().unwrap().push(format!(
                            "at {first} ({:?}), then at {second:?}: {what}",
                            points[*first]
                        )),
                    }
                }
            });
        }
    });
    let (tally, mismatches) = (tally.into_inner().unwrap(), mismatches.into_inner().unwrap());
    let crashes: usize = tally.values().sum();
    println!(
        "kafka crash: {} points in {} runs, {crashes} crashes, {} mismatches, {} s\n{tally:?}",
        points.len(),
        trials.len(),
        mismatches.len(),
        started.elapsed().as_secs(),
    );
    for mismatch in mismatches.iter().take(5) {
        println!("{mismatch}");
    }
    assert!(mismatches.is_empty());
    assert!(points.len() >= 30 && crashes >= points.len());
}
