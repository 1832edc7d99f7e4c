//! More state than memory: four times the budget, and the load is skewed.
//!
//! The parts of the budget are in proportion as a flow's settings divide it: half for the table,
//! a quarter for RocksDB, a quarter for the tail of the log and its copy on the way into RocksDB.
//! A sixteenth of the table's part is left free, since it can forget only between two commits.
//! So less than an eighth of the state fits into the table.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use highwater_state::{Store, Table, decode, hash_key};

use crate::lanes::{Committer, OPERATOR, filled_store};
use crate::{BATCH, Bench, Pace, Random, Result, child as start, kill, mb, resident, short};

const GOAL: f64 = 1.25;
const INTERVAL: Duration = Duration::from_millis(100);
/// It is measured from when the table has been full once; but it does not take longer than this.
const WARM: Duration = Duration::from_secs(60);
const TIME: Duration = Duration::from_secs(10);

type Payload = [u64; 4];

/// A slot of the table with its byte of control and its byte of flags, in tables that are about
/// two thirds full.
const BYTES_PER_ENTRY: u64 = 42 * 16 / 10;

/// A key of which `share` of a hundred are in the hotter part, and that part is the rest of a
/// hundred of the keys: 80 stands for 80/20.
fn skewed(random: &mut Random, keys: u64, share: u64) -> u64 {
    let hot = keys * (100 - share) / 100;
    if random.below(100) < share { random.below(hot) } else { hot + random.below(keys - hot) }
}

/// Bytes for the table, for the tail of the log and for RocksDB.
struct Parts {
    hot: u64,
    tail: u64,
    base: u64,
}

impl Parts {
    fn of(budget: u64) -> Self {
        Parts { hot: budget / 2 / 16 * 15, tail: budget / 8, base: budget / 4 }
    }
}

/// Prints updates a second, the share of misses, bytes resident before, after and at most, the
/// seconds for which the full tail held everything up, and bytes of the table.
/// With a `rate` it makes so many updates a second; with 0 it goes as fast as it can.
pub(crate) fn child(dir: &Path, [keys, budget, share]: [u64; 3], rate: f64) -> Result<()> {
    let baseline = resident().0;
    let Parts { hot, tail, base } = Parts::of(budget);
    let store = Arc::new(highwater_state::DurableStore::open_dir(dir, tail, base)?);
    let mut table = Table::<u64, Payload>::cold(Vec::new());
    let mut committer = Committer::start(&store, INTERVAL)?;
    let mut random = Random(share);
    let started = Instant::now();
    let mut began = None;
    let (mut updates, mut misses, mut most, mut held) = (0, 0, 0, Duration::ZERO);
    let mut keys_of_batch = vec![(0, 0); BATCH];
    let mut pace = Pace::new(rate);
    while began.is_none_or(|began: Instant| began.elapsed() < TIME) {
        if began.is_none() && (table.memory() > hot as usize || started.elapsed() >= WARM) {
            began = Some(Instant::now());
            (updates, misses, held) = (0, 0, Duration::ZERO);
        }
        keys_of_batch.iter_mut().for_each(|slot| {
            let key = skewed(&mut random, keys, share);
            *slot = (hash_key(&key), key);
        });
        let missing = keys_of_batch.iter().filter(|(hash, key)| table.is_missing(*hash, key));
        let mut wanted: Vec<_> = missing.copied().collect();
        wanted.sort_unstable();
        wanted.dedup();
        misses += wanted.len();
        table.read_back(&*store, OPERATOR, wanted, decode)?;
        for (hash, key) in &keys_of_batch {
            table.update(*hash, key, || [u64::MAX; 4])[0] += 1;
        }
        updates += BATCH;
        pace.wait(BATCH);
        committer.step(&mut table)?;
        let memory = table.memory();
        if committer.is_idle() && memory > hot as usize {
            table.evict(memory - hot as usize);
        }
        // A flow opens no tick while the tail is full.
        let waits = Instant::now();
        while committer.is_idle() && store.tail().full {
            std::thread::sleep(Duration::from_millis(1));
        }
        held += waits.elapsed();
        most = most.max(resident().0);
    }
    let rate = updates as f64 / TIME.as_secs_f64();
    let share = misses as f64 / updates as f64;
    let after = resident().0;
    println!("{rate} {share} {baseline} {after} {most} {} {}", held.as_secs_f64(), table.memory());
    committer.finish(&mut table)?;
    Ok(())
}

pub(crate) fn run(bench: &mut Bench) -> Result<()> {
    let (keys, dir) = (bench.largest(), bench.place("spill"));
    let state = keys * BYTES_PER_ENTRY;
    let budget = state / 4;
    let Parts { hot, tail, base } = Parts::of(budget);
    drop(filled_store(&dir, (tail, base), keys, &[0u64; 4])?);
    println!("\nmore state than memory: {} keys, u64 -> [u64; 4]", short(keys));
    println!(
        "  {:.0} MB in memory if it fitted; the table may have {:.0} MB, RocksDB {:.0} MB and the \
         tail {:.0} MB: a budget of {:.0} MB",
        mb(state),
        mb(hot),
        mb(base),
        mb(tail),
        mb(budget)
    );
    let (rate, rate_name) = bench.paced();
    for (share, paced) in [(80, true), (95, true), (80, false), (95, false)] {
        let pace = if paced { rate } else { 0.0 };
        let texts = [keys, budget, share].map(|number| number.to_string());
        let dir = dir.to_str().ok_or("a path that is no text")?;
        let [keys_text, budget_text, share_text] = [&*texts[0], &*texts[1], &*texts[2]];
        let (child, mut numbers) =
            start(&["spill", dir, keys_text, budget_text, share_text, &pace.to_string()])?;
        let numbers = numbers()?;
        kill(child)?;
        let [rate, misses, baseline, after, most, held, table] = numbers[..] else {
            return Err("the process printed something else".into());
        };
        let pace = if paced { &*rate_name } else { "as fast as it goes" };
        let name = format!("{share}/{}, {pace}", 100 - share);
        println!(
            "  {name}  {:>7.0} thousand updates/s, {:.1} % misses, resident {:.0} MB at most {:.0} \
             MB (table {:.0}),\n         held up by the tail for {held:.1} s of {:.0} (the process \
             began with {:.0} MB)",
            rate / 1e3,
            misses * 100.0,
            after / 1e6,
            most / 1e6,
            table / 1e6,
            TIME.as_secs_f64(),
            baseline / 1e6,
        );
        let ratio = (most - baseline) / budget as f64;
        if paced {
            let goal = format!("memory, {} keys, {name}: at most {GOAL}x budget", short(keys));
            bench.goal(goal, format!("{ratio:.2}x"), ratio <= GOAL);
        } else {
            println!("         {ratio:.2}x the budget");
        }
    }
    Ok(std::fs::remove_dir_all(dir)?)
}
