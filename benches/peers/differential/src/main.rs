//! B2 on differential dataflow: tumbling windows of 1 s, count and sum of 100,000 keys.
//!
//! `differential-peer EVENTS WARM`. An event changes the collection of (key, window) by (1, value),
//! at the window's time, and what has been added up of a window comes when its time has passed.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Instant;

use differential_dataflow::input::Input;

/// As Highwater has it here.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const KEYS: u64 = 100_000;
const WINDOW: u64 = 1_000_000;
const BOUND: u64 = 100_000;
/// So many events are given before the worker does what there is to do.
const AT_ONCE: u64 = 4_096;

#[derive(Clone, Copy, Default)]
struct Check {
    results: u64,
    sum: u64,
}

impl Check {
    fn add(&mut self, key: u64, start: u64, count: u64, sum: u64) {
        self.results += 1;
        let mixed = splitmix64(key ^ start.rotate_left(32)).wrapping_mul(count);
        self.sum = self.sum.wrapping_add(mixed ^ sum.rotate_left(17));
    }
}

fn splitmix64(index: u64) -> u64 {
    let mut z = index.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

fn run(events: u64) -> (f64, Check) {
    let started = Instant::now();
    let check = timely::execute_directly(move |worker| {
        let check = Rc::new(Cell::new(Check::default()));
        let total = check.clone();
        let (mut input, probe) = worker.dataflow::<u64, _, _>(|scope| {
            let (input, events) = scope.new_collection::<(u64, u64), (i64, i64)>();
            let sums = events.consolidate().inspect(move |((key, start), _, (count, sum))| {
                let mut check = total.get();
                check.add(*key, *start, *count as u64, *sum as u64);
                total.set(check);
            });
            (input, sums.probe().0)
        });
        for index in 0..events {
            let random = splitmix64(index);
            let start = index / WINDOW * WINDOW;
            let change = (1, (random & 0xffff) as i64);
            input.update_at(((random >> 32) % KEYS, start), start, change);
            if (index + 1) % AT_ONCE == 0 {
                let closed = index.saturating_sub(BOUND) / WINDOW * WINDOW;
                if closed > *input.time() {
                    input.advance_to(closed);
                }
                input.flush();
                worker.step();
            }
        }
        drop(input);
        while !probe.done() {
            worker.step();
        }
        check.get()
    });
    (started.elapsed().as_secs_f64(), check)
}

fn main() {
    let arguments: Vec<u64> = std::env::args().skip(1).filter_map(|a| a.parse().ok()).collect();
    let [events, warm] = arguments[..] else {
        eprintln!("usage: differential-peer EVENTS WARM");
        std::process::exit(2);
    };
    if warm > 0 {
        run(warm);
    }
    let (seconds, Check { results, sum }) = run(events);
    println!("events={events} seconds={seconds:.6} results={results} sum={sum} late=0");
}
