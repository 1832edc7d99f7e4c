//! Any sequence of commits leaves in each store what a map would hold.

#![no_main]

mod shared;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| shared::store::run(bytes));
