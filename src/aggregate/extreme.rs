//! Least, greatest, and the greatest few.

use std::marker::PhantomData;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{Aggregate, Stamp};
use crate::event::Data;

macro_rules! extreme {
    ($(#[$doc:meta])* $name:ident, $word:literal, $better:tt) => {
        $(#[$doc])*
        pub struct $name<F, V> {
            f: F,
            value: PhantomData<fn() -> V>,
        }

        impl<F, V> $name<F, V> {
            #[doc = concat!("The ", $word, " of `f` of each row.")]
            pub fn of<T>(f: F) -> Self
            where
                F: Fn(&T) -> V,
            {
                $name { f, value: PhantomData }
            }
        }

        impl<T, F, V> Aggregate<T> for $name<F, V>
        where
            F: Fn(&T) -> V + Send + Sync + 'static,
            V: Ord + Data + Serialize + DeserializeOwned,
        {
            type State = Option<V>;
            /// `None` only of no rows, and a window always has some.
            type Output = Option<V>;

            fn describe(&self) -> String {
                $word.to_owned()
            }

            fn init(&self) -> Option<V> {
                None
            }

            #[inline]
            fn add(&self, state: &mut Option<V>, row: &T, _: &dyn Fn() -> Stamp) {
                let value = (self.f)(row);
                if state.as_ref().is_none_or(|best| value $better *best) {
                    *state = Some(value);
                }
            }

            fn merge(&self, into: &mut Option<V>, from: Option<V>) {
                if let Some(value) = from
                    && into.as_ref().is_none_or(|best| value $better *best)
                {
                    *into = Some(value);
                }
            }

            fn finish(&self, state: Option<V>) -> Option<V> {
                state
            }
        }
    };
}

extreme!(
    /// The least value of a part of the row.
    ///
    /// ```
    /// use highwater::Min;
    /// let least = Min::of(|price: &u64| *price);
    /// # let _ = least;
    /// ```
    Min, "min", <
);

extreme!(
    /// The greatest value of a part of the row.
    ///
    /// ```
    /// use highwater::Max;
    /// let greatest = Max::of(|price: &u64| *price);
    /// # let _ = greatest;
    /// ```
    Max, "max", >
);

/// The `n` rows with the greatest values, greatest first; of equal ones, the earliest first.
///
/// ```
/// use highwater::TopN;
/// let longest_three = TopN::of(3, |word: &String| word.len() as u64);
/// # let _ = longest_three;
/// ```
pub struct TopN<F, V> {
    n: usize,
    f: F,
    value: PhantomData<fn() -> V>,
}

impl<F, V> TopN<F, V> {
    /// The `n` rows with the greatest `f`.
    pub fn of<T>(n: usize, f: F) -> Self
    where
        F: Fn(&T) -> V,
    {
        TopN { n, f, value: PhantomData }
    }

    fn insert<T>(&self, state: &mut Vec<(V, Stamp, T)>, entry: (V, Stamp, T))
    where
        V: Ord,
    {
        let (value, stamp, _) = &entry;
        let at = state.partition_point(|(other, other_stamp, _)| {
            other > value || (other == value && other_stamp <= stamp)
        });
        if at < self.n {
            state.truncate(self.n - 1);
            // By twice as a rule, but never beyond what is kept.
            if state.len() == state.capacity() {
                state.reserve_exact((self.n - state.len()).min(state.len().max(4)));
            }
            state.insert(at, entry);
        }
    }
}

impl<T, F, V> Aggregate<T> for TopN<F, V>
where
    T: Data + Serialize + DeserializeOwned,
    F: Fn(&T) -> V + Send + Sync + 'static,
    V: Ord + Serialize + DeserializeOwned + Clone + Send + 'static,
{
    type State = Vec<(V, Stamp, T)>;
    type Output = Vec<T>;

    fn describe(&self) -> String {
        format!("top {}", self.n)
    }

    fn needs_order(&self) -> bool {
        true
    }

    fn init(&self) -> Self::State {
        Vec::new()
    }

    fn add(&self, state: &mut Self::State, row: &T, stamp: &dyn Fn() -> Stamp) {
        let value = (self.f)(row);
        let beaten = state.len() == self.n && state.last().is_none_or(|(least, ..)| value < *least);
        if !beaten {
            self.insert(state, (value, stamp(), row.clone()));
        }
    }

    fn merge(&self, into: &mut Self::State, from: Self::State) {
        for entry in from {
            self.insert(into, entry);
        }
    }

    fn finish(&self, state: Self::State) -> Vec<T> {
        state.into_iter().map(|(_, _, row)| row).collect()
    }

    fn peek(&self, state: &Self::State) -> Vec<T> {
        state.iter().map(|(_, _, row)| row.clone()).collect()
    }
}
