//! Keyed logic: keys, and how operators come to the state behind them.

mod broadcast;
mod counted;
mod dedup;
mod either;
mod global;
mod over;
mod process;
mod rules;
mod state;
mod stateful;
mod timers;
mod ttl;
mod two;

use std::marker::PhantomData;
use std::ops::Range;
use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;

use highwater_state::{Hint, KeyGroup, Store, Table, Value};

use crate::event::Batch;

pub use broadcast::BroadcastProcess;
pub(crate) use broadcast::Broadcasting;
pub use counted::CountResult;
pub(crate) use counted::{CountWindows, Counting};
pub(crate) use dedup::Dedup;
pub use either::{Either, EitherKey};
pub use global::GlobalTrigger;
pub(crate) use global::Triggered;
pub(crate) use over::Over;
pub(crate) use process::{Call, Effects};
pub use process::{ClockTimer, Process, ProcessCx, Timer};
pub(crate) use rules::{Plain, Rules};
pub use state::OldState;
pub(crate) use state::{KeyState, StateHead, rewrite, split};
pub(crate) use stateful::{MapWithState, UpdateState};
pub use ttl::Ttl;
pub(crate) use ttl::{Expiries, is_over};
pub use two::Process2;
pub(crate) use two::TwoInputs;

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

/// An operator's part of the store: its id, and the key groups of this worker.
#[derive(Clone)]
pub(crate) struct Backing {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) id: Arc<str>,
    pub(crate) groups: Range<KeyGroup>,
    /// The store holds nothing of the operator: the flow has never committed with it.
    pub(crate) fresh: bool,
}

impl Backing {
    /// A table of whose entries the store may hold some.
    pub(crate) fn cold<K: Key, V: Value>(&self, prefix: Vec<u8>) -> Table<K, V> {
        let fresh = self.fresh || !self.store.keeps_entries();
        if fresh { self.table(prefix, 0) } else { Table::cold(prefix) }
    }

    /// A table of whose entries the store holds none, for about so many.
    pub(crate) fn table<K: Key, V: Value>(&self, prefix: Vec<u8>, entries: usize) -> Table<K, V> {
        let table = Table::expecting(prefix, entries, &self.groups);
        if self.store.keeps_entries() { table } else { table.unkept() }
    }

    /// Brings the state of a batch's keys into memory, as far as the store has it.
    pub(crate) fn read_back<T, K: KeyOf<T>, V: Value>(
        &self,
        table: &mut Table<K::Key, V>,
        batch: &Batch<T>,
        key_of: &K,
        decode: impl Fn(&[u8]) -> Result<V, highwater_state::Error>,
    ) -> Result<(), highwater_state::Error> {
        if table.is_complete() {
            return Ok(());
        }
        let mut wanted = Vec::new();
        for (row, hash) in batch.rows.iter().zip(&batch.hashes) {
            key_of.with_key(row, |key| {
                if table.is_missing(*hash, key) {
                    wanted.push((*hash, key.clone()));
                }
            });
        }
        self.read_back_keys(table, wanted, decode)
    }

    /// Brings the state of these keys into memory, as far as the store has it.
    pub(crate) fn read_back_keys<K: Key, V: Value>(
        &self,
        table: &mut Table<K, V>,
        mut wanted: Vec<(u64, K)>,
        decode: impl Fn(&[u8]) -> Result<V, highwater_state::Error>,
    ) -> Result<(), highwater_state::Error> {
        wanted.retain(|(hash, key)| table.is_missing(*hash, key));
        if wanted.is_empty() {
            return Ok(());
        }
        wanted.sort_by_key(|(hash, _)| *hash);
        wanted.dedup_by(|a, b| a == b);
        table.read_back(&*self.store, &self.id, wanted, decode)
    }

    /// Visits what the store has of this worker's keys.
    pub(crate) fn scan(
        &self,
        prefix: &[u8],
        mut visit: impl FnMut(&[u8], &[u8]) -> Result<(), highwater_state::Error>,
    ) -> Result<(), highwater_state::Error> {
        self.store
            .scan(&self.id, self.groups.clone(), prefix, &mut |_, key, value| visit(key, value))
    }
}

/// So many keys are looked at together: see [`Table::look_at`].
pub(crate) const AHEAD: usize = 32;

/// Looks at the keys of some rows of a batch, at most [`AHEAD`] of them, before they are used one
/// by one, and says where they lie.
#[inline]
pub(crate) fn look_ahead<'a, T: 'a, K: KeyOf<T>, V: Value, R>(
    table: &Table<K::Key, V>,
    key_of: &K,
    rows: impl Iterator<Item = (&'a T, u64)> + Clone,
    see: impl Fn(&V) -> R,
) -> [Hint; AHEAD] {
    let mut hints = [Hint::NONE; AHEAD];
    if !table.is_small() {
        for (hint, (_, hash)) in hints.iter_mut().zip(rows.clone()) {
            *hint = table.look_for(hash);
        }
        for (hint, (row, hash)) in hints.iter_mut().zip(rows) {
            key_of.with_key(row, |key| *hint = table.look_at(*hint, hash, key, &see));
        }
    }
    hints
}

/// Looks at keys by themselves, at most [`AHEAD`] of them: they are in the cache then.
#[inline]
pub(crate) fn look_ahead_at<'a, K: Key, V: Value, R>(
    table: &Table<K, V>,
    keys: impl Iterator<Item = (u64, &'a K)> + Clone,
    see: impl Fn(&V) -> R,
) {
    if !table.is_small() {
        let mut hints = [Hint::NONE; AHEAD];
        for (hint, (hash, _)) in hints.iter_mut().zip(keys.clone()) {
            *hint = table.look_for(hash);
        }
        for (hint, (hash, key)) in hints.iter().zip(keys) {
            let _ = table.look_at(*hint, hash, key, &see);
        }
    }
}

/// Appends the canonical bytes of a key.
pub(crate) fn encode_key<K: Key>(key: &K) -> Result<Vec<u8>, highwater_state::Error> {
    let mut bytes = Vec::new();
    highwater_state::encode_into(key, &mut bytes)?;
    Ok(bytes)
}
