//! Rows of a batch on their way into the tables of fixed windows.

use std::ops::Range;

use super::RowGuard;
use super::window::WindowAggregate;
use super::window_tables::Slice;
use crate::aggregate::{Aggregate, Stamp};
use crate::buffers::{buffer, recycle};
use crate::event::{Batch, Data};
use crate::keyed::{KeyOf, look_ahead};
use crate::time::{EventTime, Tick};
use crate::window::{FixedWindows, Window};

/// Fewer rows of one table in a row are gathered with those that come later in the batch.
pub(super) const SHORT_RUN: usize = 16;

/// Tables among which rows are divided at once.
const TABLES: usize = 8;

/// A row with its index in the batch, its time and the hash of its key.
type Row<'a, T> = (usize, &'a T, EventTime, u64);

/// Rows that follow one on the other.
#[inline]
pub(super) fn in_a_row<T>(
    batch: &Batch<T>,
    rows: Range<usize>,
) -> impl Iterator<Item = Row<'_, T>> + Clone {
    let timed = batch.rows[rows.clone()].iter().zip(&batch.times[rows.clone()]);
    let columns = timed.zip(&batch.hashes[rows.clone()]);
    rows.zip(columns).map(|(index, ((row, time), hash))| (index, row, *time, *hash))
}

/// Rows here and there in the batch.
fn scattered<'a, T>(
    batch: &'a Batch<T>,
    rows: &'a [u32],
) -> impl Iterator<Item = Row<'a, T>> + Clone {
    rows.iter().map(|index| {
        let index = *index as usize;
        (index, &batch.rows[index], batch.times[index], batch.hashes[index])
    })
}

pub(super) fn guard<T>(batch: &Batch<T>, index: usize) -> RowGuard<'_> {
    let mut guard = RowGuard::new(&batch.origin);
    guard.index = index;
    guard
}

/// Adds rows of a batch to one table.
#[inline]
pub(super) fn add_rows<'a, T: Data, K: KeyOf<T>, A: Aggregate<T>>(
    slice: &mut Slice<K::Key, A::State>,
    key_of: &K,
    aggregate: &A,
    batch: &Batch<T>,
    mut rows: impl Iterator<Item = Row<'a, T>> + Clone,
    tick: Tick,
) {
    let table = slice.in_tick(tick);
    let mut guard = guard(batch, 0);
    let begin = || aggregate.init();
    let add = |state: &mut A::State, index: usize, row: &T, time: EventTime| {
        aggregate.add(state, row, &|| Stamp { time, order: batch.origin.order(index) });
    };
    if table.is_small() {
        for (index, row, time, hash) in rows {
            guard.index = index;
            key_of.with_key(row, |key| {
                table.update_with(hash, key, begin, |state| add(state, index, row, time));
            });
        }
        return;
    }
    loop {
        let hashed = rows.clone().map(|(_, row, _, hash)| (row, hash));
        let hints = look_ahead(table, key_of, hashed, |_| ());
        for hint in hints {
            let Some((index, row, time, hash)) = rows.next() else { return };
            guard.index = index;
            let update = |key: &K::Key| {
                add(table.update_at(hint, hash, key, begin), index, row, time);
            };
            key_of.with_key(row, update);
        }
    }
}

impl<T: Data, K: KeyOf<T>, W: FixedWindows, A: Aggregate<T>> WindowAggregate<T, K, W, A> {
    /// Takes in rows of which neighbours belong to different tables, from one that belongs to a
    /// single table on: by table, and for each in their order. Returns where to go on.
    pub(super) fn take_in_scattered(&mut self, batch: &Batch<T>, from: usize, tick: Tick) -> usize {
        let (mut tables, mut recent, mut next) = (Vec::<(Window, Vec<u32>)>::new(), 0, from);
        for (index, &time) in batch.times.iter().enumerate().skip(from) {
            let holds = |(window, _): &(Window, _)| window.contains(time);
            if !tables.get(recent).is_some_and(holds) {
                recent = match tables.iter().position(holds) {
                    Some(known) => known,
                    None if tables.len() == TABLES => break,
                    None => {
                        let Some(at) = self.table_for(time) else { break };
                        let window = self.single().0.list[at].window;
                        tables.push((window, buffer(batch.len() - from)));
                        tables.len() - 1
                    }
                };
            }
            tables[recent].1.push(index as u32);
            next = index + 1;
        }
        for (window, rows) in tables {
            let (slices, opened, key_of, aggregate) = self.single();
            let (at, _) = slices.find(window, opened);
            let picked = scattered(batch, &rows);
            add_rows(&mut slices.list[at], key_of, aggregate, batch, picked, tick);
            recycle(rows);
        }
        next
    }
}
