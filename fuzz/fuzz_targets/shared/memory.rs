//! Counts what a thread allocates.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

thread_local! {
    static HELD: Cell<isize> = const { Cell::new(0) };
    static PEAK: Cell<isize> = const { Cell::new(0) };
}

struct Counting;

#[global_allocator]
static COUNTING: Counting = Counting;

fn count(bytes: isize) {
    // A thread that is going away has no counters any more, and nobody reads them.
    let _ = HELD.try_with(|held| {
        held.set(held.get() + bytes);
        let _ = PEAK.try_with(|peak| peak.set(peak.get().max(held.get())));
    });
}

// SAFETY: everything is passed on to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count(-(layout.size() as isize));
        unsafe { System.dealloc(pointer, layout) }
    }
}

/// What serde sets aside for a sequence before it has seen its elements, two levels of them.
pub const SERDE: usize = 2 << 20;

/// Runs `run`, which must not hold more than 64 times `input` bytes at any time, and 64 KiB, and
/// `beside`.
pub fn bounded<T>(input: usize, beside: usize, run: impl FnOnce() -> T) -> T {
    let before = HELD.get();
    PEAK.set(before);
    let result = run();
    let held = PEAK.get() - before;
    let bound = (64 * input + (64 << 10) + beside) as isize;
    assert!(held <= bound, "{held} bytes held for an input of {input}");
    result
}
