//! Aggregates made of aggregates.

use super::{Aggregate, Stamp};
use crate::event::Data;

/// What every aggregate can do.
pub trait AggregateExt: Sized {
    /// The same aggregate with `f` applied to its output.
    ///
    /// ```
    /// use highwater::{AggregateExt, Count};
    /// let kilo = Count.map_output(|n: u64| n as f64 / 1_000.0);
    /// # let _ = kilo;
    /// ```
    fn map_output<O, U, F: Fn(O) -> U>(self, f: F) -> Mapped<Self, F> {
        Mapped { aggregate: self, f }
    }
}

impl<A> AggregateExt for A {}

/// An aggregate whose output is mapped: see [`AggregateExt::map_output`].
pub struct Mapped<A, F> {
    aggregate: A,
    f: F,
}

impl<T, A, U, F> Aggregate<T> for Mapped<A, F>
where
    A: Aggregate<T>,
    U: Data,
    F: Fn(A::Output) -> U + Send + Sync + 'static,
{
    type State = A::State;
    type Output = U;

    fn describe(&self) -> String {
        self.aggregate.describe()
    }

    fn needs_order(&self) -> bool {
        self.aggregate.needs_order()
    }

    fn init(&self) -> A::State {
        self.aggregate.init()
    }

    #[inline]
    fn add(&self, state: &mut A::State, row: &T, stamp: &dyn Fn() -> Stamp) {
        self.aggregate.add(state, row, stamp);
    }

    fn merge(&self, into: &mut A::State, from: A::State) {
        self.aggregate.merge(into, from);
    }

    fn finish(&self, state: A::State) -> U {
        (self.f)(self.aggregate.finish(state))
    }

    fn peek(&self, state: &A::State) -> U {
        (self.f)(self.aggregate.peek(state))
    }
}

macro_rules! tuples {
    ($($name:ident $index:tt),*) => {
        impl<T, $($name: Aggregate<T>),*> Aggregate<T> for ($($name,)*) {
            type State = ($($name::State,)*);
            type Output = ($($name::Output,)*);

            fn describe(&self) -> String {
                format!("({})", [$(self.$index.describe()),*].join(", "))
            }

            fn needs_order(&self) -> bool {
                $(self.$index.needs_order())||*
            }

            fn init(&self) -> Self::State {
                ($(self.$index.init(),)*)
            }

            #[inline]
            fn add(&self, state: &mut Self::State, row: &T, stamp: &dyn Fn() -> Stamp) {
                $(self.$index.add(&mut state.$index, row, stamp);)*
            }

            fn merge(&self, into: &mut Self::State, from: Self::State) {
                $(self.$index.merge(&mut into.$index, from.$index);)*
            }

            fn finish(&self, state: Self::State) -> Self::Output {
                ($(self.$index.finish(state.$index),)*)
            }

            fn peek(&self, state: &Self::State) -> Self::Output {
                ($(self.$index.peek(&state.$index),)*)
            }
        }
    };
}

tuples!(A 0, B 1);
tuples!(A 0, B 1, C 2);
tuples!(A 0, B 1, C 2, D 3);
