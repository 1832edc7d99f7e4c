//! Fixed windows: one table per open window, dropped whole when it closes.

use std::collections::BTreeMap;
use std::marker::PhantomData;
use std::sync::Arc;

use highwater_state::planted::planted;
use highwater_state::{Changes, KEY_GROUPS, KeyGroup, Table, Value, hash_key};
use serde::Serialize;

use super::{Bound, Cx, Judge, LateRows, Logic, RowGuard, typed};
use crate::aggregate::{Aggregate, Stamp};
use crate::error::Error;
use crate::event::{Batch, Data, LateReason, Origin, ResultOrder, Rows};
use crate::keyed::{Backing, KeyOf, encode_key};
use crate::time::{EventTime, Tick};
use crate::window::{FixedWindows, Window, WindowResult};

/// Where the store lists windows that are open: behind all key groups, for they belong to none.
const OPEN_WINDOWS: KeyGroup = KEY_GROUPS;

pub(crate) struct WindowAggregate<T, K: KeyOf<T>, W, A: Aggregate<T>> {
    key_of: Arc<K>,
    windows: W,
    aggregate: Arc<A>,
    backing: Backing,
    /// Open windows with content, by start. A slice comes with its first event and goes, whole,
    /// in the tick that closes the window.
    slices: Vec<Slice<K::Key, A::State>>,
    /// The slice of the last event, a guess for the next one.
    recent: usize,
    /// Tables of closed windows, until a commit has deleted what the store holds of them.
    closed: Vec<Table<K::Key, Fragment<A::State>>>,
    /// Windows that were opened (`true`) or closed since the last capture.
    opened: BTreeMap<Window, bool>,
    /// The same, on their way into a commit.
    captured: BTreeMap<Window, bool>,
    /// Entries of closed windows, for the count.
    net: i64,
    /// Results must carry their order among results of equal time.
    ordered_by: Option<u32>,
    types: PhantomData<fn(T)>,
}

pub(crate) struct Slice<K, S> {
    window: Window,
    table: Table<K, Fragment<S>>,
}

/// The state of a key, or a part of it: where the store may hold more of the key than memory
/// does, a new part is begun instead of reading it, and all are merged when the window closes.
pub(crate) struct Fragment<S> {
    /// Tells fragments of one key apart: the tick in which it was begun; 0 if it is the first.
    serial: u32,
    state: S,
}

impl<S: Serialize> Value for Fragment<S> {
    fn encode(&self, bytes: &mut Vec<u8>) -> Result<(), highwater_state::Error> {
        highwater_state::encode_into(&self.state, bytes)
    }

    fn key_suffix(&self, bytes: &mut Vec<u8>) {
        bytes.extend_from_slice(&self.serial.to_be_bytes());
    }
}

/// The part of an entry's key that names the window.
pub(crate) fn window_prefix(window: Window) -> [u8; 16] {
    let mut prefix = [0; 16];
    // The sign bit is flipped, so that the order of bytes is the order of times.
    let bytes = |t: EventTime| (t.as_micros() as u64 ^ (1 << 63)).to_be_bytes();
    prefix[..8].copy_from_slice(&bytes(window.start));
    prefix[8..].copy_from_slice(&bytes(window.end));
    prefix
}

/// The inverse of [`window_prefix`], and the rest of the entry's key.
pub(crate) fn split_window_prefix(bytes: &[u8]) -> Option<(Window, &[u8])> {
    let (start, rest) = bytes.split_first_chunk::<8>()?;
    let (end, rest) = rest.split_first_chunk::<8>()?;
    let time = |b: &[u8; 8]| EventTime::from_micros((u64::from_be_bytes(*b) ^ (1 << 63)) as i64);
    Some((Window { start: time(start), end: time(end) }, rest))
}

impl<T: Data, K: KeyOf<T>, W: FixedWindows, A: Aggregate<T>> WindowAggregate<T, K, W, A> {
    pub(crate) fn new(
        backing: Backing,
        ordered_by: Option<u32>,
        key_of: Arc<K>,
        windows: W,
        aggregate: Arc<A>,
    ) -> Result<Self, highwater_state::Error> {
        let mut slices = Vec::new();
        let behind = OPEN_WINDOWS..OPEN_WINDOWS + 1;
        backing.store.scan(&backing.id, behind, &[], &mut |_, key, _| {
            let Some((window, _)) = split_window_prefix(key) else {
                let message = "the name of an open window is cut short";
                return Err(highwater_state::Error::Corrupt(message.into()));
            };
            // What it holds is read when the window closes.
            slices.push(Slice { window, table: Table::cold(window_prefix(window).to_vec()) });
            Ok(())
        })?;
        slices.sort_by_key(|slice| slice.window);
        Ok(WindowAggregate {
            key_of,
            windows,
            aggregate,
            backing,
            slices,
            recent: 0,
            closed: Vec::new(),
            opened: BTreeMap::new(),
            captured: BTreeMap::new(),
            net: 0,
            ordered_by,
            types: PhantomData,
        })
    }

    /// Takes in a batch in which nothing can be late; returns how many rows fell into no window.
    fn take_in(&mut self, batch: &Batch<T>, tick: Tick) -> u64 {
        if W::ONE_WINDOW {
            self.take_in_runs(batch, tick);
            return 0;
        }
        let Self { key_of, windows, aggregate, slices, recent, opened, .. } = self;
        let mut filtered = 0;
        let mut guard = RowGuard::new(&batch.origin);
        for (index, row) in batch.rows.iter().enumerate() {
            guard.index = index;
            let (time, hash) = (batch.times[index], batch.hashes[index]);
            let stamp = || Stamp { time, order: batch.origin.order(index) };
            let mut windows_found = 0;
            windows.for_each(time, |window| {
                windows_found += 1;
                let slice = slice_of(slices, recent, opened, window);
                let serial = slice.serial(tick);
                key_of.with_key(row, |key| {
                    let begin = || Fragment { serial, state: aggregate.init() };
                    let fragment = slice.table.update(hash, key, begin);
                    aggregate.add(&mut fragment.state, row, &stamp);
                });
            });
            filtered += u64::from(windows_found == 0);
        }
        filtered
    }

    /// As [`take_in`](Self::take_in), where each row has one window: it is looked up once for a
    /// run of rows that share it.
    fn take_in_runs(&mut self, batch: &Batch<T>, tick: Tick) {
        let Self { key_of, windows, aggregate, slices, recent, opened, .. } = self;
        let mut guard = RowGuard::new(&batch.origin);
        let mut next = 0;
        while let Some(&first) = batch.times.get(next) {
            let mut window = Window { start: first, end: first };
            windows.for_each(first, |found| window = found);
            let run = batch.times[next..].iter().take_while(|t| window.contains(**t)).count();
            let slice = slice_of(slices, recent, opened, window);
            let serial = slice.serial(tick);
            let table = &mut slice.table;
            // At least one row, or a window that does not hold its own event would never end.
            for index in next..next + run.max(1) {
                guard.index = index;
                let row = &batch.rows[index];
                let time = batch.times[index];
                let stamp = || Stamp { time, order: batch.origin.order(index) };
                key_of.with_key(row, |key| {
                    let begin = || Fragment { serial, state: aggregate.init() };
                    let fragment = table.update(batch.hashes[index], key, begin);
                    aggregate.add(&mut fragment.state, row, &stamp);
                });
            }
            next += run.max(1);
        }
    }

    /// As [`take_in`](Self::take_in), where some rows may be late for some or all windows.
    fn take_in_judged(&mut self, batch: &Batch<T>, mut judge: Judge<'_>, cx: &mut Cx) {
        let Self { key_of, windows, aggregate, slices, recent, opened, .. } = self;
        let (mut late, tick) = (LateRows::new(), cx.tick);
        let mut guard = RowGuard::new(&batch.origin);
        for (index, row) in batch.rows.iter().enumerate() {
            guard.index = index;
            let bounds = judge.bounds(index);
            let (time, hash) = (batch.times[index], batch.hashes[index]);
            let stamp = || Stamp { time, order: batch.origin.order(index) };
            let (mut used, mut missed) = (false, None);
            windows.for_each(time, |window| {
                if let Some(bound) = bounds.iter().find(|b| window.is_closed_by(b.watermark)) {
                    missed.get_or_insert((window, *bound));
                    return;
                }
                used = true;
                let slice = slice_of(slices, recent, opened, window);
                let serial = slice.serial(tick);
                key_of.with_key(row, |key| {
                    let begin = || Fragment { serial, state: aggregate.init() };
                    let fragment = slice.table.update(hash, key, begin);
                    aggregate.add(&mut fragment.state, row, &stamp);
                });
            });
            match missed {
                _ if used => cx.counters.used += 1,
                Some((window, bound)) => {
                    late.push(row.clone(), time, Some(window), bound, &batch.origin, index);
                }
                None => cx.counters.filtered += 1,
            }
        }
        drop(guard);
        late.send(1, cx);
    }

    /// Brings what the store holds of a window into memory, merged with what is there.
    fn gather(&self, slice: &mut Slice<K::Key, A::State>) -> Result<(), Error> {
        let prefix = window_prefix(slice.window);
        let mut stored: Vec<(KeyGroup, Vec<u8>, A::State)> = Vec::new();
        let Backing { store, id, groups } = &self.backing;
        for groups in slice.table.incomplete_groups(groups.clone()) {
            store.scan(id, groups, &prefix, &mut |group, key, value| {
                stored.push((group, key.to_vec(), highwater_state::decode(value)?));
                Ok(())
            })?;
        }
        for (group, stored_key, state) in stored {
            let key = stored_key[prefix.len()..].split_last_chunk::<4>();
            let Some((key, serial)) = key else {
                let message = "a window's key is cut short".to_owned();
                return Err(highwater_state::Error::Corrupt(message).into());
            };
            let (key, serial): (K::Key, _) =
                (highwater_state::decode(key)?, u32::from_be_bytes(*serial));
            let hash = hash_key(&key);
            let known = slice.table.get(hash, &key).map(|fragment| fragment.serial);
            match known {
                // What is in memory is the newer state of the same fragment.
                Some(known) if known == serial => {}
                Some(_) => {
                    slice.table.bury_stored(group, stored_key);
                    if let Some(fragment) = slice.table.get_mut(hash, &key) {
                        self.aggregate.merge(&mut fragment.state, state);
                    }
                }
                None => slice.table.load(key, Fragment { serial, state }),
            }
        }
        slice.table.completed();
        Ok(())
    }

    fn fire(&mut self, mut slice: Slice<K::Key, A::State>, cx: &mut Cx) -> Result<(), Error> {
        if !slice.table.is_complete() {
            self.gather(&mut slice)?;
        }
        let Slice { window, mut table } = slice;
        self.opened.insert(window, false);
        let mut rows = Vec::with_capacity(table.len());
        let mut orders = Vec::new();
        let mut failed = Ok(());
        let (aggregate, ordered) = (&self.aggregate, self.ordered_by.is_some());
        table.drain(|key, fragment| {
            if ordered {
                match encode_key(&key) {
                    Ok(key) => {
                        orders.push(ResultOrder { key, start: window.start, sequence: 0 });
                    }
                    Err(error) => failed = Err(error),
                }
            }
            rows.push(WindowResult { key, window, value: aggregate.finish(fragment.state) });
        });
        failed?;
        self.net += table.net();
        if !table.is_spent() {
            self.closed.push(table);
        }
        cx.largest = cx.largest.max(Some(window.last_time()));
        cx.send(0, result_batch(rows, window, self.ordered_by, orders, cx));
        Ok(())
    }

    fn tables(&mut self) -> impl Iterator<Item = &mut Table<K::Key, Fragment<A::State>>> {
        self.slices.iter_mut().map(|slice| &mut slice.table).chain(&mut self.closed)
    }
}

impl<K: crate::keyed::Key, S: Serialize> Slice<K, S> {
    /// The serial of fragments that are begun in this tick.
    fn serial(&self, tick: Tick) -> u32 {
        if self.table.is_complete() || planted("fragments-overwrite") {
            0
        } else {
            (tick.0 as u32).max(1)
        }
    }
}

/// Results of one window: all have its last time, and none can be late downstream, because the
/// window was open until this tick.
pub(crate) fn result_batch<R>(
    rows: Vec<R>,
    window: Window,
    ordered_by: Option<u32>,
    orders: Vec<ResultOrder>,
    cx: &Cx,
) -> Batch<R> {
    let origin = match ordered_by {
        Some(operator_rank) => Origin::Results { operator_rank, orders },
        None => Origin::Unordered,
    };
    Batch {
        times: vec![window.last_time(); rows.len()],
        rows,
        hashes: Vec::new(),
        origin,
        stragglers: Vec::new(),
        floor: cx.before,
        behind: LateReason::Returned,
    }
}

fn slice_of<'a, K: crate::keyed::Key, S: Serialize>(
    slices: &'a mut Vec<Slice<K, S>>,
    recent: &mut usize,
    opened: &mut BTreeMap<Window, bool>,
    window: Window,
) -> &'a mut Slice<K, S> {
    if slices.get(*recent).is_none_or(|s| s.window != window) {
        *recent = match slices.binary_search_by_key(&window, |s| s.window) {
            Ok(index) => index,
            Err(index) => {
                opened.insert(window, true);
                let table = Table::new(window_prefix(window).to_vec());
                slices.insert(index, Slice { window, table });
                index
            }
        };
    }
    &mut slices[*recent]
}

impl<T: Data, K: KeyOf<T>, W: FixedWindows, A: Aggregate<T>> Logic for WindowAggregate<T, K, W, A> {
    fn batch(&mut self, _: usize, rows: Box<dyn Rows>, cx: &mut Cx) -> Result<(), Error> {
        let batch = typed::<T>(rows)?;
        let total = batch.len() as u64;
        cx.counters.events_in += total;
        let judge = Judge::new(&batch, cx.before);
        if judge.all_on_time() {
            let filtered = self.take_in(&batch, cx.tick);
            cx.counters.filtered += filtered;
            cx.counters.used += total - filtered;
        } else {
            self.take_in_judged(&batch, judge, cx);
        }
        Ok(())
    }

    fn tick_end(&mut self, cx: &mut Cx) -> Result<(), Error> {
        // Slices are sorted by start, and so by end: what closes stands in front.
        let closed = self.slices.iter().take_while(|s| s.window.is_closed_by(cx.now)).count();
        if closed > 0 {
            self.recent = 0;
            for slice in self.slices.drain(..closed).collect::<Vec<_>>() {
                self.fire(slice, cx)?;
            }
        }
        Ok(())
    }

    fn begin_capture(&mut self) {
        // What has closed and was captured before is in the store's last commit.
        self.closed.retain(|table| !table.is_spent());
        self.tables().for_each(Table::begin_capture);
        self.captured = std::mem::take(&mut self.opened);
    }

    fn capture(
        &mut self,
        id: &Arc<str>,
        budget: &mut usize,
        into: &mut Vec<Changes>,
    ) -> Result<bool, Error> {
        let mut changes = Changes::new(id.clone());
        for (window, open) in std::mem::take(&mut self.captured) {
            let name = |bytes: &mut Vec<u8>| {
                bytes.extend_from_slice(&window_prefix(window));
                Ok(())
            };
            if open {
                changes.put(OPEN_WINDOWS, name, |_| Ok(()))?;
            } else {
                changes.delete(OPEN_WINDOWS, name)?;
            }
        }
        if !changes.is_empty() {
            into.push(changes);
        }
        for table in self.tables() {
            if !table.capture(id, budget, into)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn committed(&mut self) {
        self.tables().for_each(Table::committed);
    }

    fn memory(&self) -> usize {
        self.slices.iter().map(|slice| slice.table.memory()).sum()
    }

    fn evict(&mut self, bytes: usize) {
        // From behind: windows that close last are read back last.
        let mut missing = bytes;
        for slice in self.slices.iter_mut().rev() {
            missing = missing.saturating_sub(slice.table.evict(missing));
        }
    }

    fn entries(&self) -> i64 {
        self.net + self.slices.iter().map(|slice| slice.table.net()).sum::<i64>()
    }
}

/// The bound that an element-wise operator holds a row to, if the row broke it.
pub(crate) fn late_element(bounds: [Bound; 2], time: EventTime) -> Option<Bound> {
    bounds.into_iter().find(|bound| bound.watermark.has_passed(time))
}
