//! The engine: from plan to dataflow, and the loop that drives it. The only folder that knows
//! timely.

mod assembly;
pub(crate) mod base_work;
mod coordinator;
mod ingest;
mod lane;
mod live;
pub(crate) mod manual;
mod parcel;
mod runner;
mod shared;
mod sources;
pub(crate) mod start;
mod totals;
mod worker;

pub(crate) use live::{spawn, stop_on_ctrl_c};
