//! What a state directory holds, as of its last commit.

use std::path::Path;

use highwater::{Error, LastCommit};

/// Prints the last commit.
pub fn ls(dir: &Path) -> Result<(), Error> {
    let commit = LastCommit::read(dir)?;
    let state = if commit.finished { ", finished" } else { "" };
    println!("flow `{}`, last commit at tick {}{state}", commit.flow, commit.tick);
    println!("  commits {}, starts {}, clock {}", commit.commits, commit.starts, commit.clock);
    println!("\n  partition                                position   state");
    for partition in &commit.partitions {
        let state = if partition.ended { "ended" } else { "open" };
        let name = format!("{}: {}", partition.source, partition.name);
        println!("  {name:<40} {:>8}   {state}", partition.position);
    }
    println!("\n  operator                        entries  watermark");
    for operator in &commit.operators {
        println!("  {:<30} {:>8}  {}", operator.id, operator.entries, operator.watermark);
        for (partition, promise) in &operator.promises {
            println!("      {partition:<36} promises {promise}");
        }
    }
    Ok(())
}
