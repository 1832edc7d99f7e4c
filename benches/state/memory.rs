//! Bytes per key, as the table counts them and as the system does, each in a process of its own.

use crate::updates::{filled_bare, filled_table};
use crate::{Bench, Result, child as start, kill, resident, short};

const GOAL: f64 = 48.0;

/// Fills a table of `keys` keys and prints its bytes per key: counted, and resident.
pub(crate) fn child(side: &str, keys: u64) -> Result<()> {
    let before = resident().0;
    let per_key = |bytes: u64| bytes as f64 / keys as f64;
    let grown = || per_key(resident().0.saturating_sub(before));
    if side == "bare" {
        let bare = filled_bare(keys);
        println!("{} {}", per_key(bare.allocation_size() as u64), grown());
    } else {
        let table = filled_table(keys);
        println!("{} {}", per_key(table.memory() as u64), grown());
    }
    Ok(())
}

pub(crate) fn run(bench: &mut Bench) -> Result<()> {
    println!("\nbytes per key, u64 -> u64");
    println!("  keys      table  resident       bare  resident");
    for keys in bench.sizes.clone() {
        let measured = |side: &str| -> Result<[f64; 2]> {
            let (child, mut numbers) = start(&["memory", side, &keys.to_string()])?;
            let numbers = numbers()?;
            kill(child)?;
            Ok([numbers[0], numbers[1]])
        };
        let ([counted, resident], [bare, bare_resident]) = (measured("table")?, measured("bare")?);
        let name = short(keys);
        println!("  {name:<6} {counted:>8.1} {resident:>9.1} {bare:>10.1} {bare_resident:>9.1}");
        bench.goal(
            format!("bytes per key at {name} keys, at most {GOAL}"),
            format!("{counted:.1} counted, {resident:.1} resident"),
            counted <= GOAL && resident <= GOAL,
        );
    }
    Ok(())
}
