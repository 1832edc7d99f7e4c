//! Tests of flows: the real engine on one thread, with a clock and ticks moved by hand.

mod driver;
pub mod model;
mod pushed;

pub use driver::TestDriver;
pub use highwater_state::fault::{Fault, SimDisk, Survival};
pub use pushed::Pushed;
