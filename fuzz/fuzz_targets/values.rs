//! Bytes that were never written decode to an error, or to a value that encodes to them again.

#![no_main]

mod shared;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| shared::values::run(bytes));
