//! Wherever a store crashes, it comes back as its last commit left it, or the one under way.

#![no_main]

mod shared;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| shared::crashes::run(bytes));
