//! B14: events out of order, and a partition that is idle.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use highwater::source::{Fetched, Generator, ReadState, Reader, Replay, Resume, Source, Waker};
use highwater::{Error, micros, millis};

use crate::events::{BOUND, Event, event, splitmix64};
use crate::report::{Bench, Contest, Lap, Rung, run};
use crate::variants::{bare_loop, counting, within_bound};

/// So many of a hundred events come late by any part of the bound, all others in order.
fn shuffled(index: u64, percent: u64) -> Event {
    let (event, random) = (event(index), splitmix64(!index));
    let behind = (random >> 8) % BOUND.as_micros() as u64;
    let behind = if random % 100 < percent { micros(behind as i64) } else { micros(0) };
    Event { time: event.time - behind, ..event }
}

fn out_of_order(events: u64, percent: u64, rung: Rung) -> Lap {
    let source = Generator::new(1, Some(events), move |_, index| shuffled(index, percent));
    let (flow, total) = counting(source, within_bound());
    run(flow, &total, events, rung, 1)
}

/// A partition that brings everything, and a second one that never brings anything and ends with
/// the first.
struct OneIdle {
    events: Generator<Event>,
    ended: Arc<AtomicBool>,
    waker: Arc<Mutex<Option<Waker>>>,
}

impl Source for OneIdle {
    type Item = Event;

    fn describe(&self) -> String {
        "one of two partitions is idle".to_owned()
    }

    fn replay(&self) -> Replay {
        Replay::Exact
    }

    fn partitions(&self) -> Result<Vec<String>, Error> {
        Ok(vec!["0".to_owned(), "idle".to_owned()])
    }

    fn is_complete(&self) -> bool {
        true
    }

    fn attach(&self, waker: Waker) -> Result<(), Error> {
        *self.waker.lock().unwrap_or_else(PoisonError::into_inner) = Some(waker);
        Ok(())
    }

    fn open(&self, partition: &str, resume: &Resume) -> Result<Box<dyn Reader<Event>>, Error> {
        let busy = match partition {
            "0" => Some(self.events.open("0", resume)?),
            _ => None,
        };
        Ok(Box::new(OneReader { busy, ended: self.ended.clone(), waker: self.waker.clone() }))
    }
}

struct OneReader {
    /// `None`: the idle one.
    busy: Option<Box<dyn Reader<Event>>>,
    ended: Arc<AtomicBool>,
    waker: Arc<Mutex<Option<Waker>>>,
}

impl Reader<Event> for OneReader {
    fn read(&mut self, limit: usize, fetched: &mut Fetched<Event>) -> Result<ReadState, Error> {
        let Some(busy) = &mut self.busy else {
            let ended = self.ended.load(Ordering::Acquire);
            return Ok(if ended { ReadState::End } else { ReadState::Pending });
        };
        let state = busy.read(limit, fetched)?;
        if state == ReadState::End {
            self.ended.store(true, Ordering::Release);
            if let Some(waker) = &*self.waker.lock().unwrap_or_else(PoisonError::into_inner) {
                waker.wake();
            }
        }
        Ok(state)
    }

    fn position(&self) -> u64 {
        self.busy.as_ref().map_or(0, |busy| busy.position())
    }
}

fn one_idle(events: u64, rung: Rung) -> Lap {
    let events_of = Generator::new(1, Some(events), |_, index| shuffled(index, 0));
    let (ended, waker) = (Arc::default(), Arc::default());
    let source = OneIdle { events: events_of, ended, waker };
    let (flow, total) = counting(source, within_bound().idle_after(millis(10)));
    run(flow, &total, events, rung, 1)
}

pub(crate) fn bench(bench: &mut Bench) {
    let events = bench.events;
    let mut contest = Contest::new("B14: disorder within the bound of 100 ms, and idleness");
    contest.control("loop in order", || bare_loop((0..events).map(|i| shuffled(i, 0))));
    contest.marked("in order", "in order", |rung| out_of_order(events, 0, rung));
    contest.volatile("one partition idle", |rung| one_idle(events, rung));
    for (percent, name, flow) in
        [(10, "loop 10 %", "10 % out of order"), (50, "loop 50 %", "50 % out of order")]
    {
        contest.another_job();
        contest.control(name, move || bare_loop((0..events).map(|i| shuffled(i, percent))));
        contest.volatile(flow, move |rung| out_of_order(events, percent, rung));
        contest.durable(Rung::R2, flow, move |rung| out_of_order(events, percent, rung));
    }
    let outcome = contest.run(bench.rounds);
    for name in ["one partition idle", "10 % out of order", "50 % out of order"] {
        let share = outcome.share(name, "R1", "in order");
        bench.at_least(&format!("B14: {name}, share of in order"), share, 0.85);
    }
}
