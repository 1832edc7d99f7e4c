//! What the fuzz targets do with their input. The tests run the same on inputs that are kept.

#![allow(dead_code, reason = "each target uses one of them")]

pub mod crashes;
mod history;
mod input;
pub mod log;
pub mod manifest;
mod memory;
pub mod store;
pub mod values;
