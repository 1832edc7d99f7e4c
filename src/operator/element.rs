//! Element-wise operators: they keep the partition order, the time and the promise of each row.

use std::marker::PhantomData;
use std::sync::Arc;

use super::{Cx, Logic, RowGuard, typed, user_error};
use crate::buffers::{buffer, recycle};
use crate::error::{BoxError, Error};
use crate::event::{Batch, Data, Rows};

/// One row in, one row out.
pub(crate) struct Map<T, U, F> {
    pub(crate) f: Arc<F>,
    pub(crate) types: PhantomData<fn(T) -> U>,
}

impl<T: Data, U: Data, F: Fn(T) -> U> Logic for Map<T, U, F> {
    fn batch(&mut self, _: usize, rows: Box<dyn Rows>, cx: &mut Cx) -> Result<(), Error> {
        let mut batch = typed::<T>(rows)?;
        let mut input = std::mem::take(&mut batch.rows);
        cx.counters.events_in += input.len() as u64;
        cx.counters.used += input.len() as u64;
        let mut output = buffer(input.len());
        let mut guard = RowGuard::new(&batch.origin);
        for row in input.drain(..) {
            output.push((self.f)(row));
            guard.index += 1;
        }
        drop(guard);
        recycle(input);
        cx.send(0, batch.with_rows(output));
        Ok(())
    }
}

/// One row in, one row out, or an error that stops the flow.
pub(crate) struct TryMap<T, U, F> {
    pub(crate) f: Arc<F>,
    pub(crate) types: PhantomData<fn(T) -> U>,
}

impl<T: Data, U: Data, F: Fn(T) -> Result<U, BoxError>> Logic for TryMap<T, U, F> {
    fn batch(&mut self, _: usize, rows: Box<dyn Rows>, cx: &mut Cx) -> Result<(), Error> {
        let mut batch = typed::<T>(rows)?;
        let mut input = std::mem::take(&mut batch.rows);
        cx.counters.events_in += input.len() as u64;
        cx.counters.used += input.len() as u64;
        let mut output = buffer(input.len());
        let mut guard = RowGuard::new(&batch.origin);
        for row in input.drain(..) {
            let index = guard.index;
            output.push((self.f)(row).map_err(|e| user_error(e, &batch.origin, index))?);
            guard.index += 1;
        }
        drop(guard);
        recycle(input);
        cx.send(0, batch.with_rows(output));
        Ok(())
    }
}

/// Looks at each row.
pub(crate) struct Inspect<T, F> {
    pub(crate) f: Arc<F>,
    pub(crate) types: PhantomData<fn(T)>,
}

impl<T: Data, F: Fn(&T)> Logic for Inspect<T, F> {
    fn batch(&mut self, _: usize, rows: Box<dyn Rows>, cx: &mut Cx) -> Result<(), Error> {
        let batch = typed::<T>(rows)?;
        cx.counters.events_in += batch.len() as u64;
        cx.counters.used += batch.len() as u64;
        let mut guard = RowGuard::new(&batch.origin);
        for row in &batch.rows {
            (self.f)(row);
            guard.index += 1;
        }
        drop(guard);
        cx.send(0, batch);
        Ok(())
    }
}

/// Rows that pass go to port 0, the others to port 1, if anybody listens there.
pub(crate) struct Split<T, F> {
    pub(crate) f: Arc<F>,
    pub(crate) types: PhantomData<fn(T)>,
    /// Whether port 1 exists; without it, the others are filtered out.
    pub(crate) both: bool,
}

impl<T: Data, F: Fn(&T) -> bool> Logic for Split<T, F> {
    fn batch(&mut self, _: usize, rows: Box<dyn Rows>, cx: &mut Cx) -> Result<(), Error> {
        let mut batch = typed::<T>(rows)?;
        let total = batch.len();
        let mut passed = buffer(total);
        let mut failed = Vec::new();
        let mut guard = RowGuard::new(&batch.origin);
        for (index, row) in batch.rows.iter().enumerate() {
            guard.index = index;
            if (self.f)(row) { passed.push(index as u32) } else { failed.push(index as u32) }
        }
        drop(guard);
        cx.counters.events_in += total as u64;
        let dropped = if self.both { 0 } else { failed.len() };
        cx.counters.filtered += dropped as u64;
        cx.counters.used += (total - dropped) as u64;
        if failed.is_empty() {
            cx.send(0, batch);
            return Ok(());
        }
        let mut verdicts = failed.iter().copied().peekable();
        let (mut yes, mut no) = (buffer(passed.len()), Vec::new());
        let mut rows = std::mem::take(&mut batch.rows);
        for (index, row) in rows.drain(..).enumerate() {
            if verdicts.next_if_eq(&(index as u32)).is_none() {
                yes.push(row);
            } else if self.both {
                no.push(row);
            }
        }
        cx.send(0, batch.select(yes, passed));
        if self.both {
            cx.send(1, batch.select(no, failed));
        }
        recycle(rows);
        batch.recycle();
        Ok(())
    }
}

/// One row in, any number of rows out; all share the row's time, promise and position.
pub(crate) struct FlatMap<T, U, F> {
    pub(crate) f: Arc<F>,
    pub(crate) types: PhantomData<fn(T) -> U>,
}

impl<T: Data, U: Data, I: IntoIterator<Item = U>, F: Fn(T) -> I> Logic for FlatMap<T, U, F> {
    fn batch(&mut self, _: usize, rows: Box<dyn Rows>, cx: &mut Cx) -> Result<(), Error> {
        let mut batch = typed::<T>(rows)?;
        let mut input = std::mem::take(&mut batch.rows);
        let total = input.len() as u64;
        let mut output = buffer(input.len());
        let mut kept = buffer(input.len());
        let mut filtered = 0;
        let mut guard = RowGuard::new(&batch.origin);
        for (index, row) in input.drain(..).enumerate() {
            guard.index = index;
            let before = output.len();
            output.extend((self.f)(row));
            filtered += u64::from(output.len() == before);
            kept.resize(output.len(), index as u32);
        }
        drop(guard);
        cx.counters.filtered += filtered;
        cx.counters.events_in += total;
        cx.counters.used += total - filtered;
        let selected: Batch<U> = batch.select(output, kept);
        recycle(input);
        batch.recycle();
        cx.send(0, selected);
        Ok(())
    }
}
