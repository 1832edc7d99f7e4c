//! The watermark of ten thousand partitions: what a tick costs in which few or all of them bring
//! something, beside the same tick of a source with few partitions.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use highwater::prelude::*;
use highwater::source::{Fetched, ReadState, Reader, Replay, Resume, Source, Waker};
use highwater::testing::TestDriver;

use super::{median, or_exit};

const MANY: usize = 10_000;
const FEW: usize = 10;
const TICKS: usize = 300;

/// Partitions that are filled by hand. It says which partition has something, as a broker's
/// client could.
#[derive(Clone)]
struct Feeds(Arc<Mutex<Inner>>);

struct Inner {
    partitions: Vec<Feed>,
    waker: Option<Waker>,
}

#[derive(Default)]
struct Feed {
    waiting: VecDeque<EventTime>,
    read: u64,
}

impl Feeds {
    fn new(count: usize) -> Self {
        let partitions = (0..count).map(|_| Feed::default()).collect();
        Feeds(Arc::new(Mutex::new(Inner { partitions, waker: None })))
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, partition: usize, time: EventTime) {
        let mut inner = self.lock();
        inner.partitions[partition].waiting.push_back(time);
        if let Some(waker) = &inner.waker {
            waker.wake_partition(&partition.to_string());
        }
    }
}

impl Source for Feeds {
    type Item = EventTime;

    fn describe(&self) -> String {
        "filled by hand".to_owned()
    }

    fn replay(&self) -> Replay {
        Replay::Lost
    }

    fn partitions(&self) -> Result<Vec<String>, Error> {
        Ok((0..self.lock().partitions.len()).map(|index| index.to_string()).collect())
    }

    fn is_complete(&self) -> bool {
        false
    }

    fn attach(&self, waker: Waker) -> Result<(), Error> {
        self.lock().waker = Some(waker);
        Ok(())
    }

    fn open(&self, partition: &str, _: &Resume) -> Result<Box<dyn Reader<EventTime>>, Error> {
        let partition = partition.parse().map_err(|_| Error::input("no such partition"))?;
        Ok(Box::new(FeedReader { feeds: self.clone(), partition, position: 0 }))
    }
}

struct FeedReader {
    feeds: Feeds,
    partition: usize,
    position: u64,
}

impl Reader<EventTime> for FeedReader {
    fn read(&mut self, limit: usize, fetched: &mut Fetched<EventTime>) -> Result<ReadState, Error> {
        let mut inner = self.feeds.lock();
        let feed = &mut inner.partitions[self.partition];
        for time in feed.waiting.drain(..limit.min(feed.waiting.len())) {
            fetched.push(self.position, time);
            self.position += 1;
        }
        feed.read = self.position;
        Ok(if feed.waiting.is_empty() { ReadState::Pending } else { ReadState::More })
    }

    fn position(&self) -> u64 {
        self.position
    }
}

/// A driver whose partitions have all been heard.
fn driver(partitions: usize) -> (TestDriver, Feeds) {
    let feeds = Feeds::new(partitions);
    let flow = Flow::new("partitions");
    flow.source("in", feeds.clone())
        .event_time(|t| *t, Disorder::ascending().idle_after(hours(1)))
        .key_with(|_| 0u8)
        .window("w", Tumbling::of(hours(1)))
        .aggregate(Count)
        .drop_late("not measured")
        .sink("out", Stdout::json());
    let mut driver = or_exit(TestDriver::new(flow));
    (0..partitions).for_each(|p| feeds.push(p, EventTime::from_micros(1)));
    or_exit(driver.commit());
    (driver, feeds)
}

/// The median time of a tick, in µs, in which so many partitions bring one event each, others in
/// each tick.
fn tick(partitions: usize, active: usize, commit: bool) -> f64 {
    let (mut driver, feeds) = driver(partitions);
    let mut times = Vec::new();
    for at in 2..TICKS as i64 + 2 {
        for place in 0..active {
            let partition = (place * (partitions / active) + at as usize * 7) % partitions;
            feeds.push(partition, EventTime::from_micros(at));
        }
        driver.advance_clock(micros(10));
        let started = Instant::now();
        or_exit(if commit { driver.commit() } else { driver.tick() });
        times.push(started.elapsed().as_secs_f64() * 1e6);
    }
    median(times)
}

pub(super) fn bench() {
    println!("{MANY} partitions with an idle timeout: a tick in µs, medians of {TICKS} ticks");
    let quiet = tick(MANY, FEW, false) - tick(FEW, FEW, false);
    for (name, commit) in [("a tick", false), ("a tick with its commit", true)] {
        let few = tick(FEW, FEW, commit);
        let of_many = tick(MANY, FEW, commit);
        println!("  {name}, {FEW} of {FEW} partitions bring an event      {few:>10.1}");
        println!("  {name}, {FEW} of {MANY} partitions bring an event   {of_many:>10.1}");
    }
    let all = tick(MANY, MANY, false);
    println!("  a tick, all {MANY} bring an event {all:>10.1}, {:.3} each", all / MANY as f64);
    println!("  {} quiet partitions cost a tick {quiet:.1} µs", MANY - FEW);
}
