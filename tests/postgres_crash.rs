//! Every point on the way from a commit to a database is a place to die, and to lose the
//! connection: the tables are those of a run in which nothing happened.
//!
//! `CRASH=full` tries every point at more moments, and every pair of a point and one in the
//! start after it.
#![cfg(feature = "postgres")]

mod postgres_common;
mod servers;

use std::collections::BTreeMap;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use highwater::postgres::{Fault, PostgresSink, Violations};
use highwater::prelude::*;
use highwater::testing::{Pushed, SimDisk, Survival, TestDriver};
use postgres_common::{Db, Event, TABLES, counts, events, latest, stored};

const EVENTS: i64 = 240;

/// The row that the third table refuses.
const REFUSED: &str = "rare 50";

/// Which of the sinks is broken.
const SINKS: [&str; 3] = ["append", "upsert", "dead letters"];

/// One fault, the moment it strikes, and what has been passed.
#[derive(Clone, Default)]
struct Strike {
    passed: Arc<Mutex<BTreeMap<&'static str, usize>>>,
    /// Point, how often it is passed before, and what happens then.
    at: Option<(&'static str, usize, Fault)>,
    struck: Arc<Mutex<bool>>,
}

impl Strike {
    fn at(point: &'static str, moment: usize, fault: Fault) -> Self {
        Strike { at: Some((point, moment, fault)), ..Strike::default() }
    }

    fn pass(&self, point: &'static str) -> Fault {
        let mut passed = self.passed.lock().unwrap();
        let times = passed.entry(point).or_default();
        *times += 1;
        match self.at {
            Some((at, moment, fault)) if at == point && *times == moment + 1 => {
                *self.struck.lock().unwrap() = true;
                fault
            }
            _ => Fault::None,
        }
    }

    fn has_struck(&self) -> bool {
        *self.struck.lock().unwrap()
    }
}

fn faulty(sink: PostgresSink, strike: Option<&Strike>) -> PostgresSink {
    match strike.cloned() {
        Some(strike) => sink.faulty(move |point| strike.pass(point)),
        None => sink,
    }
}

fn flow(db: &Db, broken: usize, strike: &Strike) -> Flow {
    let source = Pushed::partitions(2);
    for (n, event) in events(EVENTS).into_iter().enumerate() {
        source.push(n % 2, event);
    }
    source.finish();
    let flow = Flow::new("crash");
    let windows = flow
        .source("events", source)
        .event_time(|e: &Event| e.at, Disorder::at_most(seconds(1)))
        .key_by(|e| &e.key)
        .window("counts", Tumbling::of(seconds(1)))
        .aggregate(Count)
        .drop_late("there are none");
    let on = |sink: usize| (sink == broken).then_some(strike);
    let postgres = db.postgres();
    windows.sink("append", faulty(postgres.append("counts"), on(0)));
    windows.sink("upsert", faulty(postgres.upsert("latest", ["key"]), on(1)));
    let refusing = postgres.append("refusing").violations(Violations::dead_letters("refused"));
    windows.sink("dead letters", faulty(refusing, on(2)));
    flow
}

/// The life of one process: from whatever is on the disk to the end.
fn live(db: &Db, disk: &SimDisk, broken: usize, strike: &Strike) -> Result<(), Error> {
    let mut driver = TestDriver::on_disk(flow(db, broken, strike), disk, 8)?;
    for tick in 0..EVENTS / 8 + 2 {
        if tick % 5 == 4 {
            driver.commit()?;
        } else {
            driver.tick()?;
        }
    }
    driver.commit()
}

fn make_tables(db: &Db) {
    let refusing = format!(
        "create table refusing (like counts including all, check (key <> '{REFUSED}')); \
         create table refused (flow text, sink text, tick bigint, \"row\" json, error text, \
         at timestamptz default now())"
    );
    db.run(&format!("{TABLES}; {refusing}"));
}

fn empty_tables(db: &Db) {
    db.run(
        "do $$ begin if to_regclass('highwater_sinks') is not null then \
         truncate highwater_sinks; end if; end $$; \
         truncate counts, latest, refusing, refused",
    );
}

fn check(db: &Db) -> Result<(), String> {
    let all = counts(&events(EVENTS));
    let (refused, taken): (Vec<_>, Vec<_>) =
        all.iter().cloned().partition(|row| row.starts_with(REFUSED));
    let keys = db.rows("select \"row\"->>'key' from refused");
    let found = [
        ("counts", stored(db, "counts"), all),
        ("latest", stored(db, "latest"), latest(&events(EVENTS))),
        ("refusing", stored(db, "refusing"), taken),
        ("refused", keys, vec![REFUSED.to_owned(); refused.len()]),
    ];
    match found.into_iter().find(|(_, found, expected)| found != expected) {
        Some((table, found, expected)) => {
            Err(format!("the table {table} holds {found:?} instead of {expected:?}"))
        }
        None => Ok(()),
    }
}

#[derive(Default)]
struct Tally {
    tried: usize,
    pairs: usize,
    mismatches: Vec<String>,
}

/// One fault, perhaps another one in the start after it, and what it comes to in the end.
fn try_strikes(db: &Db, broken: usize, strikes: &[Strike], tally: &mut Tally) {
    empty_tables(db);
    let disk = SimDisk::new();
    let mut what = Ok(());
    for strike in strikes {
        let lived = live(db, &disk, broken, strike);
        let (_, _, fault) = strike.at.unwrap();
        if !strike.has_struck() {
            what = what.and(Err("the point was never passed".to_owned()));
        } else if lived.is_ok() != (fault == Fault::Cut) {
            what = what.and(Err(format!("it ended with {lived:?}")));
        }
        disk.restart(Survival::Synced);
    }
    let last = live(db, &disk, broken, &Strike::default());
    let what = what.and(last.map_err(|e| format!("it does not start again: {e:?}")));
    if let Err(what) = what.and_then(|()| check(db)) {
        let at: Vec<_> = strikes.iter().map(|strike| strike.at.unwrap()).collect();
        tally.mismatches.push(format!("{} {at:?}: {what}", SINKS[broken]));
    }
    tally.tried += 1;
    tally.pairs += usize::from(strikes.len() > 1);
}

/// How often a run without faults passes each point.
fn points(db: &Db, broken: usize) -> BTreeMap<&'static str, usize> {
    empty_tables(db);
    let strike = Strike::default();
    live(db, &SimDisk::new(), broken, &strike).unwrap();
    check(db).unwrap();
    strike.passed.lock().unwrap().clone()
}

#[test]
fn a_crash_or_a_lost_connection_at_any_point_changes_nothing() {
    let Some(db) = Db::shared() else { return };
    make_tables(&db);
    let full = std::env::var("CRASH").is_ok_and(|value| value == "full");
    let (started, mut tally, mut names) = (Instant::now(), Tally::default(), BTreeMap::new());
    for broken in 0..SINKS.len() {
        let points = points(&db, broken);
        for (number, (point, times)) in points.iter().enumerate() {
            *names.entry(*point).or_insert(0) += times;
            let mut moments = vec![0, times / 2, times - 1];
            moments.dedup();
            for (index, moment) in moments.into_iter().enumerate() {
                if full || (number + index + broken) % 4 == 0 {
                    let crash = Strike::at(point, moment, Fault::Crash);
                    try_strikes(&db, broken, &[crash], &mut tally);
                }
                // Outside of a connection there is none to be lost.
                let inside = !OUTSIDE.contains(point);
                if inside && (full || (number + index + broken) % 4 == 1) {
                    let cut = Strike::at(point, moment, Fault::Cut);
                    try_strikes(&db, broken, &[cut], &mut tally);
                }
            }
            // The letter of the first commit with output was not sent, or nobody knows that.
            for (index, first) in ["commit durable", "commit", "sent"].into_iter().enumerate() {
                if (full || (number + index + broken) % 4 == 2) && !NOT_AT_START.contains(point) {
                    let first = Strike::at(first, 1, Fault::Crash);
                    let second = Strike::at(point, 0, Fault::Crash);
                    try_strikes(&db, broken, &[first, second], &mut tally);
                }
            }
        }
    }
    println!(
        "postgres crash: {} points, {} faults tried ({} in a start after a crash), {} \
         mismatches, {} s; points: {}",
        names.len(),
        tally.tried,
        tally.pairs,
        tally.mismatches.len(),
        started.elapsed().as_secs(),
        names.keys().copied().collect::<Vec<_>>().join(", ")
    );
    for mismatch in tally.mismatches.iter().take(5) {
        println!("{mismatch}");
    }
    assert!(tally.mismatches.is_empty());
    assert!(names.len() >= 25 && tally.tried >= 60);
}

const OUTSIDE: [&str; 6] = ["open", "opened", "staged", "commit durable", "sent", "published"];

/// Which are passed only with new output, or with one row of it.
const NOT_AT_START: [&str; 3] = ["staged", "published", "refused put"];

const CHILD: &str = "HIGHWATER_POSTGRES_CHILD";

/// The flow on a real state directory; dies at the point that the environment names.
fn child(db: &Db, dir: &std::path::Path, point: Option<(String, usize)>) -> Result<(), Error> {
    let passed = Mutex::new(0);
    let die = move |at: &'static str| {
        if let Some((_, moment)) = point.as_ref().filter(|(point, _)| point == at) {
            let mut passed = passed.lock().unwrap();
            *passed += 1;
            if *passed == *moment + 1 {
                std::process::abort();
            }
        }
        Fault::None
    };
    let flow = Flow::new("abort");
    flow.source("events", Memory::of(events(EVENTS)))
        .inspect(|_| std::thread::sleep(Duration::from_micros(500)))
        .event_time(|e| e.at, Disorder::at_most(seconds(1)))
        .key_by(|e| &e.key)
        .window("counts", Tumbling::of(seconds(1)))
        .aggregate(Count)
        .drop_late("there are none")
        .sink("append", db.postgres().append("counts").faulty(die));
    let settings = Settings::at(dir).workers(1).tick_max_events(8);
    flow.run(settings.commit_interval(Duration::ZERO))
}

#[test]
fn a_process_that_dies_at_any_point_changes_nothing() {
    if let Ok(task) = std::env::var(CHILD) {
        let parts: Vec<&str> = task.split('\n').collect();
        let Some(db) = Db::shared() else { return };
        let db = db.at(parts[0]);
        child(&db, parts[1].as_ref(), Some((parts[2].to_owned(), parts[3].parse().unwrap())))
            .unwrap();
        return;
    }
    let Some(db) = Db::shared() else { return };
    make_tables(&db);
    let started = Instant::now();
    let mut points = points(&db, 0);
    points.retain(|point, _| *point != "published");
    for (number, point) in points.keys().enumerate() {
        empty_tables(&db);
        let dir = tempfile::tempdir().unwrap();
        let moment = if points[point] > 1 { 1 + number % 3 } else { 0 };
        let task = format!("{}\n{}\n{point}\n{moment}", db.at, dir.path().display());
        let status = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "a_process_that_dies_at_any_point_changes_nothing"])
            .env(CHILD, task)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&status.stdout);
        assert!(!status.status.success(), "{point} was never passed: {said}");
        child(&db, dir.path(), None).unwrap();
        assert_eq!(stored(&db, "counts"), counts(&events(EVENTS)), "{point} {moment}");
    }
    let seconds = started.elapsed().as_secs();
    println!("postgres crash: {} real processes died, 0 mismatches, {seconds} s", points.len());
}
