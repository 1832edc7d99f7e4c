//! Connected streams: one keyed stream of the rows of both, in an order that does not depend on
//! how they came.

use highwater::prelude::*;
use highwater::sink::channel;
use highwater::testing::{Pushed, TestDriver};

/// A row: key, time, and a number by which it is told from its like.
type Row = (u8, i64, u32);

fn time_of(row: &Row) -> EventTime {
    EventTime::from_micros(row.1)
}

fn key_of(row: &Row) -> &u8 {
    &row.0
}

/// Says in which order events come.
struct InOrder;

type Both = Either<Row, Row>;

impl Process<u8, Both> for InOrder {
    type State = u32;
    type Output = (u8, u32, i64, Both);

    fn event(&self, cx: &mut ProcessCx<'_, u32, Self::Output>, key: &u8, event: Both) {
        let number = cx.get().copied().unwrap_or_default();
        *cx.state() = Some(number + 1);
        let time = cx.time().as_micros();
        cx.emit((*key, number, time, event));
    }
}

fn rows(first: u32) -> Vec<Vec<Row>> {
    let row = |n: u32| ((n % 3) as u8, i64::from(n / 7), first + n);
    let (even, odd) = (0..200).map(row).partition(|row| row.2 % 2 == 0);
    vec![even, odd]
}

/// The rows of each key in the order in which they came.
fn run(itself: bool, ticks: usize, workers: usize) -> Vec<(u8, u32, i64, Both)> {
    let flow = Flow::new("connect");
    let timed = |id, first| {
        let source = flow.source(id, Memory::partitions(rows(first)));
        source.event_time(time_of, Disorder::ascending()).key_by(key_of)
    };
    let left = timed("left", 0);
    let right = if itself { left.clone() } else { timed("right", 1000) };
    let (sink, out) = channel();
    let both = left.connect(&right);
    both.process("in-order", InOrder).unbounded().drop_late("rises").sink("out", sink);
    let settings = Settings::in_memory().workers(workers).tick_max_events(ticks);
    let metrics = flow.spawn(settings).unwrap().wait().unwrap();
    for operator in &metrics.operators {
        assert!(operator.counters.balanced(), "{}: {:?}", operator.id, operator.counters);
    }
    let mut out: Vec<_> = out.into_iter().collect();
    out.sort();
    out
}

/// By key, time, source, partition and position; then left before right.
fn expected(itself: bool) -> Vec<(u8, u32, i64, Both)> {
    let mut all = Vec::new();
    let sides = if itself { [(0, 0), (0, 0)] } else { [(0, 0), (1, 1000)] };
    for (side, (source, first)) in sides.into_iter().enumerate() {
        for (partition, rows) in rows(first).into_iter().enumerate() {
            for (position, row) in rows.into_iter().enumerate() {
                let both = if side == 0 { Either::Left(row) } else { Either::Right(row) };
                all.push(((row.0, row.1, source, partition, position, side), both));
            }
        }
    }
    all.sort();
    let mut numbers = [0; 3];
    let number = |(place, both): (_, Both)| {
        let (key, time, ..): (u8, i64, i32, usize, usize, usize) = place;
        numbers[usize::from(key)] += 1;
        (key, numbers[usize::from(key)] - 1, time, both)
    };
    all.into_iter().map(number).collect()
}

#[test]
fn rows_of_both_sides_come_in_one_order() {
    for itself in [false, true] {
        let expected = expected(itself);
        for (ticks, workers) in [(1, 1), (13, 2), (1_000, 3), (50, 3), (usize::MAX, 1)] {
            let found = run(itself, ticks, workers);
            assert_eq!(found, expected, "{itself}, {ticks} a tick, {workers} workers");
        }
    }
}

/// Three sides, of which two are the same: each stands before those that were connected later.
#[test]
fn sides_of_sides_are_told_apart() {
    let flow = Flow::new("three");
    let source = flow.source("rows", Pushed::<Row>::partitions(1));
    let keyed = source.event_time(time_of, Disorder::ascending()).key_by(key_of);
    let collect =
        |both: &Keyed<_, _, Timed>| both.window("all", Tumbling::of(micros(10))).aggregate(Collect);
    let inner = keyed.connect(&keyed);
    let sides = |row: Either<Both, Both>| match row {
        Either::Left(Either::Left(_)) => 0,
        Either::Left(Either::Right(_)) => 1,
        Either::Right(Either::Left(_)) => 2,
        Either::Right(Either::Right(_)) => 3,
    };
    collect(&inner.connect(&inner))
        .drop_late("rises")
        .map(move |r| r.value.into_iter().map(sides).collect::<Vec<u8>>())
        .sink("out", Stdout::json());
    let mut driver = TestDriver::new(flow).unwrap();
    driver.push::<Row>("rows", 0, (1, 2, 3)).unwrap();
    driver.push::<Row>("rows", 0, (1, 2, 4)).unwrap();
    driver.finish::<Row>("rows").unwrap();
    assert_eq!(driver.outputs::<Vec<u8>>("out").unwrap(), [[0, 1, 2, 3, 0, 1, 2, 3]]);
}

/// The side that is behind holds the watermark of both.
#[test]
fn the_watermark_is_the_minimum_of_both_sides() {
    let flow = Flow::new("minimum");
    let keyed = |id| {
        let source = flow.source(id, Pushed::<Row>::partitions(1));
        source.event_time(time_of, Disorder::ascending()).key_by(key_of)
    };
    let (left, right) = (keyed("left"), keyed("right"));
    let both = left.connect(&right).window("both", Tumbling::of(micros(10))).aggregate(Count);
    both.drop_late("rises").map(|r| r.value).sink("out", Stdout::json());
    let mut driver = TestDriver::new(flow).unwrap();
    driver.push::<Row>("left", 0, (1, 5, 1)).unwrap();
    driver.push::<Row>("left", 0, (1, 25, 2)).unwrap();
    driver.tick().unwrap();
    assert_eq!(driver.watermark("both"), Watermark::Unknown);
    driver.push::<Row>("right", 0, (1, 9, 3)).unwrap();
    driver.tick().unwrap();
    assert_eq!(driver.watermark("both"), Watermark::At(EventTime::from_micros(9)));
    driver.push::<Row>("right", 0, (1, 10, 4)).unwrap();
    driver.tick().unwrap();
    assert_eq!(driver.outputs::<u64>("out").unwrap(), [2]);
}
