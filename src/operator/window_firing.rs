//! A window that closes, a part after the other: what the store holds of it comes into memory,
//! and results go out, for some key groups at a time.

use std::ops::Range;

use highwater_state::KeyGroup;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::window_tables::Slice;
use crate::aggregate::Aggregate;
use crate::error::Error;
use crate::keyed::{Backing, Key};
use crate::window::Window;

/// About so many results are made before those that follow wait until they are on their way.
pub(super) const RESULTS: usize = 8_192;

/// A part of a table of which nothing is known but that it may be large.
const PARTS: KeyGroup = 64;

/// A window of which not all results have been made.
pub(super) struct Firing<K, S> {
    pub(super) window: Window,
    pub(super) rest: Rest<K, S>,
}

/// What is left of it.
pub(super) enum Rest<K, S> {
    Table(Box<Closing<K, S>>),
    /// What slices that windows share hold together.
    Merged(Box<dyn Iterator<Item = (K, S)>>),
}

/// A table that is emptied, in order of its key groups.
pub(super) struct Closing<K, S> {
    pub(super) slice: Slice<K, S>,
    left: Range<KeyGroup>,
    /// How many groups the next part has.
    width: KeyGroup,
}

impl<K: Key, S: Serialize> Closing<K, S> {
    pub(super) fn new(slice: Slice<K, S>, groups: Range<KeyGroup>) -> Self {
        let (table, count) = (&slice.table, groups.end - groups.start);
        let parts = if table.is_complete() {
            KeyGroup::try_from(table.len() / RESULTS + 1).unwrap_or(KeyGroup::MAX)
        } else {
            PARTS
        };
        Closing { left: groups, width: (count / parts).max(1), slice }
    }

    pub(super) fn is_done(&self) -> bool {
        self.left.is_empty()
    }

    /// Empties the next part, and by the next commit what the store holds of it.
    pub(super) fn part<T, A: Aggregate<T, State = S>>(
        &mut self,
        backing: &Backing,
        aggregate: &A,
        mut visit: impl FnMut(K, S),
    ) -> Result<(), Error>
    where
        S: DeserializeOwned,
    {
        let end = self.left.start.saturating_add(self.width).min(self.left.end);
        let part = self.left.start..end;
        self.slice.gather(backing, aggregate, part.clone())?;
        let mut count = 0;
        self.slice.table.drain_groups(part, |key, fragment| {
            count += 1;
            visit(key, fragment.state);
        });
        self.left.start = end;
        if count < RESULTS / 4 {
            self.width = self.width.saturating_mul(2);
        } else if count > RESULTS {
            self.width = (self.width / 2).max(1);
        }
        if self.is_done() {
            self.slice.table.completed();
        }
        Ok(())
    }
}
