//! Operators of class Arrival: what each run says depends on its ticks, but nothing is lost,
//! repeated or silent.

use std::collections::BTreeMap;

use highwater::prelude::*;
use highwater::sink::channel;
use highwater::testing::{Pushed, TestDriver};
use proptest::prelude::*;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn running_totals_are_consistent_whatever_the_ticks(
        events in prop::collection::vec((0u8..5, 1i64..100), 0..200),
        ticks in 1usize..50,
        workers in 1usize..4,
    ) {
        let flow = Flow::new("running");
        let (sink, totals) = channel();
        let partitions: Vec<Vec<(u8, i64)>> = events.chunks(70).map(<[_]>::to_vec).collect();
        flow.source("in", Memory::partitions(partitions))
            .key_by(|e| &e.0)
            .running("totals", Sum::of(|e: &(u8, i64)| e.1))
            .unbounded()
            .sink("out", sink);
        let settings = Settings::in_memory().workers(workers).tick_max_events(ticks);
        let metrics = flow.spawn(settings).unwrap().wait().unwrap();
        prop_assert!(metrics.operators.iter().all(|o| o.counters.balanced()));
        let mut expected: BTreeMap<u8, i64> = BTreeMap::new();
        events.iter().for_each(|(key, value)| *expected.entry(*key).or_default() += value);
        let mut last: BTreeMap<u8, i64> = BTreeMap::new();
        for (key, total) in totals {
            let before = last.insert(key, total);
            prop_assert!(before.is_none_or(|before| before < total), "a total fell or stood still");
        }
        prop_assert_eq!(last, expected);
    }
}

#[test]
fn per_tick_sees_each_row_in_exactly_one_tick() {
    let flow = Flow::new("per tick");
    let (sink, batches) = channel();
    let partitions = (0..3).map(|p| (0..100u64).map(|i| p * 100 + i).collect()).collect();
    flow.source("in", Memory::<u64>::partitions(partitions))
        .per_tick("batches", |tick, rows| [(tick, rows)])
        .sink("out", sink);
    let settings = Settings::in_memory().workers(3).tick_max_events(7);
    flow.spawn(settings).unwrap().wait().unwrap();
    let batches: Vec<(Tick, Vec<u64>)> = batches.collect();
    assert!(batches.windows(2).all(|pair| pair[0].0 < pair[1].0), "a tick came twice");
    assert!(batches.iter().all(|(_, rows)| (1..=7).contains(&rows.len())));
    let mut rows: Vec<u64> = batches.into_iter().flat_map(|b| b.1).collect();
    rows.sort_unstable();
    assert_eq!(rows, (0..300).collect::<Vec<_>>());
}

#[test]
fn a_running_total_survives_a_crash() {
    let flow = Flow::new("crash");
    flow.source("in", Pushed::<(u8, i64)>::partitions(1))
        .key_by(|e| &e.0)
        .running("totals", Sum::of(|e: &(u8, i64)| e.1))
        .unbounded()
        .sink("out", Stdout::json());
    let mut driver = TestDriver::new(flow).unwrap();
    driver.push("in", 0, (1u8, 10i64)).unwrap();
    driver.commit().unwrap();
    driver.push("in", 0, (1u8, 5i64)).unwrap();
    driver.tick().unwrap();
    driver.crash_and_restart().unwrap();
    driver.tick().unwrap();
    let totals: Vec<(u8, i64)> = driver.outputs("out").unwrap();
    assert_eq!(totals, [(1, 10), (1, 15)]);
}

#[test]
fn a_split_sends_each_row_one_way() {
    let flow = Flow::new("split");
    let (even_sink, even) = channel();
    let (odd_sink, odd) = channel();
    let numbers = flow.source("in", Memory::of(0..10u64));
    let (evens, odds) = numbers.filter(|n| *n != 4).split(|n| n % 2 == 0);
    evens.sink("even", even_sink);
    odds.flat_map(|n| vec![n; (n % 3) as usize]).sink("odd", odd_sink);
    flow.spawn(Settings::in_memory().workers(1)).unwrap().wait().unwrap();
    assert_eq!(even.collect::<Vec<_>>(), [0, 2, 6, 8]);
    assert_eq!(odd.collect::<Vec<_>>(), [1, 5, 5, 7]);
}
