//! B11: the tumbling count for some seconds, with and without a snapshot every second.
//!
//! A tick reads 65,536 events at most, and that many are what is timed here, at their source: a
//! pause of whatever kind is seen, however ticks are cut.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use highwater::Error;
use highwater::source::{Fetched, Generator, ReadState, Reader, Replay, Resume, Source};

use crate::events::{Event, event};
use crate::report::{Bench, Contest, Lap, Rung, directory, median, or_exit, run_quietly, settings};
use crate::variants::{counting, within_bound};

const SLICE: u64 = 65_536;

/// When each slice of events began to be read.
type Slices = Arc<Mutex<Vec<Instant>>>;

/// Tells when it is read.
struct Watched {
    events: Generator<Event>,
    slices: Slices,
}

struct WatchedReader {
    events: Box<dyn Reader<Event>>,
    slices: Slices,
}

impl Source for Watched {
    type Item = Event;

    fn describe(&self) -> String {
        "watched".to_owned()
    }

    fn replay(&self) -> Replay {
        Replay::Exact
    }

    fn partitions(&self) -> Result<Vec<String>, Error> {
        self.events.partitions()
    }

    fn is_complete(&self) -> bool {
        true
    }

    fn open(&self, partition: &str, resume: &Resume) -> Result<Box<dyn Reader<Event>>, Error> {
        let events = self.events.open(partition, resume)?;
        Ok(Box::new(WatchedReader { events, slices: self.slices.clone() }))
    }
}

impl Reader<Event> for WatchedReader {
    fn read(&mut self, limit: usize, fetched: &mut Fetched<Event>) -> Result<ReadState, Error> {
        let mut slices = self.slices.lock().unwrap_or_else(PoisonError::into_inner);
        if self.events.position() >= slices.len() as u64 * SLICE {
            slices.push(Instant::now());
        }
        drop(slices);
        self.events.read(limit, fetched)
    }

    fn position(&self) -> u64 {
        self.events.position()
    }
}

/// Median, 99 in 100, and longest, in milliseconds.
type Ticks = [f64; 3];

fn flow(events: u64, rung: Rung, snapshots: bool, ticks: &mut Vec<Ticks>) -> Lap {
    let (slices, dir) = (Slices::default(), directory());
    let events_of = Generator::new(1, Some(events), |_, index| event(index));
    let source = Watched { events: events_of, slices: slices.clone() };
    let (flow, total) = counting(source, within_bound());
    let mut settings = settings(rung, &dir.path().join("state")).workers(1);
    if snapshots {
        settings = settings.snapshots(Duration::from_secs(1), 3);
    }
    let time = or_exit(run_quietly(flow, settings));
    let lap = Lap::of(time, events, total.get());
    let mut micros = or_exit(Histogram::<u64>::new(3));
    let slices = slices.lock().unwrap_or_else(PoisonError::into_inner);
    for pair in slices.windows(2) {
        or_exit(micros.record((pair[1] - pair[0]).as_micros() as u64));
    }
    let tick = [0.5, 0.99, 1.0].map(|q| micros.value_at_quantile(q) as f64 / 1e3);
    ticks.push(tick);
    let [half, most, longest] = tick;
    let taken = std::fs::read_dir(dir.path().join("state/snapshots")).map_or(0, Iterator::count);
    let note = format!(
        "; ticks {half:.2} ms median, {most:.2} p99, {longest:.2} longest; {taken} snapshots kept"
    );
    Lap { note, ..lap }
}

pub(crate) fn bench(bench: &mut Bench) {
    // Long enough for some snapshots.
    let events = bench.events * 10;
    let (mut volatile, mut without, mut with) = (vec![], vec![], vec![]);
    let mut contest = Contest::new("B11: snapshots every second");
    contest.volatile("1 worker", |rung| flow(events, rung, false, &mut volatile));
    let name = "1 worker, no snapshots";
    contest
        .flow(Rung::R2, Some("no snapshots"), name, |rung| flow(events, rung, false, &mut without));
    contest.durable(Rung::R2, "1 worker, snapshots", |rung| flow(events, rung, true, &mut with));
    let outcome = contest.run(bench.rounds.min(3));
    let of = |ticks: &[Ticks], which: usize| median(ticks.iter().map(|t| t[which]).collect());
    println!("  ticks in ms, medians of the rounds: median, p99, longest");
    for (name, ticks) in [("R1", &volatile), ("no snapshots", &without), ("snapshots", &with)] {
        println!(
            "    {name:<14} {:>8.2} {:>8.2} {:>8.2}",
            of(ticks, 0),
            of(ticks, 1),
            of(ticks, 2)
        );
    }
    let share = outcome.share("1 worker, snapshots", "R2 100 ms", "no snapshots");
    bench.at_least("B11: throughput beside no snapshots", share, 0.95);
    bench.at_most("B11: longest tick beside the median one", of(&with, 2) / of(&with, 0), 2.0);
    let beside = of(&with, 2) / of(&without, 2);
    bench.at_most("B11: longest tick beside no snapshots' longest", beside, 2.0);
}
