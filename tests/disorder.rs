//! Whole batches of rows whose windows alternate: each row reaches its windows once, in its turn.

use std::collections::BTreeMap;

use highwater::prelude::*;
use highwater::source::Generator;

const EVENTS: u64 = 30_000;
const SIZE: i64 = 1_000;

/// Index, key and time.
type Event = (u64, u64, i64);

/// An event whose time lies anywhere in so many windows.
fn event(index: u64, windows: i64) -> Event {
    let random = index.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29);
    let random = random.wrapping_mul(0xbf58_476d_1ce4_e5b9) >> 16;
    (index, random % 50, (random >> 8) as i64 % (windows * SIZE))
}

/// By key and start, what the rows of a window add up to.
fn run<W: WindowKind<Event>, A>(windows: i64, kind: W, aggregate: A) -> BTreeMap<(u64, i64), u64>
where
    A: Aggregate<Event, Output = u64>,
{
    let flow = Flow::new("disorder");
    let (sink, out) = highwater::sink::channel();
    flow.source("events", Generator::new(1, Some(EVENTS), move |_, i| event(i, windows)))
        .event_time(|e| EventTime::from_micros(e.2), Disorder::at_most(micros(windows * SIZE)))
        .key_by(|e| &e.1)
        .window("windows", kind)
        .aggregate(aggregate)
        .drop_late("the bound holds all of them")
        .map(|row| ((row.key, row.window.start.as_micros()), row.value))
        .sink("out", sink);
    flow.run(Settings::in_memory()).unwrap();
    let rows: Vec<((u64, i64), u64)> = out.collect();
    let count = rows.len();
    let map: BTreeMap<(u64, i64), u64> = rows.into_iter().collect();
    assert_eq!(map.len(), count, "a window has one result");
    map
}

/// Depends on the order of rows.
fn mixed(before: u64, index: u64) -> u64 {
    before.wrapping_mul(31).wrapping_add(index + 1)
}

#[test]
fn rows_of_tumbling_windows_by_turns_are_added_in_their_order() {
    // Two tables at a time, about as many as are told apart at once, and more.
    for windows in [2, 8, 9, 40, 3_000] {
        let fold = Fold::new(0, |h, e: &Event| *h = mixed(*h, e.0), |_, _| panic!("one worker"));
        let found = run(windows, Tumbling::of(micros(SIZE)), fold);
        let mut expected = BTreeMap::new();
        for (index, key, time) in (0..EVENTS).map(|index| event(index, windows)) {
            let sum = expected.entry((key, time / SIZE * SIZE)).or_insert(0);
            *sum = mixed(*sum, index);
        }
        assert_eq!(found, expected, "{windows} windows");
    }
}

#[test]
fn rows_of_slices_by_turns_count_in_all_of_their_windows() {
    for (windows, slide) in [(2, 500), (9, 250), (40, 300), (500, 1_000)] {
        let found = run(windows, Hopping::of(micros(SIZE), micros(slide)), Count);
        let mut expected = BTreeMap::new();
        for (_, key, time) in (0..EVENTS).map(|index| event(index, windows)) {
            let last = time.div_euclid(slide) * slide;
            let starts = (0..).map(|back| last - back * slide);
            for start in starts.take_while(|start| start + SIZE > time) {
                *expected.entry((key, start)).or_insert(0) += 1;
            }
        }
        assert_eq!(found, expected, "{windows} windows, one every {slide}");
    }
}
