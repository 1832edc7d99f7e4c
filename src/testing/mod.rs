//! Tests of flows: the real engine with a clock, ticks, workers and crashes moved by hand.

mod builder;
mod driver;
mod fixture;
pub mod generate;
mod law;
mod log;
pub mod model;
mod peek;
mod pushed;
mod transcript;

pub use builder::DriverBuilder;
pub use driver::TestDriver;
pub use fixture::assert_restores;
pub use highwater_state::fault::{Fault, SimDisk, Survival};
pub use law::{LawInput, LawReport, Violation, check_law};
pub use pushed::Pushed;
pub use transcript::{Difference, Malformed, Played, Transcript};
