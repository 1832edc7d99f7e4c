//! What every worker sees: rows that go to all of them, and the state that those rows change.

use std::marker::PhantomData;
use std::sync::Arc;

use highwater_state::planted::planted;
use highwater_state::{Changes, KEY_GROUPS, decode, encode_into};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::waiting::{Home, WaitingEvents};
use super::{Cx, Logic, typed};
use crate::error::Error;
use crate::event::{Data, Rows, Stored};
use crate::keyed::Backing;

/// First byte of an entry's key, behind all key groups: the shared state, or a waiting row.
const SHARED: u8 = 2;
const WAITING: u8 = 3;

/// Sends every row to every worker.
pub(crate) struct Broadcast<T> {
    pub(crate) workers: usize,
    pub(crate) types: PhantomData<fn(T)>,
}

impl<T: Data> Logic for Broadcast<T> {
    fn batch(&mut self, _: usize, rows: Box<dyn Rows>, cx: &mut Cx) -> Result<(), Error> {
        let batch = typed::<T>(rows)?;
        cx.counters.events_in += batch.len() as u64;
        cx.counters.used += batch.len() as u64;
        for worker in 1..self.workers {
            cx.send_to(0, worker, batch.clone());
        }
        cx.send_to(0, 0, batch);
        Ok(())
    }
}

/// The state that all keys share. Each worker has it whole, changed by the same rows in the same
/// order; one of them, the owner, counts and stores what belongs to it.
pub(crate) struct Shared<S, B> {
    pub(crate) state: S,
    /// Accepted rows that wait for the watermark.
    pub(crate) waiting: WaitingEvents<B>,
    pub(crate) owner: bool,
    /// It changed since the last capture began.
    pub(crate) changed: bool,
    /// As it was when the capture under way began.
    captured: Option<Result<Vec<u8>, highwater_state::Error>>,
    /// Entries in the store: none or one.
    stored: bool,
    /// The same at the start.
    restored: bool,
}

impl<S: Serialize + DeserializeOwned + Default, B: Stored> Shared<S, B> {
    /// Nothing yet. The owner is the worker with the first key group.
    pub(crate) fn new(backing: &Backing) -> Self {
        let owner = backing.groups.start == 0;
        let home = if owner { Home::Shared } else { Home::Nowhere };
        Shared {
            state: S::default(),
            waiting: WaitingEvents::at(home, WAITING, backing),
            owner,
            changed: false,
            captured: None,
            stored: false,
            restored: false,
        }
    }

    /// Reads what the last commit holds: all of it, on every worker.
    pub(crate) fn restore(&mut self, backing: &Backing) -> Result<(), highwater_state::Error> {
        if planted("broadcast-lost-on-restore") && !self.owner {
            return Ok(());
        }
        let behind = KEY_GROUPS..KEY_GROUPS + 1;
        backing.store.scan(&backing.id, behind, &[], &mut |_, key, value| {
            match key.split_first() {
                Some((&SHARED, [])) => {
                    self.state = decode(value)?;
                    self.stored = true;
                    self.restored = true;
                }
                Some((&WAITING, place)) => self.waiting.restore(place, value)?,
                _ => {
                    let message = "an entry of a shared state has another name";
                    return Err(highwater_state::Error::Corrupt(message.into()));
                }
            }
            Ok(())
        })
    }

    pub(crate) fn begin_capture(&mut self) {
        self.waiting.begin_capture();
        if std::mem::take(&mut self.changed) && self.owner {
            let mut bytes = Vec::new();
            self.captured = Some(encode_into(&self.state, &mut bytes).map(|()| bytes));
        }
    }

    /// As [`Logic::capture`].
    pub(crate) fn capture(
        &mut self,
        id: &Arc<str>,
        budget: &mut usize,
        into: &mut Vec<Changes>,
    ) -> Result<bool, Error> {
        if let Some(bytes) = self.captured.take() {
            let bytes = bytes?;
            let mut changes = Changes::new(id.clone());
            let key = |key: &mut Vec<u8>| {
                key.push(SHARED);
                Ok(())
            };
            changes.put(KEY_GROUPS, key, |value| {
                value.extend_from_slice(&bytes);
                Ok(())
            })?;
            self.stored = true;
            into.push(changes);
        }
        Ok(self.waiting.capture(budget, into)?)
    }

    /// Entries made less those removed since the start; only the owner has any.
    pub(crate) fn entries(&self) -> i64 {
        if !self.owner {
            return 0;
        }
        let has = self.stored || self.changed || self.captured.is_some();
        self.waiting.net() + i64::from(has) - i64::from(self.restored)
    }

    /// Rows that wait; only the owner counts them.
    pub(crate) fn held(&self) -> u64 {
        if self.owner { self.waiting.len() as u64 } else { 0 }
    }
}
