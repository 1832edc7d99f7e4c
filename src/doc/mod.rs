//! Guides.

pub mod dstream;
