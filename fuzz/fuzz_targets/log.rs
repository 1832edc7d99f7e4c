//! No log makes recovery panic or allocate without bound, and a damaged one is refused or older.

#![no_main]

mod shared;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| shared::log::run(bytes));
