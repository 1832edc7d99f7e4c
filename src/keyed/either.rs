//! Rows of one stream or the other, with one key.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::KeyOf;

/// A row of the left or of the right one of two connected streams.
///
/// ```
/// use highwater::Either;
/// let row: Either<u32, &str> = Either::Right("paid");
/// assert_eq!(row.left(), None);
/// assert_eq!(row.right(), Some("paid"));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Either<L, R> {
    /// A row of the left stream.
    Left(L),
    /// A row of the right stream.
    Right(R),
}

impl<L, R> Either<L, R> {
    /// The row, if it is of the left stream.
    #[must_use]
    pub fn left(self) -> Option<L> {
        match self {
            Either::Left(row) => Some(row),
            Either::Right(_) => None,
        }
    }

    /// The row, if it is of the right stream.
    #[must_use]
    pub fn right(self) -> Option<R> {
        match self {
            Either::Left(_) => None,
            Either::Right(row) => Some(row),
        }
    }
}

/// The key of a row of either stream: both have keys of one type.
pub struct EitherKey<A, B> {
    pub(crate) left: Arc<A>,
    pub(crate) right: Arc<B>,
}

impl<L, R, A: KeyOf<L>, B: KeyOf<R, Key = A::Key>> KeyOf<Either<L, R>> for EitherKey<A, B> {
    type Key = A::Key;

    #[inline]
    fn with_key<O>(&self, row: &Either<L, R>, f: impl FnOnce(&A::Key) -> O) -> O {
        match row {
            Either::Left(row) => self.left.with_key(row, f),
            Either::Right(row) => self.right.with_key(row, f),
        }
    }
}
