//! Updates in memory: the table beside a bare hash table.
//!
//! Both are handed the same hashes. In the first comparison both compute them in the loop, by
//! the same function; in the second neither does, as in a flow, where the hash of a key travels
//! with its row.

use std::time::Instant;

use hashbrown::HashTable;
use highwater_state::{Table, hash_key};

use crate::{Bench, Random, Result, median, short};

const ROUNDS: usize = 9;
const UPDATES: usize = 3_000_000;
const GOAL: f64 = 1.3;

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

/// Nanoseconds per element.
pub(crate) fn timed<T>(items: &[T], mut each: impl FnMut(&T)) -> f64 {
    let started = Instant::now();
    items.iter().for_each(&mut each);
    started.elapsed().as_nanos() as f64 / items.len() as f64
}

pub(crate) fn run(bench: &mut Bench) -> Result<()> {
    println!("\nupdates in memory, u64 -> u64, uniform keys, medians of {ROUNDS} pairs");
    println!("  keys      bare ns   table ns   ratio      bare ns   table ns   ratio");
    println!("            hashed in both loops            hashed before");
    for keys in bench.sizes.clone() {
        let (mut bare, mut table) = (filled_bare(keys), filled_table(keys));
        let mut random = Random(keys);
        let wanted: Vec<u64> = (0..UPDATES).map(|_| random.below(keys)).collect();
        let hashed: Vec<(u64, u64)> = wanted.iter().map(|key| (hash_key(key), *key)).collect();
        let mut times = [const { Vec::new() }; 6];
        for _ in 0..ROUNDS {
            let first = timed(&wanted, |key| bump_bare(&mut bare, hash_key(key), *key));
            let second = timed(&wanted, |key| *table.update(hash_key(key), key, || 0) += 1);
            let third = timed(&hashed, |(hash, key)| bump_bare(&mut bare, *hash, *key));
            let fourth = timed(&hashed, |(hash, key)| *table.update(*hash, key, || 0) += 1);
            let round = [first, second, second / first, third, fourth, fourth / third];
            times.iter_mut().zip(round).for_each(|(times, time)| times.push(time));
        }
        let checked = wanted.iter().take(1000).all(|key| {
            let hash = hash_key(key);
            let bare = bare.find(hash, |e| e.0 == *key).map(|e| e.1);
            bare == table.get(hash, key).copied()
        });
        if !checked {
            return Err("table and control hold different counts".into());
        }
        let [a, b, ratio, c, d, hashed_ratio] = times.map(median);
        let name = short(keys);
        println!(
            "  {name:<6} {a:>10.1} {b:>10.1} {ratio:>7.2} {c:>12.1} {d:>10.1} {hashed_ratio:>7.2}"
        );
        bench.goal(
            format!("update at {name} keys, at most {GOAL}x a bare hash table"),
            format!("{ratio:.2}x ({hashed_ratio:.2}x with hashes at hand)"),
            ratio <= GOAL,
        );
    }
    Ok(())
}
