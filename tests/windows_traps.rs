//! The traps of windows, one test each: what other engines get wrong, or got wrong once.

use highwater::prelude::*;
use highwater::testing::{Pushed, TestDriver};

/// Key, time, and how long it keeps its session open.
type Event = (u8, i64, i64);
type Count1 = (u8, i64, i64, u64);

fn t(micros: i64) -> EventTime {
    EventTime::from_micros(micros)
}

fn event(time: i64) -> Event {
    (1, time, 5)
}

/// A flow with one kind of window, a bound of nothing, and the sinks `out` and `late`.
struct Trap {
    driver: TestDriver,
}

impl Trap {
    fn new<W>(partitions: usize, lateness: Span, windows: W) -> Self
    where
        W: WindowKind<Event>,
    {
        let flow = Flow::new("trap");
        let keyed = flow
            .source("in", Pushed::<Event>::partitions(partitions))
            .event_time(|e| t(e.1), Disorder::ascending())
            .key_by(|e| &e.0);
        let counts = keyed.window("w", windows).lateness(lateness).aggregate(Count);
        counts.map(count).sink("out", Stdout::json());
        counts.late().map(|l| (l.row.1, l.reason)).sink("late", Stdout::json());
        // Windows of windows, for what follows.
        let again = counts.map(count).key_by(|r| &r.0).window("again", Tumbling::of(micros(40)));
        let again = again.aggregate(Sum::of(|r: &Count1| r.3 as i64));
        again.late().map(|l| l.row).sink("again-late", Stdout::json());
        again.map(|r| (r.window.start.as_micros(), r.value)).sink("sums", Stdout::json());
        Trap { driver: TestDriver::new(flow).unwrap() }
    }

    fn push(&mut self, partition: usize, events: &[Event]) {
        for event in events {
            self.driver.push("in", partition, *event).unwrap();
        }
    }

    /// Pushes events at these times to the first partition, and runs a tick.
    fn tick(&mut self, times: &[i64]) {
        self.push(0, &times.iter().map(|time| event(*time)).collect::<Vec<_>>());
        self.driver.tick().unwrap();
    }

    fn out(&self) -> Vec<Count1> {
        self.driver.outputs("out").unwrap()
    }

    fn late(&self) -> Vec<(i64, LateReason)> {
        self.driver.outputs("late").unwrap()
    }

    fn finish(&mut self) -> Vec<Count1> {
        self.driver.finish::<Event>("in").unwrap();
        self.out()
    }
}

fn count(result: WindowResult<u8, u64>) -> Count1 {
    let Window { start, end } = result.window;
    (result.key, start.as_micros(), end.as_micros(), result.value)
}

const BROKE: LateReason = LateReason::BrokePromise;

#[test]
fn late_for_some_hopping_windows_only() {
    let hop = || Hopping::of(micros(10), micros(5));
    let mut trap = Trap::new(2, Span::ZERO, hop());
    // The second partition holds time back, so that no window has fired when the first one,
    // which has promised 12, brings an event at 7: it is late for [0, 10), and counts in [5, 15).
    trap.push(1, &[event(1)]);
    trap.tick(&[8, 12, 7]);
    assert_eq!(trap.out(), []);
    let expected = [(1, -5, 5, 1), (1, 0, 10, 2), (1, 5, 15, 3), (1, 10, 20, 1)];
    assert_eq!(trap.finish(), expected);
    assert_eq!(trap.late(), []);

    // The same after a crash: what counts in some windows only is committed too.
    let mut trap = Trap::new(2, Span::ZERO, hop());
    trap.push(1, &[event(1)]);
    trap.push(0, &[event(8), event(12), event(7)]);
    trap.driver.commit().unwrap();
    trap.driver.crash_and_restart().unwrap();
    assert_eq!(trap.finish(), expected);
}

#[test]
fn a_hopping_window_starts_below_zero() {
    let mut trap = Trap::new(1, Span::ZERO, Hopping::of(micros(12), micros(5)));
    trap.tick(&[-13, -1]);
    let expected = [(1, -20, -8, 1), (1, -15, -3, 1), (1, -10, 2, 1), (1, -5, 7, 1)];
    assert_eq!(trap.finish(), expected);
}

#[test]
fn touching_sessions_are_two() {
    let mut trap = Trap::new(1, Span::ZERO, Session::with_gap(micros(5)));
    trap.tick(&[0, 5, 9]);
    assert_eq!(trap.finish(), [(1, 0, 5, 1), (1, 5, 14, 2)]);
}

#[test]
fn two_late_events_must_not_merge_into_a_live_session() {
    // One by one: the first alone would be a session of its own, over since long; the second
    // would join both. Neither is taken in, though the second overlaps a session that is open.
    let mut trap = Trap::new(1, Span::ZERO, Session::with_gap(micros(10)));
    trap.tick(&[20, 25]);
    trap.tick(&[8, 17]);
    assert_eq!(trap.late(), [(8, BROKE), (17, BROKE)]);
    assert_eq!(trap.finish(), [(1, 20, 35, 2)]);

    // In one tick too, and with a lateness that is too small for both.
    let mut trap = Trap::new(1, micros(4), Session::with_gap(micros(10)));
    trap.tick(&[20, 25, 17, 20]);
    assert_eq!(trap.late(), [(17, BROKE), (20, BROKE)]);
    assert_eq!(trap.finish(), [(1, 20, 35, 2)]);
}

#[test]
fn a_late_event_does_not_bridge_two_sessions_and_an_allowed_one_does() {
    let session = || Session::with_gap(micros(10));
    // A second partition holds time back, so that both sessions are open.
    let both = |lateness: i64| {
        let mut trap = Trap::new(2, micros(lateness), session());
        trap.push(1, &[event(0)]);
        trap.tick(&[0, 14, 7]);
        trap
    };
    let mut trap = both(6);
    assert_eq!(trap.late(), [(7, BROKE)]);
    assert_eq!(trap.finish(), [(1, 0, 10, 2), (1, 14, 24, 1)]);
    let mut trap = both(7);
    assert_eq!(trap.late(), []);
    assert_eq!(trap.finish(), [(1, 0, 24, 4)]);
}

#[test]
fn a_session_that_was_merged_does_not_fire_at_its_old_end() {
    let mut trap = Trap::new(1, micros(5), Session::with_gap(micros(10)));
    trap.tick(&[0, 14]);
    // Allowed: its time plus 5 is not below 14. It joins both.
    trap.tick(&[9]);
    for time in [15, 16, 20] {
        trap.tick(&[time]);
        assert_eq!(trap.out(), [], "at {time}");
    }
    // [0, 30) is over at 35.
    trap.tick(&[30, 34]);
    assert_eq!(trap.out(), []);
    trap.tick(&[35]);
    assert_eq!(trap.out(), [(1, 0, 30, 6)]);
}

#[test]
fn an_event_whose_gap_is_nothing_is_refused_with_the_reason() {
    let session = Session::with_gap_of("third", |e: &Event| micros(e.2));
    let mut trap = Trap::new(1, Span::ZERO, session);
    trap.push(0, &[(1, 0, 20), (1, 3, 0), (1, 5, 2), (1, 6, -1), (1, 20, 1)]);
    trap.driver.tick().unwrap();
    assert_eq!(trap.late(), [(3, LateReason::BadGap), (6, LateReason::BadGap)]);
    let metrics = trap.driver.metrics();
    let counters = metrics.operator("w").unwrap().counters;
    assert!(counters.late == 2 && counters.used == 3 && counters.balanced(), "{counters:?}");
    assert_eq!(trap.finish(), [(1, 0, 20, 2), (1, 20, 21, 1)]);
}

#[test]
fn a_lateness_without_end_never_cleans_up_and_never_overflows() {
    // Every end plus the lateness lies beyond time.
    for lateness in [micros(i64::MAX), micros(i64::MAX - 5)] {
        let mut trap = Trap::new(1, lateness, Tumbling::of(micros(10)));
        trap.tick(&[0, i64::MAX - 30, i64::MAX]);
        trap.tick(&[33, 1, 3]);
        assert_eq!(trap.out(), [], "nothing is over before the end of the input");
        assert_eq!(trap.late(), []);
        let found = trap.finish();
        assert_eq!(found.iter().map(|r| r.3).sum::<u64>(), 6);
        assert!(found.contains(&(1, 0, 10, 3)), "{found:?}");
        assert_eq!(trap.driver.metrics().operator("w").unwrap().entries, 0);
    }
    // A session at the end of time has an end that cannot be passed.
    let mut trap = Trap::new(1, micros(i64::MAX), Session::with_gap(micros(10)));
    trap.tick(&[0, i64::MAX]);
    trap.tick(&[5]);
    assert_eq!(trap.out(), []);
    assert_eq!(trap.finish(), [(1, 0, 15, 2), (1, i64::MAX, i64::MAX, 1)]);
}

#[test]
fn a_window_born_by_an_allowed_late_event_fires() {
    let mut trap = Trap::new(1, micros(10), Tumbling::of(micros(10)));
    // Time is 25 when the window [10, 20) gets its first event.
    trap.tick(&[25]);
    trap.tick(&[12]);
    assert_eq!(trap.out(), []);
    trap.tick(&[30]);
    assert_eq!(trap.out(), [(1, 10, 20, 1)]);
    trap.tick(&[19]);
    assert_eq!(trap.late(), [(19, BROKE)]);
}

#[test]
fn a_result_comes_in_the_tick_in_which_the_watermark_reaches_the_end() {
    // Every tick has events: none is empty, and nothing waits for another.
    let mut trap = Trap::new(1, Span::ZERO, Tumbling::of(micros(10)));
    for (time, results) in [(3, 0), (9, 0), (10, 1), (19, 1), (20, 2), (30, 3)] {
        trap.tick(&[time]);
        assert_eq!(trap.out().len(), results, "at {time}");
    }
    // With a lateness, in the tick in which it reaches the end plus that.
    let mut trap = Trap::new(1, micros(3), Tumbling::of(micros(10)));
    for (time, results) in [(3, 0), (10, 0), (12, 0), (13, 1), (22, 1), (23, 2)] {
        trap.tick(&[time]);
        assert_eq!(trap.out().len(), results, "at {time}");
    }
}

#[test]
fn windows_behind_windows_with_lateness_drop_no_result() {
    for lateness in [0, 7, 60] {
        let mut trap = Trap::new(1, micros(lateness), Hopping::of(micros(20), micros(5)));
        let mut accepted = 0;
        for step in 0..60 {
            // Every third event is behind, by less than the lateness or by more.
            let behind = if step % 3 == 2 { step % 9 * 4 } else { 0 };
            trap.tick(&[step * 4 - behind]);
            accepted = trap.driver.metrics().operator("w").unwrap().counters.used;
        }
        let total: u64 = trap.finish().iter().map(|r| r.3).sum();
        assert!(accepted > 30, "{accepted}");
        let again: Vec<(i64, i64)> = trap.driver.outputs("sums").unwrap();
        assert_eq!(again.iter().map(|r| r.1).sum::<i64>() as u64, total, "late by {lateness}");
        assert_eq!(trap.driver.outputs::<Count1>("again-late").unwrap(), []);
    }
}

#[test]
fn what_follows_is_held_back_by_the_lateness() {
    let mut trap = Trap::new(1, micros(7), Tumbling::of(micros(10)));
    trap.tick(&[5, 100]);
    assert_eq!(trap.driver.watermark("w"), Watermark::At(t(100)));
    assert_eq!(trap.driver.watermark("again"), Watermark::At(t(93)));
    // After a restart the operator has its own watermark again, not the one it tells.
    trap.driver.commit().unwrap();
    trap.driver.crash_and_restart().unwrap();
    trap.driver.tick().unwrap();
    assert_eq!(trap.driver.watermark("w"), Watermark::At(t(100)));
    assert_eq!(trap.driver.watermark("again"), Watermark::At(t(93)));
}

#[test]
fn calendar_days_of_23_and_25_hours() {
    let hour = |text: &str, hours: i64| {
        let start: EventTime = text.parse().unwrap();
        (start + highwater::hours(hours)).as_micros()
    };
    let days = Calendar::days("Europe/Berlin");
    for (midnight, length) in [("2013-03-30T23:00:00Z", 23), ("2013-10-26T22:00:00Z", 25)] {
        let mut trap = Trap::new(1, Span::ZERO, days.clone());
        let hours: Vec<i64> = (-1..=length).map(|h| hour(midnight, h)).collect();
        trap.tick(&hours);
        let (start, end) = (hour(midnight, 0), hour(midnight, length));
        assert!(trap.finish().contains(&(1, start, end, length as u64)), "{midnight}");
        assert_eq!(trap.out().len(), 3);
    }
}

#[test]
fn a_custom_window_that_makes_no_sense_stops_the_flow_at_the_event() {
    let custom = CustomWindows::new("mine", |time, out| {
        let start = if time == t(13) { t(14) } else { time };
        out(Window { start, end: time + micros(9) });
    });
    for held_back in [false, true] {
        let mut trap = Trap::new(2, Span::ZERO, custom.clone());
        if held_back {
            // Judged one by one, because one of them is behind.
            trap.push(1, &[event(30), event(12)]);
        }
        trap.push(1, &[event(5), event(13)]);
        let error = trap.driver.tick().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::UserCode);
        assert_eq!((error.operator(), error.partition()), (Some("w"), Some("1")));
        assert_eq!(error.position(), Some(if held_back { 3 } else { 1 }));
        let cause = std::error::Error::source(&error).unwrap();
        let bad = cause.downcast_ref::<highwater::BadWindow>().unwrap();
        assert_eq!((bad.time, bad.window.start), (t(13), t(14)), "{error}");
    }
}

type ByKey = Keyed<Event, highwater::Lent<u8, fn(&Event) -> &u8>, Timed>;

#[test]
fn parameters_that_make_no_sense_are_refused_by_name() {
    let refused = |add: &dyn Fn(&ByKey)| {
        let flow = Flow::new("refused");
        let timed = flow
            .source("in", Pushed::<Event>::partitions(1))
            .event_time(|e| t(e.1), Disorder::ascending());
        let key: fn(&Event) -> &u8 = |e| &e.0;
        add(&timed.key_by(key));
        flow.plan().unwrap_err().to_string()
    };
    let ten = || Tumbling::of(micros(10));
    let message = refused(&|keyed| {
        let _ = keyed.window("w", ten()).lateness(micros(-1)).aggregate(Count).drop_late("none");
    });
    assert!(message.contains("`w`") && message.contains("lateness -1µs"), "{message}");
    let message = refused(&|keyed| {
        let days = Calendar::days("Europe/Atlantis");
        let _ = keyed.window("w", days).aggregate(Count).drop_late("none");
    });
    assert!(message.contains("Europe/Atlantis"), "{message}");
    let message = refused(&|keyed| {
        let odd = Cumulate::of(micros(4), micros(10));
        let _ = keyed.window("w", odd).aggregate(Count).drop_late("none");
    });
    assert!(message.contains("multiple of the step"), "{message}");
    for (emit, word) in [
        (Emit::Every(Span::ZERO), "every 0µs"),
        (Emit::EveryClock(micros(-5)), "every -5µs"),
        (Emit::EveryCount(0), "every 0 events"),
    ] {
        let message = refused(&|keyed| {
            let windows = keyed.window("w", ten()).emit(emit);
            let _ = windows.aggregate(Count).drop_late("none");
        });
        assert!(message.contains(word), "{message}");
    }
}

/// A flow that tells panes of tumbling windows of 10 as counts.
fn panes(emit: Emit, lateness: i64) -> Flow {
    let flow = Flow::new("panes");
    let keyed = flow
        .source("in", Pushed::<Event>::partitions(1))
        .event_time(|e| t(e.1), Disorder::ascending())
        .key_by(|e| &e.0);
    let windows = keyed.window("w", Tumbling::of(micros(10))).lateness(micros(lateness));
    let panes = windows.emit(emit).aggregate(Count).drop_late("not under test");
    panes
        .map(|p| (p.window.start.as_micros(), p.value, p.index, p.timing, p.is_final))
        .sink("out", Stdout::json());
    flow
}

type Short = (i64, u64, u32, Timing, bool);

#[test]
fn a_late_pane_comes_once_per_tick_and_the_final_one_at_last() {
    let mut driver = TestDriver::new(panes(Emit::OnClose, 20)).unwrap();
    let mut seen = 0;
    let mut tick = |times: &[i64]| {
        for time in times {
            driver.push("in", 0, event(*time)).unwrap();
        }
        driver.tick().unwrap();
        let mut all: Vec<Short> = driver.outputs("out").unwrap();
        let new = all.split_off(seen);
        seen += new.len();
        new
    };
    assert_eq!(tick(&[1, 2, 9]), []);
    assert_eq!(tick(&[10]), [(0, 3, 0, Timing::OnTime, false)]);
    assert_eq!(tick(&[3, 4]), [(0, 5, 1, Timing::Late, false)]);
    assert_eq!(tick(&[29]), [(10, 1, 0, Timing::OnTime, false)]);
    assert_eq!(tick(&[5]), [(0, 6, 2, Timing::Late, false)]);
    assert_eq!(tick(&[30]), [(0, 6, 3, Timing::Late, true), (20, 1, 0, Timing::OnTime, false)]);
}

#[test]
fn the_index_of_panes_goes_on_after_a_restart() {
    let mut driver = TestDriver::new(panes(Emit::OnChange, 0)).unwrap();
    driver.push("in", 0, event(1)).unwrap();
    driver.commit().unwrap();
    driver.push("in", 0, event(2)).unwrap();
    driver.tick().unwrap();
    driver.crash_and_restart().unwrap();
    driver.tick().unwrap();
    driver.push("in", 0, event(3)).unwrap();
    driver.commit().unwrap();
    driver.crash_and_restart().unwrap();
    driver.finish::<Event>("in").unwrap();
    let expected = [
        (0, 1, 0, Timing::Early, false),
        (0, 2, 1, Timing::Early, false),
        (0, 3, 2, Timing::Early, false),
        (0, 3, 3, Timing::OnTime, true),
    ];
    assert_eq!(driver.outputs::<Short>("out").unwrap(), expected);
}

#[test]
fn the_clock_asks_for_a_tick_when_a_pane_is_due() {
    let mut driver = TestDriver::new(panes(Emit::EveryClock(seconds(10)), 0)).unwrap();
    let mut step = |times: &[i64], clock: i64| {
        for time in times {
            driver.push("in", 0, event(*time)).unwrap();
        }
        driver.advance_clock(seconds(clock));
        driver.tick().unwrap();
        driver.outputs::<Short>("out").unwrap().len()
    };
    assert_eq!(step(&[1], 3), 1, "the first tick of a run knows no clock before it");
    assert_eq!(step(&[2], 6), 1);
    assert_eq!(step(&[3], 1), 2);
    assert_eq!(step(&[], 10), 2, "nothing new");
}

#[test]
fn the_plan_says_of_which_class_panes_are() {
    let plan = panes(Emit::OnChange, 5).plan().unwrap();
    let line = "tumbling 10µs, lateness 5µs, emit on change, accumulating, count";
    assert!(plan.contains("w  panes [Arrival]") && plan.contains(line), "{plan}");
    let plan = panes(Emit::EveryClock(seconds(1)), 0).plan().unwrap();
    assert!(plan.contains("w  panes [Clock]"), "{plan}");
}
