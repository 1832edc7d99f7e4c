//! B2 on Renoir: tumbling windows of 1 s, count and sum of 100,000 keys.
//!
//! `renoir-peer EVENTS WORKERS group|key WARM`. With `group`, keys go through an exchange, as
//! `group_by` does; with `key` they stay where they are, as one may with one task in all.

use std::sync::{Arc, Mutex};
use std::time::Instant;

use renoir::operator::window::EventTimeWindow;
use renoir::prelude::*;
use serde::{Deserialize, Serialize};

/// As Highwater has it here.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const KEYS: u64 = 100_000;
const WINDOW: i64 = 1_000_000;
const BOUND: i64 = 100_000;

#[derive(Clone, Copy, Serialize, Deserialize)]
struct Event {
    key: u64,
    value: u64,
    time: i64,
}

/// The state and the result of one window.
#[derive(Clone, Copy, Default, Serialize, Deserialize)]
struct Sums {
    start: i64,
    count: u64,
    sum: u64,
}

#[derive(Clone, Copy, Default)]
struct Check {
    results: u64,
    sum: u64,
}

/// Adds what it is given, and hands it over when its task ends.
struct Adder {
    check: Check,
    total: Arc<Mutex<Check>>,
}

impl Clone for Adder {
    fn clone(&self) -> Self {
        Adder { check: Check::default(), total: self.total.clone() }
    }
}

impl Adder {
    fn add(&mut self, key: u64, sums: Sums) {
        self.check.results += 1;
        let mixed = splitmix64(key ^ (sums.start as u64).rotate_left(32)).wrapping_mul(sums.count);
        self.check.sum = self.check.sum.wrapping_add(mixed ^ sums.sum.rotate_left(17));
    }
}

impl Drop for Adder {
    fn drop(&mut self) {
        if let Ok(mut total) = self.total.lock() {
            total.results += self.check.results;
            total.sum = total.sum.wrapping_add(self.check.sum);
        }
    }
}

fn splitmix64(index: u64) -> u64 {
    let mut z = index.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

fn event(index: u64) -> Event {
    let random = splitmix64(index);
    Event { key: (random >> 32) % KEYS, value: random & 0xffff, time: index as i64 }
}

fn start_of(time: i64) -> i64 {
    time.div_euclid(WINDOW) * WINDOW
}

fn run(events: u64, workers: u64, exchange: bool) -> (f64, Check) {
    let config = RuntimeConfig::local(workers).unwrap_or_else(|error| fail(&error.to_string()));
    let context = StreamContext::new(config);
    let total = Arc::new(Mutex::new(Check::default()));
    let mut adder = Adder { check: Check::default(), total: total.clone() };
    let mut promised = i64::MIN;
    // Windows of this engine begin with the first event of their key. A time that is cut to its
    // window's start makes them begin where everybody's do. Watermarks are cut as well: each goes
    // through the windows of all keys, so the fewer, the better.
    let stream = context
        .stream_par_iter(move |id, workers| (id..events).step_by(workers as usize).map(event))
        .batch_mode(BatchMode::fixed(4_096))
        .add_timestamps(
            |event| start_of(event.time),
            move |event, _| {
                let watermark = start_of(event.time - BOUND);
                let rises = watermark > promised;
                promised = promised.max(watermark);
                rises.then_some(watermark)
            },
        );
    let fold = |sums: &mut Sums, event: &Event| {
        sums.start = start_of(event.time);
        sums.count += 1;
        sums.sum += event.value;
    };
    let windows = EventTimeWindow::tumbling(WINDOW);
    if exchange {
        let sums = stream.group_by(|e| e.key).window(windows).fold(Sums::default(), fold);
        sums.for_each(move |(key, sums)| adder.add(key, sums));
    } else {
        let sums = stream.key_by(|e| e.key).window(windows).fold(Sums::default(), fold);
        sums.for_each(move |(key, sums)| adder.add(key, sums));
    }
    let started = Instant::now();
    context.execute_blocking();
    let seconds = started.elapsed().as_secs_f64();
    let check = total.lock().map_or(Check::default(), |total| *total);
    (seconds, check)
}

fn fail(why: &str) -> ! {
    eprintln!("renoir-peer: {why}");
    std::process::exit(2)
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [events, workers, kind, warm] = &arguments[..] else {
        fail("usage: EVENTS WORKERS group|key WARM");
    };
    let number = |text: &str| text.parse().unwrap_or_else(|_| fail("not a number"));
    let (events, workers, warm) = (number(events), number(workers), number(warm));
    if warm > 0 {
        run(warm, workers, kind == "group");
    }
    let (seconds, Check { results, sum }) = run(events, workers, kind == "group");
    println!("version=0.6.0");
    println!("events={events} seconds={seconds:.6} results={results} sum={sum} late=0");
}
