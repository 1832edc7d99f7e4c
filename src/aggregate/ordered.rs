//! Aggregates that depend on the order of rows: they carry each row's stamp and use the order of
//! event time, never that of arrival.

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{Aggregate, Stamp};
use crate::event::Data;

macro_rules! one_row {
    ($(#[$doc:meta])* $name:ident, $word:literal, $better:tt) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default)]
        pub struct $name;

        impl<T: Data + Serialize + DeserializeOwned> Aggregate<T> for $name {
            type State = Option<(Stamp, T)>;
            /// `None` only of no rows, and a window always has some.
            type Output = Option<T>;

            fn describe(&self) -> String {
                $word.to_owned()
            }

            fn needs_order(&self) -> bool {
                true
            }

            fn init(&self) -> Self::State {
                None
            }

            fn add(&self, state: &mut Self::State, row: &T, stamp: &dyn Fn() -> Stamp) {
                let stamp = stamp();
                if state.as_ref().is_none_or(|(best, _)| stamp $better *best) {
                    *state = Some((stamp, row.clone()));
                }
            }

            fn merge(&self, into: &mut Self::State, from: Self::State) {
                if let Some((stamp, row)) = from
                    && into.as_ref().is_none_or(|(best, _)| stamp $better *best)
                {
                    *into = Some((stamp, row));
                }
            }

            fn finish(&self, state: Self::State) -> Option<T> {
                state.map(|(_, row)| row)
            }

            fn peek(&self, state: &Self::State) -> Option<T> {
                state.as_ref().map(|(_, row)| row.clone())
            }
        }
    };
}

one_row!(
    /// The first row by event time, then by (source, partition, position).
    First, "first", <
);

one_row!(
    /// The last row by event time, then by (source, partition, position).
    Last, "last", >
);

/// Rows in the order of their stamps.
pub(super) fn in_order<T>(state: &[(Stamp, T)]) -> Vec<&(Stamp, T)> {
    let mut rows: Vec<_> = state.iter().collect();
    rows.sort_by(|(a, _), (b, _)| a.cmp(b));
    rows
}

/// All rows, in order of event time, then of (source, partition, position).
///
/// ```
/// use highwater::Collect;
/// let everything = Collect;
/// # let _ = everything;
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct Collect;

impl<T: Data + Serialize + DeserializeOwned> Aggregate<T> for Collect {
    type State = Vec<(Stamp, T)>;
    type Output = Vec<T>;

    fn describe(&self) -> String {
        "collect".to_owned()
    }

    fn needs_order(&self) -> bool {
        true
    }

    fn init(&self) -> Self::State {
        Vec::new()
    }

    fn add(&self, state: &mut Self::State, row: &T, stamp: &dyn Fn() -> Stamp) {
        state.push((stamp(), row.clone()));
    }

    fn merge(&self, into: &mut Self::State, mut from: Self::State) {
        into.append(&mut from);
    }

    fn finish(&self, mut state: Self::State) -> Vec<T> {
        state.sort_by(|(a, _), (b, _)| a.cmp(b));
        state.into_iter().map(|(_, row)| row).collect()
    }

    fn peek(&self, state: &Self::State) -> Vec<T> {
        in_order(state).into_iter().map(|(_, row)| row.clone()).collect()
    }
}
