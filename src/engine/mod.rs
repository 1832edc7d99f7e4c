//! The engine: from plan to dataflow, and the loop that drives it. The only folder that knows
//! timely.

mod assembly;
pub(crate) mod base_work;
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
mod pending;
mod pressure;
mod runner;
mod shared;
mod sources;
pub(crate) mod start;
#[cfg(feature = "testing")]
mod stepped;
mod totals;
mod worker;

pub(crate) use live::{spawn, stop_on_ctrl_c};
