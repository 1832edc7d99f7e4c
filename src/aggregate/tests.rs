use std::fmt::Debug;

use proptest::prelude::*;

use super::*;
use crate::time::EventTime;

/// A row with its own place, so that any order of rows has the same stamps.
type Row = (u64, i64);

fn stamp_of(row: &Row) -> Stamp {
    Stamp {
        time: EventTime::from_micros(row.1 % 7),
        order: EventOrder::Event { source: 0, partition: 0, position: row.0, side: 0 },
    }
}

fn of<A: Aggregate<Row>>(aggregate: &A, rows: &[Row]) -> A::State {
    let mut state = aggregate.init();
    for row in rows {
        aggregate.add(&mut state, row, &|| stamp_of(row));
    }
    // As a commit and a restart would.
    let mut bytes = Vec::new();
    highwater_state::encode_into(&state, &mut bytes).unwrap();
    highwater_state::decode(&bytes).unwrap()
}

/// Any order and any split give what one pass gives.
fn check<A: Aggregate<Row>>(aggregate: &A, rows: &[Row], shuffled: &[Row], cut: usize)
where
    A::Output: PartialEq + Debug,
{
    let whole = of(aggregate, rows);
    let so_far = aggregate.peek(&whole);
    let expected = aggregate.finish(whole);
    assert_eq!(so_far, expected, "{}", aggregate.describe());
    let (left, right) = shuffled.split_at(cut.min(shuffled.len()));
    let mut merged = of(aggregate, left);
    aggregate.merge(&mut merged, of(aggregate, right));
    assert_eq!(aggregate.finish(merged), expected, "{}", aggregate.describe());
}

fn rows_and_a_shuffle() -> impl Strategy<Value = (Vec<Row>, Vec<Row>)> {
    prop::collection::vec(-50i64..50, 0..40)
        .prop_map(|values| values.into_iter().enumerate().map(|(i, v)| (i as u64, v)).collect())
        .prop_flat_map(|rows: Vec<Row>| (Just(rows.clone()), Just(rows).prop_shuffle()))
}

proptest! {
    #[test]
    fn differential_every_aggregate_in_any_order(
        (rows, shuffled) in rows_and_a_shuffle(), cut in 0usize..40,
    ) {
        check(&Count, &rows, &shuffled, cut);
        check(&CountDistinct::of(|r: &Row| r.1), &rows, &shuffled, cut);
        check(&Sum::of(|r: &Row| r.1), &rows, &shuffled, cut);
        check(&Sum::of(|r: &Row| r.1 as f64 * 0.1), &rows, &shuffled, cut);
        check(&Min::of(|r: &Row| r.1), &rows, &shuffled, cut);
        check(&Max::of(|r: &Row| r.1), &rows, &shuffled, cut);
        check(&TopN::of(3, |r: &Row| r.1), &rows, &shuffled, cut);
        let rows_of = Collect.map_output(|all: Vec<Row>| all.len());
        check(&(CountDistinct::of(|r: &Row| r.1), rows_of), &rows, &shuffled, cut);
        check(&LastN::of(3, Collect), &rows, &shuffled, cut);
        check(&First, &rows, &shuffled, cut);
        check(&Last, &rows, &shuffled, cut);
        check(&Collect, &rows, &shuffled, cut);
        check(&Reduce::of(|a: &Row, b: &Row| *a.max(b)), &rows, &shuffled, cut);
        check(&Fold::new(0i64, |s, r: &Row| *s += r.1, |a, b| *a += b), &rows, &shuffled, cut);
        check(&(Count, Max::of(|r: &Row| r.1)), &rows, &shuffled, cut);
        if !rows.is_empty() {
            check(&Mean::of(|r: &Row| r.1), &rows, &shuffled, cut);
            check(&Stats::of(|r: &Row| r.1), &rows, &shuffled, cut);
        }
    }

    /// Sums of halves, quarters and the like against integer arithmetic in the smallest unit.
    #[test]
    fn oracle_float_sums_are_exact(
        values in prop::collection::vec((-1_000_000i64..1_000_000, 0u32..60), 0..50),
    ) {
        let rows: Vec<(i64, u32)> = values;
        let sum = Sum::of(|r: &(i64, u32)| r.0 as f64 / (1u64 << r.1) as f64);
        let mut state = sum.init();
        let mut exact = 0i128;
        for row in &rows {
            sum.add(&mut state, row, &|| unreachable!());
            exact += i128::from(row.0) << (60 - row.1);
        }
        // i128 to f64 rounds to nearest, ties to even, and the power of two changes nothing.
        let expected = exact as f64 / (1u64 << 60) as f64;
        prop_assert_eq!(Aggregate::<(i64, u32)>::finish(&sum, state), expected);
    }
}

#[test]
fn vectors() {
    let rows: Vec<Row> = vec![(0, 3), (1, 1), (2, 3), (3, 2)];
    let top = TopN::of(2, |r: &Row| r.1);
    assert_eq!(top.finish(of(&top, &rows)), [(0, 3), (2, 3)]);
    assert_eq!(First.finish(of(&First, &rows)), Some((1, 1)));
    assert_eq!(Last.finish(of(&Last, &rows)), Some((2, 3)));
    let mean = Mean::of(|r: &Row| r.1);
    assert_eq!(Aggregate::<Row>::finish(&mean, of(&mean, &rows)), 2.25);
    let saturating = Sum::of(|_: &Row| i64::MAX);
    assert_eq!(Aggregate::<Row>::finish(&saturating, of(&saturating, &rows)), i64::MAX);
    let infinite = Sum::of(|r: &Row| if r.0 == 2 { f64::INFINITY } else { 1.0 });
    assert_eq!(Aggregate::<Row>::finish(&infinite, of(&infinite, &rows)), f64::INFINITY);
}
