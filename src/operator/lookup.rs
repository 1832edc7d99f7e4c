//! The lookup join: each row with what an outside store says of its key.

use std::collections::BTreeMap;
use std::sync::Arc;

use highwater_state::{Changes, Table, hash_key};
use serde::{Deserialize, Serialize};

use super::{Cx, Logic, RowGuard, Wake, typed};
use crate::error::Error;
use crate::event::{Batch, Data, Rows, Stored};
use crate::keyed::{Backing, KeyOf};

/// A key with its hash.
pub(crate) type Hashed<K> = (u64, K);

/// An outside store: it is asked, and answers later.
pub(crate) trait Outside<K, V> {
    /// How to say that answers have come.
    fn attach(&mut self, wake: Wake);

    /// Asks for the values of keys. Each will be answered once.
    fn ask(&mut self, keys: Vec<Hashed<K>>);

    /// The answers that have come.
    ///
    /// # Errors
    /// Where the store failed, or took too long.
    fn answers(&mut self) -> Reply<K, V>;
}

/// Keys with what the store holds of them.
pub(crate) type Reply<K, V> = Result<Vec<(Hashed<K>, Option<V>)>, Error>;

/// Rows are held until the tick has all its input. Then the store is asked for the keys that are
/// not known, and the tick ends when it has answered: so what comes out belongs to the tick that
/// asked, and is committed together with the answers.
pub(crate) struct LookupJoin<T, K: KeyOf<T>, V, F, O> {
    pub(crate) key_of: Arc<K>,
    pub(crate) backing: Backing,
    pub(crate) outside: O,
    /// How long an answer is good for; 0 if for its tick only.
    pub(crate) ttl_micros: i64,
    /// Makes a result of a row and what the store says of its key.
    pub(crate) output: Arc<F>,
    /// What the store has said.
    pub(crate) cache: Table<K::Key, Answer<V>>,
    /// When answers are no longer good, on the tick clock.
    pub(crate) expiries: BTreeMap<i64, Vec<Hashed<K::Key>>>,
    /// The batches of the open tick; empty between ticks.
    pub(crate) held: Vec<Batch<T>>,
    /// Keys of the open tick that have not been answered, if the store has been asked.
    pub(crate) missing: Option<usize>,
}

/// What the store said of a key, and when it was asked.
#[derive(Serialize, Deserialize)]
pub(crate) struct Answer<V> {
    asked_micros: i64,
    value: Option<V>,
}

impl<T: Data, K: KeyOf<T>, V: Stored, F, O: Outside<K::Key, V>> LookupJoin<T, K, V, F, O> {
    /// Lists when answers go. They are read when their keys come.
    pub(crate) fn restore(&mut self) -> Result<(), highwater_state::Error> {
        let backing = self.backing.clone();
        backing.scan(&[], |key, value| {
            let key: K::Key = highwater_state::decode(key)?;
            let answer: Answer<V> = highwater_state::decode(value)?;
            self.list(answer.asked_micros, (hash_key(&key), key));
            Ok(())
        })
    }

    fn list(&mut self, asked_micros: i64, key: Hashed<K::Key>) {
        let until = asked_micros.saturating_add(self.ttl_micros);
        self.expiries.entry(until).or_default().push(key);
    }

    fn read_back(&mut self, keys: Vec<Hashed<K::Key>>) -> Result<(), Error> {
        Ok(self.backing.read_back_keys(&mut self.cache, keys, highwater_state::decode)?)
    }

    /// Lets answers go that are no longer good.
    fn expire(&mut self, clock_micros: i64) -> Result<(), Error> {
        while let Some(entry) = self.expiries.first_entry() {
            if *entry.key() > clock_micros {
                break;
            }
            let keys = entry.remove();
            self.read_back(keys.clone())?;
            for (hash, key) in keys {
                self.cache.remove(hash, &key);
            }
        }
        Ok(())
    }

    /// Asks for the keys of the tick that are not known.
    fn ask(&mut self, cx: &Cx) -> Result<usize, Error> {
        self.expire(cx.clock_micros)?;
        let mut keys: Vec<Hashed<K::Key>> = Vec::new();
        for batch in &self.held {
            let mut guard = RowGuard::new(&batch.origin);
            for (index, row) in batch.rows.iter().enumerate() {
                guard.index = index;
                keys.push((batch.hashes[index], self.key_of.with_key(row, Clone::clone)));
            }
        }
        // In order of hash, so that the same keys of a tick stand together.
        keys.sort_by_key(|(hash, _)| *hash);
        keys.dedup();
        self.read_back(keys.clone())?;
        keys.retain(|(hash, key)| self.cache.get(*hash, key).is_none());
        let count = keys.len();
        if count > 0 {
            self.outside.ask(keys);
        }
        Ok(count)
    }
}

impl<T, K, V, F, O, U, I> Logic for LookupJoin<T, K, V, F, O>
where
    T: Data,
    K: KeyOf<T>,
    V: Stored,
    F: Fn(&K::Key, T, Option<&V>) -> I,
    O: Outside<K::Key, V>,
    U: Data,
    I: IntoIterator<Item = U>,
{
    fn attach(&mut self, wake: Wake) {
        self.outside.attach(wake);
    }

    fn batch(&mut self, _: usize, rows: Box<dyn Rows>, cx: &mut Cx) -> Result<(), Error> {
        let batch = typed::<T>(rows)?;
        cx.counters.events_in += batch.len() as u64;
        self.held.push(batch);
        Ok(())
    }

    fn is_ready(&mut self, cx: &Cx) -> Result<bool, Error> {
        let mut missing = match self.missing {
            Some(missing) => missing,
            None => self.ask(cx)?,
        };
        for ((hash, key), value) in self.outside.answers()? {
            missing = missing.saturating_sub(1);
            self.cache.update(hash, &key, || Answer { asked_micros: cx.clock_micros, value });
            self.list(cx.clock_micros, (hash, key));
        }
        self.missing = Some(missing);
        Ok(missing == 0)
    }

    fn tick_end(&mut self, cx: &mut Cx) -> Result<(), Error> {
        self.missing = None;
        for mut batch in std::mem::take(&mut self.held) {
            let rows = std::mem::take(&mut batch.rows);
            let (mut output, mut kept) = (Vec::with_capacity(rows.len()), Vec::new());
            let mut guard = RowGuard::new(&batch.origin);
            for (index, row) in rows.into_iter().enumerate() {
                guard.index = index;
                let before = output.len();
                let key = self.key_of.with_key(&row, Clone::clone);
                let answer = self.cache.get(batch.hashes[index], &key);
                let value = answer.and_then(|answer| answer.value.as_ref());
                output.extend((self.output)(&key, row, value));
                kept.resize(output.len(), index as u32);
                if output.len() == before {
                    cx.counters.filtered += 1;
                } else {
                    cx.counters.used += 1;
                }
            }
            drop(guard);
            let mut selected: Batch<U> = batch.select(output, kept);
            // Hashes are of keys, and whoever follows may have others.
            selected.hashes = Vec::new();
            cx.send(0, selected);
        }
        self.expire(cx.clock_micros)
    }

    fn begin_capture(&mut self) {
        self.cache.begin_capture();
    }

    fn capture(
        &mut self,
        id: &Arc<str>,
        budget: &mut usize,
        into: &mut Vec<Changes>,
    ) -> Result<bool, Error> {
        Ok(self.cache.capture(id, budget, into)?)
    }

    fn committed(&mut self) {
        self.cache.committed();
    }

    fn memory(&self) -> usize {
        self.cache.memory()
    }

    fn evict(&mut self, bytes: usize) {
        self.cache.evict(bytes);
    }

    fn entries(&self) -> i64 {
        self.cache.net()
    }
}
