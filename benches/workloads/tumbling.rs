//! B2: count and sum in tumbling windows of a second, of 100,000 keys.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Instant;

use highwater::prelude::*;
use highwater::source::Generator;
use timely::container::NoopBuilder;
use timely::dataflow::channels::pact::Exchange;
use timely::dataflow::operators::generic::operator::Operator;
use timely::dataflow::operators::probe::Probe;

use crate::by_hand::batches;
use crate::check::{self, Check};
use crate::clock::Clocked;
use crate::events::{BOUND, Event, event};
use crate::report::{Bench, Contest, Lap, Rung, directory, or_exit, run, run_quietly, settings};

const WINDOW: Span = seconds(1);

type Table = hashbrown::HashMap<u64, (u64, u64)>;

fn close(start: i64, table: Table, check: &mut Check) {
    for (key, (count, sum)) in table {
        check.window(key, start, count, sum);
    }
}

/// One hash table per open window, dropped when the time has passed: the floor of the work.
pub(crate) fn bare_loop(events: u64) -> Lap {
    let started = Instant::now();
    let mut check = Check::default();
    let mut windows: BTreeMap<i64, Table> = BTreeMap::new();
    let mut watermark = i64::MIN;
    let size = WINDOW.as_micros();
    for index in 0..events {
        let event = event(index);
        let start = event.time.as_micros().div_euclid(size) * size;
        let state = windows.entry(start).or_default().entry(event.key).or_default();
        state.0 += 1;
        state.1 += event.value;
        watermark = watermark.max((event.time - BOUND).as_micros());
        while let Some(first) = windows.first_entry() {
            if *first.key() + size > watermark {
                break;
            }
            close(*first.key(), first.remove(), &mut check);
        }
    }
    for (start, table) in windows {
        close(start, table, &mut check);
    }
    Lap::new(started, events, check)
}

/// What one who knows timely well would write: batches, a time that is the watermark, one hash
/// table per open window, and an exchange by key, so that it would run on more workers too.
fn by_hand(events: u64) -> Lap {
    let started = Instant::now();
    let check = timely::execute::execute_directly(move |worker| {
        let check = Rc::new(Cell::new(Check::default()));
        let (total, size) = (check.clone(), WINDOW.as_micros() as u64);
        let probe = worker.dataflow::<u64, _, _>(|scope| {
            let by_key = Exchange::new(|event: &Event| event.key);
            let counts = batches(scope, events, event)
                .unary_frontier::<NoopBuilder<Vec<_>>, _, _, _>(by_key, "counts", move |_, _| {
                    let mut windows = BTreeMap::new();
                    move |(input, frontier), output| {
                        input.for_each(|time, batch: &mut Vec<Event>| {
                            for event in batch.drain(..) {
                                let start = event.time.as_micros() as u64 / size;
                                let window = windows.entry(start).or_insert_with(|| {
                                    (time.delayed(&((start + 1) * size), 0), Table::new())
                                });
                                let state = window.1.entry(event.key).or_default();
                                state.0 += 1;
                                state.1 += event.value;
                            }
                        });
                        while let Some(first) = windows.first_entry() {
                            if frontier.less_equal(first.get().0.time()) {
                                break;
                            }
                            let (start, (time, table)) = first.remove_entry();
                            let row = |(key, state)| (start * size, key, state);
                            let mut rows: Vec<(u64, u64, (u64, u64))> =
                                table.into_iter().map(row).collect();
                            output.session_with_builder(&time).give_container(&mut rows);
                        }
                    }
                });
            let (probe, results) = counts.probe();
            results.sink(timely::dataflow::channels::pact::Pipeline, "check", move |(input, _)| {
                input.for_each(|_, rows| {
                    let mut check = total.get();
                    for (start, key, (count, sum)) in rows.drain(..) {
                        check.window(key, start as i64, count, sum);
                    }
                    total.set(check);
                });
            });
            probe
        });
        while !probe.done() {
            worker.step();
        }
        check.get()
    });
    Lap::new(started, events, check)
}

type Result = WindowResult<u64, (u64, u64)>;

/// The job, without a sink.
fn counts(flow: &Flow, events: u64) -> Stream<Result, Timed> {
    flow.source("events", Clocked(Generator::new(1, Some(events), |_, index| event(index))))
        .event_time(|e| e.time, Disorder::at_most(BOUND))
        .key_by(|e| &e.key)
        .window("counts", Tumbling::of(WINDOW))
        .aggregate((Count, Fold::new(0u64, |sum, e: &Event| *sum += e.value, |a, b| *a += b)))
        .drop_late("there are none")
}

pub(crate) fn flow(events: u64, workers: usize, rung: Rung) -> Lap {
    let flow = Flow::new("count");
    let (sink, total) = check::sink(|check: &mut Check, row: &Result| {
        let (count, sum) = row.value;
        check.window(row.key, row.window.start.as_micros(), count, sum);
    });
    counts(&flow, events).sink("out", sink);
    run(flow, &total, events, rung, workers)
}

/// As the flow, and every result is a line in a file. The checksum is that of the lines.
fn to_files(events: u64, rung: Rung) -> Lap {
    let (flow, dir) = (Flow::new("count"), directory());
    let out = dir.path().join("out");
    counts(&flow, events)
        .map(|row| (row.key, row.window.start.as_micros(), row.value.0, row.value.1))
        .sink("out", JsonLines::to(&out));
    let settings = settings(rung, &dir.path().join("state")).workers(1);
    let time = or_exit(run_quietly(flow, settings));
    let mut check = Check::default();
    for file in or_exit(std::fs::read_dir(&out)) {
        for line in or_exit(std::fs::read_to_string(or_exit(file).path())).lines() {
            let (key, start, count, sum) = or_exit(serde_json::from_str(line));
            check.window(key, start, count, sum);
        }
    }
    Lap::of(time, events, check)
}

pub(crate) fn bench(bench: &mut Bench) {
    // Long enough for some commits: the last one, at the end, is none of many then.
    let events = bench.events * 3;
    let mut contest = Contest::new("B2: tumbling 1 s, count and sum, 100,000 keys");
    contest.control("bare loop", || bare_loop(events));
    contest.control("timely", || by_hand(events));
    contest.marked("R1", "1 worker", |rung| flow(events, 1, rung));
    contest.volatile("2 workers", |rung| flow(events, 2, rung));
    contest.durable(Rung::R2, "1 worker", |rung| flow(events, 1, rung));
    contest.durable(Rung::R2_FAST, "1 worker", |rung| flow(events, 1, rung));
    contest.durable(Rung::R2, "1 worker, results to JSON lines", |rung| to_files(events, rung));
    let outcome = contest.run(bench.rounds);
    let share = |rung, mark| outcome.share("1 worker", rung, mark);
    bench.at_least("B2: share of the bare loop", share("R1", "bare loop"), 0.6);
    bench.at_least("B2: share of timely by hand", share("R1", "timely"), 1.0);
    bench.at_least("B2: R2 at 100 ms, share of R1", share("R2 100 ms", "R1"), 0.8);
    bench.at_least("B2: R2 at 10 ms, share of R1", share("R2 10 ms", "R1"), 0.5);
}
