//! B3: hopping windows of 60 s beside tumbling ones, on the same events.
//!
//! Every event is in 6, 60 or 600 hopping windows, and so many times as many results come out.
//! How many there are to write is the user's wish, so two things are measured: taking events in,
//! with no result at all, and everything.

use std::collections::VecDeque;
use std::time::Instant;

use highwater::prelude::*;
use highwater::source::Generator;
use highwater::testing::TestDriver;

use crate::check::{self, Check, Total};
use crate::clock::Clocked;
use crate::events::{BOUND, Event, event_of};
use crate::report::{Bench, Contest, Lap, Rung, exit, or_exit, run};

const SIZE: Span = seconds(60);

/// How many keys there are, and how many events to a second of event time.
#[derive(Clone, Copy)]
struct Load {
    keys: u64,
    per_second: i64,
}

/// The more events a key has in a slice, the less its entry in a table of its own costs: with
/// slides of a second there are 10, 1,000 and 10.
const LOAD: Load = Load { keys: 10_000, per_second: 100_000 };
const OTHER_LOADS: [Load; 2] =
    [Load { keys: 100, per_second: 100_000 }, Load { keys: 100_000, per_second: 1_000_000 }];

fn event(index: u64, load: Load) -> Event {
    let micros = index as i64 * 1_000_000 / load.per_second;
    Event { time: EventTime::from_micros(micros), ..event_of(index, load.keys) }
}

type Result = WindowResult<u64, u64>;

fn windows<W: WindowKind<Event>>(source: Generator<Event>, windows: W) -> (Flow, Total) {
    let flow = Flow::new("windows");
    let (sink, total) = check::sink(|check: &mut Check, row: &Result| {
        check.window(row.key, row.window.start.as_micros(), row.value, 0);
    });
    flow.source("events", Clocked(source))
        .event_time(|e| e.time, Disorder::at_most(BOUND))
        .key_by(|e| &e.key)
        .window("windows", windows)
        .aggregate(Count)
        .drop_late("there are none")
        .sink("out", sink);
    (flow, total)
}

/// Excluding output: from the first event to the last one that stands in its windows. A second,
/// silent partition holds the watermark back, so that no window closes and nothing is sent. What
/// is left is generating, times, keys, and updating the windows' state.
fn take_in<W: WindowKind<Event>>(events: u64, load: Load, kind: W) -> Lap {
    let source = Generator::new(2, Some(events), move |_, index| event(index, load)).silent(1);
    let mut driver = or_exit(TestDriver::with_tick_limit(windows(source, kind).0, 65_536));
    let started = Instant::now();
    while driver.metrics().operator("windows").is_none_or(|w| w.counters.used < events) {
        or_exit(driver.tick());
    }
    let lap = Lap::new(started, events, Check::default());
    if driver.metrics().operator("windows").map(|w| w.counters.events_out) != Some(0) {
        exit("a window closed, and none was to close");
    }
    lap
}

/// With output: until all windows have closed and their results were added up.
fn everything<W: WindowKind<Event>>(events: u64, load: Load, kind: W, rung: Rung) -> Lap {
    let source = Generator::new(1, Some(events), move |_, index| event(index, load));
    let (flow, total) = windows(source, kind);
    run(flow, &total, events, rung, 1)
}

/// The floor: a table per slice, and one of the whole window, to which each slice that ends is
/// added and from which each that has left is taken away. That is possible for counts only.
fn bare_loop(events: u64, load: Load, slide: Span) -> Lap {
    type Table = hashbrown::HashMap<u64, u64>;
    let started = Instant::now();
    let (slide, slices) = (slide.as_micros(), (SIZE.as_micros() / slide.as_micros()) as usize);
    let mut check = Check::default();
    let mut whole = Table::new();
    let mut past: VecDeque<Table> = VecDeque::new();
    let (mut open, mut number) = (Table::new(), 0);
    let mut end = |whole: &mut Table, slice: Table, number: i64| {
        for (key, count) in &slice {
            *whole.entry(*key).or_default() += count;
        }
        past.push_back(slice);
        if past.len() > slices {
            for (key, count) in past.pop_front().unwrap_or_default() {
                let left = whole.entry(key).or_default();
                *left -= count;
                if *left == 0 {
                    whole.remove(&key);
                }
            }
        }
        let start = (number + 1 - slices as i64) * slide;
        whole.iter().for_each(|(key, count)| check.window(*key, start, *count, 0));
    };
    for index in 0..events {
        let event = event(index, load);
        let slice = event.time.as_micros() / slide;
        while number < slice {
            end(&mut whole, std::mem::take(&mut open), number);
            number += 1;
        }
        *open.entry(event.key).or_default() += 1;
    }
    for _ in 0..slices {
        end(&mut whole, std::mem::take(&mut open), number);
        number += 1;
    }
    Lap::new(started, events, check)
}

fn excluding_output(bench: &mut Bench, load: Load, slides: &[Span]) {
    let (events, keys) = (bench.events, load.keys);
    let mut contest = Contest::new(format!(
        "B3: windows of {SIZE}, {keys} keys, {} events to a second, excluding output",
        load.per_second
    ));
    contest.marked("tumbling", "tumbling", |_| take_in(events, load, Tumbling::of(SIZE)));
    for slide in slides {
        let name = format!("hopping {slide}");
        contest.volatile(&name, |_| take_in(events, load, Hopping::of(SIZE, *slide)));
    }
    let outcome = contest.run(bench.rounds);
    for slide in slides {
        let share = outcome.share(&format!("hopping {slide}"), "R1", "tumbling");
        let goal = format!("B3: {slide}, {keys} keys, excluding output, of tumbling");
        bench.at_least(&goal, share, 0.8);
    }
}

pub(crate) fn bench(bench: &mut Bench) {
    let slides = [seconds(10), seconds(1), millis(100)];
    excluding_output(bench, LOAD, &slides);
    for load in OTHER_LOADS {
        excluding_output(bench, load, &[seconds(1)]);
    }
    let (events, load) = (bench.events, LOAD);
    let mut contest = Contest::new(format!("B3: windows of {SIZE}, {} keys, all", load.keys));
    contest.control("tumbling loop", || bare_loop(events, load, SIZE));
    contest.volatile("tumbling", |rung| everything(events, load, Tumbling::of(SIZE), rung));
    let names = ["10 s loop", "1 s loop", "100 ms loop"];
    for (slide, name) in slides.into_iter().zip(names) {
        contest.another_job();
        contest.control(name, move || bare_loop(events, load, slide));
        for rung in [Rung::Volatile, Rung::R2] {
            let kind = move || Hopping::of(SIZE, slide);
            let flow = move |rung| everything(events, load, kind(), rung);
            contest.flow(rung, None, &format!("hopping {slide}"), flow);
        }
    }
    contest.run(bench.rounds.min(3));
}
