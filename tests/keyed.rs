//! Keyed functions, trap by trap.

use highwater::prelude::*;
use highwater::testing::{Pushed, TestDriver};

/// Key, second, and a word.
type Event = (u8, i64, &'static str);
type Row = (u8, i64, String);

fn t(second: i64) -> EventTime {
    EventTime::from_seconds(second)
}

fn row((key, second, word): Event) -> Row {
    (key, second, word.to_owned())
}

/// A keyed stream of what a test pushes into two partitions of `events`.
fn keyed(flow: &Flow) -> Keyed<Row, impl KeyOf<Row, Key = u8>, Timed> {
    flow.source("events", Pushed::<Row>::partitions(2))
        .event_time(|e| t(e.1), Disorder::ascending())
        .key_by(|e| &e.0)
}

/// The words that come out, with all events in one tick, and with one a tick and a crash between
/// any two.
fn both_ways(events: &[(usize, Event)], build: impl Fn(&Flow)) -> Vec<String> {
    let run = |slow: bool| {
        let flow = Flow::new("keyed");
        build(&flow);
        let mut driver = TestDriver::new(flow).unwrap();
        for (partition, event) in events {
            driver.push("events", *partition, row(*event)).unwrap();
            if slow {
                driver.commit().unwrap();
                driver.crash_and_restart().unwrap();
            }
        }
        driver.finish::<Row>("events").unwrap();
        driver.outputs::<String>("out").unwrap()
    };
    let (fast, slow) = (run(false), run(true));
    assert_eq!(fast, slow, "in one tick, and one a tick");
    fast
}

/// Each event pushes an alarm five seconds off; an alarm that comes says so.
struct Alarm;

impl Process<u8, Row> for Alarm {
    type State = i64;
    type Output = String;

    fn event(&self, cx: &mut ProcessCx<'_, i64, String>, key: &u8, event: Row) {
        if let Some(at) = cx.state().take() {
            cx.delete_timer("alarm", t(at));
        }
        *cx.state() = Some(event.1 + 5);
        cx.set_timer("alarm", t(event.1 + 5));
        cx.emit(format!("{key}@{}", event.1));
    }

    fn timer(&self, cx: &mut ProcessCx<'_, i64, String>, key: &u8, timer: &Timer) {
        *cx.state() = None;
        cx.emit(format!("alarm {key}@{}", timer.time.as_micros() / 1_000_000));
    }
}

#[test]
fn timer_at_t_fires_before_event_at_t() {
    let out = both_ways(&[(0, (1, 0, "")), (0, (1, 5, "")), (0, (1, 9, ""))], |flow| {
        keyed(flow).process("k", Alarm).unbounded().drop_late("none").sink("out", Stdout::json());
    });
    assert_eq!(out, ["1@0", "alarm 1@5", "1@5", "1@9", "alarm 1@14"]);
}

/// Key 1 is heard of at 11 and 21, another at 21: in one tick, in order of arrival, its alarm
/// at 16 would be pushed off before anybody looks.
#[test]
fn alert_is_not_lost_in_one_tick() {
    let events = [(0, (1, 11, "")), (1, (2, 21, "")), (0, (1, 21, ""))];
    let out = both_ways(&events, |flow| {
        keyed(flow).process("k", Alarm).unbounded().drop_late("none").sink("out", Stdout::json());
    });
    let alarms: Vec<_> = out.iter().filter(|line| line.starts_with("alarm")).collect();
    assert_eq!(alarms, ["alarm 1@16", "alarm 1@26", "alarm 2@26"]);
}

#[test]
fn dedup_is_not_refreshed_by_duplicates() {
    let events: Vec<_> = [0, 4, 8, 10, 14].iter().map(|second| (0, (1, *second, "same"))).collect();
    let out = both_ways(&events, |flow| {
        let kept = keyed(flow).dedup("k", seconds(10)).drop_late("none");
        kept.map(|e| e.1.to_string()).sink("out", Stdout::json());
    });
    // At 10 s it is over, although one had come at 8 s.
    assert_eq!(out, ["0", "10"]);
}

#[test]
fn dedup_counts_duplicates_as_filtered_and_keeps_nothing_for_ever() {
    let flow = Flow::new("dedup");
    keyed(&flow).dedup("k", seconds(10)).drop_late("none").sink("out", Stdout::<Row>::json());
    let mut driver = TestDriver::new(flow).unwrap();
    for second in [0, 1, 2, 30, 31] {
        driver.push("events", 0, row((1, second, ""))).unwrap();
        driver.push("events", 1, row((2, second, ""))).unwrap();
    }
    driver.finish::<Row>("events").unwrap();
    let metrics = driver.metrics();
    let operator = metrics.operator("k").unwrap();
    assert_eq!((operator.counters.used, operator.counters.filtered), (4, 6));
    assert_eq!(operator.entries, 0);
}

#[test]
fn dedup_on_arrival_keeps_what_came_first_and_never_sees_time_go_back() {
    let flow = Flow::new("dedup");
    flow.source("events", Pushed::<Row>::partitions(1))
        .event_time(|e| t(e.1), Disorder::at_most(seconds(100)))
        .key_by(|e| &e.0)
        .dedup_on_arrival("k", seconds(10))
        .drop_late("none")
        .map(|e| e.1)
        .sink("out", Stdout::json());
    let mut driver = TestDriver::new(flow).unwrap();
    for second in [20, 15, 29, 30, 12, 39, 40] {
        driver.push("events", 0, row((1, second, ""))).unwrap();
    }
    driver.tick().unwrap();
    assert_eq!(driver.outputs::<i64>("out").unwrap(), [20, 30, 40]);
}

/// `put` writes, `get` reads; both tell what there was.
struct Cell;

impl Process<u8, Row> for Cell {
    type State = String;
    type Output = String;

    fn event(&self, cx: &mut ProcessCx<'_, String, String>, _: &u8, (_, at, word): Row) {
        let was = cx.get().cloned().unwrap_or_default();
        cx.emit(format!("{at}:{was}"));
        if word != "get" {
            *cx.state() = Some(word);
        }
    }
}

#[test]
fn ttl_is_not_refreshed_by_reads_unless_asked() {
    let gets = |second| (0, (1, second, "get"));
    let events = [(0, (1, 0, "x")), gets(6), gets(12), gets(18)];
    let run = |ttl| {
        both_ways(&events, move |flow| {
            keyed(flow).process("k", Cell).ttl(ttl).drop_late("none").sink("out", Stdout::json());
        })
    };
    assert_eq!(run(Ttl::from_write(seconds(10))), ["0:", "6:x", "12:", "18:"]);
    assert_eq!(run(Ttl::from_read(seconds(10))), ["0:", "6:x", "12:x", "18:x"]);
}

/// On arrival times go up and down; a write at an earlier time does not shorten a life.
#[test]
fn an_early_event_on_arrival_does_not_take_back_what_a_later_one_said() {
    let flow = Flow::new("arrival");
    flow.source("events", Pushed::<Row>::partitions(1))
        .event_time(|e| t(e.1), Disorder::at_most(seconds(100)))
        .key_by(|e| &e.0)
        .process_on_arrival("k", Cell)
        .ttl(Ttl::from_write(seconds(10)))
        .drop_late("none")
        .sink("out", Stdout::json());
    let mut driver = TestDriver::new(flow).unwrap();
    for (second, word) in [(20, "x"), (5, "y"), (25, "get"), (30, "get")] {
        driver.push("events", 0, row((1, second, word))).unwrap();
    }
    driver.tick().unwrap();
    assert_eq!(driver.outputs::<String>("out").unwrap(), ["20:", "5:x", "25:y", "30:"]);
}

#[test]
fn on_arrival_no_read_prolongs_a_life() {
    let plan = |ttl| {
        let flow = Flow::new("arrival");
        let late = keyed(&flow).process_on_arrival("k", Cell).ttl(ttl);
        late.drop_late("none").sink("out", Stdout::json());
        flow.plan()
    };
    assert!(plan(Ttl::from_write(seconds(1))).is_ok());
    let error = plan(Ttl::from_read(seconds(1))).unwrap_err();
    assert!(error.operator() == Some("k") && error.to_string().contains("arrival"), "{error}");
    let flow = Flow::new("running");
    let _ = keyed(&flow).running("r", Count).ttl(Ttl::from_read(seconds(1)));
    assert!(flow.plan().unwrap_err().to_string().contains("arrival"));
}

#[test]
fn parameters_that_make_no_sense_do_not_build() {
    let refused = |build: &dyn Fn(&Flow)| {
        let flow = Flow::new("refused");
        build(&flow);
        let error = flow.plan().unwrap_err();
        assert_eq!(error.operator(), Some("k"), "{error}");
        assert!(error.to_string().contains("tests/keyed.rs:"), "{error}");
        error.to_string()
    };
    let zero = refused(&|flow| drop(keyed(flow).dedup("k", Span::ZERO).drop_late("none")));
    assert!(zero.contains("longer than nothing"), "{zero}");
    let none = refused(&|flow| {
        let _ = keyed(flow).count_window("k", 0).aggregate(Count).unbounded().drop_late("none");
    });
    assert!(none.contains("windows of 0 events"), "{none}");
    let gaps = refused(&|flow| {
        let windows = keyed(flow).count_window("k", 2).every(3).aggregate(Count);
        let _ = windows.unbounded().drop_late("none");
    });
    assert!(gaps.contains("every 3"), "{gaps}");
    let forgets = refused(&|flow| {
        let windows = keyed(flow).count_window("k", 2).with_incomplete().aggregate(Count);
        let _ = windows.ttl(Ttl::from_write(seconds(1))).drop_late("none");
    });
    assert!(forgets.contains("end of time"), "{forgets}");
    let future = refused(&|flow| {
        let _ = keyed(flow).over("k", seconds(-1)).aggregate(Count).drop_late("none");
    });
    assert!(future.contains("future"), "{future}");
    let trigger = refused(&|flow| {
        let never = GlobalTrigger::every(Span::ZERO);
        let _ = keyed(flow).global("k", never).aggregate(Count).unbounded().drop_late("none");
    });
    assert!(trigger.contains("more than nothing"), "{trigger}");
    // Silence about late rows does not build either.
    let silent = refused(&|flow| drop(keyed(flow).dedup("k", seconds(1))));
    assert!(silent.contains("drop_late"), "{silent}");
}

#[test]
fn what_over_keeps_goes_by_itself() {
    let flow = Flow::new("over");
    let sums = keyed(&flow).over("k", seconds(10)).aggregate(Count).drop_late("none");
    sums.map(|(row, count)| format!("{}:{count}", row.1)).sink("out", Stdout::json());
    let mut driver = TestDriver::new(flow).unwrap();
    let push = |driver: &mut TestDriver, second| {
        driver.push("events", 0, row((1, second, ""))).unwrap();
        driver.push("events", 1, row((2, second, ""))).unwrap();
        driver.commit().unwrap();
    };
    push(&mut driver, 0);
    push(&mut driver, 10);
    push(&mut driver, 20);
    let entries = |driver: &TestDriver| driver.metrics().operator("k").unwrap().entries;
    assert_eq!(entries(&driver), 4, "two keys and two waiting events");
    push(&mut driver, 100);
    push(&mut driver, 200);
    assert_eq!(entries(&driver), 2, "two waiting events: what came before is gone");
    driver.finish::<Row>("events").unwrap();
    assert_eq!(entries(&driver), 0);
    let mut out: Vec<String> = driver.outputs("out").unwrap();
    out.dedup();
    assert_eq!(out, ["0:1", "10:2", "20:2", "100:1", "200:1"]);
}

#[test]
fn an_either_is_two_streams_that_keep_their_times() {
    let flow = Flow::new("sides");
    let timed = flow
        .source("events", Pushed::<Row>::partitions(2))
        .event_time(|e| t(e.1), Disorder::ascending());
    let (odd, even) = timed.partition_map(|row| match row.1 % 2 {
        1 => Either::Left(row.1),
        _ => Either::Right(row.2),
    });
    let tumbling = || Tumbling::of(seconds(10));
    let odd = odd.key_with(|_| 0u8).window("odd", tumbling()).aggregate(Collect);
    odd.drop_late("none").map(|r| r.value).sink("left", Stdout::json());
    let even = even.key_with(|_| 0u8).window("even", tumbling()).aggregate(Collect);
    even.drop_late("none").map(|r| r.value).sink("right", Stdout::json());
    let mut driver = TestDriver::new(flow).unwrap();
    for event in [(1, 1, "a"), (1, 2, "b"), (1, 3, "c"), (1, 12, "d")] {
        driver.push("events", 0, row(event)).unwrap();
    }
    driver.finish::<Row>("events").unwrap();
    assert_eq!(driver.outputs::<Vec<i64>>("left").unwrap(), [[1, 3]]);
    assert_eq!(driver.outputs::<Vec<String>>("right").unwrap(), [["b"], ["d"]]);
    assert!(driver.metrics().operators.iter().all(|o| o.counters.balanced()));
}

#[test]
fn repartition_loses_nothing_and_changes_no_result() {
    let run = |workers: usize, repartition: bool| {
        let flow = Flow::new("repartition");
        let events: Vec<Row> = (0..5_000).map(|i| ((i % 7) as u8, i / 9, i.to_string())).collect();
        let (sink, out) = highwater::sink::channel();
        let timed =
            flow.source("events", Memory::of(events)).event_time(|e| t(e.1), Disorder::ascending());
        let timed = if repartition { timed.repartition() } else { timed.stream() };
        timed
            .key_by(|e| &e.0)
            .window("w", Tumbling::of(seconds(50)))
            .aggregate(Last)
            .drop_late("none")
            .sink("out", sink);
        let metrics = flow.spawn(Settings::in_memory().workers(workers)).unwrap().wait().unwrap();
        assert!(metrics.operators.iter().all(|o| o.counters.balanced()));
        let mut out: Vec<WindowResult<u8, Option<Row>>> = out.collect();
        out.sort();
        out
    };
    let expected = run(1, false);
    assert_eq!(expected.len(), 7 * 12);
    for workers in 1..=3 {
        assert_eq!(run(workers, true), expected, "{workers} workers");
    }
}

#[test]
fn top_n_of_a_window_is_by_value_and_of_equal_ones_the_earliest() {
    let flow = Flow::new("top");
    let top = TopN::of(2, |row: &Row| row.2.len());
    keyed(&flow)
        .window("w", Tumbling::of(seconds(10)))
        .aggregate(top)
        .drop_late("none")
        .map(|r| r.value.into_iter().map(|e| e.2).collect::<Vec<_>>())
        .sink("out", Stdout::json());
    let mut driver = TestDriver::new(flow).unwrap();
    for event in [(1, 1, "aa"), (1, 2, "bbb"), (1, 3, "cc"), (1, 4, "d"), (1, 11, "e")] {
        driver.push("events", 0, row(event)).unwrap();
    }
    driver.finish::<Row>("events").unwrap();
    let out: Vec<Vec<String>> = driver.outputs("out").unwrap();
    assert_eq!(out, [vec!["bbb", "aa"], vec!["e"]]);
}
