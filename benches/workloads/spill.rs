//! B9: a running count of more keys than the memory budget holds, by a law of Zipf.
//!
//! Keys are drawn beforehand, into a file that other engines can read too: a `u32` to an event,
//! little-endian. A key's last count is compared, of one key in 64.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use highwater::EventTime;

use crate::events::{Event, splitmix64};
use crate::report::{Bench, Contest, Lap, Rung, or_exit};
use crate::running::{Make, bare_loop, flow_of, get_and_put, sampled};

/// Keys to draw from.
const KEYS: u64 = 10_000_000;
/// Ten million events touch 2.2 million keys, which would take about four times as much.
const BUDGET: u64 = 32 << 20;

/// Where the keys of so many events are. They are drawn if they are not there.
pub(crate) fn path_of(events: u64) -> PathBuf {
    let path = std::env::temp_dir().join(format!("highwater-zipf-{events}.bin"));
    if !path.exists() {
        let part = path.with_extension("part");
        let bytes: Vec<u8> = drawn(events).flat_map(u32::to_le_bytes).collect();
        or_exit(std::fs::write(&part, bytes));
        or_exit(std::fs::rename(part, &path));
    }
    path
}

fn drawn(events: u64) -> impl Iterator<Item = u32> {
    let mut sum = 0.0;
    let weight = |rank: u64| {
        sum += (rank as f64).powf(-0.99);
        sum
    };
    let sums: Vec<f64> = (1..=KEYS).map(weight).collect();
    (0..events).map(move |index| {
        let at = (splitmix64(index) >> 11) as f64 / (1u64 << 53) as f64 * sum;
        let rank = sums.partition_point(|below| *below <= at) as u64;
        // Which keys are heavy must not depend on their order.
        (rank.wrapping_mul(7_654_321) % KEYS) as u32
    })
}

fn read(path: &Path) -> Arc<Vec<u32>> {
    let bytes = or_exit(std::fs::read(path));
    Arc::new(bytes.as_chunks().0.iter().map(|four| u32::from_le_bytes(*four)).collect())
}

fn events_of(keys: Arc<Vec<u32>>) -> impl Make {
    move |index| Event {
        key: u64::from(keys[index as usize]),
        value: 0,
        time: EventTime::from_micros(index as i64),
    }
}

pub(crate) fn flow(events: u64) -> Lap {
    flow_of(events, events_of(read(&path_of(events))), Rung::R2, Some(BUDGET))
}

pub(crate) fn bench(bench: &mut Bench) {
    let events = bench.events;
    let make = events_of(read(&path_of(events)));
    let mut contest = Contest::new("B9: running count, zipf 0.99, state of four times the budget");
    contest.control("bare loop", || bare_loop(events, make.clone()));
    contest.control("RocksDB get+put", || get_and_put(events, sampled(KEYS), make.clone()));
    contest.durable(Rung::R2, "1 worker, 32 MiB", |_| flow(events));
    contest.durable(Rung::R2, "1 worker, all in memory", |rung| {
        flow_of(events, make.clone(), rung, None)
    });
    contest.run(bench.rounds.min(3));
}
