//! What follows from a call of the rules: outputs, timers, and state that goes or is to expire.

use super::ProcessKeyed;
use crate::error::{Error, ErrorKind};
use crate::event::{ResultOrder, Stored};
use crate::keyed::{ClockTimer, KeyOf, Rules, StateHead, Timer, encode_key};

impl<T: Stored, K: KeyOf<T>, R: Rules<K::Key, T>> ProcessKeyed<T, K, R> {
    /// Carries out what the rules did for this key, and settles its state.
    pub(super) fn settle(&mut self, hash: u64, key: K::Key) -> Result<(), Error> {
        self.carry_out(hash, &key)?;
        self.settle_state(hash, key);
        Ok(())
    }

    pub(super) fn carry_out(&mut self, hash: u64, key: &K::Key) -> Result<(), Error> {
        if let Some(message) = self.effects.error.take() {
            return Err(Error::new(ErrorKind::UserCode, message));
        }
        let ordered = self.order.ordered_by.is_some() && !self.effects.outputs.is_empty();
        let timers = !self.effects.timers.is_empty() || !self.effects.clock_timers.is_empty();
        let bytes = if ordered || timers { encode_key(key)? } else { Vec::new() };
        for (time, row) in self.effects.outputs.drain(..) {
            if ordered {
                let sequence = self.output.rows.len() as u32;
                let order = ResultOrder { key: bytes.clone(), start: time, sequence };
                self.output.orders.push(order);
            }
            self.output.rows.push(row);
            self.output.times.push(time);
        }
        if timers {
            self.list_timers(hash, key, &bytes);
        }
        Ok(())
    }

    /// Lets the state of a key go if nothing is left of it, or lists when it expires.
    pub(super) fn settle_state(&mut self, hash: u64, key: K::Key) {
        let ttl = self.ttl;
        let Some(key_state) = self.table.get_mut(hash, &key) else { return };
        if key_state.is_empty() {
            self.table.remove(hash, &key);
        } else if let Some((ttl, touched)) = ttl.zip(key_state.head.touched)
            && !key_state.listed
        {
            key_state.listed = true;
            self.expiries.push(ttl.end(touched), hash, key);
        }
    }

    /// Lists when the key has timers, of the times at which it has set or deleted some.
    fn list_timers(&mut self, hash: u64, key: &K::Key, bytes: &[u8]) {
        let Some(key_state) = self.table.get(hash, key) else { return };
        let StateHead { timers, clock_timers, .. } = &key_state.head;
        for time in self.effects.timers.drain(..) {
            let entry = (time, bytes.to_vec());
            let first = Timer { time, name: String::new() };
            if timers.first_from(&first).is_some_and(|timer| timer.time == time) {
                self.due.insert(entry, (hash, key.clone()));
            } else {
                self.due.remove(&entry);
            }
        }
        for time in self.effects.clock_timers.drain(..) {
            let entry = (time, bytes.to_vec());
            let first = ClockTimer { time, name: String::new() };
            if clock_timers.first_from(&first).is_some_and(|timer| timer.time == time) {
                self.clock_due.insert(entry, (hash, key.clone()));
            } else {
                self.clock_due.remove(&entry);
            }
        }
    }
}
