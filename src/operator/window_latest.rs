//! The newest pane of each key and window: an operator that takes upserts.

use std::collections::BTreeMap;
use std::sync::Arc;

use highwater_state::{Changes, Table, decode, hash_key};

use super::window_panes::has_expired;
use super::{Cx, Logic, typed};
use crate::error::Error;
use crate::event::{Batch, LateReason, Origin, Rows, Stored};
use crate::keyed::{Backing, Key, KeyOf};
use crate::time::{EventTime, Watermark};
use crate::window::Pane;

pub(crate) struct LatestPanes<K, V, F> {
    backing: Backing,
    key_of: Arc<F>,
    /// The newest panes of each key, by window. One comes with its window's first pane, and goes
    /// when it expires.
    table: Table<K, Vec<Pane<K, V>>>,
    /// When to look at which key.
    due: BTreeMap<EventTime, Vec<(u64, K)>>,
    /// The keys that changed in the open tick, and in which windows; empty between ticks.
    changed: Vec<(u64, K, EventTime, EventTime)>,
}

impl<K: Key, V: Stored, F: KeyOf<Pane<K, V>, Key = K>> LatestPanes<K, V, F> {
    pub(crate) fn new(backing: Backing, key_of: Arc<F>) -> Self {
        let table = backing.cold(Vec::new());
        LatestPanes { backing, key_of, table, due: BTreeMap::new(), changed: Vec::new() }
    }

    /// Lists what expires by itself. The panes are read when their keys come.
    pub(crate) fn restore(&mut self) -> Result<(), highwater_state::Error> {
        let backing = self.backing.clone();
        backing.scan(&[], |key, value| {
            let (key, panes): (K, Vec<Pane<K, V>>) = (decode(key)?, decode(value)?);
            for pane in panes {
                self.due.entry(pane.expires).or_default().push((hash_key(&key), key.clone()));
            }
            Ok(())
        })
    }

    fn upsert(&mut self, hash: u64, pane: Pane<K, V>) {
        let key = self.key_of.with_key(&pane, Clone::clone);
        let panes = self.table.update(hash, &key, Vec::new);
        let window = pane.window;
        match panes.binary_search_by_key(&window, |held| held.window) {
            // Panes of one key and window come in order; whoever merges streams may break that.
            Ok(at) if panes[at].index > pane.index => return,
            Ok(at) => panes[at] = pane,
            Err(at) => {
                self.due.entry(pane.expires).or_default().push((hash, key.clone()));
                panes.insert(at, pane);
            }
        }
        self.changed.push((hash, key, window.start, window.end));
    }

    /// The panes that changed in the tick, each once.
    fn changes(&mut self) -> Vec<Pane<K, V>> {
        let mut changed = std::mem::take(&mut self.changed);
        changed.sort_by_key(|(hash, _, start, end)| (*hash, *start, *end));
        changed.dedup();
        let mut rows = Vec::with_capacity(changed.len());
        for (hash, key, start, end) in changed {
            let panes = self.table.get(hash, &key).into_iter().flatten();
            rows.extend(panes.filter(|p| (p.window.start, p.window.end) == (start, end)).cloned());
        }
        rows
    }

    fn expire(&mut self, watermark: Watermark) -> Result<(), Error> {
        while let Some(entry) = self.due.first_entry() {
            if !has_expired(*entry.key(), watermark) {
                break;
            }
            let keys = entry.remove();
            self.backing.read_back_keys(&mut self.table, keys.clone(), decode)?;
            for (hash, key) in keys {
                let Some(panes) = self.table.get_mut(hash, &key) else { continue };
                panes.retain(|pane| !has_expired(pane.expires, watermark));
                if panes.is_empty() {
                    self.table.remove(hash, &key);
                }
            }
        }
        Ok(())
    }
}

impl<K: Key, V: Stored, F: KeyOf<Pane<K, V>, Key = K>> Logic for LatestPanes<K, V, F> {
    fn batch(&mut self, _: usize, rows: Box<dyn Rows>, cx: &mut Cx) -> Result<(), Error> {
        let batch = typed::<Pane<K, V>>(rows)?;
        cx.counters.events_in += batch.len() as u64;
        cx.counters.used += batch.len() as u64;
        self.backing.read_back(&mut self.table, &batch, &*self.key_of, decode)?;
        for (hash, pane) in batch.hashes.into_iter().zip(batch.rows) {
            self.upsert(hash, pane);
        }
        Ok(())
    }

    fn tick_end(&mut self, cx: &mut Cx) -> Result<(), Error> {
        let rows = self.changes();
        self.expire(cx.now)?;
        let batch = Batch {
            times: rows.iter().map(|pane| pane.window.last_time()).collect(),
            rows,
            hashes: Vec::new(),
            origin: Origin::Unordered,
            stragglers: Vec::new(),
            floor: Watermark::Unknown,
            behind: LateReason::Returned,
        };
        cx.send(0, batch);
        Ok(())
    }

    fn begin_capture(&mut self) {
        self.table.begin_capture();
    }

    fn capture(
        &mut self,
        id: &Arc<str>,
        budget: &mut usize,
        into: &mut Vec<Changes>,
    ) -> Result<bool, Error> {
        Ok(self.table.capture(id, budget, into)?)
    }

    fn committed(&mut self) {
        self.table.committed();
    }

    fn memory(&self) -> usize {
        self.table.memory()
    }

    fn evict(&mut self, bytes: usize) {
        self.table.evict(bytes);
    }

    fn entries(&self) -> i64 {
        self.table.net()
    }
}
