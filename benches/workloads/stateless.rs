//! B1: map and filter, without state or time.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Instant;

use highwater::prelude::*;
use highwater::source::Generator;
use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::generic::operator::Operator;
use timely::dataflow::operators::probe::Probe;
use timely::dataflow::operators::vec::{Filter, Map};

use crate::by_hand::batches;
use crate::check::{self, Check};
use crate::clock::Clocked;
use crate::events::{Event, event, splitmix64};
use crate::report::{Bench, Contest, Lap, Rung, run};

fn mapped(event: Event) -> Event {
    Event { value: event.value.wrapping_mul(3) + 1, ..event }
}

/// About one event in four survives.
fn survives(event: &Event) -> bool {
    event.value & 3 == 0
}

fn add(check: &mut Check, event: &Event) {
    check.add(splitmix64(event.key).wrapping_add(event.value.rotate_left(40)));
}

fn bare_loop(events: u64) -> Lap {
    let started = Instant::now();
    let mut check = Check::default();
    for index in 0..events {
        let event = mapped(event(index));
        if survives(&event) {
            add(&mut check, &event);
        }
    }
    Lap::new(started, events, check)
}

/// With timely's own map and filter.
fn by_hand(events: u64) -> Lap {
    let started = Instant::now();
    let check = timely::execute::execute_directly(move |worker| {
        let check = Rc::new(Cell::new(Check::default()));
        let total = check.clone();
        let probe = worker.dataflow::<u64, _, _>(|scope| {
            let survivors = batches(scope, events, event).map(mapped).filter(survives);
            let (probe, survivors) = survivors.probe();
            survivors.sink(Pipeline, "check", move |(input, _)| {
                input.for_each(|_, rows: &mut Vec<Event>| {
                    let mut check = total.get();
                    rows.drain(..).for_each(|event| add(&mut check, &event));
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

pub(crate) fn flow(events: u64, workers: usize, rung: Rung) -> Lap {
    let flow = Flow::new("map and filter");
    let (sink, total) = check::sink(add);
    flow.source("events", Clocked(Generator::new(1, Some(events), |_, index| event(index))))
        .map(mapped)
        .filter(survives)
        .sink("out", sink);
    run(flow, &total, events, rung, workers)
}

pub(crate) fn bench(bench: &mut Bench) {
    let events = bench.events;
    let mut contest = Contest::new("B1: map and filter");
    contest.control("bare loop", || bare_loop(events));
    contest.control("timely", || by_hand(events));
    contest.marked("R1", "1 worker", |rung| flow(events, 1, rung));
    contest.durable(Rung::R2, "1 worker", |rung| flow(events, 1, rung));
    let outcome = contest.run(bench.rounds);
    let share = |mark| outcome.share("1 worker", "R1", mark);
    bench.at_least("B1: share of timely by hand", share("timely"), 1.0);
}
