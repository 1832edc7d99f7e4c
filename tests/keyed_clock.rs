//! Timers of the tick clock.

use std::time::{Duration, Instant};

use highwater::prelude::*;
use highwater::testing::{Pushed, TestDriver};

/// Key, second, and a word.
type Row = (u8, i64, String);

fn t(second: i64) -> EventTime {
    EventTime::from_seconds(second)
}

fn row(key: u8, second: i64, word: &str) -> Row {
    (key, second, word.to_owned())
}

/// `set NAME SECONDS`, `delete NAME`, `list`; timers say their names, the time on the clock since
/// the event that set the first of them, and the time at which they fire in event time.
struct Clocked;

impl Process<u8, Row> for Clocked {
    type State = i64;
    type Output = String;
    const CLOCK: bool = true;

    fn event(&self, cx: &mut ProcessCx<'_, i64, String>, _: &u8, (_, _, word): Row) {
        let now = cx.clock();
        let since = *cx.state().get_or_insert(now.as_micros());
        let words: Vec<&str> = word.split(' ').collect();
        match words[..] {
            ["set", name, after] => {
                cx.set_clock_timer(name, now + seconds(after.parse().unwrap()));
            }
            ["delete", name] => {
                for timer in cx.clock_timers().cloned().collect::<Vec<_>>() {
                    if timer.name == name {
                        assert!(cx.delete_clock_timer(name, timer.time));
                        assert!(!cx.delete_clock_timer(name, timer.time));
                    }
                }
            }
            _ => {
                let all = cx.clock_timers();
                let all: Vec<String> = all
                    .map(|t| format!("{}+{}", t.name, (t.time.as_micros() - since) / 1_000_000))
                    .collect();
                cx.emit(all.join(" "));
            }
        }
    }

    fn clock_timer(&self, cx: &mut ProcessCx<'_, i64, String>, key: &u8, timer: &ClockTimer) {
        let now = cx.clock();
        assert!(timer.time <= now || cx.watermark() == Watermark::End);
        let since = cx.get().copied().unwrap_or_default();
        let after = (timer.time.as_micros() - since) / 1_000_000;
        cx.emit(format!("{key} {} after {after}s at {}", timer.name, cx.time().as_micros()));
        if timer.name == "beat" {
            cx.set_clock_timer("beat", timer.time + seconds(1));
        }
    }
}

fn flow(bound: i64) -> Flow {
    let flow = Flow::new("clocked");
    flow.source("events", Pushed::<Row>::partitions(1))
        .event_time(|e| t(e.1), Disorder::at_most(seconds(bound)))
        .key_by(|e| &e.0)
        .process("k", Clocked)
        .unbounded()
        .drop_late("none")
        .sink("out", Stdout::json());
    flow
}

/// Pushes an event, and another that makes the watermark pass it.
fn act(driver: &mut TestDriver, key: u8, second: i64, word: &str) {
    driver.push("events", 0, row(key, second, word)).unwrap();
    driver.push("events", 0, row(99, second + 1, "delete nothing")).unwrap();
    driver.commit().unwrap();
}

fn out(driver: &TestDriver) -> Vec<String> {
    driver.outputs("out").unwrap()
}

#[test]
fn a_clock_timer_fires_in_the_first_tick_whose_clock_has_reached_it() {
    let mut driver = TestDriver::new(flow(0)).unwrap();
    act(&mut driver, 1, 0, "set a 10");
    driver.advance_clock(millis(9_999));
    driver.tick().unwrap();
    assert!(out(&driver).is_empty());
    driver.advance_clock(millis(1));
    driver.tick().unwrap();
    driver.tick().unwrap();
    // At the watermark, which stands at one second.
    assert_eq!(out(&driver), ["1 a after 10s at 1000000"]);
}

#[test]
fn clock_timers_are_many_listable_deletable_and_in_order() {
    let mut driver = TestDriver::new(flow(0)).unwrap();
    for word in ["set b 5", "set a 5", "set a 5", "set c 2", "set gone 3", "delete gone", "list"] {
        driver.push("events", 0, row(1, 0, word)).unwrap();
    }
    act(&mut driver, 0, 0, "set z 5");
    assert_eq!(out(&driver), ["c+2 a+5 b+5"]);
    driver.advance_clock(seconds(60));
    driver.tick().unwrap();
    let at = "at 1000000";
    let fired = [
        "c+2 a+5 b+5".to_owned(),
        format!("1 c after 2s {at}"),
        format!("0 z after 5s {at}"),
        format!("1 a after 5s {at}"),
        format!("1 b after 5s {at}"),
    ];
    assert_eq!(out(&driver), fired);
}

#[test]
fn clock_timers_survive_a_crash_and_fire_once() {
    let mut driver = TestDriver::new(flow(0)).unwrap();
    act(&mut driver, 1, 0, "set a 10");
    driver.crash_and_restart().unwrap();
    driver.advance_clock(seconds(11));
    driver.tick().unwrap();
    assert_eq!(out(&driver).len(), 1);
    // It had not been committed: so it fires again, and what it said before is gone.
    driver.crash_and_restart().unwrap();
    assert!(out(&driver).is_empty());
    driver.commit().unwrap();
    driver.crash_and_restart().unwrap();
    driver.tick().unwrap();
    assert_eq!(out(&driver), ["1 a after 10s at 1000000"]);
}

#[test]
fn a_heartbeat_catches_up_and_ends_with_its_input() {
    let mut driver = TestDriver::new(flow(0)).unwrap();
    act(&mut driver, 1, 0, "set beat 1");
    driver.advance_clock(seconds(3));
    driver.commit().unwrap();
    assert_eq!(out(&driver).len(), 3);
    driver.finish::<Row>("events").unwrap();
    assert_eq!(out(&driver).last().unwrap(), "1 beat after 4s at 1000000");
    assert_eq!(out(&driver).len(), 4);
    assert!(driver.metrics().finished);
}

#[test]
fn the_plan_says_that_results_depend_on_the_clock() {
    let plan = flow(0).plan().unwrap();
    assert!(plan.contains("k  process [Clock]"), "{plan}");
    assert!(plan.contains("class Clock from its sources"), "{plan}");
}

/// Breaks a rule, as its parameter says.
struct Wrong<const CLOCK: bool>(&'static str);

impl<const CLOCK: bool> Process<u8, Row> for Wrong<CLOCK> {
    type State = ();
    type Output = String;
    const CLOCK: bool = CLOCK;

    fn event(&self, cx: &mut ProcessCx<'_, (), String>, _: &u8, _: Row) {
        match self.0 {
            "look" => {
                cx.clock();
            }
            name => cx.set_clock_timer(name, ClockTime::from_micros(-1)),
        }
    }

    fn clock_timer(&self, cx: &mut ProcessCx<'_, (), String>, _: &u8, timer: &ClockTimer) {
        cx.set_clock_timer(&timer.name, timer.time);
    }
}

#[test]
fn rules_of_the_clock_are_errors_when_broken() {
    fn error<const CLOCK: bool>(what: &'static str) -> String {
        let flow = Flow::new("wrong");
        flow.source("events", Pushed::<Row>::partitions(1))
            .event_time(|e| t(e.1), Disorder::ascending())
            .key_by(|e| &e.0)
            .process("k", Wrong::<CLOCK>(what))
            .unbounded()
            .drop_late("none")
            .sink("out", Stdout::json());
        let mut driver = TestDriver::new(flow).unwrap();
        driver.push("events", 0, row(1, 0, "")).unwrap();
        let error = driver.finish::<Row>("events").unwrap_err();
        assert_eq!(error.operator(), Some("k"), "{error}");
        error.to_string()
    }
    assert!(error::<false>("look").contains("const CLOCK: bool = true"));
    assert!(error::<false>("timer").contains("`timer` without `const CLOCK"));
    // At the end of input what a timer sets is dropped, but what would never end is told.
    assert!(error::<true>("again").contains("which is not later"));
}

/// Nothing is read any more, and still the flow wakes itself.
#[test]
fn a_clock_timer_wakes_a_flow_that_has_nothing_to_read() {
    for workers in [1, 3] {
        let flow = Flow::new("wakes");
        let source = Pushed::<Row>::partitions(1);
        let (sink, mut received) = highwater::sink::channel();
        flow.source("events", source.clone())
            .event_time(|e| t(e.1), Disorder::ascending())
            .key_by(|e| &e.0)
            .process_on_arrival("k", Soon)
            .unbounded()
            .drop_late("none")
            .sink("out", sink);
        let handle = flow.spawn(Settings::in_memory().workers(workers)).unwrap();
        let started = Instant::now();
        source.push(0, row(7, 0, ""));
        let waited: i64 = loop {
            if let Some(waited) = received.try_recv() {
                break waited;
            }
            assert!(started.elapsed() < Duration::from_secs(20), "{:?}", handle.metrics());
            std::thread::sleep(Duration::from_millis(1));
        };
        assert!(started.elapsed() >= Duration::from_millis(30));
        assert!(waited >= 30_000, "{waited} µs on the tick clock");
        handle.stop();
        handle.wait().unwrap();
    }
}

/// With no memory at all state is forgotten after each commit, and read back for its timer.
#[test]
fn a_clock_timer_finds_state_that_was_forgotten() {
    let dir = tempfile::tempdir().unwrap();
    let flow = Flow::new("forgets");
    let source = Pushed::<Row>::partitions(1);
    let (sink, mut received) = highwater::sink::channel();
    flow.source("events", source.clone())
        .event_time(|e| t(e.1), Disorder::ascending())
        .key_by(|e| &e.2)
        .process_on_arrival("k", Soon)
        .unbounded()
        .drop_late("none")
        .sink("out", sink);
    let settings = Settings::at(dir.path()).workers(2).memory_budget(0);
    let handle = flow.spawn(settings.commit_interval(Duration::ZERO)).unwrap();
    (0..40_000).for_each(|key| source.push(0, row(0, 0, &key.to_string())));
    let started = Instant::now();
    let mut fired = 0;
    while fired < 40_000 {
        match received.try_recv() {
            Some(waited) => {
                assert!(waited >= 30_000);
                fired += 1;
            }
            None => std::thread::sleep(Duration::from_millis(1)),
        }
        assert!(started.elapsed() < Duration::from_secs(30), "{fired}: {:?}", handle.metrics());
    }
    handle.stop();
    let metrics = handle.wait().unwrap();
    assert_eq!(received.count(), 0);
    assert_eq!(metrics.operator("k").unwrap().entries, 0);
}

/// Says so, 30 ms after an event.
struct Soon;

impl<K> Process<K, Row> for Soon {
    type State = i64;
    type Output = i64;
    const CLOCK: bool = true;

    fn event(&self, cx: &mut ProcessCx<'_, i64, i64>, _: &K, _: Row) {
        let now = cx.clock();
        *cx.state() = Some(now.as_micros());
        cx.set_clock_timer("soon", now + millis(30));
    }

    fn clock_timer(&self, cx: &mut ProcessCx<'_, i64, i64>, _: &K, _: &ClockTimer) {
        let now = cx.clock().as_micros();
        if let Some(since) = cx.state().take() {
            cx.emit(now - since);
        }
    }
}
