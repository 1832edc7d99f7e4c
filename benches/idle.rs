//! What a flow costs while nothing happens: CPU time over ten seconds with an open, silent source.
//!
//! `cargo bench --bench idle [-- SECONDS]`

#[path = "idle/measure.rs"]
mod measure;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let seconds = std::env::args().filter_map(|a| a.parse().ok()).next().unwrap_or(10);
    let idle = measure::measure(seconds)?;
    println!(
        "idle for {:.1} s: {:.3} ms of CPU, {:.4} % of a core, {} ticks",
        idle.time.as_secs_f64(),
        idle.cpu.as_secs_f64() * 1e3,
        idle.percent(),
        idle.ticks,
    );
    Ok(())
}
