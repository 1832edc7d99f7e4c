//! How many.

use std::collections::BTreeSet;
use std::marker::PhantomData;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{Aggregate, Stamp};

/// The number of rows.
///
/// ```
/// use highwater::{Aggregate, Count};
/// let mut state = Aggregate::<char>::init(&Count);
/// Count.merge_rows(&mut state, 3);
/// # trait Rows { fn merge_rows(&self, state: &mut u64, n: u64); }
/// # impl Rows for Count {
/// #     fn merge_rows(&self, s: &mut u64, n: u64) { Aggregate::<char>::merge(self, s, n) }
/// # }
/// assert_eq!(Aggregate::<char>::finish(&Count, state), 3);
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct Count;

impl<T> Aggregate<T> for Count {
    type State = u64;
    type Output = u64;

    fn describe(&self) -> String {
        "count".to_owned()
    }

    fn init(&self) -> u64 {
        0
    }

    #[inline]
    fn add(&self, state: &mut u64, _: &T, _: &dyn Fn() -> Stamp) {
        *state += 1;
    }

    fn merge(&self, into: &mut u64, from: u64) {
        *into += from;
    }

    fn finish(&self, state: u64) -> u64 {
        state
    }
}

/// The number of different values of a part of the row, exactly: every value is kept.
///
/// ```
/// use highwater::CountDistinct;
/// struct Visit { user: u64 }
/// let users = CountDistinct::of(|v: &Visit| v.user);
/// # let _ = users;
/// ```
pub struct CountDistinct<F, V> {
    f: F,
    value: PhantomData<fn() -> V>,
}

impl<F, V> CountDistinct<F, V> {
    /// Counts the different values of `f`.
    pub fn of<T>(f: F) -> Self
    where
        F: Fn(&T) -> V,
    {
        CountDistinct { f, value: PhantomData }
    }
}

impl<T, F, V> Aggregate<T> for CountDistinct<F, V>
where
    F: Fn(&T) -> V + Send + Sync + 'static,
    V: Ord + Serialize + DeserializeOwned + Clone + Send + 'static,
{
    type State = BTreeSet<V>;
    type Output = u64;

    fn describe(&self) -> String {
        "distinct count".to_owned()
    }

    fn init(&self) -> BTreeSet<V> {
        BTreeSet::new()
    }

    fn add(&self, state: &mut BTreeSet<V>, row: &T, _: &dyn Fn() -> Stamp) {
        state.insert((self.f)(row));
    }

    fn merge(&self, into: &mut BTreeSet<V>, mut from: BTreeSet<V>) {
        into.append(&mut from);
    }

    fn finish(&self, state: BTreeSet<V>) -> u64 {
        state.len() as u64
    }

    fn peek(&self, state: &BTreeSet<V>) -> u64 {
        state.len() as u64
    }
}
