//! Buffers of columns that are used again: what a worker is done with, whoever made it, is what
//! it fills next. So columns lie in the cache of the processor that writes them, and none of
//! them goes through the allocator, or back to a worker that sent it.

use std::any::{Any, TypeId};
use std::cell::RefCell;

use hashbrown::HashMap;

/// Buffers of a type that a worker keeps.
const KEPT: usize = 8;

/// Smaller ones are not worth it.
const LEAST_ROWS: usize = 256;

/// Larger ones are given back.
const MOST_BYTES: usize = 1 << 20;

/// A buffer with more room than so many times what is asked for is left where it is: what is sent
/// in it may have to wait, and would hold all of it.
const MOST_TIMES: usize = 16;

thread_local! {
    /// By the type of their rows: a `Vec<Vec<T>>` of empty vectors.
    static BUFFERS: RefCell<HashMap<TypeId, Box<dyn Any>>> = RefCell::default();
}

/// An empty vector with room for so many rows.
pub(crate) fn buffer<T: 'static>(rows: usize) -> Vec<T> {
    if rows < LEAST_ROWS {
        return Vec::with_capacity(rows);
    }
    let take = |kept: &mut Vec<Vec<T>>| {
        let fits = |buffer: &Vec<T>| buffer.capacity() / MOST_TIMES <= rows;
        kept.iter().rposition(fits).map(|at| kept.swap_remove(at))
    };
    let mut buffer = with_kept(take).unwrap_or_default();
    buffer.reserve(rows);
    buffer
}

/// Empties a vector, and keeps it to be used again.
pub(crate) fn recycle<T: 'static>(mut buffer: Vec<T>) {
    let bytes = buffer.capacity() * size_of::<T>();
    buffer.clear();
    if buffer.capacity() >= LEAST_ROWS && bytes <= MOST_BYTES {
        with_kept(|kept: &mut Vec<Vec<T>>| {
            if kept.len() < KEPT {
                kept.push(buffer);
            }
        });
    }
}

fn with_kept<T: 'static, R: Default>(f: impl FnOnce(&mut Vec<Vec<T>>) -> R) -> R {
    BUFFERS.with_borrow_mut(|buffers| {
        let kept =
            buffers.entry(TypeId::of::<T>()).or_insert_with(|| Box::new(Vec::<Vec<T>>::new()));
        kept.downcast_mut().map(f).unwrap_or_default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_recycled_is_used_again_with_room_and_without_rows() {
        let mut first = buffer::<u64>(1_000);
        first.extend(0..1_000);
        let place = first.as_ptr();
        recycle(first);
        let again = buffer::<u64>(500);
        assert_eq!((again.as_ptr(), again.len()), (place, 0));
        assert!(again.capacity() >= 1_000);
        let other = buffer::<u64>(500);
        assert_ne!(other.as_ptr(), place, "it is in use");
        assert!(buffer::<i64>(5_000).capacity() >= 5_000);
        recycle(Vec::<u8>::with_capacity(100_000));
        assert!(buffer::<u8>(300).capacity() < 100_000, "it would be held by few rows");
        assert!(buffer::<u8>(10_000).capacity() >= 100_000);
    }

    #[test]
    fn few_are_kept_and_none_that_is_large() {
        for _ in 0..2 * KEPT {
            recycle(Vec::<u16>::with_capacity(1_000));
        }
        assert_eq!(with_kept(|kept: &mut Vec<Vec<u16>>| kept.len()), KEPT);
        recycle(Vec::<u32>::with_capacity(MOST_BYTES));
        recycle(Vec::<u32>::with_capacity(LEAST_ROWS - 1));
        assert_eq!(with_kept(|kept: &mut Vec<Vec<u32>>| kept.len()), 0);
    }
}
