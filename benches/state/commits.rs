//! The same table while it is committed every now and then to a store on disk.
//!
//! A batch is the time from one end of a batch to the next, with the step of a capture between
//! them. A tick here is 16 batches, as many events as a tick of a flow reads at most. What the
//! thread spends on a processor or waiting for a lock counts; what it spends in line for a
//! processor does not: the kernel tells (`schedstat`), and how much that was is printed.

use std::fs::File;
use std::ops::RangeInclusive;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use highwater_state::{DurableStore, Table, hash_key};

use crate::lanes::{Committed, Committer, filled_store};
use crate::{BASE_MEMORY, BATCH, Bench, Pace, Random, Result, TAIL_LIMIT, mb, median, short};

const INTERVALS: [u64; 3] = [10, 100, 1000];
const BATCHES_PER_TICK: u64 = 16;
/// The run that is held to the rate of the base: long enough for some fills, and longer where too
/// few ticks of so short a time fell beside them.
const PACED_FOR: Duration = Duration::from_secs(30);
const PACED_AT_MOST: Duration = Duration::from_secs(120);
const PACED_INTERVAL: Duration = Duration::from_millis(100);
/// Fewer ticks beside the base say nothing of the longest.
const LEAST_SEEN: u64 = 50;

/// How long batches or ticks took, in ns: those beside which the base was written, and others.
struct Times {
    base: Histogram<u64>,
    quiet: Histogram<u64>,
}

impl Times {
    fn new() -> Result<Self> {
        Ok(Times { base: Histogram::new(3)?, quiet: Histogram::new(3)? })
    }

    fn record(&mut self, base: bool, took: Duration) -> Result<()> {
        let times = if base { &mut self.base } else { &mut self.quiet };
        Ok(times.record(took.as_nanos() as u64)?)
    }

    fn add(&mut self, other: &Times) -> Result<()> {
        self.base.add(&other.base)?;
        Ok(self.quiet.add(&other.quiet)?)
    }
}

/// The time of this thread without what it waited for a processor.
struct ThreadClock {
    started: Instant,
    schedstat: File,
    /// In line before.
    before: Duration,
}

impl ThreadClock {
    fn start() -> Result<Self> {
        let schedstat = File::open("/proc/thread-self/schedstat")?;
        let clock = ThreadClock { started: Instant::now(), schedstat, before: Duration::ZERO };
        Ok(ThreadClock { before: clock.in_line()?, ..clock })
    }

    /// How long the thread has stood in line for a processor since the clock was started.
    fn in_line(&self) -> Result<Duration> {
        let mut bytes = [0; 64];
        let length = self.schedstat.read_at(&mut bytes, 0)?;
        let text = std::str::from_utf8(&bytes[..length])?;
        let nanos = text.split(' ').nth(1).ok_or("no time in line in schedstat")?;
        Ok(Duration::from_nanos(nanos.parse()?).saturating_sub(self.before))
    }

    fn now(&self) -> Result<Duration> {
        Ok(self.started.elapsed().saturating_sub(self.in_line()?))
    }
}

struct Run {
    /// Seconds.
    took: f64,
    rate: f64,
    /// What part of the time the thread stood in line for a processor.
    in_line: f64,
    batches: Times,
    ticks: Times,
    committed: Option<Committed>,
}

/// Runs for the shortest of these times, or longer, until enough ticks were seen beside the base.
fn run_for(
    (times, rate): (RangeInclusive<Duration>, f64),
    (table, keys): (&mut Table<u64, u64>, u64),
    random: &mut Random,
    mut committer: Option<Committer>,
) -> Result<Run> {
    let (mut batches, mut ticks) = (Times::new()?, Times::new()?);
    let (started, clock) = (Instant::now(), ThreadClock::start()?);
    let now = clock.now()?;
    let (mut batch_started, mut tick_started) = (now, now);
    let (mut count, mut tick_base) = (0, false);
    let mut pace = Pace::new(rate);
    let mut seen = 0;
    while started.elapsed() < *if seen < LEAST_SEEN { times.end() } else { times.start() } {
        for _ in 0..BATCH {
            let key = random.below(keys);
            *table.update(hash_key(&key), &key, || 0) += 1;
        }
        let mut base = false;
        if let Some(committer) = &mut committer {
            committer.step(table)?;
            base = committer.is_base_written();
        }
        let now = clock.now()?;
        batches.record(base, now.saturating_sub(batch_started))?;
        batch_started = now;
        (count, tick_base) = (count + 1, tick_base || base);
        if count % BATCHES_PER_TICK == 0 {
            ticks.record(tick_base, now.saturating_sub(tick_started))?;
            seen += u64::from(tick_base);
            // As a worker that has nothing to read: it goes on with a capture.
            let until = pace.due(BATCH * BATCHES_PER_TICK as usize);
            while let Some(committer) = committer.as_mut().filter(|c| c.is_capturing())
                && Instant::now() < until
            {
                committer.step(table)?;
            }
            std::thread::sleep(until.saturating_duration_since(Instant::now()));
            let now = clock.now()?;
            (batch_started, tick_started, tick_base) = (now, now, false);
        }
    }
    let took = started.elapsed().as_secs_f64();
    let rate = (count * BATCH as u64) as f64 / took;
    let in_line = clock.in_line()?.as_secs_f64() / took;
    let committed = committer.map(|committer| committer.finish(table)).transpose()?;
    Ok(Run { took, rate, in_line, batches, ticks, committed })
}

/// All rounds of one interval.
struct Rounds {
    rates: Vec<f64>,
    /// Rates as parts of the rate without commits, in the same round.
    parts: Vec<f64>,
    in_line: Vec<f64>,
    batches: Times,
    ticks: Times,
    commit: Histogram<u64>,
    whole: Histogram<u64>,
    log_bytes: u64,
    entries: u64,
    held: u64,
}

impl Rounds {
    fn new() -> Result<Self> {
        Ok(Rounds {
            rates: Vec::new(),
            parts: Vec::new(),
            in_line: Vec::new(),
            batches: Times::new()?,
            ticks: Times::new()?,
            commit: Histogram::new(3)?,
            whole: Histogram::new(3)?,
            log_bytes: 0,
            entries: 0,
            held: 0,
        })
    }

    fn add(&mut self, run: &Run, without: f64) -> Result<()> {
        self.rates.push(run.rate);
        self.parts.push(run.rate / without);
        self.in_line.push(run.in_line);
        self.batches.add(&run.batches)?;
        self.ticks.add(&run.ticks)?;
        if let Some(committed) = &run.committed {
            self.commit.add(&committed.commit)?;
            self.whole.add(&committed.whole)?;
            self.log_bytes += committed.log_bytes;
            self.entries += committed.entries;
            self.held += committed.held;
        }
        Ok(())
    }

    fn print(&self, name: &str, seconds: f64) {
        let rate = median(self.rates.clone()) / 1e6;
        let cost = 100.0 * (1.0 - median(self.parts.clone()));
        let millis = |h: &Histogram<u64>, q: f64| h.value_at_quantile(q) as f64 / 1e3;
        print!("  {name:<8} {rate:>7.2} M/s {cost:>6.1} %");
        if !self.commit.is_empty() {
            let (c, w) = (&self.commit, &self.whole);
            print!(
                "  {:>5} commits {:>7.2} {:>7.2} {:>7.2} ms (whole {:.1} {:.1})",
                c.len(),
                millis(c, 0.5),
                millis(c, 0.99),
                millis(c, 1.0),
                millis(w, 0.5),
                millis(w, 1.0),
            );
            print!("  {:.1} MB/s", mb(self.log_bytes) / seconds);
            print!(", {:.2} M entries/s", self.entries as f64 / seconds / 1e6);
            if self.held > 0 {
                print!(", held at {} batches", self.held);
            }
        }
        println!(", {:.1} % in line", 100.0 * median(self.in_line.clone()));
        for (what, times) in [("batch", &self.batches), ("tick", &self.ticks)] {
            for (beside, times) in [("", &times.quiet), (", base written", &times.base)] {
                print_times(&format!("{what}{beside}"), times);
            }
        }
    }
}

fn print_times(name: &str, times: &Histogram<u64>) {
    if times.is_empty() {
        return;
    }
    let at = |quantile| times.value_at_quantile(quantile) as f64 / 1e6;
    println!(
        "           {name:<20} median {:>7.3} p99 {:>7.3} p99.9 {:>7.3} longest {:>8.3} ms, {} of \
         them",
        at(0.5),
        at(0.99),
        at(0.999),
        at(1.0),
        times.len(),
    );
}

fn cost_goal(bench: &mut Bench, rounds: &Rounds) {
    let cost = 100.0 * (1.0 - median(rounds.parts.clone()));
    let goal = "commits every 100 ms cost at most 20 % at 100k keys";
    bench.goal(goal, format!("{cost:.1} %"), cost <= 20.0);
}

/// The longest ticks, at the rate that the base sustains. (Batches are printed with the rest.)
fn tick_goal(bench: &mut Bench, keys: u64, pace: &str, rounds: &Rounds, without: &Rounds) {
    // The median of the same run's ticks without the base: beside it, all may be slower.
    // The control is the same loop without commits, as fast as it goes.
    let (times, control) = (&rounds.ticks, &without.ticks.quiet);
    let median = times.quiet.value_at_quantile(0.5).max(1) as f64;
    let longest = times.base.max() as f64 / median;
    let quiet = times.quiet.max() as f64 / median;
    let bare = control.max() as f64 / control.value_at_quantile(0.5).max(1) as f64;
    let seen = times.base.len();
    let name = short(keys);
    bench.goal(
        format!("longest tick beside the base, {name} keys, {pace}: at most 2x quiet median"),
        format!(
            "{longest:.1}x of {seen} ticks; the base quiet {quiet:.1}x of {}; without commits \
             {bare:.1}x",
            times.quiet.len()
        ),
        (seen >= LEAST_SEEN).then_some(longest <= 2.0),
    );
}

pub(crate) fn run(bench: &mut Bench) -> Result<()> {
    println!("\nupdates while commits go to disk, u64 -> u64, tail limit {} MiB", TAIL_LIMIT >> 20);
    println!("  updates, cost, commits with median, p99 and max (whole: from the capture on)");
    for keys in bench.sizes.clone() {
        let (rounds, seconds) = if keys > 1_000_000 { (2, 4) } else { (5, 2) };
        println!("  {} keys, {rounds} rounds of {seconds} s", short(keys));
        let time = Duration::from_secs(seconds);
        let dir = bench.store_of(keys);
        let store: Arc<DurableStore> =
            Arc::new(filled_store(&dir, (TAIL_LIMIT, BASE_MEMORY), keys, &0u64)?);
        let mut table = Table::cold(Vec::new());
        (0..keys).for_each(|key| table.load(key, 0));
        table.completed();
        let mut all = [const { None::<Rounds> }; INTERVALS.len() + 1].map(|_| Rounds::new());
        let mut random = Random(keys);
        for _ in 0..rounds {
            let mut without = f64::NAN;
            for (index, rounds) in all.iter_mut().enumerate() {
                let every = index.checked_sub(1).map(|i| Duration::from_millis(INTERVALS[i]));
                let committer = every.map(|every| Committer::start(&store, every)).transpose()?;
                let run = run_for((time..=time, 0.0), (&mut table, keys), &mut random, committer)?;
                without = if index == 0 { run.rate } else { without };
                rounds.as_mut().map_err(|e| e.to_string())?.add(&run, without)?;
            }
        }
        let all = all.into_iter().collect::<Result<Vec<_>>>()?;
        let total = (rounds * seconds) as f64;
        all[0].print("none", total);
        for (every, rounds) in INTERVALS.iter().zip(&all[1..]) {
            rounds.print(&format!("{every} ms"), total);
        }
        if keys == 100_000 {
            cost_goal(bench, &all[2]);
        }
        let (rate, pace) = bench.paced();
        let committer = Committer::start(&store, PACED_INTERVAL)?;
        let mut paced = Rounds::new()?;
        let at_rate = (PACED_FOR..=PACED_AT_MOST, rate);
        let run = run_for(at_rate, (&mut table, keys), &mut random, Some(committer))?;
        paced.add(&run, rate)?;
        println!("  held to {pace}, commits every {} ms", PACED_INTERVAL.as_millis());
        paced.print("paced", run.took);
        tick_goal(bench, keys, &pace, &paced, &all[0]);
    }
    Ok(())
}
