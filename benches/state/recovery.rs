//! From the start of a process to its first result, after the one before it was killed.

use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use highwater_state::{Commit, DurableStore, Store, Table, decode, hash_key};

use crate::lanes::{OPERATOR, changes, filled_store};
use crate::{
    BASE_MEMORY, BATCH, Bench, Random, Result, TAIL_LIMIT, child, kill, mb, median, short,
};

const GOAL: f64 = 1.0;
const ROUNDS: usize = 5;
const INTERVAL: Duration = Duration::from_millis(100);

/// For how long the writer commits at its rate before it is killed.
const WRITES_FOR: Duration = Duration::from_secs(10);

fn tell(numbers: &[f64]) -> Result<()> {
    let texts: Vec<String> = numbers.iter().map(f64::to_string).collect();
    let mut out = std::io::stdout();
    writeln!(out, "{}", texts.join(" "))?;
    Ok(out.flush()?)
}

fn wait_to_be_killed() -> ! {
    loop {
        std::thread::park();
    }
}

/// Fills the base, then commits `rate` entries a second until it is killed.
pub(crate) fn write(dir: &Path, keys: u64, rate: f64) -> Result<()> {
    let store = Arc::new(filled_store(dir, (TAIL_LIMIT, BASE_MEMORY), keys, &1u64)?);
    let filling = store.clone();
    std::thread::spawn(move || {
        while let Ok(moved) = filling.maintain(false) {
            if !moved {
                std::thread::sleep(Duration::from_millis(1));
            }
        }
    });
    let mut random = Random(1);
    let (started, mut told) = (Instant::now(), false);
    let commit = (rate * INTERVAL.as_secs_f64()) as usize;
    loop {
        let due = Instant::now() + INTERVAL;
        if !store.tail().full {
            let changes = vec![changes((0..commit).map(|_| random.below(keys)), &1u64)?];
            store.commit(Commit { record: b"record".to_vec(), changes })?;
        }
        if started.elapsed() > WRITES_FOR && !told {
            told = true;
            tell(&[store.tail().bytes as f64])?;
        }
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
    }
}

/// Commits until the tail is full, and moves nothing.
pub(crate) fn fill_tail(dir: &Path, keys: u64) -> Result<()> {
    let store = DurableStore::open_dir(dir, TAIL_LIMIT, BASE_MEMORY)?;
    let mut random = Random(2);
    while !store.tail().full {
        let changes = vec![changes((0..50_000).map(|_| random.below(keys)), &1u64)?];
        store.commit(Commit { record: b"record".to_vec(), changes })?;
    }
    tell(&[store.tail().bytes as f64])?;
    wait_to_be_killed()
}

/// Opens the store, reads one batch of keys and updates them.
pub(crate) fn recover(dir: &Path, keys: u64) -> Result<()> {
    let started = Instant::now();
    let store = DurableStore::open_dir(dir, TAIL_LIMIT, BASE_MEMORY)?;
    let opened = started.elapsed();
    let mut random = Random(3);
    let mut wanted: Vec<(u64, u64)> =
        (0..BATCH).map(|_| random.below(keys)).map(|key| (hash_key(&key), key)).collect();
    wanted.sort_unstable();
    wanted.dedup();
    let mut table = Table::<u64, u64>::cold(Vec::new());
    table.read_back(&store, OPERATOR, wanted.clone(), decode)?;
    if table.len() != wanted.len() {
        return Err(format!("{} of {} keys are there", table.len(), wanted.len()).into());
    }
    wanted.iter().for_each(|(hash, key)| *table.update(*hash, key, || 0) += 1);
    let done = started.elapsed();
    tell(&[opened.as_secs_f64(), (done - opened).as_secs_f64(), store.tail().bytes as f64])?;
    wait_to_be_killed()
}

/// Medians of what a fresh process takes: in all, to open, to read; and the tail that it found.
fn recoveries(dir: &str, keys: &str) -> Result<[f64; 4]> {
    let mut figures = [const { Vec::new() }; 4];
    for _ in 0..ROUNDS {
        let started = Instant::now();
        let (reader, mut numbers) = child(&["recover", dir, keys])?;
        let told = numbers()?;
        let round = [started.elapsed().as_secs_f64(), told[0], told[1], told[2]];
        figures.iter_mut().zip(round).for_each(|(figures, figure)| figures.push(figure));
        kill(reader)?;
    }
    Ok(figures.map(median))
}

pub(crate) fn run(bench: &mut Bench) -> Result<()> {
    let (keys, place) = (bench.largest(), bench.store_of(bench.largest()));
    let (rate, rate_name) = bench.paced();
    let (count, dir) = (keys.to_string(), place.to_str().ok_or("a path that is no text")?);
    let (writer, mut numbers) = child(&["write", dir, &count, &rate.to_string()])?;
    numbers()?;
    kill(writer)?;
    println!("\nfrom the start of a process to its first {BATCH} results, {} keys", short(keys));
    println!("  the one before was killed; files are in the page cache; medians of {ROUNDS}");
    let paced = recoveries(dir, &count)?;
    let (writer, mut numbers) = child(&["fill_tail", dir, &count])?;
    numbers()?;
    kill(writer)?;
    let full = recoveries(dir, &count)?;
    let tails = [(&*rate_name, paced), ("the tail at its limit", full)];
    for (name, [all, open, read, tail]) in tails {
        println!(
            "  {name:<28} {all:>6.3} s  (open {open:.3}, read and update {read:.3}; tail of \
             {:.0} MB)",
            mb(tail as u64)
        );
        let goal = format!("first result at {} keys within {GOAL} s: {name}", short(keys));
        bench.goal(goal, format!("{all:.3} s"), all <= GOAL);
    }
    Ok(())
}
