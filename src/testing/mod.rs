//! The kit with which flows are tested: the real engine with a clock, ticks, workers and crashes
//! moved by hand, and what is built on it. A feature of its own, `testing`, on by default.
//!
//! | question | tool |
//! |---|---|
//! | What does my flow do, tick by tick, and after a crash? | [`TestDriver`] with [`Pushed`] |
//! | Does it matter how ticks, partitions and workers happen to fall? | [`check_law`] |
//! | What input have I not thought of? | [`generate::Streams`], with proptest |
//! | What should come out? | [`model`]: reference models, slow and plain |
//! | What exactly does the engine do in this case? | [`Transcript`], `highwater transcript` |
//! | Is old state still understood? | [`assert_restores`] |
//! | What if the disk fails at its nth operation? | [`SimDisk`] |

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
