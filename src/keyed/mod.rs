//! Keyed logic: keys, and the hot tables that hold state per key.

mod process;
mod table;

use std::marker::PhantomData;

use serde::Serialize;
use serde::de::DeserializeOwned;

pub(crate) use process::{Effects, KeyState};
pub use process::{Process, ProcessCx, Timer};
pub(crate) use table::{Table, Tombstones, encode_entry_key};

/// What can be a key: comparable, and encodable in a canonical way. Types whose equal values
/// encode differently (a `HashMap`, for example) must not be keys.
pub trait Key: Serialize + DeserializeOwned + Eq + Clone + Send + Sync + 'static {}
impl<T: Serialize + DeserializeOwned + Eq + Clone + Send + Sync + 'static> Key for T {}

/// How a row's key is found: lent by the row, or computed. The row travels on, and no key is
/// cloned before it is stored.
pub trait KeyOf<T>: Send + Sync + 'static {
    /// The key's type.
    type Key: Key;

    /// Calls `f` with the row's key.
    fn with_key<R>(&self, row: &T, f: impl FnOnce(&Self::Key) -> R) -> R;
}

/// A key that is part of the row.
pub struct Lent<K, F>(pub(crate) F, pub(crate) PhantomData<fn() -> K>);

impl<T, K: Key, F: Fn(&T) -> &K + Send + Sync + 'static> KeyOf<T> for Lent<K, F> {
    type Key = K;

    #[inline]
    fn with_key<R>(&self, row: &T, f: impl FnOnce(&K) -> R) -> R {
        f((self.0)(row))
    }
}

/// A key that is computed from the row: `F` must be pure, and may be called more than once.
pub struct Computed<F>(pub(crate) F);

impl<T, K: Key, F: Fn(&T) -> K + Send + Sync + 'static> KeyOf<T> for Computed<F> {
    type Key = K;

    #[inline]
    fn with_key<R>(&self, row: &T, f: impl FnOnce(&K) -> R) -> R {
        f(&(self.0)(row))
    }
}
