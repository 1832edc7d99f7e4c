//! The outbox: output that is part of its commit until its target has confirmed it.
//!
//! A letter is an entry of the store under its sink's id, so it is durable in the same step as
//! the positions and the state it belongs to, moves with them from the log into the base, and is
//! deleted by the first commit after it has been sent.

use std::sync::Arc;

use highwater_state::planted::planted;
use highwater_state::{Changes, KEY_GROUPS, KeyGroup, Store};

use crate::error::Error;
use crate::time::Tick;

/// Letters belong to no key: they stand behind all key groups.
const LETTERS: KeyGroup = KEY_GROUPS;

/// What has been sent and is still in the store.
#[derive(Default)]
pub(crate) struct Outbox {
    sent: Vec<(String, Tick)>,
}

fn name(tick: Tick) -> [u8; 8] {
    tick.0.to_be_bytes()
}

impl Outbox {
    /// A letter has arrived: the next commit lets it go.
    pub(crate) fn sent(&mut self, sink: &str, tick: Tick) {
        self.sent.push((sink.to_owned(), tick));
    }

    /// What a commit changes: letters that have been sent go.
    pub(crate) fn take_sent(&mut self) -> Result<Vec<Changes>, highwater_state::Error> {
        let mut all = Vec::new();
        for (sink, tick) in self.sent.drain(..) {
            let mut changes = Changes::new(Arc::from(sink));
            changes.delete(LETTERS, |bytes| {
                bytes.extend_from_slice(&name(tick));
                Ok(())
            })?;
            all.push(changes);
        }
        Ok(all)
    }
}

/// The change that puts a letter into a commit.
pub(crate) fn letter(
    sink: &str,
    tick: Tick,
    letter: &[u8],
) -> Result<Changes, highwater_state::Error> {
    let mut changes = Changes::new(Arc::from(sink));
    changes.put(
        LETTERS,
        |bytes| {
            bytes.extend_from_slice(&name(tick));
            Ok(())
        },
        |bytes| {
            bytes.extend_from_slice(letter);
            Ok(())
        },
    )?;
    Ok(changes)
}

/// The letters of a sink that no commit has let go, oldest first.
pub(crate) fn pending(store: &dyn Store, sink: &str) -> Result<Vec<(Tick, Vec<u8>)>, Error> {
    let mut letters = Vec::new();
    if planted("outbox-not-resent") {
        return Ok(letters);
    }
    store.scan(sink, LETTERS..LETTERS + 1, &[], &mut |_, key, value| {
        let tick = key.try_into().map_err(|_| {
            highwater_state::Error::Corrupt(format!("a letter of `{sink}` has no tick"))
        })?;
        letters.push((Tick(u64::from_be_bytes(tick)), value.to_vec()));
        Ok(())
    })?;
    Ok(letters)
}
