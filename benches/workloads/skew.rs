//! B13: keys of very different weight, on two workers.

use std::sync::Arc;

use highwater::EventTime;
use highwater::source::Generator;

use crate::events::{Event, KEYS, splitmix64};
use crate::report::{Bench, Contest, Lap, Rung, run};
use crate::variants::{bare_loop, counting, within_bound};

/// Keys are drawn beforehand, so that all loads cost the same to generate.
const DRAWN: usize = 1 << 22;

type Keys = Arc<Vec<u32>>;

/// A number in [0, 1).
fn fraction(index: u64) -> f64 {
    (splitmix64(index) >> 11) as f64 / (1u64 << 53) as f64
}

fn drawn(key: impl Fn(u64) -> u64) -> Keys {
    // Which keys are heavy must not depend on their order.
    Arc::new((0..DRAWN as u64).map(|i| (key(i).wrapping_mul(7919) % KEYS) as u32).collect())
}

fn uniform() -> Keys {
    drawn(|index| splitmix64(index) % KEYS)
}

fn zipf(exponent: f64) -> Keys {
    let mut sums = Vec::with_capacity(KEYS as usize);
    let mut sum = 0.0;
    for rank in 1..=KEYS {
        sum += (rank as f64).powf(-exponent);
        sums.push(sum);
    }
    drawn(|index| sums.partition_point(|below| *below <= fraction(index) * sum) as u64)
}

fn one_heavy() -> Keys {
    drawn(|index| match splitmix64(index) {
        random if random & 1 == 0 => 0,
        random => (random >> 32) % KEYS,
    })
}

fn event(keys: &[u32], partition: u32, index: u64) -> Event {
    let index = index * 2 + u64::from(partition);
    Event {
        key: u64::from(keys[index as usize % DRAWN]),
        value: splitmix64(index) & 0xffff,
        time: EventTime::from_micros(index as i64),
    }
}

fn flow(keys: &Keys, events: u64, workers: usize, rung: Rung) -> Lap {
    let keys = keys.clone();
    let source = Generator::new(2, Some(events / 2), move |p, index| event(&keys, p, index));
    let (flow, total) = counting(source, within_bound());
    run(flow, &total, events / 2 * 2, rung, workers)
}

pub(crate) fn bench(bench: &mut Bench) {
    let events = bench.events;
    let loads = [
        ("uniform", "uniform, 1 worker", uniform()),
        ("zipf 1.2", "zipf 1.2, 1 worker", zipf(1.2)),
        ("one key with half of the events", "one heavy key, 1 worker", one_heavy()),
    ];
    let mut contest = Contest::new("B13: skewed keys, 2 workers");
    for (name, single, keys) in &loads {
        let all = move || (0..events / 2).flat_map(|i| [event(keys, 0, i), event(keys, 1, i)]);
        let mark = (*name == "uniform").then_some("uniform");
        contest.control("loop", move || bare_loop(all()));
        contest.flow(Rung::Volatile, mark, name, move |rung| flow(keys, events, 2, rung));
        contest.volatile(single, move |rung| flow(keys, events, 1, rung));
        contest.durable(Rung::R2, name, move |rung| flow(keys, events, 2, rung));
        contest.another_job();
    }
    let outcome = contest.run(bench.rounds);
    for name in ["zipf 1.2", "one key with half of the events"] {
        let share = outcome.share(name, "R1", "uniform");
        bench.at_least(&format!("B13: {name}, share of uniform"), share, 0.8);
    }
}
