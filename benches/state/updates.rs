//! Updates in memory: the table beside a bare hash table.
//!
//! The goal is about updates of one key by itself; both loops compute hashes, by the same function.
//! Beside it stand the same with hashes at hand in both loops, and updates as a flow's operators
//! make them: they look at 32 keys of a batch before they update them one by one, so that waits for
//! memory overlap.

use std::time::Instant;

use hashbrown::HashTable;
use highwater_state::{Hint, Table, hash_key};

use crate::{Bench, Random, Result, median, short};

const ROUNDS: usize = 9;
const UPDATES: usize = 3_000_000;
const GOAL: f64 = 1.3;
/// So many keys are looked at together, as by operators.
const AHEAD: usize = 32;

pub(crate) type Bare = HashTable<(u64, u64)>;

#[inline]
pub(crate) fn bump_bare(bare: &mut Bare, hash: u64, key: u64) {
    let entry = bare.entry(hash, |e| e.0 == key, |e| hash_key(&e.0));
    entry.or_insert((key, 0)).into_mut().1 += 1;
}

pub(crate) fn filled_bare(keys: u64) -> Bare {
    let mut bare = Bare::new();
    (0..keys).for_each(|key| bump_bare(&mut bare, hash_key(&key), key));
    bare
}

pub(crate) fn filled_table(keys: u64) -> Table<u64, u64> {
    let mut table = Table::new(Vec::new());
    (0..keys).for_each(|key| *table.update(hash_key(&key), &key, || 0) += 1);
    table
}

/// Updates keys as operators do.
fn bump_ahead(table: &mut Table<u64, u64>, keys: &[u64]) {
    let (mut hashes, mut hints) = ([0; AHEAD], [Hint::NONE; AHEAD]);
    for ((hash, hint), key) in hashes.iter_mut().zip(&mut hints).zip(keys) {
        *hash = hash_key(key);
        *hint = table.look_for(*hash);
    }
    for ((hash, hint), key) in hashes.iter().zip(&mut hints).zip(keys) {
        *hint = table.look_at(*hint, *hash, key, |count| *count);
    }
    for ((hash, hint), key) in hashes.iter().zip(&hints).zip(keys) {
        *table.update_at(*hint, *hash, key, || 0) += 1;
    }
}

/// Nanoseconds per element.
pub(crate) fn timed<T>(items: &[T], mut each: impl FnMut(&T)) -> f64 {
    let started = Instant::now();
    items.iter().for_each(&mut each);
    started.elapsed().as_nanos() as f64 / items.len() as f64
}

pub(crate) fn run(bench: &mut Bench) -> Result<()> {
    println!("\nupdates in memory, u64 -> u64, uniform keys, medians of {ROUNDS} pairs");
    println!(
        "  keys      bare ns   table ns   ratio  ahead ns   ratio   bare ns  table ns   ratio"
    );
    println!("            hashed in both loops; {AHEAD} looked at ahead       hashed before");
    for keys in bench.sizes.clone() {
        let (mut bare, mut table) = (filled_bare(keys), filled_table(keys));
        let mut random = Random(keys);
        let wanted: Vec<u64> = (0..UPDATES).map(|_| random.below(keys)).collect();
        let hashed: Vec<(u64, u64)> = wanted.iter().map(|key| (hash_key(key), *key)).collect();
        let mut times = [const { Vec::new() }; 8];
        for _ in 0..ROUNDS {
            let first = timed(&wanted, |key| bump_bare(&mut bare, hash_key(key), *key));
            let one = timed(&wanted, |key| *table.update(hash_key(key), key, || 0) += 1);
            let started = Instant::now();
            wanted.chunks(AHEAD).for_each(|keys| bump_ahead(&mut table, keys));
            let ahead = started.elapsed().as_nanos() as f64 / wanted.len() as f64;
            let third = timed(&hashed, |(hash, key)| bump_bare(&mut bare, *hash, *key));
            let fourth = timed(&hashed, |(hash, key)| *table.update(*hash, key, || 0) += 1);
            let together = [first, one, one / first, ahead, ahead / first];
            let round = together.into_iter().chain([third, fourth, fourth / third]);
            times.iter_mut().zip(round).for_each(|(times, time)| times.push(time));
        }
        let checked = wanted.iter().take(1000).all(|key| {
            let hash = hash_key(key);
            let counts = bare.find(hash, |e| e.0 == *key).map(|e| e.1).zip(table.get(hash, key));
            // The first count is the filling; the table had three rounds for two of the control's.
            counts.is_some_and(|(bare, table)| (bare - 1) * 3 == (table - 1) * 2)
        });
        if !checked {
            return Err("table and control hold different counts".into());
        }
        let [a, b, ratio, c, ahead, d, e, hashed] = times.map(median);
        let name = short(keys);
        println!(
            "  {name:<6} {a:>10.1} {b:>10.1} {ratio:>7.2} {c:>9.1} {ahead:>7.2} {d:>9.1} {e:>9.1} \
             {hashed:>7.2}"
        );
        bench.goal(
            format!("update at {name} keys, at most {GOAL}x a bare hash table"),
            format!("{ratio:.2}x ({hashed:.2}x with hashes at hand, {ahead:.2}x looked at ahead)"),
            ratio <= GOAL,
        );
    }
    Ok(())
}
