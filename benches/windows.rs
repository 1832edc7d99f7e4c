//! What overlapping windows cost beside windows that do not overlap: hopping 60 s / 1 s and
//! cumulating 60 s by 1 s against tumbling. Results are made and thrown away.
//!
//! `cargo bench --bench windows [-- EVENTS [KEYS]]`

use std::time::{Duration, Instant};

use highwater::prelude::*;
use highwater::source::Generator;

const ROUNDS: usize = 5;
/// In event time.
const EVENTS_PER_SECOND: i64 = 100_000;

#[derive(Clone, Copy)]
struct Event {
    key: u64,
    time: EventTime,
}

fn splitmix64(index: u64) -> u64 {
    let mut z = index.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

fn run<W: WindowKind<Event>>(events: u64, keys: u64, windows: W) -> (f64, u64) {
    let started = Instant::now();
    let event = move |index: u64| Event {
        key: (splitmix64(index) >> 32) % keys,
        time: EventTime::from_micros(index as i64 * 1_000_000 / EVENTS_PER_SECOND),
    };
    let (sink, nothing) = highwater::sink::channel();
    let flow = Flow::new("windows");
    flow.source("events", Generator::new(1, Some(events), move |_, index| event(index)))
        .event_time(|e| e.time, Disorder::at_most(millis(100)))
        .key_by(|e| &e.key)
        .window("counts", windows)
        .aggregate(Count)
        .drop_late("there are none")
        .filter(|_| false)
        .sink("nothing", sink);
    let settings = Settings::in_memory().workers(1).commit_interval(Duration::from_secs(3600));
    let finished = flow.spawn(settings).and_then(highwater::Handle::wait);
    assert_eq!(nothing.count(), 0);
    match finished {
        Ok(metrics) => {
            let results = metrics.operator("counts").map_or(0, |o| o.counters.events_out);
            (started.elapsed().as_secs_f64(), results)
        }
        Err(error) => {
            eprintln!("the flow failed: {error}");
            std::process::exit(1);
        }
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn main() {
    let mut numbers = std::env::args().skip(1).filter_map(|a| a.parse::<u64>().ok());
    let events = numbers.next().unwrap_or(10_000_000);
    let keys = numbers.next().unwrap_or(1_000);
    let seconds_covered = events as i64 / EVENTS_PER_SECOND;
    println!(
        "{events} events over {seconds_covered} s of event time, {keys} keys, medians of {ROUNDS}"
    );
    let (minute, second) = (seconds(60), seconds(1));
    let mut times = [const { Vec::new() }; 4];
    let mut results = [0; 4];
    for _ in 0..ROUNDS {
        let all = [
            run(events, keys, Tumbling::of(minute)),
            run(events, keys, Tumbling::of(second)),
            run(events, keys, Hopping::of(minute, second)),
            run(events, keys, Cumulate::of(second, minute)),
        ];
        for (index, (time, count)) in all.into_iter().enumerate() {
            times[index].push(time);
            results[index] = count;
        }
    }
    let base = median(times[0].clone());
    for (index, name) in
        ["tumbling 60 s", "tumbling 1 s", "hopping 60 s / 1 s", "cumulating 60 s by 1 s"]
            .into_iter()
            .enumerate()
    {
        let time = median(times[index].clone());
        println!(
            "  {name:<24} {:>7.2} M events/s  {:>6.1} % of tumbling 60 s  {:>9} results",
            events as f64 / time / 1e6,
            base / time * 100.0,
            results[index],
        );
    }
}
