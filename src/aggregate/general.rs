//! Aggregates made of the user's own functions.

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{Aggregate, Stamp};
use crate::event::Data;

/// Rows combined two by two. `f` must be associative and commutative.
///
/// ```
/// use highwater::Reduce;
/// let bitwise_or = Reduce::of(|a: &u64, b: &u64| a | b);
/// # let _ = bitwise_or;
/// ```
pub struct Reduce<F> {
    f: F,
}

impl<F> Reduce<F> {
    /// Combines rows with `f`.
    pub fn of<T>(f: F) -> Self
    where
        F: Fn(&T, &T) -> T,
    {
        Reduce { f }
    }
}

impl<T, F> Aggregate<T> for Reduce<F>
where
    T: Data + Serialize + DeserializeOwned,
    F: Fn(&T, &T) -> T + Send + Sync + 'static,
{
    type State = Option<T>;
    /// `None` only of no rows, and a window always has some.
    type Output = Option<T>;

    fn describe(&self) -> String {
        "reduce".to_owned()
    }

    fn init(&self) -> Option<T> {
        None
    }

    fn add(&self, state: &mut Option<T>, row: &T, _: &dyn Fn() -> Stamp) {
        *state = Some(match state.take() {
            Some(so_far) => (self.f)(&so_far, row),
            None => row.clone(),
        });
    }

    fn merge(&self, into: &mut Option<T>, from: Option<T>) {
        *into = match (into.take(), from) {
            (Some(a), Some(b)) => Some((self.f)(&a, &b)),
            (a, b) => a.or(b),
        };
    }

    fn finish(&self, state: Option<T>) -> Option<T> {
        state
    }
}

/// Rows folded into a state of the user's own. `merge` must be associative and commutative with
/// `init` as its neutral element, and adding rows one by one must equal merging any split.
///
/// ```
/// use highwater::Fold;
/// let shortest_and_longest = Fold::new(
///     (usize::MAX, 0),
///     |state, word: &String| *state = (state.0.min(word.len()), state.1.max(word.len())),
///     |into, from| *into = (into.0.min(from.0), into.1.max(from.1)),
/// );
/// # let _ = shortest_and_longest;
/// ```
pub struct Fold<S, A, M> {
    init: S,
    add: A,
    merge: M,
}

impl<S, A, M> Fold<S, A, M> {
    /// Starts with `init`, adds rows with `add` and joins states with `merge`.
    pub fn new<T>(init: S, add: A, merge: M) -> Self
    where
        A: Fn(&mut S, &T),
        M: Fn(&mut S, S),
    {
        Fold { init, add, merge }
    }
}

impl<T, S, A, M> Aggregate<T> for Fold<S, A, M>
where
    S: Data + Sync + Serialize + DeserializeOwned,
    A: Fn(&mut S, &T) + Send + Sync + 'static,
    M: Fn(&mut S, S) + Send + Sync + 'static,
{
    type State = S;
    type Output = S;

    fn describe(&self) -> String {
        "fold".to_owned()
    }

    fn init(&self) -> S {
        self.init.clone()
    }

    #[inline]
    fn add(&self, state: &mut S, row: &T, _: &dyn Fn() -> Stamp) {
        (self.add)(state, row);
    }

    fn merge(&self, into: &mut S, from: S) {
        (self.merge)(into, from);
    }

    fn finish(&self, state: S) -> S {
        state
    }
}
