//! A flow that has changed, on the state of the one before.

use std::path::Path;

use highwater::prelude::*;
use highwater::testing::Pushed;
use highwater::{BoxError, OldState, Process, ProcessCx, StateCheck, Verdict};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

type Event = (u8, EventTime);

#[derive(Default, Serialize, Deserialize)]
struct V1 {
    count: u64,
    total: u64,
}

/// The same two numbers, the other way round.
#[derive(Default, Serialize, Deserialize)]
struct Swapped {
    total: u64,
    count: u64,
}

#[derive(Default, Serialize, Deserialize)]
struct V2 {
    count: u64,
    total: u64,
    largest: Option<u64>,
}

trait Tally: Default + Serialize + DeserializeOwned + Send + 'static {
    const VERSION: u16;
    fn add(&mut self) -> u64;
    fn migrate(_: OldState<'_>) -> Result<Self, BoxError> {
        Err("no".into())
    }
}

impl Tally for V1 {
    const VERSION: u16 = 1;
    fn add(&mut self) -> u64 {
        self.total += 10;
        self.count += 1;
        self.count
    }
}

impl Tally for Swapped {
    const VERSION: u16 = 1;
    fn add(&mut self) -> u64 {
        self.count += 1;
        self.count
    }
}

impl Tally for V2 {
    const VERSION: u16 = 2;
    fn add(&mut self) -> u64 {
        self.count += 1;
        self.largest = self.largest.max(Some(self.total));
        self.count
    }
    fn migrate(old: OldState<'_>) -> Result<Self, BoxError> {
        assert_eq!(old.version(), 1);
        let V1 { count, total } = old.decode()?;
        Ok(V2 { count, total, largest: None })
    }
}

struct Counting<S>(std::marker::PhantomData<fn() -> S>);

impl<S: Tally> Process<u8, Event> for Counting<S> {
    type State = S;
    type Output = (u8, u64);
    const VERSION: u16 = S::VERSION;

    fn event(&self, cx: &mut ProcessCx<'_, S, (u8, u64)>, key: &u8, _: Event) {
        let count = cx.state().get_or_insert_default().add();
        cx.emit((*key, count));
    }

    fn migrate(&self, old: OldState<'_>) -> Result<S, BoxError> {
        S::migrate(old)
    }
}

fn source(events: u8) -> Pushed<Event> {
    let source = Pushed::partitions(1);
    for n in 0..events {
        source.push(0, (n % 3, EventTime::from_seconds(n.into())));
    }
    source
}

fn flow<S: Tally>(events: u8, id: &str) -> (Flow, impl Iterator<Item = (u8, u64)> + use<S>) {
    let flow = Flow::new("counting");
    let counts = flow
        .source("events", source(events))
        .event_time(|e| e.1, Disorder::ascending())
        .key_by(|e| &e.0)
        .process(id, Counting::<S>(std::marker::PhantomData))
        .unbounded()
        .drop_late("none is");
    let (sink, received) = highwater::sink::channel();
    counts.sink("out", sink);
    (flow, received)
}

/// Runs until all events are committed, then stops.
fn run<S: Tally>(dir: &Path, events: u8) -> Result<Vec<(u8, u64)>, Error> {
    let (flow, received) = flow::<S>(events, "counting");
    let handle = flow.spawn(Settings::at(dir).workers(2))?;
    loop {
        let metrics = handle.metrics();
        let read = metrics.operator("events").map_or(0, |o| o.counters.events_in);
        // Counters go on where the run before left them.
        if handle.is_finished() || read >= events.into() && metrics.committed == metrics.tick {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    handle.stop();
    handle.wait()?;
    Ok(received.collect())
}

fn verdict(check: &StateCheck, id: &str) -> Verdict {
    check.operators.iter().find(|(other, _)| other == id).unwrap().1.clone()
}

#[test]
fn a_new_version_takes_over_the_state_of_the_old_one() {
    let dir = tempfile::tempdir().unwrap();
    let first = run::<V1>(dir.path(), 10).unwrap();
    assert_eq!(first.len(), 9, "the last event waits for the watermark");
    let check = flow::<V2>(20, "counting").0.check_state(dir.path()).unwrap();
    assert_eq!(verdict(&check, "counting"), Verdict::Migrated { from: 1, to: 2 });
    assert!(check.is_fine());
    let second = run::<V2>(dir.path(), 20).unwrap();
    assert_eq!(second.iter().map(|(_, count)| count).max(), Some(&7), "{second:?}");
    // And never back.
    let check = flow::<V1>(20, "counting").0.check_state(dir.path()).unwrap();
    assert!(check.to_string().contains("newer than version 1"), "{check}");
}

#[test]
fn swapped_fields_are_noticed_before_any_input_is_read() {
    let dir = tempfile::tempdir().unwrap();
    run::<V1>(dir.path(), 10).unwrap();
    let check = flow::<Swapped>(20, "counting").0.check_state(dir.path()).unwrap();
    assert!(matches!(verdict(&check, "counting"), Verdict::Incompatible(_)), "{check}");
    let error = run::<Swapped>(dir.path(), 20).unwrap_err();
    assert_eq!(error.operator(), Some("counting"));
    assert!(error.to_string().contains("under version 1"), "{error}");
    // Nothing was touched: the old program goes on.
    assert_eq!(run::<V1>(dir.path(), 12).unwrap().len(), 2);
}

#[test]
fn an_operator_that_is_gone_needs_a_word() {
    let dir = tempfile::tempdir().unwrap();
    run::<V1>(dir.path(), 10).unwrap();
    let renamed = || flow::<V1>(10, "renamed").0;
    let check = renamed().check_state(dir.path()).unwrap();
    assert_eq!(verdict(&check, "renamed"), Verdict::New);
    assert_eq!(verdict(&check, "counting"), Verdict::Orphaned);
    let error = renamed().spawn(Settings::at(dir.path())).unwrap().wait().unwrap_err();
    assert!(error.to_string().contains("flow.forget(\"counting\")"), "{error}");
    let flow = renamed();
    flow.forget("counting");
    let handle = flow.spawn(Settings::at(dir.path())).unwrap();
    std::thread::sleep(std::time::Duration::from_millis(50));
    handle.stop();
    handle.wait().unwrap();
    let state = highwater::state::StateDir::open(dir.path()).unwrap();
    assert!(state.operators().all(|(id, _)| id != "counting"));
    let mut left = 0;
    state.entries("counting", |_| left += 1).unwrap();
    assert_eq!(left, 0);
}

#[test]
fn a_parameter_that_has_changed_is_refused() {
    let window = |size| {
        let flow = Flow::new("windows");
        flow.source("events", source(10))
            .event_time(|e| e.1, Disorder::ascending())
            .key_by(|e| &e.0)
            .window("counts", Tumbling::of(size))
            .aggregate(Count)
            .drop_late("none is")
            .sink("out", Stdout::json());
        flow
    };
    let dir = tempfile::tempdir().unwrap();
    let handle = window(seconds(60)).spawn(Settings::at(dir.path())).unwrap();
    std::thread::sleep(std::time::Duration::from_millis(100));
    handle.stop();
    handle.wait().unwrap();
    assert!(window(seconds(60)).check_state(dir.path()).unwrap().is_fine());
    let check = window(seconds(30)).check_state(dir.path()).unwrap();
    assert!(matches!(verdict(&check, "counts"), Verdict::Incompatible(_)), "{check}");
}

#[test]
fn a_sink_that_is_gone_needs_a_word() {
    let to = |dir: &Path, id: &str| {
        let flow = Flow::new("sinks");
        flow.source("events", source(10)).sink(
            id,
            JsonLines::to(dir.join("out")).visible_every(std::time::Duration::from_secs(3600)),
        );
        flow
    };
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("state");
    let handle = to(dir.path(), "out").spawn(Settings::at(&state)).unwrap();
    while handle.metrics().operator("events").is_none_or(|o| o.counters.events_in < 10) {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    handle.stop();
    handle.wait().unwrap();
    // What is committed may not be visible yet, and the new id knows nothing of it.
    let check = to(dir.path(), "renamed").check_state(&state).unwrap();
    assert_eq!(verdict(&check, "out"), Verdict::Orphaned);
    let error = to(dir.path(), "renamed").spawn(Settings::at(&state)).unwrap().wait().unwrap_err();
    assert!(error.to_string().contains("flow.forget(\"out\")"), "{error}");
}

#[test]
fn what_the_flow_has_cannot_be_forgotten() {
    let (flow, _) = flow::<V1>(10, "counting");
    flow.forget("counting");
    let message = flow.plan().unwrap_err().to_string();
    assert!(message.contains("`counting`") && message.contains("evolution.rs"), "{message}");
}

#[test]
fn all_state_is_migrated_at_once_if_asked() {
    let (lazy, eager) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    for dir in [lazy.path(), eager.path()] {
        run::<V1>(dir, 10).unwrap();
    }
    let new = || flow::<V2>(20, "counting").0;
    assert_eq!(new().migrate_state(eager.path()).unwrap(), 3, "three keys");
    assert_eq!(new().migrate_state(eager.path()).unwrap(), 0, "nothing is left");
    let check = new().check_state(eager.path()).unwrap();
    assert_eq!(verdict(&check, "counting"), Verdict::Kept);
    let error = run::<V1>(eager.path(), 20).unwrap_err();
    assert!(error.to_string().contains("newer than version 1"), "{error}");
    let sorted = |mut counts: Vec<(u8, u64)>| {
        counts.sort_unstable();
        counts
    };
    let expected = sorted(run::<V2>(lazy.path(), 20).unwrap());
    assert_eq!(sorted(run::<V2>(eager.path(), 20).unwrap()), expected);
}
