//! The tables of fixed windows: one for each window, or one for each slice that windows share.

use std::collections::BTreeMap;
use std::ops::Range;

use highwater_state::planted::planted;
use highwater_state::{KEY_GROUPS, KeyGroup, Table, hash_key};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::aggregate::Aggregate;
use crate::error::Error;
use crate::keyed::{Backing, Key};
use crate::time::{EventTime, Tick};
use crate::window::Window;

/// Where the store lists windows that are open: behind all key groups, for they belong to none.
pub(super) const OPEN_WINDOWS: KeyGroup = KEY_GROUPS;

/// The windows that were opened (`true`) or closed since the last capture, by the names under
/// which they are stored.
pub(super) type Opened = BTreeMap<Window, bool>;

/// The part of an entry's key that names the window.
pub(super) fn window_prefix(window: Window) -> [u8; 16] {
    let mut prefix = [0; 16];
    // The sign bit is flipped, so that the order of bytes is the order of times.
    let bytes = |t: EventTime| (t.as_micros() as u64 ^ (1 << 63)).to_be_bytes();
    prefix[..8].copy_from_slice(&bytes(window.start));
    prefix[8..].copy_from_slice(&bytes(window.end));
    prefix
}

/// The inverse of [`window_prefix`], and the rest of the entry's key.
pub(super) fn split_window_prefix(bytes: &[u8]) -> Option<(Window, &[u8])> {
    let (start, rest) = bytes.split_first_chunk::<8>()?;
    let (end, rest) = rest.split_first_chunk::<8>()?;
    let time = |b: &[u8; 8]| EventTime::from_micros((u64::from_be_bytes(*b) ^ (1 << 63)) as i64);
    Some((Window { start: time(start), end: time(end) }, rest))
}

/// The names of the windows that the last commit holds.
pub(super) fn stored_windows(backing: &Backing) -> Result<Vec<Window>, highwater_state::Error> {
    let mut names = Vec::new();
    let behind = OPEN_WINDOWS..OPEN_WINDOWS + 1;
    backing.store.scan(&backing.id, behind, &[], &mut |_, key, _| {
        let Some((name, _)) = split_window_prefix(key) else {
            let message = "the name of an open window is cut short";
            return Err(highwater_state::Error::Corrupt(message.into()));
        };
        names.push(name);
        Ok(())
    })?;
    Ok(names)
}

/// The table of a window, or of a slice. A key's state may be in parts: where the store may hold
/// more of the key than memory does, a new part is begun instead of reading it, and all are merged
/// when the window closes. The serial of a part is the tick in which it was begun; 0 if it is the
/// first.
pub(super) struct Slice<K, S> {
    pub(super) window: Window,
    pub(super) table: Table<K, S>,
    /// A slice is stored under its end and start, so that it cannot be taken for a window.
    name: Window,
}

impl<K: Key, S: Serialize> Slice<K, S> {
    fn new(window: Window, shared: bool, table: impl FnOnce(Vec<u8>) -> Table<K, S>) -> Self {
        let name = if shared { Window { start: window.end, end: window.start } } else { window };
        let table = table(window_prefix(name).to_vec()).fragmented();
        Slice { window, table, name }
    }

    pub(super) fn name(&self) -> Window {
        self.name
    }

    /// The table, for rows of this tick.
    #[inline]
    pub(super) fn in_tick(&mut self, tick: Tick) -> &mut Table<K, S> {
        let whole = self.table.is_complete() || planted("fragments-overwrite");
        self.table.begin_fragments(if whole { 0 } else { (tick.0 as u32).max(1) });
        &mut self.table
    }

    /// Brings what the store holds of these key groups into memory, merged with what is there.
    pub(super) fn gather<T, A: Aggregate<T, State = S>>(
        &mut self,
        backing: &Backing,
        aggregate: &A,
        groups: Range<KeyGroup>,
    ) -> Result<(), Error>
    where
        S: DeserializeOwned,
    {
        if self.table.is_complete() {
            return Ok(());
        }
        let prefix = window_prefix(self.name);
        let mut stored: Vec<(KeyGroup, Vec<u8>, S)> = Vec::new();
        let Backing { store, id, .. } = backing;
        for groups in self.table.incomplete_groups(groups) {
            store.scan(id, groups, &prefix, &mut |group, key, value| {
                stored.push((group, key.to_vec(), highwater_state::decode(value)?));
                Ok(())
            })?;
        }
        for (group, stored_key, state) in stored {
            // It was merged into another fragment before, which no commit holds yet.
            if self.table.is_buried(group, &stored_key) {
                continue;
            }
            let key = stored_key[prefix.len()..].split_last_chunk::<4>();
            let Some((key, serial)) = key else {
                let message = "a window's key is cut short".to_owned();
                return Err(highwater_state::Error::Corrupt(message).into());
            };
            let (key, serial): (K, _) =
                (highwater_state::decode(key)?, u32::from_be_bytes(*serial));
            let hash = hash_key(&key);
            let known = self.table.get(hash, &key).map(|_| self.table.serial(&key));
            match known {
                // What is in memory is the newer state of the same fragment.
                Some(known) if known == serial => {}
                Some(_) => {
                    self.table.bury_stored(group, &stored_key);
                    if let Some(known) = self.table.get_mut(hash, &key) {
                        aggregate.merge(known, state);
                    }
                }
                None => self.table.load_fragment(key, serial, state),
            }
        }
        Ok(())
    }

    /// As [`gather`](Self::gather), of all that is this worker's.
    pub(super) fn gather_all<T, A: Aggregate<T, State = S>>(
        &mut self,
        backing: &Backing,
        aggregate: &A,
    ) -> Result<(), Error>
    where
        S: DeserializeOwned,
    {
        self.gather(backing, aggregate, backing.groups.clone())?;
        self.table.completed();
        Ok(())
    }
}

/// Tables of open windows with content, or of slices. One comes with its first event and goes,
/// whole, in the tick that closes the window, or the last window of the slice.
pub(super) struct Slices<K, S> {
    /// By end, then by start: what closes stands in front.
    pub(super) list: Vec<Slice<K, S>>,
    /// The table of the last event, a guess for the next one.
    pub(super) recent: usize,
    shared: bool,
    backing: Backing,
}

fn by_end(window: Window) -> (EventTime, EventTime) {
    (window.end, window.start)
}

impl<K: Key, S: Serialize> Slices<K, S> {
    /// The tables that the store has under these names; what they hold is read later.
    pub(super) fn restore(backing: &Backing, names: &[Window], shared: bool) -> Self {
        let mut list = Vec::new();
        for name in names.iter().filter(|name| (name.start > name.end) == shared) {
            let (start, end) = (name.start.min(name.end), name.end.max(name.start));
            list.push(Slice::new(Window { start, end }, shared, Table::cold));
        }
        list.sort_by_key(|slice| by_end(slice.window));
        Slices { list, recent: 0, shared, backing: backing.clone() }
    }

    /// Whether the last event's table is this one's too, where tables do not overlap.
    #[inline]
    pub(super) fn recent_holds(&self, time: EventTime) -> bool {
        self.list.get(self.recent).is_some_and(|slice| slice.window.contains(time))
    }

    fn search(&self, window: Window) -> Result<usize, usize> {
        self.list.binary_search_by_key(&by_end(window), |slice| by_end(slice.window))
    }

    /// Finds the table of a window or opens it, and says whether it is new.
    pub(super) fn find(&mut self, window: Window, opened: &mut Opened) -> (usize, bool) {
        if self.list.get(self.recent).is_some_and(|slice| slice.window == window) {
            return (self.recent, false);
        }
        let found = self.search(window);
        self.recent = found.unwrap_or_else(|index| index);
        if let Err(index) = found {
            // About as many keys as in the window before.
            let before = index.checked_sub(1).map_or(0, |index| self.list[index].table.len());
            let table = |prefix| self.backing.table(prefix, before);
            let slice = Slice::new(window, self.shared, table);
            opened.insert(slice.name, true);
            self.list.insert(index, slice);
        }
        (self.recent, found.is_err())
    }

    /// Takes the table of a window out.
    pub(super) fn take(&mut self, window: Window) -> Option<Slice<K, S>> {
        let index = self.search(window).ok()?;
        self.recent = 0;
        Some(self.list.remove(index))
    }

    /// The slices that a window consists of.
    pub(super) fn within(&mut self, from: EventTime, to: EventTime) -> &mut [Slice<K, S>] {
        let first = self.list.partition_point(|slice| slice.window.start < from);
        let count = self.list[first..].partition_point(|slice| slice.window.end <= to);
        &mut self.list[first..first + count]
    }
}
