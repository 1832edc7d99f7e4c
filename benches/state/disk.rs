//! What the disk can do: every figure of durable state is to be read beside it.

use std::fs::File;
use std::io::Write;
use std::time::Instant;

use hdrhistogram::Histogram;

use crate::{Bench, Result, mb};

const SEQUENTIAL: u64 = 512 << 20;
const APPEND: usize = 24 << 10;
const APPENDS: usize = 300;

pub(crate) fn controls(bench: &Bench) -> Result<()> {
    let path = bench.place("control");
    let block = vec![0x5a_u8; 1 << 20];
    let mut file = File::create(&path)?;
    let started = Instant::now();
    for _ in 0..SEQUENTIAL / block.len() as u64 {
        file.write_all(&block)?;
    }
    file.sync_all()?;
    let rate = mb(SEQUENTIAL) / started.elapsed().as_secs_f64();
    let mut micros = Histogram::<u64>::new(3)?;
    let mut file = File::create(&path)?;
    for _ in 0..APPENDS {
        file.write_all(&block[..APPEND])?;
        let started = Instant::now();
        file.sync_data()?;
        micros.record(started.elapsed().as_micros() as u64)?;
    }
    std::fs::remove_file(&path)?;
    println!("controls in {}", bench.dir.path().display());
    println!("  sequential write with fsync   {rate:>8.0} MB/s");
    println!(
        "  fdatasync of a 24 KiB append  {:>8.2} ms median, {:.2} ms p99",
        micros.value_at_quantile(0.5) as f64 / 1e3,
        micros.value_at_quantile(0.99) as f64 / 1e3,
    );
    let cores = std::thread::available_parallelism()?;
    println!("  cores                         {cores:>8}");
    println!("  load of the machine before    {:>8}", load());
    Ok(())
}

/// How many threads wanted to run over the last minute, ours and others'.
pub(crate) fn load() -> String {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').next().unwrap_or_default().to_owned()
}
