//! One row in, one row out, of one of two types, each on a port of its own.

use std::marker::PhantomData;
use std::sync::Arc;

use super::{Cx, Logic, RowGuard, typed};
use crate::buffers::{buffer, recycle};
use crate::error::Error;
use crate::event::{Data, Rows};
use crate::keyed::Either;

pub(crate) struct PartitionMap<T, A, B, F> {
    pub(crate) f: Arc<F>,
    pub(crate) types: PhantomData<fn(T) -> (A, B)>,
}

impl<T: Data, A: Data, B: Data, F: Fn(T) -> Either<A, B>> Logic for PartitionMap<T, A, B, F> {
    fn batch(&mut self, _: usize, rows: Box<dyn Rows>, cx: &mut Cx) -> Result<(), Error> {
        let mut batch = typed::<T>(rows)?;
        let mut input = std::mem::take(&mut batch.rows);
        cx.counters.events_in += input.len() as u64;
        cx.counters.used += input.len() as u64;
        let (mut left, mut left_kept) = (buffer(input.len()), buffer(input.len()));
        let (mut right, mut right_kept) = (buffer(input.len()), buffer(input.len()));
        let mut guard = RowGuard::new(&batch.origin);
        for (index, row) in input.drain(..).enumerate() {
            guard.index = index;
            match (self.f)(row) {
                Either::Left(row) => {
                    left.push(row);
                    left_kept.push(index as u32);
                }
                Either::Right(row) => {
                    right.push(row);
                    right_kept.push(index as u32);
                }
            }
        }
        drop(guard);
        cx.send(0, batch.select(left, left_kept));
        cx.send(1, batch.select(right, right_kept));
        recycle(input);
        batch.recycle();
        Ok(())
    }
}
