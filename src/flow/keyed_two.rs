//! Connected streams with a process function for both.

use std::panic::Location;

use super::keyed::{Keyed, Undeclared};
use super::keyed_process::{in_order, on_arrival};
use super::ports::WithLate;
use super::stream::Timed;
use crate::event::Stored;
use crate::keyed::{Either, KeyOf, Plain, Process2, TwoInputs};

impl<L, R, K> Keyed<Either<L, R>, K, Timed>
where
    L: Stored,
    R: Stored,
    K: KeyOf<Either<L, R>>,
{
    /// A process function with two inputs, in event-time order: see [`Process2`].
    #[track_caller]
    pub fn process2<P: Process2<K::Key, L, R>>(
        &self,
        id: &str,
        process: P,
    ) -> Undeclared<WithLate<P::Output, Either<L, R>>> {
        let spec = in_order("process2", String::new());
        self.undeclared(id, spec, Plain(TwoInputs(process)), Location::caller())
    }

    /// A process function with two inputs that acts at once, in order of arrival: see
    /// [`Process2`].
    #[track_caller]
    pub fn process2_on_arrival<P: Process2<K::Key, L, R>>(
        &self,
        id: &str,
        process: P,
    ) -> Undeclared<WithLate<P::Output, Either<L, R>>> {
        let spec = on_arrival("process2_on_arrival", String::new());
        self.undeclared(id, spec, Plain(TwoInputs(process)), Location::caller())
    }
}
