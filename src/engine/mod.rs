//! The engine: from plan to dataflow, and the loop that drives it. The only folder that knows
//! timely.

mod align;
mod assembly;
mod base_work;
mod bits;
mod coordinator;
#[cfg(feature = "testing")]
pub(crate) mod dice;
mod ingest;
mod lane;
mod live;
pub(crate) mod lookup;
#[cfg(feature = "testing")]
pub(crate) mod manual;
mod parcel;
mod parts;
mod pending;
mod pressure;
mod runner;
mod shared;
mod snapshots;
mod sources;
pub(crate) mod start;
#[cfg(feature = "testing")]
mod stepped;
mod totals;
mod worker;

pub(crate) use live::{spawn, stop_on_ctrl_c};
