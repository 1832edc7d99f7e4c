//! Fixed windows: one table per open window, dropped whole when it closes.

use std::marker::PhantomData;
use std::sync::Arc;

use highwater_state::Changes;

use super::{Bound, Cx, Judge, LateRows, Logic, RowGuard, typed};
use crate::aggregate::{Aggregate, Stamp};
use crate::error::Error;
use crate::event::{Batch, Data, LateReason, Origin, ResultOrder, Rows};
use crate::keyed::{KeyOf, Table, Tombstones, encode_entry_key};
use crate::time::EventTime;
use crate::window::{FixedWindows, Window, WindowResult};

pub(crate) struct WindowAggregate<T, K: KeyOf<T>, W, A: Aggregate<T>> {
    pub(crate) key_of: Arc<K>,
    pub(crate) windows: W,
    pub(crate) aggregate: Arc<A>,
    /// Open windows with content, by start. A slice comes with its first event and goes, whole,
    /// in the tick that closes the window.
    pub(crate) slices: Vec<Slice<K::Key, A::State>>,
    /// The slice of the last event, a guess for the next one.
    pub(crate) recent: usize,
    pub(crate) tombstones: Tombstones,
    /// Results must carry their order among results of equal time.
    pub(crate) ordered_by: Option<u32>,
    pub(crate) types: PhantomData<fn(T)>,
}

pub(crate) struct Slice<K, S> {
    window: Window,
    table: Table<K, S>,
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
    /// Puts back an entry that the last commit holds.
    pub(crate) fn restore(
        &mut self,
        key: &[u8],
        value: &[u8],
    ) -> Result<(), highwater_state::Error> {
        let Some((window, key)) = split_window_prefix(key) else {
            return Err(highwater_state::Error::Corrupt("a window's key is cut short".into()));
        };
        let (key, value) = (highwater_state::decode(key)?, highwater_state::decode(value)?);
        let slice = slice_of(&mut self.slices, &mut self.recent, window);
        slice.table.restore(key, value);
        Ok(())
    }

    /// Takes in a batch in which nothing can be late; returns how many rows fell into no window.
    fn take_in(&mut self, batch: &Batch<T>) -> u64 {
        if W::ONE_WINDOW {
            self.take_in_runs(batch);
            return 0;
        }
        let Self { key_of, windows, aggregate, slices, recent, .. } = self;
        let mut filtered = 0;
        let mut guard = RowGuard::new(&batch.origin);
        for (index, row) in batch.rows.iter().enumerate() {
            guard.index = index;
            let (time, hash) = (batch.times[index], batch.hashes[index]);
            let stamp = || Stamp { time, order: batch.origin.order(index) };
            let mut windows_found = 0;
            windows.for_each(time, |window| {
                windows_found += 1;
                let slice = slice_of(slices, recent, window);
                key_of.with_key(row, |key| {
                    let state = slice.table.update(hash, key, || aggregate.init());
                    aggregate.add(state, row, &stamp);
                });
            });
            filtered += u64::from(windows_found == 0);
        }
        filtered
    }

    /// As [`take_in`](Self::take_in), where each row has one window: it is looked up once for a
    /// run of rows that share it.
    fn take_in_runs(&mut self, batch: &Batch<T>) {
        let Self { key_of, windows, aggregate, slices, recent, .. } = self;
        let mut guard = RowGuard::new(&batch.origin);
        let mut next = 0;
        while let Some(&first) = batch.times.get(next) {
            let mut window = Window { start: first, end: first };
            windows.for_each(first, |found| window = found);
            let run = batch.times[next..].iter().take_while(|t| window.contains(**t)).count();
            let table = &mut slice_of(slices, recent, window).table;
            // At least one row, or a window that does not hold its own event would never end.
            for index in next..next + run.max(1) {
                guard.index = index;
                let row = &batch.rows[index];
                let time = batch.times[index];
                let stamp = || Stamp { time, order: batch.origin.order(index) };
                key_of.with_key(row, |key| {
                    let state = table.update(batch.hashes[index], key, || aggregate.init());
                    aggregate.add(state, row, &stamp);
                });
            }
            next += run.max(1);
        }
    }

    /// As [`take_in`](Self::take_in), where some rows may be late for some or all windows.
    fn take_in_judged(&mut self, batch: &Batch<T>, mut judge: Judge<'_>, cx: &mut Cx) {
        let Self { key_of, windows, aggregate, slices, recent, .. } = self;
        let mut late = LateRows::new();
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
                let slice = slice_of(slices, recent, window);
                key_of.with_key(row, |key| {
                    let state = slice.table.update(hash, key, || aggregate.init());
                    aggregate.add(state, row, &stamp);
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

    fn fire(&mut self, slice: Slice<K::Key, A::State>, cx: &mut Cx) -> Result<(), Error> {
        let Slice { window, mut table } = slice;
        let mut rows = Vec::with_capacity(table.len());
        let mut orders = Vec::new();
        let mut failed = Ok(());
        let (aggregate, ordered) = (&self.aggregate, self.ordered_by.is_some());
        table.drain(&window_prefix(window), &mut self.tombstones, |key, state| {
            if ordered {
                let mut bytes = Vec::new();
                if let Err(error) = encode_entry_key(&[], &key, &mut bytes) {
                    failed = Err(error);
                }
                orders.push(ResultOrder { key: bytes, start: window.start, sequence: 0 });
            }
            rows.push(WindowResult { key, window, value: aggregate.finish(state) });
        })?;
        failed?;
        cx.largest = cx.largest.max(Some(window.last_time()));
        cx.send(0, result_batch(rows, window, self.ordered_by, orders, cx));
        Ok(())
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

fn slice_of<'a, K: crate::keyed::Key, S>(
    slices: &'a mut Vec<Slice<K, S>>,
    recent: &mut usize,
    window: Window,
) -> &'a mut Slice<K, S> {
    if slices.get(*recent).is_none_or(|s| s.window != window) {
        *recent = match slices.binary_search_by_key(&window, |s| s.window) {
            Ok(index) => index,
            Err(index) => {
                slices.insert(index, Slice { window, table: Table::default() });
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
            let filtered = self.take_in(&batch);
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

    fn capture(&mut self, changes: &mut Changes) -> Result<(), Error> {
        self.tombstones.capture(changes)?;
        for slice in &mut self.slices {
            let prefix = window_prefix(slice.window);
            slice.table.capture(&prefix, changes, |state, bytes| {
                highwater_state::encode_into(state, bytes)
            })?;
        }
        Ok(())
    }

    fn entries(&self) -> u64 {
        self.slices.iter().map(|s| s.table.len() as u64).sum()
    }
}

/// The bound that an element-wise operator holds a row to, if the row broke it.
pub(crate) fn late_element(bounds: [Bound; 2], time: EventTime) -> Option<Bound> {
    bounds.into_iter().find(|bound| bound.watermark.has_passed(time))
}
