//! No manifest makes a snapshot other than it is, or makes reading it panic.

#![no_main]

mod shared;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| shared::manifest::run(bytes));
