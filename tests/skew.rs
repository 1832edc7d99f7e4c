//! Event times too far in the future: they get no time, move no promise, and are never silent.

use highwater::prelude::*;
use highwater::testing::{Pushed, TestDriver};

/// Time in µs, and when a broker took the event in.
type Event = (i64, i64);

const AHEAD: i64 = 50;

fn flow(disorder: Disorder<Event>, heard: bool) -> Flow {
    let flow = Flow::new("skew");
    let timed = flow
        .source("in", Pushed::<Event>::partitions(2))
        .event_time(|e| EventTime::from_micros(e.0), disorder);
    if heard {
        timed.skewed().map(|s| (s.row.0, s.ahead_by.as_micros())).sink("skewed", Stdout::json());
    }
    timed
        .key_with(|_| 0u8)
        .window("w", Tumbling::of(micros(10)))
        .aggregate(Count)
        .drop_late("not under test")
        .map(|r| (r.window.start.as_micros(), r.value))
        .sink("out", Stdout::json());
    flow
}

fn capped() -> Disorder<Event> {
    Disorder::at_most(micros(0)).at_most_ahead(micros(AHEAD))
}

fn push(driver: &mut TestDriver, partition: usize, times: &[i64]) {
    times.iter().for_each(|time| driver.push("in", partition, (*time, 0i64)).unwrap());
}

#[test]
fn one_absurd_time_closes_nothing_and_is_heard() {
    let mut driver = TestDriver::new(flow(capped(), true)).unwrap();
    driver.advance_clock(micros(1_000));
    push(&mut driver, 0, &[5, i64::MAX, 1_050, 1_051, 6]);
    push(&mut driver, 1, &[1_000]);
    driver.tick().unwrap();
    let skewed = [(i64::MAX, i64::MAX - 1_000), (1_051, 51)];
    assert_eq!(driver.outputs::<(i64, i64)>("skewed").unwrap(), skewed);
    // 1050 is at the limit, and taken; so 6 is late, by its own partition's promise.
    assert_eq!(driver.watermark("w"), Watermark::At(EventTime::from_micros(1_000)));
    assert_eq!(driver.outputs::<(i64, u64)>("out").unwrap(), [(0, 1)]);
    let counters = driver.metrics().operator("in.event_time").unwrap().counters;
    assert_eq!((counters.used, counters.dead), (4, 2));
    assert!(counters.balanced());
    // What was refused may come again when its time has come.
    driver.advance_clock(micros(1));
    push(&mut driver, 0, &[1_051]);
    driver.tick().unwrap();
    assert_eq!(driver.outputs::<(i64, i64)>("skewed").unwrap().len(), 2);
}

#[test]
fn a_partition_of_skewed_events_is_silent_and_becomes_idle() {
    let mut driver = TestDriver::new(flow(capped().idle_after(micros(100)), true)).unwrap();
    push(&mut driver, 0, &[5]);
    push(&mut driver, 1, &[900]);
    driver.tick().unwrap();
    driver.advance_clock(micros(100));
    push(&mut driver, 0, &[25]);
    push(&mut driver, 1, &[900]);
    driver.tick().unwrap();
    assert_eq!(driver.watermark("w"), Watermark::At(EventTime::from_micros(25)));
}

#[test]
fn a_skewed_port_must_be_heard_unless_the_policy_is_another() {
    let error = flow(capped(), false).plan().unwrap_err().to_string();
    assert!(error.contains("`skewed` port is neither consumed nor dropped"), "{error}");
    assert!(error.contains("drop_skewed"), "{error}");
    let plan = flow(capped().on_skew(Skew::Skip), false).plan().unwrap();
    assert!(plan.contains("at most 50µs ahead of the clock (skipped)"), "{plan}");
    assert!(plan.contains("event_time [Clock]"), "{plan}");
    let mut driver = TestDriver::new(flow(capped().on_skew(Skew::Skip), false)).unwrap();
    push(&mut driver, 0, &[5, 51, 50]);
    driver.tick().unwrap();
    let counters = driver.metrics().operator("in.event_time").unwrap().counters;
    assert_eq!((counters.used, counters.dead), (2, 1));
}

#[test]
fn a_skewed_event_can_stop_the_flow_by_name() {
    let mut driver = TestDriver::new(flow(capped().on_skew(Skew::Fail), false)).unwrap();
    push(&mut driver, 1, &[5, 51]);
    let error = driver.tick().unwrap_err();
    assert_eq!((error.partition(), error.position()), (Some("1"), Some(1)));
    let text = error.to_string();
    assert!(text.contains("51µs ahead and may be 50µs at most"), "{text}");
}

#[test]
fn against_its_own_intake_the_clock_has_no_say() {
    let disorder = || {
        let taken_in = |e: &Event| EventTime::from_micros(e.1);
        Disorder::at_most(micros(0)).at_most_ahead_of(micros(AHEAD), taken_in)
    };
    let plan = flow(disorder(), true).plan().unwrap();
    assert!(plan.contains("event_time [Input]"), "{plan}");
    let run = |clock: i64| {
        let mut driver = TestDriver::new(flow(disorder(), true)).unwrap();
        driver.advance_clock(micros(clock));
        for event in [(100i64, 90i64), (200, 150), (300, 249), (7, 100)] {
            driver.push("in", 0, event).unwrap();
        }
        driver.finish::<Event>("in").unwrap();
        let skewed: Vec<(i64, i64)> = driver.outputs("skewed").unwrap();
        (skewed, driver.outputs::<(i64, u64)>("out").unwrap())
    };
    assert_eq!(run(0), (vec![(300, 51)], vec![(100, 1), (200, 1)]));
    assert_eq!(run(0), run(1_000_000));
}

#[test]
fn senseless_spans_are_refused() {
    let refused = |disorder: Disorder<Event>| flow(disorder, true).plan().unwrap_err().to_string();
    let at_most = || Disorder::at_most(micros(5));
    for span in [micros(0), micros(-1)] {
        assert!(refused(at_most().idle_after(span)).contains("idle timeout"));
        assert!(refused(at_most().lead_limit(span)).contains("lead limit"));
        assert!(refused(at_most().at_most_ahead(span)).contains("cap on future times"));
    }
    assert!(refused(at_most().on_skew(Skew::Skip)).contains("needs a cap"));
}
