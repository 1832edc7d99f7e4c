//! One aggregate of every kind that a transcript may name, so that each window is built once.

use serde::{Deserialize, Serialize};

use super::value::{Row, Value};
use crate::aggregate::{Aggregate, Stamp};

/// What a window or a running operator makes of its rows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Kind {
    /// How many rows.
    #[default]
    Count,
    Sum,
    Min,
    Max,
    /// All values, in order of event time.
    Collect,
    /// The value of the first row in order of event time.
    First,
    Last,
    /// How many different values.
    Distinct,
}

/// An aggregate over values of rows.
#[derive(Clone, Copy)]
pub(super) struct Chosen(pub(super) Kind);

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) enum State {
    Count(u64),
    Number(Option<i64>),
    Rows(Vec<(Stamp, i64)>),
}

impl Chosen {
    fn fold(self, a: i64, b: i64) -> i64 {
        match self.0 {
            Kind::Min => a.min(b),
            Kind::Max => a.max(b),
            _ => a.saturating_add(b),
        }
    }
}

impl Aggregate<Row> for Chosen {
    type State = State;
    type Output = Value;

    fn describe(&self) -> String {
        format!("{:?}", self.0).to_lowercase()
    }

    fn needs_order(&self) -> bool {
        matches!(self.0, Kind::Collect | Kind::First | Kind::Last)
    }

    fn init(&self) -> State {
        match self.0 {
            Kind::Count => State::Count(0),
            Kind::Sum | Kind::Min | Kind::Max => State::Number(None),
            Kind::Collect | Kind::First | Kind::Last | Kind::Distinct => State::Rows(Vec::new()),
        }
    }

    fn add(&self, state: &mut State, row: &Row, stamp: &dyn Fn() -> Stamp) {
        let value = row.value.number();
        match state {
            State::Count(count) => *count += 1,
            State::Number(number) => {
                *number = Some(number.map_or(value, |n| self.fold(n, value)));
            }
            State::Rows(rows) => rows.push((stamp(), value)),
        }
    }

    fn merge(&self, into: &mut State, from: State) {
        match (into, from) {
            (State::Count(into), State::Count(from)) => *into += from,
            (State::Number(into), State::Number(Some(from))) => {
                *into = Some(into.map_or(from, |n| self.fold(n, from)));
            }
            (State::Rows(into), State::Rows(from)) => into.extend(from),
            // The kind does not change while a flow runs.
            _ => {}
        }
    }

    fn finish(&self, state: State) -> Value {
        let mut rows = match state {
            State::Count(count) => return Value::Int(count as i64),
            State::Number(number) => return number.map_or(Value::Null, Value::Int),
            State::Rows(rows) => rows,
        };
        rows.sort();
        let mut values: Vec<i64> = rows.into_iter().map(|(_, value)| value).collect();
        match self.0 {
            Kind::First => values.first().copied().map_or(Value::Null, Value::Int),
            Kind::Last => values.last().copied().map_or(Value::Null, Value::Int),
            Kind::Distinct => {
                values.sort_unstable();
                values.dedup();
                Value::Int(values.len() as i64)
            }
            _ => Value::List(values),
        }
    }
}
