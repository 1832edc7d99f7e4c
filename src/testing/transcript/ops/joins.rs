//! Joins of the left and the right source.

use serde::Deserialize;

use super::super::flow::Building;
use super::super::value::{Row, SpanText, Value};
use super::name;
use crate::event::Late;
use crate::flow::Joined;
use crate::keyed::Either;
use crate::window::{Tumbling, WindowResult};

/// Which rows come out.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(in crate::testing::transcript) enum JoinText {
    #[default]
    Inner,
    Left,
    Right,
    Full,
    Semi,
    Anti,
}

/// A condition on the values of both sides.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(in crate::testing::transcript) enum On {
    #[default]
    Always,
    Equal,
    Less,
}

impl On {
    fn holds(self, left: &Row, right: &Row) -> bool {
        match self {
            On::Always => true,
            On::Equal => left.value == right.value,
            On::Less => left.value.number() < right.value.number(),
        }
    }
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::testing::transcript) struct IntervalJoinText {
    id: Option<String>,
    #[serde(default)]
    kind: JoinText,
    lower: SpanText,
    upper: SpanText,
    #[serde(default)]
    on: On,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::testing::transcript) struct WindowJoinText {
    id: Option<String>,
    #[serde(default)]
    kind: JoinText,
    size: SpanText,
    #[serde(default)]
    on: On,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::testing::transcript) struct CogroupText {
    id: Option<String>,
    size: SpanText,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::testing::transcript) struct AsOfText {
    id: Option<String>,
    #[serde(default)]
    kind: JoinText,
    within: Option<SpanText>,
}

/// A pair of values. The row's time is written by the engine.
fn pair(left: Option<&Row>, right: Option<&Row>) -> Row {
    let number = |row: Option<&Row>| row.map(|row| row.value.number());
    let key = left.or(right).map(|row| row.key.clone()).unwrap_or_default();
    let time = left.or(right).map(|row| row.time).unwrap_or_default();
    Row { key, time, value: Value::Pair(number(left), number(right)), window: None, pane: None }
}

fn one_side(late: Late<Either<Row, Row>>) -> Late<Row> {
    let Late { row, time, window, late_by, reason, partition, position } = late;
    let (Either::Left(row) | Either::Right(row)) = row;
    Late { row, time, window, late_by, reason, partition, position }
}

fn go_on(building: &mut Building, id: &str, joined: &Joined<Row, Row, Row>) {
    building.hear_late(id, joined.late().map(one_side));
    building.go_on((**joined).clone());
}

impl IntervalJoinText {
    pub(super) fn add(&self, place: usize, building: &mut Building) -> Result<(), String> {
        let (left, right) = building.both()?;
        let (left, right) = (left.key_by(|row| &row.key), right.key_by(|row| &row.key));
        let id = name(&self.id, "interval_join", place);
        let (lower, upper) = (building.unit.span(self.lower), building.unit.span(self.upper));
        let on = self.on;
        let join = left.join(&right).interval(&id, lower, upper);
        let join = join.on(move |l: &Row, r: &Row| on.holds(l, r));
        let joined = match self.kind {
            JoinText::Inner => join.inner(|_, l, r| pair(Some(l), Some(r))),
            JoinText::Left => join.left(|_, l, r| pair(Some(l), r)),
            JoinText::Right => join.right(|_, l, r| pair(l, Some(r))),
            JoinText::Full => join.full(|_, l, r| pair(l, r)),
            JoinText::Semi => join.semi(),
            JoinText::Anti => join.anti(),
        };
        go_on(building, &id, &joined);
        Ok(())
    }
}

impl WindowJoinText {
    pub(super) fn add(&self, place: usize, building: &mut Building) -> Result<(), String> {
        let (left, right) = building.both()?;
        let (left, right) = (left.key_by(|row| &row.key), right.key_by(|row| &row.key));
        let id = name(&self.id, "window_join", place);
        let on = self.on;
        let windows = Tumbling::of(building.unit.span(self.size));
        let join = left.join(&right).window(&id, windows);
        let join = join.on(move |l: &Row, r: &Row| on.holds(l, r));
        let joined = match self.kind {
            JoinText::Inner => join.inner(|l, r| pair(Some(l), Some(r))),
            JoinText::Left => join.left(|l, r| pair(Some(l), r)),
            JoinText::Right => join.right(|l, r| pair(l, Some(r))),
            JoinText::Full => join.full(pair),
            JoinText::Semi | JoinText::Anti => {
                return Err("a window join is inner, left, right or full".to_owned());
            }
        };
        building.hear_late(&id, joined.late().map(one_side));
        building.go_on(joined.map(|result: WindowResult<String, Row>| Row {
            window: Some(result.window),
            ..result.value
        }));
        Ok(())
    }
}

impl CogroupText {
    pub(super) fn add(&self, place: usize, building: &mut Building) -> Result<(), String> {
        let (left, right) = building.both()?;
        let (left, right) = (left.key_by(|row| &row.key), right.key_by(|row| &row.key));
        let id = name(&self.id, "cogroup", place);
        let windows = Tumbling::of(building.unit.span(self.size));
        let numbers = |rows: &[Row]| rows.iter().map(|row| row.value.number()).collect();
        let joined = left.join(&right).cogroup(&id, windows, move |l: &[Row], r: &[Row]| {
            [Value::Groups(numbers(l), numbers(r))]
        });
        building.hear_late(&id, joined.late().map(one_side));
        building.go_on(joined.map(super::windows::as_row));
        Ok(())
    }
}

impl AsOfText {
    pub(super) fn add(&self, place: usize, building: &mut Building) -> Result<(), String> {
        let (left, right) = building.both()?;
        let (left, right) = (left.key_by(|row| &row.key), right.key_by(|row| &row.key));
        let id = name(&self.id, "as_of", place);
        let join = left.join(&right).as_of(&id);
        let join = match self.within {
            Some(age) => join.within(building.unit.span(age)),
            None => join.unbounded(),
        };
        let joined = match self.kind {
            JoinText::Inner => join.inner(|_, l, r| pair(Some(l), Some(r))),
            JoinText::Left => join.left(|_, l, r| pair(Some(l), r)),
            _ => return Err("an as-of join is inner or left".to_owned()),
        };
        go_on(building, &id, &joined);
        Ok(())
    }
}
