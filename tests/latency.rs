//! The latency kit measures what happened: a flow that is held up on purpose shows it, in full.

use std::time::Duration;

use highwater::latency::{Load, Outcome, Setup, hiccups};
use highwater::prelude::*;

/// Every event is its own answer.
fn echo(setup: &Setup) -> Flow {
    stalled(setup, u64::MAX, Duration::ZERO)
}

/// As [`echo`], where one event holds everything up.
fn stalled(setup: &Setup, at: u64, stall: Duration) -> Flow {
    let flow = Flow::new("echo");
    flow.source("events", setup.events(|index, due| (index, due)))
        .map(move |event| {
            if event.0 == at {
                std::thread::sleep(stall);
            }
            event
        })
        .sink("answers", setup.answers(|event: &(u64, EventTime)| event.1));
    flow
}

/// Every event takes at least so long.
fn slow(setup: &Setup, each: Duration) -> Flow {
    let flow = Flow::new("slow");
    flow.source("events", setup.events(|_, due| due))
        .map(move |due| {
            std::thread::sleep(each);
            due
        })
        .sink("answers", setup.answers(|due: &EventTime| *due));
    flow
}

fn load() -> Load {
    Load::of(5_000.0).warm_up(Duration::from_millis(250)).lasting(Duration::from_secs(2))
}

fn run(load: Load, flow: impl FnOnce(&Setup) -> Flow) -> Outcome {
    load.run(Settings::in_memory().workers(1), flow).unwrap()
}

#[test]
fn every_event_that_was_due_within_the_measured_time_is_an_answer() {
    let outcome = run(load(), echo);
    assert_eq!((outcome.latency.len(), outcome.early, outcome.unread), (10_000, 0, 0));
    assert_eq!(outcome.timeline.iter().map(|slice| slice.answers).sum::<u64>(), 10_000);
    assert_eq!(outcome.timeline.len(), 8);
}

/// Events that are due while the flow stands still wait for it, each as long as it does: a stall
/// of half a second is in a quarter of two seconds' answers, evenly from none to all of it. A
/// bench that asks only when it has been answered would see one slow answer.
#[test]
fn a_stall_is_felt_by_all_that_was_due_meanwhile() {
    let stall = Duration::from_millis(500);
    let outcome = run(load(), |setup| stalled(setup, 5_600, stall));
    assert_eq!(outcome.latency.len(), 10_000);
    let share = |ms: u64| outcome.latency.count_between(ms * 1_000, u64::MAX / 2);
    // It may stand still longer than it was told to, never shorter.
    assert!(outcome.latency.max() >= 499_000, "{} µs at most", outcome.latency.max());
    assert!(share(250) >= 1_240, "{} of 1,250 waited for more than half of it", share(250));
    assert!(share(50) >= 2_240, "{} of 2,250 waited for more than a tenth of it", share(50));
    let worst = outcome.timeline.iter().max_by_key(|slice| slice.max_micros).unwrap();
    assert_eq!(worst.start_micros, 1_000_000, "event 5,600 was due after 1.12 s");
    assert!(outcome.timeline.iter().any(|slice| slice.backlog > 1_000), "{:?}", outcome.timeline);
}

/// What is never read has no answer, and is told; a flow that falls behind is not sustained.
#[test]
fn a_load_that_is_too_much_is_found_out() {
    let slow = |setup: &Setup| slow(setup, Duration::from_millis(1));
    // Events count as read when their tick begins: with large ticks all would be soon.
    let settings = Settings::in_memory().workers(1).tick_max_events(20);
    let impatient = load().patience(Duration::from_millis(100));
    let outcome = impatient.run(settings, slow).unwrap();
    assert!(outcome.unread > 5_000, "{}", outcome.unread);
    assert!(!outcome.is_sustained());
    assert!(outcome.to_string().contains("NOT keep up"), "{outcome}");
    assert!(run(load(), echo).is_sustained());
}

/// An answer is visible when it is durable, if the flow has a state directory.
#[test]
fn durable_answers_wait_for_their_commit() {
    let dir = tempfile::tempdir().unwrap();
    let interval = Duration::from_millis(200);
    let settings = Settings::at(dir.path().join("state")).workers(1).commit_interval(interval);
    let outcome = load().run(settings, echo).unwrap();
    assert_eq!(outcome.latency.len(), 10_000);
    // Half of the time between two commits, on average.
    assert!(outcome.micros_at(0.5) > 50_000, "{outcome}");
}

#[test]
fn an_answer_before_its_time_is_told() {
    let hasty = |setup: &Setup| {
        let flow = Flow::new("hasty");
        flow.source("events", setup.events(|_, due| due))
            .sink("answers", setup.answers(|due: &EventTime| *due + seconds(1)));
        flow
    };
    let outcome = run(load(), hasty);
    assert!(outcome.early > 1_000 && outcome.to_string().contains("before they were due"));
}

#[test]
fn what_was_measured_can_be_written_and_read() {
    let outcome = run(load(), echo);
    let dir = tempfile::tempdir().unwrap();
    let late = hiccups(Duration::from_millis(50)).unwrap();
    outcome.write(dir.path().join("new"), "echo", Some(&late)).unwrap();
    let read = |name: &str| std::fs::read_to_string(dir.path().join("new").join(name)).unwrap();
    let hgrm = read("echo.hgrm");
    let last = hgrm.lines().rfind(|line| line.ends_with("inf")).unwrap();
    let columns: Vec<&str> = last.split_whitespace().collect();
    assert_eq!(columns[2], "10000", "{hgrm}");
    let max: f64 = columns[0].parse().unwrap();
    assert!((max * 1e3 - outcome.latency.max() as f64).abs() < 1.0 + max);
    assert_eq!(read("echo.csv").lines().count(), 1 + 8);
    let svg = read("echo.svg");
    assert!(svg.starts_with("<svg") && svg.trim_end().ends_with("</svg>"));
    assert_eq!(svg.matches("<polyline").count(), 5, "two by percentile, three over time");
    assert!(read("echo-hiccups.hgrm").contains("#[Max"));
}

/// A flow that needs at least 100 µs for each event cannot sustain more than 10,000 a second. Its
/// ticks are short: what a long one has read is no backlog any more, and a trial of less than a
/// second would be over before the next one is.
#[test]
fn a_limit_is_found_between_what_is_sustained_and_what_is_not() {
    let slow = |setup: &Setup| slow(setup, Duration::from_micros(100));
    let load = Load::of(500.0).warm_up(Duration::ZERO).lasting(Duration::from_millis(750));
    let settings = Settings::in_memory().workers(1).tick_max_events(64);
    let limit = load.find_limit(&settings, slow).unwrap();
    assert!(limit.rate < 10_000.0, "{limit:?}");
    let last = limit.trials.last().unwrap();
    assert!(last.sustained && last.rate == limit.rate, "{limit:?}");
    assert!(limit.trials.iter().any(|trial| !trial.sustained));
}

#[test]
fn a_load_is_one_source() {
    let twice = |setup: &Setup| {
        let flow = Flow::new("twice");
        for name in ["one", "two"] {
            let events = flow.source(name, setup.events(|_, due| due));
            events.sink(&format!("{name} out"), setup.answers(|due: &EventTime| *due));
        }
        flow
    };
    let refused = load().run(Settings::in_memory().workers(1), twice).unwrap_err();
    assert!(refused.to_string().contains("`events` was used for two"), "{refused}");
}

#[test]
fn a_load_of_nothing_is_refused() {
    let refused = Load::of(0.0).run(Settings::in_memory(), echo).unwrap_err();
    assert!(refused.to_string().contains("0 events per second"), "{refused}");
}
